"""Zarr and OME-Zarr: round trips, resuming, replacing, and what a killed writer leaves."""

from __future__ import annotations

import ctypes
import errno
import json
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import dask
import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import HOLDINGS, brain, cut_brain
from test_io import PER_PLANE, normalized, several

from xoctnorm import InputError, OctnormWarning, blocks, open_volume, pieces
from xoctnorm.kernels.pyramid import halved_planes
from xoctnorm.phantom import make_phantom
from xoctnorm.zarr_chunks import Chunks, compressors
from xoctnorm.zarr_place import Place

zarr = pytest.importorskip("zarr")

METHODS = ("to_zarr", "to_ome_zarr")


def opened(path):
    with xr.open_dataarray(path, engine="zarr") as da:
        return da.load()


def step_of(da):
    return json.loads(da.attrs["xoctnorm_provenance"])["steps"][-1]


@pytest.fixture
def small_pieces(monkeypatch):
    """Let volumes of tests have many pieces."""
    monkeypatch.setattr(pieces, "_CHUNK_PLANES", 2)
    monkeypatch.setattr(pieces, "_CHUNK_BYTES", 150)
    monkeypatch.setattr(pieces, "_PIECE_BYTES", 1)


@pytest.fixture
def small_pieces_of_phantoms(monkeypatch, small_pieces):
    monkeypatch.setattr(pieces, "_CHUNK_BYTES", 4000)


# Round trips


@pytest.mark.usefixtures("small_pieces")
def test_everything_comes_back_bit_for_bit(tmp_path):
    da = normalized(labels=["a", "a", "b", "b", "cé", "cé"])
    da[0, 0, 0] = np.nan
    da["clip_threshold"][2] = np.nan
    before = da.copy(deep=True)
    path = da.octnorm.to_zarr(tmp_path / "out.zarr")
    assert path == tmp_path / "out.zarr"
    for back in (opened(path), open_volume(path).load(), xr.open_zarr(path)["brain"].load()):
        xr.testing.assert_equal(back, da)
        assert back.to_numpy().tobytes() == da.to_numpy().tobytes()
        assert set(back.coords) == set(da.coords)
        assert back.agarose_mask.dtype == bool
        for name, coord in da.coords.items():
            assert {key: back[name].attrs[key] for key in coord.attrs} == coord.attrs, name
        ancillary = back.attrs.pop("ancillary_variables").split()
        assert set(ancillary) == {*PER_PLANE, "agarose_mask", "otsu_threshold", "divisor"}
        assert back.attrs == da.attrs
    xr.testing.assert_identical(da, before)
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.usefixtures("small_pieces_of_phantoms")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", HOLDINGS)
def test_every_holding_gives_the_same_values(tmp_path, method, name, volume):
    held = HOLDINGS[name](volume.isel(z=slice(11)))
    back = open_volume(getattr(held.octnorm, method)(tmp_path / "out.zarr"))
    np.testing.assert_array_equal(back, volume[:11])
    np.testing.assert_array_equal(back.section, volume.section[:11])
    assert dict(back.z.attrs)["units"] == "um"


@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", ">i2", "uint8", "int16", "int64", "uint64"])
@pytest.mark.parametrize("method", METHODS)
def test_dtypes(tmp_path, dtype, method):
    da = normalized(dtype=dtype)
    back = open_volume(getattr(da.octnorm, method)(tmp_path / "out.zarr"))
    np.testing.assert_array_equal(back, da)
    assert back.dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("dim", ["section", "channel"])
def test_further_dims(tmp_path, dim):
    da = several(dim, ["a", "b"])
    back = opened(da.chunk({dim: 1, "z": 4}).octnorm.to_zarr(tmp_path / "out.zarr"))
    xr.testing.assert_equal(back, da)
    back = open_volume(da.octnorm.to_ome_zarr(tmp_path / "ome.zarr", levels=2))
    assert back.dims == da.dims
    xr.testing.assert_equal(back.compute(), da)


