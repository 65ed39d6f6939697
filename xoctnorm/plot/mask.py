"""Picture of the agarose mask: its outline on the mean projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xoctnorm.agarose import Mask
from xoctnorm.errors import raise_problems
from xoctnorm.plot.reads import Image, mean_projection, share_of_planes, shrunk
from xoctnorm.plot.series import Numbers, Series, label, narrow, places_along, series_of
from xoctnorm.plot.style import (
    COLUMN,
    MARK,
    OUTLINE,
    Artists,
    canvas,
    colour_bar,
    edges_of,
    legend_below,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CALL = "plot.mask"


def mask(
    da: xr.DataArray,
    agarose_mask: Mask | None,
    correction: xr.Dataset | None,
    ax: Axes | None,
    figsize: tuple[float, float] | None,
) -> Artists:
    """Draw the mean projection and the outline of agarose; one read."""
    series = series_of(_CALL, da, correction)
    if series.agarose_mask(agarose_mask) is None:
        raise_problems(
            _CALL,
            [
                "no agarose mask is known that fits the volume: pass agarose_mask=da.octnorm.agarose_mask(), or the "
                "correction=, or take the result of da.octnorm.normalize()"
            ],
        )
    with canvas(_CALL, ax, figsize, height=mask_height(series)) as (axes,):
        return draw_mask(axes, series, mean_projection(series), share_of_planes(series, agarose_mask))


def mask_height(series: Series) -> float:
    """Height of the picture in inches that suits the shape of the field."""
    (y, _), (x, _) = (places_along(series.volume, dim) for dim in "yx")
    across = abs(np.subtract(*edges_of(y)) / np.subtract(*edges_of(x)))
    return float(COLUMN * 0.68 * np.clip(across, 0.3, 1.6) + 0.85)


def draw_mask(axes: Axes, series: Series, mean: Image, share: Numbers) -> Artists:
    """Draw the mean projection, the outline that half of the planes have, and those of all and of any."""
    (y, y_label), (x, x_label) = (places_along(series.volume, dim) for dim in "yx")
    known = mean[np.isfinite(mean)]
    low, high = np.percentile(known, [0.5, 99.8]) if known.size else (0, 1)
    extent = (*edges_of(x), *edges_of(y)[::-1])
    image = axes.imshow(shrunk(mean), cmap="gray", vmin=low, vmax=high, extent=extent)
    bar = colour_bar(axes, image, (1.02, 0, 0.035, 1), narrow(f"mean {label(series.volume)}", 34))
    artists: Artists = {"image": image, "colorbar": bar}
    varies = bool(((share > 0) & (share < 1)).any())
    levels = {"outline": (0.5, "-", OUTLINE, "in most planes" if varies else "outline")}
    if min(share.shape) < 2:  # of one row there is no outline
        levels = {}
    elif varies:
        levels |= {
            "widest": (1e-9, ":", MARK, "agarose in any"),
            "narrowest": (1 - 1e-9, "--", MARK, "agarose in all"),
        }
    for name, (level, dashes, colour, text) in levels.items():
        if share.min() < level < share.max():
            style: dict[str, Any] = {"linestyles": dashes, "linewidths": 1.0 if name == "outline" else 0.7}
            artists[name] = axes.contour(x, y, share, levels=[level], colors=colour, **style)
            axes.plot([], [], color=colour, linestyle=dashes, label=text)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_title(f"agarose mask: {share.mean():.0%} of all pixels", loc="left")
    legend_below(axes)
    return artists
