"""The gain over depth, coarse y and coarse x: from what was observed to tables, and from tables to planes."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.corrections.drift_reads import Observed
from xoctnorm.corrections.tissue_drift import SMOOTH
from xoctnorm.kernels.drift import Drift
from xoctnorm.kernels.lateral import (
    CENTRES,
    LARGEST_GAIN,
    LateralProfile,
    lateral_profile,
    multiply_by_field,
    places_between,
    smooth_gain,
)
from xoctnorm.kernels.seams import find_seam, pieces_of, piecewise_gain
from xoctnorm.transfers import Transfer
from xoctnorm.volume import PlanesT

FLAG = "profile_varies_laterally"
_VARIES = 0.05


def observed_profile(observed: Observed, drift: Drift) -> LateralProfile | None:
    """How the profile varies over the field, as far as it can be told."""
    if len(observed.kept) < 2 or observed.layout.n_depths < 2:
        return None
    layout = observed.layout
    return lateral_profile(observed.tiles, observed.sums, layout.section, layout.depth, drift.noise_floor)


def variation(found: LateralProfile | None, lateral: str | None) -> list[str]:
    """What to say where the profile varies over the field; nothing where it hardly does."""
    if found is None or found.spread <= _VARIES:
        return []
    remedy = "; lateral='smooth' or 'tiles', with flatten_depth, takes that out" if lateral is None else ""
    return [f"the decay with depth through a section varies by ±{found.spread:.1%} over the field{remedy}"]


def lateral_tables(
    found: LateralProfile | None, lateral: str, observed: Observed, floor: float
) -> tuple[xr.Dataset, list[str], list[str]]:
    """Gain and places of its nodes or pieces; decisions for the record, remarks for the user."""
    decisions, remarks = [], []
    n_depths = int(observed.depth.max()) + 1
    if found is None:  # as many nodes or pieces as elsewhere: further dims are stacked
        places = [CENTRES if lateral == SMOOTH else np.array([0.0, 1.0])] * 2
        gain = np.ones((n_depths, len(places[0]), len(places[1])))
        remarks.append("too little tissue is seen to tell how the depth profile varies over the field: it is left so")
    elif lateral == SMOOTH:
        gain, places = smooth_gain(found), [CENTRES, CENTRES]
    else:
        assert observed.lines is not None
        seams = []
        for axis, dim in enumerate("yx"):
            seam = find_seam(found, observed.lines, axis, floor)
            if seam is not None:
                decisions.append(
                    f"lateral='tiles': along {dim} the decay has its largest step, {seam.step:.1%}, at "
                    f"{seam.place:.1%} of the field; others have a standard deviation of {seam.spread:.1%}, and the "
                    f"sides differ by {seam.change:.1%} ± {seam.error:.1%}: {'a' if seam.significant else 'no'} seam"
                )
            seams.append(seam if seam is not None and seam.significant else None)
        gain, places = piecewise_gain(found, (seams[0], seams[1]))
        if seams == [None, None]:
            remarks.append("lateral='tiles': no seam is found where the depth profile changes, so it is left as it is")
    at_bound = int(((gain >= LARGEST_GAIN) | (gain <= 1 / LARGEST_GAIN)).sum())
    if at_bound:
        remarks.append(
            f"the lateral gain ends at {LARGEST_GAIN:g}, or its inverse, in {at_bound / gain.size:.1%} of it"
        )
    whole = gain[np.minimum(np.arange(n_depths), len(gain) - 1)].astype(np.float32)
    tables = xr.Dataset(
        {
            "lateral_gain": (("plane_depth", "lateral_y", "lateral_x"), whole),
            "lateral_position_y": ("lateral_y", places[0]),
            "lateral_position_x": ("lateral_x", places[1]),
        }
    )
    return tables, decisions, remarks


def through_lateral(planes: PlanesT, fitted: xr.Dataset, lateral: str) -> PlanesT:
    """Read planes through the gain at their depth and at the place of each pixel in the field."""
    gain, depth = fitted["lateral_gain"].variable, fitted["depth_below_cut"].variable
    further = [dim for dim in gain.dims if dim not in ("plane_depth", "lateral_y", "lateral_x")]
    values = gain.transpose("plane_depth", *further, "lateral_y", "lateral_x").to_numpy()[depth.to_numpy()]
    nodes = xr.Variable((*depth.dims, *further, "lateral_y", "lateral_x"), values)
    locate = places_between if lateral == SMOOTH else pieces_of

    def places(dim: str) -> xr.Variable:
        positions = fitted[f"lateral_position_{dim}"].variable.transpose(..., f"lateral_{dim}")
        each: list[NDArray[np.float64]] = [
            locate(one, planes.data.sizes[dim]) for one in positions.to_numpy().reshape(-1, positions.shape[-1])
        ]
        return xr.Variable((*positions.dims[:-1], dim), np.reshape(each, (*positions.shape[:-1], -1)))

    return planes.through(Transfer(multiply_by_field, (nodes, places("y"), places("x"))))
