"""Gains of sections, jitter of planes, noise floor and depth profile, with standard errors and flags."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.class_sums import ClassSums
from xoctnorm.kernels.classes import AGAROSE
from xoctnorm.kernels.drift_model import DriftModel, Solution, Spreads
from xoctnorm.kernels.drift_unknowns import Planes
from xoctnorm.kernels.noise_floor import highest_floor, jackknife_error, most_likely_floor

Series = NDArray[np.float64]
Bool = NDArray[np.bool_]

_MOST_SECTIONS_FOR_JACKKNIFE = 40
_AGAROSE_CHI2 = 4.0  # beyond this agarose is no reference
_AGAROSE_STEPS = 0.03  # nor where it steps by more than this
_AGAROSE_EXCESS = 3.0  # standard errors over the floor that agarose must have
_FEWEST_TIED = 3  # sections with agarose: two agree at some floor, whatever they are
_STANDS_OUT = 4.0  # standard deviations: such a section's agarose is left out
_TOLD_FROM_0 = 2.0  # standard errors that a small floor must have, or it is taken as 0
_SMALL_FLOOR = 0.1  # of the signal of agarose: a larger floor that is not known is not likely 0
_WILD = 0.3  # jitter, while odd planes are looked for
_ODD = 6.0  # robust standard deviations
_LEAST_ODD = 0.15
_BOUNDS = {
    "anatomy": (2e-4, 0.05),
    "slope": (2e-4, 0.02),
    "bump": (2e-4, 0.2),
    "bend": (2e-4, 0.2),
    "attenuation": (1e-4, 0.05),
    "agarose": (2e-4, 0.3),
    "jitter": (2e-4, 0.3),
}


@dataclass(frozen=True)
class Drift:
    """What was estimated.

    Attributes
    ----------
    log_gain, gain_error
        Of every section, mean 0.
    log_jitter, jitter_error
        Of every plane.
    log_bend
        What the depth profile of its section has of its own, of every plane.
    profile, profile_error
        Log depth profile of agarose, darker and brighter tissue, `(class, depth)`, mean 0.
    noise_floor, floor_error
        Per plane where it was given so. A small one that is not told from 0 is 0.
    floor_found
        What it was found to be before that; NaN where it was given, or nothing tells it.
    agarose_weight
        For every section, 1 where its agarose counts, 0 where it does not.
    agarose_chi2, chi2
        Reduced χ² of agarose against tissue, and of everything.
    agarose_steps
        Standard deviation of the log level of agarose about what tissue says.
    agarose_excess
        Standard errors by which agarose is above the floor.
    floor_identified
        Whether the standard error of the floor is below a fifth of the signal of agarose.
    agarose_asked
        Whether the method takes gains from agarose.
    agarose_rejected
        Whether there is agarose that is not used in any section, though it would be needed.
    """

    log_gain: Series
    gain_error: Series
    log_jitter: Series
    log_bend: Series
    jitter_error: Series
    profile: Series
    profile_error: Series
    noise_floor: float | Series
    floor_error: float
    floor_found: float
    agarose_weight: Series
    agarose_chi2: float
    agarose_steps: float
    agarose_excess: float
    chi2: float
    floor_identified: bool
    agarose_rejected: bool
    agarose_asked: bool


def estimate(
    sums: ClassSums, planes: Planes, method: str = "joint", noise_floor: float | Series | None = None
) -> Drift:
    """Estimate drift by `"agarose"`, `"continuity"`, or `"joint"` from both; None for `noise_floor` finds it."""
    model, spreads = DriftModel(sums.through(), planes), Spreads()
    n = planes.n_sections
    has = np.isfinite(_agarose_means(sums, planes))
    nothing = np.zeros(n, bool)
    tied = has if has.sum() >= _FEWEST_TIED else nothing
    floor, error = _floor(model, spreads, tied, noise_floor)
    model = replace(model, odd=_odd_planes(model, spreads, floor))
    if tied.any():
        model = _doubting(model, replace(spreads, anatomy=0.005), floor)
        tied = tied & ~_outstanding(model, spreads, noise_floor)
        floor, error = _floor(model, spreads, tied, noise_floor)
    spreads = _fitted_spreads(model, spreads, floor, tied)
    if tied.any():  # what is known of anatomy only now may explain why a section stood out
        tied = tied | _explained(model.solve(floor, spreads, nothing), tied, has)
    floor, error = _floor(model, spreads, tied, noise_floor)
    chi2, steps, excess = np.nan, np.nan, np.nan
    if tied.any():
        chi2, steps = _against_tissue(model.solve(floor, spreads, nothing), tied)
        level = np.nanmedian(_agarose_means(sums, planes, floor))
        excess = float(level / error) if error > 0 else np.copysign(np.inf, level)
        if chi2 > _AGAROSE_CHI2 or spreads.agarose > _AGAROSE_STEPS or excess < _AGAROSE_EXCESS or level <= 0:
            tied = nothing
            floor, error = _floor(model, Spreads(), tied, noise_floor)
            spreads = _fitted_spreads(model, Spreads(), floor, tied)
    if tied.any() and noise_floor is None and n <= _MOST_SECTIONS_FOR_JACKKNIFE:
        error = max(error, jackknife_error(model, spreads, tied, float(np.mean(floor)), error))
    model = _with_sets_around_cuts(model, sums, spreads, floor)
    drift = _drift(model, spreads, tied, _told_from_0(model, floor, error), error, method, (chi2, steps, excess))
    return replace(drift, floor_found=float(floor)) if noise_floor is None and has.any() else drift


def _drift(
    model: DriftModel,
    spreads: Spreads,
    tied: Bool,
    floor: float | Series,
    error: float,
    method: str,
    agarose: tuple[float, float, float],
) -> Drift:
    """Solve at the floor, and say how sure everything is."""
    n = model.planes.n_sections
    used = np.zeros(n, bool) if method == "continuity" else tied
    if method == "agarose":
        model = model.without_links(used)
    found = model.solve(floor, spreads, used)
    step = max(error, 1e-3 * highest_floor(model.sums))
    way = -step if np.min(floor) >= step else step
    moved = model.solve(floor + way, spreads, used)
    grow = max(1.0, found.chi2)
    n_planes = np.bincount(model.planes.section, minlength=n)
    own = np.diag(_centred(found.gain_cov)) - spreads.jitter**2 / n_planes * (1 - 1 / n)
    by_floor = (moved.gain - found.gain) / step * error
    profile_by_floor = (moved.profile - found.profile) / step * error
    profile_own = np.stack([np.diag(_centred(cov)) for cov in found.profile_cov])
    # Jitter that is common to one depth of all sections can't be told from the profile.
    hidden = spreads.jitter**2 / n
    levels = _agarose_means(model.sums, model.planes, floor)
    agarose_level = float(np.nanmedian(levels)) if np.isfinite(levels).any() else np.nan
    return Drift(
        log_gain=found.gain,
        gain_error=np.sqrt(np.maximum(own, 1e-10) * grow + by_floor**2),
        log_jitter=found.jitter,
        log_bend=found.bend,
        jitter_error=np.sqrt(found.jitter_var * grow + hidden),
        profile=found.profile,
        profile_error=np.sqrt(np.maximum(profile_own, 0) * grow + profile_by_floor**2),
        noise_floor=floor,
        floor_error=error,
        floor_found=np.nan,
        agarose_weight=used.astype(float),
        agarose_chi2=agarose[0],
        agarose_steps=agarose[1],
        agarose_excess=agarose[2],
        chi2=found.chi2,
        floor_identified=bool(error <= 0.2 * agarose_level),
        agarose_asked=method != "continuity",
        agarose_rejected=bool(np.isfinite(agarose[0]) and not tied.any() and method != "continuity"),
    )


def _floor(
    model: DriftModel, spreads: Spreads, tied: Bool, given: float | Series | None
) -> tuple[float | Series, float]:
    if given is not None:
        return given, 0.0
    if np.isfinite(model.sums.mean[:, AGAROSE]).any():
        return most_likely_floor(model, spreads, tied)
    return 0.0, 0.2887 * highest_floor(model.sums)


def _told_from_0(model: DriftModel, floor: float | Series, error: float) -> float | Series:
    """The floor, or 0 where it is small and may as well be 0: then subtracting it would only spoil ratios."""
    if error == 0 or np.ndim(floor) > 0 or floor == 0:  # it was given, or is 0 without agarose
        return floor
    signal = float(np.nanmedian(_agarose_means(model.sums, model.planes, floor)))
    return floor if floor > min(_TOLD_FROM_0 * error, _SMALL_FLOOR * signal) else 0.0


def _agarose_means(sums: ClassSums, planes: Planes, floor: float | Series = 0.0) -> Series:
    """Mean of agarose over the planes of every section, above the floor; NaN where there is none."""
    above = sums.mean[:, AGAROSE] - floor
    known = np.isfinite(above)
    total = np.bincount(planes.section[known], above[known], minlength=planes.n_sections)
    count = np.bincount(planes.section[known], minlength=planes.n_sections)
    mean: Series = np.divide(total, count, out=np.full(planes.n_sections, np.nan), where=count > 0)
    return mean


def _centred(cov: Series) -> Series:
    p = np.eye(len(cov)) - 1 / len(cov)
    centred: Series = p @ cov @ p
    return centred


def _odd_planes(model: DriftModel, spreads: Spreads, floor: float | Series) -> Bool:
    """Planes whose jitter stands out: saturated, dim or damaged ones."""
    nothing, odd = np.zeros(model.planes.n_sections, bool), model.odd
    for _ in range(2):
        jitter = replace(model, odd=odd).solve(floor, replace(spreads, jitter=_WILD), nothing).jitter
        spread = 1.4826 * float(np.median(np.abs(jitter - np.median(jitter))))
        odd = np.abs(jitter - np.median(jitter)) > max(_ODD * spread, _LEAST_ODD)
    return odd if odd.mean() < 0.2 else np.zeros_like(odd)


def _doubting(model: DriftModel, spreads: Spreads, floor: float | Series) -> DriftModel:
    """Doubt sets whose planes do not follow from one level: pixels there changed their class."""
    nothing = np.zeros(model.planes.n_sections, bool)
    mean = model.sums.mean
    signal = np.maximum(mean - np.reshape(floor, (-1, 1)), 1e-3 * mean)
    expected = (
        model.sums.variance[model.kind] / np.maximum(model.sums.count, 1) * (mean / signal) ** 2 + spreads.anatomy**2
    )
    key = model.set_number
    for _ in range(3):
        squares = model.solve(floor, spreads, nothing).residual ** 2 / expected
        doubt = np.ones_like(mean)
        for which in np.unique(key[key >= 0]):
            here = key == which
            doubt[here] = max(1.0, float(np.mean(squares[here]) / 3) ** 0.5)
        model = model.doubted(doubt)
    return model


def _with_sets_around_cuts(model: DriftModel, sums: ClassSums, spreads: Spreads, floor: float | Series) -> DriftModel:
    """The same with sets around cuts, doubted as others are.

    They say more of what cuts change. What is found by small differences, the floor above all, is told without them.
    """
    if not np.isfinite(sums.mean[:, model.n_slots :]).any():
        return model
    everything = _doubting(replace(model, sums=sums, doubt=np.ones(1)), spreads, floor)
    doubt = everything.doubt.copy()
    doubt[:, : model.n_slots] = model.doubt
    return everything.doubted(doubt)


def _outstanding(model: DriftModel, spreads: Spreads, given: float | Series | None) -> Bool:
    """Sections whose agarose stands out, at the floor where the bulk of the sections agrees best."""
    n = model.planes.n_sections
    top, best, found = highest_floor(model.sums), np.inf, np.zeros(n, bool)
    for floor in [given] if given is not None else np.linspace(0, 0.96, 13) * top:
        fit = model.solve(floor, spreads, np.zeros(n, bool))
        known = np.flatnonzero(np.isfinite(fit.medium))
        if len(known) < 4:
            return found
        away = fit.medium[known] - np.median(fit.medium[known])
        spread = float(np.quantile(np.abs(away), 0.7)) / 1.036
        # A floor near agarose magnifies everything: compare in units of intensity.
        level = float(np.exp(np.median(fit.medium[known])))
        if spread * level < best:
            best = spread * level
            error = np.sqrt(np.diag(_centred(fit.medium_cov)))
            out = np.abs(away) > np.maximum(_STANDS_OUT * np.maximum(spread, error), 0.05)
            found = np.isin(np.arange(n), known[out])
    return found if found.sum() <= n / 3 else np.zeros(n, bool)


def _explained(apart: Solution, tied: Bool, has: Bool) -> Bool:
    """Sections that were left out, and whose agarose is as far from that of the others as tissue lets expect."""
    medium, error = np.full((2, len(tied)), np.nan)
    known = np.isfinite(apart.medium)
    medium[known] = apart.medium[known] - np.mean(apart.medium[known & tied])
    error[known] = np.sqrt(np.diag(_centred(apart.medium_cov)))
    explained: Bool = has & ~tied & (np.abs(medium) < _STANDS_OUT * error)
    return explained


def _fitted_spreads(model: DriftModel, start: Spreads, floor: float | Series, tied: Bool) -> Spreads:
    """Standard deviations of jitter, anatomy and agarose by restricted likelihood, coordinate by coordinate."""
    names = ["anatomy", "slope", "bump", "bend", "attenuation", *(["agarose"] if tied.any() else []), "jitter"]
    spreads = start

    @cache  # the last round of each step tries again what the round before it tried
    def cost(trial: Spreads) -> float:
        # A weak prior keeps what the data do not tell where it was.
        weak = sum((np.log(getattr(trial, k) / getattr(start, k)) / 2) ** 2 for k in names if k != "jitter")
        return model.objective(floor, trial, tied) + float(weak)

    best, step = cost(spreads), 0.7
    while step > 0.15:
        moved = False
        for name in names:
            for way in (step, -step):
                value = float(np.clip(getattr(spreads, name) * np.exp(way), *_BOUNDS[name]))
                trial = replace(spreads, **{name: value})
                if value != getattr(spreads, name) and (now := cost(trial)) < best - 1e-3:
                    best, spreads, moved = now, trial, True
                    break
        step = step if moved else step / 2
    return spreads


def _against_tissue(apart: Solution, tied: Bool) -> tuple[float, float]:
    """Reduced χ² of the level of agarose, which ought to be one, where tissue alone says what gains are; its spread."""
    known = np.isfinite(apart.medium)
    rows = tied[known]
    delta = apart.medium[known][rows]
    delta = delta - delta.mean()
    cov = _centred(apart.medium_cov[np.ix_(rows, rows)] + Spreads.agarose**2 * np.eye(int(rows.sum())))
    chi2 = float(delta @ np.linalg.pinv(cov, rcond=1e-8) @ delta) / max(int(rows.sum()) - 2, 1)
    return chi2, float(delta.std())
