"""Drift, jitter, decay and noise floor of whole volumes, against the truth that phantoms were made from."""

from __future__ import annotations

import json
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from xoctnorm import InputError, OctnormWarning
from xoctnorm.corrections.blends import blended_gain
from xoctnorm.phantom import AGAROSE, GREY_MATTER, make_phantom

SMALL = {"shape": (96, 120), "planes_per_section": 6}
SEEDS = (0, 1, 2)


@cache
def phantom(seed: int = 2, **options) -> xr.Dataset:
    return make_phantom(seed=seed, **(SMALL | options))


@cache
def default_fit(seed: int = 2, drift: str = "joint", flatten_depth: bool = True) -> xr.Dataset:
    return phantom(seed).volume.octnorm.fit(drift=drift, flatten_depth=flatten_depth)


def residual(truth: xr.Dataset, correction: xr.Dataset) -> np.ndarray:
    """Log of what is left of gain and jitter after the correction, of every plane; constant were it perfect."""
    return np.log(correction.scale_factor.values * truth.blended_gain.values * truth.plane_jitter.values)


def by_section(truth: xr.Dataset, values: np.ndarray) -> np.ndarray:
    return np.array([values[truth.section.values == label].mean() for label in np.unique(truth.section)])


def between(truth: xr.Dataset, correction: xr.Dataset) -> float:
    return float(by_section(truth, residual(truth, correction)).std())


def inside(truth: xr.Dataset, correction: xr.Dataset) -> float:
    values = residual(truth, correction)
    _, rows = np.unique(truth.section, return_inverse=True)
    return float((values - by_section(truth, values)[rows]).std())


def warned(volume: xr.DataArray, *messages: str, **options) -> xr.Dataset:
    """The correction, where exactly these warnings are given."""
    with pytest.warns(OctnormWarning) as caught:
        correction = volume.octnorm.fit(**options)
    texts = [str(one.message) for one in caught]
    for message in messages:
        assert any(text.startswith(message) for text in texts), (message, texts)
    assert len(texts) == len(messages), texts
    return correction


def outlines(truth: xr.Dataset) -> xr.DataArray:
    """True agarose of every section: what is agarose in all of its planes."""
    planes = truth.agarose_mask.groupby("section").all("z").rename(section="section_label")
    return planes.transpose("section_label", "y", "x")


def flags(correction: xr.Dataset) -> list[list[str]]:
    return [text.split() for text in correction.section_flags.values.tolist()]


# Gains, jitter, decay.


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("drift", "most"), [("joint", 0.007), ("agarose", 0.007), ("continuity", 0.016)])
def test_gains_and_jitter_of_the_phantom(drift, most, seed):
    truth = phantom(seed)
    correction = default_fit(seed, drift, drift == "joint")
    assert between(truth, correction) < most
    assert inside(truth, correction) < 0.015
    assert by_section(truth, np.log(truth.section_gain.values)).std() > 0.12
    assert correction.agarose_weight.values.tolist() == [float(drift != "continuity")] * 12
    assert abs(float(correction.noise_floor) - 0.01) < 4 * float(correction.noise_floor_se)
    assert float(correction.noise_floor_se) < 0.004
    reported = correction.section_gain.values * by_section(truth, correction.scale_factor.values)
    np.testing.assert_allclose(np.log(reported), 0, atol=0.05)  # but for the mean jitter of a section


def test_the_typical_error_between_sections_is_below_one_percent():
    for drift, most in (("joint", 0.005), ("agarose", 0.005), ("continuity", 0.008)):
        errors = [between(phantom(seed), default_fit(seed, drift, drift == "joint")) for seed in SEEDS]
        assert np.median(errors) < most, (drift, errors)


@pytest.mark.parametrize("seed", SEEDS)
def test_decay_is_flattened(seed):
    truth = phantom(seed)
    left = np.log(default_fit(seed).depth_gain * truth.depth_response)
    assert float(np.log(truth.depth_response).std()) > 0.08
    assert float(left.std()) < 0.02
    assert float(abs(left - left.mean()).max()) < 0.04
    assert default_fit(seed).depth_gain.values.min() == pytest.approx(1, abs=0.02)  # at the brightest depth
    profile = default_fit(seed).depth_profile.sel(tissue="dark").values
    np.testing.assert_allclose(np.log(profile), np.log(truth.depth_response.values[:6]), atol=0.03)


