"""Each effect of the phantom against its formula, and what must stay as it was."""

import json
import math

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
EXACT = {**SMALL, "looks": None, "dtype": "float64"}

OFF = {
    "focus": None,
    "rayleigh_range": None,
    "focus_wander": 0.0,
    "tilt": (0.0, 0.0),
    "tile_gain": (1.0, 1.0),
    "overlap": 0,
    "blend": 0,
    "agarose_steps": 0.0,
    "no_agarose_sections": (),
    "lesions": 0,
    "torn_sections": (),
    "bubble_planes": (),
    "intensity": "linear",
    "dynamic_range": 40.0,
    "anatomy": None,
}

EFFECTS = {
    "focus": {"focus": 1.5, "rayleigh_range": 4.0, "focus_wander": 0.7},
    "two decays": {"decay": (0.1, 0.25)},
    "tilt": {"tilt": (-3, 5)},
    "tilt and focus": {"tilt": (2.5, 0), "focus": 1.5, "rayleigh_range": 4.0},
    "tilt and two decays": {"tilt": (2.5, -1), "decay": (0.1, 0.25)},
    "tiles": {"tile_gain": (1.2, 0.8)},
    "overlap": {"overlap": 2},
    "overlap and two decays": {"overlap": 3, "decay": (0.1, 0.25)},
    "agarose": {"agarose_steps": 0.3},
    "no agarose": {"no_agarose_sections": (1, 4)},
    "lesions": {"lesions": 5},
    "torn": {"torn_sections": (0, 3)},
    "bubbles": {"bubble_planes": (2, 7)},
    "lost section": {"missing_sections": (1,), "overlap": 2, "blend": 2, "lesions": 2},
}
BLENDED = {
    "blend": {"blend": 3},
    "blend and more": {"blend": 2, "overlap": 3, "decay": (0.1, 0.25), "tilt": (1, 2), "torn_sections": (2,)},
}
SCALES = {"amplitude": {"intensity": "amplitude"}, "db": {"intensity": "db", "dtype": "uint8", "margin": 3}}
ALL = {**EFFECTS, **BLENDED, **SCALES}


def closed_form(phantom):
    """The linear volume without speckle and margin, from the truths alone, in float64."""
    signal = phantom["section_gain"] * phantom["plane_jitter"] * phantom["instrument_response"]
    signal = signal * phantom["tile_gain"] * phantom["attenuation"] * phantom["reflectivity"].astype(float)
    signal = xr.where(phantom["agarose_mask"], phantom["agarose_step"], 1.0) * signal
    expected = (signal + phantom["noise_floor"]).where(~phantom["specular_mask"], SPECULAR_LEVEL)
    return expected.transpose("z", "y", "x").values


def parameters_of(phantom):
    return json.loads(phantom.attrs["phantom_parameters"])


# The defaults


def test_every_effect_off_is_the_default_to_the_bit():
    xr.testing.assert_identical(make_phantom(**SMALL, **OFF).drop_attrs(), make_phantom(**SMALL).drop_attrs())
    assert parameters_of(make_phantom(**SMALL)).keys() >= OFF.keys() - {"anatomy"}


def test_default_volume_is_that_of_the_first_release():
    # Recorded before there were any effects. Not a digest: the last bit of exp and cos depends on the machine.
    volume = make_phantom(**SMALL, dtype="float64")["volume"]
    sums = volume.sum(["y", "x"]).values[[0, 3, 7, 10, 16, 19]]
    np.testing.assert_allclose(sums, [340.6495, 381.65807, 496.11691, 549.64177, 416.4009, 311.62571], rtol=1e-5)


# The model


@pytest.mark.parametrize("effect", EFFECTS)
def test_volume_is_the_closed_form_of_its_truth(effect):
    phantom = make_phantom(**EXACT, **EFFECTS[effect])
    alone = phantom["blend_weight"].values == 1
    np.testing.assert_allclose(phantom["volume"].values[alone], closed_form(phantom)[alone], rtol=1e-13, atol=0)


