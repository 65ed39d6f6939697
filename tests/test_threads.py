"""Threads of linear algebra."""

from threadpoolctl import threadpool_info

from xoctnorm.kernels import drift
from xoctnorm.phantom import make_phantom


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