def test_response_of_the_instrument_and_decay_are_flattened_together():
    truth = phantom(focus=2.0, rayleigh_range=5.0)
    correction = truth.volume.octnorm.fit(flatten_depth=True)
    left = np.log(correction.depth_gain * truth.depth_response * truth.instrument_response)
    assert float(np.log(truth.instrument_response).std()) > 0.08
    assert float(left.std()) < 0.02
    assert between(truth, correction) < 0.01
    medium = np.log(correction.depth_profile.sel(tissue="agarose").values)
    np.testing.assert_allclose(medium, np.log(truth.instrument_response.values[:6]), atol=0.03)


def test_the_profile_of_the_tissue_that_is_asked_for():
    truth = phantom(decay=(0.05, 0.1))
    slopes = {}
    for tissue in ("auto", "bright"):
        correction = truth.volume.octnorm.fit(flatten_depth=True, reference_tissue=tissue)
        slopes[tissue] = np.polyfit(truth.depth, np.log(correction.depth_gain), 1)[0]
    assert slopes["auto"] == pytest.approx(0.05, abs=0.005)
    assert slopes["bright"] == pytest.approx(0.1, abs=0.012)


def test_flattening_has_a_bound_and_says_where():
    message = "section 0, 1, 2, 3, 4, 5, 6, 7, … (12 in all): the depth gain ends at max_depth_gain"
    correction = warned(phantom().volume, message, flatten_depth=True, max_depth_gain=1.1)
    unbound = default_fit().depth_gain.values
    np.testing.assert_array_equal(correction.depth_gain, np.minimum(unbound, np.float32(1.1)))
    assert flags(correction) == [["clamped"]] * 12


def test_flattening_alone_leaves_gains():
    truth = phantom()
    flat = truth.volume.octnorm.fit(drift=None, flatten_depth=True)
    assert "scale_factor" not in flat
    np.testing.assert_array_equal(flat.depth_gain, default_fit().depth_gain)
    step = truth.volume.octnorm.flatten_depth()
    expected = (truth.volume - flat.noise_floor) * flat.depth_gain
    np.testing.assert_allclose(step.values, expected.transpose("z", "y", "x"), rtol=1e-5, atol=1e-7)


def test_strength_is_the_share_of_the_way():
    volume = phantom().volume
    none, half = (volume.octnorm.fit(strength=strength) for strength in (0, 0.5))
    assert (none.scale_factor == 1).all()
    assert (none.scale_factor_se == 0).all()
    np.testing.assert_allclose(half.scale_factor, default_fit().scale_factor ** 0.5, rtol=1e-6)


def test_standard_errors_are_those_of_the_errors():
    """A section's error is that of its gain and of the mean jitter of its planes, which act together."""
    of_sections, of_planes = [], []
    for seed in (0, 1, 2, 3):
        truth, correction = phantom(seed), default_fit(seed)
        left = residual(truth, correction)
        error = by_section(truth, left)
        of_sections.append((error - error.mean()) * correction.section_gain / correction.section_gain_se)
        of_planes.append((left - left.mean()) * correction.scale_factor / correction.scale_factor_se)
    for ratios in (of_sections, of_planes):
        assert 0.4 < np.sqrt(np.mean(np.square(ratios))) < 2.5


def test_a_depth_that_falls_is_turned_round_first():
    truth = phantom()
    rising = truth.volume.assign_coords(depth=("z", truth.depth.values))
    falling = rising.isel(z=slice(None, None, -1))
    with pytest.raises(InputError, match=r"falls along z.*da.isel\(z=slice\(None, None, -1\)\)"):
        falling.octnorm.fit(flatten_depth=True)
    correction = falling.isel(z=slice(None, None, -1)).octnorm.fit(flatten_depth=True)
    np.testing.assert_array_equal(correction.scale_factor, rising.octnorm.fit(flatten_depth=True).scale_factor)


def test_order_of_sections_does_not_matter():
    planes = np.arange(72).reshape(12, 6)[::-1].ravel()
    truth = phantom().isel(z=planes)
    volume = truth.volume.assign_coords(depth=("z", truth.depth.values))
    correction = volume.octnorm.fit(flatten_depth=True)
    np.testing.assert_array_equal(correction.depth_below_cut, truth.depth)
    assert between(truth, correction) < 0.007
    np.testing.assert_allclose(correction.section_gain, default_fit().section_gain[::-1], rtol=0.02)
    np.testing.assert_allclose(correction.depth_gain, default_fit().depth_gain[planes], rtol=0.04)


# Sections that are missing, left out, partial, blended.


def test_missing_sections():
    truth = phantom(missing_sections=(4, 5))
    correction = truth.volume.octnorm.fit(flatten_depth=True)
    assert correction.section_label.size == 10
    assert between(truth, correction) < 0.007
    left = np.log(correction.depth_gain * truth.depth_response)
    assert float(left.std()) < 0.02


