"""What the compiled kernels compute, for arrays of any library: what they are tested against, and what devices run.

Names and parameters are those of the compiled kernels. Arrays that are written into, and flat input, belong to one
library; tables may be on the host. Numbers come back to the host, all of a call at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import alike, namespace, numbers, to_host
from xoctnorm.kernels.digest import digest
from xoctnorm.kernels.steps import CLIP, CUT, DIVIDE, INTERPOLATE, MULTIPLY, SUBTRACT
from xoctnorm.kernels.tile_series import TILES

BLOCK = 0  # room that loops need to spare


def frozen(values: Any) -> Any:
    """A flat array; nothing is written into it."""
    return values.reshape(-1)


# ------------------------------------------------------------------------------------------------- order statistics


def bracket(values: Any, least: float, without: float, low: float, high: float, inside: Any) -> tuple[int, int, int]:
    """Copy the values from `low` to `high` into `inside`.

    Only values from `least` on, which is not above `low`, that differ from `without` count. Returns how many of them
    are smaller, how many were copied (-1: there is no room), and how many there are; NaN does not count.
    """
    counted = values >= np.float32(least)
    if not np.isnan(without):
        counted = counted & (values != np.float32(without))
    return _bracket(values, counted, low, high, inside)


def bracket_where(values: Any, where: Any, low: float, high: float, inside: Any) -> tuple[int, int, int]:
    """Do as `bracket` does for the values at `where`."""
    return _bracket(values, where & (values == values), low, high, inside)


def two_brackets(
    values: Any,
    where: Any,
    of_all: tuple[float, float],
    of_some: tuple[float, float],
    inside_all: Any,
    inside_some: Any,
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Do as `bracket` does for all values and as `bracket_where` does for those at `where`."""
    values = values.astype(np.float32)
    return bracket(values, -np.inf, np.nan, *of_all, inside_all), bracket_where(values, where, *of_some, inside_some)


def _bracket(values: Any, counted: Any, low: float, high: float, inside: Any) -> tuple[int, int, int]:
    xp = namespace(values)
    chosen = counted & (values >= np.float32(low)) & (values <= np.float32(high))
    smaller = counted & (values < np.float32(low))
    below, n_inside, present = numbers(xp.sum(smaller), xp.sum(chosen), xp.sum(counted)).tolist()
    if n_inside > inside.size:
        return below, -1, present
    inside[:n_inside] = values[chosen]
    return below, n_inside, present


# ------------------------------------------------------------------------------------------------- histograms, steps


def bin_counts(values: Any, edges: Any, counts: Any) -> None:
    """Add counts in bins: ``counts += np.histogram(values, edges)[0]``; NaN is not counted."""
    xp, n_bins, edges = namespace(values), counts.shape[0], alike(edges, values)
    at = xp.searchsorted(edges, values, side="right") - 1
    counted = (values >= edges[0]) & (values <= edges[-1])
    at = xp.where(counted, xp.minimum(at, n_bins - 1), n_bins)  # the last edge belongs to the last bin
    counts += xp.bincount(at, minlength=n_bins + 1)[:n_bins]


def take(values: Any, kinds: Any, parameters: Any, knots: Any, lines: Any, out: Any) -> None:
    """Change values by all steps, see `steps.Step`; `out` may be `values`."""
    changed = values.astype(np.float32)
    for kind, numbers_of_step in zip(kinds.tolist(), parameters, strict=True):
        if kind == INTERPOLATE:
            threshold, strength = numbers_of_step.tolist()
            changed = _interpolate(changed, alike(knots, values), alike(lines, values), threshold, strength)
        else:
            changed = _changed(changed, kind, *numbers_of_step.astype(np.float32))
    out[...] = changed


def _changed(values: Any, kind: int, first: np.float32, second: np.float32) -> Any:
    xp = namespace(values)
    if kind == CUT:
        return xp.maximum(xp.minimum(values, second), first) - first
    if kind == SUBTRACT:
        return xp.where(values != 0, values - first, values)
    if kind == MULTIPLY:
        return values * first
    if kind == DIVIDE:
        return values / first
    assert kind == CLIP
    return xp.minimum(xp.maximum(values, np.float32(0)), np.float32(1))


def _interpolate(values: Any, knots: Any, lines: Any, threshold: float, strength: float) -> Any:
    """Values above a threshold, linear between knots and constant beyond, `strength` of the way; NaN stays NaN."""
    xp = namespace(values)
    within = xp.where(values > knots[0], values, knots[0])
    within = xp.where(within < knots[-1], within, knots[-1])
    at = xp.searchsorted(knots, within, side="right") - 1
    mapped = lines[at, 0] * within.astype(np.float64) + lines[at, 1]
    if strength != 1:
        mapped = (1 - strength) * values.astype(np.float64) + strength * mapped
    return xp.where(values > np.float32(threshold), mapped.astype(np.float32), values)


def multiply_where(values: Any, where: Any, factor: float, out: Any) -> None:
    """Multiply the values at `where` by a factor and leave the others."""
    out[...] = namespace(values).where(where, values * np.float32(factor), values)


def moved(plane: Any, knots: Any, shift: Any, tilt_below: float, tilt_above: float) -> Any:
    """Values moved by a shift that is linear from knot to knot, with a slope of its own beyond the outermost."""
    xp, values = namespace(plane), plane.astype(np.float64)
    by = xp.interp(values.reshape(-1), alike(knots, plane), alike(shift, plane)).reshape(plane.shape)
    for beyond, edge, tilt in (
        (values < knots[0], float(knots[0]), tilt_below),
        (values > knots[-1], float(knots[-1]), tilt_above),
    ):
        by[beyond] += tilt * (values[beyond] - edge)
    return (values + by).astype(np.float32)


