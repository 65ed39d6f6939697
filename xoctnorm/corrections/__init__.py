"""Corrections: what can be fitted to a volume and applied to it."""

from xoctnorm.corrections.agarose import METHODS, AutoMask, BorderMask, FoundMask, GivenMask, OtsuMask
from xoctnorm.corrections.background import Background
from xoctnorm.corrections.base import Correction
from xoctnorm.corrections.histogram import HistogramMatch
from xoctnorm.corrections.intensity import Linearize
from xoctnorm.corrections.quantile import QuantileMatch
from xoctnorm.corrections.scale import PercentileScale
from xoctnorm.corrections.tissue_drift import TissueDrift
from xoctnorm.corrections.unit_scale import UnitScale
from xoctnorm.corrections.zprofile import ZProfile

__all__ = [
    "BY_NAME",
    "METHODS",
    "AutoMask",
    "Background",
    "BorderMask",
    "Correction",
    "FoundMask",
    "GivenMask",
    "HistogramMatch",
    "Linearize",
    "OtsuMask",
    "PercentileScale",
    "QuantileMatch",
    "TissueDrift",
    "UnitScale",
    "ZProfile",
]

BY_NAME: dict[str, type[Correction]] = {
    kind.name: kind
    for kind in (
        OtsuMask,
        BorderMask,
        AutoMask,
        GivenMask,
        Background,
        PercentileScale,
        HistogramMatch,
        Linearize,
        TissueDrift,
        UnitScale,
        QuantileMatch,
        ZProfile,
    )
}
