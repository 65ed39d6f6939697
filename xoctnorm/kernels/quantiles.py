"""Quantiles of planes, what sections have in common at equal depth, and the monotone map to it.

Quantiles are float64 arrays `(plane, level)` or `(section, level)`; NaN rows stand for planes and sections
with too little tissue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import alike, kernels_for, namespace, to_host
from xoctnorm.kernels.background import present

Plane = NDArray[np.float32]
Numbers = NDArray[np.float64]

LEVELS: Numbers = np.linspace(0.02, 0.98, 128)  # specular spots cover more than 1 % of the tissue of a plane
ODD = 1.5  # a plane that is more than so many times brighter or darker than its section is no measure of it

_BRIGHT = slice(109, 122)  # levels of 84 to 93 %: shares of tissue move them least, specular spots do not reach them
_SIGNIFICANT = 5.0  # variance over sections, in units of what anatomy makes: 3 was seen on phantoms without drift

_ROUNDS = 1000  # of two means in turn; they stop long before, where sections share depths
_SETTLED = 1e-13


def quantiles(values: Plane, fewest: int) -> Numbers:
    """Quantiles of the present values at `LEVELS`, linear between order statistics; NaN with too few values."""
    ordered = namespace(values).sort(present(values))
    if ordered.size < max(fewest, 1):
        return np.full(LEVELS.size, np.nan)
    position = LEVELS * (ordered.size - 1)
    below = position.astype(np.int64)
    pairs = np.stack([below, np.minimum(below + 1, ordered.size - 1)])
    low, high = to_host(ordered[alike(pairs, ordered)]).astype(np.float64)
    return np.asarray(low + (high - low) * (position - below))


def match_at_equal_depth(
    of_planes: Numbers, row: NDArray[np.int64], depth: NDArray[np.int64], n_sections: int
) -> tuple[Numbers, Numbers]:
    """Quantiles `(section, level)` of every section, and those that the others show at the same depths.

    `row` and `depth` are the section of every plane and its place in it. Both results are means over the same
    planes of a section, so that neither decay nor missing planes come between them, and are the same bits
    where sections agree.
    """
    source, target = np.full((2, n_sections, of_planes.shape[1]), np.nan)
    has = np.flatnonzero(~np.isnan(of_planes[:, 0]))
    if has.size == 0:
        return source, target
    of_planes, row, depth = of_planes[has], row[has], depth[has]
    common = median_at_depth(_levelled(of_planes, row, depth), depth)
    for section in np.unique(row):
        source[section] = of_planes[row == section].mean(axis=0)
        target[section] = common[row == section].mean(axis=0)
    return source, target


@dataclass(frozen=True)
class Support:
    """Whether gains of sections, and shapes of their maps, differ by more than anatomy explains."""

    gain: bool
    shape: bool


def supported(
    of_planes: Numbers, row: NDArray[np.int64], depth: NDArray[np.int64], source: Numbers, target: Numbers
) -> tuple[Numbers, Support]:
    """Targets as far as the data support them: a map bends, or moves, only where anatomy does not explain that.

    How much anatomy changes is seen within sections. What `match_at_equal_depth` found is split into the
    gain of a section and the shape that is left.
    """
    has = np.flatnonzero(~np.isnan(of_planes[:, 0]))
    if has.size == 0:
        return target, Support(True, True)
    of_planes, row, depth = of_planes[has], row[has], depth[has]
    common = median_at_depth(_levelled(of_planes, row, depth), depth)
    proportional = is_proportional(np.median(of_planes, axis=0), np.median(common, axis=0))
    straight = np.array([_straight(*pair, proportional=proportional) for pair in zip(common, of_planes, strict=True)])
    size = np.sqrt(np.mean(common**2, axis=1, keepdims=True))
    bright = straight[:, _BRIGHT].mean(axis=1), common[:, _BRIGHT].mean(axis=1)
    shift = np.log(bright[0] / bright[1]) if proportional else bright[0] - bright[1]
    # Relative to what the plane would be by its gain alone, so that sections are compared alike.
    scale = size * np.exp(shift)[:, None] if proportional else np.ones_like(size)
    support = Support(
        gain=exceeds_anatomy(shift[:, None], row), shape=exceeds_anatomy((of_planes - straight) / scale, row)
    )
    kept = target.copy()
    for section in np.unique(row):
        line = _straight(source[section], target[section], proportional=proportional)
        if not support.shape:
            kept[section] = line
        if not support.gain:
            kept[section] += source[section] - line
    return kept, support


def exceeds_anatomy(values: Numbers, row: NDArray[np.int64]) -> bool:
    """Whether sections differ in `values` of their planes by more than the halves of sections let expect.

    The mean of two halves that differ by anatomy has a quarter of the variance of their difference. Where no section
    has two planes nothing tells, and it is taken for granted.
    """
    means, swings = [], []
    for section in np.unique(row):
        mine = values[row == section]
        half = len(mine) // 2
        means.append(mine.mean(axis=0))
        if half:
            swings.append(np.mean((mine[-half:].mean(axis=0) - mine[:half].mean(axis=0)) ** 2))
    if not swings:
        return True
    between = np.mean((np.array(means) - np.median(means, axis=0)) ** 2)
    return bool(between > _SIGNIFICANT * np.mean(swings) / 4)


def _straight(source: Numbers, target: Numbers, *, proportional: bool) -> Numbers:
    """The part of a map that is a gain, or where tissue is negative a difference, by bright tissue."""
    of, to = source[_BRIGHT].mean(), target[_BRIGHT].mean()
    if proportional and of > 0 and to > 0:
        return np.asarray(source * (to / of))
    return np.asarray(source + (to - of))


def median_at_depth(of_planes: Numbers, depth: NDArray[np.int64]) -> Numbers:
    """For every plane, the median of the planes at its depth."""
    medians = np.empty_like(of_planes)
    for one in np.unique(depth):
        medians[depth == one] = np.median(of_planes[depth == one], axis=0)
    return medians


def odd_planes(of_planes: Numbers, row: NDArray[np.int64], depth: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Planes that are brighter or darker than the rest of their section by more than the factor `ODD`.

    None where tissue is negative, nor where half of a section would be odd.
    """
    odd = np.zeros(len(of_planes), bool)
    has = np.flatnonzero(~np.isnan(of_planes[:, 0]))
    if has.size == 0 or np.median(of_planes[has]) <= 0:
        return odd
    row, depth = row[has], depth[has]
    excess = _excess(of_planes[has], depth)
    excess -= section_levels(excess, row, depth)
    excess -= median_at_depth(excess, depth)
    for section in np.unique(row):
        mine = has[row == section]
        away = np.abs(excess[row == section] - np.median(excess[row == section])) > np.log(ODD)
        odd[mine] = away & (2 * away.sum() < away.size)
    return odd


