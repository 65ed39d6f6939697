"""The five functions of the reference on plain arrays `(z, y, x)`.

Names, signatures, defaults and return values are those of `linumpy.intensity.normalization`: who uses
that changes one import. They work in memory and in float32, know sections only by equal division, and
keep the reference's behaviour where it is weak; the accessor does better. Inputs may have any real dtype
but bool, any strides, may be read-only, and are never written to. NaN means "no data": it is left out of
every statistic and stays NaN.
"""

from __future__ import annotations

import warnings
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xoctnorm.arrays import by_steps, by_strips, checked, checked_mask, each
from xoctnorm.checks import integer_problems, number_problems
from xoctnorm.corrections import Background, HistogramMatch, OtsuMask, PercentileScale
from xoctnorm.corrections.histogram import section_tables
from xoctnorm.corrections.scale import section_percentile
from xoctnorm.corrections.zprofile import tissue_mean
from xoctnorm.errors import OctnormWarning, raise_problems
from xoctnorm.gpu import uploading, use_problems
from xoctnorm.kernels.backend import alike, concatenated, namespace, parts_of, to_host
from xoctnorm.kernels.background import background_steps, multiply_where
from xoctnorm.kernels.histograms import Mapping, bin_centers, histogram
from xoctnorm.kernels.masks import MeanProjection, otsu_agarose_mask
from xoctnorm.kernels.order_statistics import POSITIVE, Bracket, Counted, bracket_of, counted, plane_thresholds, spread
from xoctnorm.kernels.smoothing import factors_to_median, profile_gains, smooth_where_present
from xoctnorm.kernels.strips import single
from xoctnorm.sections import equal_division
from xoctnorm.statistics import by_section

__all__ = [
    "apply_histogram_matching",
    "apply_zprofile_smoothing",
    "compute_scale_factors",
    "get_agarose_mask",
    "normalize_volume",
]


