"""Compiled loops against NumPy, to the bit."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numba import njit

from xoctnorm import InputError
from xoctnorm.kernels import compiled
from xoctnorm.kernels.above_floor import counted_above, ends_above
from xoctnorm.kernels.background import (
    background_steps,
    clip_steps,
    clip_to_unit,
    drift_steps,
    factor_steps,
    multiply,
    remove_background,
    subtract_and_divide,
    subtract_and_multiply,
    unit_steps,
)
from xoctnorm.kernels.background import percentile as by_partition
from xoctnorm.kernels.coarse import coarse_plane
from xoctnorm.kernels.digest import MODULUS, digest, digest_block
from xoctnorm.kernels.half_bins import HalfBins, mean_when_mapped
from xoctnorm.kernels.histograms import Mapping, bin_centers, bin_edges, histogram, histogram_range
from xoctnorm.kernels.order_statistics import (
    POSITIVE,
    Bracket,
    bracket_of,
    counted,
    median_where,
    percentile,
    percentile_of_all,
    percentile_without_zeros,
    plane_thresholds,
)
from xoctnorm.kernels.prefetch import BLOCK, fetch
from xoctnorm.kernels.section_views import SectionViews
from xoctnorm.kernels.steps import take
from xoctnorm.normalization import apply_histogram_matching, normalize_volume
from xoctnorm.threads import VARIABLES, in_threads, thread_count

NUMBERS = st.one_of(
    st.floats(-2, 2, width=32),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, float("nan")]),  # many that are the same
)
FLOAT32 = arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=NUMBERS)


def shaded(shape=(300, 401), seed=0, lost=0.0):
    """A plane that no evenly spread sample describes well: bright in the middle, with a rim of zeros."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    plane = rng.gamma(3, 1 / 3, shape) * np.exp(-3 * (y**2 + x**2))
    plane[:20] = 0
    plane[rng.random(shape) < lost] = np.nan
    return plane.astype(np.float32)


# ------------------------------------------------------------------------------------------------- order statistics


TINY = float(np.float32(1e-45))
FLOORS = st.one_of(st.floats(-2, 2, width=32), st.sampled_from([0.0, TINY, float("nan")]))


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(FLOAT32, FLOORS, FLOORS), min_size=1, max_size=3),
    st.floats(0, 100),
    st.sampled_from([1.0, 0.37, 7.0, 2.0**100]),
    st.sampled_from([(-np.inf, np.inf), (0.5, 1.0), (TINY, 0.25)]),
)
@example([(np.ones((2, 2), np.float32), 0.0, 1.0), (np.ones((2, 2), np.float32), 0.0, TINY)], 0.0, 7.0, (0.0, 2.0))
def test_percentiles_above_floors_are_those_of_corrected_planes(planes, q, divisor, ends):
    """Or nothing is said, where the bracket missed them, or where values become 0 by division."""
    parts, corrected = [], []
    for plane, *thresholds in planes:
        floor, cap = np.array(thresholds, np.float32)
        parts.append(counted_above(plane, floor, cap, Bracket(*ends)))
        corrected.append(counted(remove_background(plane.copy(), floor, cap, divisor), Bracket(), POSITIVE))
    found = ends_above(parts, q).percentile(np.float32(divisor), 1)
    expected = percentile_of_all(corrected, q)
    assert found is None or found == (0.0 if np.isnan(expected) else expected)


@settings(deadline=None, max_examples=100)
@given(FLOAT32, st.floats(0, 100))
def test_percentile_of_anything(values, q):
    present = values[~np.isnan(values)]
    np.testing.assert_array_equal(percentile(values, q), by_partition(present, q))
    np.testing.assert_array_equal(percentile_without_zeros(values, q), by_partition(present[present != 0], q))


@pytest.mark.parametrize("lost", [0.0, 0.3])
@pytest.mark.parametrize("q", [0, 0.01, 25, 50, 80, 99.9, 100])
def test_percentile_of_large_planes(q, lost):
    plane = shaded(lost=lost)
    present = plane[~np.isnan(plane)]
    expected = by_partition(present, q)
    assert percentile(plane, q) == expected
    assert expected == pytest.approx(np.percentile(present, q), rel=1e-5)  # NumPy before 2.4 rounds otherwise
    assert percentile(plane, q, POSITIVE) == by_partition(present[present > 0], q)
    assert percentile_without_zeros(plane, q) == by_partition(present[present != 0], q)


@settings(deadline=None, max_examples=100)
@given(FLOAT32, st.integers(0, 2**32 - 1))
def test_median_over_a_mask(values, seed):
    where = np.random.default_rng(seed).random(values.shape) < 0.5
    present = values[where & ~np.isnan(values)]
    expected = np.median(present) if present.size else np.float32(np.nan)
    np.testing.assert_array_equal(median_where(values, where, 1), expected)
    capped = np.median(np.minimum(present, np.float32(0.25))) if present.size else np.float32(np.nan)
    np.testing.assert_array_equal(median_where(values, where, 1, 0.25), capped)


