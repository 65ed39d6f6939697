"""Mean projections along z, the agarose mask of the reference, and the tidying of masks."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import scipy
from numpy.typing import NDArray

from xoctnorm.kernels.backend import kernels_for, namespace, ndimage_of, numbers, on_host, to_host
from xoctnorm.kernels.levels import picked
from xoctnorm.kernels.steps import AS_THEY_ARE
from xoctnorm.kernels.strips import strips
from xoctnorm.threads import in_threads

_OTSU_BINS = 256
_FAR = 30  # powers of 2 from 1: of values beyond, squares and places in bins might be 0 or overflow


class MeanProjection:
    """Running mean along z, summed in float64 in plane order, so that chunks cannot change it.

    The mean is rounded to float32 for floating input narrower than float64 and is float64 otherwise.
    It is NaN where no plane has data.
    """

    def __init__(self, dtype: np.dtype[np.generic]) -> None:
        self._sum: Any = None
        self._missing: Any = None
        self._n_planes = 0
        narrow = dtype.kind == "f" and dtype.itemsize < 8
        self._dtype = np.dtype(np.float32 if narrow else np.float64)

    def add(
        self,
        planes: NDArray[Any],
        of_section: tuple[Any, Any] | None = None,
        start: int | None = None,
        step: int = 0,
    ) -> tuple[NDArray[np.float64], int]:
        """Add the next planes; returns their least and largest values, and the sum of words of their digest.

        What else is taken in the same pass, `add_planes` tells.
        """
        if self._sum is None:
            self._sum, self._missing = _sum_and_count(planes[0])
        self._n_planes += len(planes)
        sums = self._sum.reshape(-1), self._missing.reshape(-1)
        if of_section is not None:
            of_section = of_section[0].reshape(-1), of_section[1].reshape(-1)
        # For other dtypes nothing is compiled.
        kernels = kernels_for(planes, "compiled_survey" if planes.dtype in AS_THEY_ARE else "generic")
        ends, words = kernels.add_planes(planes, *sums, of_section, start, step)
        return ends, words

    def mean(self) -> NDArray[np.floating]:
        """Mean of all planes so far, on the host."""
        if not to_host(self._missing.any()):
            return to_host((self._sum / self._n_planes).astype(self._dtype))
        count, xp = self._n_planes - self._missing, namespace(self._sum)
        return to_host((self._sum / xp.where(count > 0, count, np.nan)).astype(self._dtype))


def _sum_and_count(plane: NDArray[Any]) -> tuple[Any, Any]:
    """Zeros to which the pixels of planes are added, and their number."""
    xp = namespace(plane)
    return xp.zeros(plane.shape), xp.zeros(plane.shape, dtype=np.int32)


class SectionMeans:
    """Mean of the planes of every section, summed in float64 in plane order, one section at a time.

    Exact zeros are empty, as NaN is: both are left out. A mean is NaN where a section has no data.
    Finished means are float32, on the host.
    """

    def __init__(self) -> None:
        self._row = -1
        self._finished: list[NDArray[np.float32]] = []

    def sums(self, row: int, plane: NDArray[Any]) -> tuple[Any, Any]:
        """Sums and counts of section `row`, to which planes are added that are like one; rows never go down."""
        if row != self._row:
            self._finish()
            self._row, (self._sum, self._count) = row, _sum_and_count(plane)
        return self._sum, self._count

    def _finish(self) -> None:
        if self._row >= 0:
            mean = namespace(self._sum).empty(self._sum.shape, dtype=np.float32)
            flat = (values.reshape(-1) for values in (self._sum, self._count, mean))
            kernels_for(self._sum, "compiled_survey").divide(*flat)
            self._finished.append(to_host(mean))

    def means(self) -> list[NDArray[np.float32]]:
        """Means `(y, x)` of all sections so far that were not taken."""
        self._finish()
        self._row = -1
        return self.taken()

    def taken(self) -> list[NDArray[np.float32]]:
        """Means of the sections that are complete, which are then forgotten."""
        finished, self._finished = self._finished, []
        return finished


def without_small_parts(mask: NDArray[np.bool_], field: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    """Drop parts of a mask, and fill parts of the rest of the field, that have fewer than `least` pixels."""
    if least <= 1:
        return mask
    kept = mask & ~_small_parts(mask, least)
    return kept | _small_parts(field & ~kept, least)


def _small_parts(mask: NDArray[np.bool_], least: float) -> NDArray[np.bool_]:
    parts, _ = ndimage_of(mask).label(mask)
    small: NDArray[np.bool_] = namespace(mask).bincount(parts.ravel()) < least
    small[0] = False
    return picked(small, parts)


def otsu_agarose_mask(mean: NDArray[np.floating], smoothing_sigma: float) -> tuple[NDArray[np.bool_], float]:
    """Agarose mask `(y, x)` and Otsu's threshold (256 bins) of a mean projection.

    The projection is smoothed by a Gaussian (reflecting edges, cut at 4 sigma); the threshold is
    found over the smoothed pixels whose unsmoothed mean is above 0. Pixels without data take no
    part in the smoothing. The threshold is NaN, and the mask empty, without any pixel above 0.
    """
    xp = namespace(mean)
    missing = xp.isnan(mean)
    if to_host(missing.any()):
        weight = smoothed((~missing).astype(mean.dtype), smoothing_sigma)
        smooth = smoothed(xp.where(missing, 0, mean), smoothing_sigma)
        with np.errstate(divide="ignore", invalid="ignore"):
            smooth = xp.where(missing, mean.dtype.type(np.nan), smooth / weight)
    else:
        smooth = smoothed(mean, smoothing_sigma)
    candidates = mean > 0
    if not to_host(candidates.any()):
        return xp.zeros(mean.shape, dtype=bool), float("nan")
    threshold = _otsu_threshold(smooth if to_host(candidates.all()) else smooth[candidates])
    return (smooth < threshold) & candidates, threshold


def _otsu_threshold(values: NDArray[np.floating]) -> float:
    """Otsu's threshold of some values; of one value, that."""
    from skimage.filters import threshold_otsu

    xp = namespace(values)
    ends = numbers(xp.min(values), xp.max(values))
    least, most = ends.tolist()
    if least == most:
        return float(least)
    exponent = math.frexp(max(abs(least), abs(most)))[1]
    power = exponent if abs(exponent) > _FAR else 0
    if power:
        values, ends = xp.ldexp(values, -power), np.ldexp(ends, -power)
    edges = np.histogram_bin_edges(ends, _OTSU_BINS)
    if edges.dtype != values.dtype or not (np.diff(edges) > 0).all():
        threshold = threshold_otsu(to_host(values), _OTSU_BINS)  # few values, of which newer NumPy makes no edges
    else:
        counts = xp.zeros(_OTSU_BINS, dtype=np.int64)
        kernels_for(values, "compiled_histograms").bin_counts(kernels_for(values).frozen(values), edges, counts)
        threshold = threshold_otsu(hist=(to_host(counts), (edges[:-1] + edges[1:]) / 2))
    return math.ldexp(float(threshold), power)


def smoothed(image: NDArray[np.floating], sigma: float) -> NDArray[np.floating]:
    """An image smoothed by a Gaussian with reflecting edges, cut at 4 sigma: strips of it side by side in threads.

    Each strip is smoothed with the rows around it that reach into it, so the bits are those of the whole image.
    """
    if not on_host(image):
        return cast(NDArray[np.floating], kernels_for(image, "compiled_gaussian").gaussian(image, sigma))
    reach, out = int(4 * sigma + 0.5), np.empty_like(image)

    def smooth(rows: slice) -> None:
        first = max(rows.start - reach, 0)
        part = scipy.ndimage.gaussian_filter(image[first : rows.stop + reach], sigma)
        out[rows] = part[rows.start - first :][: rows.stop - rows.start]

    for _ in in_threads(smooth, strips(image.shape)):
        pass
    return out
