"""How pictures look: colours that the colour-blind can tell apart, sizes that can be read in a column of 85 mm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xoctnorm.errors import raise_problems
from xoctnorm.optional import missing
from xoctnorm.plot.series import Series, drawn

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# What a picture draws, by what it is: single artists of matplotlib, its containers, or lists of them.
Artists = dict[str, Any]

COLUMN = 85 / 25.4  # width of a column in inches

STYLE: Any = {
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.labelsize": 7,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.1,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.columnspacing": 1.2,
    "figure.dpi": 150,
    "savefig.dpi": 300,
}
_MOST_LABELS = 12
_MOST_SHADES = 60  # more would only flicker
_LEGEND_WIDTH = 66  # characters
_LEGEND_BELOW = 26  # points


@dataclass(frozen=True)
class Palette:
    """Colours of Okabe and Ito, in a version for bright and one for dark ground."""

    before: str
    after: str
    fitted: str
    cut: str
    flag: str
    shade: str
    faint: str


_BRIGHT = Palette("#0072B2", "#D55E00", "#000000", "#0072B2", "#CC3311", "#00000010", "#777777")
_DARK = Palette("#56B4E9", "#E69F00", "#FFFFFF", "#56B4E9", "#FF8A75", "#FFFFFF16", "#9A9A9A")
OUTLINE, MARK = "#E69F00", "#56B4E9"  # on grey images


def palette(axes: Axes) -> Palette:
    """The colours for the ground of these axes."""
    from matplotlib.colors import to_rgb

    ground: Any = axes.get_facecolor()
    if ground[3] == 0:  # transparent
        ground = axes.figure.get_facecolor()
    return _DARK if np.mean(to_rgb(ground)) < 0.4 else _BRIGHT


@contextmanager
def canvas(
    call: str,
    ax: Axes | Sequence[Axes] | None,
    figsize: tuple[float, float] | None,
    *,
    panels: int = 1,
    height: float = 2.1,
    **grid: Any,
) -> Iterator[list[Axes]]:
    """The axes to draw on: those given, else those of a new figure in our own style.

    Raises
    ------
    InputError
        Without matplotlib, for both `ax` and `figsize`, and for another number of axes than is needed.
    """
    problems = missing("matplotlib", call, extra="plot")
    if ax is not None:
        given = [ax] if not isinstance(ax, Sequence | np.ndarray) else list(np.ravel(np.asarray(ax, object)))
        if figsize is not None:
            problems.append(f"figsize={figsize!r} is the size of a new figure: leave it out where ax= is given")
        if len(given) != panels:
            problems.append(f"ax= has {len(given)} axes: this picture needs {panels}")
    raise_problems(call, problems)
    import matplotlib.pyplot as plt

    if ax is not None:
        yield given
        return
    with plt.rc_context(STYLE):
        size = (COLUMN, height) if figsize is None else figsize
        figure, axes = plt.subplots(figsize=size, layout="constrained", squeeze=False, **grid)
        figure.get_layout_engine().set(w_pad=0.07)
        yield list(axes.flat)


def shade_sections(axes: Axes, series: Series, *, labels: bool = True) -> list[Artist]:
    """Shade every other section along the horizontal axis, and write its label above where there is room."""
    colours = palette(axes)
    edges = section_edges(series)
    axes.set_xlim(min(edges[0], edges[-1]), max(edges[0], edges[-1]))
    n = len(series.sections)
    shades: list[Artist] = [
        axes.axvspan(edges[row], edges[row + 1], color=colours.shade, linewidth=0, zorder=0)
        for row in range(1, n if n <= _MOST_SHADES else 0, 2)
    ]
    if labels and series.sections.explicit:
        above = axes.secondary_xaxis("top")
        shown = labelled_rows(series)
        above.set_xticks(series.middles[shown], [drawn(series.sections.labels[row]) for row in shown])
        above.tick_params(length=0, pad=1, colors=colours.faint)
        above.spines["top"].set_visible(False)
        above.set_xlabel("section", color=colours.faint, labelpad=2)
    return shades


def section_edges(series: Series) -> np.ndarray:
    """Where sections begin and end along z, half a plane beyond the outermost planes."""
    z = series.z
    if len(z) == 1:
        return np.array([z[0] - 0.5, z[0] + 0.5])
    return np.array([z[0] - (z[1] - z[0]) / 2, *series.cuts, z[-1] + (z[-1] - z[-2]) / 2])


def labelled_rows(series: Series) -> list[int]:
    """Rows of the sections whose labels are written: all, or evenly spread ones."""
    n = len(series.sections)
    longest = max(len(drawn(one)) for one in series.sections.labels)
    most = max(2, min(_MOST_LABELS, 40 // max(longest, 1)))
    return list(range(0, n, -(-n // most)))


def legend_below(axes: Axes) -> None:
    """Legend below the panel, where it hides nothing, in as many columns as have room."""
    handles, names = axes.get_legend_handles_labels()
    if not handles:
        return
    n_columns = max(1, min(3, len(handles), _LEGEND_WIDTH // (max(len(name) for name in names) + 6)))
    from matplotlib.transforms import ScaledTranslation

    below_label = axes.transAxes + ScaledTranslation(0, -_LEGEND_BELOW / 72, axes.figure.dpi_scale_trans)
    place: dict[str, Any] = {"bbox_to_anchor": (0.45, 0), "bbox_transform": below_label}
    axes.legend(handles, names, loc="upper center", ncols=n_columns, borderaxespad=0, **place)


def colour_bar(axes: Axes, image: Any, place: tuple[float, float, float, float], name: str) -> Any:
    """A colour bar beside or below a panel, at a place in units of its width and height."""
    upright = place[3] > place[2]
    inset = axes.inset_axes(place)
    bar = axes.figure.colorbar(image, cax=inset, orientation="vertical" if upright else "horizontal", label=name)
    bar.outline.set_visible(False)
    bar.locator = _few_ticks()
    bar.update_ticks()
    return bar.solids


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(4)


def edges_of(centres: np.ndarray) -> tuple[float, float]:
    """Outer edges of the first and of the last pixel."""
    half = (centres[-1] - centres[0]) / max(len(centres) - 1, 1) / 2 if len(centres) > 1 else 0.5
    return float(centres[0] - half), float(centres[-1] + half)
