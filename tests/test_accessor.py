"""The labelled interface: the same bits however a volume is held, laziness, chains, labels."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import HOLDINGS, NUMPY_ROUNDS_AS_WE_DO, assert_same_bits, bits, brain, cut_brain
from hypothesis import given, settings
from hypothesis import strategies as st

from xoctnorm import OctnormWarning, normalization
from xoctnorm.metadata import ATTACHED
from xoctnorm.phantom import make_phantom

METHODS = {
    "drift none": lambda da: da.octnorm.normalize(drift=None),
    "drift scale": lambda da: da.octnorm.normalize(drift="scale", smooth_sigma=0.5),
    "drift histogram, z-profile": lambda da: da.octnorm.normalize(drift="histogram", zprofile_sigma=2.0),
    "strength": lambda da: da.octnorm.normalize(drift="histogram", strength=0.4, divisor_percentile=50.0),
    "correct_drift": lambda da: da.octnorm.correct_drift(method="scale", smooth_sigma=0.5),
    "match_histograms": lambda da: (da / 2).octnorm.match_histograms(n_bins=64, tissue_threshold=0.1),
    "smooth_zprofile": lambda da: da.octnorm.smooth_zprofile(sigma=1.5),
    "smooth_zprofile in a mask": lambda da: da.octnorm.smooth_zprofile(sigma=1.5, mask=da > 0.3),
    "tissue_mask": lambda da: da.octnorm.tissue_mask(),
}
OF_TISSUE = {  # on a volume from which the model of tissue can tell everything
    "drift joint, flat": lambda da: da.octnorm.normalize(flatten_depth=True, floor="agarose", zprofile_sigma=2.0),
    "drift agarose": lambda da: da.octnorm.normalize(drift="agarose", noise_floor=0.01, strength=0.7),
    "correct_drift, flatten_depth": lambda da: da.octnorm.correct_drift().octnorm.flatten_depth(),
}


@cache
def held_as_numpy(method):
    return OF_TISSUE[method](cut_brain()) if method in OF_TISSUE else METHODS[method](brain())


@pytest.mark.parametrize("method", [*METHODS, *OF_TISSUE])
@pytest.mark.parametrize("held", HOLDINGS)
def test_same_bits_however_a_volume_is_held(method, held):
    given = HOLDINGS[held](cut_brain() if method in OF_TISSUE else brain())
    before = given.copy(deep=True)
    result = (METHODS | OF_TISSUE)[method](given)
    expected = held_as_numpy(method)
    assert result.dims == given.dims
    assert (result.chunks is None) == (given.chunks is None)
    assert_same_bits(result, expected)
    for name in expected.coords:
        np.testing.assert_array_equal(
            result[name].transpose(*expected[name].dims).values, expected[name].values, strict=True
        )
    xr.testing.assert_identical(given, before)
    assert given.encoding == before.encoding


@pytest.mark.parametrize("dtype", ["u1", "u2", ">i2", "f2", "f4", "f8"])
@pytest.mark.parametrize("percentile_max", [99.9, 90.0])
def test_without_drift_it_is_the_reference_to_the_bit(dtype, percentile_max):
    volume = (100 * brain(seed=4)).astype(dtype)
    mask, threshold = normalization.get_agarose_mask(volume.values)
    expected, floors = normalization.normalize_volume(volume.values, mask, percentile_max)
    result = volume.octnorm.normalize(drift=None, percentile_max=percentile_max)
    np.testing.assert_array_equal(result.values, expected, strict=True)
    np.testing.assert_array_equal(result.background_threshold.values, floors, strict=True)
    np.testing.assert_array_equal(result.agarose_mask.values, mask)
    assert float(result.otsu_threshold) == threshold
    caps = np.percentile(volume.values.astype("f4"), percentile_max, axis=(1, 2)).astype("f4")
    np.testing.assert_allclose(result.clip_threshold.values, caps, rtol=0 if NUMPY_ROUNDS_AS_WE_DO else 1e-4)
    assert float(result.divisor) == (result.clip_threshold.values - floors).max()


def test_drift_is_that_of_the_five_functions(volume):
    volume = volume.drop_vars("section").octnorm.assign_sections(n=4)
    plain = volume.octnorm.normalize(drift=None).values
    factors, metric, smoothed, starts = normalization.compute_scale_factors(plain, 4, 1.0, 80.0, 0.5, 2.0)
    correction = volume.octnorm.fit(drift="scale", smooth_sigma=1.0)
    np.testing.assert_array_equal(correction.scale_factor.values, factors, strict=True)
    np.testing.assert_array_equal(correction.metric.values, metric, strict=True)
    np.testing.assert_array_equal(correction.smoothed_metric.values, smoothed, strict=True)
    assert correction.first_plane.values.tolist() == starts
    result = volume.octnorm.normalize(drift="scale", smooth_sigma=1.0)
    np.testing.assert_array_equal(result.values, np.clip(plain * factors[:, None, None], 0, 1))
    np.testing.assert_array_equal(
        volume.octnorm.normalize(drift="histogram").values, normalization.apply_histogram_matching(plain, 4, 512)
    )


def test_defaults_of_scaling_are_those_of_the_reference_pipeline(volume):
    step = volume.octnorm.normalize(
        drift="scale", smooth_sigma=10, percentile=80, min_scale=0.5, max_scale=2, percentile_max=99.9,
        smoothing_sigma=1, divisor_percentile=100, strength=1, zprofile_sigma=0, n_bins=512, tissue_threshold=0,
    )  # fmt: skip
    assert_same_bits(volume.octnorm.normalize(drift="scale"), step)


def test_the_default_is_joint():
    volume = cut_brain()
    assert_same_bits(volume.octnorm.normalize(), volume.octnorm.normalize(drift="joint", flatten_depth=False))
    assert_same_bits(volume.octnorm.correct_drift(), volume.octnorm.correct_drift(method="joint"))
    assert "depth_gain" not in volume.octnorm.fit()


def test_drift_and_flattening_chain_to_the_whole_job():
    volume = make_phantom(n_sections=6, planes_per_section=5, seed=1)["volume"].assign_attrs(units="counts")
    whole = volume.octnorm.normalize(flatten_depth=True)
    drift = volume.octnorm.correct_drift()
    chain = drift.octnorm.flatten_depth()
    np.testing.assert_array_equal(drift.scale_factor, whole.scale_factor)
    np.testing.assert_array_equal(chain.noise_floor, whole.noise_floor)  # it is taken off once
    np.testing.assert_allclose(chain.depth_gain, whole.depth_gain, rtol=0.01)
    np.testing.assert_array_equal(drift.agarose_mask, whole.agarose_mask)
    expected = (volume - whole.noise_floor) * whole.scale_factor
    np.testing.assert_allclose(drift.values, expected.transpose("z", "y", "x"), rtol=1e-5, atol=1e-7)
    expected = expected * whole.depth_gain / whole.divisor
    np.testing.assert_allclose(whole.values, expected.transpose("z", "y", "x").clip(0, 1), rtol=1e-5, atol=1e-6)
    assert drift.attrs["units"] == "counts"
    assert whole.attrs["units"] == "1"
    with pytest.warns(OctnormWarning, match="noise_floor, intensity has no effect: an earlier step took"):
        again = drift.octnorm.flatten_depth(noise_floor=0.01, intensity="db")
    assert_same_bits(again, chain)


@pytest.mark.parametrize("drift", ["scale", "histogram"])
def test_single_steps_chain_to_the_whole_job(volume, drift):
    chain = volume.octnorm.normalize(drift=None)
    if drift == "scale":
        chain = chain.octnorm.correct_drift(method="scale", smooth_sigma=0.5)
        whole = volume.octnorm.normalize(drift="scale", smooth_sigma=0.5, zprofile_sigma=2.0)
    else:
        chain = chain.octnorm.match_histograms()
        whole = volume.octnorm.normalize(drift="histogram", zprofile_sigma=2.0)
    chain = chain.octnorm.smooth_zprofile(sigma=2.0)
    if drift == "scale":
        assert_same_bits(chain.clip(0, 1), whole)
    else:  # which finds the means of planes in the read before: their gains may differ in the last place of float32
        np.testing.assert_allclose(chain.zprofile_gain, whole.zprofile_gain, rtol=1.2e-7)
        np.testing.assert_allclose(chain.clip(0, 1), whole, rtol=2.4e-7)
    assert set(ATTACHED) & set(chain.coords) == set(ATTACHED) & set(whole.coords)
    assert chain.attrs["history"].count("\n") == 2


def test_a_mask_of_the_zprofile_is_that_of_the_five_functions(volume):
    mask = volume > 0.3
    expected = normalization.apply_zprofile_smoothing(volume.values, mask.values, 2.0)
    for m in (mask, mask.transpose("x", "y", "z"), mask.values, mask.chunk(z=2)):
        result = volume.octnorm.smooth_zprofile(sigma=2.0, mask=m)
        np.testing.assert_array_equal(result.values, expected, strict=True)


def test_a_given_mask_is_used_however_it_is_given(volume):
    mask = (volume.mean("z") < 0.3).reset_coords(drop=True)
    results = [
        volume.octnorm.normalize(drift=None, agarose_mask=m)
        for m in (mask, mask.T, mask.values, mask.drop_vars(["y", "x"]), mask.chunk(y=4))
    ]
    expected, _ = normalization.normalize_volume(volume.values, mask.values)
    for result in results:
        np.testing.assert_array_equal(result.values, expected)
        np.testing.assert_array_equal(result.agarose_mask.values, mask.values)
        assert "otsu_threshold" not in result.coords


def test_tissue_is_neither_agarose_nor_empty(volume):
    volume = volume.copy()
    volume[0, 12, 15] = 0
    volume[1, 12, 15] = np.nan
    volume[2, 12, 15] = -1
    agarose = volume.octnorm.agarose_mask()
    tissue = volume.octnorm.tissue_mask()
    expected = ~np.broadcast_to(agarose.values, volume.shape)
    expected = expected & (volume.values != 0) & ~np.isnan(volume.values)
    np.testing.assert_array_equal(tissue.values, expected)
    assert not tissue.values[:2, 12, 15].any()
    assert tissue.values[2, 12, 15]
    given = volume.octnorm.tissue_mask(agarose_mask=np.zeros(agarose.shape, bool))
    np.testing.assert_array_equal(given.values, (volume != 0) & volume.notnull())
    assert volume.octnorm.normalize(drift="scale").octnorm.tissue_mask().name == "tissue_mask"


def test_chunked_results_are_lazy_after_the_fit(volume, lazy):
    chunked = volume.chunk(z=3, y=10)
    correction = chunked.octnorm.fit(drift="histogram", zprofile_sigma=2.0)
    with lazy():
        result = chunked.octnorm.apply(correction)
        _ = repr(result), result.attrs, result.background_threshold.values
    assert result.chunks == chunked.chunks
    cut = cut_brain().chunk(z=7, y=30)
    of_tissue = cut.octnorm.fit(flatten_depth=True)
    with lazy():
        flat = cut.octnorm.apply(of_tissue)
        _ = repr(flat), flat.depth_gain.values, flat.noise_floor.values
    assert flat.chunks == cut.chunks
    assert_same_bits(flat, cut_brain().octnorm.normalize(flatten_depth=True))
    tissue = chunked.octnorm.tissue_mask(agarose_mask=correction.agarose_mask)
    assert tissue.chunks is not None


def test_a_volume_in_a_file_is_not_loaded_whole(volume, tmp_path):
    volume.to_netcdf(tmp_path / "volume.nc")
    with xr.open_dataarray(tmp_path / "volume.nc", cache=False) as stored:
        result = stored.octnorm.normalize(drift="scale", zprofile_sigma=1.0)
        assert not stored.variable._in_memory
        assert_same_bits(result, volume.octnorm.normalize(drift="scale", zprofile_sigma=1.0))
        assert result.encoding == {}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_chunks_never_change_a_bit(data):
    volume = brain(n_sections=3, planes=3, shape=(18, 20))

    def cut(size):
        edges = data.draw(st.sets(st.integers(1, size - 1), max_size=5))
        return tuple(np.diff([0, *sorted(edges), size]).tolist())

    dims = data.draw(st.permutations(["z", "y", "x"]))
    chunked = volume.transpose(*dims).chunk({dim: cut(volume.sizes[dim]) for dim in dims})
    drifts = [{"drift": None}, {"drift": "scale"}, {"drift": "histogram", "zprofile_sigma": 1.5}]
    options = data.draw(st.sampled_from(drifts))
    one, other = chunked.octnorm.normalize(**options), volume.octnorm.normalize(**options)
    assert_same_bits(one, other)
    digests = [steps(r)[-1]["fitted_on"]["digest"] for r in (one, other)]
    assert digests[0] == digests[1]


def steps(da):
    import json

    return json.loads(da.attrs["xoctnorm_provenance"])["steps"]


# Sections as a coordinate, a dimension, an index level.


def as_dimension(volume):
    n = len(volume.octnorm.sections)
    index = pd.MultiIndex.from_product(
        [range(n), volume.z.values[: volume.sizes["z"] // n]], names=["section", "depth"]
    )
    stacked = volume.drop_vars(["z", "section"]).assign_coords(xr.Coordinates.from_pandas_multiindex(index, "z"))
    return stacked.unstack("z").rename(depth="z")


def test_sections_as_a_dimension_give_the_same_bits(volume):
    assert set(as_dimension(volume).dims) == {"section", "z", "y", "x"}
    of_tissue = {"drift": "joint", "flatten_depth": True}
    for options in ({"drift": "scale"}, {"drift": "histogram", "zprofile_sigma": 2.0}, of_tissue):
        volume = cut_brain() if options == of_tissue else volume
        cube = as_dimension(volume)
        expected = volume.octnorm.normalize(**options)
        for held in (cube, cube.transpose("z", "section", "x", "y"), cube.chunk(section=1, z=2, y=7)):
            result = held.octnorm.normalize(**options)
            assert result.dims == held.dims
            flat = result.transpose("section", "z", "y", "x").values.reshape(volume.shape)
            np.testing.assert_array_equal(flat, expected.values)
            for name in set(ATTACHED) & set(expected.coords):
                got = result[name]
                if "z" in got.dims:
                    assert {"section", "z"} <= set(got.dims) <= {"section", *expected[name].dims}
                    got = got.transpose("section", *expected[name].dims)
                np.testing.assert_array_equal(got.values.reshape(expected[name].shape), expected[name].values)


def as_index_level(volume):
    n = len(volume.octnorm.sections)
    index = pd.MultiIndex.from_arrays([volume.section.values, np.tile(np.arange(5), n)], names=["section", "plane"])
    return volume.drop_vars(["z", "section"]).assign_coords(xr.Coordinates.from_pandas_multiindex(index, "z"))


def test_the_model_of_tissue_with_sections_as_an_index_level():
    expected = cut_brain().octnorm.normalize(flatten_depth=True)
    result = as_index_level(cut_brain()).octnorm.normalize(flatten_depth=True)
    assert_same_bits(result, expected)
    assert isinstance(result.indexes["z"], pd.MultiIndex)
    np.testing.assert_array_equal(result.sel(section=2).depth_gain, expected.depth_gain[10:15])


def test_sections_as_an_index_level(volume):
    indexed = as_index_level(volume)
    for held in (indexed, indexed.chunk(z=4)):
        result = held.octnorm.normalize(drift="scale", smooth_sigma=0.5)
        assert_same_bits(result, volume.octnorm.normalize(drift="scale", smooth_sigma=0.5))
        assert isinstance(result.indexes["z"], pd.MultiIndex)
        np.testing.assert_array_equal(result.sel(section=2).scale_factor, result.scale_factor[10:15])


@pytest.mark.parametrize(
    "labels", [list("wxyz"), [5, 6, 7, 8], [8, 7, 6, 5], np.arange(4).astype("M8[D]").astype("M8[ns]")]
)
def test_labels_that_follow_each_other_are_alike(volume, labels):
    renamed = volume.assign_coords(section=("z", np.repeat(np.array(labels), 5)))
    assert_same_bits(
        renamed.octnorm.normalize(drift="scale", smooth_sigma=1.0),
        volume.octnorm.normalize(drift="scale", smooth_sigma=1.0),
    )
    assert renamed.octnorm.fit(drift="scale").section_label.values.tolist() == np.array(labels).tolist()


def test_uneven_sections_and_another_coordinate():
    uneven = brain(shape=(40, 50)).isel(z=[0, 1, 5, 6, 7, 8, 9, 10, 15, 16, 17])
    sizes = np.bincount(uneven.section)
    factors = uneven.octnorm.scale_factors(smooth_sigma=0, min_scale=0.01, max_scale=100)
    means = [np.percentile(uneven.values[uneven.section == s], 80) for s in range(4)]
    expected = np.repeat(np.median(means) / means, sizes)
    np.testing.assert_allclose(factors.values, expected, rtol=1e-6)
    assert factors.dims == ("z",)
    np.testing.assert_array_equal(factors.z, uneven.z)
    renamed = uneven.rename(section="slab")
    assert_same_bits(renamed.octnorm.normalize(drift="scale", section="slab"), uneven.octnorm.normalize(drift="scale"))


def test_a_missing_section_is_a_gap_for_smoothing(volume):
    """With a gap the neighbours weigh as little as they would with an unmeasured section between them."""
    options = {"smooth_sigma": 0.8, "min_scale": 0.01, "max_scale": 100}
    close = volume.octnorm.fit(drift="scale", **options)
    apart = volume.assign_coords(section=("z", np.repeat([0, 1, 3, 4], 5))).octnorm.fit(drift="scale", **options)
    np.testing.assert_array_equal(close.metric, apart.metric)
    weights = np.exp(-0.5 * (np.arange(-3, 4) / 0.8) ** 2)
    series = np.array([*close.metric.values[:2], 0, *close.metric.values[2:]])
    presence = np.array([1.0, 1, 0, 1, 1])
    padded, there = (np.pad(v, 3, mode="symmetric") for v in (series, presence))
    expected = [padded[i : i + 7] @ weights / (there[i : i + 7] @ weights) for i in (0, 1, 3, 4)]
    np.testing.assert_allclose(apart.smoothed_metric, expected, rtol=1e-12)
    assert not np.allclose(apart.smoothed_metric, close.smoothed_metric)


def test_every_plane_a_section(volume):
    result = volume.octnorm.scale_factors(section="z", smooth_sigma=0, min_scale=0.01, max_scale=100)
    percentiles = np.array([np.percentile(p, 80) for p in volume.values])
    np.testing.assert_allclose(result.values, np.median(percentiles) / percentiles, rtol=1e-6)


@pytest.mark.parametrize("drift", ["scale", "histogram"])
def test_without_sections_nothing_is_corrected_between_them(volume, drift):
    bare = volume.drop_vars("section")
    with pytest.warns(OctnormWarning, match=r"no coordinate 'section'.*assign_sections"):
        result = bare.octnorm.normalize(drift=drift)
    assert_same_bits(result, bare.octnorm.normalize(drift=None))
    if drift == "scale":
        assert (result.scale_factor == 1).all()


def test_further_dims_are_independent_volumes(volume):
    other = brain(seed=9).assign_coords(section=volume.section)
    both = xr.concat([volume, other], "channel").assign_coords(channel=["a", "b"])
    times = xr.concat([both, both * 2], "time")
    for options in ({"drift": "scale"}, {"drift": "histogram", "zprofile_sigma": 2.0}):
        parts = [one.octnorm.normalize(**options) for one in (volume, other)]
        for held in (both, both.transpose("y", "channel", "x", "z"), both.chunk(channel=1, z=4)):
            result = held.octnorm.normalize(**options)
            for index, part in enumerate(parts):
                assert_same_bits(result.isel(channel=index), part)
                assert result.background_threshold.dims == ("channel", "z")
                assert result.agarose_mask.dims == ("channel", "y", "x")
                np.testing.assert_array_equal(result.isel(channel=index).clip_threshold, part.clip_threshold)
        assert_same_bits(times.octnorm.normalize(**options).isel(time=0, channel=1), parts[1])
    mask = volume.octnorm.agarose_mask()
    np.testing.assert_array_equal(
        both.octnorm.normalize(drift="scale", agarose_mask=mask).isel(channel=1).agarose_mask, mask
    )


# What results carry.


def test_further_dims_and_the_model_of_tissue():
    volume = cut_brain()
    both = xr.concat([volume, 2 * volume], "channel").assign_coords(channel=["a", "b"])
    expected = volume.octnorm.normalize(flatten_depth=True)
    correction = both.octnorm.fit(flatten_depth=True)
    assert correction.scale_factor.dims == correction.depth_gain.dims == ("channel", "z")
    assert correction.noise_floor.dims == ("channel",)
    assert correction.section_flags.dims == ("channel", "section_label")
    assert correction.depth_below_cut.dims == ("z",)
    assert correction.tissue.dims == ("tissue",)
    for held in (both.transpose("y", "channel", "x", "z"), both.chunk(channel=1, z=4)):
        result = held.octnorm.normalize(flatten_depth=True)
        assert_same_bits(result.isel(channel=0), expected)
        assert_same_bits(held.octnorm.apply(correction), result)
        assert result.agarose_mask.dims[0] == "channel"
    np.testing.assert_array_equal(correction.scale_factor[0], expected.scale_factor)
    np.testing.assert_allclose(correction.scale_factor[1], expected.scale_factor, rtol=1e-5)
    np.testing.assert_allclose(correction.noise_floor[1], 2 * expected.noise_floor, rtol=1e-4)


def test_what_was_fitted_follows_the_result(volume):
    result = volume.octnorm.normalize(drift="scale", zprofile_sigma=2.0)
    assert set(ATTACHED) - {"depth_gain", "noise_floor"} == set(ATTACHED) & set(result.coords)
    part = result.isel(z=slice(3, 7), x=slice(2, 9)).sel(z=40.0)
    assert float(part.scale_factor) == float(result.scale_factor[4])
    assert part.agarose_mask.shape == (24, 7)
    attached = set(ATTACHED) & set(result.coords)
    assert all(result[name].attrs["long_name"] and result[name].attrs["units"] for name in attached)
    assert result.background_threshold.attrs["units"] == "counts"
    bare = volume.octnorm.normalize(drift="scale", attach=False)
    assert not set(ATTACHED) & set(bare.coords)
    flat = cut_brain().octnorm.normalize(flatten_depth=True)
    attached = set(ATTACHED) & set(flat.coords)
    assert attached == {"agarose_mask", "scale_factor", "depth_gain", "noise_floor", "divisor"}
    assert all(flat[name].attrs["long_name"] and flat[name].attrs["units"] for name in attached)
    assert flat.noise_floor.attrs["units"] == "counts"
    part = flat.isel(z=slice(3, 7), x=slice(2, 9))
    np.testing.assert_array_equal(part.depth_gain, flat.depth_gain[3:7])
    assert part.agarose_mask.dims == ("z", "y", "x")
    assert_same_bits(bare, volume.octnorm.normalize(drift="scale"))


def test_attributes_that_no_longer_hold_move_into_the_record(volume):
    old = {"valid_min": 0, "valid_range": [0, 9], "actual_range": [1, 2], "flag_values": [1], "standard_name": "x"}
    volume.attrs.update(old, operator="me", history="made by hand")
    volume.encoding.update(dtype="int16", scale_factor=0.1, _FillValue=-1)
    result = volume.octnorm.normalize(drift="scale")
    assert result.attrs["units"] == "1"
    assert result.attrs["operator"] == "me"
    assert result.attrs["long_name"] == "OCT intensity"
    assert not set(old) & set(result.attrs)
    assert steps(result)[0]["fitted_on"]["attributes"] == {**old, "units": "counts"}
    assert result.encoding == {}
    lines = result.attrs["history"].split("\n")
    assert lines[1] == "made by hand"
    assert (
        "normalize(agarose_mask=None, drift='scale', flatten_depth=False, lateral=None, noise_floor='auto'" in lines[0]
    )
    drifted = volume.octnorm.correct_drift(method="scale")
    assert drifted.attrs["units"] == "counts"
    assert "valid_min" not in drifted.attrs


@pytest.mark.parametrize("dtype", ["float16", "float32", np.float64])
def test_dtype_of_the_result(volume, dtype):
    result = volume.octnorm.normalize(drift="scale", dtype=dtype)
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result.values, volume.octnorm.normalize(drift="scale").values.astype(dtype))


def test_coordinates_and_name_stay(volume):
    volume = volume.assign_coords(stage=("z", np.arange(20)), operator="me")
    result = volume.octnorm.normalize(drift="scale")
    xr.testing.assert_identical(
        result.drop_vars(list(set(ATTACHED) & set(result.coords))).coords.to_dataset(), volume.coords.to_dataset()
    )
    assert result.name == "intensity"
    assert result.sizes == volume.sizes


def test_fit_and_normalize_take_the_same_parameters():
    import inspect

    fit, normalize = (
        inspect.signature(getattr(xr.DataArray.octnorm, name)).parameters for name in ("fit", "normalize")
    )
    assert {k: v.default for k, v in fit.items()} == {
        k: v.default for k, v in normalize.items() if k not in ("dtype", "attach")
    }


def test_bits_helper_sees_a_difference(volume):
    changed = volume.copy()
    changed[0, 0, 0] += 1
    with pytest.raises(AssertionError):
        assert_same_bits(changed, volume)
    assert bits(volume).shape == volume.shape
