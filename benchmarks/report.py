"""What a run found: a table for the terminal, results.md, and bars in SVG."""

import importlib.metadata
import math
import os
import platform
import re
import sqlite3
import ssl
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.measure import GENERATOR_BOUND, Figure, Plot, Result, Sample, Table

__all__ = ["Machine", "Run", "draw", "markdown", "print_table", "write"]

LIBRARIES = ("cryptography", "msgspec", "sqlalchemy", "fastapi", "litestar", "uvicorn", "uvloop", "httptools", "grpcio")
QUIET_LOAD = 0.3  # load average: beyond it somebody else was at work


# ---------------------------------------------------------------------------------------------------------- the machine


@dataclass(frozen=True)
class Machine:
    """What the figures depend on. load_average: of the minute before the run. disk: the type of the file system."""

    facts: Mapping[str, str]
    load_average: float

    @classmethod
    def inspect(cls, folder: Path) -> "Machine":
        """folder: where the databases are."""
        return cls(
            {
                "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
                "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
                "system": f"{_distribution()}, Linux {platform.release()}",
                "file system": _file_system(folder),
                "Python": f"{platform.python_implementation()} {platform.python_version()}",
                "OpenSSL, SQLite": f"{ssl.OPENSSL_VERSION.split()[1]}, {sqlite3.sqlite_version}",
                "libraries": ", ".join(f"{name} {_version(name)}" for name in LIBRARIES),
            },
            os.getloadavg()[0],
        )


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def _file_system(folder: Path) -> str:
    parts = [part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(part.mountpoint)]
    return max(parts, key=lambda part: len(part.mountpoint)).fstype if parts else "unknown"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


@dataclass(frozen=True)
class Run:
    """results, titles: by the case's name. failures: case -> what went wrong, in plain words."""

    began: datetime
    machine: Machine
    rounds: int
    quick: bool
    seconds: float
    titles: Mapping[str, str]
    results: Mapping[str, Result]
    failures: Mapping[str, str] = field(default_factory=dict)


# -------------------------------------------------------------------------------------------------------------- numbers


def number(value: float) -> str:
    """Three digits that count: 12,345  1,234  123  12.3  1.23."""
    for bound, form in ((100, ",.0f"), (10, ".1f"), (0.1, ".2f")):
        if abs(value) >= bound:
            return format(value, form)
    return f"{value:.3f}" if value else "0"


def with_unit(text: str, unit: str) -> str:
    if not unit:
        return f"{text} x"
    unit = unit.removeprefix("1")
    return f"{text}{unit}" if unit.startswith("/") else f"{text} {_micro(unit)}"


def _micro(text: str) -> str:
    return re.sub(r"\bus\b", "\N{MICRO SIGN}s", text)


def spread(values: Sequence[float]) -> str:
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def goal(figure: Figure) -> str:
    return "" if figure.goal is None else with_unit(f"{figure.goal.kind} {figure.goal.value:g}", figure.unit)


# ------------------------------------------------------------------------------------------------------------- terminal


def print_table(run: Run, console: Console) -> None:
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for heading in ("", "median", "range", "goal", ""):
        table.add_column(heading, justify="right" if heading in ("median", "range") else "left", no_wrap=True)
    for name, result in run.results.items():
        table.add_section()
        table.add_row(f"[bold]{run.titles[name]}")
        for figure in result.figures:
            met = {True: "[green]met", False: "[red]missed", None: ""}[figure.met]
            median = with_unit(number(figure.median), figure.unit)
            table.add_row(f"  {figure.name}", median, spread(figure.values), goal(figure), met)
    console.print(table)
    for who in generator_bound(run):
        console.print(f"generator-bound (its CPU beyond {GENERATOR_BOUND:.0%} of the time): {who}", style="yellow")
    for name, why in run.failures.items():
        console.print(f"{name} failed: {why}", style="red", markup=False)


def generator_bound(run: Run) -> list[str]:
    return [
        f"{case}: {name}"
        for case, result in run.results.items()
        for name, samples in result.samples.items()
        if _bound(samples)
    ]


def _bound(samples: Sequence[Sample]) -> bool:
    return not samples[0].paced and statistics.median(one.load_busy for one in samples) > GENERATOR_BOUND


# ----------------------------------------------------------------------------------------------------------- results.md


def write(run: Run, folder: Path) -> None:
    """results.md and plots/*.svg."""
    plots = folder / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    for result in run.results.values():
        for plot in result.plots:
            (plots / f"{plot.name}.svg").write_text(draw(plot))
    (folder / "results.md").write_text(markdown(run))


def markdown(run: Run) -> str:
    return "\n".join((*_heading(run), *_goals(run), *_details(run), HOW_TO_READ)) + "\n"


