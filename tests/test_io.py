from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import signal
import subprocess
import sys
import weakref
from datetime import UTC, datetime
from pathlib import Path

import dask
import dask.array
import netCDF4
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from conftest import brain, cut_brain
from xarray.backends.netCDF4_ import NETCDF4_PYTHON_LOCK, NetCDF4ArrayWrapper, NetCDF4DataStore

from xoctnorm.errors import InputError
from xoctnorm.io import _chunk_edges, _streamable, write_netcdf
from xoctnorm.provenance import steps_of

OURS = {"source": "xoctnorm 0.1.0"}
PER_PLANE = ("background_threshold", "clip_threshold", "scale_factor", "zprofile_gain")


def normalized(labels=(0, 0, 1, 1, 2, 2), dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    units = {"units": "um", "long_name": "position"}
    planes = {name: ("z", rng.random(6), {"units": "1", "long_name": name, **OURS}) for name in PER_PLANE}
    mask = ("y", "x"), rng.random((5, 4)) < 0.5, {"units": "1", "long_name": "agarose", **OURS}
    return xr.DataArray(
        (rng.random((6, 5, 4)) * 100).astype(dtype),
        dims=("z", "y", "x"),
        name="brain",
        coords={
            "z": ("z", np.arange(6.0) * 10, units),
            "y": ("y", np.arange(5.0), units),
            "x": ("x", np.arange(4.0), units),
            "section": ("z", list(labels), {"long_name": "serial section"}),
            **planes,
            "agarose_mask": mask,
            "otsu_threshold": ((), 0.3, {"units": "1", "long_name": "Otsu threshold", **OURS}),
            "divisor": ((), 2.0, {"units": "1", "long_name": "divisor", **OURS}),
        },
        attrs={
            "units": "1",
            "long_name": "normalized intensity",
            "history": "2026-01-02T00:00:00Z xoctnorm 0.1.0: normalize()\n2026-01-01T00:00:00Z microscope",
            "xoctnorm_provenance": json.dumps({"schema_version": 1, "steps": []}),
        },
    )


def several(dim, labels, volume=None):
    volume = normalized() if volume is None else volume
    return xr.concat([volume.drop_vars(dim, errors="ignore")] * 2, pd.Index(labels, name=dim), coords="minimal")


def opened(path):
    with xr.open_dataarray(path) as da:
        return da.load()


# Round trips


def test_everything_comes_back_bit_for_bit(tmp_path):
    da = normalized()
    da[0, 0, 0] = np.nan
    da["clip_threshold"][2] = np.nan
    before = da.copy(deep=True)
    path = write_netcdf(da, tmp_path / "out.nc")
    assert path == tmp_path / "out.nc"
    back = opened(path)
    xr.testing.assert_equal(back, da)
    assert back.name == "brain"
    assert back.dtype == np.float32
    assert back.to_numpy().tobytes() == da.to_numpy().tobytes()
    assert list(back.xindexes) == ["z", "y", "x"]
    assert set(back.coords) == set(da.coords)
    assert back.agarose_mask.dtype == bool
    for name, coord in da.coords.items():
        assert {key: back[name].attrs[key] for key in coord.attrs} == coord.attrs, name
    ancillary = back.attrs.pop("ancillary_variables").split()
    assert set(ancillary) == {*PER_PLANE, "agarose_mask", "otsu_threshold", "divisor"}
    assert back.attrs == da.attrs
    xr.testing.assert_identical(da, before)
    assert [p.name for p in tmp_path.iterdir()] == ["out.nc"]


@pytest.mark.parametrize("chunks", [None, {"z": 4, "x": 33}])
def test_what_the_model_of_tissue_fitted_comes_back(tmp_path, chunks):
    volume = cut_brain() if chunks is None else cut_brain().chunk(chunks)
    result = volume.octnorm.normalize(flatten_depth=True)
    back = opened(result.octnorm.to_netcdf(tmp_path / "out.nc"))
    xr.testing.assert_equal(back, result.compute())
    fitted = {"scale_factor", "depth_gain", "noise_floor", "agarose_mask", "divisor"}
    assert fitted == set(back.attrs["ancillary_variables"].split())
    assert back.agarose_mask.dtype == bool
    assert back.agarose_mask.dims == ("z", "y", "x")
    assert back.noise_floor.attrs["units"] == "counts"
    # What comes back goes on: the floor is not taken off again.
    again = opened(volume.octnorm.correct_drift().octnorm.to_netcdf(tmp_path / "drift.nc")).octnorm.flatten_depth()
    np.testing.assert_array_equal(again, volume.octnorm.correct_drift().octnorm.flatten_depth())


def test_second_round_trip_is_the_first(tmp_path):
    first = opened(write_netcdf(normalized(), tmp_path / "1.nc"))
    second = opened(write_netcdf(first, tmp_path / "2.nc"))
    xr.testing.assert_identical(first, second)


@pytest.mark.parametrize("dtype", ["float64", ">f4", ">i2", "uint8", "int16", "uint16", "int64", "uint64", "bool"])
def test_dtypes(tmp_path, dtype):
    da = normalized(dtype=dtype)
    back = opened(write_netcdf(da, tmp_path / "out.nc"))
    assert back.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(back.to_numpy(), da.to_numpy())


@pytest.mark.parametrize("chunks", [None, {"z": 4, "y": 2}])
def test_float16_is_widened(tmp_path, chunks):
    da = normalized(dtype="float16")
    da["scale_factor"] = da.scale_factor.astype("float16")
    back = opened(write_netcdf(da if chunks is None else da.chunk(chunks), tmp_path / "out.nc"))
    assert back.dtype == back.scale_factor.dtype == np.float32
    np.testing.assert_array_equal(back.to_numpy(), da.to_numpy().astype("float32"))


@pytest.mark.parametrize("dims", [("z", "y", "x"), ("x", "z", "y")])
@pytest.mark.parametrize("complevel", [0, 4])
def test_dask_with_awkward_chunks_gives_the_file_of_numpy(tmp_path, dims, complevel):
    values = np.random.default_rng(0).random((37, 150, 170), dtype="float32")
    da = xr.DataArray(values, dims=("z", "y", "x")).transpose(*dims)
    lazy = da.chunk({"z": (1, 30, 6), "y": 70, "x": 169})
    one = write_netcdf(da, tmp_path / "1.nc", complevel=complevel)
    other = write_netcdf(lazy, tmp_path / "2.nc", complevel=complevel)
    xr.testing.assert_identical(opened(one), opened(other))
    xr.testing.assert_equal(opened(one), da)
    with netCDF4.Dataset(one) as a, netCDF4.Dataset(other) as b:
        assert a["volume"].chunking() == b["volume"].chunking()
        assert a["volume"].filters()["complevel"] == complevel


@pytest.mark.parametrize(
    ("sizes", "dtype", "edges"),
    [
        ({"z": 2000, "y": 4000, "x": 4000}, "float32", {"z": 16, "y": 125, "x": 125}),
        ({"x": 1000, "z": 64, "y": 1000}, "float32", {"x": 125, "z": 16, "y": 125}),
        ({"section": 9, "z": 10, "y": 100, "x": 90}, "float32", {"section": 1, "z": 10, "y": 100, "x": 90}),
        ({"z": 500, "y": 100, "x": 100}, "uint8", {"z": 100, "y": 100, "x": 100}),
        ({"y": 3000, "x": 2000}, "bool", {"y": 1000, "x": 1000}),
        ({"z": 16, "y": 1, "x": 100_000}, "float32", {"z": 16, "y": 1, "x": 14286}),
    ],
)
def test_chunk_shapes(sizes, dtype, edges):
    lazy = xr.Variable(tuple(sizes), dask.array.zeros(tuple(sizes.values()), dtype=dtype, chunks=-1))
    assert _chunk_edges(lazy) == edges


@pytest.mark.parametrize("chunks", [{"z": 1}, {"z": 25, "y": 333}, {"z": -1, "y": 64, "x": 64}])
def test_blocks_are_whole_file_chunks_and_bounded(chunks, monkeypatch):
    monkeypatch.setattr("xoctnorm.io._BLOCK_BYTES", 2**25)
    lazy = xr.DataArray(dask.array.zeros((90, 4000, 3000), dtype="float32"), dims=("z", "y", "x"), name="v")
    ds = lazy.chunk(chunks).to_dataset()
    edges = {"v": _chunk_edges(ds["v"].variable)}
    variable = _streamable(ds, edges)["v"].variable
    for dim, edge in edges["v"].items():
        assert all(size % edge == 0 for size in variable.chunksizes[dim][:-1])
    assert np.prod([max(parts) for parts in variable.chunks]) * 4 <= 2**25


@pytest.mark.parametrize(
    ("chunks", "edges"),
    [
        ((10, 512, 512), (10, 128, 128)),
        ((8, 2048, 2048), (8, 128, 128)),
        ((7, 500, 2048), (14, 125, 128)),
        ((1, 2048, 2048), (16, 128, 128)),
        ((40, 41, 300), (20, 123, 150)),
        (((30,) * 3 + (410,), 512, 512), (16, 128, 128)),
    ],
)
def test_chunks_of_files_larger_than_memory_fit_those_that_are_computed(chunks, edges):
    variable = xr.Variable(("z", "y", "x"), dask.array.zeros((500, 2048, 2048), chunks=chunks, dtype="float32"))
    assert tuple(_chunk_edges(variable).values()) == edges


def test_dask_blocks_are_let_go_while_writing(tmp_path):
    alive, most = [], []

    def watch(block):
        result = block + 1
        alive.append(weakref.ref(result))
        most.append(sum(ref() is not None for ref in alive))
        return result

    data = dask.array.zeros((256, 128, 128), dtype="float32", chunks=(4, -1, -1)).map_blocks(watch, dtype="float32")
    with dask.config.set(scheduler="threads", num_workers=2):
        path = write_netcdf(xr.DataArray(data, dims=("z", "y", "x")), tmp_path / "out.nc")
    assert float(opened(path).min()) == 1
    assert len(most) >= 64
    assert max(most) <= 24


def test_lazy_file_without_dask_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("xoctnorm.io._BLOCK_BYTES", 2**23)
    ones = xr.DataArray(dask.array.ones((40, 512, 512), dtype="float32", chunks=(16, -1, -1)), dims=("z", "y", "x"))
    source = write_netcdf(ones, tmp_path / "source.nc")
    read, getitem = [], NetCDF4ArrayWrapper._getitem

    def watch(wrapper, key):
        result = getitem(wrapper, key)
        read.append(result.nbytes)
        return result

    monkeypatch.setattr(NetCDF4ArrayWrapper, "_getitem", watch)
    with xr.open_dataarray(source) as lazy:
        write_netcdf(lazy, tmp_path / "target.nc")
        assert not lazy.variable._in_memory
    assert sum(read) == ones.nbytes
    assert max(read) <= 2**23 < ones.nbytes
    assert float(opened(tmp_path / "target.nc").sum()) == ones.size


def test_writers_take_the_lock_of_readers(tmp_path, monkeypatch):
    """xarray's own for writing is another, which may take the two locks in it the other way round: a deadlock."""
    stores, open_store = [], NetCDF4DataStore.open

    def watch(*args, **kwargs):
        stores.append(open_store(*args, **kwargs))
        return stores[-1]

    monkeypatch.setattr(NetCDF4DataStore, "open", watch)
    with xr.open_dataarray(write_netcdf(normalized(), tmp_path / "source.nc"), chunks={}) as lazy:
        write_netcdf(lazy, tmp_path / "target.nc")
    assert len(stores) == 3
    assert all(store.lock is NETCDF4_PYTHON_LOCK for store in stores)


def test_multiindex_is_written_plain_and_can_be_rebuilt(tmp_path):
    index = pd.MultiIndex.from_product([["a", "b", "c"], [0, 1]], names=["section", "plane"])
    da = normalized().drop_vars(["z", "section"])
    da = da.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "z"))
    back = opened(write_netcdf(da, tmp_path / "1.nc"))
    record = json.loads(back.xoctnorm_provenance)
    assert record == {"schema_version": 1, "steps": [], "multiindex": {"z": ["section", "plane"]}}
    xr.testing.assert_equal(back.set_index(record["multiindex"]), da)

    again = opened(write_netcdf(back, tmp_path / "2.nc"))
    assert json.loads(again.xoctnorm_provenance) == {"schema_version": 1, "steps": []}

    del da.attrs["xoctnorm_provenance"]
    back = opened(write_netcdf(da, tmp_path / "3.nc"))
    xr.testing.assert_equal(back.set_index(json.loads(back.xoctnorm_multiindex)), da)


