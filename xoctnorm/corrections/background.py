"""Background: the agarose median of every plane becomes 0, and one divisor scales the volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.checks import FEWEST_AGAROSE_PIXELS, FEWEST_SECTION_VOXELS, number_problems
from xoctnorm.corrections.base import Correction
from xoctnorm.errors import listed, raise_problems
from xoctnorm.kernels.above_floor import AboveFloor, bracket_above, counted_above, ends_above
from xoctnorm.kernels.background import background_steps, remove_background
from xoctnorm.kernels.order_statistics import Bracket, plane_thresholds, spread
from xoctnorm.kernels.strips import single
from xoctnorm.transfers import Plane, Transfer
from xoctnorm.volume import PlanesT, Volume


@dataclass(frozen=True)
class Background(Correction):
    """Clip every plane at a percentile and at its agarose median, subtract that, divide by one number.

    Parameters
    ----------
    percentile_max
        Percentile of the plane that caps it, 0 to 100.
    divisor_percentile
        Percentile, over planes, of the spans from floor to cap that becomes 1; 100 is the largest.
    """

    percentile_max: float = 99.9
    divisor_percentile: float = 100.0
    name: ClassVar[str] = "background"
    needs: ClassVar[tuple[str, ...]] = ("background_threshold", "clip_threshold", "divisor")

    def problems(self) -> list[str]:
        """See `Correction.problems`."""
        return [
            *number_problems("percentile_max", self.percentile_max, 0, 100),
            *number_problems("divisor_percentile", self.divisor_percentile, 0, 100),
        ]

    @property
    def finds_section_percentiles(self) -> bool:
        """See `Correction.finds_section_percentiles`."""
        return True

    def reads(self, n_sections: int) -> int:
        """See `Correction.reads`."""
        return 1

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Find floor and cap of every plane, and what the next correction wants to know of sections; one read."""
        from xoctnorm.statistics import by_section

        assert volume.agarose is not None
        index, wanted = volume.sections.index, volume.section_percentiles
        q = 0.0 if wanted is None else wanted.percentile
        brackets = [None] * len(volume.sections) if wanted is None else _brackets(volume, q)

        def look(
            number: int, plane: Plane, agarose: NDArray[np.bool_]
        ) -> tuple[np.float32, np.float32, AboveFloor | None]:
            floor, cap = plane_thresholds(plane, agarose, self.percentile_max, FEWEST_AGAROSE_PIXELS)
            bracket = brackets[index[number]]
            return floor, cap, None if bracket is None else counted_above(single(plane), floor, cap, bracket)

        thresholds, of_sections = [], []
        for planes in by_section(volume.each_plane(look, volume.agarose, any_dtype=True), index):
            found, parts = [], []
            for floor, cap, above in planes:
                found.append((floor, cap))
                parts += [] if above is None else [above]
            thresholds += found
            of_sections.append(ends_above(parts, q) if len(parts) == len(found) else None)
        floors, caps = np.array(thresholds, dtype=np.float32).T
        if np.isnan(floors).all():
            raise_problems(
                "background",
                [
                    f"agarose has data (not NaN) on fewer than {FEWEST_AGAROSE_PIXELS} pixels of every plane, so there "
                    "is no background: pass an agarose_mask that is True where the volume has data"
                ],
            )
        spans = caps - floors
        known = spans[~np.isnan(spans)]
        divisor = np.percentile(known, self.divisor_percentile) if known.size else np.float32(0)
        if not divisor > 0:
            raise_problems(
                "background",
                [
                    f"no tissue is brighter than the agarose: the span from the agarose median to percentile "
                    f"{self.percentile_max:g} of a plane is {divisor:g} (percentile {self.divisor_percentile:g} over "
                    "planes); check the agarose mask, and raise percentile_max or divisor_percentile"
                ],
            )
        if wanted is not None:
            wanted.found = [
                None if ends is None else ends.percentile(np.float32(divisor), FEWEST_SECTION_VOXELS)
                for ends in of_sections
            ]
        fitted = xr.Dataset(
            {
                "background_threshold": volume.per_plane(floors),
                "clip_threshold": volume.per_plane(caps),
                "divisor": np.float32(divisor),
            }
        )
        return fitted, self._notes(floors, caps)

    def _notes(self, floors: np.ndarray, caps: np.ndarray) -> list[str]:
        notes = []
        alone = np.flatnonzero(np.isnan(floors) & ~np.isnan(caps))
        if alone.size:
            notes.append(
                f"plane {listed(alone)}: fewer than {FEWEST_AGAROSE_PIXELS} agarose pixels have data, so no "
                "background is subtracted there"
            )
        flat = np.flatnonzero((caps <= floors) & (caps != 0))
        if flat.size:
            notes.append(
                f"plane {listed(flat)}: percentile {self.percentile_max:g} is no brighter than the agarose median, "
                "so the plane becomes 0; is it constant, or without tissue?"
            )
        return notes

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Clip, subtract and divide."""
        numbers = tuple(fitted[name].variable for name in self.needs)
        return planes.through(Transfer(remove_background, numbers, background_steps))


def _brackets(volume: Volume, q: float) -> list[Bracket | None]:
    """Where a percentile of what is above the floor lies in every section, as samples tell."""
    from xoctnorm.statistics import by_section, sampled_step

    assert volume.agarose is not None
    index, n_pixels = volume.sections.index, int(np.prod(volume.data.shape[-2:]))
    step = sampled_step(volume.data.size)
    masks = (spread(volume.agarose.of_plane(number), step, number) for number in range(len(index)))
    found = []
    for planes in by_section(zip(volume.samples(), masks, strict=True), index):
        samples, agarose = zip(*planes, strict=True)
        found.append(bracket_above(samples, agarose, q / 100, len(samples) * n_pixels))
    return found
