"""The results as Markdown."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import xoctnorm
from xoctnorm.benchmark.families import FAMILIES
from xoctnorm.benchmark.methods import METHODS

ERRORS = {
    "between": "slopes, between sections",
    "inside": "slopes, inside",
    "level_between": "levels, between sections",
    "level_inside": "levels, inside",
    "ratio": "white to grey",
}
"""Measures that a correction must not make worse."""

_LETTERS = dict(zip(ERRORS, "SsLlR", strict=True))

_TOLERANCE = 0.001  # how much worse than the input counts

JUDGED = ("joint", "joint-flat")
"""The methods that have to stay within the limits."""

_OVERVIEW = ("plain", "full")


@dataclass(frozen=True)
class Limit:
    """The largest median and the largest worst value over seeds; None where none is set."""

    median: float | None
    worst: float


LIMITS = {
    "between": Limit(0.005, 0.015),
    "inside": Limit(0.01, 0.02),
    "level_between": Limit(0.005, 0.015),
    "level_inside": Limit(0.01, 0.02),
    "ratio": Limit(None, 0.02),
    "dice_lost": Limit(None, 0.01),
    "unmeasured": Limit(None, 0.05),
}
"""What is promised of standard phantoms; hard ones have twice that."""

CALIBRATED = (0.5, 2.0)


def complete(rows: pd.DataFrame) -> pd.DataFrame:
    """Add the measures that fit what a method claims to do, and whether it is worse than the input.

    ``between``, ``inside``, ``level_between`` and ``level_inside`` are those with decay kept or gone; ``worse`` names
    the measures of `ERRORS` that are more than 0.1 percentage points above those of the input.
    """
    found = rows.copy()
    flattens = found["method"].map(lambda name: METHODS[name].flattens)
    for name in list(ERRORS)[:4]:
        found[name] = np.where(flattens, found[f"{name}_gone"], found[f"{name}_kept"])
    found["dice_lost"] = 1 - found["dice"]
    inputs = {(row["family"], row["seed"]): row for row in rows_of(found[found["method"] == "nothing"])}
    worse = []
    for row in rows_of(found):
        method, before = METHODS[row["method"]], inputs.get((row["family"], row["seed"]))
        names: list[str] = []
        if before is not None and method.options is not None and not row["error"]:
            ending = "gone" if method.flattens else "kept"
            of_input = {name: before[name if name == "ratio" else f"{name}_{ending}"] for name in ERRORS}
            # What can be measured in the input and not in the result is worse too.
            comparable = [name for name in ERRORS if np.isfinite(of_input[name])]
            names = [name for name in comparable if not row[name] <= of_input[name] + _TOLERANCE]
        worse.append(" ".join(names))
    return found.assign(worse=worse)


def rows_of(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts."""
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


def report(rows: pd.DataFrame, *, skipped: dict[str, str]) -> str:
    """All tables, with what was run and what could not be."""
    # In the order of the lists, also where results of several runs are put together.
    families, methods = list(FAMILIES), list(METHODS)
    order = [(families.index(f), methods.index(m)) for f, m in zip(rows["family"], rows["method"], strict=True)]
    rows = rows.iloc[sorted(range(len(rows)), key=order.__getitem__)]
    seeds = rows["seed"].unique()
    parts = [
        f"xoctnorm {xoctnorm.__version__}, Python {platform.python_version()}, NumPy {np.__version__}. "
        f"Seeds {seeds.min()} to {seeds.max()}. Errors in percent: median over seeds, the worst in brackets."
    ]
    parts += [f"Left out: {name}, {why}." for name, why in skipped.items()]
    families = list(rows["family"].unique())
    for family in [name for name in _OVERVIEW if name in families] or families[:1]:
        parts += [f"## Methods on the family {family}", method_table(rows[rows["family"] == family])]
    for method in JUDGED:
        of_method = rows[rows["method"] == method]
        if len(of_method):
            parts += [f"## {METHODS[method].title}, by family", family_table(of_method)]
    if len(families) > 1:
        parts += ["## Levels between sections, by family and method", matrix(rows, "level_between")]
        letters = ", ".join(f"{letter} {ERRORS[name]}" for name, letter in _LETTERS.items())
        parts += ["## Worse than the input", f"On how many seeds, by measure: {letters}.", worse_matrix(rows)]
    failures = failure_list(rows)
    return "\n\n".join([*parts, *(["## Failed", failures] if failures else [])]) + "\n"


def method_table(rows: pd.DataFrame) -> str:
    """One row per method, for the phantoms of one family."""
    columns = {
        "between": "between sections",
        "inside_kept": "inside, decay kept",
        "inside_gone": "inside, decay gone",
        "step": "boundary step",
        "ratio": "white to grey",
        "level_between": "levels, between",
        "level_inside": "levels, inside",
        "dice_lost": "Dice lost",
    }
    lines = []
    for method, of_method in rows.groupby("method", sort=False):
        cells = [spread(of_method[name]) for name in columns]
        time = median(of_method["seconds"])
        cost = median(of_method["ns_per_voxel"])
        # What is no method of the package took no time.
        times = ["–", "–"] if not time > 0 else [f"{time:.2f}", f"{cost:.0f}"]
        failed = int((of_method["error"] != "").sum())
        name = METHODS[str(method)].title + (f" (failed on {failed} of {len(of_method)})" if failed else "")
        lines.append([name, *cells, *times])
    return markdown(["method", *columns.values(), "s", "ns/voxel"], lines)


