"""From the estimates of the drift model to numbers for every plane and section, and what to say of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.agarose import SECTIONS
from xoctnorm.corrections.blends import blended_gain, blended_jitter
from xoctnorm.corrections.drift_reads import Observed
from xoctnorm.corrections.mistaken import dark_is_agarose, decaying_agarose, mistaken_dark
from xoctnorm.errors import listed
from xoctnorm.kernels.classes import BRIGHT, DARK
from xoctnorm.kernels.drift import Drift
from xoctnorm.volume import Volume

Numbers = NDArray[np.float64]

CLASS_NAMES = ("agarose", "dark", "bright")
_DARK_SHARE = 0.25  # of the tissue: a darker class with less is a corner or a rim
_LEAST_SHARE = 0.1  # the same where its profile is known well
_USABLE = 0.02  # standard error of a log profile
_WANDERS = 0.01  # standard deviation of what profiles of sections have of their own
_UNSURE = 0.1  # standard error of a log gain beyond which it rests on the neighbours


@dataclass(frozen=True)
class PlaneNumbers:
    """Estimates for every plane and section of the volume.

    Attributes
    ----------
    log_gain, log_jitter, factor_error
        Of every plane; the error is that of their sum.
    section_gain, section_gain_error, agarose_weight
        Of every section.
    depth_gain
        Of every plane.
    noise_floor, noise_floor_error
        One number, or one for every plane.
    profile, profile_error
        Depth profile of every class, brightest depth 1, and its relative error, `(class, depth)`.
    flags
        Of every section.
    agarose_chi2, model_chi2
        Reduced χ² of agarose against tissue, and of all observations.
    by_bright_tissue
        Whether the brighter tissue is the reference for want of darker tissue.
    doubts
        What speaks against the classes that flattening rests on, for the user.
    decisions, remarks
        For the record; for the user.
    """

    log_gain: Numbers
    log_jitter: Numbers
    factor_error: Numbers
    section_gain: Numbers
    section_gain_error: Numbers
    agarose_weight: Numbers
    depth_gain: Numbers
    noise_floor: float | Numbers
    noise_floor_error: float
    profile: Numbers
    profile_error: Numbers
    flags: list[list[str]]
    agarose_chi2: float = np.nan
    model_chi2: float = np.nan
    by_bright_tissue: bool = False
    doubts: list[str] = field(default_factory=list)
    decisions: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def say_of_all(self, flag: str, remarks: list[str]) -> None:
        """Flag all sections, where there is something to remark."""
        self.remarks.extend(remarks)
        for flagged in self.flags if remarks else []:
            flagged.append(flag)

    def notes(self, labels: Sequence[Hashable], *, depth: bool, gains: bool) -> list[str]:
        """What the user should know, flags of sections included."""
        said = {
            "bridged": "nothing tells the gain for sure, so it rests on the sections around it" if gains else None,
            "few_voxels": "no tissue keeps its class through the section" if gains else None,
            "clamped": "the depth gain ends at max_depth_gain" if depth else None,
        }
        notes = [*self.remarks, *(self.doubts if depth else [])]
        if depth and self.by_bright_tissue:
            notes.append(
                "the brighter tissue is the reference of the depth profile, since hardly any darker tissue keeps its "
                "class; say reference_tissue= to choose, for instance where volumes are to be compared"
            )
        for flag, text in said.items():
            having = [label for label, flags in zip(labels, self.flags, strict=True) if flag in flags]
            if having and text is not None:
                notes.append(f"section {listed(having)}: {text}")
        return notes


def leave_alone(observed: Observed, floor: float | Numbers | None, flags: list[str]) -> PlaneNumbers:
    """Numbers that change nothing but a floor that is given."""
    nothing, n = np.zeros(len(observed.used)), _n_sections(observed)
    profile = np.ones((len(CLASS_NAMES), observed.depth.max() + 1))
    return PlaneNumbers(
        log_gain=nothing,
        log_jitter=nothing,
        factor_error=nothing,
        section_gain=np.ones(n),
        section_gain_error=np.full(n, np.nan),
        agarose_weight=np.zeros(n),
        depth_gain=np.ones(len(observed.used)),
        noise_floor=_everywhere(0.0 if floor is None else floor, observed),
        noise_floor_error=np.nan,
        profile=profile,
        profile_error=np.full_like(profile, np.nan),
        flags=[list(flags) for _ in range(n)],
    )


def planes_of(observed: Observed, drift: Drift, reference: str, max_depth_gain: float) -> PlaneNumbers:
    """Spread estimates over all planes and sections, also over those that took no part."""
    n, kept, used = _n_sections(observed), observed.kept, observed.used
    index = observed.section_index
    sure = drift.gain_error <= _UNSURE
    guessed = sure.sum() <= len(kept) / 2
    if guessed:
        drift = replace(drift, log_gain=np.zeros(len(kept)), log_jitter=np.zeros(used.sum()))
        sure[:] = True
    log_gain = np.interp(observed.section_position, observed.section_position[kept[sure]], drift.log_gain[sure])
    error = np.full(n, np.inf)
    error[kept] = drift.gain_error
    log_jitter, jitter_error = _jitter_everywhere(observed, drift, log_gain, guessed)
    flags, decisions, remarks = _judge(observed, drift, error)
    error = np.where(np.isfinite(error), error, np.nanmax(np.append(drift.gain_error, log_gain.std())))
    if guessed:
        flags = [["left_alone" if flag == "bridged" else flag for flag in some] for some in flags]
        remarks.append(
            f"gains of half of the sections or more are not known (± {np.median(drift.gain_error):.0%}), so gains and "
            "jitter are left alone: does tissue continue across the cuts, and are sections right?"
        )
    weight = np.zeros(n)
    weight[kept] = drift.agarose_weight

    profile = np.exp(drift.profile - drift.profile.max(axis=1, keepdims=True))
    mistaken = dark_is_agarose(observed, drift)
    kind, share = _reference(observed, drift, reference, without_dark=mistaken)
    doubts = []
    for flag, doubt in (
        ("dark_tissue_like_agarose", mistaken_dark(CLASS_NAMES[kind]) if mistaken else None),
        ("agarose_like_tissue", None if mistaken else decaying_agarose(drift)),
    ):
        if doubt is not None:
            doubts.append(doubt)
            for flagged in flags:
                flagged.append(flag)
    decisions.append(
        f"depth profile of the {CLASS_NAMES[kind]}er tissue, {share:.0%} of the tissue that keeps its class"
    )
    blended, response = blended_gain(observed, log_gain, profile[kind])
    depth_gain = np.ones(len(used))
    if profile.shape[1] > 1:
        depth_gain = 1 / response
        depth_gain[used] *= np.exp(-drift.log_bend)
    clamped = depth_gain > max_depth_gain
    for s in np.unique(index[clamped]):
        flags[s].append("clamped")
    return PlaneNumbers(
        log_gain=blended,
        log_jitter=log_jitter,
        factor_error=np.hypot(error[index], jitter_error),
        section_gain=np.exp(log_gain),
        section_gain_error=np.exp(log_gain) * error,
        agarose_weight=weight,
        depth_gain=np.minimum(depth_gain, max_depth_gain),
        noise_floor=_everywhere(drift.noise_floor, observed),
        noise_floor_error=drift.floor_error,
        profile=profile,
        profile_error=drift.profile_error,
        flags=flags,
        agarose_chi2=drift.agarose_chi2,
        model_chi2=drift.chi2,
        by_bright_tissue=reference == "auto" and kind == BRIGHT and share < 1 and not mistaken,
        doubts=doubts,
        decisions=decisions,
        remarks=remarks,
    )


def tables(numbers: PlaneNumbers, observed: Observed, volume: Volume) -> xr.Dataset:
    """Everything but what acts on planes, as variables."""
    floor = np.asarray(numbers.noise_floor, np.float32)
    n_depths = int(observed.depth.max()) + 1
    # Depths that only sections show that take no part are not known.
    unknown = np.full((len(CLASS_NAMES), n_depths - numbers.profile.shape[1]), np.nan)
    profile, error = (np.hstack([one, unknown]) for one in (numbers.profile, numbers.profile_error))
    return xr.Dataset(
        {
            "noise_floor": volume.per_plane(floor) if floor.ndim else ((), floor),
            "noise_floor_se": ((), np.float32(numbers.noise_floor_error)),
            "section_gain": (SECTIONS, numbers.section_gain),
            "section_gain_se": (SECTIONS, numbers.section_gain_error),
            "agarose_weight": (SECTIONS, numbers.agarose_weight),
            "section_flags": (SECTIONS, np.array([" ".join(flags) for flags in numbers.flags])),
            "depth_profile": (("tissue", "plane_depth"), profile),
            "depth_profile_se": (("tissue", "plane_depth"), profile * error),
            "depth_below_cut": volume.per_plane(observed.depth),
            "agarose_chi2": ((), np.float32(numbers.agarose_chi2)),
            "model_chi2": ((), np.float32(numbers.model_chi2)),
        },
        coords={
            "tissue": ("tissue", np.array(CLASS_NAMES)),
            "plane_depth": ("plane_depth", np.arange(n_depths)),
        },
    )


def _n_sections(observed: Observed) -> int:
    return len(observed.section_position)


def _jitter_everywhere(observed: Observed, drift: Drift, log_gain: Numbers, guessed: bool) -> tuple[Numbers, Numbers]:
    """Jitter of all planes and its error: 0, and as large as jitter is, where nothing tells it."""
    used = observed.used
    unknown = float(np.hypot(np.median(drift.jitter_error), np.std(drift.log_jitter)))
    log_jitter, error = np.zeros(len(used)), np.full(len(used), unknown)
    log_jitter[used], error[used] = drift.log_jitter, drift.jitter_error
    if not guessed:  # else jitter is left alone
        floor = np.broadcast_to(_everywhere(drift.noise_floor, observed), len(used))
        log_jitter, of_blends = blended_jitter(observed, drift, log_gain, log_jitter, floor)
        error = np.where(np.isfinite(of_blends), of_blends, error)
    return log_jitter, error


def _everywhere(floor: float | Numbers, observed: Observed) -> float | Numbers:
    """A floor of the planes that were used, for all planes: that of the nearest one that was used."""
    if np.ndim(floor) == 0:
        return float(floor)
    used = np.flatnonzero(observed.used)
    return np.interp(np.arange(len(observed.used)), used, floor)


def _reference(observed: Observed, drift: Drift, wanted: str, *, without_dark: bool) -> tuple[int, float]:
    """The class whose profile is divided out, and its share of the tissue that keeps its class."""
    counts = [float(observed.sums.count[:, kind].sum()) for kind in (DARK, BRIGHT)]
    shares = np.array(counts) / max(sum(counts), 1)
    if wanted == "auto":
        known = float(np.median(drift.profile_error[DARK])) <= _USABLE
        enough = shares[0] >= (_LEAST_SHARE if known else _DARK_SHARE)
        kind = DARK if enough and not without_dark else BRIGHT
    else:
        kind = {"dark": DARK, "bright": BRIGHT}[wanted]
        if shares[kind - 1] == 0:
            kind = BRIGHT if kind == DARK else DARK
    return kind, float(shares[kind - 1])


def _judge(observed: Observed, drift: Drift, error: Numbers) -> tuple[list[list[str]], list[str], list[str]]:
    """Flags of sections, decisions for the record and remarks for the user."""
    n, kept = _n_sections(observed), observed.kept
    flags: list[list[str]] = [[] for _ in range(n)]
    if observed.partial:
        flags[0].append("partial_section")
    seen = np.isfinite(observed.sums.through().mean)
    for row, s in enumerate(kept):
        here = observed.layout.section == row
        if seen[here, 0].any() and drift.agarose_weight[row] == 0 and drift.agarose_asked:
            flags[s].append("agarose_not_a_reference")
        if not seen[here][:, 1:].any():
            flags[s].append("few_voxels")
    for s in np.flatnonzero(error > _UNSURE):
        flags[s].append("bridged" if s in kept else "excluded")
    remarks = []
    n_used = int(drift.agarose_weight.sum())
    wander = float(np.std(drift.log_bend))
    if wander > _WANDERS:
        remarks.append(
            f"the depth profile of sections differs by {wander:.1%} from the one that they share, as where the focus "
            "wanders: gains of sections hold for their mean over depth, and flattening takes each section's own profile"
        )
        for flagged in flags:
            flagged.append("profile_of_its_own")
    decisions = [
        f"agarose against tissue: {_verdict(drift)}; it counts in {n_used} of {len(kept)} sections",
        f"tissue that is not flattened: {_residual_slopes(drift, observed)}",
    ]
    if drift.floor_found > np.max(drift.noise_floor):
        decisions.append(
            f"noise floor: {drift.floor_found:.2g} ± {drift.floor_error:.2g} is small and not told from 0, so none is "
            "subtracted"
        )
    if drift.floor_error > 0 and not drift.floor_identified:
        remarks.append(
            f"the noise floor is {np.mean(drift.noise_floor):.4g} ± {drift.floor_error:.2g}, which is not known well "
            "against the brightness of agarose: ratios of tissues may be off; pass noise_floor= where it is known"
            if seen[:, 0].any()
            else "no agarose tells the noise floor, so none is subtracted (its standard error is "
            f"{drift.floor_error:.2g}): ratios of tissues may be off; pass noise_floor= where it is known"
        )
        for flagged in flags:
            flagged.append("floor_unidentified")
    if drift.agarose_rejected:
        remarks.append(f"agarose is not used as a reference between sections: {_verdict(drift)}")
    return flags, decisions, remarks


def _verdict(drift: Drift) -> str:
    """What speaks for agarose as a reference, or against it."""
    if not np.isfinite(drift.agarose_chi2):
        return "too few sections show it"
    against = f"it steps by {drift.agarose_steps:.1%} against tissue (reduced chi2 {drift.agarose_chi2:.1f})"
    if drift.agarose_excess == -np.inf:
        return f"{against} and is darker than the noise floor that was given"
    if drift.agarose_excess == np.inf:
        return f"{against}, at the noise floor that was given"
    return f"{against} and lies {drift.agarose_excess:.1f} standard errors above the noise floor"


def _residual_slopes(drift: Drift, observed: Observed) -> str:
    """How brightness of each class changes per plane against the others, below the first plane."""
    found = []
    for kind, other in ((DARK, BRIGHT), (BRIGHT, DARK)):
        seen = observed.sums.count[:, [kind, other]].sum(axis=0) > 0
        away = drift.profile[other] - drift.profile[kind]
        if seen.all() and len(away) > 2:
            slope = float(np.polyfit(np.arange(1, len(away)), away[1:], 1)[0])
            flat, left = CLASS_NAMES[kind], CLASS_NAMES[other]
            found.append(f"with {flat} tissue flat, {left} tissue changes by {slope:+.2%} per plane")
    return "; ".join(found) if found else "one class only"
