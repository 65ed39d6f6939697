"""Threads of a call, and of linear algebra."""

import multiprocessing
import threading

import numpy as np
import pytest
from conftest import assert_same_bits
from threadpoolctl import threadpool_info

from xoctnorm.kernels import backend, drift
from xoctnorm.kernels.backend import side_by_side
from xoctnorm.phantom import make_phantom
from xoctnorm.threads import VARIABLES, in_threads, shared_threads


def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_linear_algebra_of_the_model_of_tissue_takes_one_thread(monkeypatch):
    seen, estimate, before = [], drift.estimate, blas_threads()

    def spy(*arguments):
        seen.append(blas_threads())
        return estimate(*arguments)

    monkeypatch.setattr(drift, "estimate", spy)
    make_phantom(n_sections=6, planes_per_section=6)["volume"].octnorm.fit()
    assert seen == [{1}]
    assert blas_threads() == before


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setenv(VARIABLES[0], "2")


def names(_: object) -> str:
    return threading.current_thread().name


def test_threads_of_a_call_are_shared_and_end_with_it(two_threads):
    before = threading.active_count()
    with shared_threads():
        of_all = [set(in_threads(names, range(20))) for _ in range(5)]
        with shared_threads():  # as of a step inside of a job
            of_all.append(set(in_threads(names, range(20))))
        one, other = in_threads(names, range(20)), in_threads(names, range(20))
        of_all += [{name for pair in zip(one, other, strict=True) for name in pair}]
        assert len(set.union(*of_all)) <= 2
        assert threading.active_count() > before
    assert threading.active_count() == before


def test_small_planes_are_taken_one_after_the_other(two_threads, monkeypatch):
    """To the same bits, which other threads do not change."""
    monkeypatch.setattr(backend, "_SMALL_PLANE", 12 * 15)
    here = threading.current_thread().name
    assert set(side_by_side(names, range(20), np.empty(0), (12, 15))) == {here}
    assert here not in set(side_by_side(names, range(20), np.empty(0), (12, 16)))
    volume, results = make_phantom(n_sections=6, planes_per_section=6)["volume"], []
    for small in (0, 2**30):
        monkeypatch.setattr(backend, "_SMALL_PLANE", small)
        results.append(volume.octnorm.normalize(drift="joint", flatten_depth=True, zprofile_sigma=2))
    assert_same_bits(*results)


def test_after_an_error_nothing_waits_and_others_go_on(two_threads):
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        return 1 // number

    with shared_threads():
        with pytest.raises(ZeroDivisionError):
            list(in_threads(work, [0, *range(1, 100)]))
        n_begun = len(begun)
        assert list(in_threads(abs, [-1, -2])) == [1, 2]
        assert len(begun) == n_begun < 10


def test_what_waits_when_a_call_fails_is_not_begun(two_threads):
    begun, both_busy, go_on = [], threading.Barrier(3), threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number:
            both_busy.wait(10)
            go_on.wait(10)

    def call(left_open: list[object]) -> None:
        with shared_threads():
            results = in_threads(work, range(100))
            left_open.append(results)
            next(results)
            both_busy.wait(10)
            threading.Timer(0.2, go_on.set).start()
            raise KeyboardInterrupt

    before, left_open = threading.active_count(), []
    with pytest.raises(KeyboardInterrupt):
        call(left_open)
    assert sorted(begun) == [0, 1, 2]  # 3 and 4 had been handed over
    assert threading.active_count() == before
    left_open[0].close()


def in_fork() -> None:
    assert list(in_threads(abs, range(-9, 0))) == list(range(9, 0, -1))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system forks no processes")
def test_a_fork_has_threads_of_its_own(two_threads):
    with shared_threads():
        list(in_threads(abs, range(9)))
        child = multiprocessing.get_context("fork").Process(target=in_fork)
        child.start()
        child.join(60)
        assert child.exitcode == 0


def test_threads_of_a_fit_are_few(two_threads, monkeypatch):
    begun, start = [], threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: begun.append(thread.name) or start(thread))
    make_phantom(n_sections=6, planes_per_section=6)["volume"].octnorm.fit()
    assert len([name for name in begun if name.startswith("xoctnorm")]) == 2
