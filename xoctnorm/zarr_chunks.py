"""Chunks of Zarr arrays, compressed and written in the thread, or by the worker, that computed them.

Zarr hands every chunk from thread to thread through an event loop, and compares each voxel with the fill value. Here
whole chunks alone are written, so that a few lines do.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xoctnorm.zarr_place import Place


def compressors(zarr_format: int) -> tuple[Any, ...]:
    """Compression that is quick: bits of one place value lie together, of which those of exponents are alike."""
    if zarr_format == 3:
        from zarr.codecs import BloscCodec

        return (BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),)
    return (_blosc(),)


def _blosc() -> Any:
    from numcodecs import Blosc

    return Blosc("lz4", 5, Blosc.BITSHUFFLE)


class Chunks:
    """Chunks of an array that has `compressors`: a target in which dask stores regions of whole chunks."""

    def __init__(self, place: Place, array: Any) -> None:
        self.shape, self.chunks, self.dtype = array.shape, array.chunks, array.dtype
        self._place, self._path, self._encode_key = place, array.path, array.metadata.encode_chunk_key
        self._fill = np.asarray(0 if array.fill_value is None else array.fill_value, array.dtype)
        self._may_lack = array.fill_value is not None

    def keys(self, region: tuple[slice, ...]) -> Iterator[str]:
        """Keys of the chunks of a region in the store."""
        return (key for key, _ in self._of_region(region))

    def __setitem__(self, region: tuple[slice, ...], values: NDArray[Any]) -> None:
        blosc = _blosc()
        for key, within in self._of_region(region):
            chunk = np.ascontiguousarray(values[within])
            if chunk.shape != self.chunks:  # at the end of the array
                part, chunk = chunk, np.full(self.chunks, self._fill)
                chunk[tuple(slice(size) for size in part.shape)] = part
            if not (self._may_lack and _all_same(chunk, self._fill)):
                stored = chunk.astype(self.dtype.newbyteorder("<"), copy=False)
                self._place.write(f"{self._place.data}/{key}", blosc.encode(stored))

    def _of_region(self, region: tuple[slice, ...]) -> Iterator[tuple[str, tuple[slice, ...]]]:
        """Key of every chunk of a region, and where it is in the region."""
        starts, stops, _ = zip(*(at.indices(size) for at, size in zip(region, self.shape, strict=True)), strict=True)
        ranges = (range(*ends) for ends in zip(starts, stops, self.chunks, strict=True))
        for place in product(*ranges):
            at = tuple(first // length for first, length in zip(place, self.chunks, strict=True))
            within = tuple(
                slice(first - start, first - start + length)
                for first, start, length in zip(place, starts, self.chunks, strict=True)
            )
            yield f"{self._path}/{self._encode_key(at)}", within


def _all_same(values: NDArray[Any], one: NDArray[Any]) -> bool:
    """Whether all values are one, to the bit, or NaN where it is; mostly the first tells."""
    if one != one:
        return bool(np.isnan(values.flat[0]) and np.isnan(values).all())
    bits, wanted = (array.reshape(-1).view(f"u{one.itemsize}") for array in (values, one))
    return bool(bits[0] == wanted[0] and (bits == wanted[0]).all())