def _heading(run: Run) -> Iterable[str]:
    kind = "make bench-quick" if run.quick else "make bench"
    yield "# Benchmark results"
    yield ""
    yield f"Written by `{kind}` on {run.began.astimezone(UTC):%Y-%m-%d at %H:%M} UTC: {run.rounds} rounds,"
    yield f"{run.seconds / 60:.1f} minutes. [README.md](README.md) says what is measured, and how."
    yield ""
    if run.quick:
        yield "**A quick run is a rehearsal**: shorter, in fewer rounds, with fewer connections, logins and stored"
        yield "orders than the goals speak of. What it says of a goal is a hint; the full run judges."
        yield ""
    yield from _table(("machine", ""), run.machine.facts.items())
    if run.machine.load_average > QUIET_LOAD:
        yield f"The machine was not quiet: its load average before the run was {run.machine.load_average:.1f}."
        yield ""


def _goals(run: Run) -> Iterable[str]:
    yield "## Goals"
    yield ""
    rows = []
    for name, result in run.results.items():
        for figure in result.figures:
            if figure.goal is not None:
                met = "met" if figure.met else "**missed**"
                what = f"[{figure.name}](#{name})" + (f", {figure.note}" if figure.note else "")
                median = with_unit(number(figure.median), figure.unit)
                rows.append((what, f"**{median}**", spread(figure.values), goal(figure), met))
    yield from _table(("what", "median", "range", "goal", ""), rows, right=(1, 2))
    for who in generator_bound(run):
        yield f"Generator-bound, so its rate is a lower bound: {who}."
        yield ""
    for name in run.failures:
        yield f"**{name} could not be measured**; the terminal said why."
        yield ""


def _details(run: Run) -> Iterable[str]:
    for name, result in run.results.items():
        yield f'## <a id="{name}"></a>{run.titles[name]}'
        yield ""
        for plot in result.plots:
            yield f"![{plot.title}, {_micro(plot.unit)}](plots/{plot.name}.svg)"
            yield ""
        rows = [
            (figure.name, with_unit(number(figure.median), figure.unit), spread(figure.values), figure.note)
            for figure in result.figures
        ]
        yield from _table(("figure", "median", "range", ""), rows, right=(1, 2))
        if result.samples:
            yield from _samples(result.samples)
        for table in result.tables:
            yield from _titled(table)
        for note in result.notes:
            yield note
            yield ""


def _samples(samples: Mapping[str, Sequence[Sample]]) -> Iterable[str]:
    def middle(taken: Sequence[Sample], name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in taken))

    rows = []
    for name, taken in samples.items():
        if taken[0].paced:
            busy = "paced"
        elif not any(one.load_busy for one in taken):  # it did the work itself
            busy = ""
        else:
            busy = f"{middle(taken, 'load_busy'):.0%}" + (" (generator-bound)" if _bound(taken) else "")
        rows.append(
            (
                name,
                number(middle(taken, "cpu_us")),
                spread([one.cpu_us for one in taken]),
                number(middle(taken, "rate")),
                spread([one.rate for one in taken]),
                number(middle(taken, "p50_us")),
                number(middle(taken, "p99_us")),
                f"{middle(taken, 'server_busy'):.0%}",
                busy,
            )
        )
    columns = (
        "contender",
        "CPU, us",
        "range",
        "a second",
        "range",
        "p50, us",
        "p99, us",
        "server busy",
        "generator busy",
    )
    yield from _table([_micro(one) for one in columns], rows, right=range(1, 9))


def _titled(table: Table) -> Iterable[str]:
    yield f"**{table.title}**"
    yield ""
    yield from _table(table.columns, table.rows, right=range(1, len(table.columns)))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> Iterable[str]:
    right = set(right)
    yield f"| {' | '.join(columns)} |"
    yield f"|{'|'.join('--:' if index in right else '---' for index in range(len(columns)))}|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


HOW_TO_READ = f"""## How to read this

- **Server CPU** is the processor time of the server process, all its threads and children, from the first request to
  the last answer, divided by the requests. It is the main figure: it depends little on what else the machine does.
- Contenders alternate: every round measures each of them once. A **ratio** is one of two samples of the same round; the
  table gives the median of the rounds' ratios and their range.
- **Generator busy** is the load generator's own CPU over the time it ran. Beyond {GENERATOR_BOUND:.0%} it may have been
  the bottleneck, and is marked; server CPU a request holds even then, requests a second do not.
- **Server busy** beyond 100% means more than one core: native code that lets go of Python's lock, or children.
- In the plots a bar (on a logarithmic axis, a dot) is the median and the thin line the range of the rounds."""


# ---------------------------------------------------------------------------------------------------------------- plots

