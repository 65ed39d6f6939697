"""Where the model of tissue must not be taken in: empty voxels, empty sections, two sections, depths that are none."""

from __future__ import annotations

import json
import warnings
from functools import cache

import numpy as np
import pytest
import xarray as xr

from xoctnorm import InputError, OctnormWarning, shelf
from xoctnorm.phantom import make_phantom


@cache
def phantom(**parameters) -> xr.Dataset:
    return make_phantom(shape=(96, 120), planes_per_section=6, seed=2, **parameters)


def quietly(call, *args, **options):
    """What a call returns, and the beginnings of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", OctnormWarning)
        result = call(*args, **options)
    return result, [str(one.message) for one in caught]


def test_what_is_empty_stays_empty_through_all_steps():
    volume = phantom(margin=8).volume
    whole = volume.octnorm.normalize(flatten_depth=True)
    first = volume.octnorm.correct_drift()
    second = first.octnorm.flatten_depth()
    for result in (whole, first, second):
        assert (result.values[:, :8] == 0).all()
        assert (result.values[:, :, -8:] == 0).all()
    assert not first.octnorm.tissue_mask().values[:, :8].any()
    np.testing.assert_allclose(second.depth_gain, whole.depth_gain, rtol=0.02)


def test_decibels_with_an_empty_margin_of_zeros():
    linear, decibel = phantom(margin=8).volume, phantom(margin=8, intensity="db").volume
    padded = decibel.fillna(0).assign_attrs(decibel.attrs)
    expected = linear.octnorm.fit()
    found = padded.octnorm.fit()
    np.testing.assert_allclose(found.scale_factor, expected.scale_factor, rtol=0.01)
    assert (padded.octnorm.apply(found).values[:, :8] == 0).all()


def test_steps_go_on_from_each_other_and_say_what_units_are():
    volume = phantom(intensity="db").volume
    first = volume.octnorm.correct_drift()
    assert first.attrs["units"] == "1"
    assert first.noise_floor.attrs["units"] == "1"
    again = first.octnorm.normalize(flatten_depth=True)
    whole = volume.octnorm.normalize(flatten_depth=True)
    np.testing.assert_array_equal(again.noise_floor, first.noise_floor)  # the floor that was taken off
    assert float(abs(again - whole).max()) < 0.03
    bare = volume.octnorm.correct_drift(attach=False).octnorm.flatten_depth()
    np.testing.assert_allclose(bare.depth_gain, whole.depth_gain, rtol=0.02)


@pytest.mark.parametrize("empty", [np.nan, 0])
@pytest.mark.parametrize("section", [0, 4])
def test_a_section_without_data_is_as_good_as_lost(empty, section):
    truth = phantom()
    here = (truth.section == section).values
    volume = truth.volume.copy(deep=True)
    volume[here] = empty
    correction, _ = quietly(volume.octnorm.fit)
    expected, _ = quietly(truth.volume.octnorm.fit, exclude=[section])
    np.testing.assert_allclose(correction.scale_factor[~here], expected.scale_factor[~here], rtol=0.01)
    kept = np.arange(12) != section
    np.testing.assert_allclose(correction.section_gain_se[kept], expected.section_gain_se[kept], rtol=0.5)
    assert correction.section_flags.values.tolist() == ["excluded" if row == section else "" for row in range(12)]


def test_views_that_wait_in_a_file_tell_the_same(monkeypatch):
    volume = phantom().volume.copy(deep=True)
    volume[(volume.section == 4).values] = np.nan
    expected, _ = quietly(volume.octnorm.fit, lateral="tiles", flatten_depth=True)
    monkeypatch.setattr(shelf, "IN_MEMORY", 1)
    found, _ = quietly(volume.octnorm.fit, lateral="tiles", flatten_depth=True)
    xr.testing.assert_identical(found.drop_attrs(), expected.drop_attrs())


@pytest.mark.parametrize("seed", [210, 240, 241])
def test_two_sections_never_get_worse(seed):
    truth = make_phantom(n_sections=2, seed=seed)
    correction, messages = quietly(truth.volume.octnorm.fit)
    gain = truth.section_gain * truth.plane_jitter
    before, after = (
        np.log(values).groupby("section").mean().std() for values in (gain, gain * correction["scale_factor"])
    )
    assert float(after) <= float(before) + 0.001
    left_alone = any("left_alone" in flags for flags in correction.section_flags.values)
    assert left_alone == (float(after) == pytest.approx(float(before), abs=1e-6))
    assert left_alone == any("gains of half of the sections or more are not known" in message for message in messages)
    assert (correction.section_flags != "").all()


def test_quantised_intensities_are_not_taken_for_decibels():
    coarse = (phantom().volume * 40).clip(0, 255).round().astype("float32").assign_attrs(units="")
    correction, _ = quietly(coarse.octnorm.fit)
    assert int(correction.intensity_scale) == 0


def test_noise_floors_with_labels():
    volume = phantom().volume
    floors = xr.DataArray(np.linspace(0.005, 0.015, 72), dims="z", coords={"z": volume.z})
    correction = volume.octnorm.fit(noise_floor=floors)
    np.testing.assert_allclose(correction.noise_floor, floors, rtol=1e-6)
    assert float(volume.octnorm.fit(noise_floor=xr.DataArray(0.01)).noise_floor) == pytest.approx(0.01)
    with pytest.raises(InputError, match="noise_floor has another z coordinate than the volume"):
        volume.octnorm.fit(noise_floor=floors[::-1])
    with pytest.raises(InputError, match=r"noise_floor has dims \('section',\): one number, or one for every plane"):
        volume.octnorm.fit(noise_floor=xr.DataArray(np.full(12, 0.01), dims="section"))
    stack = xr.DataArray(
        volume.values.reshape(12, 6, 96, 120), dims=("section", "z", "y", "x"), attrs=volume.attrs, name="stack"
    )
    table = xr.DataArray(floors.values.reshape(12, 6), dims=("section", "z"))
    one, other = (stack.octnorm.fit(noise_floor=floor) for floor in (table, table.transpose()))
    np.testing.assert_array_equal(one.noise_floor, other.noise_floor)
    np.testing.assert_allclose(one.noise_floor, table, rtol=1e-6)


@pytest.mark.parametrize(
    ("depth", "options", "message"),
    [
        (None, {"first_depth": 20_000}, "depth below the cut runs to plane 20005, the longest section has 6"),
        (np.where(np.arange(72) == 40, 1e5, np.tile(np.arange(6.0), 12)), {}, "depth below the cut runs to plane"),
        (np.arange(36.0), {}, "the coordinate 'depth' has no depth that two sections share"),
        (np.tile(np.arange(6.0)[::-1], 12), {}, "the coordinate 'depth' falls along z"),
        (
            np.tile(np.arange(6.0), 12) + np.repeat(np.arange(12) % 2 / 2, 6),
            {},
            "lies up to 0.50 plane spacings beside",
        ),
    ],
)
def test_depths_that_are_none(depth, options, message):
    volume = phantom().volume
    if depth is not None:
        volume = volume.isel(z=slice(len(depth))).assign_coords(depth=("z", depth))
    with pytest.raises(InputError, match=message):
        volume.octnorm.fit(**options)


def test_the_floor_is_taken_off_before_quantiles_are_matched():
    truth = phantom(noise_floor=0.03)
    correction = truth.volume.octnorm.fit(drift="quantile", flatten_depth=True)
    assert float(correction.noise_floor) == pytest.approx(0.03, abs=0.003)
    chosen = [one["name"] for one in json.loads(correction.attrs["xoctnorm_provenance"])["steps"][0]["corrections"]]
    assert chosen == ["border_mask", "linearize", "tissue_drift", "quantile", "unit_scale"]
