"""What every figure of merit is: name, unit, definition, and what to try where it is not as it should be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """Of one figure.

    Attributes
    ----------
    long_name, units, comment
        As in the attributes of the figure; the comment is the definition. ``"intensity"`` stands for the units of the
        volume.
    advice
        What to try.
    percent
        Whether people read it as percent.
    """

    long_name: str
    units: str
    comment: str
    advice: str = ""
    percent: bool = False


_SECTIONS = "are the sections of da.octnorm.sections right?"

DEFINITIONS: dict[str, Definition] = {
    "agarose_coverage": Definition(
        "share of the field that is agarose",
        "1",
        "Agarose pixels over pixels of the imaged field, of every section; the mean over sections is judged.",
        "there is too little agarose to tell the background: mark some with seeds= of da.octnorm.agarose_mask, or use "
        "drift='continuity', which needs none",
        percent=True,
    ),
    "tissue_coverage": Definition(
        "share of the field that is tissue",
        "1",
        "1 less the agarose coverage, of every section; the mean over sections is judged.",
        "the mask leaves hardly any tissue: try agarose_mask='border', or pass a mask",
        percent=True,
    ),
    "mask_agreement": Definition(
        "agreement of the agarose mask with the dark border of the field",
        "1",
        "Dice coefficient, over all sections, of the agarose mask and the one that method 'border' finds in the same "
        "volume (twice the area that they share over the sum of their areas); that of agarose or that of tissue, "
        "whichever is smaller.",
        "the mask is implausible: pass agarose_mask='border' (or 'auto') to normalize, look at the mask, or draw one "
        "and pass it",
        percent=True,
    ),
    "otsu_threshold": Definition(
        "Otsu threshold of the mean projection", "intensity", "Threshold of the mean projection by Otsu's method."
    ),
    "otsu_separability": Definition(
        "separability at the Otsu threshold",
        "1",
        "Variance between the two sides of Otsu's threshold over the whole variance of the mean projection; 0.64 for "
        "one normal distribution. Judged only where the mask came from Otsu's threshold.",
        "the mean projection does not fall into two classes, so Otsu's threshold cuts through one: use "
        "agarose_mask='border'",
    ),
    "background_level": Definition(
        "mean of agarose of the plane", "intensity", "Mean over the pixels of the plane that are surely agarose."
    ),
    "background_drift": Definition(
        "drift of the background over sections",
        "1",
        "Standard deviation over sections of the background level, over the mean intensity of tissue.",
        "the background differs from section to section: use drift='joint', or floor='agarose'; where tissue is "
        "steady agarose itself differs, and nothing is wrong",
        percent=True,
    ),
    "clipped_high": Definition(
        "share of the plane at its largest value",
        "1",
        "Voxels of the field that equal the largest value of their plane, where more than one does, over the voxels of "
        "the field; the mean over planes is judged.",
        "bright voxels are cut off: raise percentile_max or divisor_percentile; before the correction, the detector "
        "saturates",
        percent=True,
    ),
    "clipped_low": Definition(
        "share of tissue that is not above 0",
        "1",
        "Voxels of tissue that are 0 or less over those of tissue, of every plane; the mean over planes is judged.",
        "tissue is cut off at the bottom: the floor is too high; use drift='joint', or check the agarose mask and "
        "noise_floor",
        percent=True,
    ),
    "saturated_planes": Definition(
        "share of planes that are saturated",
        "1",
        "Planes of which more than 1 % (the warning limit of clipped_high) equal their largest value, over all planes.",
        "leave such planes or sections out with exclude=, or image them anew",
        percent=True,
    ),
    "empty_planes": Definition(
        "share of planes that are empty",
        "1",
        "Planes without a voxel other than 0 and NaN in the field, over all planes.",
        "drop empty planes with da.isel(z=…) before normalizing, or check how the file was written",
        percent=True,
    ),
    "brightest": Definition(
        "percentile 99.9 of the plane", "intensity", "Percentile 99.9 of the values of the plane other than 0."
    ),
    "divisor_outlier": Definition(
        "brightest plane over the next ones",
        "1",
        "Largest percentile 99.9 of a plane over the median of the five next largest. Judged where the volume was "
        "scaled to 0…1.",
        "the divisor is decided by one plane, which makes all others dark: lower divisor_percentile (for instance 95), "
        "or leave the section out with exclude=",
    ),
    "boundary_step": Definition(
        "step at the cut, at equal depth",
        "1",
        "Brightness of a section over that of the one before, less 1, between planes at equal depth below their cuts, "
        "on pixels that keep their class of tissue through the one before and into it, above the noise floor. Judged "
        "is the root mean square over cuts, less what standard errors explain.",
        f"sections still differ: use drift='joint'; {_SECTIONS}",
        percent=True,
    ),
    "boundary_step_se": Definition(
        "standard error of the step at the cut",
        "1",
        "From the scatter of the step over lateral blocks and over depths.",
        percent=True,
    ),
    "boundary_step_raw": Definition(
        "step at the cut between neighbouring planes",
        "1",
        "Brightness of the first plane after the cut over that of the last before it, less 1, on pixels of the same "
        "tissue. Where the decay with depth is kept a step is expected and no fault.",
        percent=True,
    ),
    "block_step": Definition(
        "percentiles of the step over lateral blocks",
        "1",
        "Percentiles of the step at equal depth over 8 x 8 blocks of the field, tissues and cuts, each weighted by its "
        "voxels. Judged is half of the range from the 5th to the 95th, about the step of the cut, less what speckle "
        "explains.",
        "the step differs over the field, though its mean may be good: with flatten_depth=True try lateral='smooth' or "
        "'tiles'; look for tears and tile seams",
        percent=True,
    ),
    "left_out_error": Definition(
        "error of the section as its neighbours predict it",
        "1",
        "Brightness of the section over the geometric mean of those next to it, less 1, at equal depth on the same "
        "pixels. Judged is the root mean square over sections, less what standard errors explain.",
        "single sections stand out: look at them, and leave damaged ones out with exclude=",
        percent=True,
    ),
    "section_level": Definition(
        "level of the class in the section",
        "1",
        "Mean brightness of the class in the section over that in all, the depth profile taken off.",
    ),
    "depth_profile": Definition(
        "brightness of the class over depth",
        "1",
        "Mean brightness of the class at a depth below the cut over that at all, the levels of sections taken off.",
    ),
    "tissue_variation": Definition(
        "coefficient of variation of the reference tissue over sections",
        "1",
        "Standard deviation over sections of the level of the reference tissue, over its mean.",
        "where boundary_step is ok it is anatomy, and nothing is wrong; else use drift='joint'",
        percent=True,
    ),
    "agarose_variation": Definition(
        "coefficient of variation of agarose over sections",
        "1",
        "Standard deviation over sections of the level of agarose, over its mean.",
        "agarose differs from section to section: where tissue is steady at equal depth it is no reference, and "
        "drift='continuity' does without",
        percent=True,
    ),
    "speckle_contrast": Definition(
        "speckle contrast of the class",
        "1",
        "Standard deviation over mean, above the noise floor, in small blocks within one class: median over blocks, "
        "then over planes.",
    ),
    "looks": Definition("equivalent number of looks of the class", "1", "1 over the square of the speckle contrast."),
    "speckle_change": Definition(
        "change of the speckle contrast of tissue",
        "1",
        "Largest change of the speckle contrast of a class of tissue from before to after, relative to before; a gain "
        "does not change it.",
        "more than a gain was applied: subtracting agarose (drift='scale', 'histogram' or None) raises the contrast of "
        "dark tissue; use drift='joint'",
        percent=True,
    ),
    "cnr": Definition(
        "contrast to noise ratio of the pair of classes",
        "1",
        "Distance of the means of the two classes over the root of the sum of their variances, over all voxels.",
    ),
    "gcnr": Definition(
        "generalized contrast to noise ratio of the pair of classes",
        "1",
        "1 less the overlap of the histograms of the two classes over all voxels, each of area 1.",
    ),
    "cjv": Definition(
        "coefficient of joint variation of darker and brighter tissue",
        "1",
        "Sum of the standard deviations of darker and brighter tissue over the distance of their means, all voxels.",
        "tissues are hardly told apart by brightness: does the mask take tissue for agarose, or is drift left?",
    ),
    "snr": Definition(
        "signal to noise ratio of the class",
        "dB",
        "10 log10 of the mean intensity of the class above the noise floor over the noise floor. Judged is that of the "
        "reference tissue.",
        "tissue hardly rises above the noise floor: leave out the deepest planes, or lower max_depth_gain",
    ),
    "residual_slope": Definition(
        "slope of brightness along depth",
        "dB/mm",
        "Slope of 10 log10 of the depth profile of the class against depth, the first plane after the cut left out.",
    ),
    "residual_decay": Definition(
        "change of brightness through a section",
        "dB",
        "Slope of the depth profile of the class times the depth of a section. Judged for the reference tissue, after "
        "flattening.",
        "decay is left after flattening: say reference_tissue= for the tissue that is to be flat; max_depth_gain may "
        "have ended it; one profile can't flatten two tissues",
    ),
    "clamped_factors": Definition(
        "share of planes whose factor is at its clamp",
        "1",
        "Planes whose scale_factor equals min_scale or max_scale, or whose depth_gain equals max_depth_gain, over all.",
        "factors end at their clamp: widen min_scale and max_scale, or max_depth_gain, where such factors are "
        "plausible; else look at these sections",
        percent=True,
    ),
    "recorded_warnings": Definition(
        "warnings in the record",
        "1",
        "Number of warnings of all steps in the record of the volume.",
        "read them: each says what to try",
    ),
    "flagged_sections": Definition(
        "share of sections with a flag",
        "1",
        "Sections with a flag in the correction, over all sections; the flags are in section_flags.",
        "see the meaning of the flags",
        percent=True,
    ),
    "unmeasured_sections": Definition(
        "share of sections whose gain nothing tells",
        "1",
        "Sections with the flag bridged, left_alone or few_voxels, over all sections.",
        "look at these sections and at the agarose mask; exclude= those that are damaged",
        percent=True,
    ),
    "section_flags": Definition("flags of the section in the correction", "1", "What is special about the section."),
}

UNMEASURED = ("bridged", "left_alone", "few_voxels")
"""Flags of sections whose gain nothing tells."""

FLAGS: dict[str, tuple[str, str]] = {
    "agarose_not_a_reference": (
        "agarose does not follow the gain of tissue, so it does not count",
        "nothing, where continuity tells the gain; else check the agarose mask",
    ),
    "floor_unidentified": (
        "the noise floor is not known well, so ratios of tissues may be off",
        "pass noise_floor= where it is known, for instance from a scan with the beam blocked",
    ),
    "clamped": ("the gain of flattening ends at its bound", "raise max_depth_gain, or leave out the deepest planes"),
    "bridged": ("nothing tells the gain, so it rests on the sections around it", "look at the section; exclude= it"),
    "excluded": ("the section was left out of the fit", "look whether its neighbours' gain suits it"),
    "left_alone": ("gains are not known, so they are left alone", "check the sections and the agarose mask"),
    "partial_section": (
        "the first section is shorter and taken for the lower part of one",
        "say first_depth= where that is wrong",
    ),
    "few_voxels": ("no tissue keeps its class through the section", "check the agarose mask and the sections"),
    "profile_varies_laterally": (
        "the decay with depth varies over the field",
        "with flatten_depth=True try lateral='smooth' or 'tiles'",
    ),
    "profile_of_its_own": (
        "the depth profile of the section differs from the common one, as where the focus wanders",
        "trust gains as means over depth only, or flatten_depth=True",
    ),
    "dark_tissue_like_agarose": (
        "what is taken for darker tissue looks like agarose",
        "check the agarose mask, or say reference_tissue='bright'",
    ),
    "agarose_like_tissue": (
        "what is taken for agarose decays like tissue",
        "check the agarose mask: draw one, or use seeds=",
    ),
}
"""Flags of sections: what they mean, and what to try."""