def test_an_excluded_section_gets_the_gain_between_its_neighbours():
    truth = phantom()
    volume = truth.volume.copy(deep=True)
    here = (truth.section == 4).values
    volume[here] *= np.array([0.3, 3, 0.5, 2, 1, 0.7], "f4")[:, None, None]
    correction = volume.octnorm.fit(exclude=[4], flatten_depth=True)
    gains = correction.section_gain.values
    assert gains[4] == pytest.approx(np.sqrt(gains[3] * gains[5]), rel=1e-9)
    np.testing.assert_allclose(correction.scale_factor.values[here], 1 / gains[4], rtol=1e-6)
    moved = np.log(correction.scale_factor.values / default_fit().scale_factor.values)[~here]
    np.testing.assert_allclose(moved, moved.mean(), atol=0.01)
    np.testing.assert_allclose(correction.depth_gain, default_fit().depth_gain, rtol=0.02)
    assert flags(correction) == [["excluded"] if label == 4 else [] for label in range(12)]
    assert correction.agarose_weight.values[4] == 0
    np.testing.assert_array_equal(
        volume.octnorm.fit(exclude=4, flatten_depth=True).scale_factor, correction.scale_factor
    )


@pytest.mark.parametrize("options", [{}, {"blend": 1}, {"lateral": "smooth"}])
def test_a_longer_section_may_be_left_out(options):
    truth = phantom()
    longer = truth.isel(z=(truth.depth < 5) | (truth.section == 4))
    found = longer.volume.octnorm.fit(exclude=[4], flatten_depth=True, **options)
    expected = truth.isel(z=truth.depth < 5).volume.octnorm.fit(exclude=[4], flatten_depth=True, **options)
    last = int(np.flatnonzero(longer.depth == 5)[0])
    for name in ("scale_factor", "depth_gain"):
        np.testing.assert_allclose(np.delete(found[name].values, last), expected[name], rtol=3e-3)
        assert found[name].values[last] == pytest.approx(found[name].values[last - 1], rel=1e-6)
    assert np.isnan(found.depth_profile.values[:, 5]).all()
    np.testing.assert_allclose(found.depth_profile[:, :5], expected.depth_profile, rtol=3e-3)
    assert np.isfinite(longer.volume.octnorm.apply(found)).all()


def test_the_first_section_may_be_the_lower_part_of_one():
    truth = phantom().isel(z=slice(4, None))
    message = "section 0 has 4 planes less than others: it is taken for the lower part of a section, its first plane 4"
    found = warned(truth.volume, message, flatten_depth=True)
    assert flags(found)[0] == ["partial_section"]
    told = truth.volume.octnorm.fit(flatten_depth=True, first_depth=4)
    by_coordinate = truth.volume.assign_coords(depth=("z", 10.0 * truth.depth.values)).octnorm.fit(flatten_depth=True)
    for correction in (found, told, by_coordinate):
        assert correction.depth_below_cut.values[:5].tolist() == [4, 5, 0, 1, 2]
        np.testing.assert_array_equal(correction.scale_factor, found.scale_factor)
        np.testing.assert_array_equal(correction.depth_gain, found.depth_gain)
    assert flags(told)[0] == flags(by_coordinate)[0] == []
    assert between(truth, found) < 0.007
    wrong = truth.volume.octnorm.fit(flatten_depth=True, first_depth=0)
    assert wrong.depth_below_cut.values[:2].tolist() == [0, 1]
    assert between(truth, wrong) > 0.02


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_a_floor_that_is_not_told_from_0_is_not_subtracted(seed):
    """A little of it would be subtracted as often as not, and ratios of tissue be off by that."""
    correction = phantom(seed, noise_floor=0.0).volume.octnorm.fit()
    assert float(correction.noise_floor) == 0
    assert float(correction.noise_floor_se) > 0
    assert "is small and not told from 0, so none is subtracted" in str(correction.attrs)
    floor = float(phantom(seed).volume.octnorm.fit().noise_floor)
    assert floor == pytest.approx(0.01, abs=0.003)


def test_blended_planes_get_the_blended_gain():
    truth = phantom(overlap=1, blend=1, plane_jitter=0.0)
    correction = truth.volume.octnorm.fit(blend=1, flatten_depth=True)
    blended = (truth.blend_weight < 1).values
    assert blended.sum() == 11
    gains = correction.section_gain.values
    expected = (gains[1:] + gains[:-1]) / 2
    jitter = np.log(correction.scale_factor.values[blended] * expected)
    assert np.abs(jitter).max() < 0.007
    assert between(truth, correction) < 0.007
    assert residual(truth, correction)[blended].std() < 0.007
    own = np.log(correction.scale_factor * truth.section_gain).values
    assert own[blended].std() > 0.1
    # The light of the section before is that much deeper, where it is darker.
    profile = correction.depth_profile.sel(tissue="dark").values
    response = (gains[1:] * profile[0] + gains[:-1] * profile[5]) / (gains[1:] + gains[:-1])
    np.testing.assert_allclose(correction.depth_gain.values[blended], 1 / response, rtol=0.03)


