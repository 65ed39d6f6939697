"""Background: the agarose median of every plane becomes 0, and one divisor scales the volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr

from xoctnorm.checks import FEWEST_AGAROSE_PIXELS, number_problems
from xoctnorm.corrections.base import Correction
from xoctnorm.errors import listed, raise_problems
from xoctnorm.kernels.background import background_steps, remove_background
from xoctnorm.kernels.order_statistics import plane_thresholds
from xoctnorm.transfers import Transfer
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

    def reads(self, n_sections: int) -> int:
        """See `Correction.reads`."""
        return 1

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Find floor and cap of every plane; one read."""
        assert volume.agarose is not None
        floors, caps = np.array(
            list(
                volume.each_plane(
                    lambda _, plane, agarose: plane_thresholds(
                        plane, agarose, self.percentile_max, FEWEST_AGAROSE_PIXELS
                    ),
                    volume.agarose,
                    any_dtype=True,
                )
            ),
            dtype=np.float32,
        ).T
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
