"""Progress bars: what they count, when they show, and that Ctrl-C ends work at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
from conftest import brain, cut_brain

import xoctnorm
from xoctnorm import InputError, progress
from xoctnorm.threads import in_threads


class Recorded:
    """Stands in for the bar of rich."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []
        self.started = self.stopped = 0
        self.task_ids = [0]

    def start(self) -> None:
        self.started += 1

    def stop(self) -> None:
        self.stopped += 1

    def add_task(self, *args, **kwargs) -> None:
        pass

    def update(self, task, *, description, completed, total) -> None:
        self.seen.append((description, completed, total))


@pytest.fixture
def bars(monkeypatch):
    made: list[Recorded] = []

    def make() -> Recorded:
        made.append(Recorded())
        return made[-1]

    monkeypatch.setattr(progress, "_bar", make)
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    with xoctnorm.set_progress(True):
        yield made


@pytest.mark.parametrize("chunks", [None, {"z": 7}], ids=str)
@pytest.mark.parametrize("options", [{}, {"drift": "scale", "zprofile_sigma": 2}], ids=str)
def test_every_plane_of_every_read_is_counted(bars, options, chunks):
    da = cut_brain() if chunks is None else cut_brain().chunk(chunks)
    plan = da.octnorm.plan(**options)
    da.octnorm.fit(**options)
    (bar,) = bars
    assert (bar.started, bar.stopped) == (1, 1)
    done = [completed for _, completed, _ in bar.seen]
    assert done == sorted(done)
    assert {total for _, _, total in bar.seen} == {plan.fit_reads * da.sizes["z"]}
    assert done[-1] == plan.fit_reads * da.sizes["z"]
    phases = list(dict.fromkeys(description for description, _, _ in bar.seen))
    assert phases[0] == "fit: first read"
    assert [f"fit: {name}" for name in plan.reads if name != "apply"] == [
        phase for phase in phases if phase.removeprefix("fit: ") in plan.reads
    ]


def test_applying_in_memory_has_its_own_bar_and_masks_and_channels_count(bars):
    da = xr.concat([brain(), brain(seed=2)], "channel")
    da.octnorm.normalize(drift=None)
    fitting, applying = bars
    assert fitting.seen[-1] == ("normalize: background", 80, 80)
    assert applying.seen[-1] == ("apply", 40, 40)
    mask = brain() > 0.3
    brain().octnorm.smooth_zprofile(mask=mask, sigma=1)
    assert bars[2].seen[-1] == ("smooth_zprofile: zprofile", 60, 60)


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_lazy_results_show_it_while_they_are_written(bars, tmp_path, suffix):
    if suffix == ".zarr":
        pytest.importorskip("zarr")
    result = brain().octnorm.normalize(drift=None).chunk(z=3)
    del bars[:]
    (result.octnorm.to_netcdf if suffix == ".nc" else result.octnorm.to_zarr)(tmp_path / f"out{suffix}")
    bar = bars[-1]
    assert {description for description, _, _ in bar.seen} == {"write"}
    _, completed, total = bar.seen[-1]
    assert completed == total >= 1
    assert bar.stopped == 1


def test_short_work_shows_no_bar(bars, monkeypatch):
    monkeypatch.setattr(progress, "_AFTER", 60.0)
    brain().octnorm.normalize(drift=None)
    assert bars == []


def test_a_bar_ends_with_an_error(bars):
    damaged = brain()
    damaged[-1, 0, 0] = np.inf
    with pytest.raises(InputError):
        damaged.octnorm.fit()
    assert [bar.stopped for bar in bars] == [1]
    assert progress._job.get() is None


def test_when_it_shows(monkeypatch):
    class Stream:
        def __init__(self, terminal: bool) -> None:
            self.isatty = lambda: terminal

    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv(progress.VARIABLE, raising=False)
    for terminal in (True, False):
        monkeypatch.setattr(sys, "stderr", Stream(terminal))
        assert progress.wanted() is terminal
        for number in ("0", "1"):
            monkeypatch.setenv(progress.VARIABLE, number)
            assert progress.wanted() is (number == "1")
            with xoctnorm.set_progress(number == "0"):  # comes first
                assert progress.wanted() is (number == "0")
        monkeypatch.delenv(progress.VARIABLE)
    monkeypatch.setattr(sys, "stderr", Stream(True))
    monkeypatch.setenv("TERM", "dumb")
    assert progress.wanted() is False
    monkeypatch.setitem(sys.modules, "ipykernel", sys)  # a notebook
    monkeypatch.setattr(progress, "find_spec", lambda name: name == "ipywidgets" or None)
    assert progress.wanted() is True
    monkeypatch.setattr(progress, "find_spec", lambda name: None)
    assert progress.wanted() is False


