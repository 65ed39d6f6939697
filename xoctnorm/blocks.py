"""Runs of whole planes of an array, as large as is good to read at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.kernels.backend import as_array, namespace, to_host
from xoctnorm.memory import give_back

Place = tuple[Any, ...]

BLOCK_BYTES = 64 * 2**20  # chunks are read together up to here
LARGEST_CHUNK_BYTES = 256 * 2**20  # a larger one is read in slices along z


def runs(data: xr.Variable) -> Iterator[tuple[int, int]]:
    """First and last plane, exclusive, of runs along z: whole chunks together while small, large ones in slices."""
    n_z = data.shape[-3]
    plane_bytes = max(1, data.dtype.itemsize * int(np.prod(data.shape[-2:])))
    chunks = data.chunks[-3] if data.chunks is not None else (n_z,)
    edges = np.cumsum((0, *chunks))
    start = 0
    for stop, after in zip(edges[1:], [*edges[2:], None], strict=True):
        if after is not None and (after - start) * plane_bytes <= BLOCK_BYTES:
            continue
        whole = (stop - start) * plane_bytes <= LARGEST_CHUNK_BYTES
        length = stop - start if whole else max(1, BLOCK_BYTES // plane_bytes)
        for first in range(start, stop, length):
            yield first, min(first + length, int(stop))
        start = int(stop)


def reopened(data: xr.Variable, stored_depth: int) -> tuple[int, int]:
    """How many planes are read at once, and how often this opens chunks of the file that are so many planes deep."""
    together = max(stop - start for start, stop in runs(data))
    return together, -(-stored_depth // together)


def places(data: xr.Variable, wanted: NDArray[np.bool_] | None = None) -> Iterator[Place]:
    """Where the runs are in a Variable whose last two dims are y and x, in plane order.

    Of a run only what lies from its first to its last wanted plane counts.
    """
    for outer in np.ndindex(data.shape[:-3]):
        for start, stop in runs(data):
            if wanted is not None:
                found = start + np.flatnonzero(wanted[(*outer, slice(start, stop))])
                if not found.size:
                    continue
                start, stop = int(found[0]), int(found[-1]) + 1
            yield (*outer, slice(start, stop))


def memory_of(data: xr.Variable) -> Any:
    """An empty array as those that a Variable holds, or its chunks, by which the library is known; nothing is read."""
    return data[(slice(0, 0),) * data.ndim].data if data.chunks is None else data.data._meta


def values_on_host(data: xr.Variable) -> NDArray[Any]:
    """All values of a small Variable on the host."""
    return to_host(as_array(data.data))


class Room:
    """Memory for one run of planes after the other: of what is new, the system would have to clear every page."""

    def __init__(self) -> None:
        self._flat: Any = None

    def for_part(self, part: xr.Variable) -> NDArray[Any]:
        """An array like a part of a volume, with any values: it lies where the one before it lay."""
        if self._flat is None or self._flat.size < part.size:
            self._flat = None  # before there is another
            self._flat = namespace(memory_of(part)).empty(part.size, dtype=part.dtype)
        values: NDArray[Any] = self._flat[: part.size].reshape(part.shape)
        return values


def loaded(part: xr.Variable, room: Room | None = None) -> NDArray[np.generic]:
    """Part of a volume in memory: chunk after chunk into one array where threads compute, so that it is there once.

    With `room` it may lie there, and is overwritten when the next part is loaded.
    """
    if part.chunks is None:
        return cast(NDArray[np.generic], as_array(part.data))
    import dask.array
    from dask.base import get_scheduler

    if get_scheduler(collections=[part.data]) not in (dask.threaded.get, dask.get):
        return cast(NDArray[np.generic], as_array(part.data))
    values = (Room() if room is None else room).for_part(part)
    dask.array.store(part.data, values, lock=False)
    if values.nbytes >= BLOCK_BYTES // 2:
        give_back()  # what threads kept of the chunks
    return values
