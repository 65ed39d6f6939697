"""The five functions: recorded runs of the reference, and plain NumPy as an oracle."""

from __future__ import annotations

import json
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import NUMPY_ROUNDS_AS_WE_DO
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from skimage.filters import threshold_otsu

from xoctnorm import InputError, OctnormWarning, normalization
from xoctnorm.kernels.background import percentile

VECTORS = np.load(Path(__file__).parent / "reference_vectors.npz")
CASES = json.loads(VECTORS["cases"].tobytes())
RNG = np.random.default_rng(5)


def outcome(case: dict) -> tuple[list, dict]:
    masks = [VECTORS[case[key]] for key in ("agarose_mask", "mask") if key in case]
    function = getattr(normalization, case["function"])
    result = function(VECTORS[case["volume"]], *masks, **case["parameters"])
    expected = {k: VECTORS[v] if isinstance(v, str) else v for k, v in case["outputs"].items()}
    return list(result) if isinstance(result, tuple) else [result], expected


@pytest.mark.parametrize("number", range(len(CASES)))
def test_recorded_runs(number):
    results, expected = outcome(CASES[number])
    assert len(results) == len(expected)
    for result, (name, recorded) in zip(results, expected.items(), strict=True):
        if name in ("agarose_mask", "boundaries"):
            np.testing.assert_array_equal(result, recorded)
        elif name in ("normalized_volume", "matched") or np.ndim(recorded) == 3:
            assert result.dtype == recorded.dtype
            np.testing.assert_allclose(result, recorded, rtol=0, atol=2e-6)
        else:
            if np.ndim(recorded):
                assert result.dtype == recorded.dtype
            np.testing.assert_allclose(result, recorded, rtol=1e-6, atol=0)


def test_all_functions_are_recorded():
    assert {case["function"] for case in CASES} == set(normalization.__all__)


# Plain NumPy, written from the formulas, for other shapes, dtypes and parameters than those recorded.


def oracle_mask(vol, sigma):
    mean = vol.astype(np.float64).mean(axis=0)
    mean = mean.astype(np.float32) if vol.dtype.kind == "f" and vol.dtype.itemsize < 8 else mean
    smooth = gaussian_filter(mean, sigma)
    threshold = threshold_otsu(smooth[mean > 0])
    return (smooth < threshold) & (mean > 0), threshold


def oracle_normalize(vol, mask, q):
    vol = vol.astype(np.float32)
    cap = np.percentile(vol, q, axis=(1, 2)).astype(np.float32)[:, None, None]
    capped = np.minimum(vol, cap)
    floor = np.median(capped[:, mask], axis=1)[:, None, None]
    divisor = (cap - floor).max()
    out = np.clip(capped, floor, None) - floor
    return out / divisor if divisor > 0 else out, floor[:, 0, 0]


def oracle_scale(vol, n, sigma, q, low, high):
    n = len(vol) if n is None else n
    edges = [round(i * len(vol) / n) for i in range(n + 1)]
    metric = []
    for a, b in pairwise(edges):
        positive = vol[a:b][vol[a:b] > 0].astype(np.float32)
        metric.append(np.percentile(positive, q) if positive.size >= 500 else 0)
    metric = np.array(metric, float)
    presence = (metric > 0).astype(float)
    weight = gaussian_filter1d(presence, sigma)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        smooth = np.where(weight > 1e-6, gaussian_filter1d(metric, sigma) / weight, 0)
        target = np.median(smooth[smooth > 0]) if (smooth > 0).any() else 1
        factor = np.clip(np.where(smooth > 0, target / smooth, 1), low, high)
    return np.repeat(factor, np.diff(edges)), metric, smooth, edges[:-1]


def oracle_match(vol, n, bins, t):
    vol = vol.astype(np.float32)
    n = len(vol) if n is None else n
    edges = [round(i * len(vol) / n) for i in range(n + 1)]
    span = (min(1.0, t + max(1e-6, t * 1e-6)), 1.0)
    whole, bin_edges = np.histogram(vol, bins, span)
    centers = (bin_edges[1:] + bin_edges[:-1]) / 2
    out = vol.copy()
    if whole.sum() < 500:
        return out
    for a, b in pairwise(edges):
        counts = np.histogram(vol[a:b], bins, span)[0]
        if counts.sum() >= 500:
            cdf, reference = counts.cumsum() / counts.sum(), whole.cumsum() / whole.sum()
            mapped = np.interp(vol[a:b], centers, np.interp(cdf, reference, centers))
            out[a:b] = np.where(vol[a:b] > t, mapped, vol[a:b])
    return out