def test_string_labels_select(tmp_path):
    labels = ["Schnitt ä", "b"]
    back = opened(write_netcdf(several("section", labels), tmp_path / "out.nc"))
    assert back.section.to_numpy().tolist() == labels
    np.testing.assert_array_equal(back.sel(section="Schnitt ä"), normalized())


@pytest.mark.parametrize("make", [list, lambda x: np.array(x, object), pd.Index, lambda x: np.array(x, "U20")])
def test_string_labels_of_every_kind(tmp_path, make):
    labels = ["ä", "", "ccc", "ä", "d e", "µ"]
    da = normalized().assign_coords(section=("z", make(labels)), lab="Köln", kind=("z", make(labels)))
    back = opened(write_netcdf(da.swap_dims(z="kind"), tmp_path / "out.nc"))
    assert back.section.to_numpy().tolist() == back.kind.to_numpy().tolist() == labels
    assert back.lab.item() == "Köln"
    assert "kind" in back.xindexes


@pytest.mark.parametrize(
    "labels", [["a", None], ["a", np.nan], pd.Categorical(["a", "b"]), pd.array([1, None], "Int64")]
)
def test_labels_that_netcdf_cannot_hold(tmp_path, labels):
    labels = labels if isinstance(labels, pd.Categorical) or hasattr(labels, "isna") else np.array(labels, object)
    da = xr.DataArray(np.zeros((2, 2, 2)), dims=("z", "y", "x"), coords={"section": ("z", labels)})
    with pytest.raises(InputError, match="the coordinate 'section' has dtype"):
        write_netcdf(da, tmp_path / "out.nc")


