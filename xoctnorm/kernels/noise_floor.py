"""The noise floor: the value at which agarose and tissue tell the same, most likely."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.class_sums import ClassSums
from xoctnorm.kernels.classes import AGAROSE
from xoctnorm.kernels.drift_model import DriftModel, Spreads

_FLAT = 0.2887  # standard deviation of what may be anything from 0 to 1
_OPTIMISM = 2.0  # without a common level of agarose, errors on phantoms are twice what the curvature tells
_GOLDEN = 0.5 * (5**0.5 - 1)


def highest_floor(sums: ClassSums) -> float:
    """No floor is above the darkest agarose, or the darkest tissue, of a plane."""
    agarose = sums.mean[:, AGAROSE]
    agarose = agarose[np.isfinite(agarose)]
    darkest = float(np.nanmin(sums.mean))
    return min(darkest, float(np.quantile(agarose, 0.02))) if agarose.size else darkest


def most_likely_floor(model: DriftModel, spreads: Spreads, tied: NDArray[np.bool_]) -> tuple[float, float]:
    """Floor of highest restricted likelihood, and its standard error.

    Agarose and tissue see the same gains, jitter and response, agarose with a larger share of floor. Where the agarose
    of sections is tied to one level, gains tell most; where it is not, what happens within sections, jitter above all.
    """
    top = highest_floor(model.sums)
    floor, error = _least(lambda floor: model.objective(floor, spreads, tied), top)
    return floor, min(error if tied.any() else _OPTIMISM * error, _FLAT * top)


def _least(cost_of_floor: Callable[[float], float], top: float) -> tuple[float, float]:
    """Least of a cost between 0 and `top`, with a prior as wide as that, and its standard error by curvature."""
    known: dict[float, float] = {}

    def cost(q: float) -> float:
        if q not in known:
            known[q] = cost_of_floor(q * top) + ((q - 0.5) / _FLAT) ** 2
        return known[q]

    grid = np.linspace(0, 0.98, 9).tolist()
    i = int(np.argmin([cost(q) for q in grid]))
    low, high = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
    for _ in range(9):
        a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, b) if cost(a) < cost(b) else (a, high)
    best = (low + high) / 2
    step = 0.03
    middle = float(np.clip(best, step, 0.99 - step))
    curvature = (cost(middle - step) - 2 * cost(middle) + cost(middle + step)) / step**2
    error = np.sqrt(2 / curvature) if curvature > 0 else _FLAT
    return best * top, min(float(error), _FLAT) * top


def jackknife_error(model: DriftModel, spreads: Spreads, tied: NDArray[np.bool_], floor: float, error: float) -> float:
    """Standard error of the floor from leaving out one section after the other: one Newton step for each."""
    top = highest_floor(model.sums)
    half = max(error, 1e-3 * top)
    low, high = max(floor - half, 0.0), min(floor + half, 0.99 * top)
    middle = (low + high) / 2
    found = []
    for s in range(model.planes.n_sections):
        # A section that is left out keeps its place, with errors a hundred times as large.
        left_out = np.where(model.planes.section[:, None] == s, 100.0, np.broadcast_to(model.doubt, model.known.shape))
        without = model.doubted(left_out)
        costs = [without.objective(x, spreads, tied) for x in (low, middle, high)]
        curvature = costs[0] - 2 * costs[1] + costs[2]
        if curvature > 0:
            found.append(float(np.clip(0.5 * (costs[0] - costs[2]) / curvature, -6, 6)) * (middle - low))
    if len(found) < 3:
        return error
    moves = np.array(found)
    return float(np.sqrt((len(moves) - 1) / len(moves) * ((moves - moves.mean()) ** 2).sum()))