def oracle_zprofile(vol, mask, sigma, least):
    vol = vol.astype(np.float32)
    count = mask.sum(axis=(1, 2))
    known = count >= max(least, 1)
    if sigma <= 0 or known.sum() < 3:
        return vol
    mean = np.array([p[m].mean(dtype=float) if k else 0 for p, m, k in zip(vol, mask, known, strict=True)])
    gain = np.ones(len(vol))
    gain[known] = gaussian_filter1d(mean[known], sigma) / np.maximum(mean[known], 1e-6)
    return np.where(mask, vol * gain.astype(np.float32)[:, None, None], vol)


def sample(dtype, shape=(9, 22, 26)):
    y, x = np.ogrid[: shape[1], : shape[2]]
    tissue = (y - shape[1] / 2) ** 2 + (x - shape[2] / 2) ** 2 < 70
    image = np.where(tissue, 90.0, 14.0) * np.linspace(0.8, 1.1, shape[0])[:, None, None]
    values = image * np.random.default_rng(3).gamma(20, 1 / 20, shape)
    return values.astype(dtype)


DTYPES = ["u1", "i1", "u2", ">u2", "i4", "u8", "f2", "f4", ">f4", "f8", "g"]
LAYOUTS = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "negative strides": lambda a: a[::-1, :, ::-1].copy()[::-1, :, ::-1],
    "every second": lambda a: np.repeat(a, 2, axis=2)[:, :, ::2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_dtype_and_strides_match_plain_numpy(dtype, layout):
    vol = LAYOUTS[layout](sample(dtype))
    vol.setflags(write=False)
    before = vol.tobytes()
    mask, threshold = normalization.get_agarose_mask(vol, 1.5)
    expected_mask, expected_threshold = oracle_mask(np.ascontiguousarray(vol), 1.5)
    np.testing.assert_array_equal(mask, expected_mask)
    assert 100 < mask.sum() < mask.size
    np.testing.assert_allclose(threshold, expected_threshold, rtol=1e-6)

    normalized, floors = normalization.normalize_volume(vol, mask, 97.0)
    expected, expected_floors = oracle_normalize(np.ascontiguousarray(vol), mask, 97.0)
    rounding = 0 if NUMPY_ROUNDS_AS_WE_DO else 2e-6
    np.testing.assert_allclose(normalized, expected, rtol=0, atol=rounding, strict=True)
    np.testing.assert_allclose(floors, expected_floors, rtol=rounding, strict=True)
    assert normalized.max() == 1
    assert normalized.min() == 0

    unit = LAYOUTS[layout](sample("f8") / 200).astype(dtype if np.dtype(dtype).kind == "f" else "f4")
    for n in (None, 1, 2, 4, 9):
        for result, wanted in zip(
            normalization.compute_scale_factors(unit, n, 0.7, 80, 0.9, 1.2),
            oracle_scale(unit, n, 0.7, 80, 0.9, 1.2),
            strict=True,
        ):
            np.testing.assert_allclose(result, wanted, rtol=1e-6)
        for bins, t in ((64, 0.0), (512, 0.1)):
            matched = normalization.apply_histogram_matching(unit, n, bins, t)
            np.testing.assert_allclose(matched, oracle_match(unit, n, bins, t), rtol=0, atol=2e-6)
    tissue = np.broadcast_to(~mask, unit.shape)
    smooth = normalization.apply_zprofile_smoothing(unit, tissue, 2.0)
    np.testing.assert_allclose(smooth, oracle_zprofile(unit, tissue, 2.0, 100), rtol=0, atol=2e-6)
    assert vol.tobytes() == before


@settings(max_examples=40, deadline=None)
@given(n_z=st.integers(1, 40), n=st.integers(1, 40) | st.none(), sigma=st.floats(0.1, 20), seed=st.integers(0, 2**32))
def test_scale_factors_for_any_division(n_z, n, sigma, seed):
    rng = np.random.default_rng(seed)
    vol = rng.random((n_z, 23, 23), np.float32) * rng.uniform(0, 1, (n_z, 1, 1)).astype(np.float32)
    vol[rng.random(n_z) < 0.2] = 0
    got = normalization.compute_scale_factors(vol, n, sigma, 75.0, 0.5, 2.0)
    for result, wanted in zip(got, oracle_scale(vol, n, sigma, 75.0, 0.5, 2.0), strict=True):
        np.testing.assert_allclose(result, wanted, rtol=1e-6)


def test_sections_are_cut_at_rounded_edges_halves_to_even():
    vol = np.ones((50, 4, 4), np.float32)
    starts = normalization.compute_scale_factors(vol, 8, 1, 80, 0.5, 2)[3]
    assert np.diff([*starts, 50]).tolist() == [6, 6, 7, 6, 6, 7, 6, 6]


def test_factors_without_smoothing_equalize_percentiles():
    vol = np.ones((6, 23, 23), np.float32) * np.array([1, 1, 2, 2, 4, 4], np.float32)[:, None, None] / 5
    factors, metric, smoothed, starts = normalization.compute_scale_factors(vol, 3, 0.0, 50, 0.1, 10)
    np.testing.assert_allclose(factors, [2, 2, 1, 1, 0.5, 0.5], rtol=1e-7)
    np.testing.assert_allclose(metric, [0.2, 0.4, 0.8], rtol=1e-6)
    np.testing.assert_array_equal(smoothed, metric)
    assert starts == [0, 2, 4]
    assert normalization.compute_scale_factors(vol, 3, 0.0, 50, 0.8, 1.5)[0].tolist() == pytest.approx(
        [1.5, 1.5, 1, 1, 0.8, 0.8]
    )


def test_matching_changes_nothing_at_or_below_the_threshold_and_below_500_voxels():
    vol = sample("f8").astype("f4") / 200
    matched = normalization.apply_histogram_matching(vol, 3, 64, 0.3)
    np.testing.assert_array_equal(matched[vol <= 0.3], vol[vol <= 0.3])
    assert (matched[vol > 0.3] != vol[vol > 0.3]).any()
    small = vol[:, :5, :5]
    np.testing.assert_array_equal(normalization.apply_histogram_matching(small, 3, 64), small)
    assert normalization.apply_histogram_matching(small, 3, 64) is not small


def test_zprofile_leaves_voxels_outside_the_mask_and_thin_planes_alone():
    vol = sample("f4")
    mask = np.zeros(vol.shape, bool)
    mask[:, 6:18, 8:20] = True
    mask[4] = False
    out = normalization.apply_zprofile_smoothing(vol, mask, 3.0)
    np.testing.assert_array_equal(out[~mask], vol[~mask])
    np.testing.assert_array_equal(out[4], vol[4])
    present = [z for z in range(9) if z != 4]
    means = vol[present][:, 6:18, 8:20].mean(axis=(1, 2), dtype=float)
    after = out[present][:, 6:18, 8:20].mean(axis=(1, 2), dtype=float)
    np.testing.assert_allclose(after, gaussian_filter1d(means, 3.0), rtol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, -1.0])
