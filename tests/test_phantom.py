import json
import math
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

from xoctnorm.phantom import (
    AGAROSE,
    EMPTY,
    GREY_MATTER,
    SPECULAR_LEVEL,
    WHITE_MATTER,
    _lay_out,
    _make_plane,
    make_phantom,
)

SMALL = {"shape": (48, 60), "n_sections": 5, "planes_per_section": 4}


def closed_form(phantom):
    """The volume without speckle, from the truths alone, in float64."""
    response = xr.where(phantom["tissue_mask"], phantom["depth_response"], 1.0)
    signal = phantom["section_gain"] * phantom["plane_jitter"] * response * phantom["reflectivity"].astype(float)
    inside = phantom["tissue_class"] != EMPTY
    expected = (signal + phantom["noise_floor"]).where(inside, 0.0)
    expected = expected.where(~phantom["specular_mask"], SPECULAR_LEVEL)
    return expected.transpose("z", "y", "x").values


def dice(a, b):
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def parameters_of(phantom):
    return json.loads(phantom.attrs["phantom_parameters"])


# The model


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"margin": 5},
        {"planes_per_section": (3, 1, 6, 2, 4), "missing_sections": (1, 3)},
        {"section_gain": (1.0, 2.0, 0.5, 1.5, 0.7), "plane_jitter": 0.1, "decay": 0.3},
        {"specular_planes": (2, 7), "margin": 3},
        {"noise_floor": 0.0, "agarose": 0.0},
    ],
)
def test_volume_is_the_closed_form_of_its_truth(options):
    phantom = make_phantom(**{**SMALL, **options}, looks=None, dtype="float64")
    np.testing.assert_allclose(phantom["volume"].values, closed_form(phantom), rtol=1e-14, atol=0)


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 1e-6), ("float16", 1e-3)])
def test_narrow_floats_are_the_closed_form_rounded(dtype, rtol):
    phantom = make_phantom(**SMALL, looks=None, dtype=dtype)
    assert phantom["volume"].dtype == dtype
    np.testing.assert_allclose(phantom["volume"].values, closed_form(phantom), rtol=rtol)


def test_given_gains_jitter_and_decay_are_used_as_given():
    gains = [1.0, 2.0, 0.5, 1.5, 0.7]
    jitter = np.linspace(0.9, 1.1, 20)
    phantom = make_phantom(**SMALL, section_gain=gains, plane_jitter=jitter, decay=0.3)
    np.testing.assert_array_equal(phantom["section_gain"], np.repeat(gains, 4))
    np.testing.assert_array_equal(phantom["plane_jitter"], jitter)
    np.testing.assert_array_equal(phantom["depth"], [0, 1, 2, 3] * 5)
    np.testing.assert_allclose(phantom["depth_response"], np.exp(-0.3 * np.array([0, 1, 2, 3] * 5)), rtol=1e-15)


def test_drawn_gains_and_jitter_have_the_spread_that_was_asked_for():
    phantom = make_phantom(shape=(16, 16), n_sections=300, planes_per_section=2, section_gain=0.3, plane_jitter=0.05)
    log_gain = np.log(phantom["section_gain"].values[::2])
    log_jitter = np.log(phantom["plane_jitter"].values)
    for values, spread in [(log_gain, 0.3), (log_jitter, 0.05)]:
        assert abs(values.mean()) < 4 * spread / math.sqrt(values.size)
        assert values.std() == pytest.approx(spread, rel=4 / math.sqrt(2 * values.size))
    assert abs(np.corrcoef(log_gain, log_jitter[:300])[0, 1]) < 4 / math.sqrt(300)


def test_gains_come_back_from_ratios_of_means():
    phantom = make_phantom(plane_jitter=0.0)
    agarose = phantom["volume"].where(phantom["agarose_mask"]).groupby("section").mean(...) - 0.01
    true = phantom["section_gain"].groupby("section").first()
    # 130,000 or more agarose voxels per section, of contrast 0.41
    np.testing.assert_allclose(agarose / agarose[0], true / true[0], rtol=0.01)


def test_tissue_decays_below_the_cut_and_agarose_does_not():
    phantom = make_phantom(plane_jitter=0.0, looks=None)
    signal = (phantom["volume"] - phantom["noise_floor"]) / phantom["section_gain"] / phantom["reflectivity"]
    tissue = signal.where(phantom["tissue_mask"]).groupby(phantom["depth"]).mean(...)
    agarose = signal.where(phantom["agarose_mask"]).groupby(phantom["depth"]).mean(...)
    np.testing.assert_allclose(tissue, np.exp(-0.05 * np.arange(10)), rtol=1e-4)
    np.testing.assert_allclose(agarose, 1.0, rtol=1e-4)


# Speckle


