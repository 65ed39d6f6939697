"""The parameters of the whole job, and the corrections that follow from them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Set
from dataclasses import dataclass, fields

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.checks import integer_problems, number_problems
from xoctnorm.corrections import (
    METHODS,
    Background,
    BorderMask,
    Correction,
    GivenMask,
    HistogramMatch,
    Linearize,
    OtsuMask,
    PercentileScale,
    QuantileMatch,
    TissueDrift,
    UnitScale,
    ZProfile,
)
from xoctnorm.corrections.tissue_drift import JITTER
from xoctnorm.corrections.tissue_drift import METHODS as TISSUE_METHODS
from xoctnorm.corrections.unit_scale import FLOORS
from xoctnorm.errors import listed

USE_GPU: bool | str = False
"""Whether volumes of the host are computed on a graphics processor, unless a call says so."""

NoiseFloor = str | float | Sequence[float] | xr.DataArray | NDArray[np.generic]

OF_REFERENCE: tuple[str | None, ...] = (PercentileScale.name, HistogramMatch.name, None)
DRIFTS: tuple[str | None, ...] = (*reversed(TISSUE_METHODS), QuantileMatch.name, *OF_REFERENCE)


@dataclass(frozen=True)
class Normalization:
    """All parameters of the whole job, with their defaults; the accessor documents them."""

    drift: str | None = "joint"
    flatten_depth: bool = TissueDrift.flatten_depth
    lateral: str | None = TissueDrift.lateral
    noise_floor: NoiseFloor = TissueDrift.noise_floor
    intensity: str = Linearize.intensity
    exclude: Sequence[Hashable] = TissueDrift.exclude
    reference_tissue: str = TissueDrift.reference_tissue
    max_depth_gain: float = TissueDrift.max_depth_gain
    first_depth: int | None = TissueDrift.first_depth
    blend: int = TissueDrift.blend
    floor: str | None = None
    percentile_max: float = Background.percentile_max
    smoothing_sigma: float = OtsuMask.smoothing_sigma
    divisor_percentile: float = Background.divisor_percentile
    smooth_sigma: float = PercentileScale.smooth_sigma
    percentile: float = PercentileScale.percentile
    min_scale: float = PercentileScale.min_scale
    max_scale: float = PercentileScale.max_scale
    n_bins: int = HistogramMatch.n_bins
    tissue_threshold: float = HistogramMatch.tissue_threshold
    max_slope: float = QuantileMatch.max_slope
    strength: float = PercentileScale.strength
    zprofile_sigma: float = 0.0
    min_tissue_voxels: int = ZProfile.min_tissue_voxels
    section: str = "section"

    def __post_init__(self) -> None:
        # Lists as tuples, so that a call can be compared and recorded.
        for name in ("exclude", "noise_floor"):
            value = getattr(self, name)
            is_mask = isinstance(value, np.ndarray) and value.dtype == bool
            if isinstance(value, list | np.ndarray | range) and not is_mask:
                object.__setattr__(self, name, tuple(value.tolist() if isinstance(value, np.ndarray) else value))
        if not isinstance(self.exclude, tuple):
            object.__setattr__(self, "exclude", (self.exclude,))

    @property
    def by_reference(self) -> bool:
        """Whether background and drift are those of the reference."""
        return self.drift in OF_REFERENCE and not self.flatten_depth

    @property
    def background(self) -> Background:
        """Floor, cap and divisor of the reference."""
        return Background(self.percentile_max, self.divisor_percentile)

    @property
    def unit_scale(self) -> UnitScale:
        """Floor and divisor of the volume."""
        floor = self.floor if self.floor is not None else UnitScale.floor
        return UnitScale(self.percentile_max, self.divisor_percentile, floor)

    @property
    def scale(self) -> PercentileScale:
        """Drift by one factor per section."""
        return PercentileScale(self.smooth_sigma, self.percentile, self.min_scale, self.max_scale, self.strength)

    @property
    def histogram(self) -> HistogramMatch:
        """Drift by histogram matching."""
        return HistogramMatch(self.n_bins, self.tissue_threshold, self.strength)

    @property
    def quantile(self) -> QuantileMatch:
        """Drift by quantile matching."""
        return QuantileMatch(self.strength, self.max_slope)

    @property
    def tissue_drift(self) -> TissueDrift:
        """Drift and decay by the model of tissue."""
        # Quantiles tell gains of sections, not which planes stand out of their section.
        others = JITTER if self.drift == QuantileMatch.name else None
        return TissueDrift(
            self.drift if self.drift in TISSUE_METHODS else others,
            self.flatten_depth,
            self.noise_floor,  # type: ignore[arg-type]  # masks were taken off, lists are tuples
            tuple(self.exclude),
            self.reference_tissue,
            self.max_depth_gain,
            self.first_depth,
            self.blend,
            self.strength,
            self.lateral,
        )

    def mask(self, agarose_mask: object) -> Correction:
        """How agarose is found: by the method that suits the drift, by one with its name, or given."""
        if isinstance(agarose_mask, str):
            return METHODS.get(agarose_mask, OtsuMask)(self.smoothing_sigma, per_section=True)
        if agarose_mask is not None:
            return GivenMask()
        if self.by_reference:
            return OtsuMask(self.smoothing_sigma)
        return BorderMask(self.smoothing_sigma, per_section=True, required=False)

    def corrections(self, agarose_mask: object) -> list[Correction]:
        """The corrections in their order."""
        chosen = [self.mask(agarose_mask)]
        if self.by_reference:
            chosen.append(self.background)
            if self.drift == PercentileScale.name:
                chosen.append(self.scale)
            elif self.drift == HistogramMatch.name:
                chosen.append(self.histogram)
        else:
            chosen.append(Linearize(self.intensity))
            chosen.append(self.tissue_drift)  # the floor first, also before quantiles are matched
            if self.drift == QuantileMatch.name:
                chosen.append(self.quantile)
            chosen.append(self.unit_scale)
        if self.zprofile_sigma != 0:
            chosen.append(ZProfile(self.zprofile_sigma, self.min_tissue_voxels))
        return chosen

    def problems(self) -> list[str]:
        """Everything wrong with the parameters, also with those that the chosen drift does not use."""
        found = [] if self.drift in DRIFTS else [f"drift={self.drift!r}: needs one of {listed(DRIFTS)}"]
        if self.flatten_depth is True and self.drift in (PercentileScale.name, HistogramMatch.name):
            found.append(
                f"flatten_depth=True does not go with drift={self.drift!r}, whose background changes from plane to "
                "plane: take drift='joint', or None for the decay alone"
            )
        if self.floor is not None and self.floor not in FLOORS:
            found.append(f"floor={self.floor!r}: needs one of {listed([repr(f) for f in FLOORS])}, or None")
        elif self.floor == "noise" and self.drift in DRIFTS and self.by_reference:
            found.append(
                f"floor='noise' does not go with drift={self.drift!r}, which subtracts agarose as the reference does: "
                "take drift='joint'"
            )
        for correction in (
            OtsuMask(self.smoothing_sigma),
            self.background,
            self.scale,
            self.histogram,
            self.quantile,
            Linearize(self.intensity),
            self.tissue_drift,
        ):
            found += correction.problems()
        found += number_problems("zprofile_sigma", self.zprofile_sigma, 0)
        found += integer_problems("min_tissue_voxels", self.min_tissue_voxels, 0)
        return list(dict.fromkeys(found))

    def idle(self, used: Set[str]) -> list[str]:
        """Parameters that were given, beside those that are used."""
        return [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name not in used and getattr(self, field.name) != field.default
        ]

    def notes(self, agarose_mask: object) -> list[str]:
        """Parameters that were given and have no effect."""
        mask_given = agarose_mask is not None and not isinstance(agarose_mask, str)
        used = {"percentile_max", "divisor_percentile", "drift", "zprofile_sigma", "section", "flatten_depth", "floor"}
        for correction in self.corrections(agarose_mask):
            used |= set(correction.parameters())
        if not self.flatten_depth:
            used -= {"reference_tissue", "max_depth_gain"}
        idle = self.idle(used)
        if not idle:
            return []
        return [
            f"{listed(idle)} has no effect with drift={self.drift!r}, flatten_depth={self.flatten_depth!r}, "
            f"zprofile_sigma={self.zprofile_sigma!r} and {'a given' if mask_given else 'no given'} agarose_mask"
        ]
