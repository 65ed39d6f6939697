"""Pictures of the benchmark: what methods do to a phantom, and their errors by family. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xoctnorm.benchmark.families import FAMILIES, QUICK_SHAPE
from xoctnorm.benchmark.measures import class_means
from xoctnorm.benchmark.methods import METHODS, run
from xoctnorm.benchmark.runs import volume_of
from xoctnorm.benchmark.tables import LIMITS
from xoctnorm.benchmark.truth import Truth, truth_of
from xoctnorm.phantom import AGAROSE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours that the colour-blind can tell apart.
_GREY, _WHITE, _TRUTH, _CUT = "#D55E00", "#0072B2", "black", "#56B4E9"
_STYLE = {"font.size": 8, "lines.linewidth": 1.2, "legend.frameon": False, "axes.spines.top": False}
_STYLE |= {"axes.spines.right": False}

# The methods that are drawn, each with its colour.
_SHOWN = {"nothing": "#777777", "histogram-plane-zprofile": "#E69F00", "joint": "#D55E00", "joint-flat": "#0072B2"}
_DRAWN_FAMILY = "full"


def draw_all(results: pd.DataFrame, folder: Path, *, seed: int, quick: bool) -> Iterator[Path]:
    """Draw the methods that ran: on one phantom, and their errors by family."""
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    ran = results[results["error"] == ""]
    shown = [name for name in _SHOWN if (ran["method"] == name).any()]
    if not shown:
        return
    with plt.style.context(_STYLE):
        figures = {
            "benchmark-phantom.png": phantom_by_method(shown, seed=seed, quick=quick),
            "benchmark-errors.png": errors_by_family(ran[ran["method"].isin(shown)]),
        }
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=100)
        plt.close(figure)
        yield folder / name


def phantom_by_method(methods: list[str], *, seed: int, quick: bool) -> Figure:
    """One row per method: a plane, a cut along z, and the brightness of grey and white matter along z."""
    import matplotlib.pyplot as plt

    family = FAMILIES[_DRAWN_FAMILY]
    phantom = family.make(seed, shape=QUICK_SHAPE) if quick else family.make(seed)
    truth = truth_of(phantom)
    figure, axes = plt.subplots(
        len(methods), 3, figsize=(9.5, 1.9 * len(methods) + 0.3), width_ratios=(1, 1.5, 2.2), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for row, name in zip(axes, methods, strict=True):
        values = volume_of(run(METHODS[name], phantom, truth).result)
        _images(row[0], row[1], values, truth)
        _profiles(row[2], values, truth, flattened=METHODS[name].flattens)
        row[0].set_ylabel(METHODS[name].title.replace(" (", "\n("), fontweight="bold")
    axes[0, 0].set_title("plane in the middle")
    axes[0, 1].set_title("cut along z (down), mean of 5 rows")
    axes[0, 2].set_title("means of white (blue) and grey matter (orange); dashed: truth")
    axes[-1, 2].set_xlabel("plane")
    return figure


def _images(plane_axes: Axes, cut_axes: Axes, values: NDArray[np.float64], truth: Truth) -> None:
    tissue = truth.tissue_class > AGAROSE
    look: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": np.nanquantile(values[tissue], 0.99)}
    middle = values.shape[1] // 2
    plane_axes.imshow(values[len(values) // 2], **look)
    cut_axes.imshow(values[:, middle - 2 : middle + 3].mean(1), aspect="auto", interpolation="nearest", **look)
    for z in _cuts(truth):
        cut_axes.axhline(z - 0.5, color=_CUT, linewidth=0.4)
    for one in (plane_axes, cut_axes):
        one.set(xticks=[], yticks=[])


def _profiles(axes: Axes, values: NDArray[np.float64], truth: Truth, *, flattened: bool) -> None:
    level, expected = class_means(values, truth), class_means(truth.expected, truth)
    if flattened:
        expected = expected / truth.response
    known = np.isfinite(level) & np.isfinite(expected)
    level = level / np.exp(np.mean(np.log(np.maximum(level[known], 1e-6) / expected[known])))
    for z in _cuts(truth):
        axes.axvline(z - 0.5, color=_CUT, linewidth=0.4)
    for row, right, colour in zip(level, expected, (_GREY, _WHITE), strict=True):
        axes.plot(row, color=colour)
        axes.plot(right, color=_TRUTH, linewidth=0.8, linestyle=(0, (2, 1)))
    axes.set(yscale="log", xlim=(0, len(truth.gain) - 1))
    axes.set_ylim(0.6 * np.nanmin(expected), 1.6 * np.nanmax(expected))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_yticks(
        [tick for tick in (0.02, 0.05, 0.1, 0.2, 0.3, 0.5) if axes.get_ylim()[0] < tick < axes.get_ylim()[1]]
    )


def _cuts(truth: Truth) -> NDArray[np.int64]:
    return np.flatnonzero(np.diff(truth.section)) + 1


def errors_by_family(results: pd.DataFrame) -> Figure:
    """Median (dot) and worst (line) over seeds of every method, by family, with the limits."""
    import matplotlib.pyplot as plt

    families, methods = list(results["family"].unique()), list(results["method"].unique())
    panels = {
        "between": "slopes, between sections",
        "inside": "slopes, inside",
        "level_between": "levels, between sections",
        "level_inside": "levels, inside",
    }
    figure, axes = plt.subplots(
        1, len(panels), figsize=(10, 0.28 * len(families) + 1.6), sharey=True, sharex=True, layout="constrained"
    )
    for one, (measure, title) in zip(axes, panels.items(), strict=True):
        for i, name in enumerate(methods):
            errors = 100 * results[results["method"] == name].groupby("family")[measure].agg(["median", "max"])
            errors = errors.reindex(families).clip(lower=0.02)
            y = np.arange(len(families)) + 0.6 * ((i + 0.5) / len(methods) - 0.5)
            colour = _SHOWN[name]
            one.hlines(y, errors["median"], errors["max"], color=colour, linewidth=1)
            one.plot(errors["median"], y, "o", color=colour, markersize=3, label=METHODS[name].title)
        limit = LIMITS[measure]
        for y0, family in enumerate(families):
            _draw_limits(one, y0, FAMILIES[family].reach, 100 * (limit.median or 0), 100 * limit.worst)
        one.set(title=title, xscale="log", xlim=(0.018, 100), ylim=(len(families) - 0.5, -0.5), xlabel="error in %")
        one.set_yticks(range(len(families)), families)
        one.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
        one.grid(axis="x", color="#dddddd", linewidth=0.5)
        one.set_axisbelow(True)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=max(1, len(methods)))
    return figure


def _draw_limits(axes: Axes, row: int, reach: str, median: float, worst: float) -> None:
    """Shade what the limits allow: dark up to that of the median, light up to that of the worst."""
    if reach == "beyond":
        return
    slack = 2.0 if reach == "hard" else 1.0
    axes.fill_betweenx([row - 0.5, row + 0.5], 0.01, slack * worst, color="#009E73", alpha=0.10, linewidth=0)
    axes.fill_betweenx([row - 0.5, row + 0.5], 0.01, slack * median, color="#009E73", alpha=0.18, linewidth=0)
