"""What a timing cannot guard: reads of the volume, bytes allocated, and that the benchmark measures the same thing."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from benchmarks import parts, speed

import xoctnorm
from xoctnorm import normalization
from xoctnorm.blocks import loaded
from xoctnorm.corrections import Background, PercentileScale
from xoctnorm.kernels.background import percentile as by_partition
from xoctnorm.kernels.order_statistics import spread
from xoctnorm.memory import give_back
from xoctnorm.volume import Planes

PLANE = 4 * 256 * 256


@pytest.fixture(scope="module")
def da() -> xr.DataArray:
    return speed.make_volume(2**22, "float32")


def test_the_benchmark_compares_the_same_results():
    for dtype in ("float32", "uint16"):
        for case in speed.cases(speed.make_volume(2**19, dtype)):
            ours, plain = case.ours(), case.plain()
            if case.same:
                ours = ours[0] if isinstance(ours, tuple) else ours
                # Bins are float32 in xoctnorm and float64 in plain NumPy: a voxel at an edge may change its bin.
                np.testing.assert_allclose(ours, plain, atol=2e-4, err_msg=f"{case.name}, {dtype}")


def test_a_table_is_made():
    rows = speed.table_beside(2**17, 1)
    assert sum(row.endswith(" |") for row in rows) >= 7
    rows = speed.table(2**19, "float32", [1], 1)
    assert sum(row.startswith("| `") for row in rows) == len(speed.cases(speed.make_volume(2**19, "float32")))


def test_loops_alone_are_timed():
    rows = parts.tables(2**16, [1], 1)
    names = [row.split(" | ")[0].strip("| `") for row in rows]
    assert set(parts.FUNCTIONS) <= set(names)
    for part in {part for _, of_function in parts.FUNCTIONS.values() for part in of_function}:
        assert part in names
    leaves, alone = (float(cell) for cell in rows[-1].strip("| ").split(" | ")[3:5])
    assert leaves > 0
    assert alone > 0


class Counting:
    """An array that counts the voxels that are read."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, values.ndim
        self.read = 0

    def __getitem__(self, key):
        part = self.values[key]
        self.read += part.size
        return part


@pytest.mark.parametrize(
    ("options", "reads"),
    [
        ({"drift": None}, 2),
        ({"drift": "scale"}, 2),
        ({"drift": "histogram"}, 3),
        ({"drift": "histogram", "zprofile_sigma": 2}, 3),
        ({"drift": "histogram", "zprofile_sigma": 2, "tissue_threshold": 0.01}, 4),
        ({"drift": "joint", "flatten_depth": True}, 3),
        ({"drift": "joint", "floor": "agarose"}, 4),
    ],
    ids=str,
)
def test_reads_of_a_fit(da, options, reads):
    dask_array = pytest.importorskip("dask.array")
    counting = Counting(da.to_numpy())
    chunked = dask_array.from_array(counting, chunks=(8, 256, 256), asarray=False, meta=np.empty((0, 0, 0), np.float32))
    volume = da.copy(data=chunked)
    volume.octnorm.fit(**options)
    # The scale of intensities is told from 24 planes.
    assert reads * da.size <= counting.read <= reads * da.size + 24 * PLANE * 2
    before = counting.read
    correction = da.octnorm.fit(**options)
    assert counting.read == before
    volume.octnorm.apply(correction).compute(scheduler="sync")
    assert counting.read - before == da.size


@pytest.mark.parametrize("options", [{}, {"flatten_depth": True, "percentile_max": 50.0}, {"intensity": "amplitude"}])
def test_what_becomes_1_does_not_depend_on_when_it_is_read(da, options, monkeypatch):
    found = da.octnorm.fit(**options)
    monkeypatch.setattr("xoctnorm.corrections.UnitScale.wants_percentile", None)
    apart = da.octnorm.fit(**options)
    assert found.divisor == apart.divisor
    np.testing.assert_array_equal(found.scale_factor, apart.scale_factor)


