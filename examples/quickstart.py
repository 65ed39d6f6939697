"""
Before and after
================

Normalize a volume, write it, and draw it before and after::

    python examples/quickstart.py                                      # the phantom
    python examples/quickstart.py brain.nc                             # with a coordinate section(z)
    python examples/quickstart.py stack.tif --planes-per-section 10    # dims are z, y, x

The volume may be larger than memory: it is read a block of planes at a time.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xoctnorm
from xoctnorm.phantom import make_phantom

# Colours that the colour-blind can tell apart.
BEFORE, AFTER, CUT, OUTLINE = "#0072B2", "#D55E00", "#56B4E9", "#F0E442"
plt.style.use({"font.size": 8, "lines.linewidth": 1.2, "legend.frameon": False, "legend.handlelength": 1.5})


def main() -> None:
    """Read, fit, apply, write, tell and draw."""
    args = arguments()
    start = time.perf_counter()
    truth = None if args.volume else make_phantom()
    volume = xoctnorm.open_volume(args.volume) if truth is None else truth["volume"]
    if args.planes_per_section:
        volume = volume.octnorm.assign_sections(starts=range(0, volume.sizes["z"], args.planes_per_section))
    if args.sections:
        volume = volume.octnorm.assign_sections(n=args.sections)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xoctnorm.OctnormWarning)  # they are in the record and printed below
        drift = None if args.drift == "none" else args.drift
        flatten = not (args.keep_decay or drift in ("scale", "histogram", None))
        correction = volume.octnorm.fit(drift=drift, flatten_depth=flatten)
        result = volume.octnorm.apply(correction)  # lazy where the volume is chunked

    stem = f"{args.volume.stem}_normalized" if args.volume else "quickstart"
    args.out.mkdir(parents=True, exist_ok=True)
    file = result.octnorm.to_netcdf(args.out / f"{stem}.nc")
    with xr.open_dataarray(file) as written:  # the picture shows what is in the file
        decay = 1 if flatten or truth is None else truth["depth_response"]
        perfect = None if truth is None else truth["reflectivity"] * decay
        picture = draw(volume, written, correction, perfect, args.out / f"{stem}.png")
    tell(volume, correction)
    if truth is not None:
        compare(volume, result, perfect.where(truth["tissue_mask"]))
    print(f"\nwrote {file}\nwrote {picture}\nin {time.perf_counter() - start:.1f} s")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Normalize a volume, write it, and draw it before and after.")
    parser.add_argument(
        "volume", nargs="?", type=Path, help="NetCDF, Zarr, OME-Zarr, TIFF, NIfTI or .npy; none: a phantom"
    )
    cuts = parser.add_mutually_exclusive_group()
    cuts.add_argument("--planes-per-section", type=int, metavar="N", help="a new section starts every N planes")
    cuts.add_argument("--sections", type=int, metavar="N", help="number of sections, of equal thickness")
    methods = ["joint", "agarose", "continuity", "quantile", "scale", "histogram", "none"]
    parser.add_argument(
        "--drift", choices=methods, default="joint", help="scale, histogram and none are the reference's"
    )
    parser.add_argument("--keep-decay", action="store_true", help="do not take out the decay with depth")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR")
    return parser.parse_args()


def tell(volume: xr.DataArray, correction: xr.Dataset) -> None:
    """Print what was fitted, and what there is to know about it."""
    print(f"volume {volume.name!r}: {dict(volume.sizes)}, {volume.dtype}\n")
    print(volume.octnorm.sections.to_string(index=False))
    print(f"\nagarose: {correction.agarose_mask.mean().item():.0%} of the field")
    if "noise_floor" in correction:
        floor, error = correction["noise_floor"].mean().item(), correction["noise_floor_se"].item()
        print(f"noise floor: {floor:.4g} ± {error:.2g}")
    for name, values in gains(correction).items():
        print(f"{name}: {values.min():.4g} to {values.max():.4g}")
    for warning in json.loads(correction.attrs["xoctnorm_provenance"])["steps"][-1]["warnings"]:
        print(f"warning: {warning}")


def compare(volume: xr.DataArray, result: xr.DataArray, perfect: xr.DataArray) -> None:
    """Print how far the sections are from the truth, which is known for the phantom."""
    print("\nbrightness of true tissue in every section, over that after a perfect correction:")
    for name, array in {"before": volume, "after": result}.items():
        ratio = array.where(perfect.notnull()).mean(["y", "x"]) / perfect.mean(["y", "x"])
        gain = np.log(ratio).groupby("section").mean()
        step = np.expm1(np.abs(gain.diff("section")).max()).item()
        print(f"  {name:6}  spread {gain.std().item():.1%}, largest step between neighbours {step:.1%}")


def gains(correction: xr.Dataset) -> dict[str, np.ndarray]:
    """What multiplies every plane; matching by what it does at medium brightness."""
    found = {name: correction[name].values for name in ("scale_factor", "depth_gain") if name in correction}
    if "matched_intensity" in correction:
        spans = (correction["clip_threshold"] - correction["background_threshold"]) / correction["divisor"]
        level = 0.5 * spans.median().item()
        table = correction["matched_intensity"].swap_dims(bin="bin_center")
        gain = table.interp(bin_center=level).fillna(level) / level
        found["histogram matching"] = gain.values[correction["section_index"].values]
    if "quantile_source" in correction:
        gain = (correction["quantile_target"] / correction["quantile_source"]).median("quantile")
        found["quantile matching"] = gain.values[correction["section_index"].values]
    return found or {"none": np.ones(correction.sizes["z"])}


def draw(
    volume: xr.DataArray, result: xr.DataArray, correction: xr.Dataset, perfect: xr.DataArray | None, path: Path
) -> Path:
    """Draw a plane, a cut along z and what was fitted, before and after; only what is drawn is read."""
    plane = volume.sizes["z"] // 2
    masks = correction["agarose_mask"]
    if "section_label" in masks.dims:  # one for each section: in the pictures every plane has its own
        masks = masks.isel(section_label=correction["section_index"])
    agarose = masks.isel(z=plane).values if "z" in masks.dims else masks.values
    row = int(np.median(np.nonzero(~agarose)[0]))  # through the middle of the tissue
    along = masks.isel(y=row).transpose("x", ...).values  # (x, z), or (x,) where one mask serves all planes
    along = np.broadcast_to(along.reshape(len(along), -1), (len(along), volume.sizes["z"]))
    (z, z_label), (y, y_label), (x, x_label) = (axis(volume, name) for name in "zyx")
    starts = volume.octnorm.sections["first_plane"].to_numpy()[1:]
    cuts = (z[starts] + z[starts - 1]) / 2

    fig, axes = plt.subplots(4, 2, figsize=(7.2, 8.8), layout="constrained", height_ratios=[2.6, 2.2, 1.1, 1.1])
    for column, (title, array, color) in enumerate([("before", volume, BEFORE), ("after", result, AFTER)]):
        top, middle, profile, below = axes[:, column]
        image = array.isel(z=plane).transpose("y", "x").values.astype(np.float32)
        cut = array.isel(y=row).transpose("x", "z").values.astype(np.float32)
        low, high = np.nanpercentile(np.concatenate([image.ravel(), cut.ravel()]), [1, 99.5])
        look = {"cmap": "gray", "vmin": low, "vmax": high, "interpolation": "nearest"}
        drawn = top.imshow(image, extent=(*edges(x), *edges(y)[::-1]), **look)
        fig.colorbar(drawn, cax=top.inset_axes((1.02, 0, 0.03, 1)))
        top.contour(x, y, agarose, levels=[0.5], colors=OUTLINE, linewidths=1)
        top.axhline(y[row], color=CUT, lw=1, ls="--")
        top.set_title(title, fontsize=13, fontweight="bold")
        top.set(xlabel=f"{x_label}, plane {plane}", ylabel=y_label)
        middle.imshow(cut, extent=(*edges(z), *edges(x)[::-1]), aspect="auto", **look)
        middle.set_ylabel(x_label)
        profile.plot(z, brightness(cut, along), color=color, label="tissue along the cut")
        if perfect is not None:
            ideal = perfect.isel(y=row).transpose("x", "z").values
            profile.plot(z, brightness(ideal, along), "k:", label="perfect correction")
        profile.set(xlim=edges(z), ylim=(0, 2 if perfect is not None else None), ylabel="relative to mean")
        below.set(xlim=edges(z), xlabel=z_label)
        for at in cuts:
            middle.plot(at, 1.03, "v", color=CUT, clip_on=False, transform=middle.get_xaxis_transform())
            profile.axvline(at, color=CUT, lw=0.6)
            below.axvline(at, color=CUT, lw=0.6)
    for panel, (name, values) in zip(axes[3], gains(correction).items(), strict=False):
        panel.plot(z, values, "k-", drawstyle="steps-mid", label=name.replace("_", " "))
        if f"{name}_se" in correction:
            error = correction[f"{name}_se"].values
            band = values - 2 * error, values + 2 * error
            panel.fill_between(z, *band, step="mid", color="0.7", lw=0, label="± 2 standard errors")
        panel.set(ylabel="factor", ylim=(0, None))
    if len(gains(correction)) == 1:
        axes[3, 1].set_axis_off()
    for panel in (panel for panel in axes[2:].flat if panel.axison):
        panel.set_title(" ")  # room for the legend, which shall not narrow the panel
        panel.legend(loc="lower left", bbox_to_anchor=(-0.03, 0.98), ncols=2, columnspacing=1).set_in_layout(False)
    fig.savefig(path, dpi=150)
    return path


def brightness(cut: np.ndarray, agarose: np.ndarray) -> np.ndarray:
    """Mean of a cut (x, z) outside the agarose for every plane, relative to its own mean."""
    mean = np.nanmean(np.where(agarose, np.nan, cut), axis=0)
    return mean / np.nanmean(mean)


def axis(volume: xr.DataArray, name: str) -> tuple[np.ndarray, str]:
    """Values along a dim and their label: the coordinate with its units, else the index."""
    if name not in volume.coords:
        return np.arange(volume.sizes[name]), f"{name} ({'plane' if name == 'z' else 'pixel'})"
    units = str(volume[name].attrs.get("units", "")).replace("um", "µm")
    return volume[name].values, f"{name} ({units})" if units else name


def edges(centers: np.ndarray) -> tuple[float, float]:
    """Outer edges of the first and of the last pixel."""
    half = (centers[-1] - centers[0]) / max(len(centers) - 1, 1) / 2
    return centers[0] - half, centers[-1] + half


if __name__ == "__main__":
    main()
