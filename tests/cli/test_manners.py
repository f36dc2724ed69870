"""How the command line behaves in pipes, on terminals, when interrupted, and with a server that means no good."""

import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import commands
import pytest
from cli.conftest import SECONDS, Shell, Shop
from client.scripted_server import Customer, Listener, TlsFailure, customer_script, load_security
from client.test_connection import ORDER
from client.test_reconnect import ACCOUNT

from securedelivery.protocol.connection import CloseReceived

PRODUCT = {"sku": "A", "name": "a", "description": "", "price": 1, "currency": "EUR", "stock": 1, "active": True}


@pytest.fixture
def alice(customer: Callable[[str], Shell]) -> Shell:
    shell = customer("alice")
    shell("account", "create", "--address", "1 Main Street")
    return shell


def scripted(shop: Shop, *scripts: Callable[[Customer], None]) -> Listener:
    security = load_security(shop.folder)
    return Listener(*(customer_script(security, script) for script in scripts))


# Terminals


class Terminal:
    """A command on a terminal of its own, 80 columns wide."""

    def __init__(self, shell: Shell, *arguments: str, **variables: str) -> None:
        self.seen = ""
        self._master, slave = pty.openpty()
        self._process = commands.start(
            arguments, stdin=slave, stdout=slave, stderr=slave, terminal=True, real=True,
            environment={**shell.environment, "COLUMNS": "80", "LINES": "24", **variables}, folder=shell.home,
        )  # fmt: skip
        os.close(slave)

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + SECONDS
        while words not in self.seen:
            assert time.monotonic() < deadline
            if not self._read():
                raise AssertionError(f"it ended without {words!r}: {self.seen}")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        while self._read():
            pass
        os.close(self._master)
        return self._process.wait(SECONDS)

    def _read(self) -> bool:
        try:
            more = os.read(self._master, 65_536)
        except OSError:
            return False
        self.seen += more.decode()
        return bool(more)


def test_a_password_is_asked_on_the_terminal_and_not_shown(shell: Shell, shop: Shop) -> None:
    shell.environment |= {"SECUREDELIVERY_SERVER": shop.optional, "SECUREDELIVERY_CA": str(shop.folder / "ca.crt")}
    terminal = Terminal(shell, "account", "create", "gina")
    terminal.wait_for("A password for gina, 8 characters or more: ")
    terminal.type("a word of gina's\n")
    terminal.wait_for("The same again: ")
    terminal.type("a word of gina's\n")
    assert terminal.end() == 0
    assert "gina's" not in terminal.seen
    terminal = Terminal(shell, "account", "show", "--user", "gina")
    terminal.wait_for("Password for gina: ")
    terminal.type("a word of gina's\n")
    assert terminal.end() == 0
    assert "bronze" in terminal.seen


def test_two_passwords_that_differ(shell: Shell, shop: Shop) -> None:
    shell.environment |= {"SECUREDELIVERY_SERVER": shop.optional, "SECUREDELIVERY_CA": str(shop.folder / "ca.crt")}
    terminal = Terminal(shell, "account", "create", "henry")
    terminal.wait_for("A password for henry")
    terminal.type("one word here\n")
    terminal.wait_for("The same again: ")
    terminal.type("another word\n")
    assert terminal.end() == 2
    assert "error: password: the two were not the same" in terminal.seen


@pytest.mark.parametrize("command", [["--user", "bob", "order", "list"], ["account", "create", "bob"]])
def test_no_password_is_asked_where_a_certificate_is_required(shell: Shell, shop: Shop, command: list[str]) -> None:
    shell.environment |= {"SECUREDELIVERY_SERVER": shop.required, "SECUREDELIVERY_CA": str(shop.folder / "ca.crt")}
    terminal = Terminal(shell, *command)
    terminal.wait_for("the server wants a certificate from its customers, and none was given")
    assert terminal.end() == 3
    assert "assword" not in terminal.seen


