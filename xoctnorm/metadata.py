"""Names, units and meaning of everything that is fitted, for results and for files."""

from __future__ import annotations

import xarray as xr

from xoctnorm.provenance import SOURCE
from xoctnorm.text import escaped

# What a result carries as coordinates; the rest of a correction stays in the correction.
ATTACHED = (
    "agarose_mask",
    "otsu_threshold",
    "background_threshold",
    "clip_threshold",
    "divisor",
    "scale_factor",
    "zprofile_gain",
    "depth_gain",
    "noise_floor",
)

_INPUT = "units of the input"
_LONG_NAMES = {
    "agarose_mask": ("agarose around the tissue", "1"),
    "otsu_threshold": ("Otsu threshold of the smoothed mean projection", _INPUT),
    "agarose_origin": ("how the agarose of the section was found", "1"),
    "agarose_separability": ("level of the darkest tissue above agarose, in standard deviations of agarose", "1"),
    "agarose_coverage": ("share of the imaged field that is agarose", "1"),
    "agarose_contact": ("share of the border of the imaged field that is agarose", "1"),
    "background_threshold": ("agarose median of the plane, which becomes 0", _INPUT),
    "clip_threshold": ("percentile cap of the plane", _INPUT),
    "divisor": ("span from background to clip threshold that becomes 1", _INPUT),
    "scale_factor": ("multiplicative drift correction of the plane", "1"),
    "zprofile_gain": ("gain of the plane that smooths the profile along z", "1"),
    "metric": ("intensity percentile of the voxels of the section above 0", "1"),
    "smoothed_metric": ("intensity percentile smoothed over sections", "1"),
    "bin_center": ("centre of the histogram bin", "1"),
    "matched_intensity": ("intensity that the bin centre is mapped to", "1"),
    "quantile_level": ("share of the tissue below the quantile", "1"),
    "quantile_source": ("quantile of the tissue of the section", _INPUT),
    "quantile_target": ("intensity that the quantile is mapped to", _INPUT),
    "zprofile_mean": ("mean over tissue of the plane", "1"),
    "zprofile_smoothed": ("mean over tissue of the plane, smoothed along z", "1"),
    "intensity_scale": ("scale of the input: 0 linear intensity, 1 amplitude, 2 decibels", "1"),
    "noise_floor": ("noise floor, on linear intensity, which becomes 0", _INPUT),
    "noise_floor_se": ("standard error of the noise floor", _INPUT),
    "scale_factor_se": ("standard error of the drift correction of the plane", "1"),
    "depth_gain": ("gain of the plane that takes out the decay with depth", "1"),
    "depth_below_cut": ("depth of the plane below the cut, in planes", "1"),
    "depth_profile": ("brightness of a class of tissue at a depth, brightest 1", "1"),
    "depth_profile_se": ("standard error of the depth profile", "1"),
    "tissue": ("class of tissue", "1"),
    "plane_depth": ("depth below the cut, in planes", "1"),
    "lateral_gain": ("gain at a depth and a place in the field, beside that of the plane", "1"),
    "lateral_position_y": ("place along y, as a share of the field, of a node or where a piece begins", "1"),
    "lateral_position_x": ("place along x, as a share of the field, of a node or where a piece begins", "1"),
    "section_gain": ("gain of the section relative to the others", "1"),
    "section_gain_se": ("standard error of the gain of the section", "1"),
    "agarose_weight": ("whether the agarose of the section counts as a reference", "1"),
    "section_flags": ("what is special about the section", "1"),
    "agarose_chi2": ("reduced chi-square of the level of agarose against tissue", "1"),
    "model_chi2": ("reduced chi-square of all observations", "1"),
    "zero_level": ("level, after correction, that becomes 0", _INPUT),
    "section_label": ("label of the section", "1"),
    "section_index": ("row of the section in the tables", "1"),
    "first_plane": ("first plane of the section", "1"),
    "n_planes": ("number of planes of the section", "1"),
}


# Dims of tables in a correction.
TABLE_DIMS = ("section_label", "bin", "quantile", "tissue", "plane_depth", "lateral_y", "lateral_x")
# What numbers the tables, the same for every volume that is fitted together.
TABLE_COORDS = ("bin_center", "quantile_level", "section_index", "tissue", "plane_depth", "depth_below_cut")
# Names that dims and section coordinates of a volume can't have, since a correction uses them.
RESERVED = {*_LONG_NAMES, *TABLE_DIMS}


def describe(ds: xr.Dataset, input_units: object) -> xr.Dataset:
    """Give every fitted variable its long name, its units, and the mark that it is ours."""
    for name, variable in ds.variables.items():
        if name not in _LONG_NAMES:
            continue
        long_name, units = _LONG_NAMES[str(name)]
        variable.attrs = {"long_name": long_name, "source": SOURCE}
        if units == _INPUT:
            variable.attrs["units"] = "1" if input_units is None else escaped(str(input_units))
        elif variable.dtype.kind in "biuf":
            variable.attrs["units"] = units
    return ds
