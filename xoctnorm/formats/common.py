"""What readers share: what was asked of them, chunks, and arrays that are read block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.errors import InputError

if TYPE_CHECKING:
    from dask.array import Array

_CHUNK_BYTES = 64 * 2**20
_LARGEST_CHUNK_BYTES = 256 * 2**20  # up to here chunks of the file are kept whole

Region = tuple[slice, ...]


@dataclass(frozen=True)
class Wanted:
    """What `open_volume` was asked for, beside the path."""

    variable: str | None = None
    level: int | None = None
    dims: tuple[str, ...] | None = None

    def names(self, own: Sequence[str], shape: Sequence[int]) -> tuple[str, ...]:
        """Names of the dims: those that were asked for, or those that the file has."""
        if self.dims is None:
            return tuple(own)
        if len(self.dims) != len(shape):
            fail(f"dims={self.dims!r}: the file has {len(shape)} dims, of sizes {tuple(shape)}; name each of them")
        return self.dims

    def only(self, option: str, formats: str) -> None:
        """Refuse an option that has no meaning for a format."""
        if getattr(self, option) is not None:
            fail(f"{option}={getattr(self, option)!r}: only {formats} have one; leave it out")


def fail(problem: str) -> NoReturn:
    """Raise one problem of a file."""
    raise InputError("open_volume", [problem])


def chunk_lengths(sizes: Mapping[str, int], itemsize: int, file_depth: int = 1) -> dict[str, int]:
    """Chunks of whole planes, up to 64 MiB, as deep as whole chunks of the file where these are not too large."""
    plane = max(1, sizes.get("y", 1) * sizes.get("x", 1) * itemsize)
    depth = _CHUNK_BYTES // plane // file_depth * file_depth
    if depth == 0:  # a layer of the chunks of the file is larger
        depth = file_depth if file_depth * plane <= _LARGEST_CHUNK_BYTES else max(1, _CHUNK_BYTES // plane)
    whole = {"y": sizes.get("y", 1), "x": sizes.get("x", 1), "z": min(depth, sizes.get("z", 1))}
    return {dim: max(1, whole.get(dim, 1)) for dim in sizes}


def read_lazily(
    read: Callable[[Region], NDArray[Any]],
    path: Path,
    dims: Sequence[str],
    shape: Sequence[int],
    dtype: np.dtype[Any],
) -> xr.DataArray:
    """A chunked volume of which `read` gives a region when it is computed, in any process."""
    from dask.array import map_blocks
    from dask.base import tokenize

    sizes = dict(zip(dims, shape, strict=True))
    lengths = chunk_lengths(sizes, dtype.itemsize)
    chunks = tuple(
        tuple(min(lengths[dim], size - start) for start in range(0, size, lengths[dim])) for dim, size in sizes.items()
    )
    state = path.stat()
    data: Array = map_blocks(
        _read_block,
        read=read,
        dtype=dtype,
        chunks=chunks,
        meta=np.empty((0,) * len(chunks), dtype),
        name=f"{path.name}-{tokenize(str(path), state.st_mtime_ns, state.st_size, chunks)}",
    )
    return xr.DataArray(data, dims=tuple(dims), name=path.name.partition(".")[0])


def _read_block(read: Callable[[Region], NDArray[Any]], block_info: dict[Any, Any]) -> NDArray[Any]:
    return read(tuple(slice(start, stop) for start, stop in block_info[None]["array-location"]))


def evenly(volume: xr.DataArray, spacing: Mapping[str, float], units: Mapping[str, str | None]) -> xr.DataArray:
    """Give dims coordinates that start at 0."""
    return volume.assign_coords(
        {
            dim: (dim, step * np.arange(volume.sizes[dim]), {} if units.get(dim) is None else {"units": units[dim]})
            for dim, step in spacing.items()
            if dim in volume.dims
        }
    )
