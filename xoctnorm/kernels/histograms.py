"""Histogram counts, the table that matches one histogram to another, and its use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from xoctnorm.kernels.backend import kernels_for, namespace
from xoctnorm.kernels.steps import INTERPOLATE, Step, take

Plane = NDArray[np.float32]


def histogram_range(tissue_threshold: float) -> tuple[float, float]:
    """Range of the bins: from just above the tissue threshold to 1."""
    return min(1.0, tissue_threshold + max(1e-6, tissue_threshold * 1e-6)), 1.0


def bin_edges(n_bins: int, tissue_threshold: float) -> Plane:
    """Edges of equal bins, in float32 like the values that they sort."""
    return np.linspace(*histogram_range(tissue_threshold), n_bins + 1, dtype=np.float32)


def bin_centers(n_bins: int, tissue_threshold: float) -> Plane:
    """Centres of equal bins."""
    edges = bin_edges(n_bins, tissue_threshold)
    return (edges[:-1] + edges[1:]) / np.float32(2)


def histogram(values: Plane, n_bins: int, tissue_threshold: float) -> NDArray[np.int64]:
    """Counts in equal bins, last edge included; values outside, and NaN, are not counted."""
    kernels, bins = kernels_for(values), kernels_for(values, "compiled_histograms")
    counts: NDArray[np.int64] = namespace(values).zeros(n_bins, dtype=np.int64)
    edges = bin_edges(n_bins, tissue_threshold)
    bins.bin_counts(kernels.frozen(values), edges, counts)
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


@dataclass(frozen=True)
class Mapping:
    """Tables that map intensities above a threshold, linear between bin centres and constant beyond them.

    Attributes
    ----------
    centers
        Bin centres.
    lines
        Slope and offset from one centre to the next, `(row, bin, 2)`; NaN rows leave a plane alone.
    tissue_threshold
        Voxels at or below it, and NaN, stay as they are.
    strength
        Blends the mapped plane (1) with the plane as it came (0).
    """

    centers: Plane
    lines: NDArray[np.float64]
    tissue_threshold: float
    strength: float = 1.0

    @classmethod
    def of(cls, tables: NDArray[np.float64], centers: Plane, tissue_threshold: float, strength: float = 1.0) -> Self:
        """Lines of tables `(row, bin)`, the intensities to which the centres are mapped."""
        slope = np.diff(tables) / np.diff(centers.astype(np.float64))
        slope = np.concatenate([slope, np.zeros((len(tables), 1))], axis=1)  # beyond the last centre
        return cls(centers, np.stack([slope, tables - slope * centers], axis=-1), tissue_threshold, strength)

    def map(self, plane: Plane, row: int) -> Plane:
        """Map a contiguous plane, or a part of one, by a row of the tables, in place."""
        self.map_into(plane, row, plane)
        return plane

    def map_into(self, plane: Plane, row: int, out: Plane) -> None:
        """Map a plane by a row of the tables into a contiguous one."""
        take(self.steps(row), plane, out)

    def steps(self, row: int) -> list[Step]:
        """Steps that map a plane by a row of the tables."""
        lines = self.lines[row]
        if np.isnan(lines[0, 1]):
            return []
        return [Step(INTERPOLATE, (float(self.tissue_threshold), float(self.strength)), self.centers, lines)]
