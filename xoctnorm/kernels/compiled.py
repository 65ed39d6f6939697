"""Loops over voxels for which NumPy needs copies, sorting or searching, compiled by Numba.

Import this module where it is used: that takes longer than importing all the rest. Every kernel releases the GIL and
runs in one thread. Input is flat, contiguous and read-only (`frozen`), so that one compiled version serves any array.
Results are those of the NumPy expressions in the docstrings.

Voxels are taken in blocks: first loops without branches, which become vector instructions, write what they find into
a small buffer; then voxels are moved one by one where that is necessary. Results go through a buffer too where they
may replace the values: a loop that could overwrite what it reads is not made of vector instructions. An index is
unsigned for the same reason: negative ones would wrap around. Memory is asked for the values of a later block before
one is looked at (`prefetch`): a processor that waits for each line in turn takes up to four times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

from xoctnorm.kernels.prefetch import BLOCK, fetch

Floats = NDArray[np.float32]
Number = float | np.floating

_index = np.uint64
_count = np.int32  # of a block: narrow, so that one instruction adds more of them
_INFINITY = np.float32(np.inf)


Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function when it is first called, and cache the result where there is a place for that."""
    try:
        fast = njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        fast = njit(nogil=True, error_model="numpy")(function)
    return cast(Function, fast)


def frozen(values: NDArray[Any]) -> NDArray[Any]:
    """A flat read-only view of an array, of a copy where it is not contiguous."""
    flat = np.ascontiguousarray(values).reshape(-1).view()
    flat.flags.writeable = False
    return flat


@compiled
def bracket(
    values: Floats, least: Number, without: Number, low: Number, high: Number, inside: Floats
) -> tuple[int, int, int]:
    """Copy the values from `low` to `high` into `inside`, which needs room for one block more.

    Only values from `least` on, which is not above `low`, that differ from `without` count. Returns how many of them
    are smaller, how many were copied (-1: there is no room), and how many there are; NaN does not count.
    """
    least, without, low, high = np.float32(least), np.float32(without), np.float32(low), np.float32(high)
    below, n_inside, n_present = 0, 0, 0
    flag = np.empty(BLOCK, np.uint8)
    for start in range(0, values.size, BLOCK):
        fetch(values, _index(start))
        smaller, within, present = _count(0), _count(0), _count(0)
        n = min(BLOCK, values.size - start)
        for i in range(n):
            value = values[_index(start + i)]
            counts = (value >= least) & (value != without)
            chosen = (value >= low) & (value <= high) & (value != without)
            present = _count(present + counts)
            smaller = _count(smaller + (counts & (value < low)))
            within = _count(within + chosen)
            flag[_index(i)] = chosen
        below += int(smaller)
        n_present += int(present)
        if within:
            if n_inside + BLOCK > inside.size:
                return below, -1, n_present
            n_inside = _append(values, start, n, flag, inside, n_inside)
    return below, n_inside, n_present


@compiled
def bracket_where(
    values: Floats, where: NDArray[np.bool_], low: Number, high: Number, inside: Floats
) -> tuple[int, int, int]:
    """Do as `bracket` does for the values at `where`."""
    low, high = np.float32(low), np.float32(high)
    below, n_inside, n_present = 0, 0, 0
    flag = np.empty(BLOCK, np.uint8)
    for start in range(0, values.size, BLOCK):
        fetch(values, _index(start))
        fetch(where, _index(start))
        smaller, within, present = _count(0), _count(0), _count(0)
        n = min(BLOCK, values.size - start)
        for i in range(n):
            value, here = values[_index(start + i)], where[_index(start + i)]
            chosen = here & (value >= low) & (value <= high)
            present = _count(present + (here & (value == value)))
            smaller = _count(smaller + (here & (value < low)))
            within = _count(within + chosen)
            flag[_index(i)] = chosen
        below += int(smaller)
        n_present += int(present)
        if within:
            if n_inside + BLOCK > inside.size:
                return below, -1, n_present
            n_inside = _append(values, start, n, flag, inside, n_inside)
    return below, n_inside, n_present


