"""Picture of the profile along z: mean over tissue of every plane, before and after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xoctnorm.agarose import Mask
from xoctnorm.plot.reads import tissue_means
from xoctnorm.plot.series import Numbers, Series, label, narrow, of_same_planes, series_of
from xoctnorm.plot.style import Artists, canvas, legend_below, palette, shade_sections

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CALL = "plot.zprofile"


def zprofile(
    da: xr.DataArray,
    before: xr.DataArray | None,
    agarose_mask: Mask | None,
    correction: xr.Dataset | None,
    ax: Axes | None,
    figsize: tuple[float, float] | None,
) -> Artists:
    """Draw means over tissue; one read of each volume."""
    series = series_of(_CALL, da, correction)
    earlier = of_same_planes(_CALL, before, series)
    with canvas(_CALL, ax, figsize) as (axes,):
        means = tissue_means(series, agarose_mask)
        return draw_zprofile(axes, series, means, None if earlier is None else tissue_means(earlier, agarose_mask))


def draw_zprofile(axes: Axes, series: Series, after: Numbers, before: Numbers | None = None) -> Artists:
    """Draw means of planes: in units of the volume, or where two volumes are compared, relative to their own mean."""
    colours = palette(axes)
    artists: Artists = {"sections": shade_sections(axes, series)}
    if before is None:
        artists["mean"] = axes.plot(series.z, after, color=colours.after, label="mean over tissue")
        y_label = narrow(f"mean {label(series.volume)}")
    else:
        artists["before"] = axes.plot(series.z, _relative(before), color=colours.before, label="before")
        artists["mean"] = axes.plot(series.z, _relative(after), color=colours.after, label="after")
        y_label = "mean over tissue,\nrelative to all planes"
    smoothed = series.per_plane("zprofile_smoothed")
    if smoothed is not None and before is not None:
        style: dict[str, Any] = {
            "color": colours.fitted,
            "linestyle": "--",
            "linewidth": 0.8,
            "label": "smoothed z-profile",
        }
        artists["smoothed"] = axes.plot(series.z, _relative(smoothed), **style)
    axes.set(xlabel=series.z_label, ylabel=y_label)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    legend_below(axes)
    return artists


def _relative(means: Numbers) -> Numbers:
    known = means[np.isfinite(means)]
    usual = known.mean() if known.size else np.nan
    return means / usual if usual > 0 else means