def test_no_password_is_entered(shell: Shell, shop: Shop) -> None:
    shell.environment |= {"SECUREDELIVERY_SERVER": shop.optional, "SECUREDELIVERY_CA": str(shop.folder / "ca.crt")}
    terminal = Terminal(shell, "order", "list", "--user", "ian")
    terminal.wait_for("Password for ian: ")
    terminal.type("\x04")
    assert terminal.end() == 2
    assert "error: nothing was entered" in terminal.seen
    terminal = Terminal(shell, "order", "list", "--user", "ian")
    terminal.wait_for("Password for ian: ")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert "Traceback" not in terminal.seen


def test_tables_fit_the_terminal(alice: Shell) -> None:
    terminal = Terminal(alice, "catalog")
    assert terminal.end() == 0
    assert "─" in terminal.seen
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.seen)
    assert all(len(line.rstrip("\r")) <= 80 for line in plain.split("\n"))
    assert "EUR 1,234.50" in plain


def test_no_color(alice: Shell) -> None:
    terminal = Terminal(alice, "catalog", NO_COLOR="1")
    assert terminal.end() == 0
    assert "\x1b" not in terminal.seen
    assert "\x1b" not in alice("catalog").stdout


# What a server says cannot do anything to the terminal

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egro\nnext\x00"


def test_escapes_of_the_server_are_neutralised(shell: Shell, shop: Shop) -> None:
    product = {**PRODUCT, "name": EVIL, "sku": "\x1b[1m"}

    def script(customer: Customer) -> None:
        customer.greet(identity="spiffe://shop.test/account/alice")
        customer.serve(catalog_list={"items": [product], "next": "\x1b[0m"})

    with scripted(shop, script) as listener:
        shell.environment |= {
            "SECUREDELIVERY_SERVER": listener.server,
            "SECUREDELIVERY_CA": str(shop.folder / "ca.crt"),
            "SECUREDELIVERY_CERT": str(shop.certificate("alice")),
        }
        plain, as_json = shell("catalog", "--limit", "1"), shell("catalog", "--limit", "1", "--json")
        terminal = Terminal(shell, "catalog", "--limit", "1", NO_COLOR="1")
        assert terminal.end() == 0
    for text in (plain.stdout, plain.stderr, as_json.stdout, terminal.seen.replace("\r\n", "\n")):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert plain.stdout.count("\n") == 2
    assert json.loads(as_json.stdout)["items"] == [product]


def test_escapes_in_a_refusal(shell: Shell, shop: Shop) -> None:
    def script(customer: Customer) -> None:
        customer.shake_hands()
        customer.close("\x1b[31mreason", EVIL)

    with scripted(shop, script) as listener:
        done = shell(
            "catalog", "--server", listener.server, "--ca", str(shop.folder / "ca.crt"),
            "--cert", str(shop.certificate("alice")),
        )  # fmt: skip
    assert done.code == 3
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.stderr)


# Orders whose outcome is not known


def test_an_order_is_sent_again_by_itself(shell: Shell, shop: Shop) -> None:
    keys: list[object] = []

    def truncating(customer: Customer) -> None:
        customer.greet()
        customer.answer(customer.request("account.login_certificate")[0], ACCOUNT)
        keys.append(customer.request("order.place")[1]["idempotency_key"])

    def answering(customer: Customer) -> None:
        customer.greet()
        customer.answer(customer.request("account.login_certificate")[0], ACCOUNT)
        request_id, params = customer.request("order.place")
        keys.append(params["idempotency_key"])
        customer.answer(request_id, ORDER)
        customer.serve()

    with scripted(shop, truncating, answering) as listener:
        done = shell(
            "order", "place", "A", "--server", listener.server, "--ca", str(shop.folder / "ca.crt"),
            "--cert", str(shop.certificate("alice")),
        )  # fmt: skip
    assert done.code == 0
    assert done.stdout.startswith("Order     7\n")
    assert keys[0] == keys[1]


