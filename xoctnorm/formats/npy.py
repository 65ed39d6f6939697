"""Raw arrays of NumPy."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.formats.common import Region, Wanted, fail, read_lazily


def read_npy(path: Path, wanted: Wanted) -> xr.DataArray:
    """Open an array, mapped into memory; with three dims they are z, y, x."""
    wanted.only("variable", "NetCDF and Zarr")
    wanted.only("level", "pyramids of OME-Zarr")
    try:
        array = np.load(path, mmap_mode="r")
    except ValueError as error:
        fail(f"path={str(path)!r} cannot be mapped into memory ({error}): save a plain array of numbers with np.save")
    own = ("z", "y", "x") if array.ndim == 3 else tuple(f"dim_{n}" for n in range(array.ndim))
    return read_lazily(partial(_read, path), path, wanted.names(own, array.shape), array.shape, array.dtype)


def _read(path: Path, region: Region) -> NDArray[Any]:
    return np.array(np.load(path, mmap_mode="r")[region])