def test_zprofile_without_sigma_returns_an_unchanged_copy(sigma):
    vol = sample("u2")
    out = normalization.apply_zprofile_smoothing(vol, np.ones(vol.shape, bool), sigma)
    np.testing.assert_array_equal(out, vol, strict=True)
    assert not np.shares_memory(out, vol)


def test_missing_data_is_left_out_and_stays_missing():
    vol = sample("f4")
    mask = normalization.get_agarose_mask(vol)[0]
    holes = vol.copy()
    holes[:, :, :3] = np.nan
    holes[2] = np.nan
    got_mask, _ = normalization.get_agarose_mask(holes)
    assert not got_mask[:, :3].any()
    normalized, floors = normalization.normalize_volume(holes, mask)
    expected, expected_floors = normalization.normalize_volume(vol[:, :, 3:], mask[:, 3:])
    assert np.isnan(normalized[2]).all()
    assert np.isnan(normalized[:, :, :3]).all()
    assert np.isnan(floors[2])
    kept = [0, 1, 3, 4, 5, 6, 7, 8]
    np.testing.assert_array_equal(floors[kept], expected_floors[kept])
    scale = np.nanmax(normalized[kept]) / expected[kept].max()
    np.testing.assert_allclose(normalized[kept][:, :, 3:], expected[kept] * scale, rtol=1e-6)
    out = normalization.apply_histogram_matching(np.where(np.isnan(holes), np.nan, holes / 200), 3, 64)
    assert np.isnan(out).sum() == np.isnan(holes).sum()