@pytest.mark.parametrize("effect", ALL)
def test_a_plane_depends_on_seed_and_number_only(effect):
    phantom = make_phantom(**{**SMALL, **ALL[effect]})
    parameters = parameters_of(phantom)
    series, margin = _lay_out(parameters), parameters["margin"]
    field = (slice(margin, 48 - margin), slice(margin, 60 - margin))
    for plane in (13, 2, 19, 8, 13):
        made = _make_plane(series, plane)
        at_plane = phantom.swap_dims(z="plane").sel(plane=plane)
        for name, of_plane in [
            ("volume", made.intensity),
            ("tissue_class", made.tissue_class),
            ("reflectivity", made.reflectivity),
            ("attenuation", made.attenuation),
            ("damage_mask", made.damage),
            ("lesion_mask", made.lesion),
        ]:
            np.testing.assert_array_equal(of_plane, at_plane[name].values[field], err_msg=name)


@pytest.mark.parametrize("effect", ALL)
def test_recorded_parameters_make_the_same_phantom_again(effect):
    phantom = make_phantom(**{**SMALL, **ALL[effect]})
    xr.testing.assert_identical(make_phantom(**parameters_of(phantom)), phantom)


# Optics


def test_confocal_response_is_1_in_focus_and_a_half_one_rayleigh_range_away():
    phantom = make_phantom(**{**EXACT, "planes_per_section": 9}, focus=4, rayleigh_range=3.0, plane_jitter=0.0)
    expected = 1 / (1 + ((np.arange(9) - 4) / 3) ** 2)
    assert expected[[1, 4, 7]].tolist() == [0.5, 1.0, 0.5]
    response = phantom["instrument_response"]
    assert response.dims == ("z",)
    np.testing.assert_allclose(response, np.tile(expected, 5), rtol=1e-15)
    signal = (phantom["volume"] - phantom["noise_floor"]) / phantom["section_gain"]
    agarose = signal.where(phantom["agarose_mask"]).mean(["y", "x"]) / 0.06
    np.testing.assert_allclose(agarose, np.tile(expected, 5), rtol=1e-6)  # agarose as well as tissue


def test_focus_wanders_from_section_to_section_by_what_was_asked_for():
    options = {"shape": (16, 16), "n_sections": 300, "planes_per_section": 1, "focus": 20.0, "rayleigh_range": 10.0}
    phantom = make_phantom(**options, focus_wander=1.5)
    focus = 10 * np.sqrt(1 / phantom["instrument_response"].values - 1)
    assert focus.mean() == pytest.approx(20, abs=4 * 1.5 / math.sqrt(300))
    assert focus.std() == pytest.approx(1.5, rel=4 / math.sqrt(600))
    np.testing.assert_array_equal(phantom["section_gain"], make_phantom(**options)["section_gain"])


def test_light_is_attenuated_by_the_classes_above():
    phantom = make_phantom(**EXACT, decay=(0.1, 0.25))
    classes = phantom["tissue_class"].values.reshape(5, 4, 48, 60)
    rate = np.array([0, 0, 0.1, 0.25])[classes]
    above = np.cumsum(rate, axis=1) - rate
    assert not above[:, 0].any()
    np.testing.assert_allclose(phantom["attenuation"], np.exp(-above).reshape(20, 48, 60), rtol=1e-14)
    covered = (phantom["agarose_mask"].values & (phantom["attenuation"].values < 1)).sum()
    assert covered > 0  # agarose below tissue is darkened
    np.testing.assert_allclose(phantom["depth_response"], np.exp(-0.1 * phantom["depth"]), rtol=1e-15)


def test_torn_off_tissue_and_bubbles_let_all_light_pass():
    phantom = make_phantom(**EXACT, decay=(0.5, 0.5), torn_sections=[1], bubble_planes=[8, 9, 10, 11])
    attenuation, damage = phantom["attenuation"].values, phantom["damage_mask"].values
    assert np.all(attenuation[4:8][damage[4:8]] == 1)
    clear = damage[8] & ~damage[9] & phantom["tissue_mask"].values[9]
    assert clear.any()
    assert np.all(attenuation[9][clear] == 1)


