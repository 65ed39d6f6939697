"""Which reader a path needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import xarray as xr

from xoctnorm.errors import listed, raise_problems
from xoctnorm.formats.common import Wanted, fail
from xoctnorm.optional import missing

_SUFFIXES = {
    ".nc": "netcdf",
    ".nc4": "netcdf",
    ".cdf": "netcdf",
    ".npy": "npy",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".nii": "nifti",
    ".nii.gz": "nifti",
}
_ACCEPTED = (
    "NetCDF (.nc), Zarr and OME-Zarr folders, TIFF (.tif, a folder of them, or a pattern such as "
    "'folder/plane_*.tif'), NIfTI (.nii, .nii.gz) and NumPy (.npy)"
)


def reader_of(path: str | os.PathLike[str]) -> Callable[[Wanted], xr.DataArray]:
    """What reads a path, once it and its packages are there."""
    from xoctnorm.formats.labelled import read_dataset

    if "://" in str(path):
        return _zarr_reader(str(path))
    try:
        found = Path(path).expanduser().resolve()
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        fail(f"path={path!r} is no path of a file ({error})")
    files = list(found.parent.glob(found.name)) if "*" in found.name else [found]
    shown = f"path={str(path)!r}"
    if not files or not all(file.exists() for file in files):
        partial = Path(f"{found}.partial")
        hint = f"; {partial.name} is what an interrupted call left: repeat that call" if partial.exists() else ""
        fail(f"{shown} does not exist in {str(found.parent)!r}{hint}")
    if len(files) == 1 and files[0].is_dir():
        folder = files[0]
        if any((folder / root).exists() for root in ("zarr.json", ".zgroup", ".zarray")):
            return _zarr_reader(str(folder))
        if (folder / "plan.json").exists() or ".partial" in (folder.suffix, folder.parent.suffix):
            fail(f"{shown} is not complete: repeat the call that writes it, which goes on")
        files = [file for file in folder.iterdir() if file.suffix.lower() in (".tif", ".tiff")]
        if not files:
            names = listed(sorted(file.name for file in folder.iterdir())) or "nothing"
            fail(f"{shown} is a folder without TIFF files, and no Zarr: it holds {names}")
    formats = {_format(file) for file in files}
    if None in formats or (len(files) > 1 and formats != {"tiff"}):
        fail(f"{shown} has a suffix that is not known; accepted are {_ACCEPTED}")
    if formats == {"netcdf"}:
        return lambda wanted: read_dataset(str(files[0]), None, wanted)
    if formats == {"npy"}:
        from xoctnorm.formats.npy import read_npy

        return lambda wanted: read_npy(files[0], wanted)
    if formats == {"nifti"}:
        raise_problems("open_volume", missing("nibabel", "reading NIfTI"))
        from xoctnorm.formats.nifti import read_nifti

        return lambda wanted: read_nifti(files[0], wanted)
    raise_problems("open_volume", missing("tifffile", "reading TIFF"))
    from xoctnorm.formats.tiff import read_tiff

    return lambda wanted: read_tiff(files, wanted)


def _format(file: Path) -> str | None:
    name = file.name.lower()
    return next((kind for suffix, kind in _SUFFIXES.items() if name.endswith(suffix)), None)


def _zarr_reader(path: str) -> Callable[[Wanted], xr.DataArray]:
    """What reads a Zarr store: a pyramid of OME-Zarr, or a group that xarray wrote."""
    raise_problems("open_volume", missing("zarr", "reading Zarr"))
    import zarr

    from xoctnorm.formats.labelled import open_group, read_dataset
    from xoctnorm.formats.ome import multiscales, read_ome_zarr

    group = open_group(path)
    if isinstance(group, zarr.Array):
        fail(
            f"path={path!r} is an array of shape {group.shape} without names: open it with "
            "xr.DataArray(dask.array.from_zarr(path), dims=('z', 'y', 'x'))"
        )
    if multiscales(group.attrs):
        return lambda wanted: read_ome_zarr(path, group, wanted)
    images = [name for name, member in group.groups() if multiscales(member.attrs)]
    if images:
        several = listed([f"{path}/{name}" for name in images])
        fail(f"path={path!r} holds images in groups: open one of {several}")
    return lambda wanted: read_dataset(path, "zarr", wanted)