def normalize_volume(
    vol: ArrayLike, agarose_mask: ArrayLike, percentile_max: float = 99.9
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Normalize intensities so that the agarose of every plane is 0 and the largest span is 1.

    Every plane is clipped from above at its percentile and from below at its agarose median, the median is
    subtracted, and the volume is divided by the largest difference of the two over all planes, so that
    brightness relative to each other is kept between planes.

    Parameters
    ----------
    vol
        Volume `(z, y, x)`.
    agarose_mask
        bool `(y, x)`, True on agarose.
    percentile_max
        Percentile of the plane, 0 to 100, that caps it; linearly interpolated.

    Returns
    -------
    normalized_volume
        float32 `(z, y, x)`, 0 to 1. It is not divided where no span is above 0.
    background_thresholds
        float32 `(z,)`, the agarose median of every plane, in the units of `vol`.

    Raises
    ------
    InputError
        For a volume or a mask of wrong shape or dtype, or a percentile outside 0…100.

    Warns
    -----
    OctnormWarning
        Where the mask has no pixel: the result is NaN everywhere, as it is with the reference.

    Examples
    --------
    >>> import numpy as np
    >>> from xoctnorm.normalization import normalize_volume
    >>> plane = np.array([[1.0, 1.0, 3.0, 5.0]])
    >>> mask = np.array([[True, True, False, False]])
    >>> volume, thresholds = normalize_volume(np.stack([plane, 2 * plane]), mask, 100)
    >>> volume[:, 0]
    array([[0.  , 0.  , 0.25, 0.5 ],
           [0.  , 0.  , 0.5 , 1.  ]], dtype=float32)
    >>> thresholds
    array([1., 2.], dtype=float32)
    """
    planes, problems = checked(vol)
    mask, mask_problems = checked_mask("agarose_mask", agarose_mask, planes, planes.shape[1:])
    problems += [*mask_problems, *Background(percentile_max=percentile_max).problems()]
    raise_problems("normalize_volume", problems)
    if not to_host(mask.any()):
        warnings.warn("agarose_mask has no pixel: the result is NaN everywhere", OctnormWarning, stacklevel=2)
        shape = planes.shape
        unknown = namespace(planes).full(shape, np.nan, dtype=np.float32)
        return unknown, np.full(shape[0], np.nan, np.float32)

    found = each(lambda plane: plane_thresholds(plane, mask, percentile_max), planes, planes)
    floors, caps = np.array(list(found), np.float32).T
    spans = caps - floors
    divisor = np.fmax.reduce(spans)
    divisor = divisor if divisor > 0 else np.float32(1)
    return by_steps(planes, lambda z: background_steps(floors[z], caps[z], divisor)), floors


def get_agarose_mask(vol: ArrayLike, smoothing_sigma: float = 1.0) -> tuple[NDArray[np.bool_], float]:
    """Find the agarose by Otsu's threshold on the smoothed mean projection along z.

    Agarose is where the smoothed mean is below the threshold and the mean itself is above 0.

    Parameters
    ----------
    vol
        Volume `(z, y, x)`.
    smoothing_sigma
        Standard deviation of the Gaussian, in pixels; 0 does not smooth.

    Returns
    -------
    agarose_mask
        bool `(y, x)`.
    threshold
        Otsu's threshold, in the units of `vol`.

    Raises
    ------
    InputError
        For a volume of wrong shape or dtype, a negative sigma, or no pixel whose mean is above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from xoctnorm.normalization import get_agarose_mask
    >>> volume = np.full((2, 8, 8), 1.0)
    >>> volume[:, 3:6, 3:6] = 9.0
    >>> mask, threshold = get_agarose_mask(volume, 0)
    >>> int((~mask).sum())
    9
    """
    planes, problems = checked(vol)
    raise_problems("get_agarose_mask", [*problems, *OtsuMask(smoothing_sigma).problems()])

    def mean(rows: slice) -> NDArray[np.floating]:
        projection = MeanProjection(planes.dtype)
        projection.add(planes[:, rows])
        return projection.mean()

    means = np.concatenate(list(each(mean, parts_of(planes[0]), planes)))
    mask, threshold = otsu_agarose_mask(means, smoothing_sigma)
    if np.isnan(threshold):
        raise_problems("get_agarose_mask", ["no pixel of the volume has a mean above 0, so there is no threshold"])
    return alike(mask, planes), threshold


def compute_scale_factors(
    vol: ArrayLike,
    n_serial_slices: int | None,
    smooth_sigma: float,
    percentile: float,
    min_scale: float,
    max_scale: float,
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64], list[int]]:
    """Compute one factor for every plane that brings smoothed section percentiles to their median.

    Parameters
    ----------
    vol
        Normalized volume `(z, y, x)`, 0 to 1.
    n_serial_slices
        Number of sections, cut at `round(i * n_z / n)`; None makes every plane a section.
    smooth_sigma
        Standard deviation of the Gaussian over sections, in sections.
    percentile
        Percentile, 0 to 100, of the voxels of a section above 0.
    min_scale, max_scale
        Smallest and largest factor.

    Returns
    -------
    scale_factors
        float32 `(z,)`.
    raw_metrics
        float64, the percentile of every section; 0 with fewer than 500 voxels above 0.
    smoothed
        float64, the smoothed percentile of every section.
    boundaries
        First plane of every section.

    Raises
    ------
    InputError
        For a volume of wrong shape or dtype, or parameters outside their range.

    Examples
    --------
    >>> import numpy as np
    >>> from xoctnorm.normalization import compute_scale_factors
    >>> volume = np.repeat([0.2, 0.4], 3)[:, None, None] * np.ones((6, 20, 20))
    >>> compute_scale_factors(volume, 2, 0.0, 80, 0.5, 2.0)[0]
    array([1.5 , 1.5 , 1.5 , 0.75, 0.75, 0.75], dtype=float32)
    """
    planes, problems = checked(vol)
    settings = PercentileScale(smooth_sigma, percentile, min_scale, max_scale)
    problems += [*settings.problems(), *_division_problems(n_serial_slices)]
    raise_problems("compute_scale_factors", problems)
    starts = _starts(len(planes), n_serial_slices)
    metrics = np.array([_section_metric(planes[start:stop], percentile) for start, stop in pairwise(starts)])
    smoothed = smooth_where_present(metrics, np.arange(len(metrics)), smooth_sigma)
    factors = factors_to_median(smoothed, min_scale, max_scale).astype(np.float32)
    return np.repeat(factors, np.diff(starts)), metrics, smoothed, starts[:-1]


def apply_histogram_matching(
    vol: ArrayLike,
    n_serial_slices: int | None,
    n_bins: int,
    tissue_threshold: float = 0.0,
    use_gpu: bool = False,
) -> NDArray[np.float32]:
    """Match the histogram of every section to that of the whole volume.

    Parameters
    ----------
    vol
        Normalized volume `(z, y, x)`, 0 to 1.
    n_serial_slices
        Number of sections, cut at `round(i * n_z / n)`; None makes every plane a section.
    n_bins
        Number of equal bins from just above `tissue_threshold` to 1.
    tissue_threshold
        Voxels at or below it are left alone.
    use_gpu
        Whether a volume of the host goes through a graphics processor, plane by plane; without one that works the CPU
        is used, in silence as by the reference.

    Returns
    -------
    matched
        float32 `(z, y, x)`. A section with fewer than 500 counted voxels is left alone.

    Raises
    ------
    InputError
        For a volume of wrong shape or dtype, or parameters outside their range.

    Examples
    --------
    >>> import numpy as np
    >>> from xoctnorm.normalization import apply_histogram_matching
    >>> ramp = np.linspace(0.1, 0.5, 900).reshape(1, 30, 30)
    >>> matched = apply_histogram_matching(np.concatenate([ramp, 1.6 * ramp]), 2, 512)
    >>> bool(abs(matched[0] - matched[1]).mean() < 0.01)
    True
    """
    planes, problems = checked(vol)
    settings = HistogramMatch(n_bins, tissue_threshold)
    problems += [*settings.problems(), *_division_problems(n_serial_slices), *use_problems(use_gpu)]
    raise_problems("apply_histogram_matching", problems)
    starts = _starts(len(planes), n_serial_slices)
    row = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    counts = np.zeros((len(starts) - 1, n_bins), np.int64)
    there = uploading(planes, use_gpu)
    of_planes = each(
        lambda plane: histogram(single(there(plane)), n_bins, tissue_threshold), planes, planes, like=there(planes[:0])
    )
    for section, of_section in enumerate(by_section(of_planes, row)):
        counts[section] = to_host(sum(of_section))
    centers = bin_centers(n_bins, tissue_threshold)
    mapping = Mapping.of(section_tables(counts, centers), centers, tissue_threshold)
    return by_steps(planes, lambda z: mapping.steps(row[z]), there)


def apply_zprofile_smoothing(
    vol: ArrayLike, mask: ArrayLike, sigma: float, min_tissue_voxels: int = 100
) -> NDArray[np.floating]:
    """Multiply the tissue of every plane so that its mean lies on the profile smoothed along z.

    Parameters
    ----------
    vol
        Volume `(z, y, x)`.
    mask
        bool `(z, y, x)`, True on tissue; other voxels are left alone.
    sigma
        Standard deviation of the Gaussian, in planes; at 0 or below the volume comes back as it was.
    min_tissue_voxels
        A plane with fewer voxels of tissue is left alone, and left out of the profile.

    Returns
    -------
    smoothed
        float32 `(z, y, x)`; an unchanged copy, in the dtype of `vol`, where `sigma` is not above 0 or
        fewer than 3 planes have tissue.

    Raises
    ------
    InputError
        For a volume or a mask of wrong shape or dtype, or parameters outside their range.

    Examples
    --------
    >>> import numpy as np
    >>> from xoctnorm.normalization import apply_zprofile_smoothing
    >>> jitter = np.array([1.0, 1.1, 0.9, 1.0, 1.05])
    >>> volume = 0.5 * jitter[:, None, None] * np.ones((5, 20, 20))
    >>> smoothed = apply_zprofile_smoothing(volume, np.ones(volume.shape, bool), 2.0)
    >>> bool(smoothed.mean(axis=(1, 2)).std() < 0.1 * volume.mean(axis=(1, 2)).std())
    True
    """
    planes, problems = checked(vol)
    tissue, mask_problems = checked_mask("mask", mask, planes, planes.shape)
    problems += [
        *mask_problems,
        *number_problems("sigma", sigma, -np.inf),
        *integer_problems("min_tissue_voxels", min_tissue_voxels, 0),
    ]
    raise_problems("apply_zprofile_smoothing", problems)
    means = np.full(len(planes), np.nan)
    if sigma > 0:
        of_planes = each(
            lambda z: tissue_mean(single(planes[z]), tissue[z], min_tissue_voxels), range(len(planes)), planes
        )
        means[:] = list(of_planes)
    if np.count_nonzero(~np.isnan(means)) < 3:
        return planes.copy()
    gains = profile_gains(means, sigma)[1]
    return by_strips(planes, lambda z, rows, strip, out: multiply_where(strip, tissue[z, rows], gains[z], out))


def _division_problems(n_serial_slices: int | None) -> list[str]:
    return [] if n_serial_slices is None else integer_problems("n_serial_slices", n_serial_slices, 1)


def _starts(n_planes: int, n_serial_slices: int | None) -> list[int]:
    """First planes of the sections, and the end."""
    return equal_division(n_planes, n_planes if n_serial_slices is None else int(n_serial_slices))


def _section_metric(planes: NDArray[np.floating], percentile: float) -> float:
    """Percentile of the voxels above 0 of a section; 0, which means missing, with fewer than 500."""
    samples = [spread(plane, number=z) for z, plane in enumerate(planes)]
    some = concatenated([planes[:0].reshape(-1), *samples]).astype(np.float32)
    for bracket in (bracket_of(some[some > 0], percentile / 100), Bracket()):
        parts = each(partial(_positive, bracket=bracket), planes, planes)
        metric = section_percentile(list(parts), percentile)
        if metric is not None:
            break
    assert metric is not None
    return metric


def _positive(plane: NDArray[np.floating], bracket: Bracket) -> Counted:
    return counted(single(plane), bracket, POSITIVE)
