"""The report in a real browser: no error, no request, and what is touched does what it should."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from test_report import HOSTILE

playwright = pytest.importorskip("playwright.sync_api")

OPTIONS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
           "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        names = ("chromium", "chromium-browser", "google-chrome")
        found = next((path for name in names if (path := shutil.which(name))), driver.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("no Chromium was found: install it, or run 'playwright install chromium'")
        browser = driver.chromium.launch(executable_path=found, args=OPTIONS)
        yield browser
        browser.close()


class Watched:
    """A page, and what it does that it should not."""

    def __init__(self, browser, path, **options):
        self.faults = []
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self._asked(request.url, path))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.getElementById('after').complete")

    def _asked(self, url, path):
        if url != path.as_uri() and not url.startswith("data:"):
            self.faults.append(f"asked for {url}")

    def at(self):
        return self.page.locator("#plane-text").inner_text()

    def picture(self):
        return self.page.locator("#stage").screenshot()


@pytest.fixture
def opened(chromium, hostile_page, request):
    watched = Watched(chromium, hostile_page, **getattr(request, "param", {}))
    yield watched
    assert watched.faults == []
    watched.context.close()


def test_stepping_changes_the_picture(opened):
    page = opened.page
    assert "plane 15" in opened.at()
    page.locator("#stage").focus()
    seen = [opened.picture()]
    for key, plane in {"ArrowRight": 16, "ArrowLeft": 15, "PageDown": 20, "PageUp": 15, "End": 29, "Home": 0}.items():
        page.keyboard.press(key)
        assert f"plane {plane} " in opened.at(), key
        seen.append(opened.picture())
    assert seen[0] == seen[2] == seen[4]
    assert len(set(seen)) == 5
    page.locator("#next").click()
    page.locator("#next-section").click()
    page.locator("#previous").click()
    assert "plane 4 " in opened.at()
    page.locator("#previous-section").click()
    assert "plane 0 " in opened.at()
    page.locator("#plane").focus()
    page.keyboard.press("ArrowRight")  # the slider's own
    assert "plane 1 " in opened.at()


def test_the_line_mixes_before_and_after(opened):
    page = opened.page
    halves = opened.picture()
    page.locator("#mix").focus()
    page.keyboard.press("End")
    before = opened.picture()
    page.keyboard.press("Home")
    after = opened.picture()
    assert len({halves, before, after}) == 3
    clip = "getComputedStyle(document.getElementById('before')).clipPath"
    assert page.evaluate(clip) == "inset(0px 100% 0px 0px)"
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 3 * box["width"] / 4, box["y"] + 20)
    page.mouse.up()
    assert page.locator("#mix").input_value() == "75"
    page.locator("#stage").focus()
    page.keyboard.press(",")
    assert page.locator("#mix").input_value() == "70"
    page.keyboard.press("b")
    assert page.evaluate(clip) == "inset(0px 0px 0px 70%)"
    assert page.locator(".tag.left").inner_text() == "after"


def test_hostile_text_is_shown_and_not_run(opened):
    assert opened.page.locator("h1").inner_text() == HOSTILE
    assert opened.page.title() == f"{HOSTILE} – xoctnorm report"
    assert HOSTILE in opened.at()
    assert opened.page.evaluate("document.querySelectorAll('script').length") == 2


@pytest.mark.parametrize(
    "opened", [{"viewport": {"width": 390, "height": 844}}, {}], ids=["phone", "desk"], indirect=True
)
def test_nothing_sticks_out(opened):
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = opened.page.locator("#stage").bounding_box()
    assert box["width"] / box["height"] == pytest.approx(80 / 64, rel=0.02)
    assert box["x"] >= 0


def test_light_and_dark(opened):
    ground = "getComputedStyle(document.body).backgroundColor"
    shown = "document.querySelector('figure img').currentSrc"
    opened.page.emulate_media(color_scheme="light")
    assert opened.page.evaluate(ground) == "rgb(255, 255, 255)"
    light = opened.page.evaluate(shown)
    opened.page.emulate_media(color_scheme="dark")
    assert opened.page.evaluate(ground) == "rgb(13, 17, 23)"
    opened.page.wait_for_function(f"light => {shown} !== light", arg=light)  # fails where it stays