def test_thresholds_of_a_plane():
    plane = shaded(lost=0.1)
    where = plane < 0.2
    cap = by_partition(plane, 99)
    assert plane_thresholds(plane, where, 99) == (np.nanmedian(np.minimum(plane[where], cap)), cap)
    assert np.isnan(plane_thresholds(plane, np.zeros(plane.shape, bool), 99)[0])


def test_a_sample_that_misleads_costs_time_and_no_bit():
    # Every sampled value is 0, all others are not.
    plane = np.random.default_rng(0).random((200, 301)).astype(np.float32)
    step = (plane.size // 8192) | 1
    plane.reshape(-1)[::step] = 0
    assert percentile(plane, 50) == by_partition(plane, 50)


def test_percentile_of_many_planes():
    planes = [shaded(seed=seed) * np.float32(1 + seed) for seed in range(4)]
    values = np.concatenate([plane[plane > 0] for plane in planes])
    for bracket in (bracket_of(values[::50], 0.8), Bracket()):
        parts = [counted(plane, bracket, POSITIVE) for plane in planes]
        assert percentile_of_all(parts, 80) == by_partition(values, 80)
    parts = [counted(plane, Bracket(0.0, 1e-9, 0.1), POSITIVE) for plane in planes]
    assert percentile_of_all(parts, 80) is None


# ------------------------------------------------------------------------------------------------------- histograms


@settings(deadline=None, max_examples=100)
@given(FLOAT32, st.integers(2, 3000), st.sampled_from([0.0, 0.1, 0.5, -1.0]))
def test_histogram_of_anything(values, n_bins, threshold):
    expected = np.histogram(values[~np.isnan(values)], n_bins, range=histogram_range(threshold))[0]
    np.testing.assert_array_equal(histogram(values, n_bins, threshold), expected)


@pytest.mark.parametrize("n_bins", [2, 3, 255, 512, 4096])
def test_histogram_at_its_edges(n_bins):
    edges = np.linspace(*histogram_range(0.0), n_bins + 1, dtype=np.float32)
    values = np.concatenate([edges, np.nextafter(edges, np.float32(2)), np.nextafter(edges, np.float32(-1))])
    expected = np.histogram(values, n_bins, range=histogram_range(0.0))[0]
    np.testing.assert_array_equal(histogram(values, n_bins, 0.0), expected)


@pytest.mark.parametrize("threshold", [0.3, -10.0, 0.9, 0.99, 0.999])
def test_histogram_at_edges_of_a_narrow_range(threshold):
    edges = bin_edges(512, threshold)
    values = np.concatenate([edges, np.nextafter(edges, np.float32(2)), np.nextafter(edges, np.float32(-20))])
    np.testing.assert_array_equal(histogram(values, 512, threshold), np.histogram(values, edges)[0])


@pytest.mark.parametrize("threshold", [0.9999995, 0.99999])
def test_bins_that_float32_has_no_room_for_are_refused(threshold):
    with pytest.raises(InputError, match="float32 has no room for n_bins=512 bins"):
        apply_histogram_matching(np.ones((2, 30, 30)), 2, 512, threshold)


@settings(deadline=None, max_examples=100)
@given(FLOAT32, st.sampled_from([np.float32, np.uint16, np.float64]), st.floats(0, 1, width=32), st.booleans())
def test_steps_at_once_as_one_after_the_other(values, dtype, number, above_threshold):
    plane = (np.abs(np.nan_to_num(values)) * 40000).astype(dtype) if dtype is np.uint16 else values.astype(dtype)
    centers = bin_centers(64, 0.0)
    mapping = Mapping.of(np.sort(np.random.default_rng(0).random((1, 64))), centers, 0.3 if above_threshold else 0.0)
    calls = [
        (remove_background, background_steps, (number, number + 1.5, 0.7)),
        (multiply, factor_steps, (1 + number,)),
        (mapping.map, mapping.steps, (0,)),
        (subtract_and_multiply, drift_steps, (number / 8, 1.1, 1.2)),
        (subtract_and_divide, unit_steps, (number / 8, 0.9)),
        (clip_to_unit, clip_steps, ()),
    ]
    expected = plane.astype(np.float32)
    for function, _, parameters in calls:
        expected = function(expected, *parameters)
    out = np.empty(plane.shape, np.float32)
    take([step for _, steps, parameters in calls for step in steps(*parameters)], plane, out)
    np.testing.assert_array_equal(out, expected)
    values[...] = values[..., ::-1].copy()
    backwards = np.empty_like(out)
    take([], values[..., ::-1], backwards)  # a view with other strides
    np.testing.assert_array_equal(backwards, values[..., ::-1])


def test_a_plane_without_a_cap_is_unknown():
    plane = remove_background(np.ones((2, 3), np.float32), np.float32(np.nan), np.float32(np.nan), 1.0)
    assert np.isnan(plane).all()
    volume = np.linspace(1, 50, 300, dtype=np.float32).reshape(3, 10, 10)
    volume[1, 0, :5] = np.inf
    mask = np.zeros((10, 10), bool)
    mask[:, :2] = True
    with np.errstate(invalid="ignore"):
        assert np.isnan(normalize_volume(volume, mask, 100)[0][1]).all()


def test_a_plane_that_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="in place"):
        remove_background(np.asfortranarray(np.ones((2, 3), np.float32)), 0.0, 1.0, 1.0)


