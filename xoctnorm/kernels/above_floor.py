"""Percentiles, over several planes, of what is above the floor of each: counted before their divisor is known.

Cutting a plane at floor and cap, and dividing by a positive number, keep the order of its values. So the order
statistics of the corrected planes are those of the raw ones, corrected: results have the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.background import between
from xoctnorm.kernels.order_statistics import Bracket, Counted, Ends, bracket_of, counted, ends_of_all

Values = NDArray[np.float32]

_MOST_INSIDE = 0.1  # of the values: a bracket that is wider would keep too many
_FEW = 2**22  # values that may be kept all


class AboveFloor(NamedTuple):
    """What is above the floor of a plane, as differences from it: counted, and the least there can be."""

    counted: Counted
    least: np.float32


class EndsAbove(NamedTuple):
    """Between which differences a percentile of several planes lies, of how many, and the least there can be."""

    ends: Ends | None
    present: int
    least: np.float32

    def percentile(self, divisor: np.float32, fewest: int) -> float | None:
        """Percentile of what is above 0 after division; 0 of fewer than some, None where it cannot be told."""
        if self.least / divisor == 0:  # what becomes 0 was counted
            return None
        if self.present < fewest:
            return 0.0
        if self.ends is None:
            return None
        low, high, share = self.ends
        return float(between(low / divisor, high / divisor, share))


def bracket_above(
    samples: Sequence[Values], agarose: Sequence[NDArray[np.bool_]], fraction: float, n_values: int
) -> Bracket | None:
    """Where the order statistic lies, of samples of some planes, of which the median over agarose is the floor.

    None where that cannot be told, as without agarose in a sample, and the planes have too many values to keep all.
    """
    above, doubt = [], 0.0
    for values, where in zip(samples, agarose, strict=True):
        of_agarose = values[where & (values == values)]
        low, high, _ = bracket_of(of_agarose, 0.5)
        if not np.isfinite(high - low):
            return Bracket() if n_values <= _FEW else None
        doubt += (high - low) / 2
        cut = values - np.median(of_agarose)
        above.append(cut[cut > 0])
    some = np.concatenate(above)
    low, high, _ = bracket_of(some, fraction)
    # Floors are wrong by as much, on average.
    reach = doubt / len(samples) ** 1.5
    low, high = low - reach, high + reach
    share = np.count_nonzero((some >= low) & (some <= high)) / max(some.size, 1)
    return Bracket(low, high, share) if share <= _MOST_INSIDE or n_values <= _FEW else None


def counted_above(plane: Values, floor: np.float32, cap: np.float32, bracket: Bracket) -> AboveFloor:
    """Count what a plane has above its floor, which is 0 where it is NaN; values are at most the cap."""
    floor = np.float32(0) if np.isnan(floor) else floor
    if not cap > floor:
        return AboveFloor(Counted(0, np.empty(0, np.float32), 0), np.float32(np.inf))
    first = np.nextafter(floor, np.float32(np.inf))
    least = first - floor if floor != 0 else np.min(plane, where=plane > 0, initial=cap)
    low, high = (_around(floor, end, side) for end, side in ((bracket.low, -1), (bracket.high, 1)))
    if cap <= high:  # whatever is capped may lie inside
        high = np.inf
    part = counted(plane, Bracket(low, high, bracket.share), float(first))
    above = np.minimum(part.inside, cap) - floor
    inside = above[(above >= bracket.low) & (above <= bracket.high)]
    below = part.below + int(np.count_nonzero(above < bracket.low))
    return AboveFloor(Counted(below, inside, part.present), np.float32(least))


def _around(floor: np.float32, end: float, side: int) -> float:
    """A value beyond which the difference from the floor is beyond an end, whatever is rounded."""
    if not np.isfinite(end):
        return end
    value = float(floor) + end
    return value + side * 2 * float(np.spacing(np.float32(abs(value))) + np.spacing(np.float32(abs(end))))


def ends_above(parts: Sequence[AboveFloor], q: float) -> EndsAbove:
    """Put together what was counted of several planes."""
    of_planes = [part.counted for part in parts]
    present = sum(part.present for part in of_planes)
    return EndsAbove(ends_of_all(of_planes, q), present, np.min([part.least for part in parts]))
