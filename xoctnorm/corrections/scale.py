"""Drift between sections by percentile scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.checks import FEWEST_SECTION_VOXELS, number_problems
from xoctnorm.corrections.base import Correction
from xoctnorm.errors import listed
from xoctnorm.kernels.backend import concatenated
from xoctnorm.kernels.background import factor_steps, multiply
from xoctnorm.kernels.order_statistics import POSITIVE, Bracket, Counted, bracket_of, counted, percentile_of_all
from xoctnorm.kernels.smoothing import factors_to_median, smooth_where_present
from xoctnorm.transfers import Plane, Transfer
from xoctnorm.volume import PlanesT, Volume


@dataclass(frozen=True)
class PercentileScale(Correction):
    """Bring the smoothed percentile of every section to the median over sections, by one factor each.

    Parameters
    ----------
    smooth_sigma
        Standard deviation of the Gaussian over sections, in sections.
    percentile
        Percentile, 0 to 100, of the voxels of a section above 0.
    min_scale, max_scale
        Smallest and largest factor.
    strength
        0 leaves the volume alone, 1 applies the whole factor.
    """

    smooth_sigma: float = 10.0
    percentile: float = 80.0
    min_scale: float = 0.5
    max_scale: float = 2.0
    strength: float = 1.0
    name: ClassVar[str] = "scale"
    needs: ClassVar[tuple[str, ...]] = ("scale_factor",)

    def problems(self) -> list[str]:
        """See `Correction.problems`."""
        clamps = [
            *number_problems("min_scale", self.min_scale, 0, open_low=True),
            *number_problems("max_scale", self.max_scale, 0, open_low=True),
        ]
        if not clamps and self.min_scale > self.max_scale:
            clamps = [f"min_scale={self.min_scale!r} is above max_scale={self.max_scale!r}: exchange them"]
        return [
            *number_problems("smooth_sigma", self.smooth_sigma, 0),
            *number_problems("percentile", self.percentile, 0, 100),
            *clamps,
            *number_problems("strength", self.strength, 0, 1),
        ]

    @property
    def wants_section_percentile(self) -> float | None:
        """See `Correction.wants_section_percentile`."""
        return self.percentile

    def reads(self, n_sections: int) -> int:
        """See `Correction.reads`."""
        return int(n_sections > 1)

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Find the factor of every section; one read, none where there is one section."""
        sections = volume.sections
        metric = np.full(len(sections), np.nan)
        smoothed, factors = metric, np.ones(len(sections), np.float32)
        if len(sections) > 1:
            metric = self._metric(volume)
            smoothed = smooth_where_present(metric, sections.position, self.smooth_sigma)
            full = factors_to_median(smoothed, self.min_scale, self.max_scale)
            factors = blend(full, self.strength).astype(np.float32)
        fitted = xr.Dataset(
            {
                "metric": ("section_label", metric),
                "smoothed_metric": ("section_label", smoothed),
                "scale_factor": volume.per_plane(factors[sections.index]),
            }
        )
        few = f"fewer than {FEWEST_SECTION_VOXELS} voxels above 0"
        bridged, alone = (
            [sections.labels[row] for row in np.flatnonzero((metric == 0) & has)]
            for has in (smoothed > 0, smoothed <= 0)
        )
        notes = list(sections.notes)
        if bridged:
            notes.append(f"section {listed(bridged)}: {few}, so its factor follows from the sections around it")
        if alone:
            notes.append(
                f"section {listed(alone)}: {few}, and none near it has more, so its factor is 1 within the limits"
            )
        return fitted, notes

    def _metric(self, volume: Volume) -> NDArray[np.float64]:
        """Percentile of every section; one read, and one more of the planes of sections whose sample misled.

        The first one is none where the correction before has found the percentiles.
        """
        from xoctnorm.statistics import by_section

        index = volume.sections.index
        brackets: list[Bracket] = []

        def count(number: int, plane: Plane) -> Counted:
            return counted(plane, brackets[index[number]], POSITIVE)

        metric = None if volume.section_percentiles is None else volume.section_percentiles.found
        if metric is None:
            some = [concatenated(list(samples)) for samples in by_section(volume.samples(), index)]
            brackets = [bracket_of(values[values > 0], self.percentile / 100) for values in some]
            metric = [
                section_percentile(list(parts), self.percentile)
                for parts in by_section(volume.each_plane(count), index)
            ]
        missed = np.array([value is None for value in metric])
        if missed.any():
            again = missed[index]
            brackets = [Bracket()] * len(metric)
            for row, parts in zip(
                np.flatnonzero(missed), by_section(volume.each_plane(count, only=again), index[again]), strict=True
            ):
                metric[row] = section_percentile(list(parts), self.percentile)
        return np.array(metric, np.float64)

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Multiply every plane by its factor."""
        return planes.through(Transfer(multiply, (fitted["scale_factor"].variable,), factor_steps))


def blend(factors: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Factors that act with a strength from 0 (not at all) to 1 (fully, to the bit)."""
    return factors if strength == 1 else 1 + strength * (factors - 1)


def section_percentile(parts: Sequence[Counted], q: float) -> float | None:
    """Percentile of the counted values of a section; 0, which means missing, of fewer than 500.

    None where the bracket missed it.
    """
    if sum(part.present for part in parts) < FEWEST_SECTION_VOXELS:
        return 0.0
    found = percentile_of_all(parts, q)
    return None if found is None else float(found)
