"""Pictures of the pages that explain, drawn when the site is built: a method beside the truth of a phantom."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from warnings import catch_warnings, simplefilter

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

import xoctnorm
from xoctnorm.phantom import GREY_MATTER, WHITE_MATTER, make_phantom

# Colours that the colour-blind can tell apart (Okabe and Ito).
BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442"
TRUTH: dict[str, Any] = {"color": "k", "ls": ":", "lw": 1.5}
OPTICS: dict[str, Any] = {"decay": (0.05, 0.1), "focus": 3, "rayleigh_range": 8, "noise_floor": 0.02}

plt.style.use({"font.size": 9, "lines.linewidth": 1.5, "legend.frameon": False, "savefig.dpi": 110, "figure.dpi": 110})


@contextmanager
def quietly() -> Iterator[None]:
    """Leave out the warnings of methods that are shown because they fail."""
    with catch_warnings():
        simplefilter("ignore", xoctnorm.OctnormWarning)
        yield


def masks() -> None:
    """Draw what Otsu's threshold and the border take for agarose in one section, and the levels that they go by."""
    phantoms = {"dark agarose": make_phantom(), "bright agarose": make_phantom(agarose=0.5, **OPTICS)}
    _, axes = plt.subplots(2, 3, figsize=(8, 4.6), layout="constrained", width_ratios=[1, 1, 1.3])
    for (name, phantom), (left, middle, right) in zip(phantoms.items(), axes, strict=True):
        volume, section = phantom["volume"], 5
        mean = volume.isel(z=volume["section"] == section).mean("z")
        agarose = phantom["agarose_mask"].isel(z=volume["section"] == section).mean("z") > 0.5
        with quietly():
            otsu = volume.octnorm.agarose_mask()
            border = volume.octnorm.agarose_mask(method="border", per_section=True).isel(section_label=section)
        for panel, found, title in ((left, otsu, "otsu"), (middle, border, "border")):
            panel.imshow(mean, cmap="gray", vmax=mean.quantile(0.99), interpolation="nearest")
            panel.contour(found, levels=[0.5], colors=YELLOW, linewidths=1.5)
            overlap = 2 * (~found & ~agarose).sum() / ((~found).sum() + (~agarose).sum())
            panel.set(xticks=[], yticks=[], title=f'"{title}": Dice of tissue {float(overlap):.2f}')
        left.set_ylabel(name)
        bins = np.linspace(*np.log(mean.quantile([0.001, 0.999]).values), 60)
        for part, color, label in ((agarose, SKY, "agarose"), (~agarose, ORANGE, "tissue")):
            right.hist(np.log(mean.values[part.values]), bins, color=color, alpha=0.8, label=label)
        right.axvline(np.log(float(otsu["otsu_threshold"])), color="k", ls="--", label="Otsu's threshold")
        right.set(xlabel="log of the mean projection of the section", yticks=[])
        right.locator_params(axis="x", nbins=5)
    axes[0, 2].legend()


def gains() -> None:
    """Draw the gains of sections that the model finds, with errors, and how far each variant is from the truth."""
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    phantom = make_phantom(**OPTICS)
    correction = phantom["volume"].octnorm.fit(flatten_depth=True)
    true = per_section(phantom["section_gain"] * phantom["plane_jitter"])
    label = np.arange(true.size)
    left.plot(label, true / geometric_mean(true), **TRUTH, label="truth")
    error = 2 * correction["section_gain_se"] * correction["section_gain"]
    left.errorbar(label, correction["section_gain"], error, fmt="o", color=BLUE, ms=4, label="joint, ± 2 errors")
    left.set(xlabel="section", ylabel="gain")
    left.legend()
    stepping = make_phantom(**OPTICS, agarose_steps=0.2)
    for drift, name, color, marker, data in (
        ("agarose", "agarose", ORANGE, "s", phantom),
        ("continuity", "continuity", GREEN, "^", phantom),
        ("joint", "joint", BLUE, "o", phantom),
        ("joint", "joint, where agarose steps by 20 %", PURPLE, "v", stepping),
    ):
        with quietly():
            factor = data["volume"].octnorm.fit(drift=drift)["scale_factor"]
        ratio = 1 / per_section(factor * data["section_gain"] * data["plane_jitter"])
        ratio = ratio / geometric_mean(ratio)
        right.plot(label, 100 * (ratio - 1), marker, ls="-", lw=0.8, ms=4, color=color, label=name)
    right.axhline(0, **TRUTH)
    right.set(xlabel="section", ylabel="error of the gain (%)", ylim=(-1.5, 2.8))
    right.legend(fontsize=8)


