"""Figures of merit from sums over classes: levels, steps at cuts at equal depth, and how classes are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.class_sums import SLOTS, Slot, TileSums
from xoctnorm.kernels.classes import TISSUES
from xoctnorm.kernels.tile_series import TILES

Series = NDArray[np.float64]
Index = NDArray[np.int64]

_FEWEST_PIXELS = 12  # of a tile in a plane
_ROUNDS = 30


def levels_and_profile(log: Series, section: Index, depth: Index) -> tuple[Series, Series]:
    """Level of every section and profile over depth whose sum the log means of planes are, by least squares.

    NaN is left out. The profile has the mean 0; what is not observed is NaN.
    """
    n_sections, n_depths = int(section.max()) + 1, int(depth.max()) + 1
    known = np.isfinite(log)
    log, section, depth = log[known], section[known], depth[known]
    n_of_level, n_of_depth = np.bincount(section, minlength=n_sections), np.bincount(depth, minlength=n_depths)
    level, profile = np.zeros(n_sections), np.zeros(n_depths)
    for _ in range(_ROUNDS):
        level = np.bincount(section, log - profile[depth], n_sections) / np.maximum(n_of_level, 1)
        profile = np.bincount(depth, log - level[section], n_depths) / np.maximum(n_of_depth, 1)
    seen = n_of_depth > 0
    shift = profile[seen].mean() if seen.any() else 0.0
    return np.where(n_of_level > 0, level + shift, np.nan), np.where(seen, profile - shift, np.nan)


@dataclass(frozen=True)
class Steps:
    """Log steps of brightness at the cuts, at equal depth, on pixels of the same tissue on both sides.

    Attributes
    ----------
    step, error
        Of every section against the one before, and its standard error; NaN where nothing tells it.
    blocks, block_variance, block_size
        The same of every lateral block and tissue, `(section, block)`, the variance that noise explains, and voxels.
    raw
        Step from the last plane before the cut to the first after it, decay and all.
    """

    step: Series
    error: Series
    blocks: Series
    block_variance: Series
    block_size: Series
    raw: Series


def equal_depth_steps(
    tiles: TileSums, variance: Series, section: Index, depth: Index, follows: NDArray[np.bool_], floor: Series
) -> Steps:
    """Compare every section with the one before, over the pixels that keep their class there and still have it here.

    Parameters
    ----------
    tiles
        Sums of planes over sets of pixels and blocks.
    variance
        Relative variance of one pixel, per class.
    section, depth
        Of every plane; sections count from 0.
    follows
        For every section, whether the next one continues it.
    floor
        Noise floor of every plane, which is taken off.
    """
    n = int(section.max()) + 1
    step, error, raw = np.full((3, n), np.nan)
    blocks, variances, sizes = np.full((3, n, len(TISSUES) * TILES**2), np.nan)
    found = Steps(step, error, blocks, variances, sizes, raw)
    own, before = ([SLOTS.index(Slot(kind, relative)) for kind in TISSUES] for relative in (0, -1))
    signal = tiles.total - tiles.count * floor[:, None, None]
    of_pixel = np.repeat([variance[kind] for kind in TISSUES], TILES**2)
    for row in (np.flatnonzero(follows[:-1]) + 1).tolist():
        last, first = np.flatnonzero(section == row - 1), np.flatnonzero(section == row)
        pairs = [(a, b) for b in first for a in last if depth[a] == depth[b] and tiles.count[b, before].any()]
        if pairs:
            above, below = np.array(pairs).T
            sums = [part.reshape(len(pairs), -1) for part in (signal[above][:, own], signal[below][:, before])]
            counts = [
                part.reshape(len(pairs), -1) for part in (tiles.count[above][:, own], tiles.count[below][:, before])
            ]
            _compare(found, row, sums, counts, of_pixel)
        found.raw[row] = _raw_step(signal, tiles.count, last[-1], first[0], own, before)
    return found


def _compare(found: Steps, row: int, sums: list[Series], counts: list[Series], of_pixel: Series) -> None:
    """Write what `(depth, block)` sums on both sides of a cut tell of its step."""
    known = (np.minimum(*counts) >= _FEWEST_PIXELS) & (np.minimum(*sums) > 0)
    weight = np.where(known, np.minimum(*counts), 0.0)
    # Means are weighted alike on both sides, so that what is missing in one plane makes no step.
    means = [np.where(known, total / np.maximum(count, 1), 0.0) for total, count in zip(sums, counts, strict=True)]
    of_block, of_depth = ([(weight * mean).sum(axis=axis) for mean in means] for axis in (0, 1))
    blocks, size = np.minimum(*of_block) > 0, weight.sum(axis=0)
    steps = np.log(of_block[1][blocks] / of_block[0][blocks])
    found.blocks[row, blocks] = steps
    found.block_variance[row, blocks] = 2 * of_pixel[blocks] / size[blocks]
    found.block_size[row, blocks] = size[blocks]
    if not blocks.any():
        return
    share = size[blocks] / size.sum()
    found.step[row] = share @ steps
    over_blocks = _error(steps, share)
    depths = np.minimum(*of_depth) > 0
    over_depths = _error(np.log(of_depth[1][depths] / of_depth[0][depths]), np.full(depths.sum(), 1 / depths.sum()))
    found.error[row] = np.hypot(over_blocks, over_depths)


def _error(values: Series, share: Series) -> float:
    """Standard error of a weighted mean, from how the values scatter; NaN of one."""
    n = len(values)
    if n < 2:
        return np.nan
    return float(np.sqrt(np.sum(share**2 * (values - share @ values) ** 2) * n / (n - 1)))


def _raw_step(signal: Series, count: Series, last: int, first: int, own: list[int], before: list[int]) -> float:
    known = np.minimum(count[last, own], count[first, before]) >= _FEWEST_PIXELS
    weight = np.where(known, count[last, own], 0.0)
    sums = [
        (weight * part / np.maximum(number, 1)).sum()
        for part, number in ((signal[last, own], count[last, own]), (signal[first, before], count[first, before]))
    ]
    return float(np.log(sums[1] / sums[0])) if min(sums) > 0 else np.nan


def left_out(step: Series, error: Series) -> tuple[Series, Series]:
    """Log error of the level of every section as the sections next to it predict it, and its standard error.

    A section between two others is predicted by their mean, one at an end by its neighbour.
    """
    n = len(step)
    with_previous, with_next = step, np.append(-step[1:], np.nan)
    errors = error, np.append(error[1:], np.nan)
    sides = np.stack([with_previous, with_next])
    known = np.isfinite(sides)
    count = np.maximum(known.sum(axis=0), 1)
    value = np.where(known.any(axis=0), np.nansum(sides, axis=0) / count, np.nan)
    spread = np.sqrt(np.nansum(np.square(errors), axis=0)) / count
    return value, np.where(known.any(axis=0) & (n > 1), spread, np.nan)


def weighted_percentiles(values: Series, weight: Series, percentiles: Sequence[float]) -> Series:
    """Percentiles of values of which each counts by its weight; NaN of nothing."""
    if not values.size:
        return np.full(len(percentiles), np.nan)
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weight[order]) - weight[order] / 2
    found: Series = np.interp(np.array(percentiles) / 100 * weight.sum(), share, values[order])
    return found


def beyond_noise(values: Series, variance: Series) -> float:
    """Root mean square of values, less what their error variances explain; NaN of nothing."""
    known = np.isfinite(values)
    if not known.any():
        return np.nan
    squared = float(np.mean(values[known] ** 2) - np.mean(np.nan_to_num(variance[known])))
    return float(np.sqrt(max(squared, 0.0)))


@dataclass(frozen=True)
class Moments:
    """Number, mean and variance of the voxels of a class."""

    count: float
    mean: float
    variance: float

    @classmethod
    def of(cls, sums: Series) -> Moments:
        """From number, sum and sum of squares of several parts, `(part, 3)`, added in their order."""
        count = float(sums[:, 0].sum())
        if count < 2:
            return cls(count, np.nan, np.nan)
        mean = float(sums[:, 1].sum()) / count
        own = sums[:, 0] > 0
        part_mean = sums[own, 1] / sums[own, 0]
        # Parts about their own means, and these about the common one: nothing cancels.
        inner = np.maximum(sums[own, 2] - sums[own, 0] * part_mean**2, 0).sum()
        outer = (sums[own, 0] * (part_mean - mean) ** 2).sum()
        return cls(count, mean, float((inner + outer) / count))


def cnr(one: Moments, other: Moments) -> float:
    """Contrast to noise ratio ``|µ₁ − µ₂| / √(σ₁² + σ₂²)``."""
    return _ratio(abs(one.mean - other.mean), np.sqrt(one.variance + other.variance))


def cjv(one: Moments, other: Moments) -> float:
    """Coefficient of joint variation ``(σ₁ + σ₂) / |µ₁ − µ₂|``."""
    return _ratio(np.sqrt(one.variance) + np.sqrt(other.variance), abs(one.mean - other.mean))


def gcnr(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Generalized contrast to noise ratio: 1 less the overlap of two histograms, each with the area 1."""
    n_one, n_other = int(one.sum()), int(other.sum())
    if not n_one or not n_other:
        return np.nan
    return float(1 - np.minimum(one / n_one, other / n_other).sum())


def _ratio(above: float, below: float) -> float:
    return float(above / below) if np.isfinite(above) and below > 0 else np.nan


def separability(values: Series, threshold: float) -> float:
    """Share of the variance of values that lies between those up to a threshold and those above it."""
    high = values > threshold
    share, variance = high.mean(), values.var()
    if not 0 < share < 1 or not variance > 0:
        return np.nan
    between = share * (1 - share) * (values[high].mean() - values[~high].mean()) ** 2
    return float(between / variance)
