"""The command line: what it writes, what it says and where, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner, Result
from conftest import brain, cut_brain

from xoctnorm.cli.commands import app
from xoctnorm.provenance import jsonable, steps_of
from xoctnorm.report.reproduce import shell_code


def run(*args: object) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def ran(*args: object) -> Result:
    """Run what has to go well."""
    result = run(*args)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture
def brain_nc(tmp_path) -> Path:
    return brain().octnorm.to_netcdf(tmp_path / "brain.nc")


def opened(path: Path) -> xr.DataArray:
    return xr.load_dataarray(path)


def assert_same_result(one: xr.DataArray, other: xr.DataArray) -> None:
    """The same values, and the same of everything that was fitted."""
    np.testing.assert_array_equal(one, other)
    assert set(one.coords) == set(other.coords)
    for name, coord in one.coords.items():
        np.testing.assert_array_equal(coord, other.coords[name], err_msg=str(name))


@pytest.mark.parametrize(
    ("args", "call"),
    [
        (["--drift", "scale"], {"drift": "scale"}),
        (["--drift", "none", "--zprofile-sigma", "2"], {"drift": None, "zprofile_sigma": 2.0}),
        (["--drift", "histogram", "--agarose-mask", "auto"], {"drift": "histogram", "agarose_mask": "auto"}),
    ],
    ids=str,
)
def test_normalize_is_what_the_accessor_does(brain_nc, tmp_path, args, call):
    result = ran("normalize", brain_nc, tmp_path / "out.nc", *args)
    assert result.stdout == ""
    found = opened(tmp_path / "out.nc")
    assert_same_result(found, brain().octnorm.normalize(**call))
    (step,) = steps_of(found.attrs)
    assert step["parameters"] | call == step["parameters"]


def test_the_default_method_and_flattening(tmp_path):
    cut_brain().octnorm.to_netcdf(tmp_path / "brain.nc")
    ran("normalize", tmp_path / "brain.nc", tmp_path / "out.nc", "--flatten-depth")
    assert_same_result(opened(tmp_path / "out.nc"), cut_brain().octnorm.normalize(flatten_depth=True))


def test_a_report_on_the_result(tmp_path):
    pytest.importorskip("matplotlib").use("agg")
    pytest.importorskip("jinja2")
    cut_brain().octnorm.to_netcdf(tmp_path / "brain.nc")
    call = ("normalize", tmp_path / "brain.nc", tmp_path / "out.nc", "--report", tmp_path / "qc.html")
    facts = json.loads(ran(*call, "--json").stdout)
    assert facts["report"] == str((tmp_path / "qc.html").resolve())
    page = (tmp_path / "qc.html").read_text(encoding="utf-8")
    assert "gain ± s.e." in page  # the tables of the correction
    assert f"xoctnorm normalize {tmp_path}/brain.nc normalized.nc" in page
    assert_same_result(opened(tmp_path / "out.nc"), cut_brain().octnorm.normalize())
    assert steps_of(opened(tmp_path / "out.nc").attrs)[0]["method"] == "normalize"
    (tmp_path / "out.nc").unlink()
    refused = run(*call)
    assert refused.exit_code == 1
    assert "qc.html' exists: pass --overwrite to replace it" in refused.stderr
    refused = run(*call[:-1], tmp_path / "qc.pdf", "--overwrite")
    assert "the name of a report ends in .html" in refused.stderr
    assert not (tmp_path / "out.nc").exists()


def test_fit_then_apply(brain_nc, tmp_path):
    ran("fit", brain_nc, tmp_path / "correction.nc", "--drift", "scale")
    correction = xr.load_dataset(tmp_path / "correction.nc")
    expected = brain().octnorm.fit(drift="scale")
    np.testing.assert_array_equal(correction.scale_factor, expected.scale_factor)
    correction["scale_factor"] = 2 * correction.scale_factor  # as somebody would edit it
    correction.to_netcdf(tmp_path / "edited.nc")
    ran("apply", brain_nc, tmp_path / "edited.nc", tmp_path / "out.nc")
    expected["scale_factor"] = 2 * expected.scale_factor
    assert_same_result(opened(tmp_path / "out.nc"), brain().octnorm.apply(expected))


def test_apply_matches_planes_as_asked(brain_nc, tmp_path):
    ran("fit", brain_nc, tmp_path / "correction.nc", "--drift", "none")
    shifted = brain().assign_coords(z=brain().z + 500)
    shifted.octnorm.to_netcdf(tmp_path / "shifted.nc")
    call = ("apply", tmp_path / "shifted.nc", tmp_path / "correction.nc", tmp_path / "out.nc")
    refused = run(*call)
    assert refused.exit_code == 1
    assert 'pass match="position"' in refused.stderr
    ran(*call, "--match", "position")
    np.testing.assert_array_equal(opened(tmp_path / "out.nc"), brain().octnorm.normalize(drift=None))


@pytest.mark.parametrize("suffix", [".zarr", ".ome.zarr"])
def test_the_suffix_says_the_format(brain_nc, tmp_path, suffix):
    pytest.importorskip("zarr")
    out = tmp_path / f"out{suffix}"
    ran("normalize", brain_nc, out, "--drift", "none")
    expected = brain().octnorm.normalize(drift=None)
    from xoctnorm import open_volume

    found = open_volume(out)
    np.testing.assert_array_equal(found, expected)
    # What was written can be read, and written again: its mask is chunked otherwise than its values.
    ran("fit", brain_nc, tmp_path / "correction.nc", "--drift", "none")
    ran("apply", out, tmp_path / "correction.nc", tmp_path / f"again{suffix}")
    again = open_volume(tmp_path / f"again{suffix}")
    correction = xr.load_dataset(tmp_path / "correction.nc")
    with pytest.warns(match="already normalized"):
        np.testing.assert_array_equal(again, expected.octnorm.apply(correction))
    if suffix == ".ome.zarr":
        coarse = json.loads(ran("info", out, "--json").stdout)["shape"]
        assert coarse == {"z": 20, "y": 24, "x": 30}


def test_variable_and_level(tmp_path):
    pytest.importorskip("zarr")
    large = cut_brain().rename("intensity")
    xr.Dataset({"intensity": large, "other": large + 1}).to_netcdf(tmp_path / "two.nc")
    refused = run("normalize", tmp_path / "two.nc", tmp_path / "out.nc")
    assert refused.exit_code == 1
    assert "variable" in refused.stderr
    out = tmp_path / "out.ome.zarr"
    ran("normalize", tmp_path / "two.nc", out, "--variable", "intensity", "--drift", "scale")
    large.octnorm.to_ome_zarr(tmp_path / "in.ome.zarr", levels=2)
    ran("fit", tmp_path / "in.ome.zarr", tmp_path / "c.nc", "--level", 1, "--drift", "scale")
    assert xr.load_dataset(tmp_path / "c.nc").sizes["x"] == 40
    ran("apply", tmp_path / "in.ome.zarr", tmp_path / "c.nc", tmp_path / "fine.nc")
    assert opened(tmp_path / "fine.nc").sizes["x"] == 80


@pytest.mark.parametrize(
    ("option", "text", "labels"),
    [
        ("--section-size", None, [0] * 8 + [1] * 8 + [2] * 4),
        ("--sections", "start\n0\n7\n12\n", [0] * 7 + [1] * 5 + [2] * 8),
        ("--sections", "section\n" + "a\n" * 9 + "b\n" * 11, ["a"] * 9 + ["b"] * 11),
        (
            "--sections",
            "# by hand\nz,section\n" + "".join(f"{n}, {5 + n // 10}\n" for n in range(20)),
            [5] * 10 + [6] * 10,
        ),
    ],
    ids=["size", "starts", "labels", "table"],
)
def test_sections(brain_nc, tmp_path, option, text, labels):
    value: object = 8
    if text is not None:
        value = tmp_path / "sections.csv"
        value.write_text(text)
    ran("normalize", brain_nc, tmp_path / "out.nc", "--drift", "scale", option, value)
    found = opened(tmp_path / "out.nc")
    assert found.section.values.tolist() == labels
    expected = brain().assign_coords(section=("z", labels)).octnorm.normalize(drift="scale")
    np.testing.assert_array_equal(found.scale_factor, expected.scale_factor)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("section\n1\n2\n", "has 2 labels: one for each of the 20 planes is needed"),
        ("1\n2\n", "the first line has to be the heading"),
        ("section,start\n1,0\n", "has the columns 'section', 'start'"),
        ("start\n0\n30\n", "increasing plane numbers from 0 to 19"),
        ("section\n" + "1\n2\n" * 10, "come back after another label"),
        ("", "cannot be read as a table"),
    ],
    ids=["few", "no heading", "both", "beyond", "come back", "empty"],
)
def test_wrong_sections(brain_nc, tmp_path, text, says):
    (tmp_path / "sections.csv").write_text(text)
    result = run("normalize", brain_nc, tmp_path / "out.nc", "--sections", tmp_path / "sections.csv")
    assert result.exit_code == 1
    assert says in result.stderr
    assert not (tmp_path / "out.nc").exists()


@pytest.mark.parametrize("kind", ["bool.npy", "uint8.npy", "mask.nc"])
def test_a_mask_from_a_file(brain_nc, tmp_path, kind):
    mask = brain().mean("z") < 0.3
    file = tmp_path / kind
    if kind == "mask.nc":
        mask.astype("int8").rename("mask").to_netcdf(file)
    else:
        np.save(file, mask.to_numpy().astype(kind.removesuffix(".npy")))
    ran("normalize", brain_nc, tmp_path / "out.nc", "--drift", "none", "--agarose-mask", file)
    expected = brain().octnorm.normalize(drift=None, agarose_mask=mask)
    np.testing.assert_array_equal(opened(tmp_path / "out.nc"), expected)


def test_json_is_alone_on_standard_output(brain_nc, tmp_path):
    one = brain().drop_vars("section")
    one.octnorm.to_netcdf(tmp_path / "one.nc")
    result = ran("normalize", tmp_path / "one.nc", tmp_path / "out.nc", "--drift", "scale", "--json")
    found = json.loads(result.stdout)
    assert found.pop("seconds") > 0
    (warning,) = found.pop("warnings")
    assert "no coordinate 'section'" in warning
    assert found == {
        "command": "normalize",
        "input": str(tmp_path / "one.nc"),
        "output": str(tmp_path / "out.nc"),
        "shape": {"z": 20, "y": 24, "x": 30},
        "sections": 1,
    }
    assert f"warning: {warning}" in result.stderr
    assert "20 × y 24 × x 30, float32, 1 section: 2 reads and one to apply" in result.stderr
    quiet = ran("normalize", tmp_path / "one.nc", tmp_path / "quiet.nc", "--drift", "scale", "--quiet")
    assert (quiet.stdout, quiet.stderr) == ("", "")


def test_errors_are_messages_unless_they_are_debugged(brain_nc, tmp_path):
    call = ("normalize", brain_nc, tmp_path / "out.nc", "--zprofile-sigma", "-1")
    failed = run(*call, "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["problems"] == ["zprofile_sigma=-1.0: needs a finite number, 0 or more"]
    assert "error in normalize: 1 problem\n  - zprofile_sigma=-1.0" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert "Traceback" in run(*call, "--debug").stderr
    assert [p.name for p in tmp_path.iterdir()] == ["brain.nc"]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["normalize", "IN"], 2, "Missing argument 'OUT'"),
        (["normalize", "IN", "out.tif"], 2, "one of .ome.zarr, .zarr, .nc"),
        (["fit", "IN", "out.zarr"], 2, "one of .nc"),
        (["normalize", "IN", "out.nc", "--drift", "scal"], 2, "is not one of 'joint'"),
        (["normalize", "IN", "out.nc", "--agarose-mask", "ots"], 2, "neither a method ('otsu', 'border', 'auto') nor"),
        (["normalize", "IN", "out.nc", "--section-size", "0"], 2, "0 is not in the range"),
        (["normalize", "IN", "out.nc", "--section-size", "2", "--sections", "x"], 2, "exclude each other"),
        (["normalise", "IN", "out.nc"], 2, "No such command"),
        (["normalize", "IN", "IN"], 1, "exists: pass --overwrite"),
        (["normalize", "IN", "IN", "--overwrite"], 1, "is the file that the volume was read from"),
        (["normalize", "IN", "absent/out.nc"], 1, "does not exist; create it"),
        (["normalize", "absent.nc", "out.nc"], 1, "path='absent.nc' does not exist"),
        (["normalize", "IN", "out.nc", "--level", "1"], 1, "level"),
        (["normalize", "IN", "out.nc", "--sections", "absent.csv"], 1, "cannot be read as a table"),
        (["apply", "IN", "absent.nc", "out.nc"], 1, "cannot be read as a correction"),
        (["apply", "IN", "IN", "out.nc"], 1, "without a record"),
        (["info", "absent.nc"], 1, "does not exist"),
        (["info", __file__], 1, "has a suffix that is not known"),
    ],
    ids=str,
)
def test_how_it_ends(brain_nc, tmp_path, monkeypatch, args, code, says):
    monkeypatch.chdir(tmp_path)
    before = brain_nc.read_bytes()
    result = run(*(brain_nc if arg == "IN" else arg for arg in args))
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in " ".join(result.stderr.split())
    assert brain_nc.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["brain.nc"]


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_overwriting(brain_nc, tmp_path, suffix):
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    out = tmp_path / f"out{suffix}"
    ran("normalize", brain_nc, out, "--drift", "none")
    assert "exists" in run("normalize", brain_nc, out, "--drift", "scale").stderr
    ran("normalize", brain_nc, out, "--drift", "scale", "--overwrite")
    from xoctnorm import open_volume

    assert "scale_factor" in open_volume(out).coords


@pytest.mark.parametrize("command", ["fit", "normalize"])
def test_what_is_read_is_not_replaced(brain_nc, command):
    before = brain_nc.read_bytes()
    result = run(command, brain_nc, brain_nc, "--overwrite")
    assert result.exit_code == 1
    assert "is the file that the volume was read from" in result.stderr
    assert brain_nc.read_bytes() == before


def test_targets_are_looked_at_before_anything_is_read(brain_nc, tmp_path, monkeypatch):
    monkeypatch.setattr("xoctnorm.cli.files.open_volume", None)
    for name, says in (("folder.nc", "is a folder"), ("folder.zarr", "is no Zarr store")):
        (tmp_path / name).mkdir()
        result = run("normalize", brain_nc, tmp_path / name, "--overwrite")
        assert (result.exit_code, says in result.stderr) == (1, True)


def test_info_of_a_volume(brain_nc, tmp_path):
    text = ran("info", brain_nc).stdout
    lines = {line[:10].strip(): line[10:].strip() for line in text.splitlines()}
    assert lines == {
        "volume": "intensity, z 20 × y 24 × x 30, float32",
        "values": "57.6 kB, in counts",
        "z": "0 to 190 um, every 10",
        "y": "0 to 46 um, every 2",
        "x": "0 to 58 um, every 2",
        "sections": "4 of 5 planes: 0, 1, 2, 3",
        "done": "nothing is recorded",
    }
    facts = json.loads(ran("info", brain_nc, "--json").stdout)
    assert facts["kind"] == "volume"
    assert facts["shape"] == {"z": 20, "y": 24, "x": 30}
    assert facts["axes"]["y"] == {"spacing": 2.0, "even": True, "first": 0.0, "last": 46.0, "units": "um"}
    assert facts["sections"][1]["first_plane"] == 5
    ran("normalize", brain_nc, tmp_path / "out.nc", "--drift", "scale")
    done = ran("info", tmp_path / "out.nc").stdout
    assert "normalize(drift='scale')\n" in done
    assert "scale_factor" in done
    assert json.loads(ran("info", tmp_path / "out.nc", "--json").stdout)["steps"][0]["parameters"]["drift"] == "scale"


def test_text_that_is_no_utf_8_is_printed_as_escapes(tmp_path):
    pytest.importorskip("zarr")
    brain().assign_attrs(units="Zähler \ud800").to_zarr(tmp_path / "brain.zarr", consolidated=False)
    assert "Zähler \\ud800" in ran("info", tmp_path / "brain.zarr").stdout
    facts = json.loads(ran("info", tmp_path / "brain.zarr", "--json").stdout)
    assert facts["units"] == "Zähler \ud800"


def test_info_of_what_is_no_netcdf(tmp_path):
    (tmp_path / "junk.nc").write_text("junk")
    result = run("info", tmp_path / "junk.nc")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error in open_volume" in result.stderr


def test_info_of_a_correction(brain_nc, tmp_path):
    ran("fit", brain_nc, tmp_path / "correction.nc", "--drift", "scale")
    correction = brain().octnorm.fit(drift="scale")
    facts = json.loads(ran("info", tmp_path / "correction.nc", "--json").stdout)
    assert facts["kind"] == "correction"
    assert facts["corrections"] == ["otsu_mask", "background", "scale"]
    assert facts["planes"] == {"z": 20}
    assert facts["sections"] == [{"label": n, "n_planes": 5} for n in range(4)]
    low, high = facts["ranges"]["scale_factor"]
    assert (low, high) == (float(correction.scale_factor.min()), float(correction.scale_factor.max()))
    text = ran("info", tmp_path / "correction.nc").stdout
    assert f"scale_factor          {low:.4g} to {high:.4g}" in text
    assert "4 of 5 planes: 0, 1, 2, 3" in text


def test_spacing_and_units(tmp_path):
    np.save(tmp_path / "brain.npy", brain().to_numpy())
    options = ("--spacing", 10, 2, 2, "--units", "um", "--section-size", 5, "--drift", "scale")
    ran("normalize", tmp_path / "brain.npy", tmp_path / "out.nc", *options)
    found = opened(tmp_path / "out.nc")
    np.testing.assert_array_equal(found.z, brain().z)
    np.testing.assert_array_equal(found, brain().octnorm.normalize(drift="scale"))
    assert found.x.attrs["units"] == "um"


def test_help_has_examples_and_exit_codes():
    overview = ran("--help").stdout
    assert "xoctnorm fit brain.ome.zarr correction.nc --level 2\n" in overview
    assert "130 interrupted" in " ".join(overview.split())
    for name in app.commands:
        assert f"\n  xoctnorm {name} " in ran(name, "--help").stdout


def test_the_commands_of_the_page_run(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    monkeypatch.chdir(tmp_path)
    cut_brain().octnorm.to_netcdf("brain.nc")
    cut_brain().octnorm.to_ome_zarr("brain.ome.zarr", levels=2)
    page = (Path(__file__).parent.parent / "docs" / "command_line.md").read_text(encoding="utf-8")
    commands = [line.split() for line in page.split("```bash\n")[1].split("```")[0].splitlines()]
    assert len(commands) == 7
    for name, *args in commands:
        assert name == "xoctnorm"
        # Half the pixels are few, and 20 planes are not what these sections have: that is said, and no failure.
        ran(*args)
    assert {p.name for p in tmp_path.iterdir()} == {
        "brain.nc",
        "brain.ome.zarr",
        "brain_normalized.nc",
        "brain_normalized.ome.zarr",
        "correction.nc",
        "flat.zarr",
    }


def test_the_page_names_every_option():
    page = (Path(__file__).parent.parent / "docs" / "command_line.md").read_text(encoding="utf-8")
    options = {name for command in app.commands.values() for option in command.params for name in option.opts}
    assert {name for name in options if name.startswith("--") and f"`{name}" not in page} == set()


def shell(*args: object, code: str | None = None, **options) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, *(("-m", "xoctnorm") if code is None else ("-c", code)), *map(str, args)]
    return subprocess.run(call, capture_output=True, text=True, timeout=120, check=False, **options)


def test_as_a_program(brain_nc, tmp_path):
    done = shell("normalize", brain_nc, tmp_path / "out.nc", "--drift", "scale", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["sections"] == 4
    assert "\x1b" not in done.stderr
    assert done.stderr.splitlines()[-1] == f"wrote {tmp_path / 'out.nc'}"
    assert_same_result(opened(tmp_path / "out.nc"), brain().octnorm.normalize(drift="scale"))
    failed = shell("normalize", tmp_path / "absent.nc", tmp_path / "other.nc")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("error in open_volume: 1 problem\n")
    assert shell("normalize").returncode == 2


def test_importing_the_package_loads_neither_click_nor_rich():
    done = shell(code="import sys, xoctnorm; print([m for m in ('click', 'rich', 'xoctnorm.cli') if m in sys.modules])")
    assert done.stdout == "[]\n"


SLOW = """
import signal, sys, time, dask, dask.array, numpy as np, xarray as xr
import xoctnorm.cli.files
from xoctnorm.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let their background jobs ignore it
dask.config.set(num_workers=2)
image = np.where(np.hypot(*np.ogrid[-1:1:64j, -1:1:64j]) < 0.6, 1, 0.1).astype("float32")
def wait(block):
    sys.stderr.write("working\\n")
    sys.stderr.flush()
    time.sleep(0.1)
    return block + image