def test_blended_planes_are_corrected_for_their_jitter():
    truth = phantom(overlap=2, blend=2, planes_per_section=8)
    correction = truth.volume.octnorm.fit(blend=2)
    blended = (truth.blend_weight < 1).values
    jitter = np.log(truth.plane_jitter.values[blended])
    assert jitter.std() > 0.015
    error = residual(truth, correction) - residual(truth, correction).mean()
    # What is wrong alike at one depth is the profile: only the first section shows the depths that are blended later.
    by_depth = error[blended].reshape(11, 2)
    assert (by_depth - by_depth.mean(axis=0)).std() < jitter.std() / 2
    se = (correction.scale_factor_se / correction.scale_factor).values
    assert 0.5 < np.sqrt(np.mean((error / se)[blended] ** 2)) < 2


def test_light_of_the_section_before_is_where_it_shows_the_same_position():
    section = np.repeat([0, 1], 4)
    observed = SimpleNamespace(
        section_index=section,
        depth=np.tile(np.arange(4), 2),
        position=np.array([0.0, 1, 2, 3, 2, 3, 4, 5]),
        blend_weight=np.where(np.arange(8) == 4, 0.5, 1.0),
    )
    gain, profile = np.array([1.0, 3.0]), np.array([1.0, 0.8, 0.6, 0.5])
    for position in (observed.position, -observed.position):
        observed.position = position
        both, response = blended_gain(observed, np.log(gain), profile)
        np.testing.assert_allclose(np.exp(both), [1, 1, 1, 1, 2, 3, 3, 3], rtol=1e-12)
        np.testing.assert_allclose(response[4], (3 * 1.0 + 1 * 0.6) / 4, rtol=1e-12)


def test_positions_tell_how_much_tissue_lies_between_planes():
    truth = phantom(overlap=2)
    told = truth.volume.octnorm.fit()
    untold = truth.volume.drop_vars("position").octnorm.fit()
    assert between(truth, told) < 0.007
    assert not np.array_equal(told.scale_factor, untold.scale_factor)
    in_planes = truth.volume.assign_coords(position=truth.volume.position / 10)
    np.testing.assert_allclose(in_planes.octnorm.fit().scale_factor, told.scale_factor, rtol=1e-6)


@pytest.mark.parametrize("name", ["depth", "position"])
def test_coordinates_that_measure_nothing(name):
    volume = phantom().volume
    for values in (["a"] * 72, np.full(72, np.nan), np.full(72, np.inf)):
        with pytest.raises(InputError, match=f"the coordinate '{name}' along z must be finite numbers: correct it"):
            volume.assign_coords({name: ("z", values)}).octnorm.fit()


# The noise floor.


def test_a_noise_floor_that_is_known():
    truth = phantom()
    known = truth.volume.octnorm.fit(noise_floor=0.01)
    assert float(known.noise_floor) == np.float32(0.01)
    assert float(known.noise_floor_se) == 0
    assert between(truth, known) < 0.007
    for floor in ([0.01] * 72, xr.DataArray(np.full(6, 0.01), dims="depth")):
        each = truth.volume.octnorm.fit(noise_floor=floor)
        assert each.noise_floor.dims == ("z",)
        np.testing.assert_array_equal(each.noise_floor, np.float32(0.01))
        np.testing.assert_array_equal(each.scale_factor, known.scale_factor)


def test_a_noise_floor_of_every_depth_is_subtracted_at_that_depth():
    truth = phantom()
    floors = np.array([0.0, 0.004, 0.008, 0.012, 0.016, 0.02])
    volume = (truth.volume + xr.DataArray(floors[truth.depth.values], dims="z")).transpose("z", "y", "x")
    correction = volume.astype("f4").octnorm.fit(noise_floor=floors + 0.01)
    np.testing.assert_allclose(correction.noise_floor, 0.01 + floors[truth.depth.values], rtol=1e-6)
    assert between(truth, correction) < 0.007
    flat = truth.volume.octnorm.fit(noise_floor=0.01)
    np.testing.assert_allclose(correction.scale_factor, flat.scale_factor, rtol=0.004)
    by_plane = volume.astype("f4").octnorm.fit(noise_floor=(floors + 0.01)[truth.depth.values])
    np.testing.assert_array_equal(by_plane.scale_factor, correction.scale_factor)