@pytest.mark.parametrize("decay", [0.2, (0.1, 0.25)])
def test_tilt_makes_depth_rise_over_the_field(decay):
    flat, tilted = (make_phantom(**EXACT, decay=decay, tilt=tilt) for tilt in [(0, 0), (-3, 5)])
    y, x = np.linspace(0, 1, 48)[:, None], np.linspace(0, 1, 60)
    offset = 3 * (1 - y) + 5 * x
    np.testing.assert_allclose(tilted["depth_offset"], offset, rtol=1e-12, atol=1e-12)
    assert not flat["depth_offset"].values.any()
    classes = tilted["tissue_class"].values
    first = classes.reshape(5, 4, 48, 60)[:, :1].repeat(4, axis=1).reshape(classes.shape)
    one, of_class = np.where(classes >= GREY_MATTER, 0.2, 0), np.array([0, 0, 0.1, 0.25])[first]
    rate = one if decay == 0.2 else of_class
    np.testing.assert_allclose(tilted["attenuation"], flat["attenuation"] * np.exp(-rate * offset), rtol=1e-12)


def test_tilted_response_of_the_instrument():
    phantom = make_phantom(**EXACT, margin=2, focus=2.0, rayleigh_range=3.0, tilt=(0, 4))
    depth = phantom["depth"] + phantom["depth_offset"]
    assert phantom["instrument_response"].dims == ("z", "y", "x")
    np.testing.assert_allclose(phantom["instrument_response"], 1 / (1 + ((depth - 2) / 3) ** 2), rtol=1e-14)
    assert float(depth.max()) == 7


def test_tiles_meet_in_the_middle_of_the_field():
    phantom = make_phantom(**EXACT, margin=2, tile_gain=(1.2, 0.8))
    np.testing.assert_array_equal(phantom["tile_gain"], [1, 1, *[1.2] * 28, *[0.8] * 28, 1, 1])


# Overlap and blending


def test_overlapping_planes_show_the_same_anatomy_at_the_same_position():
    phantom = make_phantom(**EXACT, overlap=2)
    np.testing.assert_array_equal(phantom["z"], 10.0 * np.arange(20))
    np.testing.assert_array_equal(phantom["position"][:10], [0, 10, 20, 30, 20, 30, 40, 50, 40, 50])
    assert phantom["position"].attrs["units"] == "um"
    for name in ("tissue_class", "reflectivity"):
        values = phantom[name].values
        for cut in (4, 8, 12, 16):
            np.testing.assert_array_equal(values[cut - 2 : cut], values[cut : cut + 2])
            assert not np.array_equal(values[cut - 3], values[cut])
    assert "position" not in make_phantom(**SMALL).coords


def test_blended_planes_hold_the_light_of_both_sections():
    gains = [1.0, 2.0, 0.5, 1.5, 0.7]
    options = {**EXACT, "section_gain": gains, "decay": 0.1, "focus": 2.0, "rayleigh_range": 5.0}
    phantom, plain = make_phantom(**options, blend=2), make_phantom(**options)
    weight = np.array([1, 1, 1, 1] + [1 / 3, 2 / 3, 1, 1] * 4)
    np.testing.assert_allclose(phantom["blend_weight"], weight, rtol=1e-15)
    own, before = np.repeat(gains, 4), np.repeat([1.0, *gains[:-1]], 4)
    np.testing.assert_allclose(phantom["blended_gain"], weight * own + (1 - weight) * before, rtol=1e-15)

    depth = np.tile(np.arange(4), 5)[:, None, None]
    tissue, reflectivity = phantom["tissue_mask"].values, phantom["reflectivity"].values.astype(float)

    def light(gain, depth):
        response = np.where(tissue, np.exp(-0.1 * depth), 1) / (1 + ((depth - 2) / 5) ** 2)
        return gain[:, None, None] * phantom["plane_jitter"].values[:, None, None] * response * reflectivity

    w = weight[:, None, None]
    expected = w * light(own, depth) + (1 - w) * light(before, depth + 4) + 0.01
    np.testing.assert_allclose(phantom["volume"], expected, rtol=1e-13)
    for name in ("tissue_class", "reflectivity", "attenuation", "instrument_response", "section_gain"):
        np.testing.assert_array_equal(phantom[name], plain[name])


