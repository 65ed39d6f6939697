"""A digest of values that does not depend on chunks, memory layout or byte order.

Every voxel gives one 64-bit word: its bit pattern and its index in the volume, mixed. The digest is
the sum of the words modulo 2⁶⁴, so digests of parts add up. It tells volumes apart, it does not
protect against forgery.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ALGORITHM = "sum64-splitmix"
MODULUS = 2**64

# Constants of the splitmix64 generator (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))
_SPAN = 1 << 15  # values mixed at a time, so that temporaries stay in the cache


def digest(values: NDArray[np.generic], start: int) -> int:
    """Sum of mixed words of an array whose first value, in C order, has index `start` in the volume."""
    bits = _bit_patterns(values)
    total = 0
    for at in range(0, bits.size, _SPAN):
        part = bits[at : at + _SPAN]
        total += _sum_of_words(part, np.arange(start + at, start + at + part.size, dtype=np.uint64))
    return total % MODULUS


class Digest:
    """The digest of values that come part after part, in C order."""

    def __init__(self, start: int = 0) -> None:
        self.total, self._at = 0, start

    def add(self, values: NDArray[np.generic]) -> None:
        """Count the next part."""
        self.total = (self.total + digest(values, self._at)) % MODULUS
        self._at += values.size


def digest_block(block: NDArray[np.generic], origin: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """Sum of mixed words of a block that starts at `origin` in a volume of `shape`."""
    *lead, n_y, n_x = shape
    y, x = (np.arange(first, first + size) for first, size in zip(origin[-2:], block.shape[-2:], strict=True))
    in_plane = (y[:, None] * n_x + x).astype(np.uint64).reshape(-1)
    total = 0
    for place in np.ndindex(block.shape[:-2]):
        plane = 0
        for index, first, size in zip(place, origin, lead, strict=False):
            plane = plane * size + first + index
        total += _sum_of_words(_bit_patterns(block[place]), in_plane + np.uint64(plane * n_y * n_x))
    return total % MODULUS


def _sum_of_words(bits: NDArray[np.unsignedinteger], index: NDArray[np.uint64]) -> int:
    word = (index + np.uint64(1)) * _GOLDEN
    word += bits
    for shift, factor in _MIX:
        word ^= word >> np.uint64(shift)
        word *= factor
    word ^= word >> np.uint64(31)
    return int(word.sum())


def _bit_patterns(values: NDArray[np.generic]) -> NDArray[np.unsignedinteger]:
    """Values as unsigned integers of their width, flat; wider than 64 bits are rounded to float64."""
    native = values.dtype.newbyteorder("=") if values.dtype.itemsize <= 8 else np.dtype(np.float64)
    flat = np.ascontiguousarray(values, dtype=native).reshape(-1)
    return flat.view(f"u{native.itemsize}")
