"""The code in the documentation runs as it is written, and the files it names are there."""

from __future__ import annotations

import re
import runpy
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from xoctnorm.accessor import OctnormAccessor
from xoctnorm.phantom import make_phantom

TOP = Path(__file__).parent.parent
PAGES = [TOP / "README.md", *sorted(p for p in (TOP / "docs").rglob("*.md") if "_build" not in p.parts)]


def code_blocks(page: Path) -> str:
    """All Python blocks of a page as one program, each at its own lines, so that tracebacks fit the page."""
    lines, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            inside = line == "```python"
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines)


@pytest.mark.parametrize("page", [p for p in PAGES if code_blocks(p).strip()], ids=lambda p: p.name)
def test_code_runs(page, tmp_path, monkeypatch):
    if "matplotlib" in code_blocks(page):
        pytest.importorskip("matplotlib").use("agg")
    monkeypatch.chdir(tmp_path)
    exec(compile(code_blocks(page), str(page), "exec"), {"__name__": "__main__"})


def test_readme_and_methods_have_code():
    assert all(code_blocks(TOP / page).strip() for page in ("README.md", "docs/methods.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).is_file(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_cells_are_run_when_the_site_is_built(page):
    text = page.read_text(encoding="utf-8")
    assert ("```{code-cell}" in text) == text.startswith("---\nfile_format: mystnb\n")


def test_the_reference_has_every_member_of_the_accessor():
    documented = re.findall(r"DataArray\.octnorm\.(\w+)", (TOP / "docs/api/accessor.rst").read_text(encoding="utf-8"))
    assert sorted(documented) == [name for name in dir(OctnormAccessor) if not name.startswith("_")]


def test_the_citation_is_of_this_version():
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (TOP / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert f"version: {project['version']}" in citation
    assert f"license: {project['license']}" in citation


def test_the_picture_is_small():
    assert (TOP / "docs/images/quickstart.png").stat().st_size < 400_000


def small_volume(suffix: str, folder: Path) -> Path:
    volume = make_phantom(shape=(40, 48), n_sections=3, planes_per_section=4)[["volume"]].drop_vars("section")
    path = folder / f"small{suffix}"
    if suffix == ".nc":
        volume.to_netcdf(path)
    elif suffix == ".zarr":
        volume.to_zarr(path, zarr_format=2, consolidated=True)
    elif suffix == ".npy":
        np.save(path, volume["volume"].to_numpy().astype(np.float16))
    else:
        pytest.importorskip("tifffile").imwrite(path, volume["volume"].to_numpy())
    return path


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        (".nc", ["--planes-per-section", "4"]),
        (".zarr", ["--sections", "3", "--drift", "scale"]),
        (".npy", []),
        (".tif", ["--drift", "none"]),
    ],
)
def test_quickstart(suffix, options, tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib").use("agg")
    path = small_volume(suffix, tmp_path)
    monkeypatch.setattr(sys, "argv", ["quickstart.py", str(path), *options, "--out", str(tmp_path / "out")])
    runpy.run_path(str(TOP / "examples" / "quickstart.py"), run_name="__main__")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["small_normalized.nc", "small_normalized.png"]
    with xr.open_dataarray(tmp_path / "out" / "small_normalized.nc") as result:
        assert 0 <= float(result.min()) < float(result.max()) <= 1
    printed = capsys.readouterr().out
    assert "agarose: " in printed
    assert ("warning: the volume has no coordinate 'section'" in printed) == (options == [])