def test_views_of_long_sections():
    views = SectionViews((2, 2), np.array([1000]))
    for number in range(1000):
        views.add(np.ones((2, 2), np.float32), 0, number)
    np.testing.assert_array_equal(views.means(), 1)


@settings(deadline=None, max_examples=100)
@given(FLOAT32, st.integers(2, 600), st.sampled_from([0.0, 0.2]), st.integers(0, 2**32 - 1))
def test_mapping_of_anything(values, n_bins, threshold, seed):
    centers = bin_centers(n_bins, threshold)
    table = np.sort(np.random.default_rng(seed).random((1, n_bins)))
    mapped = Mapping.of(table, centers, threshold).map(values.copy(), 0)
    expected = np.where(values > threshold, np.interp(values, centers, table[0]), values)
    np.testing.assert_allclose(mapped, expected, rtol=2e-7, atol=1e-7)
    np.testing.assert_array_equal(mapped[~(values > threshold)], values[~(values > threshold)])
    half = Mapping.of(table, centers, threshold, 0.5).map(values.copy(), 0)
    np.testing.assert_allclose(half, (values + expected) / 2, rtol=2e-7, atol=1e-7)
    np.testing.assert_array_equal(half[~(values > threshold)], values[~(values > threshold)])
    untouched = Mapping.of(np.full((1, n_bins), np.nan), centers, threshold).map(values.copy(), 0)
    np.testing.assert_array_equal(untouched, values)


# ------------------------------------------------------------------------------------- sums, ranges, digests, blocks