@pytest.mark.parametrize("label", ["Schnitt \ud800", "a\0b"])
@pytest.mark.parametrize("method", ["to_netcdf", "to_zarr"])
def test_text_that_no_file_holds(tmp_path, label, method):
    pytest.importorskip("zarr")
    for labels in (["a", label], np.array(["a", label], object)):
        da = xr.DataArray(np.zeros((2, 2, 2)), dims=("z", "y", "x"), coords={"section": ("z", labels)})
        with pytest.raises(InputError, match=f"the coordinate 'section' has the text {re.escape(repr(label))}"):
            getattr(da.octnorm, method)(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_record_with_text_that_no_file_holds(tmp_path):
    """As the name of a file that is no UTF-8; the digest is put into the record of a chunked volume at the end."""
    units = "Zähler \udcff"
    volume = brain().assign_attrs(units=units)
    volume.encoding["source"] = "/data/\udcff.tif"
    correction = volume.octnorm.fit(drift="scale")
    assert correction["clip_threshold"].attrs["units"] == "Zähler \\udcff"
    correction.to_netcdf(tmp_path / "correction.nc")
    read = xr.load_dataset(tmp_path / "correction.nc")
    for one in (volume, volume.chunk(z=5)):
        back = opened(one.octnorm.apply(read).octnorm.to_netcdf(tmp_path / "out.nc"))
        (step,) = steps_of(back.attrs)
        assert step["fitted_on"]["source"] == "/data/\udcff.tif"
        assert step["applied_to"]["attributes"]["units"] == units
        assert step["applied_to"]["digest"].startswith("sum64")


def test_stale_encoding_of_a_packed_file_is_not_used(tmp_path):
    packed = {"dtype": "int16", "scale_factor": 0.1, "add_offset": 3.0, "_FillValue": -1, "chunksizes": (6, 5, 4)}
    stale = {"dtype": "int32", "_FillValue": -9, "chunksizes": (6,)}
    source = tmp_path / "source.nc"
    plain = normalized().drop_vars(PER_PLANE)
    plain.to_netcdf(source, encoding={"brain": packed, "z": stale})
    da = opened(source)
    da = da.isel(z=slice(3), y=slice(2)).copy(data=np.full((3, 2, 4), 0.25, "float32"))
    da.encoding = dict(opened(source).encoding)
    path = write_netcdf(da, tmp_path / "out.nc")
    xr.testing.assert_equal(opened(path), da)
    with netCDF4.Dataset(path) as file:
        assert file["brain"].dtype == np.float32
        assert np.isnan(file["brain"]._FillValue)
        assert [n for n, v in file.variables.items() if "_FillValue" in v.ncattrs()] == ["brain"]


# Attributes and names

ODD = {
    "flag": (True, "true"),
    "numpy_flag": (np.bool_(False), "false"),
    "none": (None, "null"),
    "dict": ({"a": [1, None], 2: {"é": np.float32(0.5)}}, '{"a": [1, null], "2": {"é": 0.5}}'),
    "time": (datetime(2026, 1, 2, tzinfo=UTC), '"2026-01-02T00:00:00+00:00"'),
    "mixed": ([1, "a", None], '[1, "a", null]'),
    "flags": ([True, False], "[true, false]"),
    "table": (np.eye(2), "[[1.0, 0.0], [0.0, 1.0]]"),
    "ragged": ([np.zeros(1), np.zeros(2)], "[[0.0], [0.0, 0.0]]"),
    "nothing": ([], "[]"),
    "huge": (2**80, str(2**80)),
    "nan_inside": ({"a": float("nan")}, '{"a": "nan"}'),
    "nul": ("a\0b", '"a\\u0000b"'),
    "surrogate": ("\ud800", '"\\ud800"'),
    "bytes": (b"abc", '"abc"'),
    "complex": (1 + 2j, '"(1+2j)"'),
    "path": (Path("a"), '"a"'),
    "text": ("größer\nµ", "größer\nµ"),
    "empty": ("", ""),
    "long": ("x" * 200_000, "x" * 200_000),
    "texts": (["a", "ü"], ["a", "ü"]),
    "int": (3, 3),
    "float": (0.1, 0.1),
    "half": (np.float16(0.5), np.float32(0.5)),
    "uint8": (np.uint8(7), np.uint8(7)),
    "array": (np.array([1, 2], ">i4"), np.array([1, 2], "i4")),
    "numbers": ((1, 2.5), np.array([1, 2.5])),
}


def test_odd_attributes(tmp_path):
    attrs = {key: value for key, (value, _) in ODD.items()}
    attrs["itself"] = attrs["again"] = {}
    attrs["itself"]["me"] = attrs["itself"]
    da = normalized().assign_attrs(attrs)
    da["z"].attrs["odd"] = None
    back = opened(write_netcdf(da, tmp_path / "out.nc"))
    for key, (_, expected) in ODD.items():
        np.testing.assert_array_equal(back.attrs[key], expected, err_msg=key)
        assert type(back.attrs[key]) is type(expected) or isinstance(back.attrs[key], np.number), key
        assert getattr(back.attrs[key], "dtype", None) == getattr(expected, "dtype", np.asarray(expected).dtype) or (
            isinstance(expected, str | list)
        )
    assert back.z.odd == "null"
    assert "itself" in back.attrs


def test_attribute_names_that_mean_something_are_kept_as_remarks(tmp_path):
    reserved = dict.fromkeys(["_FillValue", "scale_factor", "coordinates", "dtype", "NAME", "missing_value"], 2)
    da = normalized(dtype="int16").assign_attrs(
        {**reserved, "a b": 1, "a_b": 2, "größe": 3, ("x", 1): 4, "2nd": 5, "grid_mapping": "crs"}
    )
    da["z"].attrs |= {"bounds": "z_bnds", "axis": "Z"}
    back = opened(write_netcdf(da, tmp_path / "out.nc"))
    np.testing.assert_array_equal(back.to_numpy(), da.to_numpy())
    assert back.dtype == np.int16
    assert {key: back.attrs[f"user_{key}"] for key in reserved} == reserved
    assert (back.attrs["a_b"], back.attrs["a_b_"], back.attrs["gr__e"], back.attrs["user_2nd"]) == (2, 1, 3, 5)
    assert back.attrs["user_grid_mapping"] == "crs"
    assert (back.z.user_bounds, back.z.user_axis) == ("z_bnds", "Z")


@pytest.mark.parametrize(
    ("name", "written"),
    [(None, "volume"), ("my brain", "my_brain"), ("z", "volume"), (("a", 1), "user___a___1_"), ("", "user_")],
)
def test_names(tmp_path, name, written):
    da = normalized().rename(x="x pos").rename(name)
    back = opened(write_netcdf(da, tmp_path / "out.nc"))
    assert back.name == written
    assert back.dims == ("z", "y", "x_pos")
    np.testing.assert_array_equal(back["x_pos"], da["x pos"])
    np.testing.assert_array_equal(back, da)


def test_name_that_a_coordinate_has(tmp_path):
    da = normalized().assign_coords(volume=3.0).rename(None)
    assert opened(write_netcdf(da, tmp_path / "out.nc")).name == "volume_"


def test_global_attributes(tmp_path):
    da = normalized().assign_attrs(
        title="Brain 7", creator_name="Ä", institution="I", Conventions="CF-1.6, ACDD-1.3", comment=["a"], summary=""
    )
    with xr.open_dataset(write_netcdf(da, tmp_path / "out.nc")) as ds:
        assert ds.attrs == {
            "Conventions": "CF-1.11, ACDD-1.3",
            "title": "Brain 7",
            "history": da.history,
            "creator_name": "Ä",
            "institution": "I",
        } | ({"comment": "a"} if "comment" in ds.attrs else {})
        assert ds["brain"].attrs["title"] == "Brain 7"
        assert "Conventions" not in ds["brain"].attrs
    del da.attrs["history"], da.attrs["title"], da.attrs["Conventions"]
    with xr.open_dataset(write_netcdf(da, tmp_path / "out.nc")) as ds:
        assert ds.attrs["Conventions"] == "CF-1.11"
        assert ds.attrs["title"] == "normalized intensity"
        assert "to_netcdf" in ds.attrs["history"]
        assert "history" not in ds["brain"].attrs


def test_what_the_file_holds(tmp_path):
    with netCDF4.Dataset(write_netcdf(normalized(), tmp_path / "out.nc")) as file:
        mask = file["agarose_mask"]
        assert mask.dtype == np.int8
        assert mask.flag_values.dtype == np.int8
        assert (mask.flag_values.tolist(), mask.flag_meanings) == ([0, 1], "tissue_or_empty agarose")
        assert set(file["brain"].coordinates.split()) >= {*PER_PLANE, "agarose_mask", "section", "divisor"}
        for name, variable in file.variables.items():
            assert variable.long_name, name
            assert variable.units, name
            assert "axis" not in variable.ncattrs(), name
            assert ("_FillValue" in variable.ncattrs()) == (name == "brain")


# The checker: the second number is how many warnings are known and cannot be avoided.


def with_multiindex():
    index = pd.MultiIndex.from_product([["a", "b", "c"], [0, 1]], names=["section", "plane"])
    plain = normalized().drop_vars(["z", "section"])
    return plain.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "z"))