def test_blended_overlap_is_of_the_planes_that_are_there_twice():
    options = {**EXACT, "overlap": 3, "decay": (0.1, 0.25), "plane_jitter": 0.0}
    phantom, plain = make_phantom(**options, blend=3), make_phantom(**options)["volume"].values
    weight = np.array([0.25, 0.5, 0.75])[:, None, None]
    for cut in (4, 8, 12, 16):
        expected = weight * plain[cut : cut + 3] + (1 - weight) * plain[cut - 3 : cut]
        np.testing.assert_allclose(phantom["volume"][cut : cut + 3], expected, rtol=1e-13)


def test_speckle_of_blended_planes_is_averaged():
    options = {"n_sections": 2, "planes_per_section": 2, "looks": 4.0, "blend": 1, "section_gain": 0.0, "decay": 0.0}
    speckled, exact = (make_phantom(**{**options, "looks": looks})["volume"].values[2] for looks in (4.0, None))
    assert (speckled / exact).std() == pytest.approx(0.5 * math.sqrt(0.5), rel=0.02)
    assert (speckled / exact).mean() == pytest.approx(1, abs=0.01)


def test_nothing_is_blended_after_a_lost_section():
    phantom = make_phantom(**EXACT, blend=2, missing_sections=[2])
    np.testing.assert_array_equal(phantom["blend_weight"] < 1, [0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0])
    np.testing.assert_array_equal(phantom["blended_gain"][8:12], phantom["section_gain"][8:12])


# Agarose and damage


def test_agarose_steps_and_tissue_does_not():
    steps = [1.0, 1.2, 0.9, 2.0, 0.5]
    stepped, plain = (make_phantom(**EXACT, noise_floor=0.0, agarose_steps=given) for given in (steps, 0.0))
    ratio = stepped["volume"] / plain["volume"]
    agarose = xr.where(stepped["agarose_mask"], stepped["agarose_step"], 1.0).transpose("z", "y", "x")
    np.testing.assert_array_equal(stepped["agarose_step"], np.repeat(steps, 4))
    np.testing.assert_allclose(ratio, agarose, rtol=1e-14)
    drawn = make_phantom(shape=(16, 16), n_sections=300, planes_per_section=1, agarose_steps=0.2)
    assert np.log(drawn["agarose_step"]).std() == pytest.approx(0.2, rel=4 / math.sqrt(600))
    assert abs(np.corrcoef(np.log(drawn["agarose_step"]), np.log(drawn["section_gain"]))[0, 1]) < 4 / math.sqrt(300)


def test_sections_without_agarose_are_filled_with_grey_matter():
    filled, plain = make_phantom(**EXACT, no_agarose_sections=[2]), make_phantom(**EXACT)
    classes, of_plain = filled["tissue_class"].values, plain["tissue_class"].values
    assert not (classes[8:12] == AGAROSE).any()
    assert np.all(classes[8:12][of_plain[8:12] == AGAROSE] == GREY_MATTER)
    others = np.r_[0:8, 12:20]
    np.testing.assert_array_equal(filled["volume"].values[others], plain["volume"].values[others])


def test_lesions_are_bright_and_dark_in_turn_and_span_a_few_planes():
    plain = make_phantom(n_sections=6, looks=None)
    one, two = (make_phantom(n_sections=6, looks=None, lesions=n) for n in (1, 2))
    ratio = (two["reflectivity"] / plain["reflectivity"]).values
    first = one["lesion_mask"].values
    both = two["lesion_mask"].values
    np.testing.assert_allclose(ratio[~both], 1, rtol=1e-6)
    np.testing.assert_allclose(ratio[first & ~(both & (ratio < 1))], 1.8, rtol=1e-6)
    np.testing.assert_allclose(ratio[both & ~first], 0.4, rtol=1e-6)
    np.testing.assert_array_equal(two["tissue_class"], plain["tissue_class"])
    assert not (both & ~plain["tissue_mask"].values).any()
    planes = np.flatnonzero(first.any(axis=(1, 2)))
    assert 2 <= planes.size <= 10
    np.testing.assert_array_equal(np.diff(planes), 1)
    assert 0.001 < first[planes].mean() < 0.05


