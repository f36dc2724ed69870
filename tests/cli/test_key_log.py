"""`--key-log` of the commands that connect."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.conftest import Shell, Shop, fails, said

TLS, FRAMES = "SSLKEYLOGFILE", "SECUREDELIVERY_FRAME_KEYLOG"
NO_FILE = (
    f"--key-log: no file is named: neither {TLS} nor {FRAMES} is set",
    f"set {TLS}=tls-keys.log and {FRAMES}=frame-keys.log, or leave out --key-log",
    2,
)


@pytest.fixture
def alice(customer: Callable[[str], Shell]) -> Shell:
    shell = customer("alice")
    shell("account", "create", "--address", "1 Main Street")
    return shell


@pytest.mark.parametrize(
    "arguments",
    [("--key-log", "info", "--json"), ("info", "--json", "--key-log"), ("info", "--keylog", "--json")],
    ids=" ".join,
)
def test_before_and_behind_the_command(alice: Shell, shop: Shop, arguments: tuple[str, ...]) -> None:
    done = alice(*arguments, **{TLS: "tls.log", FRAMES: "frames.log"})
    assert done.code == 0
    assert json.loads(done.stdout)["currency"] == "EUR"
    assert done.stderr == (
        "warning: --key-log: whoever has tls.log and frames.log and a recording reads everything in it:"
        " delete them afterwards\n"
        f"warning: the keys of this connection to {shop.required} are logged in tls.log and frames.log\n"
    )
    assert len((alice.home / "tls.log").read_text().splitlines()) == 5
    assert len((alice.home / "frames.log").read_text().splitlines()) == 2


def test_one_file_is_enough_and_is_added_to(alice: Shell) -> None:
    for _ in range(2):
        done = alice("ping", "--key-log", **{FRAMES: "frames.log", TLS: ""})
        assert done.code == 0
        assert done.stderr.startswith("warning: --key-log: whoever has frames.log and a recording reads")
    assert len((alice.home / "frames.log").read_text().splitlines()) == 4


def test_without_the_flag_nothing_is_written(alice: Shell) -> None:
    done = alice("ping", **{TLS: "tls.log", FRAMES: "frames.log"})
    assert (done.code, done.stderr) == (0, "")
    assert not list(alice.home.glob("*.log"))


@pytest.mark.parametrize("arguments", [("--key-log", "ping"), ("ping", "--key-log"), ("order", "list", "--keylog")])
def test_without_a_file_it_is_refused(alice: Shell, arguments: tuple[str, ...]) -> None:
    assert said(alice(*arguments)) == fails(*NO_FILE)


def test_it_is_refused_before_anything_else(shell: Shell) -> None:
    """Nothing is known here: no CA, no name, no terminal for a password."""
    assert said(shell("account", "create", "--key-log")) == fails(*NO_FILE)


def test_a_file_that_will_not_do(alice: Shell, tmp_path: Path) -> None:
    (tmp_path / "victim").touch(0o600)
    (alice.home / "keys.log").symlink_to(tmp_path / "victim")
    assert said(alice("ping", "--key-log", **{FRAMES: "keys.log"})) == fails(
        "keys.log: no keys are written here: it is a symbolic link", f"name the file itself: {tmp_path}/victim", 2
    )
    assert (tmp_path / "victim").read_bytes() == b""


def test_help_lists_it_in_front_of_the_commands(shell: Shell) -> None:
    assert "--key-log, --keylog" in shell("--help").stdout
    assert FRAMES in shell("--help").stdout
    assert "--key-log" in shell("serve", "--help").stdout
    assert "--key-log" not in shell("ping", "--help").stdout