@pytest.mark.parametrize("looks", [1.0, 3.65, 6.0, 40.0])
def test_speckle_is_gamma_with_mean_1_and_contrast_of_its_looks(looks):
    phantom = make_phantom(n_sections=3, looks=looks)
    agarose = phantom["agarose_mask"].values
    speckle = (phantom["volume"].values / closed_form(phantom))[agarose]
    error = 1 / math.sqrt(looks * speckle.size)
    assert speckle.mean() == pytest.approx(1, abs=4 * error)
    assert speckle.std() == pytest.approx(1 / math.sqrt(looks), rel=0.01)
    third_moment = ((speckle - 1) ** 3).mean()  # of a gamma distribution: 2 / looks²
    assert third_moment == pytest.approx(2 / looks**2, rel=0.1)


def test_speckle_is_independent_between_voxels_and_planes():
    phantom = make_phantom(n_sections=2)
    speckle = phantom["volume"].values / closed_form(phantom) - 1
    error = 1 / math.sqrt(speckle.size)
    for axis in range(3):
        n = speckle.shape[axis]
        product = speckle.take(range(n - 1), axis) * speckle.take(range(1, n), axis)
        assert abs(product.mean() / speckle.var()) < 5 * error


def test_speckle_does_not_change_the_truth_or_the_other_draws():
    with_speckle, without = make_phantom(**SMALL), make_phantom(**SMALL, looks=None)
    for name in ("reflectivity", "tissue_class", "section_gain", "plane_jitter"):
        np.testing.assert_array_equal(with_speckle[name], without[name])
    assert not np.array_equal(with_speckle["volume"], without["volume"])


def test_speckle_is_the_same_for_every_dtype():
    narrow, wide = (make_phantom(**SMALL, dtype=dtype)["volume"].values for dtype in ("float32", "float64"))
    np.testing.assert_allclose(narrow, wide, rtol=1e-6)


# Sections


def test_missing_section_leaves_a_gap_in_labels_z_and_anatomy():
    whole = make_phantom(**SMALL)
    lossy = make_phantom(**SMALL, missing_sections=[2])
    kept = whole["section"].values != 2
    np.testing.assert_array_equal(lossy["section"], np.repeat([0, 1, 3, 4], 4))
    np.testing.assert_array_equal(lossy["plane"], np.arange(20)[kept])
    np.testing.assert_array_equal(np.diff(lossy["z"]), [10.0] * 7 + [50.0] + [10.0] * 7)
    xr.testing.assert_identical(lossy.drop_attrs(), whole.isel(z=kept).drop_attrs())


def test_uneven_sections():
    phantom = make_phantom(shape=(16, 16), n_sections=4, planes_per_section=[2, 5, 1, 3])
    np.testing.assert_array_equal(phantom["section"], [0, 0, 1, 1, 1, 1, 1, 2, 3, 3, 3])
    np.testing.assert_array_equal(phantom["depth"], [0, 1, 0, 1, 2, 3, 4, 0, 0, 1, 2])


def test_coordinates_are_in_micrometres():
    phantom = make_phantom(**SMALL, voxel_size=(3.5, 6.5, 7.5))
    np.testing.assert_array_equal(phantom["z"], 3.5 * np.arange(20))
    np.testing.assert_array_equal(phantom["y"], 6.5 * np.arange(48))
    np.testing.assert_array_equal(phantom["x"], 7.5 * np.arange(60))
    for name in "zyx":
        assert phantom[name].attrs["units"] == "um"
        assert "axis" not in phantom[name].attrs


# Margin, specular planes, integers


def test_margin_is_exactly_zero_and_the_field_is_not():
    phantom = make_phantom(**SMALL, margin=6)
    empty = np.ones((48, 60), bool)
    empty[6:-6, 6:-6] = False
    np.testing.assert_array_equal(phantom["tissue_class"] == EMPTY, np.broadcast_to(empty, (20, 48, 60)))
    np.testing.assert_array_equal(phantom["volume"] == 0, np.broadcast_to(empty, (20, 48, 60)))
    assert not phantom["reflectivity"].values[:, empty].any()


def test_margin_does_not_change_what_is_imaged():
    plain = make_phantom(**SMALL)["volume"].values
    framed = make_phantom(**{**SMALL, "shape": (58, 70)}, margin=5)["volume"].values
    np.testing.assert_array_equal(framed[:, 5:-5, 5:-5], plain)


