"""What a plan says beforehand, against what happens then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dask.array
import numpy as np
import pytest
import xarray as xr
from benchmarks import speed
from conftest import brain, cut_brain, no_computing
from test_speed import Counting

from xoctnorm import InputError
from xoctnorm.plan import Plan, in_bytes

OPTIONS = [
    {},
    {"drift": None},
    {"drift": "scale"},
    {"drift": "histogram", "zprofile_sigma": 2},
    {"drift": "agarose", "intensity": "linear"},
    {"drift": "quantile", "flatten_depth": True},
    {"drift": None, "flatten_depth": True},
    {"agarose_mask": "auto", "zprofile_sigma": 1},
]


def counted(da: xr.DataArray) -> tuple[xr.DataArray, Counting]:
    """The volume in chunks, and what counts the voxels that are read of it."""
    dask_array = pytest.importorskip("dask.array")
    counting = Counting(da.to_numpy())
    chunks = (8, *da.shape[1:])
    return da.copy(
        data=dask_array.from_array(counting, chunks, asarray=False, meta=np.empty((0, 0, 0), "f4"))
    ), counting


@pytest.fixture(scope="module")
def many() -> xr.DataArray:
    return speed.make_volume(2**21, "float32")


@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("one_section", [False, True], ids=["sections", "one section"])
def test_the_reads_that_are_told_are_those_that_happen(many, options, one_section):
    da, counting = counted(many.drop_vars("section") if one_section else many)
    with no_computing():
        plan = da.octnorm.plan(**options)
    assert counting.read == 0
    correction = da.octnorm.fit(**options)
    at_least = plan.fit_reads * da.size
    assert at_least <= counting.read <= at_least + plan.sampled_planes * da[0].size
    assert sum(plan.reads.values()) == plan.fit_reads + plan.apply_reads
    before = counting.read
    da.octnorm.apply(correction).compute(scheduler="sync")
    assert counting.read - before == plan.apply_reads * da.size
    assert counting.read * da.dtype.itemsize <= plan.bytes_read


@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning")
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("chunks", [{"z": 5}, {"z": 3, "y": 20}, {"z": 1}], ids=str)
def test_chunks_tasks_and_bytes(options, chunks):
    da = cut_brain().chunk(chunks)
    plan = da.octnorm.plan(**options)
    assert plan.chunks == da.data.npartitions
    assert plan.chunk_shape == dict(zip(da.dims, da.data.chunksize, strict=True))
    assert plan.chunk_bytes == 4 * np.prod(da.data.chunksize)
    assert plan.fit_tasks == plan.fit_reads * len(da.data.dask)
    result = da.octnorm.normalize(**options)
    assert 0.5 < plan.apply_tasks / len(result.data.dask) < 2  # about
    assert plan.bytes_written == result.nbytes + result.agarose_mask.nbytes


def test_numbers_of_a_volume_by_hand(monkeypatch):
    monkeypatch.setattr("xoctnorm.plan.workers", lambda: 3)
    da = cut_brain().astype("uint16").chunk(z=10)  # 30 x 64 x 80, 6 sections
    plan = da.octnorm.plan(intensity="linear", dtype="float64", attach=False)
    assert plan.shape == {"z": 30, "y": 64, "x": 80}
    assert (plan.dtype, plan.sections, plan.chunks, plan.sampled_planes) == ("uint16", 6, 3, 0)
    assert plan.bytes_read == (plan.fit_reads + 1) * 30 * 64 * 80 * 2
    assert plan.bytes_written == 30 * 64 * 80 * 8
    # Values are float32 while they are corrected; one mask per section.
    assert plan.peak_memory == 450_000_000 + 3 * 8 * 10 * 64 * 80 * 4 + 32 * 64 * 80 + 6 * 64 * 80
    by_reference = da.octnorm.plan(drift=None)
    assert plan.peak_memory - by_reference.peak_memory == 6 * 64 * 80
    in_memory = da.load().octnorm.plan(drift=None)
    assert in_memory.peak_memory == 450_000_000 + 30 * 64 * 80 * (2 + 4) + 32 * 64 * 80
    assert (in_memory.chunks, in_memory.apply_tasks) == (0, 0)


def test_further_dims_count():
    da = xr.concat([brain(), brain(seed=2)], "channel").transpose("z", "y", "x", "channel")
    plan = da.octnorm.plan(drift="scale")
    assert (plan.fit_reads, plan.sections) == (2, 4)
    assert plan.bytes_read == 3 * da.nbytes
    chunked = da.chunk(z=5, channel=2).octnorm.plan(drift="scale")
    assert len(chunked.advice) == 1
    assert "chunk further dims by 1" in chunked.advice[0]


def lazy(shape: tuple[int, int, int], chunks: tuple[int, int, int]) -> xr.DataArray:
    import dask.array

    return xr.DataArray(dask.array.zeros(shape, chunks=chunks, dtype="float32"), dims=("z", "y", "x"))


@pytest.mark.parametrize(
    ("chunks", "says"),
    [
        ((16, 1024, 1024), None),
        ((1, 1024, 1024), None),
        ((16, 512, 1024), None),
        ((16, 256, 256), "planes are split in 16 chunks"),
        ((48, 1024, 1024), "chunks are 48 planes deep"),
        ((128, 1024, 1024), "a chunk is 537 MB"),
    ],
    ids=str,
)
def test_awkward_chunks_come_with_a_remedy(chunks, says):
    plan = lazy((128, 1024, 1024), chunks).octnorm.plan()
    if says is None:
        assert plan.advice == ()
        return
    (advice,) = plan.advice
    assert says in advice
    assert "chunks={'z': 16, 'y': -1, 'x': -1}" in advice  # 64 MiB
    remedied = lazy((128, 1024, 1024), (16, 1024, 1024)).octnorm.plan()
    assert remedied.advice == ()
    assert remedied.peak_memory <= plan.peak_memory or "split" in says


def test_a_large_volume_that_is_not_chunked_is_advised():
    # An array that takes no memory.
    da = xr.DataArray(np.broadcast_to(np.float32(1), (128, 1024, 1024)), dims=("z", "y", "x"))
    (advice,) = da.octnorm.plan().advice
    assert "not chunked" in advice


def test_what_is_wrong_is_told_as_normalize_tells_it(volume):
    with pytest.raises(InputError) as planned:
        volume.octnorm.plan(drift="scal", zprofile_sigma=-1, agarose_mask=np.ones((3, 3), bool), dtype="int8")
    with pytest.raises(InputError) as done:
        volume.octnorm.normalize(drift="scal", zprofile_sigma=-1, agarose_mask=np.ones((3, 3), bool), dtype="int8")
    assert str(planned.value) == str(done.value)
    assert len(planned.value.problems) >= 4
    with pytest.raises(TypeError, match="'drfit' is none of them"):
        volume.octnorm.plan(drfit="scale")


def test_how_it_looks():
    plan = cut_brain().chunk(z=5, y=10).octnorm.plan(drift="quantile")
    assert isinstance(plan, Plan)
    lines = repr(plan).splitlines()
    assert lines[:2] == ["<xoctnorm.Plan>", "volume   z 30 × y 64 × x 80, float32, 6 sections"]
    assert "chunks   42, up to z 5 × y 10 × x 80, 16 kB" in lines
    assert any(line.startswith("reads    ") and "quantile" in line for line in lines)
    assert lines[-1].startswith("advice   planes are split in 7 chunks")
    page = plan._repr_html_()
    assert page.count("<tr>") == len(lines) - 1
    assert "z 30 × y 64 × x 80" in page


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1e3, "1 kB"), (12_340_000, "12.3 MB"), (4e13, "40 TB")]
)
def test_bytes_for_people(number, text):
    assert in_bytes(number) == text


USED = """
import re, sys, dask, xarray as xr, xoctnorm
from pathlib import Path
dask.config.set(num_workers=2)
for source, target in (sys.argv[1:3], sys.argv[3:]):  # the larger comes last
    as_zarr = {"engine": "zarr", "chunks": {}, "consolidated": False}
    volume = xr.open_dataarray(source, **(as_zarr if source.endswith(".zarr") else {"chunks": {"z": 4}}))
    plan = volume.octnorm.plan(drift="scale")
    result = volume.octnorm.normalize(drift="scale")
    (result.octnorm.to_zarr if target.endswith(".zarr") else result.octnorm.to_netcdf)(target)
    # Not ru_maxrss, which begins with what the parent had when it forked.
    used = 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
    print(volume.nbytes, plan.peak_memory, used)
