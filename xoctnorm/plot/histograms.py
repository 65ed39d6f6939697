"""Picture of histograms: tissue of sections against that of all of them, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.agarose import Mask
from xoctnorm.errors import raise_problems
from xoctnorm.plot.reads import tissue_samples
from xoctnorm.plot.series import Series, drawn, label, narrow, of_same_planes, series_of
from xoctnorm.plot.style import Artists, canvas, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Samples = Mapping[int, NDArray[np.float32]]

_CALL = "plot.histograms"
_BINS = 48
_FEWEST = 100


def histograms(
    da: xr.DataArray,
    before: xr.DataArray | None,
    agarose_mask: Mask | None,
    correction: xr.Dataset | None,
    ax: Axes | Sequence[Axes] | None,
    figsize: tuple[float, float] | None,
) -> Artists:
    """Draw histograms of tissue; four planes of each section are read."""
    series = series_of(_CALL, da, correction)
    earlier = of_same_planes(_CALL, before, series)
    stages = {"after": series} if earlier is None else {"before": earlier, "after": series}
    found = {stage: tissue_samples(one, agarose_mask) for stage, one in stages.items()}
    if not all(enough(one) for one in found.values()):
        raise_problems(_CALL, [f"no section has {_FEWEST} voxels of tissue: check the agarose mask"])
    n = len(stages)
    with canvas(_CALL, ax, figsize, panels=n, height=1.9, ncols=n, sharey=False) as panels:
        artists: Artists = {}
        for axes, (stage, one) in zip(panels, stages.items(), strict=True):
            drawn = draw_histograms(axes, one, found[stage])
            artists |= {f"{stage} {name}" if n > 1 else name: artist for name, artist in drawn.items()}
            if n > 1:
                axes.set_title(stage, loc="left")
        if n > 1:
            panels[1].set_ylabel("")
    return artists


def enough(samples: Samples) -> bool:
    """Whether a section has tissue enough for a histogram."""
    return any(len(values) >= _FEWEST for values in samples.values())


def draw_histograms(axes: Axes, series: Series, samples: Samples) -> Artists:
    """Draw the density of every section, coloured by its place in the series, over that of all."""
    import matplotlib as mpl

    colours = palette(axes)
    kept = {row: values for row, values in samples.items() if len(values) >= _FEWEST}
    pooled = np.concatenate(list(kept.values()))
    low, high = np.percentile(pooled, [0.2, 99.5])
    edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    # Neither yellow on white nor dark blue on black.
    whole, first, last = ("viridis", 0.0, 0.9) if colours.fitted == "#000000" else ("plasma", 0.3, 1.0)
    colour_map = mpl.colors.ListedColormap(mpl.colormaps[whole](np.linspace(first, last, 256)))
    n = max(1, len(series.sections) - 1)
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, n), colour_map)
    lines = []
    for row, values in kept.items():
        density = np.histogram(values, edges)[0] / (len(values) * np.diff(edges))
        lines += axes.plot(centres, density, color=colour_map(row / n), linewidth=0.6, alpha=0.9)
    # Every section counts the same, as in a mean of their histograms.
    mean = np.mean([np.histogram(v, edges)[0] / (len(v) * np.diff(edges)) for v in kept.values()], axis=0)
    reference = axes.plot(centres, mean, color=colours.fitted, linewidth=1.6, linestyle="--", label="all sections")
    axes.set(xlabel=narrow(label(series.volume)), ylabel="density", yticks=[])
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right", handlelength=2, borderaxespad=0)
    artists: Artists = {"sections": lines, "reference": reference}
    if len(kept) > 1:
        bar = axes.inset_axes((0.62, 0.62, 0.34, 0.05))
        shown = axes.figure.colorbar(scale, cax=bar, orientation="horizontal")
        shown.outline.set_visible(False)
        shown.set_ticks([0, n], labels=[drawn(series.sections.labels[row]) for row in (0, -1)])
        bar.set_title("section", fontsize="small", pad=2)
        bar.tick_params(length=0, pad=1)
        artists["colorbar"] = shown.solids
    return artists
