"""The scale of intensities: gains multiply, and a floor adds, on linear intensity alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.blocks import values_on_host
from xoctnorm.corrections.base import Correction
from xoctnorm.errors import listed, raise_problems
from xoctnorm.kernels.backend import to_host
from xoctnorm.kernels.coarse import coarse_factor
from xoctnorm.kernels.intensity import SCALES, linearize, scale_of_slope, spread_slope
from xoctnorm.kernels.morphology import eroded
from xoctnorm.transfers import Plane, Transfer
from xoctnorm.volume import PlanesT, Volume

AUTO = "auto"
_SAMPLE = 24  # planes that are looked at where units do not tell the scale


@dataclass(frozen=True)
class Linearize(Correction):
    """Turn amplitude or decibels into linear intensity.

    Parameters
    ----------
    intensity
        ``"linear"``, ``"amplitude"``, ``"db"``, or ``"auto"``: by the attribute ``units`` (dB), by the word
        amplitude in ``long_name`` or in the name, else by how the spread of
        agarose follows its mean.
    """

    intensity: str = AUTO
    name: ClassVar[str] = "linearize"
    needs: ClassVar[tuple[str, ...]] = ("intensity_scale",)

    def problems(self) -> list[str]:
        """See `Correction.problems`."""
        known = (AUTO, *SCALES)
        return (
            []
            if self.intensity in known
            else [f"intensity={self.intensity!r}: needs one of {listed([repr(scale) for scale in known])}"]
        )

    @property
    def sampled_planes(self) -> int:
        """See `Correction.sampled_planes`: none where the scale is given."""
        return _SAMPLE if self.intensity == AUTO else 0

    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Tell the scale; at most 24 planes are read."""
        scale, why, sure = self.intensity, "as given", True
        if scale == AUTO:
            scale, why, sure = _found_scale(volume)
        if scale == "db" and volume.data.dtype.kind in "iu" and not _is_decibel(volume.units):
            problem = (
                f"the volume seems to be in decibels ({why}), on integers whose step in dB is unknown: convert it to "
                "dB first, for instance volume * (40 / 255) for 8 bits over 40 dB, or pass intensity='linear'"
            )
            if self.intensity != AUTO:
                raise_problems("intensity", [problem])
            scale, why, sure = "linear", problem, False
        raise_problems("intensity", volume.survey.problems(decibels=scale == "db"))
        fitted = xr.Dataset({"intensity_scale": np.int8(SCALES.index(scale))})
        fitted.attrs["decisions"] = [f"intensity is {scale}: {why}"]
        return fitted, [] if sure else [f"intensity is taken for {scale}: {why}; say intensity= where it is not"]

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Linearize every plane; nothing is to be done, and no plane to be copied, where intensity is linear."""
        scale = fitted["intensity_scale"].variable
        if scale.chunks is None and not scale.to_numpy().any():
            return planes
        return planes.through(Transfer(linearize, (scale,)))


def _is_decibel(units: str | None) -> bool:
    return units is not None and units.strip().lower() in ("db", "decibel", "decibels")


def _found_scale(volume: Volume) -> tuple[str, str, bool]:
    """Scale, the reason, and whether that is sure."""
    if _is_decibel(volume.units):
        return "db", f"units are {volume.units!r}", True
    if "amplitude" in volume.described.lower():
        return "amplitude", f"the volume is called {volume.described!r}", True
    slope, error = spread_slope(_sample(volume))
    found = scale_of_slope(slope, error)
    told = f"over agarose the log of the spread rises by {slope:.2f} ± {error:.2f} per log of the mean"
    if found is not None:
        return found, told, found == "linear"  # decibels without units are worth a look
    if np.isnan(slope):
        return "linear", "units do not tell, and there is too little agarose to judge by", False
    return "linear", f"units do not tell, and {told}, where linear intensity has 1 and decibels have 0", False


def _sample(volume: Volume) -> Iterator[tuple[Plane, NDArray[np.bool_]]]:
    """Some planes, evenly spread, and their agarose without its rim, where tissue may begin.

    Of large planes, every so many pixels along y and x are enough.
    """
    lead = volume.data.shape[:-2]
    step = coarse_factor(*volume.data.shape[-2:])
    count = int(np.prod(lead))
    for number in np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(int)):
        plane = volume.data[np.unravel_index(number, lead)][::step, ::step]
        assert volume.agarose is not None
        agarose = to_host(volume.agarose.of_plane(int(number))[::step, ::step])
        inner = eroded(agarose, -(-3 // step))
        yield values_on_host(plane).astype(np.float32, copy=False), inner