def test_torn_sections_lack_the_same_part_of_all_their_planes():
    torn, plain = make_phantom(**EXACT, torn_sections=[1, 3]), make_phantom(**EXACT)
    damage = torn["damage_mask"].values
    share = damage.mean(axis=(1, 2)).reshape(5, 4)
    assert np.all((share[[1, 3]] > 0.19) & (share[[1, 3]] < 0.41))
    assert not share[[0, 2, 4]].any()
    assert np.all(damage[4:8] == damage[4])
    assert not np.array_equal(damage[4], damage[12])
    assert np.all(torn["tissue_class"].values[damage] == EMPTY)
    assert np.all(torn["volume"].values[damage] == 0.01)  # the noise floor
    np.testing.assert_array_equal(torn["volume"].values[~damage], plain["volume"].values[~damage])


def test_bubbles_are_empty_discs_in_their_planes():
    bubbly, plain = (make_phantom(**{**EXACT, "shape": (128, 160)}, bubble_planes=planes) for planes in ([3, 9], []))
    damage = bubbly["damage_mask"].values
    assert np.flatnonzero(damage.any(axis=(1, 2))).tolist() == [3, 9]
    assert np.all((damage[[3, 9]].mean(axis=(1, 2)) > 0.01) & (damage[[3, 9]].mean(axis=(1, 2)) < 0.035))
    assert np.all(bubbly["volume"].values[damage] == 0.01)
    np.testing.assert_array_equal(bubbly["volume"].values[~damage], plain["volume"].values[~damage])


def test_lesions_and_tears_do_not_depend_on_each_other():
    apart = make_phantom(**SMALL, torn_sections=[1])["damage_mask"]
    together = make_phantom(**SMALL, torn_sections=[1, 2], lesions=3, focus=1.0, rayleigh_range=5.0)["damage_mask"]
    np.testing.assert_array_equal(apart[4:8], together[4:8])


# Scales


def test_amplitude_and_decibels_are_of_the_linear_intensity():
    linear = make_phantom(**SMALL, dtype="float64", specular_planes=[3])["volume"]
    amplitude = make_phantom(**SMALL, dtype="float64", specular_planes=[3], intensity="amplitude")["volume"]
    db = make_phantom(**SMALL, dtype="float64", specular_planes=[3], intensity="db")["volume"]
    np.testing.assert_allclose(amplitude, np.sqrt(linear), rtol=1e-14)
    np.testing.assert_allclose(db, 10 * np.log10(linear), rtol=1e-12, atol=1e-12)
    assert [volume.attrs["units"] for volume in (linear, amplitude, db)] == ["1", "1", "dB"]


def test_a_margin_in_decibels_is_nan():
    db = make_phantom(**SMALL, margin=4, intensity="db", dtype="float32")["volume"].values
    inside = np.zeros((48, 60), bool)
    inside[4:-4, 4:-4] = True
    np.testing.assert_array_equal(np.isfinite(db), np.broadcast_to(inside, db.shape))
    empty = make_phantom(**SMALL, noise_floor=0.0, agarose=0.0, looks=None, intensity="db", dtype="uint8")
    assert not empty["volume"].values[empty["agarose_mask"].values].any()


@pytest.mark.parametrize(("dtype", "full_scale"), [("uint8", 255), ("uint16", 65535)])
@pytest.mark.parametrize("dynamic_range", [40.0, 25])
def test_integers_in_decibels_span_the_dynamic_range(dtype, full_scale, dynamic_range):
    options = {**SMALL, "specular_planes": [3], "intensity": "db", "noise_floor": 0.001, "looks": 1.0}
    exact = make_phantom(**options, dtype="float64")["volume"].values
    counts = make_phantom(**options, dtype=dtype, dynamic_range=dynamic_range)["volume"]
    expected = np.clip(1 + exact / dynamic_range, 0, 1) * full_scale
    assert np.abs(counts.values - expected).max() <= 0.5 + 1e-6 * full_scale
    assert counts.values.min() == 0
    assert counts.values.max() == full_scale
    assert counts.attrs["units"] == "1"  # counts, no decibels


