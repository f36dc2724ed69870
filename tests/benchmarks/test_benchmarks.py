"""The harness: what it measures of real processes, its arithmetic, what it writes; and each case once."""

import importlib
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

pytest.importorskip("matplotlib", reason="it is not installed: pip install -e '.[bench]'")

from benchmarks import __main__ as program
from benchmarks import measure, order, report
from benchmarks.measure import (
    Bar,
    BenchmarkFailure,
    Figure,
    Goal,
    Load,
    Plot,
    Result,
    Sample,
    Server,
    Table,
    World,
    cpu_seconds,
    ratios,
    sample,
)

BURNS = """
    import os, subprocess, sys, threading, time

    def burn(seconds):
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass

    def own_and_reaped():
        times = os.times()
        return time.process_time() + times.children_user + times.children_system

    burn(0.05)
    thread = threading.Thread(target=burn, args=(0.1,))
    thread.start()
    thread.join()
    code = "import time\\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", code])
    print(own_and_reaped(), flush=True)
    sys.stdin.readline()
    print(own_and_reaped(), flush=True)
    living = subprocess.Popen(
        [sys.executable, "-c", code + "\\nprint(time.process_time(), flush=True)\\ninput()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    print(own_and_reaped() + float(living.stdout.readline()), flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World.temporary(quick=True) as made:
        yield made


def script(folder: Path, name: str, code: str) -> Path:
    file = folder / f"{name}.py"
    file.write_text(textwrap.dedent(code))
    return file


# Processes


def test_cpu_time_counts_threads_that_are_gone_and_children_gone_and_alive(tmp_path: Path) -> None:
    with psutil.Popen(
        [sys.executable, script(tmp_path, "burns", BURNS)], stdin=-1, stdout=-1, text=True, bufsize=1
    ) as process:
        said = float(process.stdout.readline())
        measured = cpu_seconds(process.pid)
        process.stdin.write("\n")
        said_later = float(process.stdout.readline())
        with_child = float(process.stdout.readline())
        measured_with_child = cpu_seconds(process.pid)
        process.stdin.write("\n")
    assert said >= 0.35
    assert said <= measured <= said_later
    assert with_child >= said_later + 0.2
    assert measured_with_child >= with_child


def test_cpu_time_of_nobody() -> None:
    with pytest.raises(psutil.NoSuchProcess):
        cpu_seconds(2**22 + 1)  # beyond the kernel's largest


def test_a_server_that_does_not_come_up_shows_its_log(tmp_path: Path) -> None:
    program = script(tmp_path, "broken", "raise SystemExit('the port is taken')")
    with pytest.raises(BenchmarkFailure, match="the port is taken"), Server([sys.executable, str(program)]):
        raise AssertionError("it came up")


def test_a_server_ends_with_its_block(world: World) -> None:
    with world.peer("echo") as server:
        assert server.rss() > 1_000_000
        assert server.cpu() > 0
        assert psutil.pid_exists(server.pid)
    assert not psutil.pid_exists(server.pid)


def test_a_server_that_has_died_is_not_measured(world: World) -> None:
    with world.peer("echo") as server:
        process = psutil.Process(server.pid)
        process.kill()
        while process.status() != psutil.STATUS_ZOMBIE:
            pass
        with pytest.raises(BenchmarkFailure, match="died"):
            server.cpu()


def test_a_server_that_does_not_end_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = script(
        tmp_path,
        "stubborn",
        """
        import signal, subprocess, sys
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        print(child.pid, flush=True)
        while True:
            signal.pause()
        """,
    )
    monkeypatch.setattr(measure, "STOP_SECONDS", 0.2)
    with Server([sys.executable, str(stubborn)]) as server:
        child = psutil.Process(server.port)  # it says this number for a port
    assert not psutil.pid_exists(server.pid)
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_generator_that_ends_early_fails(tmp_path: Path) -> None:
    script(tmp_path, "early", "print('{\"ready\": true}', flush=True)")
    with (
        Load("early", environment={"PYTHONPATH": f"{tmp_path}"}) as load,
        pytest.raises(BenchmarkFailure, match="ended"),
    ):
        load.go()


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        ({"errors": 1, "checked": 10}, "1 wrong answers"),
        ({"errors": 0, "checked": 9}, "9 of 10 were checked"),
    ],
)
def test_wrong_and_unchecked_answers_fail(tmp_path: Path, said: dict[str, int], failure: str) -> None:
    outcome = {"requests": 10, "seconds": 1.0, "cpu_seconds": 0.5, "p50_us": 1.0, "p99_us": 2.0, **said}
    script(tmp_path, "unreliable", f"from benchmarks.load.loop import converse\nconverse(lambda: {outcome})")
    with (
        Load("unreliable", environment={"PYTHONPATH": f"{tmp_path}"}) as load,
        pytest.raises(BenchmarkFailure, match=failure),
    ):
        load.go()


def test_a_generator_that_is_not_ready_fails(tmp_path: Path) -> None:
    script(tmp_path, "confused", "print('{}', flush=True)")
    with (
        pytest.raises(BenchmarkFailure, match="instead of being ready"),
        Load("confused", environment={"PYTHONPATH": f"{tmp_path}"}),
    ):
        raise AssertionError("it was ready")


@pytest.mark.parametrize("options", [[], ["--window", "4"], ["--rate", "400"]], ids=["closed", "pipelined", "paced"])
def test_every_answer_of_ours_is_checked(world: World, options: list[str]) -> None:
    with world.service() as server, world.load("ours", server, "--requests", 50, *options) as load:
        outcome = load.go()
    assert outcome.requests == outcome.checked == 50
    assert outcome.more["request_bytes"] == outcome.more["answer_bytes"] == 84
    assert outcome.more["paced"] is ("--rate" in options)


def test_a_sample_is_of_the_server_not_of_the_generator(world: World) -> None:
    with world.peer("echo") as server, world.load("echo", server, "--requests", 200) as load:
        before = server.cpu()
        taken = sample(server, load)
        spent = server.cpu() - before
    assert 0 < taken.cpu_us <= spent / 200 * 1e6
    assert taken.server_busy == pytest.approx(taken.cpu_us * taken.rate / 1e6)


def test_an_echo_that_lies_is_found_out(world: World) -> None:
    with (
        world.peer("echo", "--answer", 84) as server,
        world.load("echo", server, "--requests", 10) as load,
        pytest.raises(BenchmarkFailure, match="10 wrong answers"),
    ):
        load.go()


def test_calls_from_a_file(world: World, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    calls.write_text('{"method": "rewards.get", "params": {}}\n{"method": "catalog.list", "params": {"limit": 1}}\n')
    arguments = ("--calls", calls, "--connections", 3, "--requests", 12, "--account", "bench5")
    with world.service() as server, world.load("ours", server, *arguments) as load:
        assert load.go().checked == 12


def test_a_refused_call_is_an_error(world: World, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    calls.write_text('{"method": "order.get", "params": {"order": 999999}}\n')
    arguments = ("--calls", calls, "--connections", 1, "--requests", 2)
    with (
        world.service() as server,
        world.load("ours", server, *arguments) as load,
        pytest.raises(BenchmarkFailure, match=r"2 wrong answers[\s\S]*not_found"),
    ):
        load.go()


# The order that everybody places


def test_an_order_has_two_lines_of_different_products() -> None:
    for number in range(10_000):
        (first, _), (second, _) = order.lines(number)
        assert first != second
        assert order.total(number) == sum(product.price * quantity for product, quantity in order.lines(number))
    assert len(order.ADDRESS) == 60
    assert len(order.PRODUCTS) == 100


# Arithmetic


@pytest.mark.parametrize(
    ("kind", "value", "met"),
    [("at most", 1.2, True), ("at most", 1.3, False), ("at least", 1.2, True), ("at least", 1.1, False)],
)
def test_goals(kind: str, value: float, met: bool) -> None:
    figure = Figure("", "", [0.0, value, 9.0], Goal(kind, 1.2))  # type: ignore[arg-type]
    assert figure.met is met


def test_a_ratio_is_of_the_same_round() -> None:
    figure = Figure("", "", ratios([10, 40, 30], [10, 10, 30]))
    assert list(figure.values) == [1, 4, 1]
    assert figure.median == 1  # and not 30 / 10, the ratio of the medians
    assert figure.met is None
    with pytest.raises(ValueError, match="zip"):
        ratios([1], [1, 2])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.6, "12,346"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.345, "0.34"),
        (0.0123, "0.012"),
        (0, "0"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert report.number(value) == text


# What is written


def a_run(**changes: object) -> report.Run:
    bound = Sample(10, 1_000, 100, 200, load_busy=0.9, server_busy=0.5)
    paced = Sample(12, 1_000, 100, 200, load_busy=1.0, server_busy=0.1, more={"paced": True})
    result = Result(
        [
            Figure("ours / echo", "", [1.0, 1.1, 1.5], Goal("at most", 1.2), "server CPU"),
            Figure("memory", "MiB", [90.0], Goal("at most", 80)),
            Figure("orders", "/s", [9_000.0, 9_500.0]),
        ],
        [Plot("it", "A title", "us", [Bar("ours", [1, 2, 3], ours=True), Bar("echo", [10, 20, 30], note="10 x")])],
        ["A note."],
        [Table("More", ("what", "how much"), [("a|b", "1")])],
        {"echo": [bound, bound], "slow echo": [paced], "raw": [Sample(5, 10, 1, 2, 0.0, 1.0)]},
    )
    values: dict[str, object] = {
        "began": datetime(2026, 11, 22, 14, 0, tzinfo=UTC),
        "machine": report.Machine({"CPU": "a fine one"}, 0.1),
        "rounds": 3,
        "quick": False,
        "seconds": 600.0,
        "titles": {"case": "The case"},
        "results": {"case": result},
        "failures": {"other": "Traceback in /home/somebody"},
    }
    return report.Run(**(values | changes))  # type: ignore[arg-type]


def test_the_page_says_what_was_met_and_what_was_not() -> None:
    page = report.markdown(a_run())
    assert "on 2026-11-22 at 14:00 UTC: 3 rounds" in page
    assert "| [ours / echo](#case), server CPU | **1.10 x** | 1.00 to 1.50 | at most 1.2 x | met |" in page
    assert "| [memory](#case) | **90.0 MiB** | 90.0 | at most 80 MiB | **missed** |" in page
    assert "| orders | 9,250/s | 9,000 to 9,500 |" in page
    assert "Generator-bound, so its rate is a lower bound: case: echo." in page
    assert "| paced |" in page
    assert r"| a\|b | 1 |" in page
    assert "![A title, \N{MICRO SIGN}s](plots/it.svg)" in page


def test_the_page_names_no_path_of_this_machine() -> None:
    page = report.markdown(a_run())
    assert "**other could not be measured**" in page
    assert "/home" not in page


def test_a_machine_that_was_not_quiet_is_said_to_be_so(tmp_path: Path) -> None:
    machine = report.Machine.inspect(tmp_path)
    assert {"CPU", "memory", "system", "file system", "Python", "OpenSSL, SQLite", "libraries"} == set(machine.facts)
    assert "not installed" not in machine.facts["libraries"]
    assert "not quiet" in report.markdown(a_run(machine=report.Machine({}, 4.0)))
    assert "not quiet" not in report.markdown(a_run())


def test_the_terminal_shows_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_table(a_run(), report.Console(width=110))
    shown = capsys.readouterr().out
    assert "1.10 x" in shown
    assert "missed" in shown
    assert "generator-bound" in shown
    assert "other failed: Traceback" in shown


@pytest.mark.parametrize("log", [False, True])
def test_a_plot_is_the_same_bytes_every_time_and_has_a_dark_face(log: bool) -> None:
    plot = Plot("it", "A title", "us", [Bar("ours", [1, 2, 3], ours=True), Bar("echo", [10, 20, 30])], log=log, goal=5)
    svg = report.draw(plot)
    assert svg == report.draw(plot)
    assert "prefers-color-scheme:dark" in svg
    assert "goal 5" in svg
    assert "<dc:date>" not in svg


def test_plots_and_page_lie_beside_each_other(tmp_path: Path) -> None:
    report.write(a_run(), tmp_path)
    assert sorted(file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.*")) == [
        "plots/it.svg",
        "results.md",
    ]


# The program


def test_an_unknown_case_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "pong"])
    with pytest.raises(SystemExit, match="2"):
        program.main()
    assert "there is no case pong; there are ping, orders" in capsys.readouterr().err


def test_the_program_writes_where_it_is_told_and_says_whether_goals_were_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--quick", "--rounds", "1", "--strict", "--output", str(tmp_path), "memory"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    code = program.main()
    page = (tmp_path / "results.md").read_text()
    assert "A quick run is a rehearsal" in page
    assert "server at rest" in page
    assert code == int("**missed**" in page)


def test_a_case_that_fails_does_not_keep_the_others_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Result:
        raise BenchmarkFailure("the disk is full")

    monkeypatch.setattr(importlib.import_module("benchmarks.cases.ping"), "run", broken)
    run = program.measure(["ping", "memory"], 1, quick=True, parent=tmp_path)
    assert run.failures == {"ping": "the disk is full"}
    assert list(run.results) == ["memory"]


@pytest.mark.parametrize("name", program.CASES)
@pytest.mark.timeout(300)
def test_each_case_runs(world: World, name: str) -> None:
    """At its smallest size. Nobody asks here how fast anything was."""
    case = importlib.import_module(f"benchmarks.cases.{name}")
    assert name == case.NAME
    result = case.run(world, 1, True)
    assert result.figures
    for figure in result.figures:
        assert figure.values, figure.name
        assert min(figure.values) > 0, figure.name
    for plot in result.plots:
        assert report.draw(plot).endswith("</svg>\n")
    run = a_run(titles={name: case.TITLE}, results={name: result})
    assert str(world.folder) not in report.markdown(run)
