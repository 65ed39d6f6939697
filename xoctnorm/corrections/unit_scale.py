"""One number brings a corrected volume to 0…1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.checks import FEWEST_AGAROSE_PIXELS, number_problems
from xoctnorm.corrections.base import Correction
from xoctnorm.errors import listed, raise_problems
from xoctnorm.kernels.background import subtract_and_divide, unit_steps
from xoctnorm.kernels.order_statistics import median_where, percentile_without_zeros
from xoctnorm.transfers import Plane, Transfer
from xoctnorm.volume import PlanesT, Volume

FLOORS = ("noise", "agarose")
_OUTLYING = 2.0  # a plane so much brighter than the others of its depth does not say what becomes 1


@dataclass(frozen=True)
class UnitScale(Correction):
    """Divide by one percentile of the brightest planes, after taking off one level for the whole volume, or nothing.

    Parameters
    ----------
    percentile_max
        Percentile of a plane, 0 to 100, that counts as its brightest.
    divisor_percentile
        Percentile of that over planes, 0 to 100, that becomes 1. Planes more than twice as bright as others at
        their depth are left out.
    floor
        What becomes 0: ``"noise"``, the noise floor, so that agarose stays small and positive; or ``"agarose"``,
        the median over planes of the agarose median.
    """

    percentile_max: float = 99.9
    divisor_percentile: float = 100.0
    floor: str = "noise"
    name: ClassVar[str] = "unit_scale"
    needs: ClassVar[tuple[str, ...]] = ("zero_level", "divisor")

    def problems(self) -> list[str]:
        """See `Correction.problems`."""
        known = self.floor in FLOORS
        return [
            *number_problems("percentile_max", self.percentile_max, 0, 100),
            *number_problems("divisor_percentile", self.divisor_percentile, 0, 100),
            *([] if known else [f"floor={self.floor!r}: needs one of {listed([repr(f) for f in FLOORS])}"]),
        ]

    @property
    def wants_percentile(self) -> float | None:
        """See `Correction.wants_percentile`."""
        return self.percentile_max if self.floor == "noise" else None

    def reads(self, n_sections: int) -> int:
        """See `Correction.reads`."""
        return 1

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Find the brightest values of every plane; one read, where no earlier one has found them."""
        found = volume.percentiles() if self.floor == "noise" else None
        levels, caps = self._ends(volume) if found is None else (np.full_like(found, np.nan), found)
        zero = np.float32(0)
        if self.floor == "agarose":
            if np.isnan(levels).all():
                raise_problems(
                    "floor",
                    [
                        f"floor='agarose': no plane has {FEWEST_AGAROSE_PIXELS} pixels of agarose with data; take "
                        "floor='noise', or pass an agarose_mask"
                    ],
                )
            zero = np.float32(np.nanmedian(levels))
        spans = _without_outlying(caps - zero, volume.depths)
        divisor = np.float32(np.percentile(spans, self.divisor_percentile)) if spans.size else np.float32(0)
        if not divisor > 0:
            raise_problems(
                "normalize",
                [
                    f"nothing is brighter than the {self.floor} floor: percentile {self.percentile_max:g} of the "
                    f"planes is {divisor:g} above it; check noise_floor= and the agarose mask"
                ],
            )
        return xr.Dataset({"zero_level": zero, "divisor": divisor}), []

    def _ends(self, volume: Volume) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Level of agarose, where that becomes 0, and brightest values of every plane; one read."""
        assert volume.agarose is not None

        def ends(_: int, plane: Plane, agarose: NDArray[np.bool_]) -> tuple[np.float32, np.float32]:
            level = np.float32(np.nan)
            if self.floor == "agarose":
                level = median_where(plane, agarose, FEWEST_AGAROSE_PIXELS)
            return level, percentile_without_zeros(plane, self.percentile_max)

        levels, caps = np.array(list(volume.each_plane(ends, volume.agarose)), np.float32).T
        return levels, caps

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Subtract and divide."""
        numbers = tuple(fitted[name].variable for name in self.needs)
        return planes.through(Transfer(subtract_and_divide, numbers, unit_steps))


def _without_outlying(caps: NDArray[np.float32], depth: NDArray[np.int64]) -> NDArray[np.float32]:
    """Values of planes that are not much brighter than the others at their depth."""
    usual = np.full(len(caps), np.nan)
    for d in np.unique(depth):
        here = depth == d
        if np.isfinite(caps[here]).any():
            usual[here] = np.nanmedian(caps[here])
    kept: NDArray[np.float32] = caps[np.isfinite(caps) & (caps <= _OUTLYING * np.maximum(usual, 0))]
    return kept
