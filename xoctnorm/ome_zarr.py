"""Write volumes as OME-Zarr: a pyramid that viewers open, with what xoctnorm knows in a group beside it."""

from __future__ import annotations

import os
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xoctnorm.errors import listed, warn
from xoctnorm.gpu import on_host_to_write
from xoctnorm.kernels.pyramid import halved_planes
from xoctnorm.provenance import SOURCE
from xoctnorm.zarr_chunks import compressors
from xoctnorm.zarr_store import Contents, write_store
from xoctnorm.zarr_volume import checked_place, chunk_lengths, documents, identity, layout, part, prepared

GROUP = "xoctnorm"
# OME has names of its own for axes and units.
AXES = {
    "time": ("t", "time"),
    "channel": ("c", "channel"),
    "z": ("z", "space"),
    "y": ("y", "space"),
    "x": ("x", "space"),
}
_UNITS = {
    "nanometer": ("nm", "nanometre"),
    "micrometer": ("um", "µm", "μm", "micron", "microns", "micrometre", "micrometres"),
    "millimeter": ("mm", "millimetre", "millimetres"),
    "centimeter": ("cm", "centimetre"),
    "meter": ("m", "metre"),
}
_ZARR_FORMAT = {"0.4": 2, "0.5": 3}
_SMALLEST = 256  # pixels along y and x of the coarsest level, at most


def write_ome_zarr(
    volume: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    version: str = "0.5",
    levels: int | None = None,
    overwrite: bool = False,
) -> Path | str:
    """Write a volume as OME-Zarr; see the accessor's ``to_ome_zarr``."""
    volume = on_host_to_write(volume)
    with checked_place("to_ome_zarr", volume, path, overwrite, *_problems(volume, version, levels)) as place:
        volume = volume.transpose(*_axes_order(volume))
        ds, lazy = prepared(volume, "to_ome_zarr()")
        (name,) = ds.data_vars
        chunks, ends = layout(volume)
        shapes = _shapes(volume, levels)
        values, beside = lazy.pop(str(name)), ds.drop_vars(str(name))
        bare = [str(dim) for dim in ("z", "y", "x") if dim not in volume.coords]
        beside.attrs = {**ds[name].attrs, "variable": name, "without_coordinates": " ".join(bare)}
        lengths = chunk_lengths(volume, values, chunks)
        zarr_format = _ZARR_FORMAT[version]
        begun = _levels(volume, shapes, tuple(lengths.values()), str(name), version)
        contents = Contents(
            documents=documents(beside, list(lazy), lengths, zarr_format=zarr_format, group=GROUP, begun=begun),
            ends=ends,
            identity={"call": "to_ome_zarr", "OME version": version, "levels": len(shapes), **identity(volume, ds)},
            blocks=lambda region: (
                _pyramid(part(values, volume, values.dims, region), len(shapes))
                | {f"{GROUP}/{key}": part(variable, volume, values.dims, region) for key, variable in lazy.items()}
            ),
        )
        write_store("to_ome_zarr", volume, contents, place)
    return Path(place.target) if place.local else str(path)


def _problems(volume: xr.DataArray, version: object, levels: object) -> list[str]:
    problems = []
    if version not in _ZARR_FORMAT:
        problems.append(f"version={version!r}: needs one of {listed([repr(v) for v in _ZARR_FORMAT])}")
    if levels is not None and (isinstance(levels, bool) or not isinstance(levels, int | np.integer) or levels < 1):
        problems.append(f"levels={levels!r}: needs a whole number, 1 or more, or None for as many as are of use")
    if isinstance(volume, xr.DataArray):
        more = [dim for dim in volume.dims if dim not in AXES]
        if len(more) + ("channel" in volume.dims) > 1:
            problems.append(
                f"the volume has dims {volume.dims}: OME-Zarr has z, y, x, time, and one more, for instance channel; "
                "select, or stack sections with da.stack(plane=('section', 'z'))"
            )
    return problems


def _axes_order(volume: xr.DataArray) -> list[Hashable]:
    """Dims as OME wants them: time, channel or another, space."""
    rank = {"time": 0, "z": 2, "y": 3, "x": 4}
    return sorted(volume.dims, key=lambda dim: rank.get(str(dim), 1))


