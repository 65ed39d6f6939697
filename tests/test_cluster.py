"""A cluster of processes: the same bits, nothing large through the client, and workers that die."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from conftest import brain
from hypothesis import given, settings
from hypothesis import strategies as st

from xoctnorm import cluster
from xoctnorm.phantom import make_phantom
from xoctnorm.statistics import survey

distributed = pytest.importorskip("distributed")

CALLS = [
    {"drift": None},
    {"drift": "scale"},
    {"drift": "histogram", "zprofile_sigma": 2},
    {"drift": "quantile"},
    {"drift": "joint", "flatten_depth": True},
]
CHUNKS = [{"z": 3, "y": 50, "x": 70}, {"z": 1, "y": -1, "x": 60}, {"z": -1, "y": -1, "x": -1}]
IMPORTED = [
    "distributed",
    "netCDF4",
    "xoctnorm.recipes",
    "xoctnorm.corrections.tissue_drift",
    "xoctnorm.kernels.compiled",
]


@contextmanager
def processes():
    """A client of two workers that are processes, forked from one that has imported everything."""
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        distributed.utils.get_mp_context().set_forkserver_preload(IMPORTED)
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            yield client


@pytest.fixture(scope="module")
def client():
    with processes() as client:
        yield client


@pytest.fixture
def mortal():
    """Workers of a test alone, which may kill them."""
    with processes() as client:
        yield client


@pytest.fixture(scope="module")
def volume() -> xr.DataArray:
    return make_phantom(shape=(64, 80), n_sections=6, planes_per_section=5, seed=3)["volume"]


def alone(function):
    """What a function returns where this process computes."""
    with dask.config.set(scheduler="synchronous"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function()


def assert_same(found: xr.Dataset | xr.DataArray, expected: xr.Dataset | xr.DataArray) -> None:
    names = expected.variables if isinstance(expected, xr.Dataset) else expected.coords
    for name in names:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=str(name))


@pytest.mark.parametrize("call", CALLS, ids=str)
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning")
def test_the_same_bits(client, volume, call, chunks):
    expected = alone(lambda: volume.octnorm.fit(**call))
    found = volume.chunk(chunks).octnorm.fit(**call)
    assert_same(found, expected)
    of_call = [dataset.attrs["xoctnorm_provenance"] for dataset in (found, expected)]
    assert len({text[text.index('"digest"') :][:60] for text in of_call}) == 1


@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning", "ignore:Sending large graph")  # of a volume in memory
def test_strips_of_rows_and_a_mask_by_the_user(client):
    phantom = make_phantom(shape=(400, 500), n_sections=3, planes_per_section=4, seed=4)
    volume, tissue = phantom["volume"], phantom["tissue_mask"]
    chunked = volume.chunk(z=5, y=150, x=-1)
    without_signal = np.zeros(volume.shape[1:], bool)
    without_signal[:40, :40] = True
    for call in ({"drift": "joint"}, {"drift": "joint", "noise_floor": without_signal}):
        assert_same(chunked.octnorm.fit(**call), alone(lambda: volume.octnorm.fit(**call)))  # noqa: B023
    smooth = alone(lambda: volume.octnorm.smooth_zprofile(mask=tissue))
    np.testing.assert_array_equal(chunked.octnorm.smooth_zprofile(mask=tissue.chunk(z=5)), smooth)


@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning", "ignore:Sending large graph")
def test_nothing_large_comes_to_the_client(client, monkeypatch):
    volume = make_phantom(shape=(480, 600), n_sections=4, planes_per_section=10, seed=5)["volume"].chunk(z=4)
    came: list[int] = []
    awaited = cluster._awaited

    def weighed(*arguments):
        result = awaited(*arguments)
        came.append(len(pickle.dumps(result)))
        return result

    monkeypatch.setattr(cluster, "_awaited", weighed)
    monkeypatch.setattr("xoctnorm.volume.loaded", None)  # which reads blocks here
    shares = {}
    for call in CALLS:
        came.clear()
        volume.octnorm.fit(**call)
        shares[str(call["drift"])] = sum(came) / volume.nbytes
    by_model = {drift: share for drift, share in shares.items() if drift in ("joint", "quantile")}
    # Mean projections and samples; the model of tissue also looks at five views of sections of ten planes, and at 24 of
    # the 40 planes for the scale of intensity, on a grid of at most 131 072 pixels, a quarter of these.
    assert max(share for drift, share in shares.items() if drift not in by_model) < 0.1
    assert max(by_model.values()) < 0.33


@pytest.mark.filterwarnings("ignore:Sending large graph")
def test_what_is_loaded_does_not_run_ahead(client, monkeypatch):
    """Planes are added up one after the other, and loaded by many: four runs are submitted, for two threads."""
    monkeypatch.setattr("xoctnorm.blocks.BLOCK_BYTES", 1)
    ahead, most = [], []
    futures, awaited = cluster._futures, cluster._awaited

    def submitted(*arguments):
        ahead.append(1)
        most.append(len(ahead))
        return futures(*arguments)

    def came(*arguments):
        if ahead:
            ahead.pop()
        return awaited(*arguments)

    monkeypatch.setattr(cluster, "_futures", submitted)
    monkeypatch.setattr(cluster, "_awaited", came)
    volume = brain(n_sections=4, planes=5)
    found = cluster.surveyed_by_workers(client, volume.chunk(z=1).variable, 0, None, None)
    assert len(most) == 21  # the last time only what was found in strips of rows is asked for
    assert max(most) == 4
    np.testing.assert_array_equal(found.mean, alone(lambda: survey([volume.to_numpy()], 20, 0)).mean)


@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_any_chunks_give_the_same_bits_and_digest(client, data):
    small = brain(n_sections=3, planes=3, shape=(18, 20))
    cuts = {
        dim: np.diff([0, *sorted(data.draw(st.sets(st.integers(1, size - 1), max_size=2))), size])
        for dim, size in small.sizes.items()
    }
    drift = data.draw(st.sampled_from([None, "scale", "histogram"]))
    expected = alone(lambda: small.octnorm.normalize(drift=drift))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")
        found = small.chunk({dim: tuple(lengths.tolist()) for dim, lengths in cuts.items()}).octnorm.normalize(
            drift=drift
        )
        np.testing.assert_array_equal(found, expected)
    digests = [
        json.loads(da.attrs["xoctnorm_provenance"])["steps"][-1]["fitted_on"]["digest"] for da in (found, expected)
    ]
    assert digests[0] == digests[1]


class Slow:
    """Planes that take their time, so that there is time to kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, block: np.ndarray) -> np.ndarray:
        if block.size:
            (self.folder / f"{time.time_ns()}-{os.getpid()}").touch()
            time.sleep(0.05)
        return block


