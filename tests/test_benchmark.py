"""The benchmark: its measures against closed forms, its families, its tables and its command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from xoctnorm.benchmark import measures, tables
from xoctnorm.benchmark.__main__ import main
from xoctnorm.benchmark.families import FAMILIES
from xoctnorm.benchmark.measures import FEWEST, measure
from xoctnorm.benchmark.methods import METHODS, Method, run
from xoctnorm.benchmark.truth import linear_intensity, truth_of
from xoctnorm.phantom import GREY_MATTER, WHITE_MATTER, make_phantom

N_SECTIONS, N_PLANES = 5, 4
SMALL = {"shape": (48, 60), "n_sections": N_SECTIONS, "planes_per_section": N_PLANES, "dtype": "float64"}
KEPT = ("between_kept", "inside_kept", "level_between_kept", "level_inside_kept")
GONE = ("between_gone", "inside_gone", "level_between_gone", "level_inside_gone")


def case(**parameters):
    """A phantom, its truth, and what the true gains make of it, with decay and without."""
    phantom = make_phantom(**{**SMALL, "looks": None, **parameters})
    truth = truth_of(phantom)
    perfect = [run(METHODS[name], phantom, truth).result.to_numpy() for name in ("truth", "truth-flat")]
    return phantom, truth, *perfect


def per_plane(values):
    return np.asarray(values)[:, np.newaxis, np.newaxis]


# ------------------------------------------------------------------------------------------------------- measures


@pytest.mark.parametrize("focus", [{}, {"focus": 2.0, "rayleigh_range": 5.0}], ids=["decay", "decay and focus"])
def test_a_perfect_correction_has_no_error(focus):
    _, truth, kept, flat = case(**focus)
    for values, names in ((kept, KEPT), (flat, GONE)):
        found = measure(values, truth, None)
        assert max(found[name] for name in (*names, "ratio")) < 1e-9
        assert found["unmeasured"] == 0
    assert measure(kept, truth, None)["inside_gone"] > 0.03  # what is kept is seen where it should be gone
    assert measure(flat, truth, None)["inside_kept"] > 0.03


def test_the_input_has_the_error_of_the_gains():
    phantom, truth, *_ = case(plane_jitter=0.0)
    found = measure(run(METHODS["nothing"], phantom, truth).result.to_numpy(), truth, None)
    gains = phantom["section_gain"].to_numpy()[::N_PLANES]
    assert found["between_kept"] == pytest.approx(np.log(gains).std(), rel=1e-9)
    assert found["inside_kept"] < 1e-9


def test_an_error_of_gain_is_that_figure():
    _, truth, kept, flat = case()
    between = np.array([0.03, -0.01, 0.0, 0.02, -0.04])
    inside = np.array([0.01, -0.01, 0.02, -0.02])
    wrong = per_plane(np.exp(np.repeat(between, N_PLANES) + np.tile(inside, N_SECTIONS)))
    for values, names in ((kept, KEPT), (flat, GONE)):
        found = measure(0.5 * values * wrong, truth, None)
        expected = (between.std(), inside.std())
        assert [found[name] for name in names[:2]] == pytest.approx(expected, rel=1e-9)
        assert [found[name] for name in names[2:]] == pytest.approx(expected, rel=0.15)  # relative errors, no logs


def test_the_same_error_of_slopes_and_levels_where_it_is_small():
    _, truth, kept, _ = case(noise_floor=0.0)
    between = 1e-4 * np.array([3.0, -1.0, 0.0, 2.0, -4.0])
    found = measure(0.5 * kept * per_plane(np.exp(np.repeat(between, N_PLANES))), truth, None)
    baseline = measure(0.5 * kept, truth, None)
    assert baseline["level_between_kept"] < 1e-9
    assert found["level_between_kept"] == pytest.approx(between.std(), rel=0.1)


def test_levels_see_offsets_that_slopes_do_not():
    _, truth, kept, _ = case()
    perfect = measure(0.5 * kept, truth, None)
    same = measure(0.5 * kept + 0.05, truth, None)
    assert same["level_between_kept"] == pytest.approx(perfect["level_between_kept"], abs=1e-9)
    assert same["ratio"] > 0.05  # a ratio has no offset to choose
    changing = 0.02 * np.repeat(np.arange(N_SECTIONS), N_PLANES)
    found = measure(0.5 * kept + per_plane(changing), truth, None)
    assert found["between_kept"] < 1e-9
    assert found["level_between_kept"] > 0.05


def test_the_ratio_of_white_to_grey():
    _, truth, kept, _ = case()
    brighter = np.where(truth.tissue_class == WHITE_MATTER, 1.1, 1.0)
    assert measure(0.5 * kept * brighter, truth, None)["ratio"] == pytest.approx(0.1)


def test_level_errors_against_a_polynomial_fit():
    rng = np.random.default_rng(3)
    expected = rng.uniform(0.1, 0.4, (2, 12))
    level = 3 * expected * np.exp(0.05 * rng.standard_normal((2, 12))) + 0.7
    level[0, 3] = np.nan
    known = np.isfinite(level)
    scale, offset = np.polyfit(expected[known], level[known], 1, w=1 / expected[known])
    found = measures.level_errors(level, expected)
    np.testing.assert_allclose(found[known], (level - offset)[known] / (scale * expected[known]) - 1, rtol=1e-9)
    assert np.isnan(found[0, 3])


def test_the_step_at_cuts():
    phantom, truth, *_ = case(missing_sections=(2,))
    values = np.ones(phantom["volume"].shape) * per_plane(np.repeat([1.0, 1.5, 100.0, 300.0], N_PLANES))
    # Sections 1 and 3 are no neighbours: 2 is lost.
    assert measures.boundary_step(values, truth) == pytest.approx((2 * 0.5 / 2.5 + 2 * 200 / 400) / 2)


def test_dice_of_outlines():
    phantom, truth, *_ = case()
    tissue = phantom["tissue_mask"].to_numpy()
    best = np.repeat(tissue.reshape(N_SECTIONS, N_PLANES, *tissue.shape[1:]).sum(1) > N_PLANES / 2, N_PLANES, axis=0)
    assert measures.relative_dice(~best, truth) == 1
    assert measures.relative_dice(~tissue, truth) == pytest.approx(1 / measures.dice(best, tissue))
    everywhere = np.zeros(tissue.shape[1:], bool)  # no agarose at all, one mask for all planes
    expected = 2 * tissue.sum() / (tissue.size + tissue.sum()) / measures.dice(best, tissue)
    assert measures.relative_dice(everywhere, truth) == pytest.approx(expected)


def test_clipped_voxels_follow_no_slope():
    _, truth, kept, _ = case()
    clipped = np.clip(4 * kept - 0.5, 0, 1)
    assert measure(clipped, truth, None)["between_kept"] < 1e-9


def test_planes_without_a_slope_are_counted():
    _, truth, kept, _ = case()
    values = kept.copy()
    values[:2] = 0
    values[2] *= -1
    found = measure(values, truth, None)
    assert found["unmeasured"] == pytest.approx(3 / (N_SECTIONS * N_PLANES))
    assert found["between_kept"] < 1e-12


def test_a_class_of_few_voxels_is_not_measured():
    _, truth, kept, _ = case()
    few = truth.tissue_class.copy()
    white = np.flatnonzero(few[0] == WHITE_MATTER)
    few[0].ravel()[white[FEWEST - 1 :]] = 0
    means = measures.class_means(kept, truth._replace(tissue_class=few))
    assert np.isnan(means[1, 0])
    assert means[0, 0] == pytest.approx(kept[0][few[0] == GREY_MATTER].mean())


def test_between_and_inside():
    log = np.array([0.0, 0.2, 0.4, 0.6, np.nan, 1.0, np.nan])
    section = np.array([0, 0, 1, 1, 1, 2, 3])
    between, inside = measures.between_and_inside(log, section)
    assert between == pytest.approx(np.std([0.1, 0.5, 1.0]))
    assert inside == pytest.approx(0.1)  # the section with one plane has none, the last one is not measured
    assert np.isnan(measures.between_and_inside(log[:2], section[:2])[0])


def test_calibration_of_standard_errors():
    _, truth, *_ = case()
    error = 0.02 * np.tile([1.0, -1.0], truth.gain.size // 2)
    factor = np.exp(error) / truth.gain
    correction = xr.Dataset({"scale_factor": ("z", 3 * factor), "scale_factor_se": ("z", 3 * factor * 0.01)})
    assert measures.calibration(correction, truth) == pytest.approx(2)
    assert np.isnan(measures.calibration(correction.drop_vars("scale_factor_se"), truth))
    assert np.isnan(measures.calibration(correction * 0, truth))


@pytest.mark.parametrize("stored", [{"intensity": "amplitude"}, {"intensity": "db"}, {"dtype": "uint16"}], ids=str)
def test_the_linear_intensity_is_that_of_the_linear_phantom(stored):
    linear, *_ = case(looks=50.0)
    other, truth, *_ = case(looks=50.0, **stored)
    expected = np.minimum(linear["volume"].to_numpy(), 1) if "dtype" in stored else linear["volume"].to_numpy()
    np.testing.assert_allclose(truth.linear, expected, rtol=1e-9, atol=1e-5 if "dtype" in stored else 0)
    values, saturated = linear_intensity(other["volume"].to_numpy(), {**stored, "intensity": stored.get("intensity")})
    np.testing.assert_array_equal(values, truth.linear)
    np.testing.assert_array_equal(saturated, (linear["volume"].to_numpy() > 1) & ("dtype" in stored))


def test_decibels_of_integers():
    values, _ = linear_intensity(np.array([0, 255], np.uint8), {"intensity": "db", "dynamic_range": 30.0})
    np.testing.assert_allclose(values, [1e-3, 1])


def test_blended_planes_have_the_blended_gain_and_no_levels():
    phantom, truth, *_ = case(overlap=2, blend=1)
    blended = phantom["blend_weight"].to_numpy() < 1
    assert blended.sum() == N_SECTIONS - 1
    np.testing.assert_allclose(truth.gain, phantom["blended_gain"] * phantom["plane_jitter"])
    assert np.isnan(measures.class_means(truth.expected, truth)[:, blended]).all()


# ----------------------------------------------------------------------------------------------- families, methods


@pytest.mark.parametrize("name", FAMILIES)
def test_families_make_phantoms_that_can_be_measured(name):
    family = FAMILIES[name]
    if not family.available:
        pytest.skip(f"{family.needs} is not installed")
    phantom = family.make(1, shape=(48, 56))
    truth = truth_of(phantom)
    found = measure(run(METHODS["truth"], phantom, truth).result.to_numpy(), truth, None)
    assert found["between_kept"] < 1e-6
    assert found["unmeasured"] < 0.2
    assert family.reach in ("standard", "hard", "beyond")


def test_the_page_names_every_family():
    page = (Path(__file__).parent.parent / "docs" / "benchmark.md").read_text(encoding="utf-8")
    for family in FAMILIES.values():
        tuned = " (tuned)" if family.tuned else ""
        assert f"| `{family.name}`{tuned} | {family.varies} | {family.reach} |" in page


def test_methods_do_what_normalize_does():
    phantom, truth, *_ = case(looks=6.0)
    outcome = run(METHODS["scale-0.5"], phantom, truth)
    expected = phantom["volume"].octnorm.normalize(drift="scale", smooth_sigma=0.5)
    xr.testing.assert_equal(outcome.result, expected)
    assert outcome.seconds > 0


# ---------------------------------------------------------------------------------------------------------- tables


def results(**changes):
    """Two seeds of input and of `joint` on the plain family, as a complete table."""
    row = dict.fromkeys((*KEPT, *GONE, "ratio", "step", "unmeasured"), 0.001)
    row |= {"family": "plain", "error": "", "dice": 0.999, "seconds": 0.5, "ns_per_voxel": 7.0, "calibration": 1.0}
    rows = [{**row, "method": "nothing", "seed": s, "between_kept": 0.2} for s in (0, 1)]
    rows += [{**row, "method": "joint", "seed": s} for s in (0, 1)]
    rows[-1] |= changes
    if "family" in changes:
        for one in rows:
            one["family"] = changes["family"]
    return tables.complete(pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "holds"),
        ({"between_kept": 0.012}, "**misses between**"),  # the median is 0.0065
        ({"between_kept": 0.012, "family": "one-look"}, "holds"),  # twice the limits
        ({"inside_kept": 0.021}, "**misses inside**"),
        ({"ratio": 0.021}, "**misses ratio**"),
        ({"dice": 0.98, "level_inside_kept": 0.03}, "**misses level inside, dice lost**"),
        ({"unmeasured": 0.1}, "**misses unmeasured**"),  # a black result has no error that could be measured
        ({"calibration": 4.0}, "**misses standard errors**"),
        ({"calibration": np.nan}, "holds"),
        ({"between_kept": 0.1, "family": "focus-wanders"}, "no limits, not worse than the input"),
        ({"ratio": 0.003, "family": "focus-wanders"}, "**worse than the input on 1 of 2**"),
        ({"error": "InputError: no"}, "**failed to run on 1 of 2**"),
    ],
    ids=str,
)
def test_verdicts(changes, expected):
    found = results(**changes)
    assert tables.verdict(found[found["method"] == "joint"]) == expected


def test_worse_than_the_input():
    found = results(between_kept=0.3, level_inside_kept=0.0019, ratio=0.0025)
    assert list(found["worse"]) == ["", "", "", "between ratio"]
    assert "| plain | S1 R1 |" in tables.worse_matrix(found)
    assert results(ratio=np.nan)["worse"].iloc[-1] == "ratio"  # nothing left to measure
    assert results(error="InputError: no", ratio=np.nan)["worse"].iloc[-1] == ""  # failed, and listed as such


def test_flattened_results_are_judged_without_decay():
    found = results(method="joint-flat", between_gone=0.3, between_kept=0.1)
    assert found["between"].iloc[-1] == 0.3
    assert found["worse"].iloc[-1] == "between"


def test_percent_and_spread():
    assert [tables.percent(value) for value in (0.00123, 0.1234, np.nan)] == ["0.12", "12.3", "–"]
    assert tables.spread(pd.Series([0.01, 0.02, 0.06, np.nan])) == "2.00 (6.00)"
    assert tables.spread(pd.Series([np.nan])) == "–"


# ---------------------------------------------------------------------------------------------------- command line


def test_command_line(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib").use("agg")
    monkeypatch.setitem(METHODS, "unknown", Method("unknown", "an unknown method", {"drift": "unknown"}))
    files = {name: tmp_path / "new" / name for name in ("results.csv", "tables.md", "pictures")}
    written = ["--output", files["results.csv"], "--markdown", files["tables.md"], "--pictures", files["pictures"]]
    chosen = ["--families", "one-plane", "--methods", "truth", "nothing", "scale-0.5", "unknown"]
    main(["--quick", *chosen, *map(str, written)])
    rows = pd.read_csv(files["results.csv"], keep_default_na=False, na_values={"between": [""]})
    assert list(rows["seed"]) == [300] * 4 + [301] * 4
    assert rows.loc[rows["method"] == "truth", "between"].max() < 1e-6
    assert 0.1 < rows.loc[rows["method"] == "nothing", "between"].median() < 0.3
    assert rows.loc[rows["method"] == "unknown", "error"].str.contains("drift='unknown'").all()
    printed = capsys.readouterr()
    assert files["tables.md"].read_text(encoding="utf-8") in printed.out
    assert "an unknown method (failed on 2 of 2)" in printed.out
    assert "- `unknown` on one-plane (2 phantoms): InputError" in printed.out
    assert "2/2  one-plane, seed 301" in printed.err
    assert sorted(file.name for file in files["pictures"].iterdir()) == [
        "benchmark-errors.png",
        "benchmark-phantom.png",
    ]


def test_jobs_give_the_same_rows(tmp_path):
    written = []
    for jobs in ("1", "2"):
        chosen = ["--families", "one-plane", "--methods", "nothing", "--jobs", jobs]
        main(["--quick", *chosen, "--output", str(tmp_path / jobs)])
        written.append((tmp_path / jobs).read_text())
    assert written[0] == written[1]


@pytest.mark.parametrize("wrong", [["--seeds", "0"], ["--families", "none"], ["--methods", "none"]], ids=str)
def test_wrong_arguments(wrong, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(wrong)
    assert wrong[0] in capsys.readouterr().err


def test_a_family_that_cannot_be_made_is_named(capsys, monkeypatch):
    monkeypatch.setattr("xoctnorm.benchmark.families.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="nothing to run"):
        main(["--families", "real-anatomy"])
    assert "left out: real-anatomy, nilearn is not installed" in capsys.readouterr().err


def test_the_package_does_not_import_its_benchmark():
    code = "import sys, xoctnorm; assert not [name for name in sys.modules if name.startswith('xoctnorm.benchmark')]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_was_written_can_be_taken_up_again(tmp_path, capsys):
    one, both = tmp_path / "one.csv", tmp_path / "both.csv"
    main(["--quick", "--families", "plain", "--methods", "nothing", "truth", "--output", str(one)])
    main(["--quick", "--families", "plain", "--methods", "scale-10", "--read", str(one), "--output", str(both)])
    assert "failed" not in capsys.readouterr().out
    first, second = pd.read_csv(one), pd.read_csv(both)
    assert second["error"].isna().all()
    assert second["method"].tolist() == [*first["method"], "scale-10", "scale-10"]
    np.testing.assert_allclose(second["between"][: len(first)], first["between"], rtol=1e-5)
    assert (second["worse"].fillna("")[len(first) :].str.contains("ratio")).all()