def median(values: pd.Series) -> float:
    """Median of what is known; NaN of nothing."""
    known = values.dropna()
    return float(known.median()) if len(known) else float("nan")


def family_table(rows: pd.DataFrame) -> str:
    """One row per family, for one method, with its verdict."""
    titles = {**ERRORS, "dice_lost": "Dice lost"}
    lines = []
    for family, of_family in rows.groupby("family", sort=False):
        cells = [spread(of_family[name]) for name in titles]
        pooled = calibration_of(of_family)
        about = FAMILIES[str(family)]
        name = f"{family}{' (tuned)' if about.tuned else ''}"
        cells.append("–" if np.isnan(pooled) else f"{pooled:.2f}")
        lines.append([name, about.reach, *cells, verdict(of_family)])
    return markdown(["family", "reach", *titles.values(), "error / standard error", "verdict"], lines)


def verdict(rows: pd.DataFrame) -> str:
    """Whether a method stays within the limits on the phantoms of one family."""
    failed = int((rows["error"] != "").sum())
    if failed:
        return f"**failed to run on {failed} of {len(rows)}**"
    reach = FAMILIES[str(rows["family"].iloc[0])].reach
    worse = int((rows["worse"] != "").sum())
    if reach == "beyond":
        return f"**worse than the input on {worse} of {len(rows)}**" if worse else "no limits, not worse than the input"
    slack = 2.0 if reach == "hard" else 1.0
    broken = [name for name, limit in LIMITS.items() if exceeds(rows[name], limit, slack)]
    pooled = calibration_of(rows)
    if not np.isnan(pooled) and not CALIBRATED[0] <= pooled <= CALIBRATED[1]:
        broken.append("standard errors")
    return f"**misses {', '.join(broken).replace('_', ' ')}**" if broken else "holds"


def exceeds(values: pd.Series, limit: Limit, slack: float) -> bool:
    """Whether the median or the worst of the values is above its limit; nothing measured exceeds nothing."""
    known = values.dropna()
    if known.empty:
        return False
    too_high = limit.median is not None and bool(known.median() > slack * limit.median)
    return too_high or bool(known.max() > slack * limit.worst)


def calibration_of(rows: pd.DataFrame) -> float:
    """RMS over seeds of the RMS over planes of error over standard error."""
    return float(np.sqrt((rows["calibration"] ** 2).mean()))


def matrix(rows: pd.DataFrame, measure: str) -> str:
    """Median of one measure, families by methods."""

    def cell(here: pd.DataFrame) -> str:
        return percent(median(here[measure]))

    return _by_method(rows, list(rows["method"].unique()), cell)


def worse_matrix(rows: pd.DataFrame) -> str:
    """On how many seeds each method is worse than the input, by measure: families by methods."""

    def cell(here: pd.DataFrame) -> str:
        if (here["error"] != "").all():
            return "–"
        names = here["worse"].str.split()
        counts = {letter: sum(name in one for one in names) for name, letter in _LETTERS.items()}
        return " ".join(f"{letter}{count}" for letter, count in counts.items() if count) or "0"

    return _by_method(rows, [name for name in rows["method"].unique() if METHODS[name].options is not None], cell)


def _by_method(rows: pd.DataFrame, methods: list[str], cell: Callable[[pd.DataFrame], str]) -> str:
    lines = []
    for family, of_family in rows.groupby("family", sort=False):
        lines.append([str(family), *(cell(of_family[of_family["method"] == name]) for name in methods)])
    return markdown(["family", *methods], lines)


def failure_list(rows: pd.DataFrame) -> str:
    """Every message of a method that failed, once, with where."""
    lines = []
    for (method, error), group in rows[rows["error"] != ""].groupby(["method", "error"], sort=False):
        families = list(group["family"].unique())
        where = ", ".join(families[:4]) + (f" and {len(families) - 4} more" if len(families) > 4 else "")
        lines.append(f"- `{method}` on {where} ({len(group)} phantoms): {error}")
    return "\n".join(lines)


def spread(values: pd.Series) -> str:
    """Median and, in brackets, the worst."""
    known = values.dropna()
    if known.empty:
        return "–"
    return f"{percent(known.median())} ({percent(known.max())})"


def percent(value: float) -> str:
    """A fraction in percent, with three digits or two decimals."""
    if np.isnan(value):
        return "–"
    return f"{100 * value:.2f}" if abs(value) < 0.1 else f"{100 * value:.1f}"


def markdown(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table."""
    rule = ["---"] + ["--:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *lines])
