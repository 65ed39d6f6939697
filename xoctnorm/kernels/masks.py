"""Mean projections along z, the agarose mask of the reference, and the tidying of masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray


class MeanProjection:
    """Running mean along z, summed in float64 in plane order, so that chunks cannot change it.

    The mean is rounded to float32 for floating input narrower than float64 and is float64 otherwise.
    It is NaN where no plane has data.
    """

    def __init__(self, shape: tuple[int, int], dtype: np.dtype[np.generic]) -> None:
        self._sum = np.zeros(shape)
        self._missing: NDArray[np.int64] | None = None
        self._n_planes = 0
        narrow = dtype.kind == "f" and dtype.itemsize < 8
        self._dtype = np.dtype(np.float32 if narrow else np.float64)

    def add(self, plane: NDArray[Any]) -> tuple[float, float]:
        """Add the next plane; returns its least and its largest value, NaN where it has none."""
        from xoctnorm.kernels import compiled

        self._n_planes += 1
        least, most = compiled.value_range(compiled.frozen(plane)) if plane.dtype == np.float32 else _range(plane)
        if not np.isnan(least + most):
            self._sum += plane
            return least, most
        missing = np.isnan(plane)
        if self._missing is None:
            self._missing = np.zeros(self._sum.shape, np.int64)
        self._missing += missing
        self._sum += np.where(missing, 0, plane)
        return float(np.fmin.reduce(plane, axis=None)), float(np.fmax.reduce(plane, axis=None))

    def mean(self) -> NDArray[np.floating]:
        """Mean of all planes so far."""
        if self._missing is None:
            return (self._sum / self._n_planes).astype(self._dtype)
        n_present = self._n_planes - self._missing
        mean = np.full(self._sum.shape, np.nan)
        np.divide(self._sum, n_present, out=mean, where=n_present > 0)
        return mean.astype(self._dtype)


def _range(plane: NDArray[Any]) -> tuple[float, float]:
    """Least and largest value; NaN where there is any."""
    return float(plane.min()), float(plane.max())


class SectionMeans:
    """Mean of the planes of every section, summed in float64 in plane order, one section at a time.

    Exact zeros are empty, as NaN is: both are left out. Means go into `means`, `(section, y, x)`, as soon as they are
    known, that of the last section with `finish`. A mean is NaN where a section has no data.
    """

    def __init__(self, means: NDArray[np.float32]) -> None:
        self._means = means
        self._row = -1

    def add(self, plane: NDArray[Any], row: int) -> None:
        """Add the next plane, which belongs to section `row`; rows never go down."""
        if row != self._row:
            self.finish()
            shape = self._means.shape[1:]
            self._row, self._sum, self._count = row, np.zeros(shape), np.zeros(shape, np.int32)
        if plane.dtype == np.float32:
            from xoctnorm.kernels import compiled

            compiled.add_present(compiled.frozen(plane), self._sum.reshape(-1), self._count.reshape(-1))
            return
        has = plane != 0
        if plane.dtype.kind == "f":
            has &= ~np.isnan(plane)
        self._count += has
        np.add(self._sum, plane, out=self._sum, where=has)

    def finish(self) -> None:
        """The last section is complete."""
        if self._row >= 0:
            mean = np.full(self._sum.shape, np.nan)
            np.divide(self._sum, self._count, out=mean, where=self._count > 0)
            self._means[self._row] = mean


def without_small_parts(mask: NDArray[np.bool_], field: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Drop parts of a mask, and fill parts of the rest of the field, that have fewer than `least` pixels."""
    if least <= 1:
        return mask
    kept = mask & ~_small_parts(mask, least)
    return kept | _small_parts(field & ~kept, least)


def _small_parts(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    parts, _ = scipy.ndimage.label(mask)
    small: NDArray[np.bool_] = np.bincount(parts.ravel()) < least
    small[0] = False
    return small[parts]


def otsu_agarose_mask(mean: NDArray[np.floating], smoothing_sigma: float) -> tuple[NDArray[np.bool_], float]:
    """Agarose mask `(y, x)` and Otsu's threshold (256 bins) of a mean projection.

    The projection is smoothed by a Gaussian (reflecting edges, cut at 4 sigma); the threshold is
    found over the smoothed pixels whose unsmoothed mean is above 0. Pixels without data take no
    part in the smoothing. The threshold is NaN, and the mask empty, without any pixel above 0.
    """
    from skimage.filters import threshold_otsu

    missing = np.isnan(mean)
    if missing.any():
        weight = scipy.ndimage.gaussian_filter((~missing).astype(mean.dtype), smoothing_sigma)
        smooth = scipy.ndimage.gaussian_filter(np.where(missing, 0, mean), smoothing_sigma)
        smooth = np.divide(smooth, weight, out=np.full_like(smooth, np.nan), where=~missing)
    else:
        smooth = scipy.ndimage.gaussian_filter(mean, smoothing_sigma)
    candidates = mean > 0
    if not candidates.any():
        return np.zeros(mean.shape, bool), float("nan")
    threshold = threshold_otsu(smooth[candidates])
    return (smooth < threshold) & candidates, float(threshold)
