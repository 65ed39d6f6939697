"""Exact percentiles and medians without sorting: a sample tells between which values they lie, one pass counts.

What lies between is copied and selected from. Where the sample misled, everything is; results are those of
`np.percentile` and `np.median`, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import concatenated, kernels_for, namespace, numbers
from xoctnorm.kernels.background import between
from xoctnorm.kernels.steps import taken_as_it_is
from xoctnorm.kernels.strips import single

Values = NDArray[np.float32]
AnyDtype = TypeVar("AnyDtype", bound=np.generic)
Ranks = Callable[[int], tuple[int, int]]

POSITIVE = float(np.finfo(np.float32).smallest_subnormal)
_SAMPLE = 8192
_SIGMAS = 4.5


class Bracket(NamedTuple):
    """Values between which an order statistic is expected, and the share of all values that lies there."""

    low: float = -np.inf
    high: float = np.inf
    share: float = 1.0


class Counted(NamedTuple):
    """How many values of an array are below a bracket, the values inside it, and how many there are at all."""

    below: int
    inside: Values
    present: int


def spread(values: NDArray[AnyDtype], least_step: int = 32, number: int = 0) -> NDArray[AnyDtype]:
    """Evenly spread values of an array, about 8192, and one of `least_step` at most: a sample has to be sorted.

    Planes with other numbers are looked at in other places, so that samples of several tell more than that of one.
    """
    return spread_of_part(values, 0, values.size, least_step, number)


def spread_of_part(
    part: NDArray[AnyDtype], start: int, size: int, least_step: int = 32, number: int = 0
) -> NDArray[AnyDtype]:
    """Those of the spread values of an array of some size that lie in a part of it, which begins at `start`."""
    step = max(least_step, size // _SAMPLE) | 1  # odd, so that it does not fall into step with the rows
    return part.reshape(-1)[(number * 61 - start) % step :: step]


def sample(values: Values) -> Values:
    """Evenly spread values of an array, without NaN."""
    some = spread(values)
    present: Values = some[some == some]
    return present


def bracket_of(some: Values, fraction: float) -> Bracket:
    """Where the order statistic at a fraction of all values lies: if a sample is fair, but for one in 100 000."""
    ordered = namespace(some).sort(some)
    reach = _SIGMAS * np.sqrt(ordered.size * fraction * (1 - fraction)) + 3
    first, last = int(fraction * ordered.size - reach), int(fraction * ordered.size + reach) + 1
    low, high = numbers(ordered[max(first, 0)], ordered[min(last, ordered.size - 1)]) if ordered.size else (0, 0)
    return Bracket(
        float(low) if first >= 0 else -np.inf,
        float(high) if last < ordered.size else np.inf,
        min(1.0, 2 * reach / max(ordered.size, 1)),
    )


def counted(
    values: Values,
    bracket: Bracket,
    least: float = -np.inf,
    where: NDArray[np.bool_] | None = None,
    without: float = np.nan,
) -> Counted:
    """Count the values of a contiguous array: those from `least` on that differ from `without`, or those at `where`."""
    kernels = kernels_for(values)
    flat = kernels.frozen(values)
    low = max(bracket.low, least)
    for room in (int(2 * bracket.share * flat.size), flat.size):
        inside = namespace(values).empty(room + kernels.BLOCK, dtype=np.float32)  # which the loops need to spare
        if where is None:
            below, n_inside, present = kernels.bracket(flat, least, without, low, bracket.high, inside)
        else:
            below, n_inside, present = kernels.bracket_where(flat, kernels.frozen(where), low, bracket.high, inside)
        if n_inside >= 0:
            break
    return Counted(below, inside[:n_inside].copy(), present)


def selected(parts: Sequence[Counted], ranks: Ranks) -> tuple[np.float32, np.float32] | None:
    """The two values whose ranks follow from the number of values; None where they are outside of the bracket."""
    below = sum(part.below for part in parts)
    first, last = (rank - below for rank in ranks(sum(part.present for part in parts)))
    inside = parts[0].inside if len(parts) == 1 else concatenated([part.inside for part in parts])
    if first < 0 or last >= inside.size:
        return None
    xp = namespace(inside)
    ordered = xp.partition(inside, first)  # for two ranks at once it is ten times slower
    low, high = numbers(ordered[first], xp.min(ordered[first + 1 :]) if last > first else ordered[first])
    return low, high


def median(values: NDArray[np.floating]) -> float:
    """Median of some values, of which none is NaN; NaN of nothing.

    One value is selected: for the two in the middle at once, `np.median` takes ten times as long.
    """
    n = values.size
    if n == 0:
        return np.nan
    xp = namespace(values)
    ordered = xp.partition(values.reshape(-1), n // 2)
    low, high = numbers(ordered[n // 2] if n % 2 else xp.max(ordered[: n // 2]), ordered[n // 2])
    return float(high if n % 2 else (low + high) / 2)


def percentile(values: Values, q: float, least: float = -np.inf) -> np.float32:
    """Percentile `q` (0 to 100) of the present values from `least` on, linearly interpolated; NaN of nothing."""
    return _percentile(values, sample(values), q, least)


def _percentile(values: Values, some: Values, q: float, least: float = -np.inf) -> np.float32:
    """Percentile of values of which a sample is given."""
    return _percentile_in(counted(values, bracket_of(some[some >= least], q / 100), least), values, q, least)


def _percentile_in(part: Counted | None, values: Values, q: float, least: float = -np.inf) -> np.float32:
    """Percentile of values of which some are given as they were counted."""
    if part is not None and part.present == 0:
        return np.float32(np.nan)
    pair = None if part is None else selected([part], lambda n: _around(n, q))
    if part is None or pair is None:
        part = counted(single(values), Bracket(), least)
        pair = selected([part], lambda n: _around(n, q))
    assert pair is not None
    return between(*pair, q / 100 * (part.present - 1) % 1)


def percentile_in_double(values: Values, q: float) -> float:
    """Percentile of values without NaN, interpolated in float64: what `np.percentile` finds for a list of them."""
    found = ends_of_all([counted(values, bracket_of(sample(values), q / 100))], q)
    if found is None:
        found = ends_of_all([counted(values, Bracket())], q)
    assert found is not None
    low, high, share = found
    step, share = high - low, np.float64(share)
    return float(low + step * share if share < 0.5 else high - step * (1 - share))


class Ends(NamedTuple):
    """The two values between which a percentile lies, and its place between them, from 0 to 1."""

    low: np.float32
    high: np.float32
    share: float


def ends_without_zeros(values: Values, q: float) -> Ends:
    """Between which of the present values that are not exactly 0 their percentile lies; NaN of nothing."""
    some = sample(values)
    found = ends_of_all([counted(values, bracket_of(some[some != 0], q / 100), without=0.0)], q)
    if found is None:
        found = ends_of_all([counted(values, Bracket(), without=0.0)], q)
    assert found is not None
    return found


def percentile_without_zeros(values: Values, q: float) -> np.float32:
    """Percentile of the present values that are not exactly 0; NaN of nothing."""
    return between(*ends_without_zeros(values, q))


def percentile_of_all(parts: Sequence[Counted], q: float) -> np.float32 | None:
    """Percentile of the values of several arrays; NaN of nothing, None where the bracket missed it."""
    found = ends_of_all(parts, q)
    return None if found is None else between(*found)


def ends_of_all(parts: Sequence[Counted], q: float) -> Ends | None:
    """Between which values of several arrays a percentile lies; NaN of nothing, None where the bracket missed it."""
    present = sum(part.present for part in parts)
    if present == 0:
        return Ends(np.float32(np.nan), np.float32(np.nan), 0.0)
    pair = selected(parts, lambda n: _around(n, q))
    return None if pair is None else Ends(*pair, q / 100 * (present - 1) % 1)


def _around(n: int, q: float) -> tuple[int, int]:
    below = int(q / 100 * (n - 1))
    return below, min(below + 1, n - 1)


def _middle(n: int) -> tuple[int, int]:
    return (n - 1) // 2, n // 2


def plane_thresholds(
    plane: NDArray[Any], agarose: NDArray[np.bool_], percentile_max: float, min_pixels: int = 1
) -> tuple[np.float32, np.float32]:
    """Floor and cap of one plane of any dtype.

    The cap is percentile `percentile_max` of the plane, the floor the median of the capped plane
    over agarose: NaN with fewer than `min_pixels` present pixels of agarose.
    """
    some = spread(plane).astype(np.float32)
    has, here = some == some, spread(agarose)
    of_all, of_agarose = _counted_twice(
        plane, agarose, bracket_of(some[has], percentile_max / 100), bracket_of(some[has & here], 0.5)
    )
    cap = _percentile_in(of_all, plane, percentile_max)
    return _median_in(of_agarose, plane, agarose, min_pixels, cap), cap


def _counted_twice(
    values: NDArray[np.generic], where: NDArray[np.bool_], of_all: Bracket, of_some: Bracket
) -> tuple[Counted | None, Counted | None]:
    """All values as they are counted, and those at `where`, in one pass; None where there are too many inside."""
    xp, kernels = namespace(values), kernels_for(values)
    flat = kernels.frozen(values if taken_as_it_is(values) else single(values))
    inside = [
        xp.empty(int(2 * bracket.share * flat.size) + kernels.BLOCK, dtype=np.float32) for bracket in (of_all, of_some)
    ]
    found = kernels.two_brackets(flat, kernels.frozen(where), of_all[:2], of_some[:2], *inside)
    of_all_values, of_some_values = (
        None if n_inside < 0 else Counted(below, values[:n_inside].copy(), present)
        for (below, n_inside, present), values in zip(found, inside, strict=True)
    )
    return of_all_values, of_some_values


def median_where(plane: Values, where: NDArray[np.bool_], fewest: int, cap: float | np.floating = np.inf) -> np.float32:
    """Median of the present values at `where`, each at most `cap`; NaN of fewer than `fewest`, or of none."""
    return _median(plane, where, spread(plane)[spread(where)], fewest, cap)


def _median(plane: Values, where: NDArray[np.bool_], some: Values, fewest: int, cap: float | np.floating) -> np.float32:
    """Median at `where`, of which a sample is given."""
    part = counted(plane, bracket_of(some[some == some], 0.5), where=where)
    return _median_in(part, plane, where, fewest, cap)


def _median_in(
    part: Counted | None, plane: Values, where: NDArray[np.bool_], fewest: int, cap: float | np.floating
) -> np.float32:
    """Median at `where`, of which some values are given as they were counted."""
    if part is not None and part.present < max(fewest, 1):
        return np.float32(np.nan)
    pair = None if part is None else selected([part], _middle)
    if pair is None:
        part = counted(single(plane), Bracket(), where=where)
        if part.present < max(fewest, 1):
            return np.float32(np.nan)
        pair = selected([part], _middle)
    assert pair is not None
    # Capping keeps the order, so the median of the capped plane is that of its two capped middle values.
    low, high = np.minimum(pair, np.float32(cap))
    return np.float32(low if low == high else np.float32(low + high) / np.float32(2))
