"""Planes that blend two sections: their gain, their response to depth, and their jitter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xoctnorm.corrections.drift_reads import Observed
from xoctnorm.kernels.class_sums import SLOTS, THROUGH, ClassSums
from xoctnorm.kernels.classes import TISSUES
from xoctnorm.kernels.drift import Drift

Numbers = NDArray[np.float64]

_NEAR = 0.5  # share of a section whose planes tell how bright the tissue of its blended planes is
_CHANGE = 0.002  # by which tissue changes by itself from a plane to those near it


def blended_gain(observed: Observed, log_gain: Numbers, profile: Numbers) -> tuple[Numbers, Numbers]:
    """Log gain of every plane, and response to its depth, where planes blend two sections.

    Beyond the depths of the profile, as in a longer section that is left out, its last one counts.
    """
    index, weight, last = observed.section_index, observed.blend_weight, len(profile) - 1
    gain, before = np.exp(log_gain[index]), np.exp(log_gain[np.maximum(index - 1, 0)])
    both = weight * gain + (1 - weight) * before
    depth, deeper = np.minimum(observed.depth, last), np.clip(_depth_before(observed), 0, last)
    response = (weight * gain * profile[depth] + (1 - weight) * before * profile[deeper]) / both
    return np.log(both), response


def _depth_before(observed: Observed) -> NDArray[np.int64]:
    """Depth at which the section before shows the position of every plane, or would show it."""
    index, position = observed.section_index, observed.position
    rising = 1 if position[-1] >= position[0] else -1
    last = np.flatnonzero(np.diff(index, append=-1))[np.maximum(index - 1, 0)]
    further = np.rint(rising * (position - position[last])).astype(np.int64)
    depth: NDArray[np.int64] = observed.depth[last] + further
    return depth


def blended_jitter(
    observed: Observed, drift: Drift, log_gain: Numbers, log_jitter: Numbers, floor: Numbers
) -> tuple[Numbers, Numbers]:
    """Log jitter of every plane, that of blended ones filled in, and its error; NaN where it is not filled in.

    Parameters
    ----------
    log_gain
        Of every section.
    log_jitter, floor
        Of every plane.

    Notes
    -----
    It is what makes the tissue of the plane as bright as a blend should be, by what the same pixels are like in the
    planes of the section that follow. Pixels that keep their class across the cut go first: the light is of both.
    """
    filled, error = log_jitter.copy(), np.full(len(log_jitter), np.nan)
    if observed.blend_sums is None:
        return filled, error
    expected = np.zeros((len(log_jitter), len(SLOTS)))
    for slot, (kind, *_) in enumerate(SLOTS):
        gain, response = blended_gain(observed, log_gain, np.exp(drift.profile[kind]))
        expected[:, slot] = gain + np.log(response) + log_jitter
    sums, planes = observed.blend_sums, np.flatnonzero(np.isin(observed.section_index, observed.kept))
    away, variance = _against(sums, expected[planes], floor[planes])
    pure, section = observed.used[planes], observed.section_index[planes]
    spread = float(np.var(drift.log_jitter))
    for row in np.flatnonzero(~pure).tolist():
        near = np.flatnonzero(pure & (section == section[row]))
        near = near[: max(1, round(_NEAR * near.size))]
        found = [_step(away, variance, row, near, kind) for kind in TISSUES]
        weights = np.array([1 / error_squared for _, error_squared in found])
        if weights.sum() > 0:
            jitter = sum(w * step for w, (step, _) in zip(weights, found, strict=True)) / weights.sum()
            left = 1 / (1 / spread + weights.sum()) if spread > 0 else 0.0
            filled[planes[row]], error[planes[row]] = jitter * left * weights.sum(), np.sqrt(left)
    return filled, error


def _against(sums: ClassSums, expected: Numbers, floor: Numbers) -> tuple[Numbers, Numbers]:
    """Log of what is seen over what is expected, NaN where nothing is seen, and its variance; `(plane, slot)`."""
    signal = sums.mean - floor[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        away = np.where(signal > 0, np.log(signal), np.nan) - expected
        variance = sums.variance[[slot.kind for slot in SLOTS]] / sums.count * (sums.mean / signal) ** 2
    return away, variance


def _step(away: Numbers, variance: Numbers, row: int, near: NDArray[np.int64], kind: int) -> tuple[float, float]:
    """How a class steps from the planes that follow to a blended one, and the variance of that; else 0 and infinity."""
    for slot in reversed([i for i, of in enumerate(THROUGH) if of.kind == kind]):
        known = near[np.isfinite(away[near, slot])]
        if known.size and np.isfinite(away[row, slot]):
            error = variance[row, slot] + float(variance[known, slot].mean()) / known.size + _CHANGE**2
            return float(away[row, slot] - away[known, slot].mean()), float(error)
    return 0.0, np.inf