def test_a_noise_floor_by_voxels_without_signal():
    truth = phantom()
    volume = truth.volume.copy(deep=True)
    corner = np.zeros((96, 120), bool)
    corner[:8, :8] = True
    noise = np.random.default_rng(0).gamma(6, 0.01 / 6, (72, 8, 8))
    volume[:, :8, :8] = noise
    volume[3, :8, :8] = np.nan
    expected = float(np.delete(volume.values[:, :8, :8], 3, axis=0).mean(dtype="f8"))
    mask = xr.DataArray(corner, dims=("y", "x"))
    some = np.zeros(volume.shape, bool)
    some[20:50, :8, :8] = True
    options = {"agarose_mask": (truth.agarose_mask.all("z") & ~mask).drop_vars(["y", "x"], errors="ignore")}
    whole = [volume.octnorm.fit(noise_floor=m, **options) for m in (corner, mask.T)]
    for correction in whole:
        assert float(correction.noise_floor) == pytest.approx(expected, rel=1e-6)
        assert between(truth, correction) < 0.01
    part = volume.chunk(z=5, y=50).octnorm.fit(noise_floor=xr.DataArray(some, dims=("z", "y", "x")), **options)
    assert float(part.noise_floor) == pytest.approx(volume.values[20:50, :8, :8].mean(dtype="f8"), rel=1e-6)
    record = json.loads(whole[0].attrs["xoctnorm_provenance"])["steps"][0]["parameters"]["noise_floor"]
    assert record.startswith("<mask 96x120 sum64-splitmix:")


@pytest.mark.parametrize(
    ("floor", "message"),
    [
        (
            [0.01] * 7,
            "noise_floor has 7 numbers: one for each of the 72 planes, or for each of the 6 depths, is needed",
        ),
        (np.zeros((96, 120), bool), "noise_floor is a mask without voxels that have data: mark some without signal"),
        (np.ones((5, 120), bool), "noise_floor does not fit the volume: y has 5 instead of 96"),
        (np.ones((71, 96, 120), bool), "noise_floor does not fit the volume: z has 71 instead of 72"),
        (-0.1, "noise_floor=-0.1: needs a finite number, 0 or more"),
        (np.nan, "noise_floor=nan: needs a finite number, 0 or more"),
        ([0.01, -1, 0, 0, 0, 0], "noise_floor=-1: needs a finite number, 0 or more"),
        ("low", "noise_floor='low': needs 'auto', a number, or numbers along z or depth"),
    ],
)
def test_noise_floors_that_are_none(floor, message):
    with pytest.raises(InputError, match=message):
        phantom().volume.octnorm.fit(noise_floor=floor)


# Where it cannot be told.


def test_one_section_is_left_alone():
    truth = phantom().isel(z=slice(24, 30))
    for volume in (truth.volume, truth.volume.drop_vars("section")):
        messages = [
            "one section: nothing tells decay with depth from anatomy, nor the noise floor, so all are left alone"
        ]
        if "section" not in volume.coords:
            messages.append("the volume has no coordinate 'section', so it is one section and nothing is corrected")
        correction = warned(volume, *messages, flatten_depth=True, noise_floor=0.01)
        assert (correction.scale_factor == 1).all()
        assert (correction.depth_gain == 1).all()
        assert correction.section_gain.values.tolist() == [1]
        assert warned(volume, *messages).noise_floor == 0


def test_sections_of_one_plane():
    truth = phantom(planes_per_section=1)
    correction = truth.volume.octnorm.fit(flatten_depth=True)
    assert residual(truth, correction).std() < 0.025
    assert (correction.depth_gain == 1).all()
    assert np.log(truth.section_gain).std() > 0.12


def test_without_tissue_everything_is_left_alone():
    outline = np.ones((96, 120), bool)
    outline[45:52, 55:62] = False
    correction = warned(
        phantom().volume,
        "no tissue keeps its class through a section, so drift and decay are left alone: is there tissue",
        "section 0, 1, 2, 3, 4, 5, 6, 7, … (12 in all): no tissue keeps its class through the section",
        agarose_mask=outline,
        flatten_depth=True,
    )
    assert (correction.scale_factor == 1).all()
    assert (correction.depth_gain == 1).all()
    assert float(correction.noise_floor) == 0
    assert flags(correction) == [["few_voxels"]] * 12


def test_where_grey_matter_lies_all_around_it_is_as_good_as_agarose():
    truth = phantom(no_agarose_sections=tuple(range(12)))
    correction = truth.volume.octnorm.fit(drift="agarose", intensity="linear")
    assert between(truth, correction) < 0.016
    assert inside(truth, correction) < 0.02


