"""The record: history, JSON, and a digest that depends on the values alone."""

from __future__ import annotations

import json
import re
from importlib.metadata import version

import numpy as np
import pytest
import xarray as xr
from conftest import HOLDINGS, brain

from xoctnorm.kernels.digest import digest
from xoctnorm.provenance import jsonable


def steps(holder) -> list[dict]:
    record = json.loads(holder.attrs["xoctnorm_provenance"])
    assert record["schema_version"] == 1
    return record["steps"]


def mixed(bits: int, index: int) -> int:
    """The word of one voxel, in Python's own integers."""
    word = (bits + (index + 1) * 0x9E3779B97F4A7C15) % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ (word >> shift)) * factor % 2**64
    return word ^ (word >> 31)


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "f2", "f4", ">f4", "f8", "u8"])
def test_digest_against_plain_integers(dtype):
    values = np.random.default_rng(0).normal(50, 20, (3, 5)).clip(0, 255).astype(dtype)
    native = values.astype(values.dtype.newbyteorder("="))
    patterns = native.view(f"u{native.itemsize}").ravel().tolist()
    assert digest(values, 7) == sum(mixed(bits, 7 + i) for i, bits in enumerate(patterns)) % 2**64


def test_digest_of_parts_adds_up():
    values = np.random.default_rng(0).random(100_001).astype("f4")
    parts = [digest(values[a:b], a) for a, b in ((0, 1), (1, 50_000), (50_000, 100_001))]
    assert sum(parts) % 2**64 == digest(values, 0)


@pytest.mark.parametrize("held", HOLDINGS)
def test_digest_does_not_depend_on_how_a_volume_is_held(held):
    expected = steps(brain().octnorm.fit(drift="scale"))[0]["fitted_on"]["digest"]
    assert re.fullmatch("sum64-splitmix:[0-9a-f]{16}", expected)
    assert steps(HOLDINGS[held](brain()).octnorm.fit(drift="scale"))[0]["fitted_on"]["digest"] == expected


def test_digest_sees_every_change():
    volume = brain()
    seen = {digest(volume.values, 0)}
    for change in (
        lambda v: v.__setitem__((0, 0, 0), np.nextafter(v[0, 0, 0], np.float32(9))),
        lambda v: v.__setitem__((slice(None), 0, [0, 1]), v[:, 0, [1, 0]]),
        lambda v: v.__setitem__(slice(0, 2), v[[1, 0]]),
        lambda v: v.__setitem__((19, 23, 29), -0.0),
        lambda v: v.__setitem__((19, 23, 29), 0.0),
        lambda v: v.__setitem__((19, 23, 29), np.nan),
    ):
        changed = volume.values.copy()
        change(changed)
        seen.add(digest(changed, 0))
    assert len(seen) == 7


def test_record_of_a_fit_and_its_application():
    volume = brain()
    volume.encoding["source"] = "/data/brain.nc"
    correction = volume.octnorm.fit(drift="histogram", n_bins=256, zprofile_sigma=1.5)
    (fitted,) = steps(correction)
    assert fitted["method"] == "fit"
    assert fitted["parameters"] == {
        "agarose_mask": None, "percentile_max": 99.9, "smoothing_sigma": 1.0, "divisor_percentile": 100.0,
        "drift": "histogram", "flatten_depth": False, "lateral": None,
        "noise_floor": "auto", "intensity": "auto", "exclude": [],
        "reference_tissue": "auto", "max_depth_gain": 4.0, "first_depth": None, "blend": 0, "floor": None,
        "smooth_sigma": 10.0, "percentile": 80.0, "min_scale": 0.5, "max_scale": 2.0,
        "n_bins": 256, "tissue_threshold": 0.0, "max_slope": 2.0, "strength": 1.0, "zprofile_sigma": 1.5,
        "min_tissue_voxels": 100, "section": "section", "use_gpu": False,
    }  # fmt: skip
    assert [c["name"] for c in fitted["corrections"]] == ["otsu_mask", "background", "histogram", "zprofile"]
    assert fitted["corrections"][2]["parameters"] == {"n_bins": 256, "tissue_threshold": 0.0, "strength": 1.0}
    identity = fitted["fitted_on"]
    assert identity["digest"] == f"sum64-splitmix:{digest(volume.values, 0):016x}"
    assert identity["name"] == "intensity"
    assert identity["shape"] == {"z": 20, "y": 24, "x": 30}
    assert identity["dtype"] == "float32"
    assert identity["source"] == "/data/brain.nc"
    assert fitted["applied_to"] is None
    assert fitted["device"] == "cpu"
    assert fitted["software"]["xoctnorm"] == version("xoctnorm")
    assert fitted["software"]["numpy"] == np.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", fitted["time"])

    other = (2 * volume[:, ::2]).rename("other")
    (applied,) = steps(other.octnorm.apply(correction))
    assert applied["fitted_on"] == identity
    assert applied["applied_to"]["name"] == "other"
    assert applied["applied_to"]["shape"] == {"z": 20, "y": 12, "x": 30}
    assert applied["applied_to"]["digest"] == f"sum64-splitmix:{digest(other.values, 0):016x}"
    assert applied["apply"]["parameters"] == {
        "match": "coordinates", "dtype": "float32", "attach": True, "use_gpu": False,
    }  # fmt: skip
    history = other.octnorm.apply(correction).attrs["history"].split("\n")
    assert [re.sub(r"\(.*", "", line).split()[-1] for line in history] == ["apply", "fit"]