@compiled
def two_brackets(
    values: NDArray[Any],
    where: NDArray[np.bool_],
    of_all: tuple[float, float],
    of_some: tuple[float, float],
    inside_all: Floats,
    inside_some: Floats,
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Do as `bracket` does for all values and as `bracket_where` does for those at `where`, in one pass."""
    low_all, high_all = np.float32(of_all[0]), np.float32(of_all[1])
    low_some, high_some = np.float32(of_some[0]), np.float32(of_some[1])
    below_all, n_all, present_all = 0, 0, 0
    below_some, n_some, present_some = 0, 0, 0
    block, flag_all, flag_some = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.uint8), np.empty(BLOCK, np.uint8)
    for start in range(0, values.size, BLOCK):
        fetch(values, _index(start))
        fetch(where, _index(start))
        has_all, has_some, smaller_all, smaller_some = _count(0), _count(0), _count(0), _count(0)
        within_all, within_some = _count(0), _count(0)
        n = min(BLOCK, values.size - start)
        for i in range(n):
            value, here = np.float32(values[_index(start + i)]), where[_index(start + i)]
            block[_index(i)] = value
            has = value == value
            has_all = _count(has_all + has)
            has_some = _count(has_some + (here & has))
            smaller_all = _count(smaller_all + (value < low_all))
            smaller_some = _count(smaller_some + (here & (value < low_some)))
            chosen_all = (value >= low_all) & (value <= high_all)
            chosen_some = here & (value >= low_some) & (value <= high_some)
            within_all = _count(within_all + chosen_all)
            within_some = _count(within_some + chosen_some)
            flag_all[_index(i)] = chosen_all
            flag_some[_index(i)] = chosen_some
        below_all, below_some = below_all + int(smaller_all), below_some + int(smaller_some)
        present_all, present_some = present_all + int(has_all), present_some + int(has_some)
        if within_all and n_all >= 0:
            room = n_all + BLOCK <= inside_all.size
            n_all = _append(block, 0, n, flag_all, inside_all, n_all) if room else -1
        if within_some and n_some >= 0:
            room = n_some + BLOCK <= inside_some.size
            n_some = _append(block, 0, n, flag_some, inside_some, n_some) if room else -1
    return (below_all, n_all, present_all), (below_some, n_some, present_some)


@compiled
def _append(values: Floats, start: int, n: int, flag: NDArray[np.uint8], inside: Floats, n_inside: int) -> int:
    """Append the flagged of `n` values to the first `n_inside`: without a branch, which would be guessed wrong."""
    for i in range(n):
        inside[_index(n_inside)] = values[_index(start + i)]
        n_inside += flag[_index(i)]
    return n_inside


@compiled
def multiply_where(values: Floats, where: NDArray[np.bool_], factor: Number, out: Floats) -> None:
    """Multiply the values at `where` by a factor and leave the others; `out` must not be `values`."""
    factor = np.float32(factor)
    for start in range(0, values.size, BLOCK):
        fetch(values, _index(start))
        fetch(where, _index(start))
        fetch(out, _index(start))
        for i in range(start, min(start + BLOCK, values.size)):
            value = values[_index(i)]
            out[_index(i)] = value * factor if where[_index(i)] else value


@compiled
def sum_of_words(bits: NDArray[np.uint32], start: int) -> np.uint64:
    """Sum modulo 2**64 of the mixed words of voxels, the first of which has index `start`; see `digest`.

    Words are mixed as by the generator splitmix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195).
    """
    total = np.uint64(0)
    for first in range(0, bits.size, BLOCK):
        fetch(bits, _index(first))
        total += words_of_block(bits, first, min(BLOCK, bits.size - first), start + first)
    return total


@compiled
def words_of_block(bits: NDArray[np.uint32], first: int, n: int, index: int) -> np.uint64:
    """The same sum over `n` voxels from `first` on, that one having the index."""
    total = np.uint64(0)
    golden = np.uint64(0x9E3779B97F4A7C15)
    at = (np.uint64(index) + np.uint64(1)) * golden
    for i in range(n):
        word = at + np.uint64(bits[_index(first + i)])
        at += golden
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        total += word ^ (word >> np.uint64(31))
    return total


@compiled
def sum_of_rows(bits: NDArray[np.uint32], width: int, start: int, step: int) -> np.uint64:
    """The same sum over rows of `width` voxels, of which the first have indices that are `step` apart."""
    total = np.uint64(0)
    for row in range(bits.size // width):
        total += sum_of_words(bits[row * width : (row + 1) * width], start + row * step)
    return total


@compiled
def sum_where(values: Floats, where: NDArray[np.bool_], without: Number) -> tuple[float, int]:
    """Sum in float64, in a fixed order, and number of the present values at `where` that differ from `without`."""
    lanes, n_present = np.zeros(BLOCK), 0
    for start in range(0, values.size, BLOCK):
        fetch(values, _index(start))
        fetch(where, _index(start))
        n, count = min(BLOCK, values.size - start), 0
        for i in range(n):
            value = values[_index(start + i)]
            counts = where[_index(start + i)] & (value == value) & (value != without)
            lanes[_index(i)] += np.float64(value if counts else np.float32(0))
            count += counts
        n_present += count
    return lanes.sum(), n_present


@compiled
def add_capped(values: Floats, cap: Number, total: Floats, count: NDArray[np.uint16]) -> None:
    """Add the finite values other than 0, each at most a cap, in float32, and 1 to their counts."""
    cap = np.float32(cap)
    for start in range(0, values.size, BLOCK):
        fetch(values, _index(start))
        fetch(total, _index(start))
        fetch(count, _index(start))
        for i in range(start, min(start + BLOCK, values.size)):
            value = values[_index(i)]
            has = (abs(value) < _INFINITY) & (value != 0)
            total[_index(i)] += (value if value < cap else cap) if has else np.float32(0)
            count[_index(i)] += np.uint16(has)
