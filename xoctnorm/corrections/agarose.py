"""Where the agarose is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr

from xoctnorm.checks import coverage_problems, number_problems
from xoctnorm.corrections.base import Correction
from xoctnorm.errors import raise_problems
from xoctnorm.kernels.masks import otsu_agarose_mask
from xoctnorm.volume import PlanesT, Volume


@dataclass(frozen=True)
class OtsuMask(Correction):
    """Agarose by Otsu's threshold on the smoothed mean projection, one outline for all planes.

    Parameters
    ----------
    smoothing_sigma
        Standard deviation of the Gaussian in the plane, in pixels.
    """

    smoothing_sigma: float = 1.0
    name: ClassVar[str] = "otsu_mask"

    def problems(self) -> list[str]:
        """See `Correction.problems`."""
        return number_problems("smoothing_sigma", self.smoothing_sigma, 0)

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Find the mask on the mean projection of the survey; no read."""
        mask, threshold = otsu_agarose_mask(volume.survey.mean, self.smoothing_sigma)
        raise_problems("agarose mask", coverage_problems("the mask by Otsu's threshold", mask))
        fitted = xr.Dataset({"agarose_mask": (("y", "x"), mask), "otsu_threshold": threshold})
        return fitted, []

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Leave intensities alone."""
        return planes


@dataclass(frozen=True)
class GivenMask(Correction):
    """Agarose where the user says so."""

    name: ClassVar[str] = "given_mask"

    def problems(self) -> list[str]:
        """See `Correction.problems`: there are no parameters."""
        return []

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Take the mask that the volume came with."""
        assert volume.agarose is not None
        return xr.Dataset({"agarose_mask": (("y", "x"), np.array(volume.agarose))}), []

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Leave intensities alone."""
        return planes
