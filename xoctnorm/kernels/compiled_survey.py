"""The compiled look at planes in the first read; see `compiled` for how and when such loops are compiled.

Digest, range and sums of a block of values are taken while it is in the nearest cache: for some planes together, so
that the sums, which are wider than the values, need not come from farther away for every plane.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.compiled import _index, compiled, frozen, words_of_block
from xoctnorm.kernels.prefetch import BLOCK, fetch

Total = NDArray[np.float64]
Count = NDArray[np.int32]

_TOGETHER = 4  # planes; more of them are in each other's way in the cache
_LEAST, _MOST = np.int32(-(2**31)), np.int32(2**31 - 1)
_INFINITY = np.int32(0x7F800000)

_NO_TOTAL, _NO_COUNT = np.empty(0), np.empty(0, np.int32)


def add_planes(
    planes: NDArray[Any],
    total: Total,
    missing: Count,
    of_section: tuple[Total, Count] | None = None,
    start: int | None = None,
    step: int = 0,
) -> tuple[NDArray[np.float64], int]:
    """Add planes, or the same part of each, of float32 or uint16, to flat sums; NaN counts as missing.

    `of_section` are sums and counts of values that are neither NaN nor 0. Returns the least and the largest value of
    every plane, `(plane, 2)`, NaN without any, and the sum of words of the digest, where the index of the first value
    is given; those of the first values of planes are `step` apart.
    """
    ends = np.empty((len(planes), 2), np.int32)
    ends[:] = _MOST, _LEAST
    words, (present, count) = 0, (_NO_TOTAL, _NO_COUNT) if of_section is None else of_section
    for first in range(0, len(planes), _TOGETHER):
        some, of_these = planes[first : first + _TOGETHER], ends[first : first + _TOGETHER]
        values, apart = _flat(some)
        bits = values.view(f"u{values.itemsize}")
        index = -1 if start is None else start + first * step
        words += int(_add(values, bits, apart, total, missing, present, count, of_these, index, step))
    return _values_of(ends, planes.dtype), words


def _flat(planes: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Values from the first of some planes to the last, flat, and how far the planes are apart; of a copy if need be.

    The rest of a plane, of which only a part is given, lies between the parts.
    """
    n = planes[0].size
    apart, rest = divmod(planes.strides[0], planes.itemsize)
    if rest or apart < n or not planes[0].flags.c_contiguous:
        return frozen(planes), n
    n_values = (len(planes) - 1) * apart + n
    return np.lib.stride_tricks.as_strided(planes, (n_values,), (planes.itemsize,), writeable=False), apart


def _values_of(ends: NDArray[np.int32], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Values whose order tells them, see `_order`; NaN where there was none."""
    words = ends ^ ((ends >> 31) & _MOST)
    values = words.view(np.float32) if dtype == np.float32 else ends
    return np.where(ends[:, :1] > ends[:, 1:], np.nan, values.astype(np.float64))


@compiled
def _add(
    values: NDArray[Any],
    bits: NDArray[Any],
    apart: int,
    total: Total,
    missing: Count,
    present: Total,
    count: Count,
    ends: NDArray[np.int32],
    index: int,
    step: int,
) -> np.uint64:
    """Look at flat planes that are so far apart, see `add_planes`; `ends` are words of `_order`."""
    words = np.uint64(0)
    for first in range(0, total.size, BLOCK):
        n = min(BLOCK, total.size - first)
        for z in range(ends.shape[0]):
            at = z * apart + first
            fetch(values, _index(at))
            if index >= 0:
                words += words_of_block(bits, at, n, index + z * step + first)
            least, most = _ends(bits, at, n)
            if most > _INFINITY or least < -_INFINITY - 1:
                least, most = _ends_of_present(values, bits, at, n)
                _add_where_present(values, at, n, total, missing, first)
            else:
                _add_all(values, at, n, total, first)
            if present.size:
                _add_without_zeros(values, at, n, present, count, first)
            ends[z, 0] = min(ends[z, 0], least)
            ends[z, 1] = max(ends[z, 1], most)
    return words


@compiled
def _order(bits: np.unsignedinteger) -> np.int32:
    """Whole numbers in the order of the values whose bits are given: NaN is beyond infinity, with no branch for it."""
    word = np.int32(bits)
    return np.int32(word ^ ((word >> np.int32(31)) & _MOST))


@compiled
def _ends(bits: NDArray[Any], at: int, n: int) -> tuple[np.int32, np.int32]:
    least, most = _MOST, _LEAST
    for i in range(n):
        word = _order(bits[_index(at + i)])
        least = word if word < least else least
        most = word if word > most else most
    return least, most


@compiled
def _ends_of_present(values: NDArray[Any], bits: NDArray[Any], at: int, n: int) -> tuple[np.int32, np.int32]:
    least, most = _MOST, _LEAST
    for i in range(n):
        value, word = values[_index(at + i)], _order(bits[_index(at + i)])
        has = value == value
        least = min(least, word if has else _MOST)
        most = max(most, word if has else _LEAST)
    return least, most


@compiled
def _add_all(values: NDArray[Any], at: int, n: int, total: Total, first: int) -> None:
    for i in range(n):
        total[_index(first + i)] += np.float64(values[_index(at + i)])


@compiled
def _add_where_present(values: NDArray[Any], at: int, n: int, total: Total, missing: Count, first: int) -> None:
    for i in range(n):
        value = values[_index(at + i)]
        total[_index(first + i)] += np.float64(value) if value == value else 0.0
        missing[_index(first + i)] += np.int32(value != value)


@compiled
def _add_without_zeros(values: NDArray[Any], at: int, n: int, total: Total, count: Count, first: int) -> None:
    for i in range(n):
        value = values[_index(at + i)]
        has = (value == value) & (value != 0)
        total[_index(first + i)] += np.float64(value) if has else 0.0
        count[_index(first + i)] += np.int32(has)


@compiled
def divide(total: Total, count: Count, mean: NDArray[np.float32]) -> None:
    """Means from flat sums; NaN where nothing was counted."""
    for i in range(total.size):
        counted = count[_index(i)]
        mean[_index(i)] = np.float32(total[_index(i)] / counted if counted > 0 else np.nan)