@pytest.mark.parametrize("options", [{}, {"divisor_percentile": 50.0}, {"strength": 0.5, "n_bins": 300}], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "uint16"])
def test_means_of_tissue_do_not_depend_on_when_they_are_read(options, dtype, monkeypatch):
    volume = speed.make_volume(2**20, dtype)
    volume[3] = 0
    warnings.simplefilter("ignore", xoctnorm.OctnormWarning)
    found = volume.octnorm.fit(drift="histogram", zprofile_sigma=2, **options)
    monkeypatch.setattr("xoctnorm.corrections.HistogramMatch.finds_tissue_means", False)
    apart = volume.octnorm.fit(drift="histogram", zprofile_sigma=2, **options)
    np.testing.assert_array_equal(found.matched_intensity, apart.matched_intensity)
    np.testing.assert_allclose(found.zprofile_mean, apart.zprofile_mean, rtol=3e-8)
    np.testing.assert_allclose(found.zprofile_gain, apart.zprofile_gain, rtol=1.2e-7)


def without_agarose_above_0(volume):
    """Agarose is 0, and nearly all else so small that division makes 0 of it."""
    values = np.where(MASK, 0, volume / volume.max() * np.float32(1e-39)).astype(np.float32)
    values[0, 200, 200] = 1e6
    return volume.copy(data=values)


MASK = np.zeros((256, 256), bool)
MASK[:80] = True


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
@pytest.mark.parametrize(
    ("change", "options", "missed"),
    [
        (lambda volume: volume, {}, 0),
        (lambda volume: volume - volume.mean().astype("float32"), {"agarose_mask": MASK, "percentile": 30.0}, 0),
        (lambda volume: volume.where(volume.data * 1000 % 3 > 0.5), {"agarose_mask": MASK, "percentile_max": 99.0}, 0),
        (lambda volume: volume, {"agarose_mask": MASK & (np.arange(256) < 2)}, 0),
        (lambda volume: volume, {"percentile": 99.95}, 0),
        (lambda volume: volume, {"percentile": 80.0, "percentile_max": 70.0}, 7),
        (without_agarose_above_0, {"agarose_mask": MASK, "percentile_max": 100.0}, 7),
    ],
)
def test_percentiles_of_sections_do_not_depend_on_when_they_are_read(change, options, missed, dtype, monkeypatch):
    volume = speed.make_volume(2**21, dtype)
    volume[4:8] = 0  # a section without anything
    volume = change(volume.astype("float32") if change is without_agarose_above_0 else volume)
    warnings.simplefilter("ignore", xoctnorm.OctnormWarning)
    seen, metric = [], PercentileScale._metric

    def spy(correction, volume):
        if volume.section_percentiles is not None:
            seen.extend(volume.section_percentiles.found)
        return metric(correction, volume)

    monkeypatch.setattr(PercentileScale, "_metric", spy)
    found = volume.octnorm.fit(drift="scale", **options)
    monkeypatch.setattr(Background, "finds_section_percentiles", False)
    apart = volume.octnorm.fit(drift="scale", **options)
    assert (len(seen), seen.count(None)) == (8, missed)
    np.testing.assert_array_equal(found.metric, apart.metric)
    np.testing.assert_array_equal(found.scale_factor, apart.scale_factor)
    monkeypatch.undo()
    monkeypatch.setattr("xoctnorm.kernels.above_floor._FEW", 0)  # so that wide brackets are refused
    np.testing.assert_array_equal(volume.octnorm.fit(drift="scale", **options).metric, apart.metric)