INK, MUTED, FAINT, PAPER, OURS, THEIRS = "#1f2328", "#59636e", "#d1d9e0", "#ffffff", "#0969da", "#9aa4ae"
DARK = {INK: "#f0f6fc", MUTED: "#9198a1", FAINT: "#3d444d", PAPER: "#0d1117", OURS: "#4493f8", THEIRS: "#6e7781"}
ROW_INCHES, HEAD_INCHES, FOOT_INCHES, WIDTH_INCHES = 0.36, 0.82, 0.5, 8.4
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Helvetica", "Arial", "DejaVu Sans", "sans-serif"]


def draw(plot: Plot) -> str:
    """An SVG with a light face and, where the reader's system asks for one, a dark one; the same bytes every time."""
    # Imported here: it takes a second, and only a run that writes needs it.
    import io

    import matplotlib as mpl

    mpl.use("Agg")
    with mpl.rc_context({"svg.hashsalt": "securedelivery", "svg.fonttype": "none", "font.family": "DejaVu Sans"}):
        figure = _figure(plot)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Title": plot.title})
    return _with_dark_face(out.getvalue())


def _figure(plot: Plot) -> Any:
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    height = HEAD_INCHES + ROW_INCHES * len(plot.bars) + FOOT_INCHES
    canvas = Canvas(figsize=(WIDTH_INCHES, height), facecolor=PAPER)
    left = 0.035 + 0.0093 * max(len(bar.label) for bar in plot.bars)
    axes = canvas.add_axes((left, FOOT_INCHES / height, 0.985 - left, ROW_INCHES * len(plot.bars) / height))
    axes.set_facecolor(PAPER)
    places = range(len(plot.bars))
    lowest = min(min(bar.values) for bar in plot.bars)
    highest = max(max(bar.values) for bar in plot.bars)
    if plot.log:
        begin = 10.0 ** math.floor(math.log10(lowest) - 0.15)
        axes.set_xscale("log")
        axes.set_xlim(begin, highest * (highest / begin) ** 0.34)
        axes.xaxis.set_major_locator(LogLocator())
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, max(highest, plot.goal or 0) * 1.32)
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.set_ylim(len(plot.bars) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.grid(axis="x", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="both", length=0, labelsize=9, labelcolor=MUTED)
    axes.set_yticks(list(places), [bar.label for bar in plot.bars])
    for text, bar in zip(axes.get_yticklabels(), plot.bars, strict=True):
        text.set_color(INK)
        text.set_fontweight("bold" if bar.ours else "normal")
    for spine in axes.spines.values():
        spine.set_visible(False)
    for place, bar in zip(places, plot.bars, strict=True):
        middle, low, high = statistics.median(bar.values), min(bar.values), max(bar.values)
        colour = OURS if bar.ours else THEIRS
        if plot.log:  # where a bar begins would be arbitrary, and its length would say nothing
            axes.plot(middle, place, "o", color=colour, markersize=9, markeredgewidth=0, zorder=3)
        else:
            axes.barh(place, middle, height=0.62, color=colour, linewidth=0)
        for line, width in ((PAPER, 3.0), (INK, 1.1)):  # with an edge, so that it shows on any bar
            axes.plot((low, high), (place, place), color=line, linewidth=width, solid_capstyle="butt")
        label = number(middle) + (f" \N{MIDDLE DOT} {bar.note}" if bar.note else "")
        axes.annotate(
            label,
            (high, place),
            xytext=(9 if plot.log else 6, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=9,
            color=INK,
            fontweight="bold" if bar.ours else "normal",
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.0},
        )
    if plot.goal is not None:
        axes.axvline(plot.goal, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.annotate(
            f"goal {plot.goal:g}", (plot.goal, -0.5), xytext=(4, 2), textcoords="offset points", fontsize=8, color=MUTED
        )
    unit = _micro(plot.unit) + (", logarithmic" if plot.log else "")
    head = 0.16 / WIDTH_INCHES
    canvas.text(head, 1 - 0.30 / height, plot.title, fontsize=12.5, fontweight="bold", color=INK, va="baseline")
    under = f"{unit}; {plot.subtitle}" if plot.subtitle else unit
    canvas.text(head, 1 - 0.54 / height, under, fontsize=9, color=MUTED, va="baseline")
    return canvas


def _with_dark_face(svg: str) -> str:
    """Colours by the reader's system. Who knows no media queries sees the light face."""
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark} !important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    families = ", ".join(f"'{name}'" if " " in name else name for name in FONTS)
    style = f"<style>text{{font-family:{families} !important}}@media (prefers-color-scheme:dark){{{rules}}}</style>"
    head, tag, rest = svg.partition("<defs>")
    return head + style + tag + rest
