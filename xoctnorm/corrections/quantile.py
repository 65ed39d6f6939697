"""Drift between sections by matching the quantiles of every section to those of the others at equal depth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.agarose import SECTIONS
from xoctnorm.checks import FEWEST_SECTION_VOXELS, number_problems
from xoctnorm.corrections.base import Correction
from xoctnorm.corrections.tables import by_row
from xoctnorm.errors import listed
from xoctnorm.kernels.quantiles import (
    LEVELS,
    ODD,
    cap_slope,
    match_at_equal_depth,
    match_quantiles,
    odd_planes,
    quantiles,
    supported,
)
from xoctnorm.transfers import Plane, Transfer
from xoctnorm.volume import PlanesT, Volume

_WORTH_SAYING = 0.02  # of brightness: a difference between sections that is left alone
_SAID = {  # by whether gains count, and shapes
    (True, True): "follow all quantiles",
    (True, False): "are gains: their shapes differ no more than anatomy within sections lets expect",
    (False, True): "have shapes but no gain: gains differ no more than anatomy within sections lets expect",
    (False, False): "change nothing: sections differ no more than anatomy within them lets expect",
}


@dataclass(frozen=True)
class QuantileMatch(Correction):
    """Map intensities so that the tissue of every section has the quantiles that the others have at equal depth.

    The map of a section is monotone and linear between 128 quantiles, from 2 to 98 %, and goes on beyond them. It
    is the identity, to the bit, where sections agree already, and the same for all planes of the section, so that
    decay within it stays. It is a gain where the shapes of sections differ no more than anatomy explains, as the
    halves of sections tell, and the identity where their gains do not either.

    Assumes that tissue has the same shares of bright and dark in all sections at equal depth; depth is the coordinate
    ``depth``, else the place of a plane in its section. Where the share of white matter changes, it takes a part of
    that for a gain.

    Parameters
    ----------
    strength
        0 leaves the volume alone, 1 maps fully, 0.5 goes half of the way.
    max_slope
        The slope of the map is at most the overall gain of the section times this, and at least the gain divided by
        it; with 1 the map is that gain.
    """

    strength: float = 1.0
    max_slope: float = 2.0
    name: ClassVar[str] = "quantile"
    needs: ClassVar[tuple[str, ...]] = ("quantile_source", "quantile_target")

    def problems(self) -> list[str]:
        """See `Correction.problems`."""
        return [
            *number_problems("strength", self.strength, 0, 1),
            *number_problems("max_slope", self.max_slope, 1),
        ]

    def reads(self, n_sections: int) -> int:
        """See `Correction.reads`."""
        return int(n_sections > 1)

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Find the map of every section; one read, none where there is one section."""
        sections, notes, decisions = volume.sections, [], []
        source, target = np.full((2, len(sections), LEVELS.size), np.nan)
        if len(sections) > 1:
            of_planes = np.array(
                list(
                    volume.each_plane(
                        lambda _, plane, *agarose: quantiles(tissue(plane, *agarose), FEWEST_SECTION_VOXELS),
                        *([] if volume.agarose is None else [volume.agarose]),
                    )
                )
            )
            depth = volume.depths
            odd = odd_planes(of_planes, sections.index, depth)
            of_planes[odd] = np.nan
            source, target = match_at_equal_depth(of_planes, sections.index, depth, len(sections))
            found = target
            target, support = supported(of_planes, sections.index, depth, source, target)
            for row in np.flatnonzero(~np.isnan(source[:, 0])):
                target[row] = cap_slope(source[row], target[row], self.max_slope)
            notes = self._notes(volume, odd, np.isnan(source[:, 0]))
            if not (support.gain or support.shape):
                notes += _left_alone(source, found)
            decisions = [f"maps of sections {_SAID[support.gain, support.shape]}"]
        fitted = xr.Dataset(
            {"quantile_source": ((SECTIONS, "quantile"), source), "quantile_target": ((SECTIONS, "quantile"), target)},
            coords={"quantile_level": ("quantile", LEVELS)},
        )
        fitted.attrs["decisions"] = decisions
        return fitted, notes

    def _notes(self, volume: Volume, odd: NDArray[np.bool_], alone: NDArray[np.bool_]) -> list[str]:
        notes = []
        if odd.any():
            notes.append(
                f"plane {listed(np.flatnonzero(odd))}: more than {ODD:g} times brighter or darker than the rest of its "
                "section at that depth, so it is left out of the match, and mapped like the rest"
            )
        if alone.any():
            labels = [volume.sections.labels[row] for row in np.flatnonzero(alone)]
            notes.append(
                f"section {listed(labels)}: no plane of it has {FEWEST_SECTION_VOXELS} voxels of tissue, so it is not "
                "matched"
            )
        return notes

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Map every plane by the quantiles of its section."""
        rows, (source, target) = by_row(fitted, "quantile", *self.needs)
        mapping = partial(match_by_row, source=source, target=target, strength=self.strength)
        return planes.through(Transfer(mapping, (rows,)))


def _left_alone(source: NDArray[np.float64], target: NDArray[np.float64]) -> list[str]:
    """What to say where nothing is matched: nothing, where there was hardly anything to match."""
    away = np.abs(target - source).mean(axis=1) / np.abs(source).mean(axis=1)
    most = float(np.nanmax(away, initial=0.0))
    if most <= _WORTH_SAYING:
        return []
    return [
        f"quantiles of sections differ by up to {most:.1%}, which is no more than anatomy within sections lets expect, "
        "so nothing is matched: drift, if there is some, is too small for this method"
    ]


def tissue(plane: Plane, agarose: NDArray[np.bool_] | None = None) -> Plane:
    """Voxels of a plane that are neither empty nor, where that is known, agarose."""
    inside = plane != 0
    if agarose is not None:
        inside &= ~agarose
    chosen: Plane = plane[inside]
    return chosen


def match_by_row(
    plane: Plane, row: int, *, source: NDArray[np.float64], target: NDArray[np.float64], strength: float
) -> Plane:
    """Map a plane by one row of the tables; leave it alone where the row is NaN."""
    if np.isnan(source[row, 0]):
        return plane
    return match_quantiles(plane, source[row], target[row], strength)