def odd_volume():
    da = normalized().assign_attrs({key: value for key, (value, _) in ODD.items()} | {"größe": 1, "_FillValue": 2})
    da["y"].attrs |= {"axis": "Y", "bounds": "y_bnds"}
    da["clip_threshold"][0] = np.nan
    return da.assign_coords({"good plane": ("z", [True] * 6), "lab": "A", "shot": ("z", np.arange(6).astype("M8[s]"))})


def bare():
    return xr.DataArray(np.zeros((3, 4, 5), "float32"), dims=("z", "y", "x"), coords={"z": [0, 1, 2]})


TIMES = np.array(["2026-01-01", "2026-01-02"], "M8[ns]")
LAYOUTS = {
    "integers": lambda: normalized(),
    "strings": lambda: normalized(list("aabbcc")),
    "section_dim": lambda: several("section", [0, 1]),
    "section_dim_of_strings": lambda: several("section", ["a", "b"]),
    "channel": lambda: several("channel", ["red", "green"]),
    "channel_last_transposed": lambda: several("channel", [1, 2]).transpose("x", "y", "z", "channel"),
    "time_last": lambda: several("time", TIMES).transpose("z", "y", "x", "time"),
    "multiindex": with_multiindex,
    "integer_volume": lambda: normalized(dtype="uint16"),
    "mask_volume": lambda: normalized(dtype="bool"),
    "mask_per_plane": lambda: normalized().assign_coords(
        agarose_mask=(("z", "y", "x"), np.ones((6, 5, 4), bool), {"long_name": "agarose", **OURS})
    ),
    "odd": odd_volume,
    "bare": bare,
    "one_plane": lambda: normalized().isel(z=0),
    "of_tissue": lambda: cut_brain().octnorm.normalize(flatten_depth=True),
    "of_tissue_floor_per_plane": lambda: cut_brain().octnorm.normalize(noise_floor=[0.01] * 30),
    "of_tissue_channels": lambda: xr.concat([cut_brain()] * 2, pd.Index(["a", "b"], name="channel")).octnorm.normalize(
        noise_floor=0.01, flatten_depth=True
    ),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cf")
    files = {name: write_netcdf(make(), folder / f"{name}.nc") for name, make in LAYOUTS.items()}
    files["time_first"] = write_netcdf(several("time", TIMES), folder / "time_first.nc")
    checker = Path(sys.executable).with_name("compliance-checker")
    command = [checker, "--test=cf:1.11", "--format=json_new", f"--output={folder / 'all.json'}", "--criteria=strict"]
    done = subprocess.run([*command, *files.values()], capture_output=True, text=True, check=False, cwd=folder)
    # A check that crashes is reported here only.
    assert "exceptions occurred" not in done.stderr + done.stdout, done.stderr
    found = json.loads((folder / "all.json").read_text())
    return {name: found[str(path)]["cf:1.11"] for name, path in files.items()}


def messages(verdict):
    parts = verdict["high_priorities"], verdict["medium_priorities"], verdict["low_priorities"]
    return [[message for check in part for message in check["msgs"]] for part in parts]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_compliance_checker_finds_nothing(verdicts, layout):
    assert messages(verdicts[layout]) == [[], [], []]


def test_compliance_checker_recommends_another_order_of_dims_only(verdicts):
    errors, warnings, hints = messages(verdicts["time_first"])
    assert (errors, hints) == ([], [])
    assert [w for w in warnings if "not in the recommended order" not in w] == []


# Wrong calls


def test_all_problems_in_one_message(tmp_path):
    da = normalized(dtype="complex64").assign_coords(odd=("z", [1, "a", None, 2, 3, 4]))
    with pytest.raises(InputError) as error:
        write_netcdf(da, tmp_path / "missing" / "out.nc", complevel=11)
    text = str(error.value)
    assert len(error.value.problems) == 4
    for part in ("missing' does not exist; create", "complevel=11", "0 (no compression) to 9", "complex64", "'odd'"):
        assert part in text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("complevel", [-1, 10, True, 1.0, "1", None])
def test_complevel(tmp_path, complevel):
    with pytest.raises(InputError, match="complevel="):
        write_netcdf(normalized(), tmp_path / "out.nc", complevel=complevel)


@pytest.mark.parametrize("path", [None, 3, "a\0b", "~no_such_user_at_all/x.nc", "x" * 300])
def test_no_path(path):
    with pytest.raises(InputError, match="path="):
        write_netcdf(normalized(), path)


def test_folder_pipe_and_dataset(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a folder"):
        write_netcdf(normalized(), tmp_path)
    with pytest.raises(InputError, match="no regular file"):
        write_netcdf(normalized(), tmp_path / "pipe")
    with pytest.raises(InputError, match="is a Dataset"):
        write_netcdf(normalized().to_dataset(), tmp_path / "out.nc")


@pytest.mark.parametrize("part", ["folder", "file"])
def test_not_writable(tmp_path, monkeypatch, part):
    target = tmp_path / "out.nc"
    target.write_text("old")
    denied = tmp_path if part == "folder" else target
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != denied)
    with pytest.raises(InputError, match="not writable" if part == "folder" else "write-protected"):
        write_netcdf(normalized(), target)
    assert target.read_text() == "old"


def test_the_input_is_not_overwritten(tmp_path):
    source = write_netcdf(normalized(), tmp_path / "in.nc")
    content = source.read_bytes()
    (tmp_path / "link.nc").symlink_to(source)
    da = opened(source)
    from_coordinate = (da * 2).assign_coords(divisor=da.divisor)
    from_coordinate.encoding = {}
    from_record = normalized()
    steps = [{"fitted_on": {"name": "v", "source": str(source)}}]
    from_record.attrs["xoctnorm_provenance"] = json.dumps({"steps": steps})
    for volume in (da, from_coordinate, from_record):
        for path in (source, tmp_path / "link.nc", os.path.relpath(source)):
            with pytest.raises(InputError, match="the volume was read from"):
                write_netcdf(volume, path)
    assert source.read_bytes() == content
    write_netcdf(da, tmp_path / "out.nc")
    write_netcdf(normalized(seed=1), source)  # Another volume may replace it.
    assert source.read_bytes() != content


# All or nothing


def failing(error):
    def fail(block, block_info=None):
        if block_info and block_info[0]["chunk-location"][0] == 1:
            raise error
        return block

    da = xr.DataArray(dask.array.ones((48, 128, 128), dtype="float32", chunks=(16, -1, -1)), dims=("z", "y", "x"))
    return da.copy(data=da.data.map_blocks(fail, dtype="float32", meta=np.empty((0, 0, 0), "float32")))


@pytest.mark.parametrize(
    "error", [ValueError("mine"), RuntimeError("mine"), KeyboardInterrupt("mine"), MemoryError("mine")]
)
@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, error, scheduler):
    target = write_netcdf(normalized(), tmp_path / "out.nc")
    content = target.read_bytes()
    with dask.config.set(scheduler=scheduler), pytest.raises(type(error), match="mine"):
        write_netcdf(failing(error), target)
    assert target.read_bytes() == content
    with dask.config.set(scheduler=scheduler), pytest.raises(type(error), match="mine"):
        write_netcdf(failing(error), tmp_path / "new.nc")
    assert [p.name for p in tmp_path.iterdir()] == ["out.nc"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_after_writing(tmp_path, monkeypatch, step):
    def fail(*args, **kwargs):
        raise OSError(errno.EIO, "mine")

    target = write_netcdf(normalized(), tmp_path / "out.nc")
    content = target.read_bytes()
    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="mine"):
        write_netcdf(normalized(seed=1), target)
    assert target.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["out.nc"]


