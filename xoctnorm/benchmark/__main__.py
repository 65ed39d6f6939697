"""The command line: ``python -m xoctnorm.benchmark``."""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd

from xoctnorm.benchmark.families import FAMILIES
from xoctnorm.benchmark.methods import METHODS
from xoctnorm.benchmark.runs import Row, measure_phantom
from xoctnorm.benchmark.tables import complete, report, rows_of

FIRST_SEED = 300  # methods were tuned on seeds below


def main(argv: Sequence[str] | None = None) -> None:
    """Make phantoms, run methods, print tables."""
    args = arguments(argv)
    missing = [name for name in args.families if not FAMILIES[name].available]
    skipped = {name: f"{FAMILIES[name].needs} is not installed" for name in missing}
    families = [name for name in args.families if name not in skipped]
    for name, why in skipped.items():
        print(f"left out: {name}, {why}", file=sys.stderr)
    seeds = range(args.first_seed, args.first_seed + (2 if args.quick else args.seeds))
    phantoms = [(family, seed) for family in families for seed in seeds]
    if not phantoms:
        sys.exit("nothing to run")

    rows: list[Row] = []
    for file in args.read:
        # An empty message is read as NaN.
        rows += [row | {"error": str(row["error"]).replace("nan", "")} for row in rows_of(pd.read_csv(file))]
    start = time.perf_counter()
    for done, found in enumerate(measured(phantoms, args.methods, quick=args.quick, jobs=args.jobs), 1):
        rows += found
        left = (time.perf_counter() - start) / done * (len(phantoms) - done)
        last = f"{found[0]['family']}, seed {found[0]['seed']}"
        print(f"{done}/{len(phantoms)}  {last}; about {left / 60:.0f} min left", file=sys.stderr)
        for row in found:
            if row["error"]:
                print(f"  {row['method']} failed: {row['error']}", file=sys.stderr)

    results = complete(pd.DataFrame(rows))
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        results.to_csv(args.output, index=False, float_format="%.6g")
    text = "# Results of the benchmark\n\n" + report(results, skipped=skipped)
    print(text)
    if args.markdown is not None:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(text, encoding="utf-8")
    if args.pictures is not None:
        from xoctnorm.benchmark.pictures import draw_all

        for picture in draw_all(results, args.pictures, seed=args.first_seed, quick=args.quick):
            print(f"wrote {picture}", file=sys.stderr)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m xoctnorm.benchmark",
        description="Measure normalization methods on phantoms with known truth; prints Markdown tables.",
    )
    parser.add_argument(
        "--families", nargs="+", choices=FAMILIES, default=list(FAMILIES), metavar="NAME", help=", ".join(FAMILIES)
    )
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="NAME", help=", ".join(METHODS)
    )
    parser.add_argument("--seeds", type=at_least_one, default=20, metavar="N", help="phantoms per family (default 20)")
    parser.add_argument(
        "--first-seed", type=int, default=FIRST_SEED, metavar="N", help=f"default {FIRST_SEED}; not those of tuning"
    )
    parser.add_argument(
        "--read", type=Path, nargs="+", default=[], metavar="FILE", help="also take what --output wrote"
    )
    parser.add_argument("--quick", action="store_true", help="two seeds and small planes, to see that it runs")
    parser.add_argument("--jobs", type=at_least_one, default=1, metavar="N", help="processes (default 1)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all measures as CSV")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw pictures; needs matplotlib")
    return parser.parse_args(argv)


def at_least_one(text: str) -> int:
    """Read a count."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: must be at least 1")
    return value


def measured(
    phantoms: Sequence[tuple[str, int]], methods: Sequence[str], *, quick: bool, jobs: int
) -> Iterator[list[Row]]:
    """Measure phantoms one by one, in their order."""
    if jobs == 1:  # without the detour through another process errors are easier to find
        for family, seed in phantoms:
            yield measure_phantom(family, seed, methods, quick=quick)
        return
    # Forking a process with threads, which NumPy may have started, is not safe.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(measure_phantom, family, seed, methods, quick=quick) for family, seed in phantoms]
        for task in tasks:
            yield task.result()


if __name__ == "__main__":
    main()
