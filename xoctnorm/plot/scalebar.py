"""A scale bar, of a round length that the coordinates tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xoctnorm.plot.series import drawn, pixels_of, places_along, units_of
from xoctnorm.plot.style import edges_of

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_SHARE = 0.3  # of the width of the picture


def draw_scale_bar(axes: Axes, da: xr.DataArray, dim: str) -> list[Artist]:
    """Draw a bar in the lower right corner of an image whose horizontal axis is a dim."""
    import matplotlib.patheffects as effects

    places, name = places_along(da, dim)
    left, right = edges_of(places)
    length = round_length(_SHARE * abs(right - left))
    in_pixels = name == pixels_of(dim)  # there may be a coordinate that tells no places
    units = "pixels" if in_pixels else drawn(units_of(da.coords[dim])) or f"units of {dim}"
    end = 0.96
    begin = end - length / abs(right - left)
    style: dict[str, Any] = {"transform": axes.transAxes, "color": "white"}
    edge = [effects.withStroke(linewidth=1.5, foreground="black")]
    bar = axes.plot([begin, end], [0.06, 0.06], linewidth=2, solid_capstyle="butt", path_effects=edge, **style)
    text = axes.text(end, 0.09, f"{length:g} {units}", ha="right", va="bottom", path_effects=edge, **style)
    return [*bar, text]


def round_length(most: float) -> float:
    """The largest of 1, 2, 5, 10, 20, … times a power of ten that is no longer than `most`."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(power * max(digit for digit in (1, 2, 5) if digit * power <= most * (1 + 1e-9)))