def killed_meanwhile(folder: Path, function, after: int = 4):
    """What a function returns while a worker is killed, after some blocks were read."""
    killed = []

    def kill() -> None:
        while not killed:
            marks = sorted(folder.iterdir())
            if len(marks) > after:
                worker = int(marks[-1].name.split("-")[1])
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        result = function()
    finally:
        killed.append(0)
        thread.join()
    assert killed[0]
    return result


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "after"),
    [({"drift": "scale"}, 4), ({"drift": "joint"}, 4), ({"drift": "joint"}, 22)],  # the last in the second read
    ids=str,
)
@pytest.mark.usefixtures("mortal")
@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning")
def test_a_worker_dies_in_the_middle_of_fit(volume, call, after, tmp_path):
    slow = volume.chunk(z=2).copy()
    slow = slow.copy(data=slow.data.map_blocks(Slow(tmp_path), dtype=slow.dtype, meta=np.empty((0, 0, 0), slow.dtype)))
    found = killed_meanwhile(tmp_path, lambda: slow.octnorm.fit(**call), after)
    assert_same(found, alone(lambda: volume.octnorm.fit(**call)))


@pytest.mark.slow
@pytest.mark.usefixtures("mortal")
@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning")
def test_a_worker_dies_while_a_file_is_written(volume, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    slow = volume.chunk(z=2)
    slow = slow.copy(data=slow.data.map_blocks(Slow(marks), dtype=slow.dtype, meta=np.empty((0, 0, 0), slow.dtype)))
    correction = alone(lambda: volume.octnorm.fit(drift="scale"))
    result = slow.octnorm.apply(correction)
    path = killed_meanwhile(marks, lambda: result.octnorm.to_netcdf(tmp_path / "brain.nc"))
    expected = volume.octnorm.apply(correction)
    with xr.open_dataarray(path) as back:
        np.testing.assert_array_equal(back, expected)
        digests = [
            json.loads(da.attrs["xoctnorm_provenance"])["steps"][-1]["applied_to"]["digest"] for da in (back, expected)
        ]
        assert digests[0] == digests[1]


def times_out(block: np.ndarray) -> np.ndarray:
    if block.size:
        raise TimeoutError("read timed out")
    return block


def test_a_read_that_times_out_is_an_error(client, volume):
    meta = np.empty((0, 0, 0), volume.dtype)
    late = volume.chunk(z=4)
    late = late.copy(data=late.data.map_blocks(times_out, dtype=late.dtype, meta=meta))
    with pytest.raises(TimeoutError, match="read timed out"):
        late.octnorm.fit(drift="scale")


@pytest.mark.slow
def test_a_cluster_without_workers_is_given_up(volume, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_GLANCE", 0.2)
    monkeypatch.setattr(cluster, "_PATIENCE", 1.0)
    path = tmp_path / "brain.nc"
    path.write_bytes(b"old")
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        distributed.Client(empty),
        pytest.raises(RuntimeError, match="no worker"),
    ):
        (2 * volume.chunk(z=4)).octnorm.to_netcdf(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_figures_of_merit_have_the_same_bits(client, volume):
    chunks = {"z": 3, "y": 50, "x": 70}
    expected = alone(lambda: volume.octnorm.normalize().octnorm.qc(volume))
    raw = volume.chunk(chunks)
    found = raw.octnorm.normalize().octnorm.qc(raw)
    assert_same(found, expected)
    assert {name: v.attrs for name, v in found.items()} == {name: v.attrs for name, v in expected.items()}
