"""All benchmarks in one run: `make bench`, `make bench-quick`, or

    python -m benchmarks [--quick] [--rounds N] [--output DIR] [--folder DIR] [--strict] [CASE ...]

prints the table and, where all cases ran or --output says where, writes results.md and plots/*.svg. The exit code is 0
when everything could be measured, whether the goals were met or not; with --strict a missed goal makes it 1.
"""

import argparse
import importlib
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
from rich.console import Console

from benchmarks import report
from benchmarks.measure import ROOT, BenchmarkFailure, Case, Result, World

CASES = ("ping", "orders", "connect", "quiet", "chat", "growth", "commandline", "memory")
ROUNDS, QUICK_ROUNDS = 5, 3
TEXT_WIDTH = 110  # of the table where the output is no terminal


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all of them if none is named")
    parser.add_argument("--quick", action="store_true", help="in less than two minutes")
    parser.add_argument("--rounds", type=_positive, help=f"default: {ROUNDS}, with --quick {QUICK_ROUNDS}")
    parser.add_argument("--output", type=Path, help="for results.md and plots/; default: benchmarks, or build/bench")
    parser.add_argument("--folder", type=Path, help="for databases, on the disk that is to be measured")
    parser.add_argument("--strict", action="store_true", help="exit code 1 for a missed goal")
    options = parser.parse_args()
    unknown = sorted(set(options.cases) - set(CASES))
    if unknown:
        parser.error(f"there is no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    if options.folder is not None and not options.folder.is_dir():
        parser.error(f"--folder {options.folder} does not exist; make it, on the disk that is to be measured")
    signal.signal(signal.SIGTERM, _stop)  # so that no server is left behind
    output = options.output
    if output is None and not options.cases:
        output = ROOT / "build/bench" if options.quick else ROOT / "benchmarks"
    if output is not None:
        try:  # before a quarter of an hour has gone into what cannot be written
            output.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=output).close()
        except OSError as error:
            parser.error(f"--output {output} cannot be written: {error.strerror}; name another folder")
    run = measure(
        [name for name in CASES if name in (options.cases or CASES)],
        options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS),
        quick=options.quick,
        parent=options.folder,
    )
    console = Console()
    report.print_table(run, console if console.is_terminal else Console(width=TEXT_WIDTH))
    if output is not None:
        report.write(run, output)
        print(f"written: {output}/results.md", file=sys.stderr)
    missed = any(figure.met is False for result in run.results.values() for figure in result.figures)
    return int(bool(run.failures) or (options.strict and missed))


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _stop(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def measure(names: list[str], rounds: int, *, quick: bool, parent: Path | None) -> report.Run:
    """Run the cases in turn; one that fails does not keep the others from being measured."""
    began, clock = datetime.now(UTC), time.monotonic()
    cases: dict[str, Case] = {name: importlib.import_module(f"benchmarks.cases.{name}") for name in names}
    results: dict[str, Result] = {}
    failures: dict[str, str] = {}
    with World.temporary(quick=quick, parent=parent) as world:
        machine = report.Machine.inspect(world.folder)
        for name, case in cases.items():
            print(f"{name} ...", end=" ", flush=True, file=sys.stderr)
            since = time.monotonic()
            try:
                results[name] = case.run(world, rounds, quick)
            except (BenchmarkFailure, psutil.Error, OSError) as failure:
                failures[name] = str(failure)
            print(f"{time.monotonic() - since:.0f} s", file=sys.stderr)
    titles = {name: case.TITLE for name, case in cases.items()}
    return report.Run(began, machine, rounds, quick, time.monotonic() - clock, titles, results, failures)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("stopped; nothing was written")