# --------------------------------------------------------------------------------------------------- ranges and sums


def sum_of_words(bits: Any, start: int) -> np.uint64:
    """Sum modulo 2**64 of the mixed words of voxels, the first of which has index `start`; see `digest`."""
    return sum_of_rows(bits, bits.shape[0], start, 0)


def sum_of_rows(bits: Any, width: int, start: int, step: int) -> np.uint64:
    """The same sum over rows of `width` voxels, of which the first have indices that are `step` apart."""
    xp = namespace(bits)
    rows = xp.arange(bits.shape[0] // max(width, 1), dtype=np.uint64).reshape(-1, 1) * np.uint64(step)
    index = rows + xp.arange(width, dtype=np.uint64) + np.uint64(start + 1)
    word = index * np.uint64(0x9E3779B97F4A7C15) + bits.astype(np.uint64).reshape(-1, width)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.uint64(to_host(xp.sum(word ^ (word >> np.uint64(31)), dtype=np.uint64)))


def sum_where(values: Any, where: Any, without: float) -> tuple[float, int]:
    """Sum in float64 and number of the present values at `where` that differ from `without`."""
    xp = namespace(values)
    counted = where & (values == values) & (values != np.float32(without))
    total = xp.sum(xp.where(counted, values, np.float32(0)), dtype=np.float64)
    found, n_present = numbers(total, xp.sum(counted, dtype=np.float64)).tolist()
    return found, int(n_present)


def add_planes(
    planes: Any, total: Any, missing: Any, of_section: tuple[Any, Any] | None = None, start: Any = None, step: int = 0
) -> tuple[NDArray[np.float64], int]:
    """Add planes, or the same part of each, of any dtype, to flat sums; NaN counts as missing.

    `of_section` are sums and counts of values that are neither NaN nor 0. Returns the least and the largest value of
    every plane, `(plane, 2)`, NaN without any, and the sum of words of the digest, where the index of the first value
    is given; those of the first values of planes are `step` apart.
    """
    xp, ends, words = namespace(planes), np.empty((len(planes), 2)), 0
    for number, plane in enumerate(planes):
        if start is not None:
            words += digest(plane, start + number * step)
        values = plane.reshape(-1)
        least, most = _range(values)
        if np.isnan(least + most):
            absent = values != values
            missing += absent
            total += xp.where(absent, 0, values)
            (least, _), (_, most) = (_range(xp.where(absent, beyond, values)) for beyond in (np.inf, -np.inf))
            ends[number] = (least, most) if least <= most else np.nan
        else:
            total += values
            ends[number] = least, most
        if of_section is not None:
            has = (values == values) & (values != 0)
            of_section[0][...] += xp.where(has, values, 0)
            of_section[1][...] += has
    return ends, words


def divide(total: Any, count: Any, mean: Any) -> None:
    """Means from flat sums; NaN where nothing was counted."""
    mean[...] = (total / namespace(total).where(count > 0, count, np.nan)).astype(np.float32)


def _range(values: Any) -> tuple[float, float]:
    """Least and largest value; NaN for both where there is any."""
    xp = namespace(values)
    least, most = numbers(xp.min(values), xp.max(values)).tolist()
    return float(least), float(most)


def add_capped(values: Any, cap: float, total: Any, count: Any) -> None:
    """Add the finite values other than 0, each at most a cap, in float32, and 1 to their counts."""
    xp = namespace(values)
    has = (xp.abs(values) < np.float32(np.inf)) & (values != 0)
    total += xp.where(has, xp.minimum(values, np.float32(cap)), np.float32(0))
    count += has


def add_tiles(values: Any, n_x: int, images: Any, total: Any, count: Any) -> None:
    """Add the pixels of a plane that are finite and not 0 to sums and counts of sets, `(set, tile)`.

    `images` are `(image, pixel)`: the set of a pixel counted from 1, or 0. No set is in two images.
    """
    xp = namespace(values)
    n_y = values.size // n_x
    row, column = xp.arange(n_y) * TILES // n_y, xp.arange(n_x) * TILES // n_x
    tile = (row[:, None] * TILES + column).reshape(-1)
    for image in images:
        has = (image > 0) & xp.isfinite(values) & (values != 0)
        place = xp.where(has, (image.astype(np.int64) - 1) * TILES**2 + tile, 0)
        for out, weights in ((total, xp.where(has, values, np.float32(0))), (count, has)):
            out += xp.bincount(place, weights=weights.astype(np.float64), minlength=out.size).reshape(out.shape)


def sums_of_blocks(plane: Any, has: Any, factor: int, shape: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Of blocks of a plane, the sum and the number of the values that it has, and how many pixels there are."""
    xp = namespace(plane)
    total, count, whole = (xp.zeros(shape) for _ in range(3))
    for y, x in np.ndindex(min(factor, plane.shape[0]), min(factor, plane.shape[1])):
        here = has[y::factor, x::factor]
        n_rows, n_columns = here.shape
        total[:n_rows, :n_columns] += xp.where(here, plane[y::factor, x::factor], np.float32(0))
        count[:n_rows, :n_columns] += here
        whole[:n_rows, :n_columns] += 1
    return total, count, whole