def _levelled(of_planes: Numbers, row: NDArray[np.int64], depth: NDArray[np.int64]) -> Numbers:
    """Quantiles of all planes, as if their sections were equally bright.

    Where sections lack planes, those that are left at a depth may all be bright ones, so the level of a section
    has to be known before a median over sections means anything. It is a factor; where tissue is
    negative, as in decibels, a difference.
    """
    if np.median(of_planes) > 0:
        return of_planes / np.exp(section_levels(_excess(of_planes, depth), row, depth))[:, None]
    excess = np.median(of_planes - median_at_depth(of_planes, depth), axis=1)
    return of_planes - section_levels(excess, row, depth)[:, None]


def _excess(of_planes: Numbers, depth: NDArray[np.int64]) -> Numbers:
    """Log of the brightness of every plane over that of the planes at its depth, in the median over quantiles."""
    common = median_at_depth(of_planes, depth)
    excess = np.zeros(len(of_planes))
    positive = (of_planes > 0) & (common > 0)
    for plane in np.flatnonzero(positive.any(axis=1)):
        at = positive[plane]
        excess[plane] = np.median(np.log(of_planes[plane, at] / common[plane, at]))
    return excess


def section_levels(excess: Numbers, row: NDArray[np.int64], depth: NDArray[np.int64]) -> Numbers:
    """The part of `excess` that belongs to sections, for every plane: by least squares, with another for depths.

    It is 0 in the median over sections.
    """
    level = np.zeros(row.max() + 1)
    for _ in range(_ROUNDS):
        before = level
        level = _means(excess - _means(excess - level[row], depth)[depth], row)
        if np.abs(level - before).max() <= _SETTLED:
            break
    return np.asarray(level[row] - np.median(level[np.unique(row)]))


