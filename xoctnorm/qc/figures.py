"""Figures of merit of one stage, from what one read tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xoctnorm.corrections.drift_tables import CLASS_NAMES
from xoctnorm.kernels.classes import AGAROSE, BRIGHT, DARK, TISSUES
from xoctnorm.kernels.quality import (
    Moments,
    Steps,
    beyond_noise,
    cjv,
    cnr,
    equal_depth_steps,
    gcnr,
    left_out,
    levels_and_profile,
    separability,
    weighted_percentiles,
)
from xoctnorm.qc.reading import Ground, Seen

Series = NDArray[np.float64]

PERCENTILES = (5.0, 25.0, 50.0, 75.0, 95.0)
PAIRS = ("bright and dark", "tissue and agarose")
PLANES = "planes"  # stands for the dims that number planes
SECTION, TISSUE = "section_label", "tissue"
_FEWEST_AGAROSE = 100
_LEAST_SHARE = 0.1  # of tissue that the darker class must have to be the reference
_NEXT = 5  # planes that the brightest one is compared with


@dataclass(frozen=True)
class Figures:
    """Values with their dims, and the numbers that are judged, by name."""

    values: dict[str, tuple[tuple[str, ...], Any]]
    judged: dict[str, float]


@dataclass(frozen=True)
class Scene:
    """What else is known of a stage.

    Attributes
    ----------
    noise
        Noise in the values of every plane; None where it is not known.
    saturated
        Share of a plane from which on it is saturated.
    reference
        Class of the reference tissue; None takes the darker one, unless there is hardly any.
    mm_per_plane
        Distance of planes; NaN where the coordinates do not tell.
    by_otsu, scaled, flattened
        Whether the mask came from Otsu's threshold, the volume was scaled to 0…1, and decay was taken out.
    """

    noise: Series | None
    saturated: float
    reference: int | None
    mm_per_plane: float
    by_otsu: bool
    scaled: bool
    flattened: bool


def figures_of(seen: Seen, ground: Ground, scene: Scene) -> Figures:
    """All figures of one stage."""
    out = Figures({}, {})
    index, n = ground.sections.index, len(ground.sections)
    section, depth, floor = index[ground.used], ground.depth[ground.used], seen.floor[ground.used]
    with np.errstate(invalid="ignore", divide="ignore"):
        _planes(out, seen, scene)
        log = np.log(np.where((above := seen.sums.mean - floor[:, None]) > 0, above, np.nan))
        levels, profiles = zip(
            *(levels_and_profile(log[:, kind], section, depth) for kind in range(len(CLASS_NAMES))), strict=True
        )
        reference = scene.reference if scene.reference is not None else reference_of(seen)
        _levels(out, np.array(levels), np.array(profiles), reference, scene)
        variance = seen.sums.variance
        steps = equal_depth_steps(seen.tiles, variance, section, depth, ground.follows, floor)
        _steps(out, steps)
        _background(out, seen, index, ground.depth, n)
        _classes(out, seen, reference, scene)
        _projection(out, seen, ground, scene)
    return out


def reference_of(seen: Seen) -> int:
    """The darker tissue, unless there is hardly any."""
    dark, bright = (float(seen.sums.count[:, kind].sum()) for kind in (DARK, BRIGHT))
    return DARK if dark >= _LEAST_SHARE * (dark + bright) and dark > 0 else BRIGHT


def _planes(out: Figures, seen: Seen, scene: Scene) -> None:
    """Planes that are cut off, saturated or empty, and the brightest one."""
    field, present, tissue, low, top = seen.counts.T.astype(float)
    empty = present == 0
    high = np.where(empty | (top < 2), 0.0, top / np.maximum(field, 1))
    low = np.where(empty | (tissue == 0), np.nan, low / np.maximum(tissue, 1))
    out.values["clipped_high"] = (PLANES,), high
    out.values["clipped_low"] = (PLANES,), low
    out.values["saturated_planes"] = (), float(np.mean(high > scene.saturated))
    out.values["empty_planes"] = (), float(np.mean(empty))
    out.values["brightest"] = (PLANES,), seen.brightest
    out.judged["clipped_high"] = float(high[~empty].mean()) if not empty.all() else np.nan
    out.judged["clipped_low"] = _mean(low)
    for name in ("saturated_planes", "empty_planes"):
        out.judged[name] = out.values[name][1]
    ordered = np.sort(seen.brightest[np.isfinite(seen.brightest)])[::-1]
    outlier = ordered[0] / np.median(ordered[1 : 1 + _NEXT]) if len(ordered) > 1 and ordered[0] > 0 else np.nan
    out.values["divisor_outlier"] = (), float(outlier)
    if scene.scaled:
        out.judged["divisor_outlier"] = float(outlier)


def _levels(out: Figures, level: Series, profile: Series, reference: int, scene: Scene) -> None:
    """How classes vary over sections, and over depth."""
    relative = np.exp(level)
    relative /= np.array([[_mean(of_class)] for of_class in relative])
    out.values["section_level"] = (TISSUE, SECTION), relative
    out.values["depth_profile"] = (TISSUE, "plane_depth"), np.exp(profile)
    for name, kind in (("tissue_variation", reference), ("agarose_variation", AGAROSE)):
        known = relative[kind][np.isfinite(relative[kind])]
        out.values[name] = (), float(np.std(known, ddof=1) / np.mean(known)) if len(known) > 1 else np.nan
        out.judged[name] = out.values[name][1]
    slopes = np.array([_slope(of_class) for of_class in profile]) * 10 / np.log(10)
    through = slopes * (profile.shape[1] - 1)
    per_mm = scene.mm_per_plane if np.isfinite(scene.mm_per_plane) else 1.0
    out.values["residual_slope"] = (TISSUE,), slopes / per_mm
    out.values["residual_decay"] = (TISSUE,), through
    if scene.flattened:
        out.judged["residual_decay"] = abs(float(through[reference]))


def _slope(profile: Series) -> float:
    """Slope per plane of a log profile, without the first plane after the cut, which has a value of its own."""
    start = 1 if np.isfinite(profile).sum() > 3 else 0
    depth = np.arange(len(profile))
    known = np.isfinite(profile) & (depth >= start)
    return float(np.polyfit(depth[known], profile[known], 1)[0]) if known.sum() > 1 else np.nan


def _steps(out: Figures, steps: Steps) -> None:
    """What changes at the cuts."""
    out.values["boundary_step"] = (SECTION,), np.expm1(steps.step)
    out.values["boundary_step_se"] = (SECTION,), steps.error
    out.values["boundary_step_raw"] = (SECTION,), np.expm1(steps.raw)
    out.judged["boundary_step"] = beyond_noise(steps.step, steps.error**2)
    known = np.isfinite(steps.blocks)
    blocks, size = steps.blocks[known], steps.block_size[known]
    out.values["block_step"] = ("percentile",), np.expm1(weighted_percentiles(blocks, size, PERCENTILES))
    away = (steps.blocks - steps.step[:, None])[known]
    low, high = weighted_percentiles(away, size, (PERCENTILES[0], PERCENTILES[-1]))
    # Half of the range from the 5th to the 95th percentile is 1.645 standard deviations of a normal distribution.
    noise = 1.645**2 * float(np.average(steps.block_variance[known], weights=size)) if blocks.size else np.nan
    out.judged["block_step"] = float(np.sqrt(np.maximum(((high - low) / 2) ** 2 - noise, 0.0)))
    value, error = left_out(steps.step, steps.error)
    out.values["left_out_error"] = (SECTION,), np.expm1(value)
    out.judged["left_out_error"] = beyond_noise(value, error**2)


def _background(out: Figures, seen: Seen, index: NDArray[np.int64], depth: NDArray[np.int64], n: int) -> None:
    """Level of agarose, and how it drifts."""
    count, total = seen.moments[:, AGAROSE, 0], seen.moments[:, AGAROSE, 1]
    level = np.where(count >= _FEWEST_AGAROSE, total / np.maximum(count, 1), np.nan)
    out.values["background_level"] = (PLANES,), level
    of_section, _ = levels_and_profile(level, index, depth)
    tissue = seen.moments[:, list(TISSUES)].sum(axis=(0, 1))
    known = of_section[np.isfinite(of_section)]
    mean = tissue[1] / tissue[0] if tissue[0] else np.nan
    drift = float(np.std(known, ddof=1) / mean) if len(known) > 1 else np.nan
    out.values["background_drift"] = (), drift
    out.judged["background_drift"] = drift


def _classes(out: Figures, seen: Seen, reference: int, scene: Scene) -> None:
    """How well classes are told apart, and what stands above the noise."""
    agarose, dark, bright = (Moments.of(seen.moments[:, kind]) for kind in (AGAROSE, DARK, BRIGHT))
    tissue = Moments.of(seen.moments[:, list(TISSUES)].reshape(-1, 3))
    of_tissue = seen.histograms[DARK] + seen.histograms[BRIGHT]
    out.values["cnr"] = ("pair",), np.array([cnr(bright, dark), cnr(tissue, agarose)])
    overlap = gcnr(seen.histograms[BRIGHT], seen.histograms[DARK]), gcnr(of_tissue, seen.histograms[AGAROSE])
    out.values["gcnr"] = ("pair",), np.array(overlap)
    out.values["cjv"] = (), cjv(bright, dark)
    if min(dark.count, bright.count) > 0:
        out.judged["cjv"] = out.values["cjv"][1]
    squared = np.array([np.median(known) if (known := c[np.isfinite(c)]).size else np.nan for c in seen.contrast.T])
    out.values["speckle_contrast"] = (TISSUE,), np.sqrt(squared)
    out.values["looks"] = (TISSUE,), 1 / squared
    snr = np.full(len(CLASS_NAMES), np.nan)
    if scene.noise is not None:
        count = seen.moments[..., 0]
        mean = seen.moments[..., 1] / count - seen.floor[:, None]
        ratio = mean / scene.noise[:, None]
        known = np.isfinite(ratio)
        weight = np.where(known, count, 0)
        mean_ratio = (weight * np.where(known, ratio, 0)).sum(axis=0) / weight.sum(axis=0)
        snr = 10 * np.log10(np.where(mean_ratio > 0, mean_ratio, np.nan))
    out.values["snr"] = (TISSUE,), snr
    out.judged["snr"] = float(snr[reference])


def _projection(out: Figures, seen: Seen, ground: Ground, scene: Scene) -> None:
    """How the mean projection falls into two."""
    from skimage.filters import threshold_otsu

    values = seen.mean[ground.field.any(axis=0) & np.isfinite(seen.mean)].astype(float)
    threshold, share = np.nan, np.nan
    if values.size and values.min() < values.max():
        threshold = float(threshold_otsu(values))
        share = separability(values, threshold)
    out.values["otsu_threshold"] = (), threshold
    out.values["otsu_separability"] = (), share
    if scene.by_otsu:
        out.judged["otsu_separability"] = share


def mask_figures(ground: Ground) -> Figures:
    """What is to be said of the mask."""
    field, agarose, expected = ground.field, ground.agarose, ground.expected_agarose
    size = field.sum(axis=(1, 2))
    coverage = np.where(size > 0, agarose.sum(axis=(1, 2)) / np.maximum(size, 1), np.nan)
    agreement = np.nan
    if expected.any() and ground.mask_given:
        agreement = min(_dice(agarose, expected), _dice(field & ~agarose, field & ~expected))
    values = {
        "agarose_coverage": ((SECTION,), coverage),
        "tissue_coverage": ((SECTION,), 1 - coverage),
        "mask_agreement": ((), agreement),
    }
    judged = {"agarose_coverage": _mean(coverage), "tissue_coverage": _mean(1 - coverage)}
    if ground.mask_given:
        judged["mask_agreement"] = agreement
    return Figures(values, judged)


def _dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Twice what two sets share over the sum of their sizes; 0 where both are empty."""
    return 2 * float((one & other).sum()) / max(float(one.sum() + other.sum()), 1.0)


def speckle_change(before: Figures, after: Figures, *, known: bool) -> Figures:
    """How the speckle contrast of tissue changed; NaN where the noise floor that was taken off is not known."""
    was, now = (stage.values["speckle_contrast"][1][list(TISSUES)] for stage in (before, after))
    change = np.abs(now / was - 1)
    largest = float(np.nanmax(change)) if known and np.isfinite(change).any() else np.nan
    return Figures({"speckle_change": ((), largest)}, {"speckle_change": largest})


def _mean(values: Series) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else np.nan