def test_specular_spots_lift_the_upper_percentile_of_their_planes_only():
    plain = make_phantom(n_sections=3)
    phantom = make_phantom(n_sections=3, specular_planes=[4, 17])
    spots = phantom["specular_mask"].values
    share = spots.mean(axis=(1, 2))
    assert np.flatnonzero(share).tolist() == [4, 17]
    assert np.all((share[[4, 17]] > 0.002) & (share[[4, 17]] < 0.008))
    np.testing.assert_array_equal(phantom["volume"].values[~spots], plain["volume"].values[~spots])
    cap = np.percentile(phantom["volume"], 99.9, axis=(1, 2))
    assert (cap > 2).nonzero()[0].tolist() == [4, 17]
    np.testing.assert_array_equal(cap[[4, 17]], SPECULAR_LEVEL)


def test_specular_planes_are_counted_through_the_whole_series():
    phantom = make_phantom(**SMALL, missing_sections=[1], specular_planes=[9])
    lit = phantom["specular_mask"].any(["y", "x"]).values
    np.testing.assert_array_equal(phantom["plane"].values[lit], [9])


@pytest.mark.parametrize(("dtype", "full_scale"), [("uint8", 255), ("uint16", 65535)])
def test_integers_are_rounded_and_saturate(dtype, full_scale):
    options = {**SMALL, "white": 1.0, "section_gain": 0.5, "specular_planes": [3]}
    exact = make_phantom(**options, dtype="float64")["volume"].values
    counts = make_phantom(**options, dtype=dtype)["volume"]
    assert counts.dtype == dtype
    assert 0.01 < (exact > 1).mean() < 0.5
    np.testing.assert_array_equal(counts.values[exact > 1.0001], full_scale)
    error = counts.values - np.minimum(exact, 1) * full_scale
    assert np.abs(error).max() <= 0.5 + 1e-6 * full_scale  # half a count, and the working precision
    assert abs(error.mean()) < 0.02  # rounded, not cut off


# Seeds


def test_same_seed_same_bits_other_seed_other_bits():
    once, again = make_phantom(**SMALL, seed=7), make_phantom(**SMALL, seed=7)
    xr.testing.assert_identical(once, again)
    other = make_phantom(**SMALL, seed=8)
    for name in ("volume", "tissue_class", "reflectivity", "section_gain", "plane_jitter"):
        assert not np.array_equal(once[name], other[name]), name


def test_a_plane_depends_on_seed_and_number_only():
    options = {**SMALL, "specular_planes": [13]}
    phantom = make_phantom(**options)
    series = _lay_out(parameters_of(phantom))
    for plane in (13, 2, 19, 13):
        made = _make_plane(series, plane)
        at_plane = phantom.isel(z=plane)
        np.testing.assert_array_equal(made.intensity, at_plane["volume"])
        np.testing.assert_array_equal(made.reflectivity, at_plane["reflectivity"])
        np.testing.assert_array_equal(made.tissue_class, at_plane["tissue_class"])
        np.testing.assert_array_equal(made.specular, at_plane["specular_mask"])


def test_gains_do_not_depend_on_the_number_of_sections():
    few, many = make_phantom(**SMALL), make_phantom(**{**SMALL, "n_sections": 9})
    np.testing.assert_array_equal(few["section_gain"], many["section_gain"][:20])
    np.testing.assert_array_equal(few["plane_jitter"], many["plane_jitter"][:20])


# Anatomy


@pytest.mark.parametrize("seed", range(6))
def test_brain_changes_along_z_smoothly_and_never_touches_the_border(seed):
    phantom = make_phantom(seed=seed, looks=None)
    tissue = phantom["tissue_mask"].values
    middle = len(tissue) // 2
    assert dice(tissue[0], tissue[middle]) < 0.7
    assert dice(tissue[-1], tissue[middle]) < 0.7
    assert min(dice(a, b) for a, b in pairwise(tissue)) > 0.96
    border = np.ones(tissue.shape[1:], bool)
    border[1:-1, 1:-1] = False
    assert not tissue[:, border].any()


@pytest.mark.parametrize("seed", range(10))
def test_brain_never_touches_the_border_of_the_smallest_field(seed):
    phantom = make_phantom(shape=(16, 16), n_sections=3, seed=seed)
    tissue = phantom["tissue_mask"].values.copy()
    tissue[:, 1:-1, 1:-1] = False
    assert not tissue.any()


def test_every_plane_has_agarose_grey_and_white_matter_of_their_reflectivities():
    phantom = make_phantom(agarose=0.1, grey=0.3, white=0.6)
    classes = phantom["tissue_class"]
    for value, level in [(AGAROSE, 0.1), (GREY_MATTER, 0.3), (WHITE_MATTER, 0.6)]:
        of_class = phantom["reflectivity"].where(classes == value)
        assert float((classes == value).mean(["y", "x"]).min()) > 0.03
        assert float(of_class.mean()) == pytest.approx(level, rel=0.03)
        texture = float(of_class.std()) / level
        assert texture == pytest.approx(0 if value == AGAROSE else 0.06, abs=0.02)
    assert float(phantom["reflectivity"].where(classes == AGAROSE).std()) < 1e-6


