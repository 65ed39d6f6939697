"""The noise floor: the value that makes agarose and tissue tell the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.class_sums import ClassSums
from xoctnorm.kernels.classes import AGAROSE
from xoctnorm.kernels.drift_model import DriftModel, Planes, Spreads

Series = NDArray[np.float64]

_FLAT = 0.2887  # standard deviation of what may be anything from 0 to 1
_OPTIMISM = 2.0  # jitter that is not normal, anatomy that is not smooth: on phantoms errors are twice the curvature's
_OWN = slice(0, 3)  # slots of the sets of the plane's own section
_GOLDEN = 0.5 * (5**0.5 - 1)


def highest_floor(sums: ClassSums) -> float:
    """No floor is above the darkest agarose, or the darkest tissue, of a plane."""
    agarose = sums.mean[:, AGAROSE]
    agarose = agarose[np.isfinite(agarose)]
    darkest = float(np.nanmin(sums.mean))
    return min(darkest, float(np.quantile(agarose, 0.02))) if agarose.size else darkest


def floor_by_cuts(model: DriftModel, spreads: Spreads, tied: NDArray[np.bool_]) -> tuple[float, float]:
    """Floor at which agarose and tissue agree on the gains of sections, and its standard error.

    The cost is what it costs to tie agarose to one level, and nothing else: the shapes of profiles depend on
    the floor as well, but a small share of pixels of a wrong class weighs more there than the floor does.
    """
    free = np.zeros_like(tied)

    def cost(floor: float) -> float:
        together, apart = (model.objective(floor, spreads, t) for t in (tied, free))
        return together - apart

    return _least(cost, highest_floor(model.sums))


def floor_by_jitter(sums: ClassSums, planes: Planes, spreads: Spreads) -> tuple[float, float]:
    """Floor at which agarose and tissue agree on the jitter of planes, and its standard error.

    It needs no level of agarose that is common to sections: the line along every section, and what is common to
    a depth, are taken off before the classes are compared.
    """
    top, mean = highest_floor(sums), sums.mean[:, _OWN]
    known = np.isfinite(mean)
    known &= known[:, :1] & (known.sum(axis=1) > 1)[:, None]
    if known.any(axis=1).sum() < 3 * planes.n_depths or planes.n_depths < 4:
        return unknown_floor(top)
    noise = sums.variance / np.maximum(sums.count[:, _OWN], 1)
    tissue = np.array([0, 1, 1]) * spreads.anatomy**2

    def cost(floor: float) -> float:
        signal = np.where(known, np.maximum(mean - floor, 1e-3 * mean), 1.0)
        logs = np.log(signal)
        weight = np.where(known, 1 / (noise * (np.where(known, mean, 1) / signal) ** 2 + tissue + 1e-7), 0.0)
        for column, here, w in zip(logs.T, known.T, weight.T, strict=True):
            column[here] = _without_means(
                column[here], w[here], planes.position[here], planes.section[here], planes.depth[here]
            )
        total = weight.sum(axis=1)
        shared = spreads.jitter**2 / (1 + spreads.jitter**2 * total)
        misfit = np.sum(weight * logs**2) - np.sum(shared * np.sum(weight * logs, axis=1) ** 2)
        log_det = np.sum(np.log(1 + spreads.jitter**2 * total)) - np.sum(np.log(weight[known]))
        return float(misfit + log_det + 2 * np.sum(np.log(signal[known])))

    floor, error = _least(cost, top)
    return floor, min(_OPTIMISM * error, _FLAT * top)


def unknown_floor(top: float) -> tuple[float, float]:
    """Anything from 0 to `top`."""
    return 0.5 * top, _FLAT * top


def _without_means(
    values: Series, weight: Series, position: Series, section: NDArray[np.int64], depth: NDArray[np.int64]
) -> Series:
    """Take off the line along every section and the mean of every depth."""
    out = values.copy()
    for _ in range(4):
        for s in np.unique(section):
            here = section == s
            line = np.polyfit(position[here], out[here], min(1, here.sum() - 1), w=np.sqrt(weight[here]))
            out[here] -= np.polyval(line, position[here])
        for d in np.unique(depth):
            here = depth == d
            out[here] -= np.average(out[here], weights=weight[here])
    return out


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
    middle, free = (low + high) / 2, np.zeros_like(tied)
    found = []
    for s in range(model.planes.n_sections):
        # A section that is left out keeps its place, with errors a hundred times as large.
        left_out = np.where(model.planes.section[:, None] == s, 100.0, np.broadcast_to(model.doubt, model.known.shape))
        without = model.doubted(left_out)
        costs = [without.objective(x, spreads, tied) - without.objective(x, spreads, free) for x in (low, middle, high)]
        curvature = costs[0] - 2 * costs[1] + costs[2]
        if curvature > 0:
            found.append(float(np.clip(0.5 * (costs[0] - costs[2]) / curvature, -6, 6)) * (middle - low))
    if len(found) < 3:
        return error
    moves = np.array(found)
    return float(np.sqrt((len(moves) - 1) / len(moves) * ((moves - moves.mean()) ** 2).sum()))
