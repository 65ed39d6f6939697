"""
Drift methods against the truth
===============================

Every method of ``normalize(drift=…)`` on a phantom whose gains are known: how far is each section from what a
perfect correction gives? On the left the error of every section, on the right its spread over sections.

The reference's methods follow the share of tissue in a section. The model of agarose and tissue follows what
stays the same across a cut.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import xoctnorm
from xoctnorm.phantom import make_phantom

METHODS = {  # options of normalize(), and colours that the colour-blind can tell apart
    "none": (None, "#999999"),
    "scale": ({"drift": "scale", "smooth_sigma": 0.5}, "#E69F00"),
    "histogram": ({"drift": "histogram"}, "#D55E00"),
    "quantile": ({"drift": "quantile"}, "#CC79A7"),
    "continuity": ({"drift": "continuity"}, "#009E73"),
    "agarose": ({"drift": "agarose"}, "#56B4E9"),
    "joint": ({"drift": "joint"}, "#0072B2"),
}


def section_error(result: xr.DataArray, phantom: xr.Dataset) -> np.ndarray:
    """Log of the brightness of true tissue over what a perfect correction that keeps decay gives, per section."""
    perfect = (phantom["reflectivity"] * phantom["attenuation"]).where(phantom["tissue_mask"])
    ratio = result.where(phantom["tissue_mask"]).mean(["y", "x"]) / perfect.mean(["y", "x"])
    error = np.log(ratio).groupby("section").mean()
    return (error - error.mean()).values


phantom = make_phantom(decay=(0.05, 0.1), focus=3, rayleigh_range=8, noise_floor=0.02)
errors = {}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", xoctnorm.OctnormWarning)  # what the reference's methods fall short of is shown here
    for name, (options, _) in METHODS.items():
        volume = phantom["volume"]
        result = volume if options is None else volume.octnorm.normalize(**options)
        errors[name] = section_error(result, phantom)

spread = {name: 100 * error.std() for name, error in errors.items()}
for name, value in spread.items():
    print(f"{name:10} gains of sections are off by {value:5.2f} %")

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained", width_ratios=[1.5, 1])
for name, (_, color) in METHODS.items():
    left.plot(100 * np.expm1(errors[name]), marker="o", ms=3, lw=1.2, color=color, label=name)
left.axhline(0, color="k", ls=":", lw=1)
left.set(xlabel="section", ylabel="error of brightness (%)")
left.legend(ncols=2, frameon=False, fontsize=8)
bars = right.barh(list(spread), list(spread.values()), color=[color for _, color in METHODS.values()])
right.bar_label(bars, fmt=" %.2g %%", fontsize=8)
right.set(xscale="log", xlim=(0.1, 200), xlabel="spread over sections (%)")
right.invert_yaxis()
plt.show()