def _shapes(volume: xr.DataArray, levels: int | None) -> list[tuple[int, ...]]:
    """Shape of every level; only y and x are halved, so that every level has the planes that were fitted."""
    *lead, n_y, n_x = volume.shape
    shapes = [(*lead, n_y, n_x)]
    while max(n_y, n_x) > (_SMALLEST if levels is None else 1) and len(shapes) != levels:
        n_y, n_x = -(-n_y // 2), -(-n_x // 2)
        shapes.append((*lead, n_y, n_x))
    return shapes


def _pyramid(planes: xr.Variable, n_levels: int) -> dict[str, xr.Variable]:
    """Every level of a piece, chunk by chunk where all levels halve whole pairs of pixels, else from whole planes."""
    inner = [length for dim in ("y", "x") for length in planes.chunksizes[dim][:-1]]
    if any(length % 2 ** (n_levels - 1) for length in inner):
        longest = {dim: max(lengths) for dim, lengths in planes.chunksizes.items()}
        planes = planes.chunk({**longest, "y": -1, "x": -1})
    found = {"0": planes}
    for level in range(1, n_levels):
        array = planes.data
        across = tuple(tuple(-(-n // 2) for n in lengths) for lengths in array.chunks[-2:])
        halved = array.map_blocks(halved_planes, dtype=array.dtype, chunks=(*array.chunks[:-2], *across))
        planes = found[str(level)] = xr.Variable(planes.dims, halved)
    return found


def _levels(
    volume: xr.DataArray, shapes: list[tuple[int, ...]], chunks: tuple[int, ...], name: str, version: str
) -> dict[str, Any]:
    """Metadata of the root and of every level."""
    import zarr
    from zarr.storage import MemoryStore

    axes, scale, start = _axes(volume)
    multiscale = {
        "name": name,
        "axes": axes,
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [*scale[:-2], *(2**level * s for s in scale[-2:])]},
                    # The centre of the first pixel lies between those that became one.
                    {
                        "type": "translation",
                        "translation": [
                            *start[:-2],
                            *(at + (2**level - 1) / 2 * s for at, s in zip(start[-2:], scale[-2:], strict=True)),
                        ],
                    },
                ],
            }
            for level in range(len(shapes))
        ],
        "type": "mean",
        "metadata": {"description": "mean of 2 x 2 pixels of each plane; z is kept", "method": SOURCE},
    }
    content: dict[str, Any] = {}
    ome = {"multiscales": [multiscale]}
    if version == "0.4":
        multiscale["version"] = version
        attributes: dict[str, Any] = ome
        own: dict[str, Any] = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    else:
        attributes = {"ome": {"version": version, **ome}}
        own = {"dimension_names": [axis["name"] for axis in axes]}
    zarr_format: Any = _ZARR_FORMAT[version]
    root = zarr.create_group(MemoryStore(content), zarr_format=zarr_format, attributes=attributes)
    for level, shape in enumerate(shapes):
        root.create_array(
            str(level),
            shape=shape,
            chunks=tuple(min(pair) for pair in zip(chunks, shape, strict=True)),
            dtype=volume.dtype.newbyteorder("="),
            compressors=compressors(zarr_format),
            fill_value=np.nan if volume.dtype.kind == "f" else 0,
            **own,
        )
    return content


def _axes(volume: xr.DataArray) -> tuple[list[dict[str, str]], list[float], list[float]]:
    """Axes of OME, and spacing and start along each."""
    axes: list[dict[str, str]] = []
    scale: list[float] = []
    start: list[float] = []
    uneven: list[str] = []
    for dim in volume.dims:
        name, kind = AXES.get(str(dim), (str(dim), None))
        axis = {"name": name, **({} if kind is None else {"type": kind})}
        step, first = 1.0, 0.0
        if kind == "space" and dim in volume.coords and volume[dim].dtype.kind in "iuf":
            at = volume[dim].to_numpy().astype(float)
            steps = np.diff(at)
            first = float(at[0])
            if steps.size and np.median(steps):
                step = float(np.median(steps))
                if (np.abs(steps - step) > 0.01 * abs(step)).any():
                    uneven.append(str(dim))
            units = str(volume[dim].attrs.get("units", "")).strip()
            known = [full for full, short in _UNITS.items() if units in (full, f"{full}s", *short)]
            if known:
                axis["unit"] = known[0]
        axes.append(axis)
        scale.append(step)
        start.append(first)
    if uneven:
        warn(
            f"{listed(uneven)}: not evenly spaced, which OME-Zarr cannot say: viewers are told the median spacing; the "
            f"group {GROUP!r} and open_volume have the coordinates as they are"
        )
    return axes, scale, start
