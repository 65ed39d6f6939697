"""Picture of drift: brightness of sections, and the factors that correct it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.errors import raise_problems
from xoctnorm.plot.series import Series, series_of
from xoctnorm.plot.style import Artists, canvas, legend_below, palette, shade_sections

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CALL = "plot.drift"
_NEEDED = ("scale_factor", "matched_intensity", "quantile_source")


def drift(
    da: xr.DataArray, correction: xr.Dataset | None, ax: Axes | None, figsize: tuple[float, float] | None
) -> Artists:
    """Draw factors and what they follow from; nothing is read."""
    series = series_of(_CALL, da, correction)
    if not any(name in series.fitted for name in _NEEDED):
        raise_problems(
            _CALL,
            [
                "no correction of drift is known: pass the correction= of da.octnorm.fit(), or take the result of "
                "normalize() or correct_drift(); with drift=None there is none"
            ],
        )
    with canvas(_CALL, ax, figsize, height=2.4) as (axes,):
        return draw_drift(axes, series)


def draw_drift(axes: Axes, series: Series) -> Artists:
    """Draw the brightness of sections and the factor of every plane, both without unit, on one scale."""
    colours = palette(axes)
    artists: Artists = {"sections": shade_sections(axes, series)}
    axes.axhline(1, color=colours.faint, linewidth=0.5, zorder=1)
    artists |= _metric(axes, series)
    artists |= _gains(axes, series)
    artists |= _matched(axes, series)
    factor = series.per_plane("scale_factor")
    if factor is not None:
        style: dict[str, Any] = {"color": colours.after, "drawstyle": "steps-mid"}
        artists["factor"] = axes.plot(series.z, factor, label="factor", **style)
        artists |= _clamps(axes, series)
    artists |= _flags(axes, series)
    axes.set(xlabel=series.z_label, ylabel="relative to the volume")
    legend_below(axes)
    return artists


def _metric(axes: Axes, series: Series) -> Artists:
    """The percentile of every section, and its smoothed course, relative to the median of sections."""
    metric, smoothed = series.per_section("metric"), series.per_section("smoothed_metric")
    if metric is None or smoothed is None or not (np.nan_to_num(metric) > 0).any():
        return {}
    colours = palette(axes)
    usual = np.median(metric[np.nan_to_num(metric) > 0])
    shown = np.where(np.nan_to_num(metric) > 0, metric, np.nan) / usual
    points: dict[str, Any] = {
        "color": colours.before,
        "marker": "o",
        "markersize": 3,
        "linestyle": "",
        "label": "metric",
    }
    line: dict[str, Any] = {"color": colours.before, "linestyle": "--", "linewidth": 0.9, "label": "smoothed"}
    return {
        "metric": axes.plot(series.middles, shown, **points),
        "smoothed": axes.plot(series.middles, smoothed / usual, **line),
    }


def _gains(axes: Axes, series: Series) -> Artists:
    """Gains of sections by the model of tissue, with two standard errors."""
    gain, error = series.per_section("section_gain"), series.per_section("section_gain_se")
    if gain is None or error is None:
        return {}
    style: dict[str, Any] = {
        "color": palette(axes).before,
        "fmt": "o",
        "markersize": 2.5,
        "elinewidth": 0.9,
        "capsize": 1.5,
    }
    bars = axes.errorbar(series.middles, gain, yerr=2 * error, label="section gain ± 2 s.e.", **style)
    return {"gain": bars}


def _matched(axes: Axes, series: Series) -> Artists:
    """What the maps of sections do to intensities: the middle of their factors, and the range of nine tenths."""
    factors = _map_factors(series)
    if factors is None:
        return {}
    colours = palette(axes)
    low, middle, high = factors
    bars: dict[str, Any] = {"color": colours.after, "fmt": "s", "markersize": 2.5, "elinewidth": 0.9, "capsize": 1.5}
    reach = np.clip(np.array([middle - low, high - middle]), 0, None)
    return {"map": axes.errorbar(series.middles, middle, yerr=reach, label="map, 5–95 %", **bars)}


def _map_factors(series: Series) -> NDArray[np.float64] | None:
    """Factors 5 %, median and 95 % over what is mapped, `(3, section)`."""
    fitted = series.fitted
    if "quantile_source" in fitted:
        factor = fitted["quantile_target"] / fitted["quantile_source"].where(fitted["quantile_source"] > 0)
        table: NDArray[np.float64] = factor.transpose("section_label", ...).to_numpy()
    elif "matched_intensity" in fitted:
        centre = fitted["bin_center"].to_numpy().astype(float)
        table = fitted["matched_intensity"].transpose("section_label", "bin").to_numpy() / centre
        table = table[:, centre > 0.02]  # below, agarose is stretched by any amount
    else:
        return None
    table = np.where(np.isnan(table).all(axis=1, keepdims=True), 1, table)  # sections that are left alone
    return np.percentile(_filled(table), [5, 50, 95], axis=1)


def _filled(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows with their median where a factor is not known."""
    return np.where(np.isnan(table), np.nanmedian(table, axis=1, keepdims=True), table)


def _clamps(axes: Axes, series: Series) -> Artists:
    """The least and the largest factor that scaling may take."""
    clamps = [series.recorded("scale", name) for name in ("min_scale", "max_scale")]
    if not all(isinstance(one, int | float) for one in clamps):
        return {}
    colours = palette(axes)
    lines = [
        axes.axhline(float(str(one)), color=colours.flag, linestyle=":", linewidth=0.9, label=text)
        for one, text in zip(clamps, ("clamps", "_"), strict=True)
    ]
    return {"clamps": lines}


def _flags(axes: Axes, series: Series) -> Artists:
    """A cross above every section that has a flag; what the flags are, below it in words."""
    flags = series.per_section("section_flags")
    if flags is None:
        return {}
    own = _of_some(flags)
    rows = [row for row, words in enumerate(own) if words]
    if not rows:
        return {}
    colours = palette(axes)
    kinds = list(dict.fromkeys(word for row in rows for word in own[row]))
    marks = "xv^*d+P"
    artists: Artists = {}
    for number, kind in enumerate(kinds):
        having = [row for row in rows if kind in own[row]]
        style: dict[str, Any] = {
            "color": colours.flag,
            "linestyle": "",
            "markersize": 4,
            "marker": marks[number % len(marks)],
        }
        height = np.full(len(having), 0.97 - 0.05 * number)
        artists[f"flag {kind}"] = axes.plot(
            series.middles[having], height, transform=axes.get_xaxis_transform(), label=kind.replace("_", " "), **style
        )
    return artists


def _of_some(flags: NDArray[np.generic]) -> list[list[str]]:
    """Flags of every section; a flag that all sections have tells nothing of one, and is left out."""
    words = [str(one).split() for one in flags]
    everywhere = set.intersection(*(set(one) for one in words)) if len(words) > 1 else set()
    return [[word for word in one if word not in everywhere] for one in words]
