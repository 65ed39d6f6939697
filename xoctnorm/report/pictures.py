"""Pictures of the report: each drawn for bright and for dark ground."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xoctnorm.plot.drift import draw_drift
from xoctnorm.plot.histograms import draw_histograms, enough
from xoctnorm.plot.mask import draw_mask, mask_height
from xoctnorm.plot.overview import draw_overview, overview_canvas
from xoctnorm.plot.reads import share_of_planes
from xoctnorm.plot.series import Series
from xoctnorm.plot.style import COLUMN, canvas
from xoctnorm.plot.thresholds import draw_thresholds
from xoctnorm.plot.zprofile import draw_zprofile
from xoctnorm.report.images import coded_figure
from xoctnorm.report.reading import Seen

_GROUNDS = {"bright": ("#ffffff", "#1b1f24"), "dark": ("#161b22", "#e6edf3")}


@dataclass(frozen=True)
class Shown:
    """A picture of the report.

    Attributes
    ----------
    name, title, caption
        What it is.
    bright, dark
        WebP in base64, for either ground.
    width, height
        In pixels.
    """

    name: str
    title: str
    caption: str
    bright: str
    dark: str
    width: int
    height: int


@dataclass(frozen=True)
class Sources:
    """What pictures are drawn from.

    Attributes
    ----------
    series, seen
        The volume after the correction, and what was read of it.
    earlier, seen_before
        The same before, where it is known.
    """

    series: Series
    seen: Seen
    earlier: Series | None
    seen_before: Seen | None

    def stages(self) -> dict[str, tuple[Series, Seen]]:
        """Volumes by stage, the one before first."""
        after = {"after": (self.series, self.seen)}
        if self.earlier is None or self.seen_before is None:
            return after
        return {"before": (self.earlier, self.seen_before), **after}


def pictures(sources: Sources) -> list[Shown]:
    """All pictures for which there is something to draw."""
    return list(_pictures(sources))


def _pictures(sources: Sources) -> Iterator[Shown]:
    series, fitted = sources.series, sources.series.fitted
    yield _shown(
        "overview", "Three cuts", "Through the middle of the tissue. Triangles mark cuts between sections, dashed "
        "lines the other two cuts. All cuts of a volume have one grey scale.", lambda: _overview(sources),
        speckled=True,
    )  # fmt: skip
    if any(name in fitted for name in ("scale_factor", "matched_intensity", "quantile_source")):
        yield _shown(
            "drift", "Drift between sections", "What was found out about the brightness of sections, and the factor "
            "that every plane was multiplied by.", lambda: _alone("drift", draw_drift, series, height=2.4),
        )  # fmt: skip
    yield _shown(
        "zprofile", "Profile along z", "Mean over tissue of every plane. A smooth course may be anatomy; steps at cuts "
        "are not.", lambda: _profile(sources),
    )  # fmt: skip
    if series.agarose_mask() is not None:
        yield _shown(
            "mask", "Agarose mask", "On the mean along z. What is outside the outline was taken for agarose.",
            lambda: _alone("mask", draw_mask, series, sources.seen.mean, share_of_planes(series),
                           height=mask_height(series)), speckled=True,
        )  # fmt: skip
    if any(name in fitted for name in ("background_threshold", "noise_floor")):
        yield _shown(
            "thresholds", "Thresholds", "What becomes 0 and what is cut off, in units of the input.",
            lambda: _alone("thresholds", draw_thresholds, series),
        )  # fmt: skip
    if all(enough(seen.samples) for _, seen in sources.stages().values()):
        yield _shown(
            "histograms", "Histograms of tissue", "Each line is a section; the dashed one is the mean of all.",
            lambda: _histograms(sources),
        )  # fmt: skip


def _shown(name: str, title: str, caption: str, draw: Callable[[], Any], *, speckled: bool = False) -> Shown:
    """Draw a picture twice, and forget the figures."""
    import matplotlib.pyplot as plt

    coded = {}
    for ground, (paper, ink) in _GROUNDS.items():
        colours: Any = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), paper)
        colours |= dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), ink)
        # Fonts that lack a letter of some label are no reason to warn: the table has it too.
        with plt.rc_context(colours), plt.ioff(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            figure = draw()
            coded[ground] = coded_figure(figure, speckled=speckled)
            plt.close(figure)
    (bright, width, height), (dark, _, _) = coded.values()
    return Shown(name, title, caption, bright, dark, width, height)


def _alone(name: str, draw: Callable[..., Any], *parts: Any, height: float = 2.1) -> Any:
    """A picture of one panel."""
    with canvas(name, None, None, height=height) as (axes,):
        draw(axes, *parts)
    return axes.figure


def _profile(sources: Sources) -> Any:
    before = None if sources.seen_before is None else sources.seen_before.means
    return _alone("zprofile", draw_zprofile, sources.series, sources.seen.means, before)


def _overview(sources: Sources) -> Any:
    stages = sources.stages()
    with overview_canvas(sources.series, len(stages)) as panels:
        for column, (stage, (series, seen)) in enumerate(stages.items()):
            title = stage if len(stages) > 1 else ""
            draw_overview(panels[column :: len(stages)], series, seen.cuts, title, named=column == 0)
    return panels[0].figure


def _histograms(sources: Sources) -> Any:
    stages = sources.stages()
    n = len(stages)
    with canvas("histograms", None, (COLUMN, 1.9), panels=n, ncols=n) as panels:
        for axes, (stage, (series, seen)) in zip(np.atleast_1d(np.array(panels, object)), stages.items(), strict=True):
            draw_histograms(axes, series, seen.samples)
            if n > 1:
                axes.set_title(stage, loc="left")
        for axes in panels[1:]:
            axes.set_ylabel("")
    return panels[0].figure