def test_labels_of_other_types(tmp_path):
    times = pd.date_range("2026-01-01", periods=6, freq="h")
    da = normalized().assign_coords(taken=("z", times), flag=("z", [True, False] * 3), note="text")
    back = opened(da.octnorm.to_zarr(tmp_path / "out.zarr"))
    xr.testing.assert_equal(back, da)
    stacked = da.drop_vars("z").assign_coords(plane=("z", np.arange(6)))
    back = opened(stacked.set_index(z=["section", "plane"]).octnorm.to_zarr(tmp_path / "multi.zarr"))
    xr.testing.assert_equal(back.set_index(z=["section", "plane"]), stacked.set_index(z=["section", "plane"]))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("dtype", "fill"), [("float32", np.nan), ("float32", 0.0), ("int16", 7), ("bool", False)])
def test_chunks_are_written_as_zarr_writes_them(tmp_path, zarr_format, dtype, fill):
    """Ends that are no whole chunks; chunks that are empty, or all but one value, or 0 with another sign."""
    values = (np.random.default_rng(0).random((6, 7, 9)) * 50).astype(dtype)
    values[:2] = fill
    values[4:, 4:] = -0.0
    values[1, 0, 1] = values[5, 6, 8] = 1
    files = []
    for ours in (True, False):
        place = Place(None, str(tmp_path / str(ours)), local=True)
        array = zarr.create_array(
            place.store,
            shape=values.shape,
            chunks=(2, 4, 3),
            dtype=dtype,
            compressors=compressors(zarr_format),
            fill_value=fill,
            zarr_format=zarr_format,
        )
        target = Chunks(place, array) if ours else array
        for z, y, x in (((0, 2), (None, None), (0, 3)), ((0, 2), (0, 7), (3, 9)), ((2, 6), (0, 7), (0, 9))):
            region = slice(*z), slice(*y), slice(*x)
            target[region] = values[region]
        np.testing.assert_array_equal(array[:], values)
        paths = [path for path in Path(place.store).rglob("*") if path.is_file()]
        files.append({path.relative_to(place.store): path.read_bytes() for path in paths})
    assert files[0] == files[1]


# Digests


@pytest.mark.usefixtures("small_pieces_of_phantoms")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunks", [{"z": 7, "x": 33}, {"z": -1}])
def test_digest_is_counted_while_writing(tmp_path, method, chunks):
    raw = cut_brain()
    result = raw.chunk(chunks).octnorm.apply(raw.octnorm.fit(flatten_depth=True))
    assert step_of(result)["applied_to"]["digest"] is None
    back = open_volume(getattr(result.octnorm, method)(tmp_path / "out.zarr"))
    xr.testing.assert_equal(back.compute(), result.compute())
    applied, fitted = (step_of(back)[key] for key in ("applied_to", "fitted_on"))
    assert applied["digest"] == fitted["digest"]
    assert "awaits" not in applied
    # A part still tells the digest of all.
    part = open_volume(getattr(result.isel(z=slice(3, 9)).octnorm, method)(tmp_path / "part.zarr"))
    assert step_of(part)["applied_to"]["digest"] == fitted["digest"]


@pytest.mark.usefixtures("small_pieces_of_phantoms")
def test_every_block_is_computed_once(tmp_path):
    """Besides one for the first plane, which tells whether a call goes on."""
    seen = []

    def block(block_info):
        (start, stop), *_ = block_info[None]["array-location"]
        seen.append(start)
        return np.ones((stop - start, 8, 8), "float32")

    data = dask.array.map_blocks(block, chunks=((5,) * 6, 8, 8), dtype="float32", meta=np.empty((0, 0, 0), "float32"))
    xr.DataArray(data, dims=("z", "y", "x")).octnorm.to_zarr(tmp_path / "out.zarr")
    assert sorted(seen) == [0, *range(0, 30, 5)]


