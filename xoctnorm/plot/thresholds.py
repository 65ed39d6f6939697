"""Picture of thresholds: what becomes 0 and what is cut off, along z."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xoctnorm.errors import raise_problems
from xoctnorm.plot.series import Numbers, Series, drawn, series_of
from xoctnorm.plot.style import Artists, canvas, legend_below, palette, shade_sections

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CALL = "plot.thresholds"
_NEEDED = ("background_threshold", "clip_threshold", "noise_floor")


def thresholds(
    da: xr.DataArray, correction: xr.Dataset | None, ax: Axes | None, figsize: tuple[float, float] | None
) -> Artists:
    """Draw thresholds of every plane; nothing is read."""
    series = series_of(_CALL, da, correction)
    if not any(name in series.fitted for name in _NEEDED):
        raise_problems(
            _CALL,
            ["no thresholds are known: pass the correction= of da.octnorm.fit(), or take the result of normalize()"],
        )
    with canvas(_CALL, ax, figsize) as (axes,):
        return draw_thresholds(axes, series)


def draw_thresholds(axes: Axes, series: Series) -> Artists:
    """Draw what becomes 0 and what becomes 1 in every plane, in units of the input."""
    colours = palette(axes)
    artists: Artists = {"sections": shade_sections(axes, series)}
    by_model = "noise_floor" in series.fitted
    floor, ceiling = _of_model(series) if by_model else (series.per_plane(name) for name in _NEEDED[:2])
    steps: dict[str, Any] = {"drawstyle": "steps-mid"}
    if ceiling is not None:
        name = "becomes 1" if by_model else "clip threshold"
        artists["ceiling"] = axes.plot(series.z, ceiling, color=colours.after, label=name, **steps)
    if floor is not None:
        name = "noise floor, becomes 0" if by_model else "background, becomes 0"
        artists["floor"] = axes.plot(series.z, floor, color=colours.before, label=name, **steps)
        if "noise_floor_se" in series.fitted and (error := 2 * float(series.fitted["noise_floor_se"])) > 0:
            band: dict[str, Any] = {"color": colours.before, "alpha": 0.25, "linewidth": 0, "label": "± 2 s.e."}
            artists["floor_error"] = axes.fill_between(series.z, floor - error, floor + error, **band)
    if (otsu := series.per_plane("otsu_threshold")) is not None:
        artists["otsu"] = axes.plot(
            series.z, otsu, color=colours.fitted, linestyle=":", label="Otsu, of the mean along z"
        )
    units = str(series.fitted["noise_floor" if by_model else "background_threshold"].attrs.get("units", "1"))
    intensity = "linear intensity" if by_model else "intensity"
    axes.set(xlabel=series.z_label, ylabel=intensity if units == "1" else f"{intensity} ({drawn(units)})")
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    legend_below(axes)
    return artists


def _of_model(series: Series) -> tuple[Numbers | None, Numbers | None]:
    """Noise floor of every plane, and the linear intensity that the gains and the divisor bring to 1."""
    floor = series.per_plane("noise_floor")
    assert floor is not None
    if "divisor" not in series.fitted:
        return floor, None
    top = float(series.fitted["divisor"])
    if "zero_level" in series.fitted:
        top += float(series.fitted["zero_level"])
    gain = np.ones(len(series))
    for name in ("scale_factor", "depth_gain"):
        if (values := series.per_plane(name)) is not None:
            gain = gain * values
    return floor, floor + top / gain
