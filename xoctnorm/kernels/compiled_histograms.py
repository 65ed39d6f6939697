"""Counts in bins, compiled by Numba, see `compiled`.

A place in bins is a whole number with some binary digits behind the point: that tells the bin, and what is so near to
an edge that rounding may have moved it over. The few such values are compared with the edge.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.compiled import Floats, Number, _count, _index, compiled
from xoctnorm.kernels.half_bins import COUNT_BITS, HIGH, LOW, NEGATIVE, NOTHING, NOTHINGS
from xoctnorm.kernels.prefetch import BLOCK, fetch

_LEFT_OUT = 8  # counters of values that belong to no bin, in turn
_UNSURE = 2e-7  # of a place in bins, three roundings: so near to an edge, the bin may be wrong


@compiled
def bin_counts(values: Floats, edges: Floats, counts: NDArray[np.int64]) -> None:
    """Add counts in equal bins: ``counts += np.histogram(values, edges)[0]``.

    Their dtype has to tell edges apart, and to hold 2**30 divided by their range.
    """
    n_bins = counts.size
    first, last = edges[0], edges[n_bins]
    per_value, bits, near = scale_of_places(edges)
    mask = np.int32((1 << bits) - 1)
    twice, outside = np.int32(2 * near), np.int32(n_bins)
    # Neighbours often share a bin, and a counter would have to wait for itself: there are two, and more for the rest.
    lanes = np.zeros((2, n_bins + _LEFT_OUT), np.int64)
    bins = np.empty(BLOCK, np.int32)
    for start in range(0, values.size, BLOCK):
        n, n_near = min(BLOCK, values.size - start), _count(0)
        fetch(values, _index(start))
        for i in range(n):
            value = values[_index(start + i)]
            counted = (value >= first) & (value <= last)
            place = np.int32(((value if counted else first) - first) * per_value)
            n_near = _count(n_near + ((np.int32((place + near) & mask) < twice) & counted))
            bins[_index(i)] = place >> bits if counted else outside + np.int32(i % _LEFT_OUT)
        if n_near:
            for i in range(n):
                value = values[_index(start + i)]
                if (value >= first) & (value <= last):
                    place = np.int32((value - first) * per_value)
                    if np.int32((place + near) & mask) < twice:
                        bins[_index(i)] = bin_of(value, bins[_index(i)], edges)
        for i in range(n):
            lanes[_index(i % 2), _index(bins[_index(i)])] += 1
    for i in range(n_bins):
        counts[i] += lanes[0, i] + lanes[1, i]


@compiled
def half_bin_words(
    values: Floats,
    where: NDArray[np.bool_],
    edges: Floats,
    parts: Number,
    first_part: NDArray[np.int32],
    words: NDArray[np.uint64],
) -> None:
    """Add a word for every value to that of its half of a bin, see `half_bins`; `words` is `(where, half bin)`.

    A value is counted, and its distance from the first part of the half bin summed, in parts of 1. Beyond the bins,
    values are only counted. There is room for fewer than 2**24 values.
    """
    n_bins = edges.size - 1
    first, last, parts = edges[0], edges[n_bins], np.float32(parts)
    per_value, bits, near = scale_of_places(edges)
    mask, twice = np.int32((1 << bits) - 1), np.int32(2 * near)
    of_half, beyond, n_places = bits - np.int32(1), np.int32(2 * n_bins), np.int32(words.shape[1])
    one = np.uint64(1) << np.uint64(COUNT_BITS)
    every = words.reshape(-1)
    places, sizes, left_out = np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32), np.empty(BLOCK, np.int32)
    for i in range(BLOCK):
        left_out[i] = beyond + NOTHING + i % NOTHINGS
    for start in range(0, values.size, BLOCK):
        n, n_rare = min(BLOCK, values.size - start), _count(0)
        fetch(values, _index(start))
        fetch(where, _index(start))
        for i in range(n):
            value, here = values[_index(start + i)], where[_index(start + i)]
            counted = (value >= first) & (value <= last)
            inside = value if counted else first
            place = np.int32((inside - first) * per_value)
            unsure = np.int32((place + near) & mask) < twice
            n_rare = _count(n_rare + (unsure if counted else abs(value) > 0))
            place = place >> of_half if counted else left_out[_index(i)]
            places[_index(i)] = place + (n_places if here else np.int32(0))
            sizes[_index(i)] = np.int32(np.rint(inside * parts))
        if n_rare:
            for i in range(n):
                value = values[_index(start + i)]
                if (value >= first) & (value <= last):
                    place = np.int32((value - first) * per_value)
                    if np.int32((place + near) & mask) >= twice:
                        continue
                    at = 2 * bin_of(value, place >> bits, edges)
                    place = np.int32(min(max(int(place >> of_half), at), at + 1))
                elif abs(value) > 0:
                    sizes[_index(i)] = 0
                    place = beyond + np.int32(HIGH if value > last else (NEGATIVE if value < 0 else LOW))
                else:
                    continue
                places[_index(i)] = place + (n_places if where[_index(start + i)] else np.int32(0))
        for i in range(n):
            slot = _index(places[_index(i)])
            every[slot] += one + np.uint64(sizes[_index(i)] - first_part[slot])


@compiled
def scale_of_places(edges: Floats) -> tuple[np.float32, np.int32, np.int32]:
    """Scale of places in bins as whole numbers, their binary digits behind the point, and what is near to an edge.

    So near, in units of the last digit, rounding may have moved a place over an edge: edges themselves are rounded too.
    """
    n_bins = edges.size - 1
    if n_bins < 1:
        return np.float32(0), np.int32(0), np.int32(0)
    first, last, digits = np.float64(edges[0]), np.float64(edges[n_bins]), 16
    while digits > 0 and n_bins * 2.0**digits >= 2.0**30:
        digits -= 1
    of_edges = max(abs(first), abs(last)) * 2.0**-23 * n_bins / (last - first)
    near = min((of_edges + _UNSURE * (n_bins + 1)) * 2.0**digits + 2, 2.0**digits / 2)
    return np.float32(n_bins * 2.0**digits / (last - first)), np.int32(digits), np.int32(near)


@compiled
def bin_of(value: Number, guess: int | np.integer, edges: Floats) -> int:
    """Bin of a value between the first and the last edge, which belongs to the last bin, from a guess next to it."""
    guess = min(int(guess), edges.size - 2)
    if value < edges[guess]:
        return guess - 1
    return guess + 1 if value >= edges[guess + 1] and guess + 2 < edges.size else guess
