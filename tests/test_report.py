"""The report: that it is one safe file with everything in it, and that little is read for it."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import tempfile
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import cut_brain
from test_plot import counted

from xoctnorm import InputError
from xoctnorm.plot.series import series_of
from xoctnorm.provenance import steps_of
from xoctnorm.report import reproduce, tables
from xoctnorm.report.images import grey_images
from xoctnorm.report.reading import shown_planes

pytest.importorskip("matplotlib").use("agg")
pytest.importorskip("jinja2")
Pillow = pytest.importorskip("PIL.Image")

HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">'\"&{{7*7}}"


class Page(HTMLParser):
    """Text and tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


@cache
def hostile_report():
    """A report on a volume whose attributes are hostile."""
    volume = cut_brain()
    labels = np.repeat([f"{HOSTILE}{i}" for i in range(6)], 5)
    volume = volume.assign_coords(section=("z", labels)).rename("volume")
    volume = volume.assign_attrs(long_name=HOSTILE, units=HOSTILE, comment=HOSTILE, history=HOSTILE)
    correction = volume.octnorm.fit(flatten_depth=True)
    result = volume.octnorm.apply(correction).assign_attrs({HOSTILE: HOSTILE})
    qc = result.octnorm.qc(volume, correction=correction)
    (lazy, of_volume), (lazy_result, of_result) = (counted(one, chunks={"z": 2}) for one in (volume, result))
    lazy_result = lazy_result.assign_attrs(result.attrs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder).resolve() / "qc.html"
        options = {"before": lazy, "correction": correction, "qc": qc, "title": HOSTILE}
        assert lazy_result.octnorm.report(path, **options) == path
        assert list(path.parent.iterdir()) == [path]
        return path.read_text(encoding="utf-8"), of_volume.reads, of_result.reads


def test_it_has_all_in_one_file(hostile_page):
    text = hostile_page.read_text(encoding="utf-8")
    page = Page(text)
    assert hostile_page.stat().st_size < 5_000_000
    links = [attrs.get(name) for _, attrs in page.tags for name in ("src", "href", "srcset") if name in attrs]
    assert len(links) > 8
    assert all(link.startswith("data:") for link in links)
    said = " ".join(page.text)
    for words in ("What to look at", "Planes", "Pictures", "Figures of merit", "Sections", "How to reproduce",
                  "Provenance", "step at the cut, at equal depth", "flatten_depth=True", "sum64-splitmix"):  # fmt: skip
        assert words in said or words == "What to look at", words
    pictures = [attrs["id"] for tag, attrs in page.tags if tag == "figure"]
    names = ["overview", "drift", "zprofile", "mask", "thresholds", "histograms"]
    assert pictures == [f"picture-{name}" for name in names]


def test_hostile_text_stays_text(hostile_page):
    text = hostile_page.read_text(encoding="utf-8")
    assert text.count("<script") == 2  # our data and our program
    page = Page(text)
    assert not any("onerror" in attrs for _, attrs in page.tags)
    assert sum(HOSTILE in one for one in page.text) > 10
    assert "49'" not in text  # nothing was rendered twice
    assert HOSTILE in data_of(text)["planes"][0]["text"]


def test_text_that_no_file_holds_is_shown_as_escapes(tmp_path):
    odd = "Köln \ud800"
    volume = cut_brain().rename(odd).assign_attrs({odd: odd, "units": odd, "long_name": odd, "history": odd})
    volume = volume.assign_coords(section=("z", np.repeat([f"{i} \ud800" for i in range(6)], 5)))
    volume["z"].attrs["long_name"] = odd
    correction = volume.octnorm.fit()
    path = volume.octnorm.apply(correction).octnorm.report(
        tmp_path / "qc.html", before=volume, correction=correction, title=odd
    )
    said = " ".join(Page(path.read_text(encoding="utf-8")).text)
    assert said.count("Köln \\ud800") > 5
    assert "3 \\ud800" in said


def test_images_are_the_planes(hostile_page):
    data = data_of(hostile_page.read_text(encoding="utf-8"))
    volume = cut_brain()
    assert len(data["before"]) == len(data["after"]) == len(data["planes"]) == 30
    with Pillow.open(io.BytesIO(base64.b64decode(data["before"][7]))) as image:
        grey = np.asarray(image.convert("L"), float)
    assert grey.shape == (64, 80)
    assert np.corrcoef(grey.ravel(), volume[7].to_numpy().ravel())[0, 1] > 0.9
    assert data["aspect"] == pytest.approx(80 / 64)
    assert [place["row"] for place in data["planes"]] == np.repeat(range(6), 5).tolist()


def test_a_volume_alone_and_one_without_record(tmp_path):
    cut_brain().isel(z=slice(0, 5)).octnorm.report(tmp_path / "raw.html")
    text = (tmp_path / "raw.html").read_text(encoding="utf-8")
    assert 'id="mix"' not in text
    assert "Nothing is recorded with this volume" in text
    assert "before" not in data_of(text)


def test_sections_of_another_name_are_judged(tmp_path):
    volume = cut_brain().rename(section="slab")
    result = volume.octnorm.normalize(drift=None, section="slab")
    text = " ".join(Page(result.octnorm.report(tmp_path / "qc.html").read_text(encoding="utf-8")).text)
    assert "step at the cut, at equal depth: nothing tells it" not in text
    qc = result.octnorm.qc(section="slab")
    assert qc.attrs["verdict"] in text


