"""On a graphics processor: ``pytest -m gpu``. Where there is none, every test is skipped and says what is missing."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from conftest import brain, cut_brain
from test_device import FUNCTIONS, OPERATIONS

from xoctnorm import gpu
from xoctnorm.kernels import backend, generic, order_statistics
from xoctnorm.kernels.histograms import histogram
from xoctnorm.provenance import steps_of

LACKING = gpu.lacking()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(LACKING is not None, reason=str(LACKING))]


def as_cupy(da: xr.DataArray) -> xr.DataArray:
    pytest.importorskip("cupy_xarray", reason="cupy-xarray is not installed")
    return da.cupy.as_cupy()


@pytest.fixture
def transfers(monkeypatch):
    """Elements of every transfer by the one function that takes values to the host."""
    found = []

    def get(values, device):
        found.append(values.size)
        return values.get()

    import array_api_compat

    monkeypatch.setattr(array_api_compat, "to_device", get)
    return found


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name, chunked, transfers):
    import cupy

    operation = OPERATIONS[name]
    volume = operation.volume()
    expected = operation.call(volume)
    result = operation.call(as_cupy(volume.chunk(z=3, y=17, x=33) if chunked else volume))
    values = result.data.compute() if chunked else result.data
    assert isinstance(values, cupy.ndarray)
    pixels = volume.sizes["y"] * volume.sizes["x"]
    allowed = operation.per_plane * volume.sizes["z"] + operation.planes * pixels + operation.more
    assert sum(transfers) <= allowed
    np.testing.assert_allclose(values.get(), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_the_reference(name):
    import cupy

    volume = brain().to_numpy()
    expected = FUNCTIONS[name](volume, lambda mask: mask)
    found = FUNCTIONS[name](cupy.asarray(volume), cupy.asarray)
    pairs = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    for ours, theirs in pairs:
        ours = ours.get() if isinstance(ours, cupy.ndarray) else ours
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("method", ["otsu", "border"])
def test_masks_of_planes(method, transfers):
    import cupy

    volume = cut_brain()
    expected = volume.octnorm.agarose_mask(method=method, per_plane=True)
    found = as_cupy(volume).octnorm.agarose_mask(method=method, per_plane=True)
    assert isinstance(found.data, cupy.ndarray)
    assert sum(transfers) <= 30 * 316 + 7 * 64 * 80
    # Otsu's are the same; a last bit of a logarithm may decide for a pixel that is as likely agarose as tissue.
    assert (found.data.get() != expected.to_numpy()).mean() <= (0 if method == "otsu" else 1e-4)


def test_figures_of_merit_and_reports(tmp_path):
    result, volume = cut_brain().octnorm.normalize(), cut_brain()
    found, expected = as_cupy(result).octnorm.qc(as_cupy(volume)), result.octnorm.qc(volume)
    assert found.attrs["status"] == expected.attrs["status"]
    for name, figure in expected.items():
        if figure.dtype.kind == "f":
            np.testing.assert_allclose(found[name], figure, rtol=1e-6, err_msg=str(name))
    for needed in ("matplotlib", "jinja2", "PIL"):
        pytest.importorskip(needed)
    as_cupy(result).octnorm.report(tmp_path / "qc.html", before=as_cupy(volume), qc=found)


@pytest.mark.parametrize("lost", [0.0, 0.1])
def test_order_statistics_and_histograms_are_exact(lost):
    import cupy

    rng = np.random.default_rng(0)
    plane = rng.gamma(3, 0.1, (700, 901)).astype(np.float32)
    plane[rng.random(plane.shape) < lost] = np.nan
    where, there = plane < 0.3, cupy.asarray(plane)
    assert order_statistics.plane_thresholds(there, cupy.asarray(where), 99.9) == order_statistics.plane_thresholds(
        plane, where, 99.9
    )
    for q in (0, 1, 50, 99.9, 100):
        assert order_statistics.percentile(there, q) == order_statistics.percentile(plane, q)
    np.testing.assert_array_equal(histogram(there, 512, 0.1).get(), histogram(plane, 512, 0.1))
    assert generic.sum_of_words(there.reshape(-1).view(np.uint32), 7) == generic.sum_of_words(
        plane.reshape(-1).view(np.uint32), 7
    )


@pytest.mark.parametrize("chunked", [False, True])
def test_a_volume_of_the_host_goes_there_and_back(chunked):
    volume = cut_brain()
    one = volume.chunk(z=4) if chunked else volume
    result = one.octnorm.normalize(use_gpu="require")
    assert isinstance(result.compute().data, np.ndarray)
    np.testing.assert_allclose(result, volume.octnorm.normalize(), rtol=0, atol=2e-6)
    assert "cupy" in steps_of(result.attrs)[-1]["device"]


def test_device_memory_is_bounded(monkeypatch):
    import cupy

    monkeypatch.setattr(gpu, "BLOCK_BYTES", 2**20)
    volume = xr.concat([brain(4, 20, (256, 256))] * 4, "z").assign_coords(section=("z", np.arange(320) // 20))
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        volume.octnorm.normalize(drift="scale", use_gpu="require")
        assert pool.total_bytes() < volume.nbytes / 2
    assert backend.on_host(volume.data)