def test_the_key_is_told_where_the_outcome_is_not_known(shell: Shell, shop: Shop) -> None:
    keys: list[object] = []

    def script(customer: Customer) -> None:
        customer.greet()
        customer.answer(customer.request("account.login_certificate")[0], ACCOUNT)
        keys.append(customer.request("order.place")[1]["idempotency_key"])
        listener._listener.shutdown(socket.SHUT_RDWR)
        listener._listener.close()

    listener = scripted(shop, script)
    with listener:
        done = shell(
            "--timeout", "0.5", "order", "place", "A", "--server", listener.server,
            "--ca", str(shop.folder / "ca.crt"), "--cert", str(shop.certificate("alice")),
        )  # fmt: skip
    assert done.code == 3
    assert "it is not known whether the order was placed" in done.stderr
    assert f"hint: repeat the command with: --key {keys[0]}\n" in done.stderr


# Interrupted, cut off


def take_leave(customer: Customer) -> None:
    """A signal can strike while the request is sent: then the connection just ends."""
    with contextlib.suppress(TlsFailure):
        assert isinstance(customer.event(), CloseReceived)
        customer.close()


def test_control_c(shell: Shell, shop: Shop) -> None:
    asked = threading.Event()

    def script(customer: Customer) -> None:
        customer.greet()
        customer.request("account.login_certificate")
        asked.set()
        take_leave(customer)

    with scripted(shop, script) as listener:
        process = shell.start(
            "order", "list", "--server", listener.server, "--ca", str(shop.folder / "ca.crt"),
            "--cert", str(shop.certificate("alice")),
        )  # fmt: skip
        assert asked.wait(SECONDS)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=SECONDS)
    assert (stdout, stderr, process.returncode) == ("", "", 130)


def test_control_c_amid_an_order_tells_the_key(shell: Shell, shop: Shop) -> None:
    asked = threading.Event()

    def script(customer: Customer) -> None:
        customer.greet()
        customer.answer(customer.request("account.login_certificate")[0], ACCOUNT)
        customer.request("order.place")
        asked.set()
        take_leave(customer)

    with scripted(shop, script) as listener:
        process = shell.start(
            "order", "place", "A", "--key", "mine", "--server", listener.server,
            "--ca", str(shop.folder / "ca.crt"), "--cert", str(shop.certificate("alice")),
        )  # fmt: skip
        assert asked.wait(SECONDS)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert stderr == (
        "error: interrupted; it is not known whether the order was placed\nhint: repeat it with: --key mine\n"
    )


def test_a_closed_pipe(alice: Shell) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "securedelivery", "catalog"],
        stdout=writing, stderr=subprocess.PIPE, env=alice.environment, cwd=alice.home, timeout=SECONDS, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (done.stderr, done.returncode) == (b"", 141)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(alice: Shell) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "securedelivery", "catalog"],
            stdout=full, stderr=subprocess.PIPE, env=alice.environment, cwd=alice.home, timeout=SECONDS, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: No space left on device\n")
    assert b"Traceback" not in done.stderr


def test_a_locale_that_knows_few_characters(shell: Shell, shop: Shop) -> None:
    def script(customer: Customer) -> None:
        customer.greet()
        customer.serve(catalog_list={"items": [{**PRODUCT, "name": "Ünïcøde 部品"}], "next": None})

    with scripted(shop, script) as listener:
        done = shell(
            "catalog", "--server", listener.server, "--ca", str(shop.folder / "ca.crt"),
            "--cert", str(shop.certificate("alice")), PYTHONIOENCODING="ascii", PYTHONUTF8="0",
        )  # fmt: skip
    assert done.code == 0
    assert "?n?c?de ??" in done.stdout