def profile() -> None:
    """Draw the depth profile beside the truth, and the brightness of grey matter before and after."""
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained", width_ratios=[1, 1.6])
    phantom = make_phantom(**OPTICS)
    correction = phantom["volume"].octnorm.fit(flatten_depth=True)
    found = correction["depth_profile"].sel(tissue="dark")
    first = phantom.isel(z=phantom["section"] == 0)
    true = first["depth_response"] * first["instrument_response"]
    error = correction["depth_profile_se"].sel(tissue="dark") * found
    depth = np.arange(found.size)
    left.plot(depth, true / true.max(), **TRUTH, label="truth")
    scale = float(true.max() / true.mean() * found.mean())
    left.errorbar(depth, found / scale, 2 * error / scale, fmt="o", color=BLUE, ms=4, label="darker tissue")
    left.set(xlabel="depth below the cut (planes)", ylabel="relative brightness", ylim=(0, 1.1))
    left.legend(loc="lower left")
    after = phantom["volume"].octnorm.apply(correction)
    for array, color, label in ((phantom["volume"], BLUE, "before"), (after, ORANGE, "after")):
        mean = of_class(array, phantom, GREY_MATTER)
        right.plot(mean / mean.mean(), color=color, label=label)
    cuts(right, phantom)
    right.set(xlabel="plane", ylabel="grey matter / mean", ylim=(0, None))
    right.legend(loc="lower left", ncols=2)


def background() -> None:
    """Draw floor and cap of every plane, and what subtracting agarose does to the ratio of tissues."""
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
    phantom = make_phantom(agarose=0.12)
    with quietly():
        result = phantom["volume"].octnorm.normalize(drift=None, agarose_mask=phantom["agarose_mask"])
    left.plot(result["clip_threshold"].values, color=PURPLE, label="cap: percentile 99.9")
    left.plot(of_class(phantom["volume"], phantom, WHITE_MATTER), color=GREEN, label="white matter")
    left.plot(of_class(phantom["volume"], phantom, GREY_MATTER), color=BLUE, label="grey matter")
    left.plot(result["background_threshold"].values, color="k", label="floor: median of agarose")
    left.set(xlabel="plane", ylabel="intensity", ylim=(0, 1.8))
    left.legend(ncols=2, columnspacing=1, fontsize=8)
    for array, style in ((phantom["reflectivity"], TRUTH | {"label": "truth"}), (result, {"color": ORANGE})):
        ratio = of_class(array, phantom, WHITE_MATTER) / of_class(array, phantom, GREY_MATTER)
        right.plot(ratio, **({"label": "agarose subtracted"} | style))
    right.set(xlabel="plane", ylabel="white matter / grey matter", ylim=(0, None))
    right.legend(loc="lower left")


def scale() -> None:
    """Draw the percentile of sections, its smoothed curve, and the factors beside what they ought to be."""
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
    phantom = make_phantom()
    true = per_section(phantom["section_gain"])
    label = np.arange(true.size)
    right.plot(label, geometric_mean(true) / true, **TRUTH, label="1 / true gain")
    for sigma, color in ((10.0, BLUE), (0.5, ORANGE)):
        with quietly():
            correction = phantom["volume"].octnorm.fit(drift="scale", smooth_sigma=sigma)
        left.plot(label, correction["smoothed_metric"], color=color, label=f"smoothed by {sigma:g} sections")
        factor = per_section(correction["scale_factor"].assign_coords(section=phantom["section"]))
        right.plot(label, factor, color=color, marker="o", ms=3, label=f"factor, {sigma:g} sections")
    left.plot(label, correction["metric"], "k.", label="percentile 80 of the section")
    left.set(xlabel="section", ylabel="metric", ylim=(0, None))
    right.set(xlabel="section", ylabel="factor", ylim=(0, 2.4))
    for panel in (left, right):
        panel.legend(fontsize=8)


