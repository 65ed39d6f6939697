"""Every format gives the same volume: known values, coordinates with units, whole planes in chunks."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys

import dask
import numpy as np
import pytest
import xarray as xr
from conftest import no_computing

import xoctnorm
from xoctnorm import InputError, OctnormWarning, open_volume
from xoctnorm.formats.common import chunk_lengths

nibabel = pytest.importorskip("nibabel")
tifffile = pytest.importorskip("tifffile")
zarr = pytest.importorskip("zarr")

SHAPE = (7, 5, 6)
SPACING = {"z": 10.0, "y": 2.0, "x": 3.0}


def values(dtype="uint16"):
    z, y, x = np.indices(SHAPE)
    return (100 * z + 10 * y + x).astype(dtype)


def labelled(units="um"):
    coords = {
        dim: (dim, step * np.arange(n), {"units": units}) for n, (dim, step) in zip(SHAPE, SPACING.items(), strict=True)
    }
    section = {"section": ("z", [0, 0, 0, 1, 1, 1, 2])}
    return xr.DataArray(values("float32"), dims=("z", "y", "x"), coords={**coords, **section}, name="brain")


def netcdf(path):
    labelled().to_netcdf(path / "brain.nc")
    return path / "brain.nc"


def zarr_of(zarr_format):
    def write(path):
        labelled().to_dataset().to_zarr(path / "brain.zarr", zarr_format=zarr_format, consolidated=False)
        return path / "brain.zarr"

    return write


def imagej(path):
    about = {"spacing": 10.0, "unit": "um", "axes": "ZYX"}
    tifffile.imwrite(path / "brain.tif", values(), imagej=True, resolution=(1 / 3, 1 / 2), metadata=about)
    return path / "brain.tif"


def ome_tiff(path):
    about = {f"PhysicalSize{dim.upper()}": step for dim, step in SPACING.items()}
    tifffile.imwrite(path / "brain.ome.tif", values(), metadata={"axes": "ZYX", **about}, compression="zlib")
    return path / "brain.ome.tif"


def nifti(name, slope=None):
    def write(path):
        image = nibabel.Nifti1Image(values().T, np.diag([3.0, 2, 10, 1]))
        image.header.set_xyzt_units("micron")
        if slope is not None:
            image.header.set_slope_inter(slope, 5)
        nibabel.save(image, path / name)
        return path / name

    return write


def ome_zarr(version):
    def write(path):
        ngff_zarr = pytest.importorskip("ngff_zarr")
        image = ngff_zarr.to_ngff_image(
            values(), dims=("z", "y", "x"), scale=SPACING, translation=dict.fromkeys("zyx", 0.0),
            axes_units=dict.fromkeys("zyx", "micrometer"), name="brain",
        )  # fmt: skip
        levels = ngff_zarr.to_multiscales(image, scale_factors=[2])
        ngff_zarr.to_ngff_zarr(str(path / "brain.ome.zarr"), levels, version=version)
        return path / "brain.ome.zarr"

    return write


FORMATS = {
    "netcdf": netcdf,
    "zarr 2": zarr_of(2),
    "zarr 3": zarr_of(3),
    "imagej": imagej,
    "ome-tiff": ome_tiff,
    "nifti": nifti("brain.nii"),
    "nifti gz": nifti("brain.nii.gz"),
    "ome-zarr 0.4": ome_zarr("0.4"),
    "ome-zarr 0.5": ome_zarr("0.5"),
}


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning", "ignore:Consolidated metadata", "ignore:.*:FutureWarning")
@pytest.mark.parametrize("name", FORMATS)
def test_values_coordinates_and_units(name, tmp_path):
    path = FORMATS[name](tmp_path)
    with no_computing():
        da = open_volume(path)
    assert da.dims == ("z", "y", "x")
    assert da.chunks == ((7,), (5,), (6,))
    np.testing.assert_array_equal(da.compute(), values())
    for dim, step in SPACING.items():
        np.testing.assert_allclose(da[dim], step * np.arange(da.sizes[dim]), rtol=1e-6)
        assert da[dim].attrs["units"] in ("um", "micrometer"), dim
    assert da.name == "brain"
    assert da.encoding["source"] == str(path)
    assert ("section" in da.coords) == (name in ("netcdf", "zarr 2", "zarr 3"))
    again = pickle.loads(pickle.dumps(da))  # as other processes get it
    np.testing.assert_array_equal(again.isel(z=slice(2, 4)), values()[2:4])


def test_npy_says_nothing_of_spacing(tmp_path):
    np.save(tmp_path / "brain.npy", np.asfortranarray(values(">f4")))
    da = open_volume(tmp_path / "brain.npy")
    assert not da.coords
    np.testing.assert_array_equal(da, values())
    told = open_volume(tmp_path / "brain.npy", spacing={"z": 10, "y": 2, "x": 3}, units="um")
    xr.testing.assert_identical(told.z, labelled().z.drop_vars("section"))
    more = open_volume(tmp_path / "brain.npy", dims=("y", "x", "z"))
    np.testing.assert_array_equal(more, values().transpose(2, 0, 1))


# Nothing is read on opening


def test_nothing_is_read_before_it_is_computed(tmp_path):
    """What is opened shows values that were written afterwards."""
    other = values() + 1
    np.save(tmp_path / "a.npy", values())
    tifffile.imwrite(tmp_path / "a.tif", values(), photometric="minisblack")
    nifti("a.nii")(tmp_path)
    labelled().to_dataset().to_zarr(tmp_path / "a.zarr", zarr_format=2)
    opened = {suffix: open_volume(tmp_path / f"a.{suffix}") for suffix in ("npy", "tif", "nii", "zarr")}
    np.save(tmp_path / "a.npy", other)
    tifffile.imwrite(tmp_path / "a.tif", other, photometric="minisblack")
    nibabel.save(nibabel.Nifti1Image(other.T, np.eye(4)), tmp_path / "a.nii")
    zarr.open_array(tmp_path / "a.zarr" / "brain", mode="r+")[:] = other
    for suffix, da in opened.items():
        np.testing.assert_array_equal(da, other, err_msg=suffix)


def test_a_volume_larger_than_the_disk_opens(tmp_path):
    path = tmp_path / "large.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (20_000, 5_000, 5_000)}
        )
        file.truncate(file.tell() + 4 * 20_000 * 5_000**2)
    da = open_volume(path)
    assert da.chunks[0] == (1,) * 20_000  # a plane is 100 MB
    assert float(da[19_999, 4_999, 4_990:].sum()) == 0


@pytest.mark.parametrize(
    ("sizes", "itemsize", "depth", "expected"),
    [
        ((100, 1000, 1000), 4, 1, 16),  # 64 MiB
        ((100, 1000, 1000), 4, 5, 15),  # whole chunks of the file
        ((100, 1000, 1000), 4, 40, 40),  # a layer of 160 MB stays whole
        ((100, 1000, 1000), 4, 100, 16),  # one of 400 MB does not
        ((100, 10_000, 10_000), 4, 1, 1),
        ((10, 4, 4), 4, 1, 10),
    ],
)
def test_chunks_are_whole_planes(sizes, itemsize, depth, expected):
    found = chunk_lengths({"channel": 3, **dict(zip("zyx", sizes, strict=True))}, itemsize, depth)
    assert found == {"channel": 1, "z": expected, "y": sizes[1], "x": sizes[2]}


@pytest.mark.parametrize("scheduler", ["processes", "distributed"])
def test_other_processes_read_it(tmp_path, scheduler):
    paths = [FORMATS[name](tmp_path) for name in ("netcdf", "imagej", "nifti", "zarr 3")]
    total = sum(open_volume(path).sum() for path in paths)
    if scheduler == "processes":
        with dask.config.set(scheduler="processes", num_workers=1):
            assert float(total) == 4 * values().sum()
        return
    distributed = pytest.importorskip("distributed")
    with distributed.Client(n_workers=1, threads_per_worker=2, dashboard_address=":0", processes=False):
        assert float(total) == 4 * values().sum()


# TIFF


def test_folder_of_planes_in_natural_order(tmp_path):
    stack = np.repeat(values(), 2, axis=0)[:12]
    for number, plane in enumerate(stack):
        tifffile.imwrite(tmp_path / f"plane_{number}.tif", plane, resolution=(5000, 2500), resolutionunit="CENTIMETER")
    (tmp_path / "notes.txt").write_text("not a plane")
    with pytest.warns(OctnormWarning, match="does not say the spacing along z"):
        da = open_volume(tmp_path)
    np.testing.assert_array_equal(da, stack)
    assert da.file.values.tolist() == [f"plane_{n}.tif" for n in range(12)]
    np.testing.assert_allclose(da.x, 2.0 * np.arange(6))
    np.testing.assert_allclose(da.y, 4.0 * np.arange(5))
    assert da.x.units == "um"
    told = open_volume(tmp_path / "plane_*.tif", spacing={"z": 10}, units="um")
    assert told.z.values[-1] == 110
    np.testing.assert_array_equal(told[10:], stack[10:])


def test_folder_of_stacks_may_be_uneven(tmp_path):
    parts = np.split(values(), [2, 3])
    for number, part in enumerate(parts):
        tifffile.imwrite(tmp_path / f"section{number}.tif", part, photometric="minisblack")
    da = open_volume(tmp_path).chunk(z=2)
    np.testing.assert_array_equal(da, values())
    assert da.octnorm.assign_sections(starts=[0, 2, 3]).section.values.tolist() == [0, 0, 1, 2, 2, 2, 2]
    assert da.file.values.tolist() == ["section0.tif"] * 2 + ["section1.tif"] + ["section2.tif"] * 4


def test_missing_planes_are_told(tmp_path):
    for number in (1, 2, 4, 5):
        tifffile.imwrite(tmp_path / f"plane_{number}.tif", values()[0])
    with pytest.warns(OctnormWarning, match=r"after plane_2\.tif the number jumps"):
        open_volume(tmp_path)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_pages(tmp_path, compression, byteorder):
    path = tmp_path / "brain.tif"
    options = {"photometric": "minisblack", "metadata": None, "compression": compression}
    with tifffile.TiffWriter(path, byteorder=byteorder) as file:
        for plane in values():
            file.write(plane, contiguous=False, **options)
    da = open_volume(path)
    np.testing.assert_array_equal(da.chunk(z=3)[2:6, 1:, :4], values()[2:6, 1:, :4])


def test_channels_stay(tmp_path):
    both = np.stack([values(), values() + 1], axis=1)
    tifffile.imwrite(tmp_path / "brain.tif", both, imagej=True, metadata={"axes": "ZCYX"})
    da = open_volume(tmp_path / "brain.tif")
    assert da.dims == ("channel", "z", "y", "x")
    np.testing.assert_array_equal(da, both.swapaxes(0, 1))
    np.testing.assert_array_equal(da.isel(channel=1), values() + 1)


def test_resolution_that_nobody_meant(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", values(), resolution=(72, 72), resolutionunit="INCH", photometric="minisblack")
    with pytest.warns(OctnormWarning, match="72 pixels per inch"):
        da = open_volume(tmp_path / "a.tif")
    assert not da.coords


def test_spacing_without_units_is_told(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", values(), resolution=(0.5, 0.5), resolutionunit="NONE", photometric="minisblack"
    )
    with (
        pytest.warns(OctnormWarning, match="spacing along z"),
        pytest.warns(OctnormWarning, match="in which units y, x are"),
    ):
        da = open_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(da.x, 2.0 * np.arange(6))
    assert "units" not in da.x.attrs
    with pytest.warns(OctnormWarning, match="spacing along z"):
        assert open_volume(tmp_path / "a.tif", units="um").x.units == "um"


# NIfTI


def test_nifti_scaling(tmp_path):
    image = nibabel.Nifti1Image(values().T, np.diag([3.0, 2, 10, 1]))
    image.header.set_slope_inter(2, 5)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "a.nii")
    da = open_volume(tmp_path / "a.nii")
    assert da.dtype == np.float32
    np.testing.assert_array_equal(da, 2.0 * values() + 5)
    assert da.z.units == "mm"
    np.testing.assert_array_equal(da.attrs["affine"], np.diag([3.0, 2, 10, 1]))


def test_nifti_without_units_and_in_time(tmp_path):
    both = np.stack([values().T, values().T + 1], axis=-1)
    nibabel.save(nibabel.Nifti1Image(both, np.eye(4)), tmp_path / "a.nii")
    with pytest.warns(OctnormWarning, match="in which units z, y, x are"):
        da = open_volume(tmp_path / "a.nii")
    assert da.dims == ("time", "z", "y", "x")
    np.testing.assert_array_equal(da.isel(time=1), values() + 1)


# OME-Zarr


def test_levels_scale_and_translation(tmp_path):
    root = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    for level, shape in enumerate([(2, 7, 5, 6), (2, 7, 3, 3)]):
        root.create_array(str(level), shape=shape, dtype="uint8", chunks=(1, 2, 3, 3))[:] = level
    axes = [{"name": "c", "type": "channel"}, *({"name": d, "type": "space", "unit": "millimeter"} for d in "zyx")]
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1, 10, 2**level, 2**level]},
                {"type": "translation", "translation": [0, 5, level / 2, level / 2]},
            ],
        }
        for level in (0, 1)
    ]
    whole = [{"type": "scale", "scale": [1, 0.1, 0.5, 0.5]}]
    root.attrs["multiscales"] = [
        {"axes": axes, "datasets": datasets, "coordinateTransformations": whole, "version": "0.4"}
    ]
    da = open_volume(tmp_path / "a.zarr", level=1)
    assert da.dims == ("channel", "z", "y", "x")
    assert (da == 1).all()
    np.testing.assert_allclose(da.z, 0.5 + np.arange(7))
    np.testing.assert_allclose(da.x, 0.25 + np.arange(3))
    assert da.z.units == "millimeter"
    with pytest.raises(InputError, match=r"level=2: .* has the levels 0: \(2, 7, 5, 6\), 1: \(2, 7, 3, 3\)"):
        open_volume(tmp_path / "a.zarr", level=2)


# Datasets


def test_variables(tmp_path):
    labelled().to_dataset().assign(other=labelled() + 1, flat=("y", np.arange(5))).to_netcdf(tmp_path / "a.nc")
    with pytest.raises(InputError, match="several volumes, 'brain', 'other': choose one with variable="):
        open_volume(tmp_path / "a.nc")
    np.testing.assert_array_equal(open_volume(tmp_path / "a.nc", variable="other"), values() + 1)
    with pytest.raises(InputError, match="variable='third' is not in"):
        open_volume(tmp_path / "a.nc", variable="third")


def test_dims_of_the_file_get_names(tmp_path):
    named = xr.Dataset({"a": (("slice", "row", "column"), values())})
    named.to_netcdf(tmp_path / "a.nc")
    with pytest.raises(InputError, match=r"no variable with dims z, y, x: it has 'a' .*dims=\('z', 'y', 'x'\)"):
        open_volume(tmp_path / "a.nc")
    da = open_volume(tmp_path / "a.nc", dims=("z", "y", "x"))
    np.testing.assert_array_equal(da, values())


def test_what_to_netcdf_writes_comes_back(tmp_path):
    result = labelled().assign_coords(agarose_mask=(("y", "x"), values()[0] < 20))
    back = open_volume(result.octnorm.to_netcdf(tmp_path / "a.nc"))
    xr.testing.assert_equal(back.compute(), result)


# Errors


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("gone.nc", {}, "does not exist in"),
        ("a.xyz", {}, "suffix that is not known; accepted are NetCDF"),
        ("empty", {}, "folder without TIFF files, and no Zarr: it holds nothing"),
        ("4d.npy", {}, r"dims \('dim_0', 'dim_1', 'dim_2', 'dim_3'\).* lacks 'z', 'y', 'x'"),
        ("4d.npy", {"dims": ("z", "y", "x")}, "the file has 4 dims"),
        ("3d.npy", {"level": 1}, "level=1: only pyramids of OME-Zarr"),
        ("3d.npy", {"spacing": {"z": 10}}, "has no units"),
        ("3d.npy", {"spacing": {"q": 10}, "units": "um"}, "spacing has 'q'"),
        ("objects.npy", {}, "cannot be mapped into memory"),
        ("text.tif", {}, "is no TIFF file"),
        ("text.nii", {}, "is no NIfTI image"),
        ("text.nc", {}, "cannot be opened"),
        ("two.tif", {}, r"holds 2 images, \(7, 5, 6\), \(7, 3, 6\)"),
        ("ragged", {}, r"planes of one size and dtype; a0.tif has \(5, 6\) uint16, and others are a1.tif \(4, 6\)"),
        ("mixed", {}, "names are like a#.tif, b#.tif; choose some with a pattern"),
        ("bare.zarr", {}, "without names: open it with"),
        ("um.nc", {"units": "mm"}, "the file has z in 'um'"),
    ],
)
def test_errors(tmp_path, path, options, message):
    (tmp_path / "a.xyz").write_text("")
    for folder in ("empty", "ragged", "mixed"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "4d.npy", np.zeros((2, 3, 4, 5)))
    np.save(tmp_path / "3d.npy", values())
    np.save(tmp_path / "objects.npy", np.array([{}, None], dtype=object))
    for suffix in ("tif", "nii", "nc"):
        (tmp_path / f"text.{suffix}").write_text("no image " * 100)
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        file.write(values(), photometric="minisblack")
        file.write(values()[:, :3], photometric="minisblack")
    for name, plane in (("ragged/a0", values()[0]), ("ragged/a1", values()[0, :4]), ("mixed/a0", values()[0])):
        tifffile.imwrite(tmp_path / f"{name}.tif", plane)
    tifffile.imwrite(tmp_path / "mixed/b0.tif", values()[0])
    zarr.create_array(tmp_path / "bare.zarr", data=values())
    labelled().to_netcdf(tmp_path / "um.nc")
    with pytest.raises(InputError, match=message):
        open_volume(tmp_path / path, **options)


def test_all_problems_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        open_volume(tmp_path / "gone.nc", variable=1, level="a", dims="zyx", spacing={"z": -1}, units=3)
    assert len(caught.value.problems) == 6


@pytest.mark.parametrize(("package", "suffix"), [("nibabel", "a.nii"), ("tifffile", "a.tif"), ("zarr", "a.zarr")])
def test_missing_packages_are_named(tmp_path, monkeypatch, package, suffix):
    path = tmp_path / suffix
    if package == "zarr":
        zarr.create_group(path)
    else:
        path.write_text("")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        InputError, match=re.escape(f"needs {package}, which is not installed: pip install 'xoctnorm[formats]'")
    ):
        open_volume(path)
    if package == "zarr":
        with pytest.raises(InputError, match="writing Zarr needs zarr"):
            labelled().octnorm.to_zarr(tmp_path / "b.zarr")


def test_importing_loads_no_reader():
    code = (
        "import sys, xoctnorm; print([m for m in ('zarr', 'tifffile', 'nibabel', 'fsspec.core') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert xoctnorm.open_volume is open_volume