POOR = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_data_for_programs_is_whole_in_any_locale(shell: Shell) -> None:
    text = "sku,name,description,price,stock,active\nA,Zwö 部品 \U0001f5a5,,1.00,1,1\n"
    (shell.home / "parts.csv").write_text(text, encoding="utf-8")
    database = ["--database", "sqlite:///shop.db"]
    assert shell("admin", "catalog", "import", "parts.csv", *database).code == 0

    def output(*arguments: str) -> bytes:
        return subprocess.run(
            [sys.executable, "-m", "securedelivery", "admin", "catalog", *arguments, *database],
            stdout=subprocess.PIPE, env={**shell.environment, **POOR}, cwd=shell.home, timeout=SECONDS, check=True,
        ).stdout  # fmt: skip

    assert output("export") == text.encode()
    as_json = output("list", "--json")
    assert b'"Zw\\u00f6 \\u90e8\\u54c1 \\ud83d\\udda5"' in as_json
    assert json.loads(as_json)["items"][0]["name"] == "Zwö 部品 \U0001f5a5"
    assert "Zwö 部品 \U0001f5a5".encode() in subprocess.run(
        [sys.executable, "-m", "securedelivery", "admin", "catalog", "list", "--json", *database],
        stdout=subprocess.PIPE, env=shell.environment, cwd=shell.home, timeout=SECONDS, check=True,
    ).stdout  # fmt: skip


@pytest.mark.parametrize("arguments", ["profile show", "profile show --json", "--version", "--help", "catalog"])
def test_a_closed_stdout_is_told_in_one_line(shell: Shell, arguments: str) -> None:
    done = closed(shell, arguments, ">&-")
    assert done.returncode == 1
    assert done.stderr == "error: standard output is closed: open it, or send it to /dev/null\n"


def test_a_closed_stderr_changes_nothing(shell: Shell) -> None:
    assert closed(shell, "profile show", "2>&-").returncode == 0
    assert closed(shell, "order show x", "2>&-").returncode == 2
    assert closed(shell, "profile show", ">&- 2>&-").returncode == 1


def closed(shell: Shell, arguments: str, redirection: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m securedelivery {arguments} {redirection}', sys.executable],
        capture_output=True, text=True, env=shell.environment, cwd=shell.home, timeout=SECONDS, check=False,
    )  # fmt: skip


# Bugs, and what is not installed


def test_a_bug_is_told_without_a_traceback(shell: Shell, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "platformdirs.py").write_text("def user_config_dir(*a, **k): raise ZeroDivisionError('of the test')")
    done = shell("profile", "show", PYTHONPATH=str(broken))
    assert done.code == 1
    assert done.stderr.startswith("error: this is a bug of securedelivery: ZeroDivisionError: of the test\nhint: ")


@pytest.mark.parametrize("command", ["serve", "admin"])
def test_without_the_servers_part(shell: Shell, tmp_path: Path, command: str) -> None:
    missing = tmp_path / "missing"
    missing.mkdir()
    for name in ("sqlalchemy", "structlog", "alembic", "argon2"):
        (missing / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name}', name='{name}')")
    done = shell(command, PYTHONPATH=str(missing))
    assert done.code == 2
    assert f"error: {command}: the server's part is not installed here" in done.stderr
    assert "hint: pip install 'securedelivery[server]'" in done.stderr
    assert shell("--help", PYTHONPATH=str(missing)).code == 0


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"cryptography", "ssl", "rich", "pydantic", "platformdirs", "sqlalchemy", "structlog", "asyncio"}),
        (["order", "list"], {"rich", "sqlalchemy", "alembic", "argon2", "structlog", "securedelivery.service"}),
        (["rewards"], {"rich", "sqlalchemy", "structlog", "securedelivery.service", "securedelivery.cli.order"}),
        (["order", "--help"], {"cryptography", "ssl", "rich", "securedelivery.cli.tracking"}),
        (["support", "--help"], {"cryptography", "ssl", "rich", "securedelivery.cli.chat"}),
        (["account", "export", "--help"], {"cryptography", "ssl", "rich", "securedelivery.client.connection"}),
        (["profile", "show"], {"cryptography", "ssl", "rich", "sqlalchemy"}),
    ],
)
def test_a_command_imports_what_it_needs(alice: Shell, arguments: list[str], absent: set[str]) -> None:
    code = (
        f"import sys; from securedelivery.cli.main import run; code = run({arguments!r}); "
        "print(code, sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, env=alice.environment, cwd=alice.home, timeout=SECONDS, check=True,
    )  # fmt: skip
    code_, _, modules = done.stderr.splitlines()[-1].partition(" ")
    assert code_ == "0"
    assert absent.isdisjoint(re.findall(r"'([^']+)'", modules))
