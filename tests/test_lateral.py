"""The gain over depth, coarse y and coarse x: recovered where there is something, absent where there is nothing."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pytest
import xarray as xr
from conftest import HOLDINGS, assert_same_bits, no_computing

from xoctnorm import InputError, OctnormWarning
from xoctnorm.kernels.classes import BRIGHT
from xoctnorm.kernels.lateral import LARGEST_GAIN, multiply_by_field, places_between
from xoctnorm.kernels.seams import line_sums, pieces_of
from xoctnorm.phantom import make_phantom

PLAIN = {
    "shape": (96, 128),
    "n_sections": 8,
    "planes_per_section": 7,
    "section_gain": 0.1,
    "plane_jitter": 0.01,
    "decay": 0.04,
    "looks": 8,
    "noise_floor": 0.0,
    "margin": 4,
    "seed": 3,
}
SEAM = 59


@cache
def phantom(**changed: object) -> xr.Dataset:
    return make_phantom(**PLAIN | changed)


def with_halves(by: float) -> xr.DataArray:
    """Right of a seam, tissue falls off by `by` per plane more than left of it."""
    return falling_off(phantom(), xr.DataArray(by * (np.arange(128) >= SEAM), dims="x"))


def falling_off(made: xr.Dataset, more: xr.DataArray) -> xr.DataArray:
    """The volume with further decay of tissue per plane, which depends on the place."""
    further = np.exp(-more * made["depth"] * (made["tissue_class"] >= 2))
    volume = made["volume"]
    return volume.copy(data=(volume * further).transpose(*volume.dims).astype(np.float32))


def quiet_fit(volume: xr.DataArray, **options: object) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OctnormWarning)
        return volume.octnorm.fit(flatten_depth=True, noise_floor=0.0, **options)


def said(call: object) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in caught]


def falls_of_blocks(result: xr.DataArray, made: xr.Dataset) -> np.ndarray:
    """Log of end over start of output over truth, in blocks of 16 pixels with enough tissue."""
    tissue = made["tissue_class"].values >= 2
    ends = [made["depth"].values < 2, made["depth"].values >= 5]
    found = []
    for y in range(0, 96, 16):
        for x in range(0, 128, 16):
            at = np.s_[:, y : y + 16, x : x + 16]
            if tissue[at].sum() < 0.5 * tissue[at].size:
                continue
            start, end = (
                result.values[at][here][tissue[at][here]].sum(dtype=float)
                / made["reflectivity"].values[at][here][tissue[at][here]].sum(dtype=float)
                for here in ends
            )
            found.append(np.log(end / start))
    return np.array(found)


def test_halves_with_their_own_decay_are_told_and_evened_out():
    by = 0.03
    volume = with_halves(by)
    correction = quiet_fit(volume, lateral="tiles")
    place = correction["lateral_position_x"].values
    assert abs(place[1] * 128 - SEAM) <= 2
    np.testing.assert_array_equal(correction["lateral_position_y"], [0, 1])
    gain = correction["lateral_gain"]
    assert gain.dims == ("plane_depth", "lateral_y", "lateral_x")
    assert gain.dtype == np.float32
    ratio = np.log(gain.isel(lateral_x=1) / gain.isel(lateral_x=0)).values[:, 0]
    expected = by * (np.arange(7) - 3)
    np.testing.assert_allclose(ratio, expected, atol=0.012)
    before, after = (falls_of_blocks(volume.octnorm.apply(one), phantom()) for one in (quiet_fit(volume), correction))
    assert before.std() > 0.06
    assert after.std() < 0.02


def test_the_user_is_told_of_what_is_left_in():
    flat, whole = (said(lambda v=v: v.octnorm.fit(flatten_depth=True, noise_floor=0.0)) for v in (
        phantom()["volume"], with_halves(0.04)))  # fmt: skip
    assert not any("over the field" in message for message in flat)
    assert any("varies by ±" in message and "lateral='smooth'" in message for message in whole)
    flags = quiet_fit(with_halves(0.04))["section_flags"].values
    assert all("profile_varies_laterally" in flag.split() for flag in flags)
    assert not any("laterally" in flag for flag in quiet_fit(phantom()["volume"])["section_flags"].values)


def test_under_a_tilted_cut_the_smooth_gain_evens_out_the_field():
    made = phantom(tilt=(4, 0), focus=3.0, rayleigh_range=7.0)
    before, after = (
        falls_of_blocks(made["volume"].octnorm.apply(quiet_fit(made["volume"], lateral=one)), made)
        for one in (None, "smooth")
    )
    assert before.std() > 0.05
    assert after.std() < 0.4 * before.std()


@pytest.mark.parametrize("lateral", ["smooth", "tiles"])
@pytest.mark.parametrize("changed", [{}, {"tile_gain": (1.0, 0.8)}, {"looks": None}], ids=["plain", "seam", "still"])
def test_nothing_is_done_where_nothing_varies(lateral, changed):
    gain = quiet_fit(phantom(**changed)["volume"], lateral=lateral)["lateral_gain"]
    np.testing.assert_allclose(gain, 1, atol=0.01)


def test_without_a_seam_tiles_change_nothing_and_say_so():
    volume = phantom()["volume"]
    messages = said(lambda: volume.octnorm.flatten_depth(noise_floor=0.0, lateral="tiles"))
    assert any("no seam is found" in message for message in messages)
    plain, tiled = (volume.octnorm.apply(quiet_fit(volume, lateral=one), attach=False) for one in (None, "tiles"))
    assert_same_bits(plain, tiled)


def test_the_gain_is_bounded():
    volume = with_halves(0.3)
    messages = said(lambda: volume.octnorm.fit(flatten_depth=True, noise_floor=0.0, lateral="tiles"))
    assert any("the lateral gain ends at 1.5" in message for message in messages)
    gain = quiet_fit(volume, lateral="tiles")["lateral_gain"].values
    assert gain.max() == np.float32(LARGEST_GAIN)
    assert gain.min() >= np.float32(1 / LARGEST_GAIN)


@pytest.mark.parametrize("lateral", ["smooth", "tiles"])
def test_same_bits_however_a_volume_is_held(lateral):
    volume = with_halves(0.04)
    correction = quiet_fit(volume, lateral=lateral)
    expected = volume.octnorm.apply(correction)
    for name, hold in HOLDINGS.items():
        held = hold(volume)
        with no_computing():
            result = held.octnorm.apply(correction)
        assert_same_bits(result, expected)
        if name in ("fortran", "awkward chunks", "columns"):
            xr.testing.assert_equal(quiet_fit(held, lateral=lateral), correction)


def test_further_dims_have_gains_of_their_own():
    both = xr.concat([phantom()["volume"], with_halves(0.04)], "channel")
    correction = quiet_fit(both, lateral="tiles")
    assert correction["lateral_gain"].dims == ("channel", "plane_depth", "lateral_y", "lateral_x")
    result = both.transpose("y", "z", "channel", "x").octnorm.apply(correction)
    assert_same_bits(both.chunk(x=9, z=4).octnorm.apply(correction, attach=False), result)
    for channel in (0, 1):
        alone = quiet_fit(both.isel(channel=channel), lateral="tiles")
        assert_same_bits(both.isel(channel=channel).octnorm.apply(alone), result.isel(channel=channel))


def test_a_correction_applies_to_another_pyramid_level():
    volume = with_halves(0.04)
    correction = quiet_fit(volume, lateral="smooth")
    correction["divisor"] = correction["divisor"] * 20  # so that nothing is clipped
    half = volume.coarsen(y=2, x=2).mean()
    with pytest.warns(OctnormWarning, match="levels of a pyramid"):
        result = half.octnorm.apply(correction, attach=False)
    expected = volume.octnorm.apply(correction, attach=False).coarsen(y=2, x=2).mean()
    np.testing.assert_allclose(result.values, expected.values, rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("lateral", ["smooth", "tiles"])
def test_a_correction_survives_netcdf(lateral, tmp_path):
    volume = with_halves(0.04)
    correction = quiet_fit(volume, lateral=lateral)
    correction.to_netcdf(tmp_path / "correction.nc")
    with xr.open_dataset(tmp_path / "correction.nc") as stored:
        assert_same_bits(volume.octnorm.apply(stored.load()), volume.octnorm.apply(correction))
    assert correction["lateral_gain"].attrs["units"] == "1"
    damaged = correction.isel(plane_depth=slice(4))
    with pytest.raises(InputError, match="leave the dim plane_depth whole"):
        volume.octnorm.apply(damaged)
    correction["lateral_gain"][0] = 0
    with pytest.raises(InputError, match="lateral_gain of the correction has values that are not finite and above 0"):
        volume.octnorm.apply(correction)


def test_the_single_step_is_the_whole_job_without_its_scale():
    volume = with_halves(0.04)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OctnormWarning)
        step = volume.octnorm.flatten_depth(noise_floor=0.0, lateral="smooth")
    correction = quiet_fit(volume, drift=None, lateral="smooth")
    whole = volume.octnorm.apply(correction) * correction["divisor"]
    np.testing.assert_allclose(np.minimum(step, correction["divisor"]), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lateral": "tiles"}, "flatten_depth=False keeps: pass flatten_depth=True with it"),
        ({"lateral": "seams", "flatten_depth": True}, "lateral='seams': needs one of None, 'smooth'"),
    ],
)
def test_what_does_not_go_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        phantom()["volume"].octnorm.normalize(**options)


def test_too_little_to_tell_is_left_alone():
    volume = phantom(n_sections=2, planes_per_section=1)["volume"]
    messages = said(lambda: volume.octnorm.fit(flatten_depth=True, noise_floor=0.0, lateral="smooth"))
    assert any("too little tissue is seen" in message for message in messages)
    assert (quiet_fit(volume, lateral="smooth")["lateral_gain"] == 1).all()


def test_between_nodes_the_gain_is_bilinear_and_beyond_them_constant():
    centres = (np.arange(4) + 0.5) / 4
    y, x = places_between(centres, 20), places_between(centres, 31)
    rng = np.random.default_rng(0)
    nodes = rng.uniform(0.7, 1.4, (4, 4)).astype(np.float32)
    whole = multiply_by_field(np.ones((20, 31), np.float32), nodes, y, x)
    at_y, at_x = (np.arange(20) + 0.5) / 20, (np.arange(31) + 0.5) / 31
    rows = np.array([np.interp(at_y, centres, column) for column in nodes.T]).T
    expected = np.array([np.interp(at_x, centres, row) for row in rows])
    np.testing.assert_allclose(whole, expected, rtol=1e-6)
    part = multiply_by_field(np.ones((7, 11), np.float32), nodes, y[5:12], x[20:])
    np.testing.assert_array_equal(part, whole[5:12, 20:])
    np.testing.assert_array_equal(pieces_of(np.array([0, 0.5]), 4), [0, 0, 1, 1])
    np.testing.assert_array_equal(pieces_of(np.array([0, 1.0]), 4), [0, 0, 0, 0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (6, 37), (11, 8), (9, 600)])
def test_strips_and_lines_of_any_plane(shape):
    image = np.random.default_rng(0).integers(1, 9, shape).astype(np.float32)
    by_y, by_x = line_sums(image[None, None].repeat(2, axis=1), np.full((1, *shape), BRIGHT, np.int8)).sums
    for found, values in ((by_y, image.T), (by_x, image)):
        across, along = (np.arange(n) for n in values.shape)
        bins = np.zeros((8, min(along.size, 512)))
        np.add.at(bins, (across[:, None] * 8 // across.size, along * bins.shape[1] // along.size), values)
        np.testing.assert_array_equal(found[0, 0, -8:], bins)


def test_two_seams_make_four_pieces():
    y, x = xr.DataArray(np.arange(128) >= 60, dims="y"), xr.DataArray(np.arange(160) >= 90, dims="x")
    changes = []
    for seed in range(5, 9):
        made = make_phantom(**PLAIN | {"shape": (128, 160), "n_sections": 10, "margin": 0, "seed": seed})
        correction = quiet_fit(falling_off(made, 0.03 * y + 0.025 * x), lateral="tiles")
        assert abs(correction["lateral_position_y"].values[1] * 128 - 60) <= 2
        assert abs(correction["lateral_position_x"].values[1] * 160 - 90) <= 2
        change = np.log(correction["lateral_gain"][-1] / correction["lateral_gain"][0]).values
        changes.append(change - change.mean())
    np.testing.assert_allclose(np.mean(changes, axis=0), [[-0.165, -0.015], [0.015, 0.165]], atol=0.02)