def test_masks_and_flags_agree_with_the_classes():
    phantom = make_phantom(**SMALL, margin=4)
    classes = phantom["tissue_class"]
    assert classes.dtype == np.int8
    names = dict(zip(classes.attrs["flag_meanings"].split(), classes.attrs["flag_values"], strict=True))
    assert names == {
        "empty": EMPTY,
        "agarose": AGAROSE,
        "grey_matter": GREY_MATTER,
        "white_matter": WHITE_MATTER,
    }
    np.testing.assert_array_equal(phantom["agarose_mask"], classes == AGAROSE)
    np.testing.assert_array_equal(phantom["tissue_mask"], (classes == GREY_MATTER) | (classes == WHITE_MATTER))


# Record and errors


def test_recorded_parameters_make_the_same_phantom_again():
    phantom = make_phantom(
        shape=(np.int64(40), 44),
        n_sections=np.int32(3),
        planes_per_section=np.array([2, 3, 2]),
        missing_sections=range(1),
        section_gain=np.array([1.0, 0.8, 1.3]),
        looks=None,
        dtype=np.uint16,
        seed=3,
    )
    xr.testing.assert_identical(make_phantom(**parameters_of(phantom)), phantom)


def test_netcdf_gives_the_phantom_back(tmp_path):
    phantom = make_phantom(**SMALL, margin=4, dtype="uint8")
    phantom.to_netcdf(tmp_path / "phantom.nc")
    with xr.open_dataset(tmp_path / "phantom.nc") as back:
        xr.testing.assert_equal(back, phantom)
        assert back.attrs == phantom.attrs
        for name, variable in phantom.variables.items():
            assert back[name].dtype == variable.dtype, name


WRONG = {
    "shape": (10, 160),
    "n_sections": 0,
    "planes_per_section": [3, 0],
    "missing_sections": [-1],
    "section_gain": -0.1,
    "plane_jitter": "much",
    "decay": float("nan"),
    "agarose": 1.5,
    "grey": -0.2,
    "white": None,
    "noise_floor": float("inf"),
    "looks": 0,
    "specular_planes": 3,
    "margin": 2.5,
    "voxel_size": (10.0, 0.0, 20.0),
    "dtype": "int16",
    "seed": True,
}


def test_everything_wrong_is_reported_in_one_message():
    with pytest.raises(ValueError, match="17 problems") as caught:
        make_phantom(**WRONG)
    lines = [f"- {problem}" for problem in caught.value.problems]
    assert [line.split("=")[0] for line in lines] == [f"- {name}" for name in WRONG]
    for line, value in zip(lines, WRONG.values(), strict=True):
        assert f"={value!r}: must be " in line


@pytest.mark.parametrize("name", sorted(WRONG))
def test_one_wrong_parameter_is_one_problem(name):
    with pytest.raises(ValueError, match=f"- {name}=") as caught:
        make_phantom(**{name: WRONG[name]})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"section_gain": [1.0, 1.0]}, r"section_gain=\[1.0, 1.0\]: must be .* one per section \(5\)"),
        ({"section_gain": [1.0, 1.0, 0.0, 1.0, 1.0]}, "section_gain=.* above 0"),
        ({"plane_jitter": [1.0] * 19}, r"plane_jitter=.* one per plane of the series \(20\)"),
        ({"planes_per_section": [4, 4]}, r"planes_per_section=\[4, 4\]: must be .* one per section \(5\)"),
        ({"missing_sections": [5]}, r"missing_sections=\[5\]"),
        ({"missing_sections": range(5)}, r"missing_sections=range\(0, 5\): must be .* leaves a section"),
        ({"missing_sections": 2}, "missing_sections=2: must be a sequence"),
        ({"specular_planes": [20]}, r"specular_planes=\[20\]"),
        ({"specular_planes": [5], "missing_sections": [1]}, "specular_planes=.* none in a missing section"),
        ({"margin": 17}, r"shape=\(48, 60\): must be \(y, x\), integers of at least 50"),
        ({"margin": -1}, "margin=-1: must be an integer of at least 0"),
        ({"shape": 128}, "shape=128: must be"),
        ({"dtype": ">f4"}, "dtype='>f4': must be one of uint8"),
        ({"dtype": None}, "dtype='None': must be one of uint8"),
        ({"seed": -1}, "seed=-1: must be an integer of at least 0"),
    ],
)
def test_parameters_that_do_not_fit_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        make_phantom(**{**SMALL, **options})


def test_given_sequences_are_not_changed():
    jitter = np.full(20, 1.1)
    jitter.flags.writeable = False
    phantom = make_phantom(**SMALL, plane_jitter=jitter)
    phantom["plane_jitter"][:] = 0.0
    assert np.all(jitter == 1.1)