@pytest.fixture(scope="module")
def pool():
    """A process that all computing in processes shares: each takes seconds to start."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("scheduler", ["synchronous", "processes", "distributed"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.usefixtures("small_pieces_of_phantoms")
def test_schedulers(tmp_path, monkeypatch, pool, scheduler, method):
    monkeypatch.setattr(pieces, "_PIECE_BYTES", 20 * 64 * 80 * 4)
    raw = cut_brain()
    result = raw.chunk(z=10).octnorm.apply(raw.octnorm.fit())
    if scheduler == "distributed":
        distributed = pytest.importorskip("distributed")
        with distributed.Client(n_workers=1, threads_per_worker=2, dashboard_address=":0", processes=False):
            path = getattr(result.octnorm, method)(tmp_path / "out.zarr")
    else:
        with dask.config.set(scheduler=scheduler, pool=pool if scheduler == "processes" else None):
            path = getattr(result.octnorm, method)(tmp_path / "out.zarr")
    back = open_volume(path)
    xr.testing.assert_equal(back.compute(), result.compute())
    assert step_of(back)["applied_to"]["digest"] == step_of(back)["fitted_on"]["digest"]


# Interrupted calls


class StopError(Exception):
    pass


def failing(da, at, seen):
    """The same volume, of which a plane cannot be computed."""

    def block(values, block_info):
        start = block_info[0]["array-location"][0][0]
        if start == at:
            raise StopError
        seen.append(start)
        return values

    return da.copy(data=da.chunk(z=2).data.map_blocks(block, dtype=da.dtype))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_call_goes_on(tmp_path, method):
    da, target, seen = normalized(), tmp_path / "out.zarr", []
    with pytest.raises(StopError):
        getattr(failing(da, 4, seen).octnorm, method)(target)
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr.partial"]
    for path in (tmp_path / "out.zarr.partial", tmp_path / "out.zarr.partial" / "store"):
        with pytest.raises(FileNotFoundError):
            xr.open_zarr(path)
        with pytest.raises(InputError, match="is not complete: repeat the call"):
            open_volume(path)
    with pytest.raises(InputError, match=r"does not exist .* is what an interrupted call left: repeat that call"):
        open_volume(target)
    seen.clear()
    path = getattr(failing(da, None, seen).octnorm, method)(target)
    assert sorted(seen) == [0, 4]  # the first plane is looked at, and what was missing is written
    xr.testing.assert_equal(open_volume(path).compute(), da)
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.usefixtures("small_pieces_of_phantoms")
def test_the_digest_survives_an_interruption(tmp_path):
    raw = cut_brain()
    correction = raw.octnorm.fit()
    with pytest.raises(StopError):
        failing(raw, 20, []).octnorm.apply(correction).octnorm.to_zarr(tmp_path / "out.zarr")
    path = failing(raw, None, []).octnorm.apply(correction).octnorm.to_zarr(tmp_path / "out.zarr")
    step = step_of(opened(path))
    assert step["applied_to"]["digest"] == step["fitted_on"]["digest"]


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("change", "different"),
    [
        (lambda da: da.rename("other"), "name is 'other' and was 'brain'"),
        (lambda da: da.astype("float64"), "dtype is 'float64' and was 'float32'"),
        (lambda da: da.isel(x=slice(3)), r"shape\[2\] is 3 and was 4"),
        (lambda da: da.assign_attrs(units="dB"), "attributes.units is 'dB' and was '1'"),
        (lambda da: da.assign_coords(scale_factor=2 * da.scale_factor), "coordinates.scale_factor.values is"),
        (lambda da: da.drop_vars("divisor"), "coordinates.divisor is None and was"),
        (lambda da: da.copy(data=da.values + 1), "first plane is"),
    ],
)
def test_another_volume_does_not_go_on(tmp_path, change, different):
    da, target = normalized(), tmp_path / "out.zarr"
    with pytest.raises(StopError):
        failing(da, 4, []).octnorm.to_zarr(target)
    with pytest.raises(
        InputError, match=rf"out\.zarr\.partial' is what an interrupted call .*{different}.*remove that"
    ):
        change(da).octnorm.to_zarr(target)
    with pytest.raises(InputError, match="call is 'to_ome_zarr' and was 'to_zarr'"):
        da.octnorm.to_ome_zarr(target)
    xr.testing.assert_equal(opened(da.octnorm.to_zarr(target)), da)


@pytest.mark.usefixtures("small_pieces_of_phantoms")
def test_another_correction_does_not_go_on_and_another_time_does(tmp_path, monkeypatch):
    raw, target = cut_brain(), tmp_path / "out.zarr"
    with pytest.raises(StopError):
        failing(raw, 20, []).octnorm.apply(raw.octnorm.fit()).octnorm.to_zarr(target)
    with pytest.raises(InputError, match=r"steps\[0\].parameters.max_depth_gain is 4.* and was"):
        raw.chunk(z=3).octnorm.apply(raw.octnorm.fit(flatten_depth=True, max_depth_gain=4.5)).octnorm.to_zarr(target)
    monkeypatch.setattr("xoctnorm.provenance.now", lambda: "2030-01-01T00:00:00Z")
    result = raw.chunk(z=3).octnorm.apply(raw.octnorm.fit())
    xr.testing.assert_equal(opened(result.octnorm.to_zarr(target)), result.compute())


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_killed_at_any_moment(tmp_path, method):
    """See `killing`, which looks at what is there after every kill."""
    seed = str(np.random.default_rng().integers(1000))
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / "killing.py", tmp_path, method, seed],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr[-3000:]}"
    at_steps, at_random, resumed = map(int, done.stdout.split())
    assert at_steps >= 40
    assert at_random >= 20
    assert resumed >= 10  # killed late, the last call has little to do


# Replacing


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("method", METHODS)
def test_a_store_is_replaced_only_when_the_new_one_is_whole(tmp_path, method):
    target, old, new = tmp_path / "out.zarr", normalized(), normalized(seed=1)
    getattr(old.octnorm, method)(target)
    with pytest.raises(InputError, match="exists; pass overwrite=True to replace it"):
        getattr(new.octnorm, method)(target)
    with pytest.raises(StopError):
        getattr(failing(new, 4, []).octnorm, method)(target, overwrite=True)
    xr.testing.assert_equal(open_volume(target).compute(), old)
    getattr(new.octnorm, method)(target, overwrite=True)
    xr.testing.assert_equal(open_volume(target).compute(), new)
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]


def test_problems_with_the_place(tmp_path):
    da = normalized()
    store = da.octnorm.to_zarr(tmp_path / "a.zarr")
    (tmp_path / "papers").mkdir()
    (tmp_path / "b.zarr.partial").mkdir()
    (tmp_path / "b.zarr.partial" / "mine.txt").write_text("mine")
    for path, overwrite, message in [
        ("gone/a.zarr", False, "the folder .* does not exist; create it"),
        ("papers", True, "exists and is no Zarr store; choose another path"),
        ("b.zarr", False, "holds something else: remove or rename it"),
        ("c.zarr", 1, "overwrite=1: needs True or False"),
    ]:
        with pytest.raises(InputError, match=message):
            da.octnorm.to_zarr(tmp_path / path, overwrite=overwrite)
    with pytest.raises(InputError, match="is what the volume was read from"):
        open_volume(store).octnorm.to_zarr(store, overwrite=True)
    with pytest.raises(InputError, match="is no path of a store"):
        da.octnorm.to_zarr(3)
    with pytest.raises(InputError, match=r"has dims .* and lacks 'z'"):
        da.rename(z="depth").octnorm.to_zarr(tmp_path / "d.zarr")
    assert (tmp_path / "b.zarr.partial" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("chunks", [None, {}, {"z": -1}], ids=str)
def test_what_plain_xarray_opened_is_known_as_the_source(tmp_path, chunks):
    store = brain().octnorm.to_zarr(tmp_path / "a.zarr")
    for opened in (
        xr.open_dataarray(store, engine="zarr", chunks=chunks),
        xr.open_zarr(store, chunks=chunks)["intensity"],
        xr.open_dataset(store, engine="zarr", chunks=chunks)["intensity"],
    ):
        result = opened.octnorm.normalize(drift=None)
        assert step_of(result)["fitted_on"]["source"] == str(store)
        for volume in (opened, result, 2 * opened) if chunks is not None else (opened, result):
            with pytest.raises(InputError, match="is what the volume was read from"):
                volume.octnorm.to_zarr(store, overwrite=True)
    assert step_of((2 * opened).octnorm.fit(drift=None))["fitted_on"]["source"] is None


HOLDING = """
import sys, numpy as np, xarray as xr, xoctnorm
class Waiting:
    def __init__(self): self.shape, self.dtype, self.ndim = (4, 8, 8), np.dtype("float32"), 3
    def __getitem__(self, key):
        print("writing", flush=True)
        sys.stdin.readline()
        return np.ones(self.shape, self.dtype)[key]