def test_file_is_synced_before_it_is_renamed(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(
        os, "fsync", lambda fd: (done.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd))[1]
    )
    monkeypatch.setattr(Path, "replace", lambda path, to: (done.append("replace"), replace(path, to))[1])
    write_netcdf(normalized(), tmp_path / "out.nc")
    assert Path(done[0]).name == "partial.nc"
    assert done[1:] == ["replace", str(tmp_path)]


def test_rights_and_links_are_kept(tmp_path):
    real, link = tmp_path / "real.nc", tmp_path / "link.nc"
    umask = os.umask(0o027)
    try:
        write_netcdf(normalized(), real)
    finally:
        os.umask(umask)
    assert real.stat().st_mode & 0o777 == 0o640
    real.chmod(0o664)
    link.symlink_to(real)
    assert write_netcdf(normalized(seed=1), link) == real
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o664
    xr.testing.assert_equal(opened(real), normalized(seed=1))


SLOW = """
import signal, sys, time, dask.array, xarray as xr
from xoctnorm.io import write_netcdf
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let their background jobs ignore it
def wait(block):
    sys.stdout.write("working\\n")
    sys.stdout.flush()
    time.sleep(0.2)
    return block + 1
data = dask.array.zeros((320, 128, 128), dtype="float32", chunks=(16, -1, -1)).map_blocks(wait, dtype="float32")
write_netcdf(xr.DataArray(data, dims=("z", "y", "x")), sys.argv[1])
"""