def histogram() -> None:
    """Draw tables of histogram matching, and the brightness of grey matter that they leave."""
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
    phantom = make_phantom()
    with quietly():
        correction = phantom["volume"].octnorm.fit(drift="histogram", agarose_mask=phantom["agarose_mask"])
        result = phantom["volume"].octnorm.apply(correction)
    for section, color in ((0, BLUE), (5, GREEN), (11, ORANGE)):
        table = correction["matched_intensity"].isel(section_label=section)
        left.plot(correction["bin_center"], table, color=color, label=f"section {section}")
    left.axline((0, 0), slope=1, color="0.7", lw=0.8)
    left.set(xlabel="normalized intensity", ylabel="becomes", xlim=(0, 1), ylim=(0, 1.02))
    left.legend(loc="lower right")
    for array, color, label in ((phantom["volume"], BLUE, "before"), (result, ORANGE, "matched")):
        mean = of_class(array, phantom, GREY_MATTER) / of_class(phantom["reflectivity"], phantom, GREY_MATTER)
        right.plot(mean / mean.mean(), color=color, label=label)
    cuts(right, phantom)
    right.axhline(1, **TRUTH)
    right.set(xlabel="plane", ylabel="grey matter / truth", ylim=(0, None))
    right.legend(loc="lower left", ncols=2)


def quantile() -> None:
    """Draw the maps of two sections, and the gain that they leave."""
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
    phantom = make_phantom()
    correction = phantom["volume"].octnorm.fit(drift="quantile")
    true = per_section(phantom["section_gain"])
    for section, color in ((int(true.argmin()), BLUE), (int(true.argmax()), ORANGE)):
        table = correction.isel(section_label=section)
        points = {"color": color, "label": f"section {section}, gain {true[section]:.2f}"}
        left.plot(table["quantile_source"], table["quantile_target"], ".", ms=3, **points)
    left.axline((0, 0), slope=1, color="0.7", lw=0.8)
    left.set(xlabel="intensity", ylabel="becomes", xlim=(0, None), ylim=(0, None))
    left.legend(loc="upper left", fontsize=8)
    found = (correction["quantile_target"] / correction["quantile_source"]).median("quantile").values
    label = np.arange(true.size)
    right.plot(label, geometric_mean(true) / true, **TRUTH, label="1 / true gain")
    right.plot(label, found / geometric_mean(found), "o", color=GREEN, ms=4, label="median slope of the map")
    right.set(xlabel="section", ylabel="factor", ylim=(0, 2))
    right.legend(loc="lower left")


def zprofile() -> None:
    """Draw the gains by smoothing along z beside the jitter that they are meant to take out."""
    _, panel = plt.subplots(figsize=(8, 2.4), layout="constrained")
    phantom = make_phantom()
    with quietly():
        correction = phantom["volume"].octnorm.fit(drift=None, zprofile_sigma=2.0)
    panel.plot(correction["zprofile_gain"], color=ORANGE, label="gain, sigma 2")
    panel.plot(1 / phantom["plane_jitter"].values, color="k", lw=1, label="1 / true jitter")
    cuts(panel, phantom)
    panel.set(xlabel="plane", ylabel="factor", ylim=(0, None))
    panel.legend(loc="lower left", ncols=2)


def of_class(array: xr.DataArray, phantom: xr.Dataset, kind: int) -> np.ndarray[Any, np.dtype[np.floating]]:
    """Mean over one tissue in every plane; NaN where there is none."""
    return np.asarray(array.where(phantom["tissue_class"] == kind).mean(["y", "x"]).values)


def per_section(along_z: xr.DataArray) -> np.ndarray[Any, np.dtype[np.floating]]:
    """One value for each section of what is the same in all its planes, or their mean."""
    return np.asarray(along_z.groupby("section").mean().values)


def geometric_mean(values: np.ndarray[Any, np.dtype[np.floating]]) -> float:
    """Mean of factors."""
    return float(np.exp(np.log(values).mean()))


def cuts(panel: Axes, phantom: xr.Dataset) -> None:
    """Mark the cuts between sections."""
    for plane in np.flatnonzero(np.diff(phantom["section"].values)):
        panel.axvline(plane + 0.5, color="0.8", lw=0.7, zorder=0)
