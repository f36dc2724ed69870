"""Forks of the zygote are what new interpreters would have been: most tests run those instead of these."""

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import commands
import pytest
from cli.conftest import SECONDS, Shell, settled
from cli.terminal_driver import CONTROL_C, Terminal

RELAY = ["relay", "--listen", "127.0.0.1:0", "--to", "localhost:1", "--write", "relay.pcapng"]


def both(shell: Shell, *arguments: str, given: str = "", **variables: str) -> list[tuple[str, str, int]]:
    environment = {**shell.environment, **variables}
    options: dict[str, Any] = {"seconds": SECONDS, "environment": environment, "folder": shell.home}
    done = [commands.run(arguments, given, **options, real=real) for real in (False, True)]
    return [(settled(one.stdout, {}), settled(one.stderr, {}), one.returncode) for one in done]


@pytest.mark.parametrize(
    "arguments",
    [
        "", "--help", "--version", "order --help", "shop", "nonsense", "catalog", "profile show", "account create x",
        "--server localhost:1 info", "admin account list", "admin catalog import -", "doctor", "serve --listen nowhere",
    ],
)  # fmt: skip
def test_what_they_say(shell: Shell, arguments: str) -> None:
    forked, executed = both(shell, *arguments.split())
    assert forked == executed


@pytest.mark.parametrize(
    "variables",
    [
        {"HOME": "/nowhere"},
        {"SECUREDELIVERY_SERVER": "shop.example.org:1"},
        {"XDG_CONFIG_HOME": "elsewhere"},
        {"COLUMNS": "50"},
        {"LC_ALL": "C"},
        {"PYTHONUTF8": "0", "LC_ALL": "C"},
    ],
)
def test_their_environment_is_their_own(shell: Shell, variables: dict[str, str]) -> None:
    for command in ("--help", "profile show", "profile set --server sch\u00f6n:1"):
        forked, executed = both(shell, *command.split(), **variables)
        assert forked == executed


def test_local_time(shell: Shell) -> None:
    database = ["--database", "sqlite:///shop.db"]
    assert shell("admin", "account", "create", "zoe", "--role", "agent", *database).code == 0
    asked = {"environment": shell.environment, "folder": shell.home, "seconds": SECONDS}
    times = {}
    for zone in ("Asia/Tokyo", "UTC"):
        asked["environment"] = shell.environment | {"TZ": zone}
        times[zone] = {
            commands.run(["admin", "audit", "list", *database], **asked, real=real).stdout for real in (0, 1)
        }
    assert all(len(answers) == 1 for answers in times.values())
    assert times["UTC"].isdisjoint(times["Asia/Tokyo"])


@pytest.mark.parametrize("real", [False, True])
def test_a_process_like_any_other(shell: Shell, real: bool) -> None:
    """Open files, working directory, session and signals."""
    with commands.start(RELAY, environment=shell.environment, folder=shell.home, real=real) as command:
        said = command.stdout.readline()
        process = Path(f"/proc/{command.pid}")
        opened = [str(one.readlink()).partition(":")[0] for one in (process / "fd").iterdir()]
        folder, session, before = (process / "cwd").readlink(), os.getsid(command.pid), command.poll()
        command.send_signal(signal.SIGKILL)
        assert command.wait(SECONDS) == command.poll() == -signal.SIGKILL
    assert said.startswith("listening on ")
    assert Counter(opened) == {"/dev/null": 1, "pipe": 2, "socket": 3, "anon_inode": 1, f"{shell.home}/relay.pcapng": 1}
    assert (folder, session, before) == (shell.home, command.pid, None)
    assert not process.exists()


@pytest.mark.parametrize("real", [False, True])
def test_a_terminal_controls_it(shell: Shell, real: bool) -> None:
    with Terminal(shell, "demo", "--pause", columns=100, real=real) as terminal:
        terminal.wait_for("Enter goes on with act 1, Ctrl-D ends ")
        assert Path(f"/proc/{terminal.process.pid}/stat").read_text().rpartition(")")[2].split()[4] != "0"
        terminal.type(CONTROL_C)
        assert terminal.end() == 130


@pytest.mark.parametrize(
    ("name", "value"), [("PYTHONHASHSEED", "7"), ("PYTHONWARNINGS", "error"), ("LD_BIND_NOW", "1")]
)
def test_no_zygote_knows_another_interpreters_settings(shell: Shell, name: str, value: str) -> None:
    with commands.start(RELAY, environment={**shell.environment, name: value}, folder=shell.home) as command:
        said = command.stdout.readline()
        line = Path(f"/proc/{command.pid}/cmdline").read_bytes()
        command.kill()
    assert said.startswith("listening on ")
    assert line.startswith(f"{sys.executable}\0-m\0securedelivery\0relay\0".encode())


def test_who_waits_is_told_that_it_still_runs(shell: Shell) -> None:
    with commands.start(RELAY, environment=shell.environment, folder=shell.home) as command:
        said = command.stdout.readline()
        with pytest.raises(commands.TimeoutExpired):
            command.wait(0)
        command.terminate()
        assert command.wait(SECONDS) == command.returncode == 0
    assert said.startswith("listening on ")