def test_without_agarose_and_contrast_the_floor_is_unknown_and_that_is_said():
    truth = phantom(shape=(128, 160), agarose=0.2, white=0.2)
    nothing = "no agarose is found in the volume: there is no dark class of its own"
    unknown = "no agarose tells the noise floor, so none is subtracted (its standard error is 0.0"
    varies = "the decay with depth through a section varies by"  # agarose, taken for tissue here, does not decay
    correction = warned(truth.volume, nothing, unknown, varies, intensity="linear")
    assert float(correction.noise_floor) == 0
    assert float(correction.noise_floor_se) > 0.01
    assert (correction.agarose_weight == 0).all()
    assert flags(correction) == [["floor_unidentified", "profile_varies_laterally"]] * 12
    assert between(truth, correction) < 0.03
    known = warned(truth.volume, nothing, varies, intensity="linear", noise_floor=0.01)
    assert flags(known) == [["profile_varies_laterally"]] * 12


def test_without_agarose_in_some_sections():
    truth = phantom(no_agarose_sections=(2, 3, 7))
    correction = warned(truth.volume, "section 2, 3, 7: shows no agarose, so none is marked there")
    assert between(truth, correction) < 0.01
    assert (correction.agarose_weight.values[[2, 3, 7]] == 0).all()
    assert correction.agarose_weight.values.sum() >= 6


@pytest.mark.parametrize("drift", ["joint", "agarose"])
def test_agarose_that_steps_is_not_used_and_both_numbers_are_said(drift):
    truth = phantom(agarose_steps=(1.0, 1.2, 0.85, 1.1, 0.9, 1.15, 0.95, 1.25, 1.0, 0.85, 1.1, 0.9))
    with pytest.warns(OctnormWarning, match=r"agarose is not used as a reference .*: it steps by 1\d\.\d% .*chi2 \d+"):
        correction = truth.volume.octnorm.fit(drift=drift, agarose_mask=outlines(truth))
    assert (correction.agarose_weight == 0).all()
    assert between(truth, correction) < 0.016
    assert all("agarose_not_a_reference" in some for some in flags(correction))
    steps = json.loads(correction.attrs["xoctnorm_provenance"])["steps"][0]
    assert any("agarose against tissue: it steps by 1" in text for text in steps["decisions"])


def test_one_section_with_other_agarose_is_left_out():
    steps = np.ones(12)
    steps[6] = 1.3
    truth = phantom(agarose_steps=tuple(steps))
    correction = truth.volume.octnorm.fit(agarose_mask=outlines(truth))
    assert correction.agarose_weight.values.tolist() == [float(label != 6) for label in range(12)]
    assert flags(correction)[6] == ["agarose_not_a_reference"]
    assert between(truth, correction) < 0.01


def test_a_specular_plane_changes_nothing_elsewhere():
    truth = phantom(specular_planes=(20,))
    correction = truth.volume.octnorm.fit(flatten_depth=True)
    np.testing.assert_allclose(correction.scale_factor, default_fit().scale_factor, rtol=5e-3)
    np.testing.assert_allclose(correction.depth_gain, default_fit().depth_gain, rtol=5e-3)
    assert float(correction.divisor) == pytest.approx(float(default_fit().divisor), rel=5e-3)


# Intensity.


def stored(intensity: str, **options) -> xr.DataArray:
    return phantom(intensity=intensity, **options).volume


def fitted_scale(correction: xr.Dataset) -> str:
    return ("linear", "amplitude", "db")[int(correction.intensity_scale)]


@pytest.mark.parametrize(
    ("scale", "change", "options"),
    [
        ("amplitude", lambda v: v, {"intensity": "amplitude"}),
        ("db", lambda v: v, {"intensity": "db"}),
        ("db", lambda v: v, {}),  # by units
        ("db", lambda v: v.assign_attrs(units=""), {}),  # by the slope of spread on mean
        ("linear", lambda v: v.assign_attrs(units=""), {}),
    ],
)
def test_copies_on_other_scales_give_the_same_factors(scale, change, options):
    if scale == "db" and change(stored(scale)).attrs["units"] == "":
        correction = warned(change(stored(scale)), "intensity is taken for db: over agarose", flatten_depth=True)
    else:
        correction = change(stored(scale)).octnorm.fit(flatten_depth=True, **options)
    assert fitted_scale(correction) == scale
    np.testing.assert_allclose(correction.scale_factor, default_fit().scale_factor, rtol=0.01)
    np.testing.assert_allclose(correction.depth_gain, default_fit().depth_gain, rtol=0.01)
    assert float(correction.noise_floor) == pytest.approx(float(default_fit().noise_floor), rel=0.1)
    decisions = json.loads(correction.attrs["xoctnorm_provenance"])["steps"][0]["decisions"]
    assert any(text.startswith(f"intensity is {scale}: ") for text in decisions)
    result = change(stored(scale)).octnorm.apply(correction)
    expected = phantom().volume.octnorm.apply(default_fit())
    assert float(abs(result - expected).max()) < 0.05


