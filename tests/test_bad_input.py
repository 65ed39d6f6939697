"""Every bad input is an error that names what is wrong; nothing is lost and nothing is half-done."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from conftest import brain

from xoctnorm import InputError


def with_value(value, dtype="f4"):
    volume = brain().astype(dtype)
    volume[3, 4, 5] = value
    return volume


def doubled():
    with pytest.warns(UserWarning, match="[Dd]uplicate"):
        return xr.DataArray(np.ones((3, 4, 4)), dims=("z", "y", "y"))


VOLUMES = {
    "no z": (lambda: brain().rename(z="depth"), r"has dims \('depth', 'y', 'x'\) and lacks 'z'.*da\.rename"),
    "no y and x": (lambda: brain()[:, 0, 0], "lacks 'y', 'x'"),
    "bool": (lambda: brain() > 0, "dtype bool: integers and floats are accepted; a mask has no intensities"),
    "complex": (lambda: brain() * 1j, r"dtype complex.*abs\(da\)"),
    "text": (lambda: brain().astype(str), r"dtype <U.*astype\('float32'\)"),
    "dates": (lambda: brain().astype("i8").astype("M8[ns]"), "dtype datetime64"),
    "objects": (lambda: brain().astype(object), "dtype object"),
    "empty": (lambda: brain()[:0], "empty along 'z'"),
    "empty plane": (lambda: brain()[:, :, :0], "empty along 'x'"),
    "all infinite": (lambda: brain() * np.inf, "infinite voxels.* on plane 0, 1"),
    "infinite": (lambda: with_value(np.inf), "infinite voxels.* on plane 3: replace them by NaN"),
    "minus infinite": (lambda: with_value(-np.inf), "infinite voxels.* on plane 3"),
    "beyond float32": (lambda: with_value(1e300, "f8"), "beyond the range of float32, on plane 3"),
    "constant": (lambda: brain() * 0 + 7, "the volume is constant, every voxel is 7"),
    "constant negative": (lambda: brain() * 0 - 7, "constant, every voxel is -7"),
    "zero": (lambda: brain() * 0, "the volume is constant, every voxel is 0"),
    "not positive": (lambda: -brain(), "no positive voxel, its values are -"),
    "NaN": (lambda: brain() * np.nan, "NaN everywhere"),
    "packed": (
        lambda: brain().assign_attrs(scale_factor=0.1, add_offset=3),
        r"scale_factor=0\.1, add_offset=3 .*xr\.decode_cf",
    ),
    "fill value": (lambda: brain().assign_attrs(_FillValue=-1), "_FillValue=-1"),
    "NaN label": (lambda: brain().assign_coords(section=("z", [np.nan, *range(19)])), "no label .NaN. on plane 0"),
    "label returns": (
        lambda: brain().assign_coords(section=("z", [0, 1] * 10)),
        "come back after another label: 0 on plane 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("chunked", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("name", VOLUMES)
def test_volumes_that_are_none(name, chunked):
    make, message = VOLUMES[name]
    volume = make().chunk() if chunked and name != "objects" else make()
    for call in (volume.octnorm.normalize, volume.octnorm.fit, volume.octnorm.correct_drift):
        if name != "not positive":  # without a hint of the scale, it may be in decibels
            with pytest.raises(InputError, match=message):
                call()
        else:
            with pytest.raises(InputError, match=message):
                call(intensity="linear")
    for call, option in ((volume.octnorm.normalize, "drift"), (volume.octnorm.correct_drift, "method")):
        with pytest.raises(InputError, match=message):
            call(**{option: "scale"})


def test_doubled_dims():
    with pytest.raises(InputError, match=r"lacks 'x'.*\n.*the dim 'y' twice"):
        doubled().octnorm.normalize()


COLUMN = np.zeros((24, 30), bool)
COLUMN[:, :3] = True
MASKS = {
    "dtype": (COLUMN.astype("u1"), "agarose_mask has dtype uint8: bool is accepted; compare first"),
    "shape": (COLUMN.T, r"agarose_mask does not fit the volume: y has 30 instead of 24, x has 24 instead of 30"),
    "planes": (
        np.broadcast_to(COLUMN, (19, 24, 30)),
        r"has shape \(19, 24, 30\): a plain array needs the dims \('y', 'x'\)",
    ),
    "dims": (xr.DataArray(COLUMN, dims=("y", "column")), r"has dims \('y', 'column'\): dims \('y', 'x'\) are needed"),
    "position": (
        xr.DataArray(COLUMN, dims=("y", "x"), coords={"x": np.arange(30) * 2.0 + 1}),
        r"another x coordinate than the volume: .*drop_vars\('x'\)",
    ),
    "all False": (np.zeros((24, 30), bool), "agarose_mask has no agarose pixels of 720: at least 100"),
    "few": (np.arange(720).reshape(24, 30) < 99, "agarose_mask has 99 agarose pixels of 720"),
    "all True": (np.ones((24, 30), bool), "agarose_mask is True everywhere: no tissue is left"),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_masks(name):
    mask, message = MASKS[name]
    if name == "all False":
        message = message.replace("at least 100", ".*at least 100")
    with pytest.raises(InputError, match=message):
        brain().octnorm.normalize(agarose_mask=mask)


def test_a_tissue_mask_needs_the_dims_of_the_volume():
    with pytest.raises(InputError, match=r"mask has shape \(24, 30\): a plain array needs the dims \('z', 'y', 'x'\)"):
        brain().octnorm.smooth_zprofile(mask=COLUMN)
    with pytest.raises(InputError, match=r"mask has dims \('y', 'x'\): dims \('z', 'y', 'x'\) are needed"):
        brain().octnorm.smooth_zprofile(mask=xr.DataArray(COLUMN, dims=("y", "x")))


def test_a_found_mask_that_is_too_small():
    volume = brain(shape=(40, 40))
    volume[:] = 1
    volume[:, :4, :4] = 0.1
    with pytest.raises(InputError, match=r"the mask by Otsu's threshold has .* agarose pixels of 1600.*agarose_mask="):
        volume.octnorm.normalize(drift="scale", smoothing_sigma=0)
    with pytest.raises(InputError, match="agarose pixels"):
        volume.octnorm.agarose_mask(smoothing_sigma=0)


def test_no_tissue_brighter_than_agarose():
    volume = brain()
    bright = (volume.mean("z") > 0.3).reset_coords(drop=True)
    with pytest.raises(InputError, match="no tissue is brighter than the agarose"):
        volume.octnorm.normalize(drift="scale", agarose_mask=bright, percentile_max=20)


PARAMETERS = {
    "percentile_max": [(-1, "0 to 100"), (100.1, "0 to 100"), ("high", "0 to 100"), (True, "0 to 100")],
    "divisor_percentile": [(101, "0 to 100"), (np.nan, "0 to 100")],
    "percentile": [(-0.1, "0 to 100")],
    "smoothing_sigma": [(-1, "0 or more"), (np.inf, "0 or more")],
    "smooth_sigma": [(-1, "0 or more"), (None, "0 or more")],
    "zprofile_sigma": [(-2, "0 or more")],
    "min_scale": [(0, "above 0"), (3, "above max_scale=2.0")],
    "max_scale": [(-1, "above 0"), (0.1, "min_scale=0.5 is above")],
    "n_bins": [(1, "2 or more"), (2.5, "whole number")],
    "tissue_threshold": [(1.0, "below 1"), (np.nan, "a finite number")],
    "strength": [(1.5, "0 to 1"), (-0.1, "0 to 1")],
    "min_tissue_voxels": [(-1, "0 or more")],
    "drift": [("linear", "needs one of joint, continuity, agarose, quantile, scale, histogram, None")],
    "section": [("slab", "is no coordinate of the volume"), ("x", "cannot lie along y or x")],
}


@pytest.mark.parametrize(
    ("name", "value", "accepted"), [(name, value, text) for name, cases in PARAMETERS.items() for value, text in cases]
)
def test_parameters_out_of_range(name, value, accepted):
    with pytest.raises(InputError) as caught:
        brain().octnorm.normalize(**{name: value})
    assert len(caught.value.problems) == 1
    assert name in str(caught.value)
    assert repr(value) in str(caught.value)
    assert accepted in str(caught.value)


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("agarose_mask", {"smoothing_sigma": -1}, "smoothing_sigma=-1"),
        ("tissue_mask", {"smoothing_sigma": -1}, "smoothing_sigma=-1"),
        ("tissue_mask", {"agarose_mask": COLUMN.astype(int)}, "agarose_mask has dtype"),
        ("scale_factors", {"percentile": 101}, "percentile=101"),
        ("correct_drift", {"min_scale": 2, "max_scale": 1}, "min_scale=2 is above max_scale=1"),
        ("correct_drift", {"method": "scale", "min_scale": 2, "max_scale": 1}, "min_scale=2 is above max_scale=1"),
        ("correct_drift", {"method": "histogram"}, "method='histogram': needs one of 'agarose', .*, 'scale'"),
        ("correct_drift", {"method": None}, "method=None: needs one of 'agarose', .*, 'scale'"),
        ("match_histograms", {"n_bins": 0}, "n_bins=0"),
        ("match_quantiles", {"max_slope": 0}, "max_slope=0"),
        ("smooth_zprofile", {"sigma": -1}, "sigma=-1"),
        ("normalize", {"dtype": "uint8"}, "dtype='uint8': floating dtypes are accepted"),
        ("normalize", {"dtype": "bytes1000x"}, "dtype='bytes1000x': floating"),
        ("correct_drift", {"dtype": int}, "floating dtypes are accepted"),
    ],
)
def test_parameters_of_single_steps(method, arguments, message):
    with pytest.raises(InputError, match=message):
        getattr(brain().octnorm, method)(**arguments)


@pytest.mark.parametrize("name", ["background_threshold", "agarose_mask", "divisor", "scale_factor"])
def test_names_that_clash(name):
    volume = brain().assign_coords({name: 1.0})
    with pytest.raises(InputError, match=f"already has '{name}'.*attach=False"):
        volume.octnorm.normalize()
    result = volume.octnorm.normalize(drift="scale", attach=False)
    assert result[name] == 1


def test_all_problems_together():
    volume = brain().assign_coords(section=("z", [0, 1] * 10), divisor=1).assign_attrs(_FillValue=0)
    with pytest.raises(InputError) as caught:
        volume.octnorm.normalize(percentile_max=200, drift="x", agarose_mask=COLUMN.T, dtype=int)
    text = str(caught.value)
    for part in ("_FillValue", "percentile_max=200", "drift='x'", "dtype=<class 'int'>", "already has 'divisor'"):
        assert part in text
    volume.attrs.clear()
    with pytest.raises(InputError) as caught:
        volume.octnorm.normalize(percentile_max=200, agarose_mask=COLUMN.T)
    for part in ("come back", "percentile_max=200", "agarose_mask does not fit", "already has 'divisor'"):
        assert part in str(caught.value)


def test_a_bad_volume_among_several_is_named():
    volumes = xr.concat([brain(), brain() * 0], "channel")
    with pytest.raises(InputError, match="channel 1: the volume is constant"):
        volumes.octnorm.normalize()


def test_errors_can_be_pickled():
    import pickle

    error = pickle.loads(pickle.dumps(InputError("normalize", ["one", "two"])))
    assert error.problems == ("one", "two")
    assert str(error) == "normalize: 2 problems\n  - one\n  - two"


def test_rules_between_parameters_are_reported_with_the_others():
    with pytest.raises(InputError) as caught:
        brain().octnorm.normalize(
            percentile_max=101, min_scale=3, max_scale=2, smooth_sigma=-1, n_bins=1, tissue_threshold=1.5, attach="no"
        )
    assert len(caught.value.problems) == 6
    with pytest.raises(InputError) as caught:
        brain().octnorm.tissue_mask(smoothing_sigma=-1)
    assert "smoothing_sigma" in str(caught.value)


@pytest.mark.parametrize("name", ["section_label", "divisor", "bin", "quantile", 0])
def test_dims_that_a_result_needs(name):
    volume = brain().expand_dims({"renamed": 2}).rename(renamed=name)
    with pytest.raises(InputError, match=f"has the dim {name!r}, a name that a result needs"):
        volume.octnorm.normalize(drift="histogram")


@pytest.mark.parametrize("name", ["section_label", "bin_center", "metric"])
def test_section_coordinates_that_a_correction_needs(name):
    with pytest.raises(InputError, match=f"section='{name}' is a name that a correction needs for itself"):
        brain().rename(section=name).octnorm.normalize(section=name)


def test_agarose_without_data():
    volume = brain()
    mask = volume.octnorm.agarose_mask()
    with pytest.raises(InputError, match=r"agarose has data \(not NaN\) on fewer than 100 pixels of every plane"):
        volume.where(~mask).drop_vars("otsu_threshold").octnorm.normalize(drift="scale", agarose_mask=mask)


@pytest.mark.parametrize("change", [lambda v: v * 1e-47, lambda v: v + 1e9, lambda v: (9 * v + 1).astype("u8") + 2**54])
def test_values_that_float32_cannot_tell_apart(change):
    with pytest.raises(InputError, match="one and the same in float32"):
        change(brain().astype("f8")).octnorm.normalize()


def test_labels_that_read_alike():
    labels = np.array([1] * 10 + ["1"] * 10, object)
    with pytest.raises(InputError, match="different labels that read alike, as 1"):
        brain().assign_coords(section=("z", labels)).octnorm.normalize()


def test_sections_of_what_is_no_volume():
    with pytest.raises(InputError, match="lacks 'z'"):
        _ = brain().rename(z="depth").octnorm.sections
    with pytest.raises(InputError, match="starts=3: needs increasing"):
        brain().drop_vars("section").octnorm.assign_sections(starts=3)
