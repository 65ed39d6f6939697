"""The commands: options, and the calls that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import xarray as xr

from xoctnorm.cli.files import (
    Input,
    check_report,
    check_target,
    normalized,
    opened_correction,
    opened_mask,
    suffix_of,
    write_correction,
    write_volume,
)
from xoctnorm.cli.info import about_correction, about_volume, correction_in
from xoctnorm.cli.quality import about_quality
from xoctnorm.cli.reporting import Outcome, reported, say
from xoctnorm.corrections.intensity import AUTO
from xoctnorm.kernels.intensity import SCALES
from xoctnorm.matching import MATCHES
from xoctnorm.opening import open_volume
from xoctnorm.plan import Plan, in_bytes, sizes_text
from xoctnorm.settings import DRIFTS, Normalization

_NONE = "none"
_ENDS = """Exit codes: 0 all went well, 1 it failed and standard error says why, 2 the command line is wrong,
3 (of qc) a figure of merit is an error, 130 interrupted by Ctrl-C."""


@click.group(
    name="xoctnorm", epilog=_ENDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="xoctnorm", prog_name="xoctnorm")
def app() -> None:
    """Normalize the intensities of serial-section OCT volumes.

    \b
    xoctnorm info brain.nc
    xoctnorm normalize brain.nc brain_normalized.nc --section-size 20
    xoctnorm fit brain.ome.zarr correction.nc --level 2
    xoctnorm apply brain.ome.zarr correction.nc brain_normalized.ome.zarr
    """


def volume_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Which volume is meant, and where its sections are."""
    options = (
        click.option("--variable", metavar="NAME", help="Variable of a NetCDF file or Zarr store that has several."),
        click.option("--level", type=click.IntRange(min=0), metavar="N", help="Level of a pyramid; 0 is the finest."),
        click.option(
            "--spacing",
            type=(float, float, float),
            metavar="Z Y X",
            help="Distance of neighbours along z, y and x, in place of what the file says; say --units too.",
        ),
        click.option("--units", metavar="UNITS", help="Units of the spacing, where the file has none: um, mm."),
        click.option("--section-size", type=click.IntRange(min=1), metavar="N", help="Planes of every section."),
        click.option(
            "--sections",
            metavar="FILE",
            help="Sections, as CSV: under the heading 'section' one label per plane, or under the heading 'start' the "
            "first plane of each section, counted from 0.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What is to be corrected."""
    options = (
        click.option(
            "--drift",
            type=click.Choice([_NONE if drift is None else drift for drift in DRIFTS]),
            default=Normalization.drift,
            show_default=True,
            help="How gains of sections are found.",
        ),
        click.option("--flatten-depth", is_flag=True, help="Take out the decay with depth that sections share."),
        click.option(
            "--zprofile-sigma",
            type=float,
            default=Normalization.zprofile_sigma,
            show_default=True,
            metavar="PLANES",
            help="Smooth the profile along z with this standard deviation; 0 leaves it out.",
        ),
        click.option(
            "--agarose-mask",
            metavar="METHOD|FILE",
            help="border, otsu, auto, or a file with a mask that is True on agarose (.npy or .nc).",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


section_option = click.option(
    "--section",
    metavar="NAME",
    help="Coordinate, dimension or index level that groups planes, where it is not the one named section. 'z' makes "
    "each plane a section.",
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is there.")


@app.command(short_help="Normalize a volume and write it.")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@job_options
@section_option
@volume_options
@click.option("--report", metavar="PATH.html", help="Also write a report that shows whether the result is right.")
@overwrite_option
@reported
def normalize(source: str, target: str, report: str | None, overwrite: bool, **options: Any) -> Outcome:
    """Normalize the volume IN and write it to OUT: .nc, .zarr or .ome.zarr.

    \b
    xoctnorm normalize brain.nc brain_normalized.nc
    xoctnorm normalize "slices/*.tif" brain.ome.zarr --section-size 20 --flatten-depth
    xoctnorm normalize brain.zarr out.nc --variable intensity --drift scale --zprofile-sigma 2
    xoctnorm normalize brain.nc brain_normalized.nc --report brain.html
    """
    suffix_of(target)
    volume, call = _made_ready(source, target, overwrite, options)
    plan = volume.octnorm.plan(**call)
    if report is not None:
        check_report(report, overwrite, volume)
    _say_plan(volume, plan)
    result, correction = normalized(volume, call)
    write_volume(result, target, overwrite)
    facts: dict[str, Any] = {"shape": plan.shape, "sections": plan.sections}
    if report is not None:
        say("report: reads the volume and the result")
        page = open_volume(target).octnorm.report(report, before=volume, correction=correction)
        facts["report"] = str(page)
    return _written(source, target, facts)


@app.command(short_help="Fit a correction and write that alone.")
@click.argument("source", metavar="IN")
@click.argument("target", metavar="CORRECTION.nc")
@job_options
@section_option
@volume_options
@overwrite_option
@reported
def fit(source: str, target: str, overwrite: bool, **options: Any) -> Outcome:
    """Fit a correction to the volume IN and write that alone: a small NetCDF file to look at, edit and apply.

    \b
    xoctnorm fit brain.ome.zarr correction.nc --level 2 --flatten-depth
    """
    suffix_of(target, (".nc",))
    volume, call = _made_ready(source, target, overwrite, options)
    plan = volume.octnorm.plan(**call)
    _say_plan(volume, plan, applies=False)
    write_correction(volume.octnorm.fit(**call), target)
    return _written(source, target, {"shape": plan.shape, "sections": plan.sections})


@app.command(short_help="Apply a correction to a volume and write it.")
@click.argument("source", metavar="IN")
@click.argument("correction", metavar="CORRECTION.nc")
@click.argument("target", metavar="OUT")
@click.option(
    "--match",
    type=click.Choice(MATCHES),
    default=MATCHES[0],
    show_default=True,
    help="Whether planes have to agree in z and section, or only in number.",
)
@volume_options
@overwrite_option
@reported
def apply(source: str, correction: str, target: str, match: str, overwrite: bool, **options: Any) -> Outcome:
    """Apply a correction to the volume IN, which has the same planes, and write it to OUT: .nc, .zarr or .ome.zarr.

    \b
    xoctnorm apply brain.ome.zarr correction.nc brain_normalized.ome.zarr
    """
    suffix_of(target)
    check_target(target, overwrite, source)
    volume = Input(source, **options).opened()
    fitted = opened_correction(correction)
    write_volume(volume.octnorm.apply(fitted, match=match), target, overwrite)
    return _written(source, target, {"shape": dict(volume.sizes), "correction": correction})


@app.command(short_help="Say what a file is and what was done to it.")
@click.argument("source", metavar="IN")
@volume_options
@reported
def info(source: str, **options: Any) -> Outcome:
    """Say what IN is, a volume or a correction: sizes, spacing, sections, and what was already done to it.

    Reads metadata only.

    \b
    xoctnorm info brain.nc
    xoctnorm info correction.nc --json
    """
    correction = correction_in(source)
    if correction is not None:
        return about_correction(source, correction)
    return about_volume(source, Input(source, **options).opened())


@app.command(short_help="Measure and judge a volume.")
@click.argument("source", metavar="IN")
@click.option(
    "--before", metavar="FILE", help="The volume that IN was made from; both are measured on the same pixels."
)
@click.option("--correction", metavar="CORRECTION.nc", help="The correction that made IN, whose flags are reported.")
@click.option(
    "--limit",
    "limits",
    type=(str, float, float),
    multiple=True,
    metavar="FIGURE WARNING ERROR",
    help="Limits of a figure, in place of the default ones; inf inf is beyond reach. May be repeated.",
)
@click.option("--agarose-mask", metavar="FILE", help="A mask that is True on agarose (.npy or .nc).")
@click.option("--noise-floor", type=float, metavar="NUMBER", help="Noise floor on linear intensity, where it is known.")
@click.option(
    "--intensity",
    type=click.Choice((AUTO, *SCALES)),
    default=AUTO,
    show_default=True,
    help="What the values of the volume before the correction are.",
)
@section_option
@volume_options
@reported
def qc(
    source: str,
    before: str | None,
    correction: str | None,
    limits: tuple[tuple[str, float, float], ...],
    agarose_mask: str | None,
    section: str | None,
    **options: Any,
) -> Outcome:
    """Measure figures of merit of the volume IN and judge them: what is not as it should be, and what to try.

    The options say which volume IN is, and which `--before` is too.

    \b
    xoctnorm qc brain_normalized.nc --before brain.nc
    xoctnorm qc brain_normalized.nc --json
    xoctnorm qc brain.nc --section slab --limit boundary_step 0.01 0.03
    """
    call = {
        "limits": {name: (warning, error) for name, warning, error in limits},
        "agarose_mask": opened_mask(agarose_mask, methods=()),
        "correction": None if correction is None else opened_correction(correction),
        **{name: options.pop(name) for name in ("noise_floor", "intensity")},
        **_grouping(section, options),
    }
    volume = Input(source, **options).opened()
    raw = None if before is None else Input(before, **options).opened()
    return about_quality(source, volume.octnorm.qc(raw, **call))


def _grouping(section: str | None, options: dict[str, Any]) -> dict[str, str]:
    """The argument that names what groups planes, where the user names it."""
    if section is None:
        return {}
    given = [name for name in ("section_size", "sections") if options[name] is not None]
    if given:
        option = f"--{given[0].replace('_', '-')}"
        raise click.UsageError(f"--section and {option} exclude each other: one names sections, the other makes them")
    return {"section": section}


def _made_ready(
    source: str, target: str, overwrite: bool, options: dict[str, Any]
) -> tuple[xr.DataArray, dict[str, Any]]:
    """The volume, and the arguments of `normalize`."""
    check_target(target, overwrite, source)
    drift = options.pop("drift")
    call = {
        "drift": None if drift == _NONE else drift,
        "flatten_depth": options.pop("flatten_depth"),
        "zprofile_sigma": options.pop("zprofile_sigma"),
        "agarose_mask": opened_mask(options.pop("agarose_mask")),
        **_grouping(options.pop("section"), options),
    }
    return Input(source, **options).opened(), call


def _say_plan(volume: xr.DataArray, plan: Plan, *, applies: bool = True) -> None:
    """Say what is going to happen."""
    sections = f"{plan.sections} section" + ("" if plan.sections == 1 else "s")
    read = (plan.fit_reads + applies) * volume.nbytes
    times = f"{plan.fit_reads} reads" + (" and one to apply" if applies else "")
    memory = in_bytes(plan.peak_memory)
    say(f"{sizes_text(plan.shape)}, {plan.dtype}, {sections}: {times}, {in_bytes(read)}; memory up to about {memory}")
    for advice in plan.advice:
        say(f"note: {advice}")


def _written(source: str, target: str, facts: dict[str, Any]) -> Outcome:
    path = target if "://" in target else str(Path(target).expanduser().resolve())
    say(f"wrote {target}")
    return Outcome({"input": source, "output": path, **facts})
