"""The formulas of the reference in plain NumPy, as one would write them: what speed is measured against."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from skimage.filters import threshold_otsu


def get_agarose_mask(vol, sigma=1.0):
    mean = np.mean(vol, axis=0, dtype=np.float32)
    smooth = gaussian_filter(mean, sigma)
    return (smooth < threshold_otsu(smooth[mean > 0])) & (mean > 0)


def normalize_volume(vol, agarose, percentile_max=99.9):
    out = vol.astype(np.float32)
    spans = np.empty(len(out), np.float32)
    for z, plane in enumerate(out):
        cap = np.percentile(plane, percentile_max)
        plane[:] = np.clip(plane, None, cap)
        floor = np.median(plane[agarose])
        plane[:] = np.clip(plane, floor, cap) - floor
        spans[z] = cap - floor
    return out / spans.max()


def compute_scale_factors(vol, n_sections, sigma=1.0, percentile=80.0, low=0.5, high=2.0):
    starts = np.rint(np.arange(n_sections + 1) * len(vol) / n_sections).astype(int)
    metric = np.array([_percentile_above_0(vol[a:b], percentile) for a, b in pairwise(starts)])
    presence = (metric > 0).astype(float)
    weight = gaussian_filter1d(presence, sigma)
    smooth = np.where(weight > 1e-6, gaussian_filter1d(metric * presence, sigma) / np.maximum(weight, 1e-6), 0)
    factors = np.clip(np.where(smooth > 0, np.median(smooth[smooth > 0]) / smooth, 1), low, high)
    return np.repeat(factors, np.diff(starts)).astype(np.float32)


def _percentile_above_0(section, percentile):
    values = section[section > 0]
    return np.percentile(values, percentile) if values.size >= 500 else 0.0


def apply_histogram_matching(vol, n_sections, n_bins=512, threshold=0.0):
    out = vol.copy()
    low = min(1.0, threshold + max(1e-6, threshold * 1e-6))
    counts, edges = np.histogram(vol, n_bins, (low, 1))
    centers = (edges[:-1] + edges[1:]) / 2
    reference = np.cumsum(counts) / counts.sum()
    starts = np.rint(np.arange(n_sections + 1) * len(vol) / n_sections).astype(int)
    for first, last in pairwise(starts):
        section = vol[first:last]
        of_section = np.histogram(section, n_bins, (low, 1))[0]
        if of_section.sum() < 500:
            continue
        table = np.interp(np.cumsum(of_section) / of_section.sum(), reference, centers)
        inside = section > threshold
        out[first:last][inside] = np.interp(section[inside], centers, table)
    return out


def apply_zprofile_smoothing(vol, tissue, sigma=2.0):
    means = np.array([plane[inside].mean() for plane, inside in zip(vol, tissue, strict=True)])
    gains = gaussian_filter1d(means, sigma) / np.maximum(means, 1e-6)
    return np.where(tissue, vol * gains[:, None, None].astype(np.float32), vol)


def chain(vol, n_sections):
    """Mask, normalization, histogram matching and z-profile."""
    agarose = get_agarose_mask(vol)
    out = apply_histogram_matching(normalize_volume(vol, agarose), n_sections)
    return apply_zprofile_smoothing(out, ~agarose & (out > 0))