def test_sections_whose_samples_mislead_are_read_once_more_and_right(da):
    dask_array = pytest.importorskip("dask.array")
    values = da.to_numpy().copy()
    for number, plane in enumerate(values[:16]):
        spread(plane, 128, number)[:] = 5  # what the first read samples of two sections; no other voxel is so bright
    counting = Counting(values)
    chunked = dask_array.from_array(counting, chunks=(8, 256, 256), asarray=False, meta=np.empty((0, 0, 0), np.float32))
    factors = da.copy(data=chunked).octnorm.scale_factors(smooth_sigma=0.5)
    assert counting.read == 2 * values.size + 16 * PLANE // 4  # survey, count, and two sections again
    expected = normalization.compute_scale_factors(values, 8, 0.5, 80, 0.5, 2.0)
    np.testing.assert_array_equal(factors, expected[0])
    for section in (0, 7):
        of_section = values[8 * section : 8 * section + 8]
        assert expected[1][section] == by_partition(of_section[of_section > 0], 80)


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("name", ["normalize_volume", "compute_scale_factors", "apply_histogram_matching", "zprofile"])
def test_bytes_allocated_by_the_functions(da, name, threads, monkeypatch):
    monkeypatch.setenv("XOCTNORM_NUM_THREADS", threads)
    vol = da.to_numpy()
    mask = np.zeros(vol.shape[1:], bool)
    mask[:60] = True
    tissue = np.broadcast_to(~mask, vol.shape)
    call = {
        "normalize_volume": lambda: normalization.normalize_volume(vol, mask),
        "compute_scale_factors": lambda: normalization.compute_scale_factors(vol, 8, 1.0, 80.0, 0.5, 2.0),
        "apply_histogram_matching": lambda: normalization.apply_histogram_matching(vol, 8, 512),
        "zprofile": lambda: normalization.apply_zprofile_smoothing(vol, tissue, 2.0),
    }[name]
    call()
    assert peak(call, vol.nbytes) <= 0.02 * vol.nbytes + 8 * PLANE + 2e6 * int(threads)


@pytest.mark.parametrize(
    "options",
    [
        {"drift": None},
        {"drift": "histogram", "zprofile_sigma": 2},
        {"drift": "joint", "flatten_depth": True},
    ],
    ids=str,
)
def test_bytes_allocated_by_the_whole_job(da, options):
    def call():
        return da.octnorm.normalize(**options)

    call()
    assert peak(call, da.nbytes) <= 0.02 * da.nbytes + 8 * PLANE + 2e6 * 2


def test_runs_of_planes_lie_in_the_same_memory(da, monkeypatch):
    pytest.importorskip("dask.array")
    monkeypatch.setenv("XOCTNORM_NUM_THREADS", "2")
    monkeypatch.setattr("xoctnorm.blocks.BLOCK_BYTES", 8 * PLANE)
    addresses = []

    def loading(part, room):
        block = loaded(part, room)
        addresses.append(block.__array_interface__["data"][0])
        return block

    monkeypatch.setattr("xoctnorm.volume.loaded", loading)
    chunked, expected = da.chunk(z=(8,) * 7 + (5, 3)), [float(plane.mean()) for plane in da.to_numpy()]
    means = Planes(chunked.variable).each_plane(lambda _, plane: float(plane.mean()))
    assert list(means) == expected
    assert (len(addresses), len(set(addresses))) == (8, 1)
    addresses.clear()
    assert [float(plane.mean()) for block in Planes(chunked.variable).raw_blocks() for plane in block] == expected
    assert (len(addresses), len(set(addresses))) == (8, 1)


def test_planes_one_by_one_may_be_kept(da, monkeypatch):
    pytest.importorskip("dask.array")
    monkeypatch.setattr("xoctnorm.blocks.BLOCK_BYTES", 8 * PLANE)
    np.testing.assert_array_equal(np.stack(list(Planes(da.chunk(z=8).variable).raw_planes())), da)


@pytest.mark.skipif(sys.platform != "linux", reason="the C library of Linux keeps what was freed")
def test_freed_memory_is_given_back():
    def resident() -> int:
        return 4096 * int(Path("/proc/self/statm").read_text().split()[1])

    arrays = [np.ones(12_000) for _ in range(400)]  # 96 kB each
    del arrays[:-1]  # the last one keeps those before it from being given back
    before = resident()
    give_back()
    assert resident() < before - 25e6


def peak(call, volume_bytes: int) -> float:
    """Most bytes that were allocated at a time, beyond a result as large as the volume."""
    tracemalloc.start()
    result = call()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    first = result[0] if isinstance(result, tuple) else result
    return most - (first.nbytes if first.nbytes >= volume_bytes else 0)


def test_what_importing_loads():
    code = """
import sys
import xarray  # of which earlier versions load SciPy
before = set(sys.modules)
import xoctnorm
print(*[m for m in ("dask", "numba", "skimage", "scipy") if m in set(sys.modules) - before])
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
