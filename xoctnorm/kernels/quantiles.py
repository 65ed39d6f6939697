"""Quantiles of planes, what sections have in common at equal depth, and the monotone map to it.

Quantiles are float64 arrays `(plane, level)` or `(section, level)`; NaN rows stand for planes and sections
with too little tissue.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from xoctnorm.kernels.background import present

Plane = NDArray[np.float32]
Numbers = NDArray[np.float64]

LEVELS: Numbers = np.linspace(0.005, 0.995, 128)

_ROUNDS = 1000  # of two means in turn; they stop long before, where sections share depths
_SETTLED = 1e-13


def quantiles(values: Plane, fewest: int) -> Numbers:
    """Quantiles of the present values at `LEVELS`, linear between order statistics; NaN with too few values."""
    ordered = np.sort(present(values)).astype(np.float64)
    if ordered.size < max(fewest, 1):
        return np.full(LEVELS.size, np.nan)
    position = LEVELS * (ordered.size - 1)
    below = position.astype(np.int64)
    low, high = ordered[below], ordered[np.minimum(below + 1, ordered.size - 1)]
    return np.asarray(low + (high - low) * (position - below))


def match_at_equal_depth(
    of_planes: Numbers, row: NDArray[np.int64], depth: NDArray[np.int64], n_sections: int
) -> tuple[Numbers, Numbers]:
    """Quantiles `(section, level)` of every section, and those that the others show at the same depths.

    `row` and `depth` are the section of every plane and its place in it. Both results are means over the same
    planes of a section, so that neither decay nor missing planes come between them, and are the same bits
    where sections agree.
    """
    has = np.flatnonzero(~np.isnan(of_planes[:, 0]))
    of_planes, row, depth = of_planes[has], row[has], depth[has]
    level = np.exp(section_levels(of_planes, row, depth, n_sections))
    common = median_at_depth(of_planes / level[row, None], depth)
    source, target = np.full((2, n_sections, of_planes.shape[1]), np.nan)
    for section in np.unique(row):
        source[section] = of_planes[row == section].mean(axis=0)
        target[section] = common[row == section].mean(axis=0)
    return source, target


def median_at_depth(of_planes: Numbers, depth: NDArray[np.int64]) -> Numbers:
    """For every plane, the median of the planes at its depth."""
    medians = np.empty_like(of_planes)
    for one in np.unique(depth):
        medians[depth == one] = np.median(of_planes[depth == one], axis=0)
    return medians


def section_levels(of_planes: Numbers, row: NDArray[np.int64], depth: NDArray[np.int64], n_sections: int) -> Numbers:
    """Log of the brightness of every section, 0 in the median, by least squares on sections and depths.

    Where sections lack planes, those that are left at a depth may all be bright ones. Their level has to be
    known before their median means anything.
    """
    common = median_at_depth(of_planes, depth)
    positive = (of_planes > 0) & (common > 0)
    excess = np.zeros(len(of_planes))
    for plane in np.flatnonzero(positive.any(axis=1)):
        at = positive[plane]
        excess[plane] = np.median(np.log(of_planes[plane, at] / common[plane, at]))
    level = np.zeros(n_sections)
    for _ in range(_ROUNDS):
        before = level
        of_depth = _means(excess - level[row], depth, int(depth.max(initial=0)) + 1)
        level = _means(excess - of_depth[depth], row, n_sections)
        if np.abs(level - before).max() <= _SETTLED:
            break
    known = np.unique(row)
    return level - np.median(level[known]) if known.size else level


def _means(values: Numbers, group: NDArray[np.int64], n_groups: int) -> Numbers:
    """Mean of the values of every group; 0 of none."""
    count = np.bincount(group, minlength=n_groups)
    return np.bincount(group, values, minlength=n_groups) / np.maximum(count, 1)


def runs_through_zero(source: Numbers, target: Numbers) -> bool:
    """Whether the map of intensities keeps 0: all that is mapped to each other is positive."""
    return bool(source[0] > 0 and target[0] > 0)


def cap_slope(source: Numbers, target: Numbers, max_slope: float) -> Numbers:
    """The targets nearest to those given, in least squares, on a map whose slope is within bounds.

    The bounds are the overall gain divided by `max_slope`, and times it. Equal sources get equal targets.
    A map of positive intensities runs through 0, and its slope from there to the first quantile is bounded too.
    """
    if np.array_equal(source, target):
        return target
    knots, place, count = np.unique(source, return_inverse=True, return_counts=True)
    goal = knots + np.bincount(place, target - source) / count
    fixed = runs_through_zero(knots, goal)
    gain = overall_gain(knots, goal, count)
    low, high = gain / max_slope, gain * max_slope
    above = isotonic_regression(goal - low * knots, weights=count).x
    goal = (np.maximum(above, 0) if fixed else above) + low * knots
    below = isotonic_regression(goal - high * knots, weights=count, increasing=False).x
    goal = (np.minimum(below, 0) if fixed else below) + high * knots
    return np.asarray(goal[place], np.float64)


def overall_gain(source: Numbers, target: Numbers, count: NDArray[np.int64]) -> float:
    """Slope of the line through 0, or of any line, that is nearest to the map; 1 where there is none."""
    if not runs_through_zero(source, target):
        source = source - np.average(source, weights=count)
    spread = float((count * source * source).sum())
    gain = float((count * source * target).sum()) / spread if spread > 0 else 1.0
    return gain if gain > 0 else 1.0


def match_quantiles(plane: Plane, source: Numbers, target: Numbers, strength: float) -> Plane:
    """Map a plane, linear from quantile to quantile and beyond the outermost; NaN stays NaN.

    Beyond them a map of positive intensities goes on in proportion, to 0 below, and any other with the slope from its
    first to its last quantile. `strength` is the share of its way that an intensity goes.
    """
    shift = strength * (target - source)
    if runs_through_zero(source, target):
        tilt_below, tilt_above = shift[0] / source[0], shift[-1] / source[-1]
        source, shift = np.insert(source, 0, 0.0), np.insert(shift, 0, 0.0)
    else:
        spread = source[-1] - source[0]
        tilt_below = tilt_above = (shift[-1] - shift[0]) / spread if spread > 0 else 0.0
    values = plane.astype(np.float64)
    moved = np.interp(values, source, shift)
    moved += tilt_below * np.minimum(values - source[0], 0)
    moved += tilt_above * np.maximum(values - source[-1], 0)
    return np.asarray(values + moved, np.float32)
