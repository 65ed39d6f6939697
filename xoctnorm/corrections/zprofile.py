"""Jitter from plane to plane: the mean over tissue of every plane is brought to its smooth trend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.checks import integer_problems, number_problems
from xoctnorm.corrections.base import Correction
from xoctnorm.errors import listed
from xoctnorm.kernels.backend import kernels_for
from xoctnorm.kernels.background import Plane, factor_steps, multiply
from xoctnorm.kernels.smoothing import profile_gains
from xoctnorm.transfers import Transfer
from xoctnorm.volume import PlaneMasks, PlanesT, Volume


@dataclass(frozen=True)
class ZProfile(Correction):
    """Multiply every plane so that its mean over tissue lies on the profile smoothed along z.

    Parameters
    ----------
    sigma
        Standard deviation of the Gaussian along z, in planes; 0 leaves the volume alone.
    min_tissue_voxels
        A plane with fewer voxels of tissue is left alone.
    """

    sigma: float = 2.0
    min_tissue_voxels: int = 100
    name: ClassVar[str] = "zprofile"
    needs: ClassVar[tuple[str, ...]] = ("zprofile_gain",)

    def problems(self) -> list[str]:
        """See `Correction.problems`."""
        return [
            *number_problems("sigma", self.sigma, 0),
            *integer_problems("min_tissue_voxels", self.min_tissue_voxels, 0),
        ]

    @property
    def wants_tissue_means(self) -> bool:
        """See `Correction.wants_tissue_means`."""
        return True

    def reads(self, n_sections: int) -> int:
        """See `Correction.reads`."""
        return 1

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Find the gain of every plane; one read, where the one before has not found the means."""
        means = _means(volume, self.min_tissue_voxels)
        smoothed, gains = profile_gains(means, self.sigma)
        fitted = xr.Dataset(
            {
                "zprofile_mean": volume.per_plane(means),
                "zprofile_smoothed": volume.per_plane(smoothed),
                "zprofile_gain": volume.per_plane(gains),
            }
        )
        return fitted, self._notes(means)

    def _notes(self, means: NDArray[np.float64]) -> list[str]:
        alone = np.flatnonzero(np.isnan(means))
        if len(means) - len(alone) < 3:
            return [
                f"fewer than 3 planes have {self.min_tissue_voxels} voxels of tissue: there is no profile along z "
                "to smooth, and all planes are left alone"
            ]
        if alone.size:
            return [
                f"plane {listed(alone)}: fewer than {self.min_tissue_voxels} voxels of tissue, so its gain along z is 1"
            ]
        return []

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Multiply every plane by its gain."""
        return planes.through(Transfer(multiply, (fitted["zprofile_gain"].variable,), factor_steps))


def _means(volume: Volume, min_voxels: int) -> NDArray[np.float64]:
    """Mean of every plane over its tissue: the mask that the user gave, else what is neither agarose nor empty."""
    if volume.tissue is not None:
        tissue = PlaneMasks(volume.tissue)
        return np.array(list(volume.each_plane(lambda _, plane, mask: tissue_mean(plane, mask, min_voxels), tissue)))
    assert volume.agarose is not None
    means, unknown = np.full(len(volume.sections.index), np.nan), np.ones(len(volume.sections.index), bool)
    if volume.means is not None and volume.means.found and volume.means.n_transfers == len(volume.transfers):
        found, n_voxels = np.array(volume.means.found).T
        enough = n_voxels >= max(min_voxels, 1)
        means[enough] = found[enough]
        unknown = enough & np.isnan(means)
    if unknown.any():
        of_planes = volume.each_plane(
            lambda _, plane, agarose: tissue_mean(plane, ~agarose, min_voxels, empty=0), volume.agarose, only=unknown
        )
        means[unknown] = list(of_planes)
    return means


def tissue_mean(plane: Plane, tissue: NDArray[np.bool_], min_voxels: int, *, empty: float = np.nan) -> float:
    """Mean of a plane over the voxels of its tissue that have data; NaN, which means missing, with too few.

    NaN is no data, nor is the value `empty`.
    """
    kernels = kernels_for(plane)
    total, count = kernels.sum_where(kernels.frozen(plane), kernels.frozen(tissue), empty)
    return total / count if count >= max(min_voxels, 1) else float("nan")
