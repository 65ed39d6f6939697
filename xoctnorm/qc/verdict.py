"""From figures to statuses, messages and findings."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import xarray as xr

from xoctnorm.qc.definitions import DEFINITIONS, Definition
from xoctnorm.qc.limits import ERROR, OK, STATUSES, UNKNOWN, WARNING, Limit
from xoctnorm.text import escaped


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know.

    Attributes
    ----------
    figure
        Name of the figure of merit.
    status
        ``"error"`` or ``"warning"``.
    message
        What was found, and the limit.
    advice
        What to try.
    """

    figure: str
    status: str
    message: str
    advice: str


def findings(qc: xr.Dataset) -> list[Finding]:
    """Everything that is not as it should be, the worst first.

    Parameters
    ----------
    qc
        What ``da.octnorm.qc()`` returned, or the same read from a file.

    Returns
    -------
    list of Finding
        Errors, then warnings, each in the order of the figures; a warning of the record, and a flag of sections, has a
        finding of its own.

    Examples
    --------
    >>> from xoctnorm.phantom import make_phantom
    >>> from xoctnorm.qc import findings
    >>> volume = make_phantom(n_sections=6, planes_per_section=6)["volume"]
    >>> result = volume.octnorm.normalize(drift=None)
    >>> worst = findings(result.octnorm.qc(volume))[0]
    >>> worst.figure, worst.status
    ('boundary_step', 'error')
    """
    found = []
    for name, figure in qc.data_vars.items():
        status = figure.attrs.get("status", "")
        if status not in (WARNING, ERROR):
            continue
        pairs = json.loads(figure.attrs.get("messages", "null"))
        if pairs is None:
            pairs = [(figure.attrs.get("message", ""), figure.attrs.get("advice", ""))]
        found += [Finding(str(name), status, message, advice) for message, advice in pairs]
    return sorted(found, key=lambda finding: -STATUSES.index(finding.status))


def judged_attributes(
    name: str, value: float | None, limit: Limit | None, further: list[tuple[str, str]] | None = None
) -> dict[str, str | float]:
    """Status of a figure, and what is to be said of it; `value` is None where the figure does not apply."""
    definition = DEFINITIONS[name]
    if limit is None or value is None:
        return {"status": "", "limits": "", "advice": ""}
    status = limit.status(value)
    attrs: dict[str, str | float] = {"status": status, "limits": limits_text(limit, definition), "advice": ""}
    if not np.isnan(value):
        attrs["judged"] = value
    if status in (WARNING, ERROR):
        bound = limit.error if status == ERROR else limit.warning
        side = "below" if limit.least else "above"
        attrs["message"] = (
            f"{definition.long_name}: {number_text(value, definition)}, {side} the {status} limit of "
            f"{number_text(bound, definition)}"
        )
        attrs["advice"] = definition.advice
        if further is not None:
            attrs["messages"] = escaped(json.dumps(further, ensure_ascii=False))
    elif status == UNKNOWN:
        attrs["message"] = f"{definition.long_name}: nothing tells it"
    return attrs


def number_text(value: float, definition: Definition) -> str:
    """A number as people read it."""
    if definition.percent:
        return f"{value:.3g}" if np.isinf(value) else f"{100 * value:.3g} %"
    units = "" if definition.units in ("1", "intensity") else f" {definition.units}"
    return f"{value:.3g}{units}"


def limits_text(limit: Limit, definition: Definition) -> str:
    """Limits in words."""
    side = "below" if limit.least else "above"
    texts = [
        f"{what} {side} {number_text(bound, definition)}"
        for what, bound in (("warning", limit.warning), ("error", limit.error))
        if np.isfinite(bound)
    ]
    return ", ".join(texts)


def overall(qc: xr.Dataset) -> tuple[str, str]:
    """The worst status, and one sentence."""
    statuses = [figure.attrs["status"] for figure in qc.data_vars.values() if figure.attrs.get("status")]
    judged = [status for status in statuses if status != UNKNOWN]
    found = findings(qc)
    if not judged:
        return UNKNOWN, "No figure can be judged."
    n_unknown = len(statuses) - len(judged)
    rest = f"; {n_unknown} of {len(statuses)} can't be judged" if n_unknown else ""
    if not found:
        return OK, f"All {len(judged)} figures that have limits are within them{rest}."
    counts = [
        f"{count} {what}{'s' if count > 1 else ''}"
        for what in (ERROR, WARNING)
        if (count := sum(finding.status == what for finding in found))
    ]
    return found[0].status, f"{' and '.join(counts).capitalize()}, the first: {found[0].message}{rest}."
