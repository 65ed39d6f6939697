"""The correction as a Dataset, and what each correction does, in closed form."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import assert_same_bits, brain, cut_brain
from scipy.ndimage import gaussian_filter1d

from xoctnorm import InputError, OctnormWarning
from xoctnorm.phantom import make_phantom

OPTIONS = {
    "none": {"drift": None},
    "scale": {"drift": "scale", "smooth_sigma": 0.5},
    "histogram": {"drift": "histogram", "zprofile_sigma": 2.0, "strength": 0.7, "divisor_percentile": 60.0},
    "joint": {"drift": "joint"},
    "joint, flat": {"drift": "joint", "flatten_depth": True, "zprofile_sigma": 2.0, "noise_floor": 0.01},
}


def reopened(ds: xr.Dataset, path) -> xr.Dataset:
    ds.to_netcdf(path)
    with xr.open_dataset(path) as stored:
        return stored.load()


def labelled(kind: str, volume: xr.DataArray) -> xr.DataArray:
    n = len(volume.octnorm.sections)
    if kind == "integers":
        return volume
    if kind == "strings":
        return volume.assign_coords(section=("z", np.repeat(["a", "bc", "d", "e", "f", "gh"][:n], 5)))
    if kind == "dates":
        return volume.assign_coords(section=("z", np.repeat(pd.date_range("2024-01-01", periods=n), 5)))
    if kind == "no coordinates":
        return volume.drop_vars(["z", "y", "x"])
    if kind == "channels":
        return xr.concat([volume, 2 * volume], "channel").assign_coords(channel=["red", "green"])
    if kind == "index level":
        index = pd.MultiIndex.from_arrays([volume.section.values, np.tile(range(5), n)], names=["section", "plane"])
        bare = volume.drop_vars(["z", "section"])
        return bare.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "z"))
    assert kind == "dimension"
    parts = [part.drop_vars("section").assign_coords(z=np.arange(5.0)) for _, part in volume.groupby("section")]
    return xr.concat(parts, "section").assign_coords(section=list("pqrstu")[:n])


KINDS = ["integers", "strings", "dates", "no coordinates", "channels", "index level", "dimension"]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_correction_survives_netcdf_and_gives_the_same_bits(kind, options, tmp_path):
    volume = labelled(kind, cut_brain() if "joint" in options else brain())
    expected = volume.octnorm.normalize(**OPTIONS[options])
    correction = volume.octnorm.fit(**OPTIONS[options])
    stored = reopened(correction, tmp_path / "correction.nc")
    xr.testing.assert_equal(stored, correction)
    for one in (correction, stored):
        result = volume.octnorm.apply(one)
        assert_same_bits(result, expected)
        xr.testing.assert_equal(result.coords.to_dataset(), expected.coords.to_dataset())
    assert_same_bits(volume.chunk(z=3, x=8).octnorm.apply(stored), expected)


def test_a_correction_applies_to_other_sizes_channels_and_layouts():
    volume = brain()
    correction = volume.octnorm.fit(drift="scale", smooth_sigma=0.5, zprofile_sigma=2.0)
    expected = volume.octnorm.apply(correction)
    coarse = volume.coarsen(y=2, x=2).mean()
    with pytest.warns(OctnormWarning, match="levels of a pyramid"):
        result = coarse.octnorm.apply(correction)
    assert "agarose_mask" not in result.coords
    np.testing.assert_array_equal(result.scale_factor, correction.scale_factor)
    floor, cap = (correction[name].values[:, None, None] for name in ("background_threshold", "clip_threshold"))
    gain = (correction.scale_factor * correction.zprofile_gain).values[:, None, None]
    by_hand = (np.clip(coarse.values, floor, cap) - floor) / correction.divisor.values * gain
    np.testing.assert_allclose(result.values, np.clip(by_hand, 0, 1), rtol=0, atol=1e-6)
    channels = xr.concat([volume, volume], "channel").transpose("x", "channel", "y", "z")
    both = channels.octnorm.apply(correction)
    assert both.dims == channels.dims
    assert_same_bits(both.isel(channel=1), expected)
    bare = volume.drop_vars(["z", "section", "y", "x"])
    np.testing.assert_array_equal(bare.octnorm.apply(correction).values, expected.values)
    one_channel = channels.octnorm.fit(drift="scale", smooth_sigma=0.5, zprofile_sigma=2.0).isel(channel=0)
    assert_same_bits(volume.octnorm.apply(one_channel), expected)


def test_an_edited_correction_is_applied_as_it_is():
    volume = brain()
    correction = volume.octnorm.fit(drift="scale", divisor_percentile=50.0)
    correction["scale_factor"][3] = 0.5
    plain = volume.octnorm.normalize(drift=None, divisor_percentile=50.0, attach=False)
    edited = volume.octnorm.apply(correction)
    factor = correction.scale_factor.values
    whole = volume.octnorm.fit(drift=None, divisor_percentile=50.0)
    raw = (np.clip(volume.values[3], whole.background_threshold[3].item(), whole.clip_threshold[3].item())
           - whole.background_threshold.values[3]) / whole.divisor.values  # fmt: skip
    np.testing.assert_allclose(edited.values[3], np.clip(raw * 0.5, 0, 1), atol=1e-6)
    np.testing.assert_allclose(edited.values[4], np.clip(plain.values[4] * factor[4], 0, 1), atol=1e-6)


@pytest.mark.parametrize("chunks", [None, {"z": 3}])
def test_a_result_does_not_follow_later_changes_of_the_correction(chunks):
    volume = cut_brain() if chunks is None else cut_brain().chunk(chunks)
    correction = volume.octnorm.fit(drift="joint")
    expected = volume.octnorm.apply(correction).compute()
    result = volume.octnorm.apply(correction)
    for name in ("agarose_mask", "scale_factor"):
        correction[name].values[...] = 0
    assert_same_bits(result.compute(), expected)
    for name in ("agarose_mask", "scale_factor"):
        np.testing.assert_array_equal(result[name].values, expected[name].values)


def shift(da: xr.DataArray, plane: int, by: float) -> xr.DataArray:
    z = da.z.values.copy()
    z[plane] += by
    return da.assign_coords(z=("z", z))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.isel(z=slice(19)), "for 20 planes along z, the volume has 19"),
        (lambda v: shift(v, 7, 0.2), r"plane 7 lies at z = 70\.2 in the volume and at z = 70\.0 in the correction"),
        (
            lambda v: v.assign_coords(section=("z", np.repeat([0, 1, 2, 9], 5))),
            "plane 15 belongs to section 9 in the volume and to 3 in the correction",
        ),
        (lambda v: v.drop_vars("section").expand_dims(section=2), r"for planes along \('z',\), the volume has them"),
        (lambda v: v > 0, "dtype bool"),
        (lambda v: v.rename(z="depth"), "lacks 'z'"),
        (lambda v: v.assign_coords(scale_factor=2.0), "already has 'scale_factor'"),
    ],
)
def test_a_correction_that_does_not_fit_says_how(change, message):
    volume = brain()
    correction = volume.octnorm.fit(drift="scale")
    with pytest.raises(InputError, match=message):
        change(volume).octnorm.apply(correction)


def test_what_counts_as_the_same_planes():
    volume = brain()
    correction = volume.octnorm.fit(drift="scale")
    expected = volume.octnorm.apply(correction)
    assert_same_bits(shift(volume, 7, 0.09).octnorm.apply(correction).assign_coords(z=volume.z), expected)
    moved = volume.assign_coords(z=volume.z + 500, section=("z", list("abcdefghijklmnopqrst")))
    with pytest.raises(InputError, match="2 problems"):
        moved.octnorm.apply(correction)
    result = moved.octnorm.apply(correction, match="position")
    np.testing.assert_array_equal(result.values, expected.values)
    np.testing.assert_array_equal(result.z, volume.z + 500)
    with pytest.raises(InputError, match="match='exact': needs one of 'coordinates', 'position'"):
        volume.octnorm.apply(correction, match="exact")


def test_no_correction_and_a_correction_from_the_future():
    volume = brain()
    with pytest.raises(InputError, match="the correction is a Dataset without a record that this version can read"):
        volume.octnorm.apply(xr.Dataset())
    with pytest.raises(InputError, match="the correction is a DataArray"):
        volume.octnorm.apply(volume)
    correction = volume.octnorm.fit(drift="scale")
    record = json.loads(correction.attrs["xoctnorm_provenance"])
    record["steps"][-1]["corrections"][0]["name"] = "deconvolution"
    correction.attrs["xoctnorm_provenance"] = json.dumps(record)
    with pytest.raises(InputError, match="deconvolution is unknown to this version"):
        volume.octnorm.apply(correction)
    channels = xr.concat([volume, volume], "channel")
    with pytest.raises(InputError, match=r"fitted for 2 along channel.*correction.isel\(channel=…\)"):
        volume.octnorm.apply(channels.octnorm.fit(drift="scale"))


# What the corrections do.


def uniform(gains: list[float], shape=(40, 40)) -> xr.DataArray:
    """Tissue of 0.2…0.6 in agarose of 0.1, every plane times its gain."""
    image = np.full(shape, 0.1)
    image[8:32, 8:32] = np.linspace(0.2, 0.6, 24)
    values = image * np.array(gains)[:, None, None]
    return xr.DataArray(values, dims=("z", "y", "x"), coords={"section": ("z", np.arange(len(gains)) // 2)})


def test_background_and_divisor_in_closed_form():
    gains = [1.0, 0.5, 2.0, 1.0]
    volume = uniform(gains)
    result = volume.octnorm.normalize(drift=None, percentile_max=100)
    np.testing.assert_allclose(result.background_threshold, 0.1 * np.array(gains), rtol=1e-6)
    np.testing.assert_allclose(result.clip_threshold, 0.6 * np.array(gains), rtol=1e-6)
    np.testing.assert_allclose(result.divisor, 0.5 * 2, rtol=1e-6)
    np.testing.assert_allclose(result[:, 20, 8:32], np.outer(gains, np.linspace(0.1, 0.5, 24)), atol=1e-6)
    halved = volume.octnorm.normalize(drift=None, percentile_max=100, divisor_percentile=50)
    np.testing.assert_allclose(halved.divisor, 0.5, rtol=1e-6)
    np.testing.assert_allclose(halved.max(["y", "x"]), [1, 0.5, 1, 1], atol=1e-6)


def test_a_specular_plane_squeezes_the_tissue_unless_the_divisor_is_a_percentile():
    phantom = make_phantom(shape=(64, 80), n_sections=4, planes_per_section=5, specular_planes=[7], looks=None)
    volume, tissue = phantom.volume, phantom.tissue_mask
    default = volume.octnorm.normalize(drift=None).where(tissue).median()
    robust = volume.octnorm.normalize(drift=None, divisor_percentile=50.0).where(tissue).median()
    assert default < 0.1 < 0.3 < robust


def test_scaling_recovers_known_gains_up_to_one_constant():
    gains = np.repeat([1.0, 0.7, 1.4, 1.1], 2)
    factors = uniform(gains.tolist()).octnorm.scale_factors(smooth_sigma=0, min_scale=0.01, max_scale=100)
    product = factors.values * gains
    np.testing.assert_allclose(product, product[0], rtol=1e-5)
    clamped = uniform(gains.tolist()).octnorm.scale_factors(smooth_sigma=0, min_scale=0.9, max_scale=1.1)
    np.testing.assert_array_equal(clamped.values, np.clip(factors.values, 0.9, 1.1).astype("f4"))


@pytest.mark.parametrize("drift", ["scale", "histogram"])
def test_strength_blends_with_the_input(drift):
    volume = uniform([1.0, 1.0, 0.6, 0.6])
    options = {"smooth_sigma": 0.0} if drift == "scale" else {}
    full = volume.octnorm.normalize(drift=drift, **options)
    none = volume.octnorm.normalize(drift=None)
    assert abs(full - none).max() > 0.05
    assert_same_bits(volume.octnorm.normalize(drift=drift, strength=0, **options), none)
    assert_same_bits(volume.octnorm.normalize(drift=drift, strength=1, **options), full)
    if drift == "histogram":
        part = volume.octnorm.normalize(drift=drift, strength=0.3, **options)
        np.testing.assert_allclose(part, 0.7 * none + 0.3 * full, atol=1e-6)
    else:
        part = volume.octnorm.normalize(drift=drift, strength=0.3, **options)
        whole = volume.octnorm.scale_factors(smooth_sigma=0)
        np.testing.assert_allclose(
            volume.octnorm.scale_factors(smooth_sigma=0, strength=0.3), 0.7 + 0.3 * whole, rtol=1e-6
        )
        below = full < 1
        np.testing.assert_allclose(part.where(below), (0.7 * none + 0.3 * full).where(below), atol=1e-6)


def test_matched_sections_have_equal_histograms():
    volume = uniform([1.0, 1.0, 0.6, 0.6, 0.8, 0.8])
    matched = volume.octnorm.normalize(drift="histogram")
    quantiles = [np.quantile(part.values[part.values > 0], [0.2, 0.5, 0.8]) for _, part in matched.groupby("section")]
    np.testing.assert_allclose(quantiles, np.broadcast_to(quantiles[0], (3, 3)), atol=0.01)


def test_zprofile_brings_means_to_their_smooth_trend():
    jitter = np.random.default_rng(0).normal(1, 0.03, 20)
    volume = uniform(jitter.tolist())
    mask = np.zeros((40, 40), bool)
    mask[8:32, 8:32] = True
    agarose = xr.DataArray(~mask, dims=("y", "x"))
    normalized = volume.octnorm.normalize(drift=None, agarose_mask=agarose)
    smooth = normalized.octnorm.smooth_zprofile(sigma=3.0)
    tissue = normalized.where(normalized.octnorm.tissue_mask()).mean(["y", "x"])
    after = smooth.where(normalized.octnorm.tissue_mask()).mean(["y", "x"])
    np.testing.assert_allclose(after, gaussian_filter1d(tissue.values, 3.0), rtol=1e-5)
    assert after.std() < 0.4 * tissue.std()


# What has too little data is left alone, and said.


def test_a_plane_without_agarose_data_is_left_alone():
    volume = brain()
    mask = volume.octnorm.agarose_mask()
    volume = volume.where(~((volume.z == 30) & mask.reset_coords(drop=True)))
    with pytest.warns(OctnormWarning, match="plane 3: fewer than 100 agarose pixels") as caught:
        result = volume.octnorm.normalize(drift=None, agarose_mask=mask)
    assert caught[0].filename == __file__
    assert np.isnan(result.background_threshold[3])
    cap, divisor = result.clip_threshold.values[3], result.divisor.values
    expected = np.clip(np.clip(volume.values[3], 0, cap) / divisor, 0, 1)
    np.testing.assert_allclose(result.values[3], expected, rtol=1e-6)
    assert json.loads(result.attrs["xoctnorm_provenance"])["steps"][0]["warnings"] == [str(caught[0].message)]


def test_nan_is_no_data():
    volume = brain()
    holes = volume.copy()
    holes[:, :, :4] = np.nan
    holes[6] = np.nan
    mask = volume.octnorm.agarose_mask()
    for options in (OPTIONS["none"], OPTIONS["scale"], {"drift": "histogram"}):
        result = holes.octnorm.normalize(agarose_mask=mask, **options)
        np.testing.assert_array_equal(np.isnan(result), np.isnan(holes))
        cut = volume.isel(x=slice(4, None)).drop_isel(z=6)
        expected = cut.octnorm.normalize(agarose_mask=mask.isel(x=slice(4, None)), **options)
        got = result.isel(x=slice(4, None)).drop_isel(z=6)
        np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)
        for name in ("background_threshold", "clip_threshold", "divisor"):
            np.testing.assert_array_equal(got[name], expected[name])
    with pytest.warns(OctnormWarning, match="plane 6: fewer than 100 voxels of tissue"):
        smooth = holes.octnorm.normalize(drift=None, agarose_mask=mask, zprofile_sigma=1.0)
    assert np.isnan(smooth[6]).all()
    assert smooth.zprofile_gain[6] == 1


def test_negative_voxels_are_values():
    volume = brain() - 0.15
    assert volume.min() < 0
    result = volume.octnorm.normalize(drift=None, agarose_mask=brain().octnorm.agarose_mask())
    assert (result.background_threshold < 0).any()
    np.testing.assert_allclose(result, brain().octnorm.normalize(drift=None), atol=1e-6)


def test_constant_and_empty_planes_become_zero():
    volume = brain()
    volume[4] = 0
    result = volume.octnorm.normalize(drift=None)
    assert (result[4] == 0).all()
    volume[5] = 3.0
    with pytest.warns(OctnormWarning, match="plane 5: percentile 99.9 is no brighter than the agarose median"):
        result = volume.octnorm.normalize(drift=None)
    assert (result[5] == 0).all()


def test_a_section_with_little_data_takes_the_factor_of_its_neighbours():
    volume = brain()
    volume[10:15] = 0
    with pytest.warns(OctnormWarning, match="section 2: fewer than 500 voxels above 0"):
        correction = volume.octnorm.fit(drift="scale", smooth_sigma=1.0)
    assert correction.metric.values[2] == 0
    assert correction.smoothed_metric.values[2] > 0
    with pytest.warns(OctnormWarning, match="section 2: fewer than 500 voxels between"):
        matched = volume.octnorm.normalize(drift="histogram")
    assert (matched[10:15] == 0).all()


def test_one_plane_one_section_one_voxel_wide():
    volume = brain()
    one_plane = volume.isel(z=[3])
    result = one_plane.octnorm.normalize(drift="scale", zprofile_sigma=0)
    assert float(result.max()) == 1
    assert result.scale_factor.item() == 1
    with pytest.warns(OctnormWarning, match="fewer than 3 planes"):
        one_plane.octnorm.normalize(drift="scale", zprofile_sigma=1.0)
    thin = brain(shape=(600, 3)).isel(x=[1]).transpose("x", "y", "z")
    result = thin.octnorm.normalize(drift=None, percentile_max=100)
    assert float(result.max()) == 1
    assert result.dims == ("x", "y", "z")


def test_labels_that_do_not_count_are_named_in_a_warning():
    volume = brain().assign_coords(section=("z", np.repeat([0, 10, 20, 30], 5)))
    with pytest.warns(OctnormWarning, match="do not count sections"):
        volume.octnorm.normalize(drift="scale")
    volume.octnorm.normalize(drift="histogram")


def test_normalizing_twice_warns():
    once = brain().octnorm.normalize(drift="scale")
    with pytest.warns(OctnormWarning, match="already normalized"):
        twice = once.octnorm.normalize(drift=None)
    assert len(json.loads(twice.attrs["xoctnorm_provenance"])["steps"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_bins": 64, "max_slope": 3.0}, "n_bins=64, max_slope=3.0 has no effect with drift='joint'"),
        ({"reference_tissue": "dark"}, "reference_tissue='dark' has no effect .* flatten_depth=False"),
        ({"drift": "scale", "exclude": [1], "floor": None}, r"exclude=\(1,\) has no effect with drift='scale'"),
    ],
)
def test_parameters_without_effect_warn_with_the_model_of_tissue(options, message):
    with pytest.warns(OctnormWarning, match=message):
        result = cut_brain().octnorm.normalize(**options)
    assert_same_bits(result, cut_brain().octnorm.normalize(drift=options.get("drift", "joint")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_scale": 3.0}, "max_scale=3.0 has no effect with method='joint'"),
        ({"method": "scale", "noise_floor": 0.1, "agarose_mask": "border"}, "noise_floor=0.1, agarose_mask has no"),
    ],
)
def test_a_parameter_without_effect_on_correct_drift_warns(options, message):
    with pytest.warns(OctnormWarning, match=message):
        cut_brain().octnorm.correct_drift(**options)


def test_a_parameter_without_effect_warns():
    with pytest.warns(OctnormWarning, match=r"n_bins=64, min_tissue_voxels=5 has no effect with drift='scale'"):
        brain().octnorm.normalize(drift="scale", n_bins=64, min_tissue_voxels=5)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.drop_vars("scale_factor"), "lacks 'scale_factor', which otsu_mask, background, scale needs"),
        (lambda c: c.drop_vars(["divisor", "section_index"]), "lacks 'section_index', 'divisor'"),
        (lambda c: c.assign(scale_factor=("section_label", np.ones(4))), r"scale_factor of the correction has dims"),
        (lambda c: c.assign(divisor=0.0), "divisor of the correction has values that are not finite and above 0"),
        (lambda c: c.assign(scale_factor=c.scale_factor * np.nan), "scale_factor of the correction has values that"),
        (lambda c: c.isel(section_label=[0, 1]), "section_index of the correction has rows 0 to 3, its tables have 2"),
        (lambda c: c.rename(z="plane"), r"dims .*'plane'.* are needed"),
        (lambda c: c.assign_attrs(xoctnorm_provenance="{"), "without a record that this version can read"),
        (
            lambda c: c.assign_attrs(xoctnorm_provenance='{"schema_version": 99, "steps": []}'),
            "its schema version is 99, and 1 is known here",
        ),
    ],
)
def test_a_damaged_correction_says_how(damage, message):
    correction = brain().octnorm.fit(drift="scale")
    with pytest.raises(InputError, match=message):
        brain().octnorm.apply(damage(correction))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda c: c.drop_vars("noise_floor"),
            "lacks 'noise_floor', which border_mask, linearize, tissue_drift, unit_sc",
        ),
        (lambda c: c.drop_vars("depth_gain"), "lacks 'depth_gain'"),
        (lambda c: c.drop_vars("intensity_scale"), "lacks 'intensity_scale'"),
        (lambda c: c.drop_vars("zero_level"), "lacks 'zero_level'"),
        (
            lambda c: c.assign(noise_floor=np.nan),
            "noise_floor of the correction has values that are not finite: correct",
        ),
        (lambda c: c.assign(zero_level=np.inf), "zero_level of the correction has values that are not finite"),
        (
            lambda c: c.assign(depth_gain=0 * c.depth_gain),
            "depth_gain of the correction has values that are not finite",
        ),
        (lambda c: c.assign(depth_gain=c.depth_gain[0]), r"depth_gain of the correction has dims \(\): \('z',\) are"),
        (
            lambda c: c.assign(noise_floor=0.01 * c.section_gain),
            r"noise_floor of the correction has dims \('section_label',\): one number, or one per plane, is needed",
        ),
        (
            lambda c: c.assign(intensity_scale=7),
            r"intensity_scale of the correction is 7: 0 \(linear\), 1 .* are known",
        ),
    ],
)
def test_a_damaged_correction_of_tissue_says_how(damage, message):
    with pytest.raises(InputError, match=message):
        cut_brain().octnorm.apply(damage(fit_of_tissue()))


def test_an_edited_correction_of_tissue_is_applied_as_it_is():
    volume, correction = cut_brain(), fit_of_tissue().copy(deep=True)
    correction["scale_factor"][3] = 0.5
    correction["depth_gain"][4] = 2.0
    correction["noise_floor"] = 0.02 + 0.001 * xr.DataArray(np.arange(30.0), dims="z")
    floor, factor, gain = (
        correction[name].values[:, None, None] for name in ("noise_floor", "scale_factor", "depth_gain")
    )
    expected = np.clip((volume.values - floor) * factor * gain / correction.divisor.values, 0, 1)
    np.testing.assert_allclose(volume.octnorm.apply(correction).values, expected, atol=1e-6)


@cache
def fit_of_tissue() -> xr.Dataset:
    return cut_brain().octnorm.fit(flatten_depth=True)


def test_channels_are_matched_by_their_coordinate():
    channels = xr.concat([brain(), 2 * brain(seed=3)], "channel").assign_coords(channel=["a", "b"])
    correction = channels.octnorm.fit(drift="scale")
    swapped = channels.isel(channel=[1, 0])
    with pytest.raises(InputError, match=r"channel is \['b', 'a'\] in the volume and \['a', 'b'\] in the correction"):
        swapped.octnorm.apply(correction)
    expected = channels.octnorm.apply(correction).isel(channel=[1, 0])
    assert_same_bits(swapped.octnorm.apply(correction.sel(channel=swapped.channel)), expected)


def test_the_mask_of_another_field_of_view_is_not_attached():
    volume = brain(shape=(48, 30))
    other = volume.isel(y=slice(24, 48)).octnorm.apply(volume.isel(y=slice(0, 24)).octnorm.fit(drift="scale"))
    assert "agarose_mask" not in other.coords
    assert "divisor" in other.coords


def test_each_plane_a_section_where_sections_are_a_dimension():
    volume = brain(shape=(40, 50))
    parts = [part.drop_vars("section").assign_coords(z=np.arange(5.0)) for _, part in volume.groupby("section")]
    cube = xr.concat(parts, "section")
    options = {"drift": "scale", "smooth_sigma": 0.5, "section": "z"}
    expected = volume.octnorm.normalize(**options)
    for held in (cube, cube.chunk(z=2), cube.assign_coords(section=list("abcd"))):
        result = held.octnorm.normalize(**options)
        np.testing.assert_array_equal(result.values.reshape(volume.shape), expected.values)
        assert result.divisor.dims == ()
    correction = cube.octnorm.fit(**options)
    assert_same_bits(cube.octnorm.apply(correction), cube.octnorm.normalize(**options))


def test_normalizing_again_leaves_nothing_of_the_first_time():
    once = brain().octnorm.normalize(drift="scale")
    with pytest.warns(OctnormWarning, match="already normalized"):
        again = once.octnorm.normalize(drift=None, agarose_mask=once.agarose_mask.values)
    assert "scale_factor" not in again.coords
    assert "otsu_threshold" not in again.coords
    correction = brain().octnorm.fit(drift="scale")
    with pytest.warns(OctnormWarning, match="already normalized"):
        applied = once.octnorm.apply(correction)
    assert "already" in json.loads(applied.attrs["xoctnorm_provenance"])["steps"][-1]["apply"]["warnings"][0]


def test_an_edited_correction_is_recorded_as_edited(tmp_path):
    volume = brain()
    correction = volume.octnorm.fit(drift="scale")

    def edited(ds):
        return json.loads(volume.octnorm.apply(ds).attrs["xoctnorm_provenance"])["steps"][0]["apply"]["edited"]

    assert not edited(correction)
    assert not edited(reopened(correction, tmp_path / "correction.nc"))
    correction["scale_factor"][0] = 1.01
    assert edited(correction)


def test_masks_and_steps_do_not_load_the_volume_of_the_user(tmp_path):
    brain().to_netcdf(tmp_path / "volume.nc")
    with xr.open_dataarray(tmp_path / "volume.nc") as stored:
        tissue = stored.octnorm.tissue_mask()
        smooth = stored.octnorm.smooth_zprofile(mask=tissue)
        applied = stored.octnorm.apply(brain().octnorm.fit(drift="scale"))
        assert not stored.variable._in_memory
    assert_same_bits(tissue, brain().octnorm.tissue_mask())
    assert_same_bits(smooth, brain().octnorm.smooth_zprofile(mask=tissue))
    assert_same_bits(applied, brain().octnorm.normalize(drift="scale"))


def test_sections_without_a_metric_anywhere_near_are_not_scaled():
    volume = brain()
    volume[5:10] = np.nan
    with pytest.warns(OctnormWarning, match="section 1: fewer than 500 voxels above 0, and none near it has more"):
        result = volume.octnorm.normalize(drift="scale", smooth_sigma=0.0)
    assert (result.scale_factor[5:10] == 1).all()
