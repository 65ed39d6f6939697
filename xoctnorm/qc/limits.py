"""Limits from which on a figure of merit is a warning or an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from xoctnorm.checks import number_problems
from xoctnorm.errors import listed, raise_problems

OK, WARNING, ERROR, UNKNOWN = "ok", "warning", "error", "unknown"
STATUSES = ("", OK, UNKNOWN, WARNING, ERROR)  # from best to worst


@dataclass(frozen=True)
class Limit:
    """From where on a figure is a warning, and an error.

    Attributes
    ----------
    warning, error
        In units of the figure.
    least
        Whether small values are bad.
    """

    warning: float
    error: float
    least: bool = False

    def status(self, value: float) -> str:
        """Of a value: what equals a limit is still within it; NaN is unknown."""
        if value != value:
            return UNKNOWN
        sign = -1 if self.least else 1
        for status, limit in ((ERROR, self.error), (WARNING, self.warning)):
            if sign * value > sign * limit:
                return status
        return OK


LIMITS: Mapping[str, Limit] = {
    "agarose_coverage": Limit(0.01, 0.0, least=True),
    "tissue_coverage": Limit(0.05, 0.005, least=True),
    "mask_agreement": Limit(0.75, 0.65, least=True),
    "otsu_separability": Limit(0.68, 0.64, least=True),
    "background_drift": Limit(0.02, 0.1),
    "clipped_high": Limit(0.01, 0.1),
    "clipped_low": Limit(0.05, 0.3),
    "saturated_planes": Limit(0, 0.1),
    "empty_planes": Limit(0, 0.2),
    "boundary_step": Limit(0.02, 0.06),
    "block_step": Limit(0.1, 0.3),
    "left_out_error": Limit(0.02, 0.06),
    "tissue_variation": Limit(0.1, 0.3),
    "agarose_variation": Limit(0.1, 0.4),
    "speckle_change": Limit(0.05, 0.2),
    "residual_decay": Limit(0.3, 1.0),
    "cjv": Limit(5.0, 20.0),
    "snr": Limit(3.0, 0.0, least=True),
    "divisor_outlier": Limit(1.3, 2.5),
    "clamped_factors": Limit(0, 0.5),
    "recorded_warnings": Limit(0, math.inf),
    "flagged_sections": Limit(0, math.inf),
    "unmeasured_sections": Limit(0.2, 0.5),
}
"""Default limits, in units of the figures."""


def chosen_limits(given: Mapping[str, tuple[float, float] | None] | None) -> dict[str, Limit]:
    """The default limits, with those that the user gave in their place; None takes a limit away."""
    chosen = dict(LIMITS)
    if given is None:
        return chosen
    if not isinstance(given, Mapping):
        raise_problems("qc", [f"limits={given!r}: needs a dict such as {{'boundary_step': (0.02, 0.06)}}"])
    problems = []
    for name, pair in given.items():
        if name not in LIMITS:
            problems.append(
                f"limits has {name!r}, which is no figure with limits: there are {listed(list(LIMITS), 99)}"
            )
            continue
        if pair is None:
            del chosen[name]
            continue
        found = _pair_problems(name, pair)
        problems += found
        if not found:
            limit = Limit(float(pair[0]), float(pair[1]), LIMITS[name].least)
            if (limit.error < limit.warning) if not limit.least else (limit.error > limit.warning):
                side = "below" if limit.least else "above"
                problems.append(
                    f"limits[{name!r}]={pair!r}: needs (warning, error), the error {side} the warning or equal to it, "
                    f"as the default {(LIMITS[name].warning, LIMITS[name].error)}"
                )
            chosen[name] = limit
    raise_problems("qc", problems)
    return chosen


def _pair_problems(name: str, pair: object) -> list[str]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return [f"limits[{name!r}]={pair!r}: needs two numbers, (warning, error), or None"]
    finite = [value for value in pair if value not in (math.inf, -math.inf)]
    return [problem for value in finite for problem in number_problems(f"limits[{name!r}]", value, -math.inf)]