import dask.array
data = dask.array.from_array(Waiting(), chunks=-1, meta=np.empty((0, 0, 0), "float32"))
getattr(xr.DataArray(data, dims=("z", "y", "x")).octnorm, sys.argv[2])(sys.argv[1])
"""


@pytest.mark.parametrize("method", METHODS)
def test_two_calls_do_not_write_to_one_place(tmp_path, method):
    pytest.importorskip("fcntl")
    target, da = tmp_path / "out.zarr", normalized()
    call = [sys.executable, "-c", HOLDING, target, method]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "writing\n"
        since = r"since \d{4}-\d\d-\d\dT[\d:]+Z"
        with pytest.raises(
            InputError, match=rf"out.zarr' is being written by process {other.pid} on .*, {since}: wait"
        ):
            getattr(da.octnorm, method)(target)
        other.kill()  # after which nothing holds the lock
    xr.testing.assert_equal(open_volume(getattr(da.octnorm, method)(target)).compute(), da)
    assert [p.name for p in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.parametrize(("most", "times"), [(24 * 30 * 4 * 10, None), (24 * 30 * 4 * 3, 4)])
def test_chunks_that_are_opened_again_and_again_are_told(tmp_path, monkeypatch, most, times):
    """Of layers of 10 planes, all are read at once, or 3."""
    stored = brain().drop_encoding().chunk(z=10, y=12, x=-1)
    stored.to_zarr(tmp_path / "deep.zarr", consolidated=False)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", most)
    monkeypatch.setattr(blocks, "LARGEST_CHUNK_BYTES", most)
    volume = xr.open_dataarray(tmp_path / "deep.zarr", engine="zarr", chunks={}, consolidated=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        correction = volume.octnorm.fit(drift=None)
    messages = [str(one.message) for one in caught]
    if times is None:
        assert messages == []
    else:
        (message,) = messages
        assert message.startswith("the file has chunks of 10 planes, ")
        assert f"read 3 at a time, so that every chunk is opened {times} times in each read" in message
        assert "chunk(z=3)" in message
    assert step_of(correction)["warnings"] == messages


# Stores that cannot rename


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_can_be_renamed_the_root_comes_last(method):
    import fsspec

    da, address, memory = normalized(), f"memory://{method}/out.zarr", fsspec.filesystem("memory")
    with pytest.raises(StopError):
        getattr(failing(da, 4, []).octnorm, method)(address)
    assert memory.exists(f"{address}.partial/plan.json")
    assert not memory.exists(f"{address}/zarr.json")
    with pytest.raises(InputError):
        open_volume(address)
    seen = []
    assert getattr(failing(da, None, seen).octnorm, method)(address) == address
    assert sorted(seen) == [0, 4]
    xr.testing.assert_equal(open_volume(address).compute(), da)
    assert not memory.exists(f"{address}.partial")
    with pytest.raises(InputError, match="cannot be moved aside on this file system"):
        getattr(da.octnorm, method)(address, overwrite=True)


# Disks and memory

FULL = """
import resource, signal, sys, numpy as np, xarray as xr, xoctnorm
if int(sys.argv[2]):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
da = xr.DataArray(np.random.default_rng(0).random((64, 256, 256), dtype="float32"), dims=("z", "y", "x"))
try:
    da.octnorm.to_zarr(sys.argv[1])
