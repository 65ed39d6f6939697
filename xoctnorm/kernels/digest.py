"""A digest of values that does not depend on chunks, memory layout or byte order.

Every voxel gives one 64-bit word: its bit pattern and its index in the volume, mixed. The digest is
the sum of the words modulo 2⁶⁴, so digests of parts add up. It tells volumes apart, it does not
protect against forgery.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import kernels_for, namespace

ALGORITHM = "sum64-splitmix"
MODULUS = 2**64


def digest(values: NDArray[np.generic], start: int) -> int:
    """Sum of mixed words of an array whose first value, in C order, has index `start` in the volume."""
    kernels = kernels_for(values)
    return int(kernels.sum_of_words(kernels.frozen(_bit_patterns(values)), start))


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
    kernels = kernels_for(block)
    *lead, n_y, n_x = shape
    y, x = origin[-2:]
    total = 0
    for place in np.ndindex(block.shape[:-2]):
        plane = 0
        for index, first, size in zip(place, origin, lead, strict=False):
            plane = plane * size + first + index
        part, first = block[place], (plane * n_y + y) * n_x + x
        if part.shape[1] == n_x:
            total += digest(part, first)
        else:
            bits = kernels.frozen(_bit_patterns(part))
            total += int(kernels.sum_of_rows(bits, max(1, part.shape[1]), first, n_x))
    return total % MODULUS


def _bit_patterns(values: NDArray[np.generic]) -> NDArray[np.unsignedinteger]:
    """Values as unsigned integers of their width, flat; wider than 64 bits are rounded to float64."""
    native = values.dtype.newbyteorder("=") if values.dtype.itemsize <= 8 else np.dtype(np.float64)
    flat: NDArray[np.generic] = namespace(values).ascontiguousarray(values, dtype=native).reshape(-1)
    return flat.view(f"u{native.itemsize}")
