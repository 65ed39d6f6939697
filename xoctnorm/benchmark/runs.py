"""Run methods on the phantoms of a family and measure them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.benchmark.families import FAMILIES, QUICK_SHAPE
from xoctnorm.benchmark.measures import calibration, measure
from xoctnorm.benchmark.methods import METHODS, run
from xoctnorm.benchmark.truth import truth_of

Row = dict[str, Any]
"""Family, seed, method, error (a message where the method failed, else empty) and all measures."""


def measure_phantom(family: str, seed: int, methods: Sequence[str], *, quick: bool = False) -> list[Row]:
    """Make one phantom, run the methods and measure what they return: one row per method."""
    phantom = FAMILIES[family].make(seed, shape=QUICK_SHAPE) if quick else FAMILIES[family].make(seed)
    truth = truth_of(phantom)
    rows = []
    for name in methods:
        row: Row = {"family": family, "seed": seed, "method": name, "error": ""}
        try:
            outcome = run(METHODS[name], phantom, truth, FAMILIES[family].options)
            row |= measure(volume_of(outcome.result), truth, mask_of(outcome.result))
            row["seconds"] = outcome.seconds
            row["ns_per_voxel"] = 1e9 * outcome.seconds / phantom["volume"].size
            row["calibration"] = np.nan if outcome.correction is None else calibration(outcome.correction, truth)
        except Exception as error:  # the benchmark goes on, and its tables say what failed
            row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        rows.append(row)
    return rows


def volume_of(result: xr.DataArray) -> NDArray[np.float64]:
    """Values in the order z, y, x."""
    return result.transpose("z", "y", "x").to_numpy().astype(np.float64)


def mask_of(result: xr.DataArray) -> NDArray[np.bool_] | None:
    """The agarose mask that was used, where one is attached."""
    if "agarose_mask" not in result.coords:
        return None
    return np.asarray(result.coords["agarose_mask"].transpose(..., "y", "x").to_numpy(), bool)
