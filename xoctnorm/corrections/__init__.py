"""Corrections: what can be fitted to a volume and applied to it."""

from xoctnorm.corrections.agarose import GivenMask, OtsuMask
from xoctnorm.corrections.background import Background
from xoctnorm.corrections.base import Correction
from xoctnorm.corrections.histogram import HistogramMatch
from xoctnorm.corrections.scale import PercentileScale
from xoctnorm.corrections.zprofile import ZProfile

__all__ = [
    "BY_NAME",
    "Background",
    "Correction",
    "GivenMask",
    "HistogramMatch",
    "OtsuMask",
    "PercentileScale",
    "ZProfile",
]

BY_NAME: dict[str, type[Correction]] = {
    kind.name: kind for kind in (OtsuMask, GivenMask, Background, PercentileScale, HistogramMatch, ZProfile)
}