def test_empty_mask_gives_nan_as_the_reference_does_but_not_in_silence():
    vol = sample("f4")
    with pytest.warns(OctnormWarning, match="agarose_mask has no pixel"):
        out, floors = normalization.normalize_volume(vol, np.zeros(vol.shape[1:], bool))
    assert np.isnan(out).all()
    assert np.isnan(floors).all()


def test_a_volume_without_span_is_not_divided():
    out, floors = normalization.normalize_volume(np.full((2, 3, 3), 7, "u1"), np.ones((3, 3), bool))
    assert (out == 0).all()
    assert floors.tolist() == [7, 7]


MASK = np.ones((4, 5), bool)
VOL = np.ones((3, 4, 5), np.float32)
BAD_CALLS = {
    "bool volume": (lambda: normalization.get_agarose_mask(VOL > 0), "vol has dtype bool"),
    "complex volume": (lambda: normalization.normalize_volume(VOL * 1j, MASK), "vol has dtype complex"),
    "text": (lambda: normalization.get_agarose_mask(VOL.astype(str)), "vol has dtype <U"),
    "two axes": (lambda: normalization.get_agarose_mask(VOL[0]), r"vol has shape \(4, 5\): three axes"),
    "empty volume": (lambda: normalization.get_agarose_mask(VOL[:0]), "vol is empty"),
    "mask shape": (lambda: normalization.normalize_volume(VOL, MASK.T), r"agarose_mask has shape \(5, 4\): \(4, 5\)"),
    "mask dtype": (lambda: normalization.normalize_volume(VOL, MASK.astype(int)), "agarose_mask has dtype int"),
    "percentile": (lambda: normalization.normalize_volume(VOL, MASK, 101), "percentile_max=101: needs .* 0 to 100"),
    "sigma": (lambda: normalization.get_agarose_mask(VOL, -1), "smoothing_sigma=-1: needs"),
    "nowhere positive": (lambda: normalization.get_agarose_mask(-VOL), "no pixel of the volume has a mean above 0"),
    "scale sigma": (lambda: normalization.compute_scale_factors(VOL, 2, -1, 80, 0.5, 2), "smooth_sigma=-1"),
    "sections": (lambda: normalization.compute_scale_factors(VOL, 0, 1, 80, 0.5, 2), "n_serial_slices=0"),
    "clamps": (lambda: normalization.compute_scale_factors(VOL, 2, 1, 80, 2, 0.5), "min_scale=2 is above max_scale"),
    "bins": (lambda: normalization.apply_histogram_matching(VOL, 2, 1), "n_bins=1: needs a whole number, 2 or more"),
    "threshold": (lambda: normalization.apply_histogram_matching(VOL, 2, 8, 1.0), "tissue_threshold=1.0"),
    "tissue shape": (lambda: normalization.apply_zprofile_smoothing(VOL, MASK, 1), "mask has shape"),
    "tissue voxels": (lambda: normalization.apply_zprofile_smoothing(VOL, VOL > 0, 1, -1), "min_tissue_voxels=-1"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls(name):
    call, message = BAD_CALLS[name]
    with pytest.raises(InputError, match=message):
        call()


def test_all_problems_of_a_call_come_together():
    with pytest.raises(InputError) as caught:
        normalization.normalize_volume(VOL > 0, MASK.astype(int)[:2], -3)
    assert len(caught.value.problems) == 4
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50),
    q=st.sampled_from([0.0, 50.0, 80.0, 99.9, 100.0]) | st.floats(0, 100),
)
@pytest.mark.skipif(not NUMPY_ROUNDS_AS_WE_DO, reason="NumPy interpolates otherwise before 2.4")
def test_percentile_has_the_bits_of_numpy(values, q):
    array = np.array(values, np.float32)
    assert percentile(array, q) == np.percentile(array, q)
    with_nan = np.concatenate([[np.nan], array, [np.nan]]).astype("f4")
    assert percentile(with_nan, q) == np.percentile(array, q)
    assert np.isnan(percentile(with_nan[:1], q))
