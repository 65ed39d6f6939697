"""Picture of a whole volume: three orthogonal cuts, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xoctnorm.errors import raise_problems
from xoctnorm.plot.reads import Cuts, middle_of_tissue, shrunk, three_cuts
from xoctnorm.plot.scalebar import draw_scale_bar
from xoctnorm.plot.series import Numbers, Series, label, narrow, of_same_planes, places_along, series_of
from xoctnorm.plot.style import COLUMN, MARK, Artists, canvas, colour_bar, edges_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CALL = "plot.overview"
_FLATTEST = 0.3  # a cut along z is drawn at least this high, as a share of its width
_TALLEST = 1.5
_MOST_MARKS = 60


def overview(
    da: xr.DataArray,
    before: xr.DataArray | None,
    at: tuple[int | None, int | None, int | None],
    ax: Sequence[Axes] | None,
    figsize: tuple[float, float] | None,
) -> Artists:
    """Draw three cuts; only these are read."""
    series = series_of(_CALL, da)
    earlier = of_same_planes(_CALL, before, series)
    place = _place(series, at)
    stages = {"": series} if earlier is None else {"before": earlier, "after": series}
    cuts = {stage: three_cuts(one, place) for stage, one in stages.items()}
    with overview_canvas(series, len(stages), ax, figsize) as panels:
        artists: Artists = {}
        for column, (stage, one) in enumerate(stages.items()):
            drawn = draw_overview(panels[column :: len(stages)], one, cuts[stage], stage, named=column == 0)
            artists |= {f"{stage} {name}".strip(): artist for name, artist in drawn.items()}
    return artists


def overview_canvas(
    series: Series, columns: int, ax: Sequence[Axes] | None = None, figsize: tuple[float, float] | None = None
) -> Any:
    """Three panels, one above the other, for each volume, with heights that give all of them the same scale."""
    heights = _heights(series)
    width = COLUMN if columns > 1 else COLUMN * 0.62
    height = (width - 0.5) / columns * sum(heights) + 0.95
    grid: dict[str, Any] = {"nrows": 3, "ncols": columns, "height_ratios": heights}
    return canvas(_CALL, ax, figsize or ((width, height) if ax is None else None), panels=3 * columns, **grid)


def draw_overview(panels: Sequence[Axes], series: Series, cuts: Cuts, title: str, *, named: bool) -> Artists:
    """Draw the cuts of one volume, all on one grey scale, with the places of the other cuts and of the sections."""
    low, high = cuts.limits()
    look: dict[str, Any] = {"cmap": "gray", "vmin": low, "vmax": high}
    (y, _), (x, _) = (places_along(series.volume, dim) for dim in "yx")
    z = series.z
    number, row, column = cuts.at
    top, middle, below = panels
    artists: Artists = {}
    for axes, name, image, (across, down), (vertical, horizontal) in (
        (top, "plane", cuts.plane, ("x", "y"), (x[column], y[row])),
        (middle, "along_x", cuts.along_x, ("x", "z"), (x[column], z[number])),
        (below, "along_y", cuts.along_y, ("y", "z"), (y[row], z[number])),
    ):
        places = {"x": x, "y": y, "z": z}
        extent = (*edges_of(places[across]), *edges_of(places[down])[::-1])
        artists[name] = axes.imshow(shrunk(image), extent=extent, aspect="auto", **look)
        dashed: dict[str, Any] = {"colors": MARK, "linewidths": 0.5, "linestyles": [(0, (4, 3))]}
        artists[f"{name} lines"] = [
            axes.vlines(vertical, *extent[2:], **dashed),
            axes.hlines(horizontal, *extent[:2], **dashed),
        ]
        axes.set(xticks=[], yticks=[], ylabel=_directions(series, down, across) if named else "")
        for side in axes.spines.values():
            side.set_visible(False)
        _same_width(axes, across, x, y)
    artists["cuts"] = (
        []
        if not series.cuts.size
        else [_mark_cuts(axes, series, edges_of(of)[0]) for axes, of in ((middle, x), (below, y))]
    )
    artists["scale_bar"] = draw_scale_bar(top, series.volume, "x")
    if title:
        top.set_title(title)
    heights = _heights(series)
    artists["colorbar"] = colour_bar(
        below, artists["plane"], (0, -0.1 / heights[2], 1, 0.04 / heights[2]), narrow(label(series.volume))
    )
    return artists


def _place(series: Series, at: tuple[int | None, int | None, int | None]) -> tuple[int, int, int]:
    """Where the cuts are: as asked for, else through the middle of the tissue."""
    sizes = (len(series), series.volume.sizes["y"], series.volume.sizes["x"])
    problems = [
        f"{name}={one!r}: needs the number of a {what} from 0 to {size - 1}"
        for name, what, one, size in zip("zyx", ("plane", "row", "column"), at, sizes, strict=True)
        if one is not None and not (isinstance(one, int | np.integer) and 0 <= one < size)
    ]
    raise_problems(_CALL, problems)
    usual = middle_of_tissue(series)
    number, row, column = (int(u if one is None else one) for one, u in zip(at, usual, strict=True))
    return number, row, column


def _heights(series: Series) -> list[float]:
    """Heights of the three cuts, as shares of the width, at the scale of the coordinates; z is stretched where flat."""
    (y, _), (x, _) = (places_along(series.volume, dim) for dim in "yx")
    width, down = (_extent(one) for one in (x, y))
    along = float(np.clip(_extent(series.z) / width, _FLATTEST, _TALLEST))
    return [float(np.clip(down / width, 0.2, 3)), along, along]


def extents(series: Series) -> tuple[float, float]:
    """How far the field reaches along y and x, in units of the coordinates."""
    along_y, along_x = (_extent(places_along(series.volume, dim)[0]) for dim in "yx")
    return along_y, along_x


def _extent(places: Numbers) -> float:
    first, last = edges_of(places)
    return abs(last - first)


def _same_width(axes: Axes, across: str, x: Numbers, y: Numbers) -> None:
    """Leave room beside a narrower cut, so that all have the same scale."""
    if across == "y":
        first, last = edges_of(y)
        room = (_extent(x) - _extent(y)) / 2 * np.sign(last - first)
        axes.set_xlim(first - room, last + room)


def _mark_cuts(axes: Axes, series: Series, left: float) -> Any:
    """Mark where sections meet, at the left edge of the cut."""
    few = len(series.cuts) <= _MOST_MARKS
    marker: Any = {"marker": 9, "markersize": 3} if few else {"marker": 0, "markersize": 3, "markeredgewidth": 0.4}
    places = np.full(len(series.cuts), left)
    return axes.plot(places, series.cuts, color=MARK, linestyle="", clip_on=False, **marker)


def _directions(series: Series, down: str, across: str) -> str:
    """What goes down and what across; by what factor z is stretched, where it is."""
    true = _extent(series.z) / _extent(places_along(series.volume, "x")[0])
    factor = _heights(series)[1] / true
    stretched = f" × {factor:.2g}" if down == "z" and not np.isclose(factor, 1) else ""
    return f"{down} ↓{stretched}\n{across} →"
