"""Drift between sections by matching the histogram of every section to that of the volume."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.checks import FEWEST_SECTION_VOXELS, integer_problems, number_problems
from xoctnorm.corrections.base import Correction
from xoctnorm.corrections.tables import by_row
from xoctnorm.errors import listed
from xoctnorm.kernels.backend import to_host
from xoctnorm.kernels.half_bins import FEWEST_BINS, MOST_BINS, MOST_VALUES, HalfBins, Words, mean_when_mapped
from xoctnorm.kernels.histograms import Mapping, bin_centers, bin_edges, histogram, matching_table
from xoctnorm.transfers import Plane, Transfer
from xoctnorm.volume import PlanesT, Volume


@dataclass(frozen=True)
class HistogramMatch(Correction):
    """Map intensities so that the histogram of every section becomes that of the whole volume.

    Parameters
    ----------
    n_bins
        Number of equal bins up to 1, at least 2.
    tissue_threshold
        Voxels at or below it are neither counted nor changed; below 1.
    strength
        0 leaves the volume alone, 1 maps fully.
    """

    n_bins: int = 512
    tissue_threshold: float = 0.0
    strength: float = 1.0
    name: ClassVar[str] = "histogram"
    needs: ClassVar[tuple[str, ...]] = ("matched_intensity", "bin_center")

    def problems(self) -> list[str]:
        """See `Correction.problems`."""
        threshold = number_problems("tissue_threshold", self.tissue_threshold, -np.inf)
        if not threshold and self.tissue_threshold >= 1:
            threshold = [f"tissue_threshold={self.tissue_threshold!r}: needs a number below 1, where the bins end"]
        bins = integer_problems("n_bins", self.n_bins, 2)
        if not threshold and not bins and not (np.diff(bin_edges(self.n_bins, self.tissue_threshold)) > 0).all():
            threshold = [
                f"tissue_threshold={self.tissue_threshold!r}: float32 has no room for n_bins={self.n_bins} bins from "
                "there to 1: lower one of them"
            ]
        return [
            *bins,
            *threshold,
            *number_problems("strength", self.strength, 0, 1),
        ]

    @property
    def finds_tissue_means(self) -> bool:
        """See `Correction.finds_tissue_means`."""
        return self.tissue_threshold == 0 and FEWEST_BINS <= self.n_bins <= MOST_BINS

    def reads(self, n_sections: int) -> int:
        """See `Correction.reads`."""
        return int(n_sections > 1)

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Find the table of every section; one read, none where there is one section."""
        sections = volume.sections
        centers = bin_centers(self.n_bins, self.tissue_threshold)
        tables = np.full((len(sections), self.n_bins), np.nan)
        if len(sections) > 1:
            counts, tissue = self._read(volume)
            tables = section_tables(counts, centers)
            if volume.means is not None and tissue:
                mapping = Mapping.of(tables, centers, self.tissue_threshold, self.strength)
                found = [mean_when_mapped(*one) for one in zip(tissue, repeat(mapping), sections.index.tolist())]
                volume.means.keep(found, len(volume.transfers) + 1)
        fitted = xr.Dataset(
            {"matched_intensity": (("section_label", "bin"), tables)}, coords={"bin_center": ("bin", centers)}
        )
        alone = [sections.labels[row] for row in np.flatnonzero(np.isnan(tables[:, 0]))]
        if not alone or len(sections) == 1:
            return fitted, []
        return fitted, [
            f"section {listed(alone)}: fewer than {FEWEST_SECTION_VOXELS} voxels between tissue_threshold="
            f"{self.tissue_threshold:g} and 1 in it, or in the volume, so it is not matched"
        ]

    def _read(self, volume: Volume) -> tuple[NDArray[np.int64], list[Words]]:
        """Counts of every section; and of planes the words of their tissue, where these are wanted."""
        from xoctnorm.statistics import by_section

        index = volume.sections.index
        counts, tissue = np.zeros((len(volume.sections), self.n_bins), np.int64), []
        if volume.means is not None and np.prod(volume.data.shape[-2:]) <= MOST_VALUES:
            assert volume.agarose is not None
            halves = volume.each_plane(
                lambda _, plane, agarose: HalfBins.of(plane, agarose, self.n_bins), volume.agarose
            )
            for row, (of_plane, words) in zip(index, halves, strict=True):
                counts[row] += of_plane
                tissue.append(words)
            return counts, tissue

        of_planes = volume.each_plane(lambda _, plane: histogram(plane, self.n_bins, self.tissue_threshold))
        for row, of_section in enumerate(by_section(of_planes, index)):
            counts[row] = to_host(sum(of_section))
        return counts, tissue

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Map every plane by the table of its section."""
        rows, (tables,) = by_row(fitted, "bin", "matched_intensity")
        mapping = Mapping.of(tables, fitted["bin_center"].to_numpy(), self.tissue_threshold, self.strength)
        return planes.through(Transfer(mapping.map, (rows,), mapping.steps))


def section_tables(counts: NDArray[np.int64], centers: Plane) -> NDArray[np.float64]:
    """Tables `(section, bin)` that match the counts of every section to their sum; NaN: left alone."""
    reference = counts.sum(axis=0)
    tables = np.full(counts.shape, np.nan)
    if reference.sum() >= FEWEST_SECTION_VOXELS:
        for row in np.flatnonzero(counts.sum(axis=1) >= FEWEST_SECTION_VOXELS):
            tables[row] = matching_table(counts[row], reference, centers)
    return tables
