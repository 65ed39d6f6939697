"""Modes of a distribution of levels."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from xoctnorm.kernels.levels import Image
from xoctnorm.kernels.order_statistics import percentile_in_double

_LEAST_SHARE = 0.01  # of the field, for a class
_NARROWEST = 0.05  # structure of a distribution that is finer is no class of tissue


def flank(values: Image, centre: float) -> float:
    """Standard deviation of the values up to the centre."""
    below = values[values <= centre].astype(np.float64)
    return float(np.sqrt(np.mean((below - centre) ** 2))) if below.size else 0.0


def _density(values: Image, bandwidth: float) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Centres of bins, counts, and smoothed counts."""
    from xoctnorm.kernels.compiled import frozen
    from xoctnorm.kernels.compiled_histograms import bin_counts

    low, high = float(values.min()), float(values.max())
    n_bins = int(np.clip((high - low) / bandwidth * 4, 16, 4096))
    edges = np.histogram_bin_edges(values, n_bins, range=(low, high) if high > low else (low, low + 1))
    counts = np.zeros(n_bins, np.int64)
    bin_counts(frozen(values), edges, counts)
    width = edges[1] - edges[0]
    density = scipy.ndimage.gaussian_filter1d(counts.astype(float), bandwidth / width, mode="constant")
    return (edges[1:] + edges[:-1]) / 2, counts, density


def darkest_mode(values: Image, noise: float) -> tuple[float, float]:
    """Centre and width of the darkest mode that holds 1 % of the values; NaN without any."""
    span = float(values.max() - values.min())
    bandwidth = max(noise / 2, span / 200, 1e-6)
    x, counts, density = _density(values, bandwidth)
    total, last = np.cumsum(counts), len(x) - 1
    for i in np.flatnonzero(density > 0):
        if density[i] < density[max(0, i - 2) : i + 3].max() or total[i] < _LEAST_SHARE / 4 * total[-1]:
            continue
        width = max(flank(values, x[i]), noise / 2, 1e-6)
        end = min(last, int(np.searchsorted(x, x[i] + 3 * max(width, bandwidth))))
        if end == last or (density[end] <= 0.6 * density[i] and total[end] >= _LEAST_SHARE * total[-1]):
            return float(x[i]), width
    return float("nan"), float("nan")


def tissue_mode(values: Image, noise: float) -> float:
    """Centre of the darkest mode that holds 4 % of the values, else their lower quartile."""
    low, high = (percentile_in_double(values, q) for q in (1, 99))
    bandwidth = max((high - low) / 40, noise, _NARROWEST)
    x, counts, density = _density(values, bandwidth)
    share, last = np.cumsum(counts) / counts.sum(), len(x) - 1
    reach = max(1, round(2 * bandwidth / (x[1] - x[0])))
    for i in np.flatnonzero(density > 0):
        before, after = max(0, i - 2 * reach), min(last, i + 2 * reach)
        highest = density[i] >= density[max(0, i - 2) : i + 3].max()
        apart = density[before] <= 0.9 * density[i] and density[after] <= 0.97 * density[i]
        if highest and apart and share[after] - share[before] >= 0.04:
            return float(x[i])
    return float(np.percentile(values, 25))