except OSError as error:
    print(error.errno, error, sep="\\n")
"""


def fill(target, limit=0):
    done = subprocess.run(
        [sys.executable, "-c", FULL, target, str(limit)], capture_output=True, text=True, check=True
    ).stdout.partition("\n")
    assert not target.exists()
    assert "What is written so far is kept in" in done[2]
    return int(done[0])


def test_limit_on_file_size(tmp_path):
    target = tmp_path / "out.zarr"
    assert fill(target, 500_000) == errno.EFBIG
    subprocess.run([sys.executable, "-c", FULL, target, "0"], check=True)
    assert opened(target).shape == (64, 256, 256)


def test_full_disk(tmp_path):
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "mount") or libc.mount(b"tmpfs", bytes(tmp_path), b"tmpfs", 0, b"size=9m"):
        pytest.skip("mounting a small disk needs root; test_limit_on_file_size looks at the same code")
    try:
        assert fill(tmp_path / "out.zarr") == errno.ENOSPC
        assert not (tmp_path / "out.zarr.partial" / "store" / "zarr.json").exists()
    finally:
        libc.umount(bytes(tmp_path))


LARGE = """
import resource, sys, dask, dask.array, numpy as np, xarray as xr, xoctnorm
from xoctnorm import pieces
pieces._PIECE_BYTES //= 4
dask.config.set(scheduler="threads", num_workers=2)
block = np.random.default_rng(0).random((8, 1000, 1000), dtype="float32")
for planes in (64, 160):
    data = dask.array.zeros((planes, 1000, 1000), dtype="float32", chunks=(8, -1, -1))
    da = xr.DataArray(data.map_blocks(lambda zeros: zeros + block[: len(zeros)], dtype="float32"), dims=("z", "y", "x"))
    if planes == 64:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    getattr(da.octnorm, sys.argv[2])(f"{sys.argv[1]}/{planes}.zarr")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_memory_does_not_grow_with_the_volume(tmp_path, method):
    """Volumes of 0.25 and 0.64 GB in pieces of 32 MB: many more than threads and buffers hold."""
    call = [sys.executable, "-c", LARGE, tmp_path, method]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    small, large = (int(line) / 1024 for line in done.stdout.split())
    assert large < small + 50, (small, large)
    assert large < 400, (small, large)


