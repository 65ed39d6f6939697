"""Quantile matching between sections: closed forms, invariants, and what it is worth on known truth."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from conftest import HOLDINGS, assert_same_bits, brain
from hypothesis import given, settings
from hypothesis import strategies as st

from xoctnorm import InputError, OctnormWarning, provenance
from xoctnorm.benchmark.measures import measure
from xoctnorm.benchmark.truth import truth_of
from xoctnorm.corrections import GivenMask, QuantileMatch
from xoctnorm.fitting import Call, fit
from xoctnorm.kernels import quantiles as kernel
from xoctnorm.phantom import make_phantom

SHAPE = (30, 40)
AGAROSE = np.broadcast_to(np.arange(SHAPE[1]) < 8, SHAPE)
TISSUE = np.random.default_rng(0).gamma(4, 0.1, SHAPE)
UNEVEN = (5, 3, 1, 4, 5)
GAINS = (1.0, 0.6, 1.7, 0.9, 1.2)


def stack(gains=GAINS, planes=UNEVEN, decay=0.1, tissue=TISSUE) -> xr.DataArray:
    """The same tissue in every plane, times the gain of its section, decaying; agarose does not decay."""
    section = np.repeat(np.arange(len(planes)), planes)
    depth = np.concatenate([np.arange(n) for n in planes])
    image = np.where(AGAROSE, 0.05, tissue * np.exp(-decay * depth)[:, None, None])
    values = (image * np.array(gains)[section][:, None, None]).astype("f4")
    coords = {"section": ("z", section), "z": 10.0 * np.arange(len(section))}
    return xr.DataArray(values, dims=("z", "y", "x"), coords=coords, name="intensity", attrs={"units": "counts"})


def matched(da: xr.DataArray, **options) -> xr.DataArray:
    return da.octnorm.match_quantiles(agarose_mask=AGAROSE, **options)


def fitted(da: xr.DataArray, **options) -> xr.Dataset:
    mask = xr.DataArray(AGAROSE, dims=("y", "x"))
    corrections = [GivenMask(), QuantileMatch(**options)]
    return fit(da, corrections, Call("fit", {}), section="section", agarose_mask=mask)


# Closed forms.


@pytest.mark.parametrize("planes", [UNEVEN, (3, 3, 3, 3, 3), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("max_slope", [1, 2.0, 1e6])
def test_a_gain_per_section_is_recovered_and_decay_stays(planes, max_slope):
    volume = stack(planes=planes)
    expected = np.median(GAINS) * stack(gains=np.ones(5), planes=planes).values
    np.testing.assert_allclose(matched(volume, max_slope=max_slope).values, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["f4", "u1"])
@pytest.mark.parametrize("planes", [UNEVEN, (4, 4)])
@pytest.mark.parametrize("max_slope", [1, 2.0])
def test_sections_that_agree_stay_to_the_bit(planes, dtype, max_slope):
    volume = (stack(gains=np.ones(len(planes)), planes=planes) * (1 if dtype == "f4" else 90)).astype(dtype)
    result = matched(volume, max_slope=max_slope)
    np.testing.assert_array_equal(result.values, volume.values.astype("f4"), strict=True)
    negative = volume.astype("f4") - volume.values.max() / 2
    np.testing.assert_array_equal(matched(negative).values, negative.values)


def test_quantiles_are_those_of_numpy():
    values = np.random.default_rng(0).normal(size=777).astype("f4")
    expected = np.quantile(values.astype("f8"), kernel.LEVELS)
    np.testing.assert_allclose(kernel.quantiles(values, 500), expected, rtol=1e-14, atol=1e-15)
    with_nan = np.concatenate([values, [np.nan, np.nan]]).astype("f4")
    np.testing.assert_array_equal(kernel.quantiles(with_nan, 777), kernel.quantiles(values, 777))
    assert np.isnan(kernel.quantiles(with_nan, 778)).all()


def test_the_reference_is_the_median_over_sections_and_each_is_mapped_to_it():
    volume = stack(gains=(1, 1, 1), planes=(2, 2, 2), decay=0.0)
    for section, power in enumerate((1.0, 1.3, 0.8)):  # the same order of voxels, other shapes
        volume[2 * section : 2 * section + 2] = volume[2 * section : 2 * section + 2] ** power
    correction = fitted(volume, max_slope=100)
    source, target = correction.quantile_source, correction.quantile_target
    np.testing.assert_array_equal(correction.quantile_level, kernel.LEVELS)
    tissue = volume.values[:, ~AGAROSE].astype("f8")
    np.testing.assert_allclose(source, np.quantile(tissue[::2], kernel.LEVELS, axis=1).T, rtol=1e-6)
    np.testing.assert_allclose(target[1:], np.broadcast_to(target[0], (2, kernel.LEVELS.size)), rtol=1e-12)
    result = volume.octnorm.apply(correction)
    after = np.quantile(result.values[::2, ~AGAROSE], kernel.LEVELS, axis=1).T
    np.testing.assert_allclose(after, target, rtol=5e-3)


def test_beyond_the_outermost_quantiles():
    source, target = np.linspace(0.2, 0.8, 128), np.linspace(0.1, 1.2, 128)
    values = np.array([[-1, -0.1, 0, 0.1, 0.2, 0.8, 1.0, 5.0, np.nan]], "f4")
    expected = [-0.5, -0.05, 0, 0.05, 0.1, 1.2, 1.5, 7.5, np.nan]  # in proportion to the outermost
    np.testing.assert_allclose(kernel.match_quantiles(values, source, target, 1.0)[0], expected, rtol=1e-6)
    assert kernel.match_quantiles(values, source, target, 1.0)[0, 2] == 0
    below = kernel.match_quantiles(values, source - 0.4, target, 1.0)[0]  # -0.2…0.4: the slope is 1.1 / 0.6
    np.testing.assert_allclose(below[:-1], 0.1 + (values[0, :-1] + 0.2) * 1.1 / 0.6, rtol=2e-6)


def test_decibels_are_shifted():
    log = 10 * np.log10(stack(gains=np.ones(5), decay=0.01).astype("f8"))
    shift = xr.DataArray(np.array([0.0, 3, -2, 1, -1])[log.section], dims="z")
    np.testing.assert_allclose(matched((log + shift).transpose("z", "y", "x")).values, log.values, atol=2e-5)


def test_a_subtracted_noise_floor_leaves_a_few_negative_voxels():
    volume = stack(gains=np.ones(5))
    volume = (volume - np.quantile(volume.values[:, ~AGAROSE], 0.06)).astype("f4")
    gains = xr.DataArray(np.array(GAINS, "f4")[volume.section], dims="z")
    result = matched((volume * gains).transpose("z", "y", "x"))
    expected = np.median(GAINS) * volume.values
    np.testing.assert_allclose(result.values, expected, rtol=1e-6, atol=1e-7)
    assert fitted(volume * gains).quantile_source.min() < 0
    empty = kernel.match_quantiles(np.zeros((1, 1), "f4"), np.array([-1.0, 2, 3]), np.array([-2.0, 4, 7]), 1.0)
    assert empty == 0


def test_strength_is_the_share_of_the_way():
    volume = stack()
    full, half = matched(volume), matched(volume, strength=0.5)
    assert_same_bits(matched(volume, strength=0), volume)
    np.testing.assert_allclose(half.values - volume.values, (full.values - volume.values) / 2, atol=1e-6)


def test_the_cap_bounds_the_slope_about_the_gain():
    volume = stack(gains=(1, 1, 1), planes=(2, 2, 2))
    squeezed = volume.copy()
    squeezed[:2] = np.where(AGAROSE, 0.05, 0.3 + 0.1 * volume[:2])  # little contrast: a map of slope 10
    goal = fitted(squeezed, max_slope=1e6).quantile_target.values[0]
    for cap in (1.0, 1.5, 3.0):
        correction = fitted(squeezed, max_slope=cap)
        source, target = correction.quantile_source.values[0], correction.quantile_target.values[0]
        inner = slice(6, -6)
        gain = (source * goal)[inner].sum() / (source * source)[inner].sum()
        slope = np.diff(target) / np.diff(source)
        assert slope.min() >= gain / cap - 1e-6
        assert slope.max() <= gain * cap + 1e-6
        assert cap == 1 or slope.max() > gain * cap - 1e-6
        assert gain / cap - 1e-6 <= target[0] / source[0] <= gain * cap + 1e-6
        mapped = np.sort(squeezed.octnorm.apply(correction).values[0], axis=None)
        order = np.argsort(squeezed.values[0], axis=None)
        np.testing.assert_array_equal(squeezed.octnorm.apply(correction).values[0].ravel()[order], mapped)


# Invariants.

numbers = st.integers(-10_000, 10_000).map(lambda number: number / 64)  # exact in float32, and never tiny
rising = st.lists(numbers, min_size=2, max_size=12).map(lambda values: np.sort(np.array(values, "f8")))


@settings(deadline=None)
@given(rising, rising, st.floats(1, 50), st.floats(0, 1), st.lists(numbers, min_size=2, max_size=30))
def test_the_map_is_monotone_and_within_the_cap(source, target, max_slope, strength, values):
    size = min(source.size, target.size)
    source, target = source[:size], target[:size]
    capped = kernel.cap_slope(source, target, max_slope)
    x, first, place = np.unique(source, return_index=True, return_inverse=True)
    y = capped[first]
    assert (capped == y[place]).all()
    if not np.array_equal(source, target):
        goal = np.bincount(place, target) / np.bincount(place)
        through_zero = kernel.is_proportional(source, goal[place])
        gain = kernel.overall_gain(source, goal[place], through_zero=through_zero)
        low, high = gain / max_slope, gain * max_slope
        if through_zero:
            x, y = np.sort(np.append(x, 0)), np.sort(np.append(y, 0))
        slack = 1e-9 * (1 + np.abs(y).max() + high * np.abs(x).max())
        assert (np.diff(y) >= low * np.diff(x) - slack).all()
        assert (np.diff(y) <= high * np.diff(x) + slack).all()
    plane = np.sort(np.array(values, "f4"))[None]
    mapped = kernel.match_quantiles(plane, source, capped, strength)
    assert (np.diff(mapped) >= -1e-6 * np.abs(mapped).max()).all()
    assert mapped.dtype == np.float32


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(1, 4))
def test_random_tissue_keeps_its_order(seed, max_slope):
    rng = np.random.default_rng(seed)
    source, target = (np.sort(rng.gamma(rng.uniform(0.5, 20), size=128)) for _ in range(2))
    capped = kernel.cap_slope(source, target, max_slope)
    values = np.sort(np.concatenate([rng.normal(0, 5, 500), source]).astype("f4"))
    assert (np.diff(kernel.match_quantiles(values, source, capped, 1.0)) >= 0).all()


@pytest.mark.parametrize("held", HOLDINGS)
def test_same_bits_however_a_volume_is_held(held):
    volume = stack()
    volume[2, 3, 4] = np.nan
    volume[3, :, 20] = 0
    held_volume = HOLDINGS[held](volume)
    result = matched(held_volume)
    assert result.dims == held_volume.dims
    assert (result.chunks is None) == (held_volume.chunks is None)
    assert result.dtype == np.float32
    assert_same_bits(result, matched(volume))


def test_missing_voxels_stay_missing_and_empty_ones_empty():
    volume = stack()
    volume[:, 5, 9:20] = np.nan
    volume[:, 6, 9:20] = 0
    result = matched(volume)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(volume))
    assert (result[:, 6, 9:20] == 0).all()
    others = np.ones(SHAPE, bool)
    others[5:7, 9:20] = False
    expected = np.median(GAINS) * stack(gains=np.ones(5)).values
    np.testing.assert_allclose(result.values[:, others], expected[:, others], rtol=1e-6)


def test_the_order_of_sections_does_not_matter():
    volume = stack(tissue=np.random.default_rng(1).gamma(4, 0.1, (sum(UNEVEN), *SHAPE)))
    order = np.concatenate([np.flatnonzero(volume.section == label) for label in (3, 0, 4, 2, 1)])
    shuffled = matched(volume.isel(z=order)).values
    np.testing.assert_allclose(shuffled, matched(volume).values[order], rtol=1e-6)


def test_brightness_of_the_volume_only_scales_the_result():
    volume = stack(tissue=np.random.default_rng(1).gamma(4, 0.1, (sum(UNEVEN), *SHAPE)))
    np.testing.assert_allclose(matched(volume * 3000).values, 3000 * matched(volume).values, rtol=2e-6)


# No more than the data support.


def anatomy(gains, power=(1.0,) * 6, swing=0.2) -> xr.DataArray:
    """Six sections of 6 planes in which the share of bright tissue goes up and down, as much in each."""
    rng = np.random.default_rng(3)
    planes = []
    for z in range(36):
        bright = rng.random(SHAPE) < 0.5 + swing * np.sin(2 * np.pi * z / 7.3)
        image = np.where(AGAROSE, 0.05, np.where(bright, 0.6, 0.3) * rng.gamma(20, 1 / 20, SHAPE))
        planes.append(gains[z // 6] * image ** power[z // 6])
    coords = {"section": ("z", np.repeat(np.arange(6), 6))}
    return xr.DataArray(np.array(planes, "f4"), dims=("z", "y", "x"), coords=coords, name="intensity")


def decided(volume: xr.DataArray) -> str:
    decisions = provenance.steps_of(fitted(volume).attrs)[-1]["decisions"]
    return next(text for text in decisions if text.startswith("maps of sections"))


def test_where_anatomy_explains_shapes_the_map_is_a_gain():
    volume = anatomy(gains=(1, 0.6, 1.7, 0.9, 1.2, 0.8))
    ratio = matched(volume).values / volume.values
    for section in range(6):
        np.testing.assert_allclose(ratio[6 * section : 6 * section + 6], ratio[6 * section, 0, 0], rtol=1e-5)
    assert decided(volume).startswith("maps of sections are gains")


def test_where_anatomy_does_not_explain_shapes_the_map_bends():
    volume = anatomy(gains=(1,) * 6, power=(1, 0.4, 1.6, 0.6, 1.5, 1), swing=0.05)
    assert decided(volume).startswith("maps of sections follow all quantiles")
    ratio = matched(volume).values[6:12] / volume.values[6:12]
    assert ratio.std() / ratio.mean() > 0.1


def test_where_anatomy_explains_gains_the_volume_is_left_alone_and_that_is_said():
    volume = anatomy(gains=(1, 1.02, 0.99, 1, 0.98, 1.01), swing=0.4)
    with pytest.warns(OctnormWarning, match=r"quantiles of sections differ by up to .* so nothing is matched: drift"):
        result = matched(volume)
    assert_same_bits(result, volume)
    correction_says = "maps of sections change nothing"
    with pytest.warns(OctnormWarning):
        assert decided(volume).startswith(correction_says)


# What is left out, and what is said about it.


def test_agarose_and_missing_planes_do_not_shift_the_match():
    volume = stack()
    volume.values[:5, AGAROSE] = 3.0  # agarose of another brightness in one section
    volume[[1, 10]] = np.nan  # planes that are lost within sections
    result = matched(volume)
    expected = np.median(GAINS) * stack(gains=np.ones(5)).values
    has = ~np.isnan(volume.values[:, 0, 0])
    np.testing.assert_allclose(result.values[has][:, ~AGAROSE], expected[has][:, ~AGAROSE], rtol=1e-6)


def test_a_plane_that_is_no_measure_of_its_section_is_left_out():
    volume = stack(planes=(4, 5, 5, 3, 5))
    volume[6] *= 5
    volume[20] *= 0.5
    with pytest.warns(OctnormWarning, match=r"plane 6, 20: more than 1\.5 times brighter or darker than the rest"):
        result = matched(volume)
    expected = np.median(GAINS) * stack(gains=np.ones(5), planes=(4, 5, 5, 3, 5)).values
    expected[6] *= 5  # jitter stays
    expected[20] *= 0.5
    np.testing.assert_allclose(result.values, expected, rtol=1e-6)


def test_a_few_specular_voxels_do_not_matter():
    volume = stack(planes=(4, 5, 5, 3, 5))
    volume[6].values[~AGAROSE & (np.quantile(TISSUE[~AGAROSE], 0.983) < TISSUE)] = 40.0
    expected = np.median(GAINS) / np.array(GAINS)[volume.section] * volume.transpose("y", "x", "z")
    np.testing.assert_allclose(matched(volume).values, expected.transpose("z", "y", "x"), rtol=2e-3)


def test_sections_with_too_little_tissue_are_left_alone():
    volume = stack()
    volume[8, :, 15:] = 0  # section 2 has one plane
    with pytest.warns(OctnormWarning, match="section 2: no plane of it has 500 voxels of tissue"):
        result = matched(volume)
    np.testing.assert_array_equal(result.values[8], volume.values[8])
    gains = np.delete(GAINS, 2)
    expected = np.exp(np.median(np.log(gains))) * stack(gains=np.ones(5)).values
    np.testing.assert_allclose(np.delete(result.values, 8, 0), np.delete(expected, 8, 0), rtol=1e-6)
    with pytest.warns(OctnormWarning, match="section 0, 1, 2, 3, 4: no plane"):
        result = matched(volume.where(volume.x < 15, 0).transpose("z", "y", "x"))
    np.testing.assert_array_equal(result[:, :, :15], volume[:, :, :15])


def test_one_section_is_left_alone():
    volume = stack(planes=(6,), gains=(2.0,))
    assert_same_bits(matched(volume), volume)
    with pytest.warns(OctnormWarning, match="no coordinate 'section', so it is one section"):
        assert_same_bits(matched(volume.drop_vars("section")), volume)


def test_tissue_of_one_value():
    volume = stack(tissue=np.full(SHAPE, 0.4))
    expected = np.median(GAINS) * stack(np.ones(5), tissue=np.full(SHAPE, 0.4)).values
    np.testing.assert_allclose(matched(volume).values, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": 1.1}, "strength=1.1: needs a finite number, 0 to 1"),
        ({"max_slope": 0.5}, "max_slope=0.5: needs a finite number, 1 or more"),
        ({"max_slope": float("inf")}, "max_slope=inf"),
        ({"agarose_mask": "dark"}, "agarose_mask='dark': needs a bool mask, or one of 'otsu', 'border', 'auto'"),
        ({"dtype": "u1"}, "floating dtypes are accepted"),
    ],
)
def test_wrong_parameters(options, message):
    with pytest.raises(InputError, match=message):
        stack().octnorm.match_quantiles(**options)


# The correction.


def test_a_correction_is_saved_edited_and_applied(tmp_path):
    volume = xr.concat([stack(), 2 * stack(gains=GAINS[::-1])], "channel").assign_coords(channel=["red", "green"])
    correction = fitted(volume)
    assert correction.quantile_source.dims == ("channel", "section_label", "quantile")
    assert correction.quantile_target.attrs["units"] == "counts"
    correction.to_netcdf(tmp_path / "correction.nc")
    with xr.open_dataset(tmp_path / "correction.nc") as stored:
        stored.load()
    xr.testing.assert_equal(stored, correction)
    result = volume.octnorm.apply(stored)
    assert_same_bits(result, matched(volume))
    assert_same_bits(result.isel(channel=1), matched(volume.isel(channel=1)))
    assert_same_bits(volume.chunk(z=4, x=9).octnorm.apply(stored), result)

    edited = correction.isel(channel=0)
    edited["quantile_target"][1] = 3 * edited.quantile_source[1]
    edited["quantile_source"][0] = np.nan
    one = volume.isel(channel=0)
    result = one.octnorm.apply(edited)
    np.testing.assert_allclose(result.values[5:8], 3 * one.values[5:8], rtol=1e-6)
    np.testing.assert_array_equal(result.values[:5], one.values[:5])
    edited["quantile_source"][3] = edited.quantile_source[3, ::-1]
    with pytest.raises(InputError, match="quantile_source of the correction falls, or is NaN in part"):
        one.octnorm.apply(edited)
    with pytest.raises(InputError, match="2 problems"):
        one.octnorm.apply(correction.isel(channel=0, quantile=64))


def test_a_dimension_of_sections():
    volume = stack(planes=(3,) * 5)
    parts = [part.drop_vars("section").assign_coords(z=np.arange(3.0)) for _, part in volume.groupby("section")]
    result = xr.concat(parts, "section").octnorm.match_quantiles(agarose_mask=AGAROSE)
    np.testing.assert_array_equal(result.values.reshape(volume.shape), matched(volume).values)


def test_agarose_is_given_attached_or_found():
    volume = brain(shape=(48, 60), n_sections=3, planes=2)
    mask = volume.octnorm.agarose_mask(method="border", per_section=True)
    named = volume.octnorm.match_quantiles(agarose_mask="border")
    expected = volume.octnorm.match_quantiles(agarose_mask=mask)
    assert_same_bits(named, expected)
    assert_same_bits(volume.octnorm.match_quantiles(), expected)
    assert_same_bits(volume.assign_coords(agarose_mask=named.agarose_mask).octnorm.match_quantiles(), expected)
    again = named.octnorm.match_quantiles()
    np.testing.assert_allclose(again.values, named.values, rtol=0.02)
    assert again.attrs["history"].count("match_quantiles(") == 2
    assert again.attrs["units"] == "counts"


# Known truth.


def spread(result: xr.DataArray, phantom: xr.Dataset) -> tuple[float, float]:
    """Standard deviation over sections of the log of slope, and of level, of tissue against the truth."""
    truth = (phantom.reflectivity * phantom.depth_response).transpose("z", "y", "x").values
    slopes, levels = [], []
    for label in np.unique(phantom.section):
        inside = phantom.tissue_mask.values & (phantom.section.values == label)[:, None, None]
        x, y = truth[inside].astype("f8"), result.values[inside].astype("f8")
        slopes.append(np.log(np.polyfit(x, y, 1)[0]))
        levels.append(np.log(y.mean() / x.mean()))
    return float(np.std(slopes)), float(np.std(levels))


@pytest.mark.parametrize("seed", [0, 1])
def test_gains_of_the_phantom_are_removed_where_histograms_leave_them(seed):
    phantom = make_phantom(seed=seed)
    volume = phantom.volume
    raw = spread(volume, phantom)
    by_histogram = spread(volume.octnorm.normalize(drift="histogram"), phantom)
    by_quantile = spread(volume.octnorm.match_quantiles(), phantom)
    assert max(by_quantile) < 0.025
    assert min(raw) > 0.1
    assert by_quantile[0] < by_histogram[0] / 2
    assert by_quantile[1] < by_histogram[1] / 8


@pytest.mark.parametrize("parameters", [{}, {"decay": (0.05, 0.1), "focus": 3.0, "rayleigh_range": 8.0}])
def test_normalize_takes_jitter_out_and_leaves_the_decay(parameters):
    phantom = make_phantom(shape=(96, 120), seed=4, **parameters)
    correction = phantom.volume.octnorm.fit(drift="quantile")
    truth = truth_of(phantom)
    nothing = measure(truth.linear / truth.linear.max(), truth, None)
    found = measure(phantom.volume.octnorm.apply(correction).values.astype("f8"), truth, None)
    assert found["inside_kept"] < nothing["inside_kept"] / 2
    assert found["level_inside_kept"] < nothing["level_inside_kept"] / 2
    assert found["between_kept"] < 0.04
    assert found["ratio"] < 0.01
    assert "scale_factor_se" not in correction  # the factor is that of jitter, gains are in the maps
    jitter = np.log(correction.scale_factor * phantom.plane_jitter).groupby("section").std()
    assert float(jitter.mean()) < 0.01


@pytest.mark.parametrize("seed", [0, 1])
def test_without_drift_normalize_makes_nothing_worse(seed):
    phantom = make_phantom(seed=seed, section_gain=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OctnormWarning)
        result = phantom.volume.octnorm.normalize(drift="quantile")
    truth = truth_of(phantom)
    nothing = measure(truth.linear / truth.linear.max(), truth, None)
    found = measure(result.values.astype("f8"), truth, None)
    for name in ("between_kept", "inside_kept", "level_between_kept", "level_inside_kept", "ratio"):
        assert found[name] <= nothing[name] + 0.001, name
