"""How far a result is from the truth. Arrays in, numbers out; errors of intensity are fractions, not percent."""

from collections.abc import Mapping

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.benchmark.truth import Float, Truth, is_tissue
from xoctnorm.phantom import EMPTY, GREY_MATTER, WHITE_MATTER

FEWEST = 50
"""Voxels without which a plane, or a class in a plane, is not measured."""


def measure(values: Float, truth: Truth, agarose: NDArray[np.bool_] | None) -> dict[str, float]:
    """All measures of intensity and of the mask that need no more than the result.

    Those that end in ``_kept`` take it as a result with the decay along depth, those in ``_gone`` as one without.

    Parameters
    ----------
    values : ndarray
        The result, ``(z, y, x)``, in 0…1.
    truth : Truth
        The truth of the phantom.
    agarose : ndarray of bool or None
        The agarose mask that was used, ``(z, y, x)`` or ``(y, x)``.

    Returns
    -------
    dict
        ``between``, ``inside``, ``level_between`` and ``level_inside``, each kept and gone; ``step``, ``ratio``,
        ``dice`` and ``unmeasured``: the share of planes with tissue whose slope could not be taken.
    """
    slope = slopes(values, truth)
    found = {}
    for ending, gain in (("kept", truth.gain), ("gone", np.where(truth.pure, truth.gain * truth.response, np.nan))):
        with np.errstate(invalid="ignore", divide="ignore"):
            log = np.where(slope > 0, np.log(slope * gain), np.nan)
        found[f"between_{ending}"], found[f"inside_{ending}"] = between_and_inside(log, truth.section)
    level, expected = class_means(values, truth), class_means(truth.expected, truth)
    for ending, divisor in (("kept", np.ones_like(truth.response)), ("gone", truth.response)):
        errors = level_errors(level, expected / divisor)
        parts = np.array([between_and_inside(row, truth.section) for row in errors])
        found[f"level_between_{ending}"], found[f"level_inside_{ending}"] = (_rms(part) for part in parts.T)
    found["ratio"] = ratio_error(level, expected)
    found["step"] = boundary_step(values, truth)
    found["dice"] = np.nan if agarose is None else relative_dice(agarose, truth)
    measurable = np.bincount(np.nonzero(is_tissue(truth.tissue_class))[0], minlength=truth.gain.size) >= FEWEST
    found["unmeasured"] = float(np.mean(~(slope[measurable] > 0)))
    return found


def slopes(values: Float, truth: Truth) -> Float:
    """Slope of the output on the linear input, per plane, by least squares over true tissue.

    Only voxels whose output lies strictly inside 0…1 count: clipped ones follow no slope. NaN in planes with fewer
    than `FEWEST` of them, or with constant input.
    """
    usable = is_tissue(truth.tissue_class) & (values > 0) & (values < 1)
    plane = np.nonzero(usable)[0]
    x, y = truth.linear[usable], values[usable]
    n_planes = truth.gain.size
    count = np.bincount(plane, minlength=n_planes)
    with np.errstate(invalid="ignore", divide="ignore"):
        x = x - (np.bincount(plane, x, n_planes) / count)[plane]
        slope = np.bincount(plane, x * y, n_planes) / np.bincount(plane, x * x, n_planes)
    return np.where(count >= FEWEST, slope, np.nan)


def between_and_inside(log: Float, section: NDArray[np.int64]) -> tuple[float, float]:
    """Standard deviation over sections of their means, and RMS over sections of the deviation of their planes.

    NaN is left out; a section with one plane has no inside.
    """
    groups = [log[(section == s) & np.isfinite(log)] for s in range(int(section.max()) + 1)]
    means = [float(group.mean()) for group in groups if group.size]
    deviations = [float(group.std()) for group in groups if group.size > 1]
    return float(np.std(means)) if len(means) > 1 else np.nan, _rms(np.array(deviations))