"""


def large_zarr(path: Path, n_layers: int) -> None:
    """A volume of 34 MB a layer, of which all have the same files: it takes no time to make."""
    rng, across = np.random.default_rng(0), np.linspace(-1, 1, 1024)
    image = np.where(np.hypot(across[:, None], across) < 0.7, 1, 0.1)
    layer = (image * rng.gamma(20, 1 / 20, (8, 1024, 1024))).astype(np.float32)
    n_z = 8 * n_layers
    empty = dask.array.zeros((n_z, 1024, 1024), chunks=(8, 512, 512), dtype="float32")
    volume = xr.DataArray(empty, dims=("z", "y", "x"), coords={"section": ("z", np.arange(n_z) // 8)}, name="brain")
    encoding = {"brain": {"compressors": None}}
    volume.to_zarr(path, compute=False, consolidated=False, encoding=encoding, zarr_format=3)
    pytest.importorskip("zarr").open_array(path / "brain", mode="r+")[:8] = layer
    for chunk in (path / "brain" / "c" / "0").rglob("*/*"):
        for number in range(1, n_layers):
            link = path / "brain" / "c" / str(number) / chunk.parent.name / chunk.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(chunk)


@pytest.mark.slow
def test_memory_is_what_was_told(tmp_path):
    """Of a small file, and of one that is larger than the memory that may be used."""
    if "VmHWM" not in (Path("/proc/self/status").read_text() if Path("/proc/self/status").exists() else ""):
        pytest.skip("only Linux tells the peak of a process")
    speed.make_volume(2**24, "float32").to_netcdf(tmp_path / "in.nc")
    large_zarr(tmp_path / "in.zarr", 20)
    paths = [tmp_path / name for name in ("in.nc", "out.nc", "in.zarr", "out.zarr")]
    done = subprocess.run([sys.executable, "-c", USED, *paths], capture_output=True, text=True, check=True)
    small, large = ([int(number) for number in line.split()] for line in done.stdout.splitlines())
    for _, told, used in (small, large):
        assert told / 2 < used < told
    volume, told, used = large
    assert used < told < volume
    assert told == 450_000_000 + 2 * 8 * 8 * 512**2 * 4 + 32 * 1024**2