data = dask.array.zeros((200, 64, 64), dtype="float32", chunks=(2, -1, -1)).map_blocks(wait, dtype="float32")
xoctnorm.cli.files.open_volume = lambda *_, **__: xr.DataArray(data, dims=("z", "y", "x"))
main()
"""


def test_interrupted(tmp_path):
    call = [sys.executable, "-c", SLOW, "normalize", "in.nc", str(tmp_path / "out.nc"), "--quiet", "--json"]
    environment = os.environ | {"XOCTNORM_NUM_THREADS": "2"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*call, "--drift", "none"], text=True, env=environment, **pipes) as process:
        for _ in range(20):
            assert process.stderr.readline() == "working\n"
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out) == {"command": "normalize", "problems": ["interrupted"]}
    assert errors.replace("working\n", "") == "interrupted\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def results(tmp_path) -> tuple[Path, Path, Path]:
    """A volume, a good result and a poor one."""
    volume = cut_brain()
    paths = volume.octnorm.to_netcdf(tmp_path / "raw.nc"), tmp_path / "good.nc", tmp_path / "poor.nc"
    volume.octnorm.normalize().octnorm.to_netcdf(paths[1])
    volume.octnorm.normalize(drift=None).octnorm.to_netcdf(paths[2])
    return paths


def test_qc_says_what_to_try_and_ends_with_3_where_a_figure_is_an_error(results):
    raw, good, poor = results
    told = ran("qc", good, "--before", raw)
    assert told.stdout.startswith("verdict  All ")
    assert told.stdout.count("\n") == 1
    expected = opened(poor).octnorm.qc(opened(raw))
    result = run("qc", poor, "--before", raw)
    assert result.exit_code == 3
    lines = result.stdout.splitlines()
    assert lines[0] == f"verdict  {expected.attrs['verdict']}"
    assert lines[1].startswith("error    ")
    assert lines[2].startswith("         try: ")


def test_qc_takes_what_the_accessor_takes(results, tmp_path):
    raw, _, _ = results
    volume = opened(raw).rename(section="slab")
    correction = volume.octnorm.fit(section="slab", drift="scale")
    correction["section_flags"] = ("section_label", np.array(["", "", "clamped", "", "", ""]))
    result = volume.octnorm.apply(correction)
    mask = volume.mean("z").to_numpy() < 0.1
    for one, name in ((volume, "slab.nc"), (result, "result.nc")):
        one.octnorm.to_netcdf(tmp_path / name)
    correction.to_netcdf(tmp_path / "correction.nc")
    np.save(tmp_path / "mask.npy", mask)
    limits = {"boundary_step": (0.9, 0.95), "cjv": (np.inf, np.inf)}
    call = {"correction": correction, "limits": limits, "agarose_mask": mask, "noise_floor": 0.02}
    expected = result.octnorm.qc(volume, **call, intensity="linear", section="slab")
    options = ["--correction", tmp_path / "correction.nc", "--agarose-mask", tmp_path / "mask.npy", "--noise-floor",
               "0.02", "--intensity", "linear", "--section", "slab"]  # fmt: skip
    for name, pair in limits.items():
        options += ["--limit", name, *pair]
    found = run("qc", tmp_path / "result.nc", "--before", tmp_path / "slab.nc", *options, "--json")
    facts = json.loads(found.stdout)
    assert facts["verdict"] == expected.attrs["verdict"]
    for name, figure in expected.data_vars.items():
        assert facts["figures"][name]["values"] == jsonable(figure.to_numpy()), name
        assert facts["figures"][name].get("limits") == figure.attrs["limits"], name
    assert "section 2: the gain of flattening ends at its bound (clamped)" in str(facts["findings"])


def test_sections_of_another_name(results, tmp_path):
    volume = opened(results[0]).rename(section="slab")
    volume.octnorm.to_netcdf(tmp_path / "slab.nc")
    ran("normalize", tmp_path / "slab.nc", tmp_path / "out.nc", "--section", "slab")
    expected = volume.octnorm.normalize(section="slab")
    assert_same_result(opened(tmp_path / "out.nc"), expected)
    (step,) = steps_of(opened(tmp_path / "out.nc").attrs)
    assert shell_code([step]).endswith("normalized.nc --section slab")
    ran("fit", tmp_path / "slab.nc", tmp_path / "correction.nc", "--section", "slab")
    np.testing.assert_array_equal(xr.load_dataset(tmp_path / "correction.nc").scale_factor, expected.scale_factor)
    alone = json.loads(ran("qc", tmp_path / "slab.nc", "--section", "slab", "--limit", "boundary_step", 9, 9,
                           "--limit", "left_out_error", 9, 9, "--json").stdout)  # fmt: skip
    assert len(alone["figures"]["boundary_step"]["values"]) == 6
    for made in (["--section-size", 5], ["--sections", "sections.csv"]):
        refused = run("qc", tmp_path / "slab.nc", "--section", "slab", *made)
        assert refused.exit_code == 2
        assert f"--section and {made[0]} exclude each other" in refused.stderr
    refused = run("qc", tmp_path / "slab.nc", "--agarose-mask", "border")
    assert "'border' is no file" in refused.stderr


def test_qc_as_json(results):
    raw, _, poor = results
    result = run("qc", poor, "--before", raw, "--json")
    assert result.exit_code == 3
    facts = json.loads(result.stdout)
    expected = opened(poor).octnorm.qc(opened(raw))
    assert facts["command"] == "qc"
    assert facts["status"] == "error"
    assert facts["findings"][0].keys() == {"figure", "status", "message", "advice"}
    step = facts["figures"]["boundary_step"]
    assert step["dims"] == ["stage", "section_label"]
    assert step["values"][1][1:] == expected.boundary_step.values[1, 1:].tolist()
    assert step["status"] == expected.boundary_step.attrs["status"]
    assert run("qc", poor, "--before", "nowhere.nc").exit_code == 1
