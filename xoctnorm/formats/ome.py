"""OME-Zarr 0.4 and 0.5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xoctnorm.errors import listed
from xoctnorm.formats.common import Wanted, chunk_lengths, fail
from xoctnorm.ome_zarr import AXES, GROUP

_DIMS: dict[str, str] = {name: dim for dim, (name, _) in AXES.items()}


def multiscales(attributes: Mapping[str, Any]) -> Any:
    """The pyramids that a group describes; None where it is no OME-Zarr image."""
    return attributes.get("ome", attributes).get("multiscales")


def read_ome_zarr(path: str, group: Any, wanted: Wanted) -> xr.DataArray:
    """Open a level of a pyramid, with what xoctnorm wrote beside it.

    Of several pyramids the first is the image, as the specification has it.
    """
    import dask.array
    from dask.base import tokenize

    wanted.only("variable", "NetCDF and Zarr")
    pyramid = multiscales(group.attrs)[0]
    if not all(isinstance(axis, dict) for axis in pyramid.get("axes", [None])):
        fail(f"path={path!r} has axes {pyramid.get('axes')} of OME-Zarr before 0.4: 0.4 and 0.5 are read")
    levels, number = pyramid["datasets"], 0 if wanted.level is None else wanted.level
    if not 0 <= number < len(levels):
        shapes = [f"{n}: {group[one['path']].shape}" for n, one in enumerate(levels)]
        fail(f"level={number}: {path!r} has the levels {listed(shapes)}")
    array = group[levels[number]["path"]]
    axes: list[dict[str, str]] = pyramid["axes"]
    dims = wanted.names([_DIMS.get(axis["name"], axis["name"]) for axis in axes], array.shape)
    sizes = dict(zip(dims, array.shape, strict=True))
    depth = dict(zip(dims, array.chunks, strict=True)).get("z", 1)
    lengths = chunk_lengths(sizes, array.dtype.itemsize, depth)
    data = dask.array.from_array(
        array,
        chunks=tuple(lengths[dim] for dim in dims),
        name=f"ome-zarr-{tokenize(path, number, array.shape, str(array.dtype))}",
        meta=np.empty((0,) * array.ndim, array.dtype),
    )
    scale, start = _placed([*_transforms(levels[number]), *_transforms(pyramid)], array.ndim)
    coords = {
        dim: (dim, first + step * np.arange(size), {"units": axis["unit"]} if axis.get("unit") else {})
        for dim, size, axis, step, first in zip(dims, array.shape, axes, scale, start, strict=True)
        if dim in ("z", "y", "x")
    }
    volume = xr.DataArray(data, dims=dims, coords=coords, name=pyramid.get("name"))
    return _with_beside(volume, path, number) if GROUP in group else volume


def _transforms(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = node.get("coordinateTransformations", [])
    return found


def _placed(transforms: list[Mapping[str, Any]], ndim: int) -> tuple[list[float], list[float]]:
    """Spacing and start along every axis, after transforms one after the other."""
    scale, start = np.ones(ndim), np.zeros(ndim)
    for one in transforms:
        if one["type"] == "scale":
            scale, start = scale * one["scale"], start * one["scale"]
        elif one["type"] == "translation":
            start = start + one["translation"]
        elif one["type"] != "identity":
            fail(f"the transformation {one['type']!r} is not read: scale and translation are")
    return scale.tolist(), start.tolist()


def _with_beside(volume: xr.DataArray, path: str, level: int) -> xr.DataArray:
    """Add coordinates and attributes that xoctnorm wrote; on coarse levels what has their size."""
    beside = xr.open_zarr(path, group=GROUP, chunks={})
    kept = {
        name: coord.variable if coord.ndim > 1 else coord.variable.compute()
        for name, coord in beside.coords.items()
        if (level == 0 or not {"y", "x"} & set(coord.dims)) and set(coord.dims) <= set(volume.dims)
    }
    attrs = dict(beside.attrs)
    volume.name = attrs.pop("variable", volume.name)
    bare = attrs.pop("without_coordinates", "").split()
    if level:
        attrs.pop("ancillary_variables", None)
    return volume.drop_vars(bare).assign_coords(kept).assign_attrs(attrs)