def test_decibels_in_integers():
    counts = stored("db", dtype="uint8")
    message = "intensity is taken for linear: the volume seems to be in decibels (over agarose the log of the spread"
    with pytest.warns(OctnormWarning) as caught:
        assert fitted_scale(counts.octnorm.fit()) == "linear"
    assert any(str(one.message).startswith(message) for one in caught)
    with pytest.raises(
        InputError, match=r"seems to be in decibels \(as given\), on integers .* volume \* \(40 / 255\)"
    ):
        counts.octnorm.fit(intensity="db")
    correction = (counts * (40 / 255)).assign_attrs(units="dB").octnorm.fit()
    assert fitted_scale(correction) == "db"
    assert between(phantom(), correction) < 0.007


def test_a_scale_that_cannot_be_told_is_linear_and_said():
    truth = phantom()
    compressed = np.log1p(80 * truth.volume).astype("f4").assign_attrs(units="1")
    with pytest.warns(OctnormWarning) as caught:
        correction = compressed.octnorm.fit()
    message = "intensity is taken for linear: units do not tell, and over agarose the log of the spread rises by 0."
    assert any(str(one.message).startswith(message) for one in caught)
    assert fitted_scale(correction) == "linear"
    little = np.zeros((96, 120), bool)
    little[0, :110] = True
    message = "intensity is taken for linear: units do not tell, and there is too little agarose to judge by; say"
    with pytest.warns(OctnormWarning) as caught:
        assert fitted_scale(truth.volume.octnorm.fit(agarose_mask=little, noise_floor=0.01)) == "linear"
    assert any(str(one.message).startswith(message) for one in caught)


# From 0 to 1.


def corrected(truth: xr.Dataset, correction: xr.Dataset) -> np.ndarray:
    values = (truth.volume - correction.noise_floor) * correction.scale_factor * correction.depth_gain
    return values.transpose("z", "y", "x").values


@pytest.mark.parametrize(
    "options", [{}, {"percentile_max": 95.0}, {"divisor_percentile": 50.0}, {"percentile_max": 100.0}]
)
def test_divisor_in_closed_form(options):
    truth = phantom()
    correction = truth.volume.octnorm.fit(flatten_depth=True, **options)
    caps = np.percentile(corrected(truth, correction), options.get("percentile_max", 99.9), axis=(1, 2))
    expected = np.percentile(caps, options.get("divisor_percentile", 100.0))
    assert float(correction.divisor) == pytest.approx(expected, rel=1e-5)
    assert float(correction.zero_level) == 0
    result = truth.volume.octnorm.apply(correction)
    expected = np.clip(corrected(truth, correction) / correction.divisor.values, 0, 1)
    np.testing.assert_allclose(result.values, expected, atol=2e-6)


def test_agarose_becomes_zero_where_that_is_asked():
    truth = phantom()
    result = truth.volume.octnorm.normalize(floor="agarose", flatten_depth=True)
    correction = truth.volume.octnorm.fit(floor="agarose", flatten_depth=True)
    values, outline = corrected(truth, correction), result.agarose_mask.values
    medians = [np.median(plane[mask]) for plane, mask in zip(values, outline, strict=True)]
    assert float(correction.zero_level) == pytest.approx(np.median(medians), rel=1e-5)
    assert abs(np.median([np.median(p[m]) for p, m in zip(result.values, outline, strict=True)])) < 1e-3
    assert 0.03 < float(correction.zero_level) < 0.08
    noise = truth.volume.octnorm.apply(default_fit())
    assert float(noise.where(result.agarose_mask).median()) > 0.03  # stays small and positive


@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning")
def test_agarose_cannot_become_zero_where_it_has_no_data():
    truth = phantom()
    outline = outlines(truth)
    volume = truth.volume.where(~truth.agarose_mask)
    with pytest.raises(InputError, match="floor='agarose': no plane has 100 pixels of agarose with data"):
        volume.octnorm.normalize(floor="agarose", agarose_mask=outline, intensity="linear", noise_floor=0.01)


def test_nothing_above_the_floor():
    with pytest.raises(InputError, match=r"nothing is brighter than the noise floor: percentile 99\.9 of the planes"):
        phantom().volume.octnorm.normalize(noise_floor=50.0)