def test_the_number_that_was_judged_stands_beside_its_limits():
    volume = cut_brain()
    qc = volume.octnorm.normalize(drift=None).octnorm.qc(volume)
    rows = {row.name: row.limits for row in tables.figures(qc)}
    judged = qc["boundary_step"].attrs["judged"]
    assert rows["boundary_step"] == f"judged: {100 * judged:.3g} %; warning above 2 %, error above 6 %"
    assert rows["tissue_variation"] == "warning above 10 %, error above 30 %"  # one number


def test_infinite_voxels_are_white():
    image = np.array([[0.1, 0.3, np.inf, -np.inf, np.nan]], np.float32).repeat(16, axis=1).repeat(80, axis=0)
    (coded,) = grey_images({"after": ({0: image}, (0.1, 0.3))}, 10**6)["after"]
    shown = np.asarray(Pillow.open(io.BytesIO(base64.b64decode(coded))).convert("L")).astype(int)[40]
    assert shown[40] > 200
    assert shown[56] < 80


def test_volumes_are_read_once_besides_qc():
    _, *reads = hostile_report()
    for found in reads:
        assert sum(found) == cut_brain().size
        assert max(found) <= cut_brain().size / 15  # a chunk


def of_size(n_sections, planes):
    section = np.repeat(np.arange(n_sections), planes)
    return xr.DataArray(np.ones((section.size, 2, 2)), dims=("z", "y", "x"), coords={"section": ("z", section)})


@pytest.mark.parametrize(
    ("n_sections", "planes", "n_shown"), [(4, 20, 80), (10, 50, 120), (150, 3, 150), (500, 20, 167)]
)
def test_planes_are_evenly_spread(n_sections, planes, n_shown):
    series = series_of("", of_size(n_sections, planes))
    shown = shown_planes(series)
    assert len(shown) == n_shown
    assert shown == sorted(set(shown))
    if n_shown == 120:
        assert shown[:12] == [0, 4, 9, 13, 18, 22, 27, 31, 36, 40, 45, 49]


def test_many_planes_of_speckle_stay_below_the_limit():
    from xoctnorm.report.images import grey_images

    rng = np.random.default_rng(0)
    images = {n: rng.exponential(1, (224, 224)).astype(np.float32) for n in range(12)}
    stages = {"before": (images, (0, 4)), "after": (images, (0, 4))}
    coded = grey_images(stages, 90_000)
    assert 30_000 < sum(len(one) for stage in coded.values() for one in stage) <= 90_000


def test_how_to_reproduce():
    volume = cut_brain()
    steps = steps_of(volume.octnorm.normalize(drift="scale", smooth_sigma=1.0).attrs)
    code = reproduce.python_code(steps)
    assert code.splitlines()[-1] == "volume = volume.octnorm.normalize(drift='scale', smooth_sigma=1.0)"
    assert reproduce.shell_code(steps) == ""  # the command line has no smooth_sigma
    correction = volume.octnorm.fit(flatten_depth=True, agarose_mask="border")
    steps = steps_of(volume.octnorm.apply(correction, match="position").attrs)
    assert reproduce.python_code(steps).splitlines()[-2:] == [
        "correction = volume.octnorm.fit(agarose_mask='border', flatten_depth=True)",
        "volume = volume.octnorm.apply(correction, match='position')",
    ]
    steps = steps_of(volume.octnorm.apply(correction).attrs)
    expected = "xoctnorm normalize volume.nc normalized.nc --agarose-mask border --flatten-depth"
    assert reproduce.shell_code(steps) == expected
    mask = np.zeros((64, 80), bool)
    mask[:20] = True
    steps = steps_of(volume.octnorm.normalize(drift=None, agarose_mask=mask).attrs)
    code = reproduce.python_code(steps)
    assert "agarose_mask = …  # the mask that was passed: mask 64x80 sum64-" in code
    assert "normalize(agarose_mask=agarose_mask, drift=None)" in code
    steps[0]["parameters"]["x=1); import os; f(y"] = 1  # a record that somebody tampered with
    assert "import os" not in reproduce.python_code(steps)


def test_what_is_wrong_is_said_and_nothing_is_left(tmp_path, monkeypatch):
    volume = cut_brain()
    with pytest.raises(InputError, match=r"(?s)ends in \.html.*there is no folder .*none"):
        volume.octnorm.report(tmp_path / "none" / "qc.pdf")
    with pytest.raises(InputError, match="before has other planes"):
        volume.octnorm.report(tmp_path / "qc.html", before=volume[1:])
    with pytest.raises(InputError, match="before needs a DataArray"):
        volume.octnorm.report(tmp_path / "qc.html", before=volume.to_numpy())
    with pytest.raises(InputError, match=r"qc needs the Dataset that da.octnorm.qc\(\) returned"):
        volume.octnorm.report(tmp_path / "qc.html", qc=xr.Dataset())
    folder = tmp_path / "folder.html"
    folder.mkdir()
    with pytest.raises(InputError, match="this is a folder"):
        volume.octnorm.report(folder)
    folder.rmdir()
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"a report needs jinja2.*pip install 'xoctnorm\[report\]'"):
        volume.octnorm.report(tmp_path / "qc.html")
    assert list(tmp_path.iterdir()) == []