@pytest.mark.parametrize(("how", "old"), [(signal.SIGKILL, True), (signal.SIGKILL, False), (signal.SIGINT, True)])
def test_killed_in_the_middle(tmp_path, how, old):
    target = tmp_path / "out.nc"
    if old:
        write_netcdf(normalized(), target)
        content = target.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, target], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        for _ in range(6):  # By then some blocks are in the file.
            assert process.stdout.readline() == "working\n"
        process.send_signal(how)
        process.stdout.read()
    assert process.returncode != 0
    left = {p.name for p in tmp_path.iterdir()}
    if how == signal.SIGKILL:
        left = {name for name in left if not (name.startswith(".out.nc.") and name.endswith(".partial"))}
    assert left == ({"out.nc"} if old else set())
    if old:
        assert target.read_bytes() == content


FULL = """
import resource, signal, sys, numpy as np, xarray as xr
from xoctnorm.io import write_netcdf
path, limit, chunked = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "dask"
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
da = xr.DataArray(np.random.default_rng(0).random((64, 256, 256), dtype="float32"), dims=("z", "y", "x"))
try:
    write_netcdf(da.chunk(z=16) if chunked else da, path)
except OSError as error:
    print(error.errno, error.filename, error.strerror, sep="\\n")
"""


def fill(target, limit, kind):
    old = write_netcdf(normalized(), target).read_bytes()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL, target, str(limit), kind],
        capture_output=True,
        text=True,
        check=True,
    )
    number, filename, message = done.stdout.splitlines()
    assert filename == str(target)
    assert "16,777,216 bytes are needed" in message
    assert target.read_bytes() == old
    assert [p.name for p in target.parent.iterdir()] == [target.name]
    return int(number), message


def test_limit_on_file_size(tmp_path):
    number, message = fill(tmp_path / "out.nc", 3_000_000, "dask")
    assert number == errno.EIO
    assert "limit on file sizes" in message


def test_full_disk(tmp_path):
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "mount") or libc.mount(b"tmpfs", bytes(tmp_path), b"tmpfs", 0, b"size=5m"):
        pytest.skip("mounting a small disk needs root; test_limit_on_file_size looks at the same code")
    try:
        number, message = fill(tmp_path / "out.nc", 0, "numpy")
        left = os.statvfs(tmp_path)
    finally:
        libc.umount(bytes(tmp_path))
    assert number == errno.ENOSPC
    assert "the disk is full" in message
    assert left.f_bavail * left.f_frsize > 4_500_000
