"""Histogram counts, the table that matches one histogram to another, and its use."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


def histogram_range(tissue_threshold: float) -> tuple[float, float]:
    """Range of the bins: from just above the tissue threshold to 1."""
    return min(1.0, tissue_threshold + max(1e-6, tissue_threshold * 1e-6)), 1.0


def bin_centers(n_bins: int, tissue_threshold: float) -> Plane:
    """Centres of equal bins, in float32 like the values that they sort."""
    edges = np.linspace(*histogram_range(tissue_threshold), n_bins + 1, dtype=np.float32)
    return (edges[:-1] + edges[1:]) / np.float32(2)


def histogram(values: Plane, n_bins: int, tissue_threshold: float) -> NDArray[np.int64]:
    """Counts in equal bins, last edge included; values outside, and NaN, are not counted."""
    counts: NDArray[np.int64] = np.histogram(values, n_bins, range=histogram_range(tissue_threshold))[0]
    return counts


def matching_table(counts: NDArray[np.int64], reference: NDArray[np.int64], centers: Plane) -> NDArray[np.float64]:
    """Intensity that every bin centre is mapped to.

    It is the reference intensity at which the reference's cumulative fraction equals the bin's,
    linear between bin centres.
    """
    fraction = np.cumsum(counts) / counts.sum()
    reference_fraction = np.cumsum(reference) / reference.sum()
    table: NDArray[np.float64] = np.interp(fraction, reference_fraction, centers)
    return table


def match_histogram(
    plane: Plane, table: NDArray[np.float64], centers: Plane, tissue_threshold: float, strength: float
) -> Plane:
    """Map voxels above the tissue threshold, linear between bin centres and constant beyond them.

    `strength` blends the mapped plane (1) with the plane as it came (0). NaN stays NaN.
    """
    matched = np.interp(plane, centers, table)
    if strength != 1:
        matched = (1 - strength) * plane + strength * matched
    return np.where(plane > tissue_threshold, matched, plane).astype(np.float32)