def _means(values: Numbers, group: NDArray[np.int64]) -> Numbers:
    """Mean of the values of every group; 0 of none."""
    return np.bincount(group, values) / np.maximum(np.bincount(group), 1)


def is_proportional(source: Numbers, target: Numbers) -> bool:
    """Whether a map keeps 0 and goes on in proportion: for tissue that is positive, for the most part."""
    middle = source.size // 2
    return bool(source[middle] > 0 and target[middle] > 0)


def cap_slope(source: Numbers, target: Numbers, max_slope: float) -> Numbers:
    """The targets nearest to those given, in least squares, on a map whose slope is within bounds.

    The bounds are the overall gain divided by `max_slope`, and times it. Equal sources get equal targets.
    A proportional map runs through 0, and its slope from there to the first positive quantile is bounded too;
    quantiles that are not positive follow from that one.
    """
    if np.array_equal(source, target):
        return target
    knots, place, count = np.unique(source, return_inverse=True, return_counts=True)
    goal = np.bincount(place, target) / count
    proportional = is_proportional(source, goal[place])
    gain = overall_gain(source, goal[place], through_zero=proportional)
    bounds = gain / max_slope, gain * max_slope
    if proportional:
        used = (knots > 0) & (goal > 0)
        bounded = _bounded(knots[used], goal[used], count[used], *bounds, through_zero=True)
        goal[used], goal[~used] = bounded, knots[~used] * (bounded[0] / knots[used][0])
    else:
        goal = _bounded(knots, goal, count, *bounds, through_zero=False)
    # Between knots next to each other rounding can make the table fall.
    return np.asarray(np.maximum.accumulate(goal)[place])


def _bounded(
    knots: Numbers, goal: Numbers, count: NDArray[np.int64], low: float, high: float, *, through_zero: bool
) -> Numbers:
    """Bound the slope of a map, from 0 on where it runs through 0."""
    from scipy.optimize import isotonic_regression

    rest = isotonic_regression(goal - low * knots, weights=count).x
    goal = low * knots + (np.maximum(rest, 0) if through_zero else rest)
    rest = isotonic_regression(goal - high * knots, weights=count, increasing=False).x
    return np.asarray(high * knots + (np.minimum(rest, 0) if through_zero else rest))


def overall_gain(source: Numbers, target: Numbers, *, through_zero: bool) -> float:
    """Slope of the line, through 0 or free, that is nearest to a map; 1 where there is none that rises.

    A twentieth of the quantiles at either end is left out: reflections lie there, and they would decide.
    """
    ends = source.size // 20
    source, target = source[ends : source.size - ends], target[ends : source.size - ends]
    if not through_zero:
        source = source - source.mean()
    spread = float((source * source).sum())
    gain = float((source * target).sum()) / spread if spread > 0 else 1.0
    return gain if gain > 0 else 1.0


def match_quantiles(plane: Plane, source: Numbers, target: Numbers, strength: float) -> Plane:
    """Map a plane, linear from quantile to quantile and beyond the outermost; NaN stays NaN.

    Beyond them a proportional map goes on in proportion, to 0 below, and any other with the slope from its first to
    its last quantile. `strength` is the share of its way that an intensity goes.
    """
    shift = strength * (target - source)
    if is_proportional(source, target) and np.array_equal(source > 0, target > 0):
        first = int(np.argmax(source > 0))
        tilt_below, tilt_above = shift[first] / source[first], shift[-1] / source[-1]
        source, shift = np.insert(source, first, 0.0), np.insert(shift, first, 0.0)
    else:
        spread = source[-1] - source[0]
        tilt_below = tilt_above = (shift[-1] - shift[0]) / spread if spread > 0 else 0.0
    loops = kernels_for(plane, "compiled_quantiles")
    moved: Plane = loops.moved(plane, source, shift, float(tilt_below), float(tilt_above))
    return moved