def test_other_threads_show_none(bars):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(brain().octnorm.fit, drift=None).result()
    assert bars == []
    brain().octnorm.fit(drift=None)
    assert len(bars) == 1


def test_setting_and_going_back():
    before = progress._chosen
    try:
        xoctnorm.set_progress(True)
        with xoctnorm.set_progress(False):
            assert progress.wanted() is False
            with xoctnorm.set_progress(True):
                assert progress.wanted() is True
            assert progress.wanted() is False
        assert progress.wanted() is True
        with pytest.raises(InputError, match="shown='yes': needs True, False or None"):
            xoctnorm.set_progress("yes")
        assert progress.wanted() is True
    finally:
        xoctnorm.set_progress(before)


def test_bars_change_no_bit_and_leave_standard_output_alone(capfd, monkeypatch):
    monkeypatch.setattr(progress, "_AFTER", 0.0)
    plain = brain().octnorm.normalize(drift="scale")
    with xoctnorm.set_progress(True):
        shown = brain().octnorm.normalize(drift="scale")
    np.testing.assert_array_equal(plain, shown)
    assert capfd.readouterr().out == ""


SHORT = """
import sys, xoctnorm
from conftest import brain
from xoctnorm import progress
progress._AFTER = 0.0
brain().octnorm.fit(drift=None)
print("rich" in sys.modules)
"""


def run(code: str, **options) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])  # noqa: PTH120
    environment = {k: v for k, v in os.environ.items() if k != progress.VARIABLE}
    environment |= {"PYTHONPATH": paths, "TERM": "xterm"}
    call = [sys.executable, "-c", code]
    return subprocess.run(call, stdout=subprocess.PIPE, env=environment, text=True, check=True, timeout=120, **options)


def test_pipes_see_nothing():
    done = run(SHORT, stderr=subprocess.PIPE)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_terminals_see_the_phase():
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    try:
        done = run(SHORT, stderr=theirs)
        os.close(theirs)
        seen = os.read(ours, 2**20).decode()
    finally:
        os.close(ours)
    assert done.stdout == "True\n"
    assert "fit: " in seen


def test_what_waits_for_a_thread_is_not_begun_after_an_interrupt(monkeypatch):
    monkeypatch.setenv("XOCTNORM_NUM_THREADS", "2")
    begun, both_busy, go_on = [], threading.Barrier(3), threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number:
            both_busy.wait(10)
            go_on.wait(10)
        return number

    results = in_threads(work, range(100))
    assert next(results) == 0
    both_busy.wait(10)
    threading.Timer(0.2, go_on.set).start()
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt())
    assert sorted(begun) == [0, 1, 2]  # 3 and 4 had been handed over


SLOW = """
import itertools, signal, sys, time, dask.array, numpy as np, xarray as xr, xoctnorm
count, quick = itertools.count(), int(sys.argv[2])
dask.config.set(num_workers=2)
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let their background jobs ignore it
image = np.where(np.hypot(*np.ogrid[-1:1:128j, -1:1:128j]) < 0.6, 1, 0.1).astype("float32")
def wait(block):
    sys.stdout.write("working\\n")
    sys.stdout.flush()
    time.sleep(0.1 if next(count) >= quick else 0)
    return block + image
data = dask.array.zeros((400, 128, 128), dtype="float32", chunks=(2, -1, -1)).map_blocks(wait, dtype="float32")
volume = xr.DataArray(data, dims=("z", "y", "x"), coords={"section": ("z", np.arange(400) // 20)})
volume.octnorm.normalize(drift=None).octnorm.to_netcdf(sys.argv[1])
"""


@pytest.mark.parametrize("quick", [0, 400], ids=["fit", "write"])
def test_interrupted(tmp_path, quick):
    """Fitting reads 200 blocks twice, and then they are written, which takes 10 seconds on two cores."""
    code = [sys.executable, "-c", SLOW, tmp_path / "out.nc", str(quick)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(quick + 20):
            assert process.stdout.readline() == "working\n"
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert time.monotonic() - sent < 4
    assert process.returncode not in (0, None)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert list(tmp_path.iterdir()) == []