def test_history_has_every_parameter_newest_first():
    volume = brain().assign_attrs(history="2020-01-01T00:00:00Z scanner: acquired")
    out = volume.octnorm.normalize(drift=None).octnorm.correct_drift(method="scale", strength=0.5)
    lines = out.attrs["history"].split("\n")
    assert [line.split(": ")[1].split("(")[0] for line in lines] == ["correct_drift", "normalize", "acquired"]
    for line in lines[:2]:
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ xoctnorm \d", line)
    assert "strength=0.5" in lines[0]
    assert "dtype='float32', attach=True" in lines[0]
    assert [step["method"] for step in steps(out)] == ["normalize", "correct_drift"]


def test_a_given_mask_is_recorded_and_kept():
    volume = brain()
    mask = volume.octnorm.agarose_mask()
    correction = volume.octnorm.fit(drift="scale", agarose_mask=mask)
    text = steps(correction)[0]["parameters"]["agarose_mask"]
    assert text == f"<mask 24x30 sum64-splitmix:{digest(mask.values, 0):016x}>"
    assert steps(correction)[0]["corrections"][0]["name"] == "given_mask"
    np.testing.assert_array_equal(correction.agarose_mask, mask)


def test_digest_of_several_volumes_is_that_of_all():
    both = xr.concat([brain(), brain(seed=2)], "channel")
    for held in (both, both.transpose("z", "x", "channel", "y")):
        record = steps(held.octnorm.fit(drift="scale"))[0]["fitted_on"]
        assert record["digest"] == f"sum64-splitmix:{digest(both.values, 0):016x}"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.nan, "nan"),
        (np.array([1, 2]), [1, 2]),
        ({"a": (1, None, True)}, {"a": [1, None, True]}),
        (np.datetime64("2024-01-02"), "2024-01-02"),
        (b"abc", "abc"),
        ({1}, [1]),
        (1j, "1j"),
    ],
)
def test_what_json_cannot_hold_is_made_plain(value, plain):
    assert jsonable(value) == plain
    json.dumps(jsonable(value), allow_nan=False)


@pytest.mark.parametrize("dims", [("z", "y", "x"), ("x", "z", "y")])
@pytest.mark.parametrize("rechunk", [False, True])
def test_a_writer_counts_the_digest_that_apply_left_open(dims, rechunk, tmp_path):
    volume = brain()
    correction = volume.octnorm.fit(drift="scale")
    other = (2 * volume).transpose(*dims).chunk(z=3, y=7, x=9)
    expected = f"sum64-splitmix:{digest((2 * volume).values, 0):016x}"
    result = other.octnorm.apply(correction)
    assert steps(result)[0]["applied_to"]["digest"] is None
    if rechunk:
        result = result.chunk(z=5, y=-1).rename("renamed")
    del other
    result.octnorm.to_netcdf(tmp_path / "out.nc")
    with xr.open_dataarray(tmp_path / "out.nc") as stored:
        applied_to = steps(stored)[0]["applied_to"]
        assert applied_to["digest"] == expected
        assert "awaits" not in applied_to
        np.testing.assert_array_equal(stored.values, result.values)


def test_counting_the_digest_reads_the_volume_once(tmp_path):
    import dask.array

    volume = brain()
    reads = []

    def read(block, block_info=None):
        if block_info:
            reads.append(block_info[0]["chunk-location"])
        return block

    data = dask.array.from_array(volume.values, chunks=(4, 8, 30)).map_blocks(
        read, dtype="f4", meta=np.empty((0, 0, 0), "f4")
    )
    result = volume.copy(data=data).octnorm.apply(volume.octnorm.fit(drift="scale"))
    reads.clear()
    result.octnorm.to_netcdf(tmp_path / "out.nc")
    assert len(reads) == len(set(reads)) == data.npartitions


def test_nothing_is_kept_of_volumes_that_are_gone():
    import gc

    from xoctnorm import pending

    volume = brain()
    result = volume.chunk(z=2).octnorm.apply(volume.octnorm.fit(drift="scale"))
    assert pending._awaiting
    del result
    gc.collect()
    assert not pending._awaiting