@settings(deadline=None, max_examples=50)
@given(FLOAT32)
def test_sum_where(values):
    where = values > 0.1
    total, count = compiled.sum_where(compiled.frozen(values), compiled.frozen(where), np.nan)
    assert count == where.sum()
    assert total == pytest.approx(values[where].sum(dtype=np.float64), rel=1e-13, abs=1e-300)
    total, count = compiled.sum_where(compiled.frozen(values), compiled.frozen(np.isfinite(values)), 0.5)
    assert count == np.sum(np.isfinite(values) & (values != 0.5))
    assert total == pytest.approx(np.nansum(values[values != 0.5], dtype=np.float64), rel=1e-13, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(FLOAT32, st.floats(0, 2, width=32))
def test_in_another_array_as_in_place(values, factor):
    where, out = values > 0.1, np.empty_like(values)
    compiled.multiply_where(compiled.frozen(values), compiled.frozen(where), factor, out.reshape(-1))
    np.testing.assert_array_equal(out, np.where(where, values * np.float32(factor), values))
    take(background_steps(0.1, 0.9, 0.8), values, out)
    np.testing.assert_array_equal(out, remove_background(values.copy(), 0.1, 0.9, 0.8))


def mixed(bits, index):
    """A word of the digest, in whole numbers of Python."""
    word = ((index + 1) * 0x9E3779B97F4A7C15 + bits) % MODULUS
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % MODULUS
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % MODULUS
    return word ^ (word >> 31)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f2", "f4", ">f4", "f8"])
def test_digest_is_the_sum_of_mixed_words(dtype):
    values = np.random.default_rng(0).integers(0, 100, (3, 4, 5)).astype(dtype)
    words = np.ascontiguousarray(values, values.dtype.newbyteorder("=")).reshape(-1)
    expected = sum(mixed(int(bits), 7 + i) for i, bits in enumerate(words.view(f"u{words.itemsize}"))) % MODULUS
    assert digest(values, 7) == expected
    parts = [digest_block(values[z : z + 1, y : y + 2, x : x + 3], (z, y, x), values.shape)
             for z in range(3) for y in (0, 2) for x in (0, 3)]  # fmt: skip
    assert sum(parts) % MODULUS == digest(values, 0)


@pytest.mark.parametrize("shape", [(9, 12), (10, 13), (4, 4)])
def test_means_of_blocks(shape):
    plane = np.random.default_rng(1).random(shape).astype(np.float32)
    plane[0, :3] = 0
    plane[1, :2] = np.nan
    coarse = coarse_plane(plane, 3)
    for (y, x), mean in np.ndenumerate(coarse):
        block = plane[3 * y : 3 * y + 3, 3 * x : 3 * x + 3]
        known = block[(block != 0) & ~np.isnan(block)]
        expected = known.mean(dtype=np.float64) if 2 * known.size >= block.size else np.nan
        assert mean == pytest.approx(expected, rel=1e-7, nan_ok=True)


# --------------------------------------------------------------------------------------------------------- threads


def test_number_of_threads(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert thread_count() >= 1
    for name, number in zip(reversed(VARIABLES), ("2", "3", "4"), strict=True):
        monkeypatch.setenv(name, number)
        assert thread_count() == int(number)
    monkeypatch.setenv(VARIABLES[0], "none")  # no number: the next one decides
    assert thread_count() == 3


def test_threads_keep_the_order_and_do_not_run_ahead(monkeypatch):
    monkeypatch.setenv(VARIABLES[0], "2")
    taken = []

    def items():
        for item in range(50):
            taken.append(item)
            yield item

    for number, result in enumerate(in_threads(lambda item: item**2, items())):
        assert result == number**2
        assert len(taken) <= number + 5
    assert list(in_threads(lambda _: thread_count(), range(3))) == [1, 1, 1]  # none inside a thread of a pool


def test_an_error_in_a_thread_is_raised(monkeypatch):
    monkeypatch.setenv(VARIABLES[0], "2")
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda item: 1 // item, [1, 0, 1, 1]))
    assert threading.active_count() == before


def test_where_nothing_can_be_cached():
    code = """
from numba.core import caching
for locator in caching.CacheImpl._locator_classes:
    locator.from_function = classmethod(lambda *_: None)
import numpy as np
from xoctnorm import InputError
from xoctnorm.kernels import compiled
print(*compiled.sum_where(np.arange(4, dtype=np.float32), np.ones(4, bool), 0))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["6.0", "3"]


@pytest.mark.parametrize(("dtype", "lines"), [(bool, 2), ("uint16", 4), ("float32", 8), ("float64", 16)])
def test_memory_is_asked_for_every_line_of_a_block(dtype, lines):
    @njit
    def total(values):
        found = 0.0
        for start in range(0, values.size, BLOCK):
            fetch(values, np.uint64(start))
            for i in range(start, min(start + BLOCK, values.size)):
                found += values[i]
        return found

    assert total(np.ones(300, dtype)) == 300  # what lies beyond the end does no harm
    (code,) = total.inspect_llvm().values()
    assert code.count("call void @llvm.prefetch") == lines


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_means_when_mapped_follow_from_half_bins(strength):
    rng = np.random.default_rng(3)
    edges = bin_edges(256, 0.0)
    plane = np.concatenate([rng.gamma(2, 0.1, 5000), edges, np.nextafter(edges, 0), np.nextafter(edges, 1)])
    plane = plane.clip(0, 1).astype(np.float32)
    plane[:900], plane[900:1000], plane[1000:1010] = 0, np.nan, 1e-30  # empty, and less than the first bin
    agarose = rng.random(plane.size) < 0.3
    found = HalfBins.of(plane, agarose, 256)
    np.testing.assert_array_equal(found.counts, np.histogram(plane[plane == plane], edges)[0])

    table = np.sort(rng.random(256))[None]
    mapping = Mapping.of(table, bin_centers(256, 0.0), 0.0, strength)
    tissue = ~agarose & (plane != 0) & (plane == plane)
    mean, n_voxels = mean_when_mapped(found.tissue, mapping, 0)
    assert n_voxels == tissue.sum()
    assert mean == pytest.approx(mapping.map(plane.copy(), 0)[tissue].mean(dtype=np.float64), abs=3e-8)


@pytest.mark.parametrize(("odd", "known"), [(-1e-30, False), (-0.5, False), (1.5, True), (3e38, True), (1e-30, True)])
def test_values_beyond_half_bins_are_known_of(odd, known):
    plane = np.full(300, np.float32(0.25))
    plane[[7, 299]] = odd
    mapping = Mapping.of(np.linspace(0, 1, 256)[None] ** 2, bin_centers(256, 0.0), 0.0)
    mean, n_voxels = mean_when_mapped(HalfBins.of(plane, np.zeros(300, bool), 256).tissue, mapping, 0)
    assert n_voxels == 300
    if known:
        assert mean == pytest.approx(mapping.map(plane.copy(), 0).mean(dtype=np.float64), abs=3e-8)
    else:
        assert np.isnan(mean)