def class_means(values: Float, truth: Truth) -> Float:
    """Means of grey and white matter per plane, ``(2, z)``; NaN in blended planes and below `FEWEST` voxels."""
    n_planes = truth.gain.size
    means = np.full((2, n_planes), np.nan)
    for row, matter in zip(means, (GREY_MATTER, WHITE_MATTER), strict=True):
        here = (truth.tissue_class == matter) & np.isfinite(values)
        plane = np.nonzero(here)[0]
        count = np.bincount(plane, minlength=n_planes)
        enough = (count >= FEWEST) & truth.pure
        row[enough] = np.bincount(plane, values[here], n_planes)[enough] / count[enough]
    return means


def level_errors(level: Float, expected: Float) -> Float:
    """Relative error of level against truth, after one scale *a* and one offset *b* for the whole volume.

    The error is ``(level − b) / (a · expected) − 1``, where *a* and *b* minimize the sum of squares of
    ``(level − b − a · expected) / expected`` over planes and classes. Unlike slopes this sees an offset that is
    not the same everywhere, and it sees what was clipped.
    """
    known = np.isfinite(level) & np.isfinite(expected)
    if known.sum() < 3:
        return np.full_like(level, np.nan)
    # The truth is the regressor: the other way round, a poor result would be shrunk towards its mean and look good.
    weight = 1 / expected[known]
    design = np.stack([np.ones_like(weight), weight], axis=1)
    scale, offset = np.linalg.lstsq(design, level[known] * weight)[0]
    errors = np.full_like(level, np.nan)
    errors[known] = (level[known] - offset) / scale * weight - 1
    return errors


def ratio_error(level: Float, expected: Float) -> float:
    """Median over planes of ``|ratio / true ratio − 1|``, where ratio is the mean of white over that of grey matter.

    There is no offset to choose: one that remains is an error.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.abs((level[1] / level[0]) / (expected[1] / expected[0]) - 1)
    known = ~np.isnan(off)
    return float(np.median(off[known])) if known.any() else np.nan


def boundary_step(values: Float, truth: Truth) -> float:
    """Mean over cuts of ``2 |b − a| / (a + b)``, for the mean tissue of the planes above and below the cut.

    On pixels that have the same class of tissue on both sides. Where decay is kept, a perfect result has steps too.
    """
    steps = []
    for z in np.flatnonzero(truth.follows & (np.diff(truth.section, prepend=truth.section[0]) != 0)):
        above, below = values[z - 1], values[z]
        same = is_tissue(truth.tissue_class[z]) & (truth.tissue_class[z] == truth.tissue_class[z - 1])
        same &= np.isfinite(above) & np.isfinite(below)
        a, b = (float(side[same].mean()) if same.sum() >= FEWEST else 0.0 for side in (above, below))
        if a + b > 0:
            steps.append(2 * abs(b - a) / (a + b))
    return float(np.mean(steps)) if steps else np.nan


def relative_dice(agarose: NDArray[np.bool_], truth: Truth) -> float:
    """Dice of tissue, relative to that of the best outline per section.

    The best outline is tissue where most planes of the section are. Measured on the imaged field, without damage.
    """
    field = truth.tissue_class != EMPTY
    tissue = is_tissue(truth.tissue_class)
    best = np.zeros_like(tissue)
    for s in range(int(truth.section.max()) + 1):
        planes = truth.section == s
        best[planes] = tissue[planes].sum(0) > 0.5 * field[planes].sum(0)
    return dice(~agarose & field, tissue) / dice(best & field, tissue)


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Twice what two sets share, over the sum of their sizes."""
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


def calibration(correction: xr.Dataset | Mapping[str, xr.DataArray], truth: Truth) -> float:
    """RMS of error over standard error of the log of the factors, per plane; 1 is right. NaN without standard errors.

    The error is the log of ``scale_factor · section_gain · plane_jitter``, less its mean.
    """
    if "scale_factor" not in correction or "scale_factor_se" not in correction:
        return np.nan
    factor, se = (correction[name].to_numpy().astype(np.float64) for name in ("scale_factor", "scale_factor_se"))
    known = (se > 0) & np.isfinite(se) & (factor > 0)
    if not known.any():
        return np.nan
    error = np.log(factor[known] * truth.gain[known])
    return _rms((error - error.mean()) / (se[known] / factor[known]))


def _rms(values: Float) -> float:
    values = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(values**2))) if values.size else np.nan