@pytest.mark.parametrize(("dtype", "full_scale"), [("uint8", 255), ("uint16", 65535)])
def test_integers_of_amplitude_are_rounded_and_saturate(dtype, full_scale):
    options = {**SMALL, "specular_planes": [3], "intensity": "amplitude"}
    exact = make_phantom(**options, dtype="float64")["volume"].values
    counts = make_phantom(**options, dtype=dtype)["volume"].values
    assert np.abs(counts - np.minimum(exact, 1) * full_scale).max() <= 0.5 + 1e-6 * full_scale


# Given anatomy


def test_given_anatomy_is_imaged_with_the_same_physics():
    classes = np.full((10, 42, 54), AGAROSE, np.int16)
    classes[:, 10:30, 10:40] = GREY_MATTER
    classes[5:, 15:25, 15:30] = WHITE_MATTER
    classes[:, :2] = EMPTY
    before = classes.copy()
    options = {**EXACT, "margin": 3, "decay": (0.1, 0.25), "no_agarose_sections": [1]}
    phantom = make_phantom(**options, anatomy=classes)
    np.testing.assert_array_equal(classes, before)
    shown = phantom["tissue_class"].values[:, 3:-3, 3:-3]
    expected = classes.repeat(2, axis=0)
    expected[4:8][expected[4:8] == AGAROSE] = GREY_MATTER
    np.testing.assert_array_equal(shown, expected)
    field = (slice(None), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(phantom["volume"].values[field], closed_form(phantom)[field], rtol=1e-13)
    xr.testing.assert_identical(make_phantom(anatomy=classes, **parameters_of(phantom)), phantom)


# Errors


WRONG = {
    "decay": (0.1, 0.2, 0.3),
    "focus": "deep",
    "focus_wander": 0.5,
    "rayleigh_range": 3.0,
    "tilt": 2.0,
    "tile_gain": (1.0, 0.0),
    "overlap": 4,
    "blend": -1,
    "agarose_steps": [1.0],
    "no_agarose_sections": [5],
    "lesions": 1.5,
    "torn_sections": 1,
    "bubble_planes": [20],
    "intensity": "dB",
    "dynamic_range": 0,
    "anatomy": "brain",
}


@pytest.mark.parametrize("name", WRONG)
def test_one_wrong_parameter_is_one_problem(name):
    also = {"rayleigh_range": 1.0} if name == "focus" else {}
    with pytest.raises(ValueError, match=f"- {name}=.*: must be ") as caught:
        make_phantom(**SMALL, **{name: WRONG[name]}, **also)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"focus": 3.0}, "rayleigh_range=None: must be .* above 0 with one"),
        ({"planes_per_section": (4, 4, 2, 4, 4), "overlap": 2}, "overlap=2: must be .* smallest section"),
        ({"missing_sections": [1], "torn_sections": [1]}, r"torn_sections=\[1\]: .* none in a missing section"),
        ({"missing_sections": [1], "bubble_planes": [5]}, r"bubble_planes=\[5\]: .* none in a missing section"),
        ({"tilt": (float("inf"), 0.0)}, r"tilt=\(inf, 0.0\): must be \(y, x\), numbers"),
        ({"anatomy": np.ones((3, 48, 61), int)}, "anatomy=.*: must be classes"),
        ({"anatomy": np.full((3, 48, 60), 4)}, "anatomy=.*: must be classes"),
        ({"anatomy": np.ones((3, 48, 60))}, "anatomy=.*: must be classes"),
    ],
)
def test_parameters_that_do_not_fit_each_other(options, message):
    with pytest.raises(ValueError, match=message):
        make_phantom(**{**SMALL, **options})


def test_everything_wrong_is_reported_in_one_message():
    with pytest.raises(ValueError, match="15 problems"):
        make_phantom(**SMALL, **{**WRONG, "rayleigh_range": 2.0, "focus_wander": -1.0})
