"""NIfTI images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.errors import warn
from xoctnorm.formats.common import Region, Wanted, evenly, fail, read_lazily

_DIMS = ("x", "y", "z", "time", "channel")
_UNITS = {"micron": "um", "mm": "mm", "meter": "m"}


def read_nifti(path: Path, wanted: Wanted) -> xr.DataArray:
    """Open an image; its voxel sizes become coordinates from 0, its affine an attribute."""
    import nibabel

    wanted.only("variable", "NetCDF and Zarr")
    wanted.only("level", "pyramids of OME-Zarr")
    try:
        image: Any = nibabel.load(path)
        header = image.header
        spatial = header.get_xyzt_units()[0]
    except (AttributeError, nibabel.filebasedimages.ImageFileError) as error:
        fail(f"path={str(path)!r} is no NIfTI image ({error})")
    shape = _shape(image)
    if len(shape) > len(_DIMS) and wanted.dims is None:
        fail(f"path={str(path)!r} has {len(shape)} dims, of sizes {shape}: name each of them with dims=")
    dims = wanted.names(_DIMS[: len(shape)], shape)
    dtype = np.dtype(image.dataobj.dtype)
    if image.dataobj.slope != 1 or image.dataobj.inter != 0:
        # Stored integers and a factor: float32 holds those of 16 bits exactly.
        dtype = np.dtype("float32" if dtype.itemsize <= 2 else "float64")
    volume = read_lazily(partial(_read, path, dtype), path, dims, shape, dtype)
    units = _UNITS.get(spatial)
    spacing = dict(zip(dims[:3], map(float, header.get_zooms()[:3]), strict=False))
    volume = evenly(volume, spacing, dict.fromkeys(dims[:3], units))
    volume.attrs["affine"] = image.affine.tolist()
    if path.name.endswith(".gz") and volume.data.npartitions > 1:
        warn(f"{path.name} is compressed as a whole: every chunk is unpacked from its beginning; gunzip it first")
    return volume


def _shape(image: Any) -> tuple[int, ...]:
    """Sizes without those of 1 at the end, which NIfTI has for dims that are not there."""
    shape = tuple(int(size) for size in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _read(path: Path, dtype: np.dtype[Any], region: Region) -> NDArray[Any]:
    import nibabel

    image: Any = nibabel.load(path)
    more = (0,) * (len(image.shape) - len(region))
    return np.asarray(image.dataobj[(*region, *more)]).astype(dtype)