# Wrong calls.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"drift": "nonsense"},
            "drift='nonsense': needs one of joint, continuity, agarose, quantile, scale, histogram",
        ),
        ({"drift": "scale", "flatten_depth": True}, "flatten_depth=True does not go with drift='scale', whose backgr"),
        ({"drift": "histogram", "flatten_depth": True}, "flatten_depth=True does not go with drift='histogram'"),
        ({"drift": "scale", "floor": "noise"}, "floor='noise' does not go with drift='scale', which subtracts agarose"),
        ({"drift": None, "floor": "noise"}, "floor='noise' does not go with drift=None"),
        ({"floor": "zero"}, "floor='zero': needs one of 'noise', 'agarose', or None"),
        ({"reference_tissue": "white"}, "reference_tissue='white': needs one of 'auto', 'dark', 'bright'"),
        ({"max_depth_gain": 0.5}, "max_depth_gain=0.5: needs a finite number, 1 or more"),
        ({"flatten_depth": "yes"}, "flatten_depth='yes': needs True or False"),
        ({"exclude": [99]}, "exclude has 99: the sections are 0, 1, 2, 3, 4, 5, 6, 7, … .12 in all."),
        ({"exclude": range(12)}, "exclude names every section: leave some in"),
        ({"first_depth": -1}, "first_depth=-1: needs a whole number, 0 or more"),
        ({"blend": 1.5}, "blend=1.5: needs a whole number"),
        ({"intensity": "log"}, "intensity='log': needs one of 'auto', 'linear', 'amplitude', 'db'"),
    ],
)
def test_wrong_parameters(options, message):
    with pytest.raises(InputError, match=message) as caught:
        phantom().volume.octnorm.normalize(**options)
    assert len(caught.value.problems) == 1


def test_everything_wrong_is_said_at_once():
    wrong = {
        "drift": "nonsense", "reference_tissue": "white", "max_depth_gain": 0.5, "intensity": "log", "noise_floor": -1,
        "blend": -1, "first_depth": -2, "strength": 2, "floor": "zero", "flatten_depth": "yes", "section": "slab",
    }  # fmt: skip
    with pytest.raises(InputError) as caught:
        phantom().volume.octnorm.normalize(**wrong)
    assert len(caught.value.problems) == len(wrong)
    for name, value in wrong.items():
        assert f"{name}={value!r}" in str(caught.value)


# Classes that are not what they seem.


# Such volumes have more to say, of the mask and the floor, which is not what is tested here.
@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning")
@pytest.mark.parametrize("damage", [{"tile_gain": (1.0, 0.5)}, {"torn_sections": (1, 3, 5, 7, 9, 11)}])
def test_agarose_that_is_taken_for_tissue_is_said_and_does_not_tell_the_decay(damage):
    phantom = make_phantom(shape=(128, 160), seed=100, **damage)
    with pytest.warns(
        OctnormWarning, match="darker tissue does not decay as the brighter tissue does, but like agarose"
    ):
        correction = phantom.volume.octnorm.fit(drift="joint", flatten_depth=True)
    assert all("dark_tissue_like_agarose" in flags for flags in correction.section_flags.values)
    depth = correction.depth_gain.groupby("section").last() / correction.depth_gain.groupby("section").first()
    truth = phantom.depth_response.groupby("section").last() / phantom.depth_response.groupby("section").first()
    np.testing.assert_allclose(depth * truth, 1, atol=0.03)


@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning")
@pytest.mark.parametrize("decay", [0.02, 0.05])
def test_tissue_that_is_taken_for_agarose_is_said(decay):
    classes = make_phantom(shape=(96, 120), seed=100).tissue_class.transpose("z", "y", "x").values.copy()
    classes[classes == AGAROSE] = GREY_MATTER
    volume = make_phantom(shape=(96, 120), seed=100, anatomy=classes, decay=decay).volume
    with pytest.warns(
        OctnormWarning, match=r"what is taken for agarose falls to \d\d% through a section, as tissue does"
    ):
        correction = volume.octnorm.fit(drift="joint", flatten_depth=True)
    assert all("agarose_like_tissue" in flags for flags in correction.section_flags.values)


@pytest.mark.parametrize("parameters", [{}, {"decay": (0.05, 0.1), "focus": 3.0, "rayleigh_range": 8.0}])
def test_agarose_and_tissue_that_are_what_they_seem_are_not_doubted(parameters):
    correction = make_phantom(shape=(96, 120), seed=100, **parameters).volume.octnorm.fit(flatten_depth=True)
    assert not any("like" in flags for flags in correction.section_flags.values)