# OME-Zarr


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_pyramid(tmp_path, version):
    da = normalized().chunk(z=4)
    path = da.octnorm.to_ome_zarr(tmp_path / "out.ome.zarr", version=version, levels=3)
    levels = [open_volume(path, level=level) for level in range(3)]
    assert [level.shape for level in levels] == [(6, 5, 4), (6, 3, 2), (6, 2, 1)]
    xr.testing.assert_equal(levels[0].compute(), da.compute())
    assert levels[0].attrs["history"] == da.attrs["history"]
    exact = da.values.astype(float)
    np.testing.assert_allclose(levels[1][:, 0, 1], exact[:, :2, 2:].mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(levels[1][:, 2, 0], exact[:, 4, :2].mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(levels[2][:, 0, 0], exact[:, :4].mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(levels[1].y, [0.5, 2.5, 4.5])
    np.testing.assert_array_equal(levels[2].x, [1.5])
    for level in levels:
        np.testing.assert_array_equal(level.scale_factor, da.scale_factor)
        np.testing.assert_array_equal(level.section, da.section)
        np.testing.assert_array_equal(level.z, da.z)
        assert level.z.attrs["units"] == "um"
    assert "agarose_mask" not in levels[1].coords
    beside = xr.open_zarr(path, group="xoctnorm")
    np.testing.assert_array_equal(beside.agarose_mask, da.agarose_mask)
    with pytest.raises(InputError, match="level=3"):
        open_volume(path, level=3)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:.*:FutureWarning")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_another_reader_agrees(tmp_path, version):
    ngff_zarr = pytest.importorskip("ngff_zarr")
    da = normalized().assign_coords(z=("z", 5 + 10.0 * np.arange(6), {"units": "µm"}))
    path = da.octnorm.to_ome_zarr(tmp_path / "out.ome.zarr", version=version, levels=2)
    validate = True
    try:
        import jsonschema  # noqa: F401
    except ImportError:
        validate = False
    found = ngff_zarr.from_ngff_zarr(str(path), version=version, validate=validate).images
    np.testing.assert_array_equal(np.asarray(found[0].data), da)
    assert found[0].scale == {"z": 10, "y": 1, "x": 1}
    assert found[1].scale == {"z": 10, "y": 2, "x": 2}
    assert found[1].translation == {"z": 5, "y": 0.5, "x": 0.5}
    assert set(found[0].axes_units.values()) == {"micrometer"}


def test_uneven_spacing_is_told(tmp_path):
    da = normalized().assign_coords(z=("z", [0.0, 10, 20, 40, 50, 60], {"units": "um"}))
    with pytest.warns(OctnormWarning, match="z: not evenly spaced"):
        path = da.octnorm.to_ome_zarr(tmp_path / "out.zarr")
    np.testing.assert_array_equal(open_volume(path).z, da.z)


def test_coordinates_that_a_volume_lacks_are_not_made_up(tmp_path):
    volume = brain().drop_vars(["z", "y", "x"])
    volume.octnorm.to_ome_zarr(tmp_path / "brain.ome.zarr")
    back = open_volume(tmp_path / "brain.ome.zarr")
    assert set(back.coords) == {"section"}
    np.testing.assert_array_equal(back, volume)


def test_a_coarse_level_is_fitted_and_the_fine_one_corrected(tmp_path):
    volume = make_phantom(shape=(96, 120), n_sections=4, planes_per_section=5, seed=2)["volume"]
    volume.octnorm.to_ome_zarr(tmp_path / "brain.ome.zarr", levels=2)
    fine, coarse = (open_volume(tmp_path / "brain.ome.zarr", level=np.int64(level)) for level in (0, 1))
    assert coarse.shape == (20, 48, 60)
    from_coarse = coarse.octnorm.fit(drift="scale", agarose_mask="border")
    factors = fine.octnorm.fit(drift="scale", agarose_mask="border").scale_factor
    np.testing.assert_allclose(from_coarse.scale_factor / factors, 1, atol=0.03)
    with pytest.warns(OctnormWarning, match="fitted on planes of 48 x 60 pixels"):
        result = fine.octnorm.apply(from_coarse)
    assert result.shape == fine.shape
    assert "agarose_mask" not in result.coords  # it has other pixels


def test_problems_of_ome(tmp_path):
    da = normalized().expand_dims(channel=2, angle=2)
    with pytest.raises(InputError) as caught:
        da.octnorm.to_ome_zarr(tmp_path / "gone" / "out.zarr", version="0.3", levels=0)
    assert [text.split("=")[0] for text in caught.value.problems[:2]] == ["version", "levels"]
    assert len(caught.value.problems) == 4


def test_halved_planes():
    plane = np.array([[1.0, 3, np.nan], [5, np.nan, np.nan], [8, 2, 4]], "float32")
    np.testing.assert_array_equal(halved_planes(plane[None]), [[[3, np.nan], [5, 4]]])
    whole = np.array([[[1, 2, 250], [2, 2, 255]]], "uint8")
    halved = halved_planes(whole)
    assert halved.dtype == np.uint8
    np.testing.assert_array_equal(halved, [[[2, 252]]])
    big = np.full((1, 2, 2), 65535, "uint16")
    np.testing.assert_array_equal(halved_planes(big), [[[65535]]])


# Pieces


@pytest.mark.parametrize(
    ("n_z", "plane_bytes", "along_z", "depth", "ends"),
    [
        (100, 4 * 2**20, (16,) * 6 + (4,), 16, [32, 64, 96, 100]),
        (100, 4 * 2**20, (10,) * 10, 10, [30, 60, 90, 100]),
        (100, 4 * 2**20, (100,), 10, [30, 60, 90, 100]),
        (30, 1000, (30,), 30, [30]),
        (4, 400 * 2**20, (1,) * 4, 1, [1, 2, 3, 4]),
    ],
)
def test_pieces_are_whole_chunks_of_both_sides(n_z, plane_bytes, along_z, depth, ends):
    side = int((plane_bytes / 4) ** 0.5)
    chunks = pieces.file_chunks({"z": n_z, "y": side, "x": side}, 4, {"z": along_z, "y": (side,), "x": (side,)})
    assert chunks["z"] == depth
    assert pieces.piece_ends(n_z, depth, plane_bytes, along_z) == ends


@pytest.mark.parametrize(
    ("z", "y", "x", "alone", "expected", "ends"),
    [
        (
            (10,) * 4,
            (512,) * 4,
            (512,) * 4,
            True,
            (10, 512, 512),
            [10, 20, 30, 40],
        ),  # pieces of 168 MB, never in memory
        ((10,) * 4, (512,) * 3 + (300,), (512, 511), True, (10, 512, 512), [10, 20, 30, 40]),
        ((10,) * 4, (1024,) * 2, (1024,) * 2, True, (10, 256, 256), [10, 20, 30, 40]),  # above 16 MiB, they are cut
        ((40,), (100,) * 20, (2500,), True, (20, 100, 228), [40]),
        ((1,) * 40, (1000, 1000), (2000,), True, (1, 1000, 2000), [8, 16, 24, 32, 40]),
        # Crumbs, and parts that are not of one shape, are put together.
        ((10,) * 4, (64,) * 32, (64,) * 32, False, (2, 683, 683), [8, 10, 18, 20, 28, 30, 38, 40]),
        ((10,) * 4, (1, 2047), (2048,), False, (2, 683, 683), [8, 10, 18, 20, 28, 30, 38, 40]),
    ],
)
def test_parts_of_planes_are_written_one_by_one(z, y, x, alone, expected, ends):
    incoming = {"z": z, "y": y, "x": x}
    sizes = {dim: sum(lengths) for dim, lengths in incoming.items()}
    assert tuple(pieces.file_chunks(sizes, 4, incoming).values()) == expected
    assert pieces.written_alone(incoming, 4) == alone
    assert pieces.piece_ends(sizes["z"], expected[0], sizes["y"] * sizes["x"] * 4, z, alone=alone) == ends


@pytest.mark.parametrize("method", METHODS)
def test_parts_of_planes_give_the_same_values_and_levels(tmp_path, method, monkeypatch):
    monkeypatch.setattr(pieces, "_CHUNK_BYTES", 2000)
    monkeypatch.setattr(pieces, "_PIECE_BYTES", 5000)
    volume = cut_brain()
    paths = {}
    for name, chunks in {"parts": {"z": 5, "y": 16, "x": 32}, "planes": {"z": 5}}.items():
        paths[name] = getattr(volume.chunk(chunks).octnorm, method)(tmp_path / f"{name}.zarr")
        xr.testing.assert_equal(open_volume(paths[name]).compute(), volume)
    if method == "to_ome_zarr":
        for level in range(3):
            one, other = (zarr.open_group(path, mode="r").get(str(level)) for path in paths.values())
            assert (one is None) == (other is None)
            np.testing.assert_array_equal(one, other)


def test_pieces_cover_everything_once():
    count = np.zeros((2, 7, 3, 3), int)
    sizes = {"channel": 2, "z": 7, "y": 3, "x": 3}
    for region in pieces.pieces(sizes, [3, 6, 7]):
        count[tuple(region.get(dim, slice(None)) for dim in sizes)] += 1
    assert (count == 1).all()


def test_a_chunk_that_is_written_again_never_is_a_part_of_it(tmp_path, monkeypatch):
    """As by a worker that was taken for dead while another wrote the same, and that dies now."""
    place = Place(None, str(tmp_path / "out.zarr"), local=True)
    chunk, whole = f"{place.data}/c/0/0/0", bytes(range(200))
    place.write(chunk, whole)
    write_bytes = Path.write_bytes

    def dies(path: Path, content: bytes) -> None:
        write_bytes(path, content[:50])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", dies)
    with pytest.raises(KeyboardInterrupt):
        place.write(chunk, whole)
    assert Path(chunk).read_bytes() == whole
    assert [path.name for path in Path(place.data).rglob("*") if path.is_file()] == ["0"]
