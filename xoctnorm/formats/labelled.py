"""NetCDF files and Zarr stores, as xarray writes them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import xarray as xr

from xoctnorm.errors import listed
from xoctnorm.formats.common import Wanted, chunk_lengths, fail


def read_dataset(path: str, engine: str | None, wanted: Wanted) -> xr.DataArray:
    """Open one variable of a dataset, with what is attached to it."""
    wanted.only("level", "pyramids of OME-Zarr")
    with _quietly(path):
        with xr.open_dataset(path, engine=engine) as ds:
            name = _choose(ds, path, wanted)
            found = ds[name].variable
            # Numbers of planes are small, and a chunk each would only be in the way.
            small = {key: coord.variable.compute() for key, coord in ds[name].coords.items() if coord.ndim < 2}
        dims = wanted.names([str(dim) for dim in found.dims], found.shape)
        sizes = dict(zip(dims, found.shape, strict=True))
        in_file = found.encoding.get("chunks") or found.encoding.get("chunksizes")
        depth = dict(zip(dims, in_file, strict=True)).get("z", 1) if in_file else 1
        lengths = chunk_lengths(sizes, found.dtype.itemsize, depth)
        own = {str(old): lengths[new] for old, new in zip(found.dims, dims, strict=True)}
        volume = xr.open_dataset(path, engine=engine, chunks=own)[name].assign_coords(small)
    return volume.rename({old: new for old, new in zip(found.dims, dims, strict=True) if old != new})


def _choose(ds: xr.Dataset, path: str, wanted: Wanted) -> str:
    """The variable that was asked for, or the only one that is a volume."""
    shown = [f"{name!r} {dict(variable.sizes)}" for name, variable in ds.data_vars.items()]
    if wanted.variable is not None:
        if wanted.variable not in ds.data_vars:
            fail(f"variable={wanted.variable!r} is not in {path!r}, which has {listed(shown) or 'none'}")
        return wanted.variable
    fits = [
        str(name)
        for name, variable in ds.data_vars.items()
        if ({"z", "y", "x"} <= set(variable.dims) if wanted.dims is None else variable.ndim == len(wanted.dims))
    ]
    if not fits:
        fail(
            f"path={path!r} has no variable with dims z, y, x: it has {listed(shown) or 'none'}; say what its "
            "dims are, for instance dims=('z', 'y', 'x')"
        )
    if len(fits) > 1:
        several = listed([repr(name) for name in fits])
        fail(f"path={path!r} has several volumes, {several}: choose one with variable=")
    return fits[0]


@contextmanager
def _quietly(path: str) -> Iterator[None]:
    """Leave out warnings that are no concern of the user, and say what a file is that cannot be opened."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Failed to open Zarr store with consolidated")
        warnings.filterwarnings("ignore", message="The specified chunks separate the stored chunks")
        try:
            yield
        except (OSError, ValueError, KeyError) as error:
            if type(error).__name__ == "InputError":
                raise
            fail(f"path={path!r} cannot be opened ({error})")


def open_group(path: str) -> Any:
    """A group or an array of Zarr."""
    import zarr

    try:
        return zarr.open(path, mode="r")
    except (OSError, ValueError, KeyError) as error:
        fail(f"path={path!r} cannot be opened as Zarr ({error})")
