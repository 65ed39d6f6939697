"""Compiled search for the main peak of sorted values; see `compiled` for how and when such loops are compiled."""

from __future__ import annotations

import numpy as np

from xoctnorm.kernels.compiled import Floats, Number, compiled

_STEPS = 20
_SHARE = 0.4  # of the values: how far from the centre they lie tells the width of the peak
_OF_NORMAL = 0.524  # standard deviations within which that share of a normal distribution lies
_REACH = 1.5  # robust standard deviations


@compiled
def main_peak(ordered: Floats) -> float:
    """Centre of the main peak of sorted values: a mean of what is within 1.5 robust deviations of it, iterated."""
    sums = np.zeros(ordered.size + 1)
    for i in range(ordered.size):
        sums[i + 1] = sums[i] + np.float64(ordered[i])
    middle = ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]
    centre = np.float64(middle / np.float32(2))
    for _ in range(_STEPS):
        width = np.float32(_REACH * _distance(ordered, np.float32(centre)) / _OF_NORMAL + 1e-9)
        first, stop = _within(ordered, np.float32(centre), width)
        last, centre = centre, (sums[stop] - sums[first]) / (stop - first)
        if centre == last:
            break
    return centre


@compiled
def _distance(ordered: Floats, centre: Number) -> float:
    """Distance from a centre within which the share of the values lies, linearly interpolated."""
    n = ordered.size
    place = _SHARE * (n - 1)
    size = int(place) + 1
    low, high = 0, n - size  # the values nearest to the centre lie side by side
    while low < high:
        middle = (low + high) // 2
        if centre - ordered[middle] > ordered[middle + size] - centre:
            low = middle + 1
        else:
            high = middle
    farthest = max(abs(ordered[low] - centre), abs(ordered[low + size - 1] - centre))
    beyond = np.float32(np.inf)
    if low > 0:
        beyond = abs(ordered[low - 1] - centre)
    if low + size < n:
        beyond = min(beyond, abs(ordered[low + size] - centre))
    share = place - (size - 1)
    if share == 0:
        return np.float64(farthest)
    return np.float64(farthest) + share * (np.float64(beyond) - np.float64(farthest))


@compiled
def _within(ordered: Floats, centre: Number, width: Number) -> tuple[int, int]:
    """First of the values within a distance of a centre, and the one after the last."""
    low, high = 0, ordered.size
    while low < high:
        middle = (low + high) // 2
        if centre - ordered[middle] > width:
            low = middle + 1
        else:
            high = middle
    first, high = low, ordered.size
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] - centre <= width:
            low = middle + 1
        else:
            high = middle
    return first, low
