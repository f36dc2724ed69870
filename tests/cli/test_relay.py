"""`securedelivery relay`, between a real client and a real server: what was typed, what came, what was recorded."""

import contextlib
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli.conftest import SECONDS, Done, Shell, Shop, fails, said
from wireshark.tshark import tshark

CHECKED = ("-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE")
FULL = 1_000_000  # bytes; coverage has to write its own file behind it
BAD = "tcp.analysis.flags or tcp.checksum.status != 1 or ip.checksum.status != 1"


class Relay:
    """One that runs, and its address."""

    def __init__(self, shell: Shell, to: str, file: str = "traffic.pcapng", listen: str = "127.0.0.1:0") -> None:
        self.file = shell.home / file
        self._said: list[str] = []
        self._changed = threading.Condition()
        self._process = shell.start("relay", "--listen", listen, "--to", to, "--write", file)
        overdue = threading.Timer(SECONDS, self._process.kill)
        overdue.start()
        line = self._process.stdout.readline()
        overdue.cancel()
        ready = re.fullmatch(rf"listening on (\S+:\d+), recording into {re.escape(file)}\n", line)
        if ready is None:
            self._process.kill()
            raise AssertionError(f"it said {line!r}, and {self._process.communicate()[1]}")
        self.address = ready[1]
        self._follower = threading.Thread(target=self._follow)
        self._follower.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _follow(self) -> None:
        for line in self._process.stderr:
            with self._changed:
                self._said.append(line)
                self._changed.notify_all()

    def wait_for(self, words: str) -> str:
        """The line with these words on stderr."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(words in line for line in self._said), SECONDS), self._said
            return next(line for line in self._said if words in line)

    def connect(self) -> socket.socket:
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), SECONDS)

    def end(self, number: signal.Signals = signal.SIGTERM) -> Done:
        """What it has said since it listened, all in all on stderr."""
        self._process.send_signal(number)
        return self.ended()

    def ended(self) -> Done:
        try:
            code = self._process.wait(SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._follower.join()
        with self._process.stdout as stdout, self._process.stderr:
            return Done(stdout.read(), "".join(self._said), code)


StartRelay = Callable[..., Relay]


@pytest.fixture
def start(shell: Shell) -> Iterator[StartRelay]:
    """Call it with what stands behind --to."""
    relays: list[Relay] = []

    def started(to: str, **more: str) -> Relay:
        relays.append(Relay(shell, to, **more))
        return relays[-1]

    yield started
    for relay in relays:
        if relay._process.returncode is None:
            relay.end(signal.SIGKILL)


@contextlib.contextmanager
def service() -> Iterator[socket.socket]:
    """Something to forward to, that accepts when a test does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        yield listener


def to(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def joined(relay: Relay, listener: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's end and the service's."""
    with relay.connect() as client:
        server, _ = listener.accept()
        server.settimeout(SECONDS)
        with server:
            yield client, server


def streams(file: Path, *fields: str) -> list[list[str]]:
    return tshark(file, "-T", "fields", *(word for field in fields for word in ("-e", field))).rows


def received(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece
        data += piece
    return data


# Between a real client and a real server


def test_an_order_is_recorded(customer: Callable[[str], Shell], shop: Shop, start: StartRelay) -> None:
    shell = customer("renata")
    relay = start(shop.required)
    through = {"SECUREDELIVERY_SERVER": f"localhost:{relay.address.rpartition(':')[2]}"}
    assert shell("account", "create", "--address", "5 Harbour Lane", **through).code == 0
    placed = shell("order", "place", "CPU-1", **through)
    assert (placed.stderr, placed.code) == ("", 0)
    done = relay.end()
    packets = len(tshark(relay.file).stdout.splitlines())
    assert done == Done("", f"recorded 2 connections, {packets} packets into traffic.pcapng\n", 0)
    assert stat.S_IMODE(relay.file.stat().st_mode) == 0o600
    assert tshark(relay.file, *CHECKED, "-Y", BAD).stdout == ""
    host, _, port = relay.address.rpartition(":")
    openings = tshark(
        relay.file, "-Y", "tcp.flags.syn==1 and tcp.flags.ack==0",
        "-T", "fields", "-e", "tcp.stream", "-e", "ip.dst", "-e", "tcp.dstport",
    )  # fmt: skip
    assert openings.rows == [[str(number), host, port] for number in (0, 1)]
    ends = tshark(relay.file, "-Y", "tcp.flags.fin==1", "-T", "fields", "-e", "tcp.stream").rows
    assert sorted(ends) == [["0"], ["0"], ["1"], ["1"]]
    hellos = tshark(
        relay.file, "-Y", "tls.handshake.type==1",
        "-T", "fields", "-e", "tls.handshake.extensions_server_name", "-e", "tls.handshake.extensions_alpn_str",
    )  # fmt: skip
    assert hellos.rows == [["localhost", "securedelivery/1"]] * 2
    raw = relay.file.read_bytes()
    for word in (b"order.place", b"Harbour", b"renata"):
        assert word not in raw


def test_keys_logged_beside_it_open_it(customer: Callable[[str], Shell], shop: Shop, start: StartRelay) -> None:
    """As the help says."""
    shell = customer("ruth")
    relay = start(shop.required)
    keys = shell.home / "keys.log"
    server = f"localhost:{relay.address.rpartition(':')[2]}"
    done = shell("ping", "--key-log", SECUREDELIVERY_SERVER=server, SSLKEYLOGFILE=str(keys))
    assert done.code == 0, done.stderr
    assert relay.end().code == 0
    shut = tshark(relay.file, "-Y", "tls.handshake.certificate")
    opened = tshark(relay.file, "-o", "tls.keylog_file:{}", keys, "-Y", "tls.handshake.certificate")
    assert (shut.stdout, len(opened.stdout.splitlines())) == ("", 2)  # the server's and the client's


def test_over_ipv6(start: StartRelay) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        listener.settimeout(SECONDS)
        relay = start(f"[::1]:{listener.getsockname()[1]}", listen="[::1]:0")
        assert relay.address.startswith("[::1]:")
        with joined(relay, listener) as (client, server):
            server.sendall(b"answer")
            assert received(client, 6) == b"answer"
            assert relay.end().code == 0
    assert streams(relay.file, "ipv6.src")[0] == ["::1"]
    assert tshark(relay.file, *CHECKED, "-Y", "tcp.analysis.flags or tcp.checksum.status != 1").stdout == ""


# Ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_good_end(start: StartRelay, number: signal.Signals) -> None:
    with service() as listener:
        for attempt in range(5):
            relay = start(to(listener), file=f"{attempt}.pcapng")
            assert relay.end(number) == Done("", f"recorded 0 connections, 0 packets into {attempt}.pcapng\n", 0)
            shown = tshark(relay.file)
            assert (shown.stdout, shown.stderr, shown.code) == ("", "", 0)


def test_more_than_one_signal(start: StartRelay) -> None:
    with service() as listener:
        relay = start(to(listener))
        for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM):  # two at once, when it goes on
            os.kill(relay.pid, number)
        assert relay.end(signal.SIGCONT) == Done("", "recorded 0 connections, 0 packets into traffic.pcapng\n", 0)


def test_nobody_hears_where_it_listens(shell: Shell) -> None:
    """A closed pipe ends it, as it ends every command; nothing is left behind."""
    command = [sys.executable, "-m", "securedelivery", "relay", "--listen", "127.0.0.1:0", "--to", "localhost:1"]
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as closed:  # noqa: PTH123 -- it is a descriptor
        done = subprocess.run(
            [*command, "--write", "file"], stdout=closed, stderr=subprocess.PIPE, text=True,
            timeout=SECONDS, check=False, env=shell.environment, cwd=shell.home,
        )  # fmt: skip
    assert (done.stderr, done.returncode) == ("", 141)
    assert list(shell.home.iterdir()) == []


def test_open_connections_end_with_it_and_no_end_is_made_up(start: StartRelay) -> None:
    with service() as listener:
        relay = start(to(listener))
        with joined(relay, listener) as (client, server):
            client.sendall(b"question")
            assert received(server, 8) == b"question"
            assert relay.end() == Done("", "recorded 1 connection, 4 packets into traffic.pcapng\n", 0)
            assert (client.recv(1), server.recv(1)) == (b"", b"")
    assert streams(relay.file, "tcp.flags.fin", "tcp.flags.reset") == [["0", "0"]] * 4


def test_a_killed_relay_leaves_what_it_has_forwarded(start: StartRelay) -> None:
    data = bytes(range(256)) * 4_000
    with service() as listener:
        relay = start(to(listener))
        with joined(relay, listener) as (client, server):
            sending = threading.Thread(target=client.sendall, args=(data,))
            sending.start()
            assert received(server, len(data)) == data
            sending.join()
            assert relay.end(signal.SIGKILL).code == -signal.SIGKILL
    shown = tshark(relay.file, "-Y", "tcp.len > 0", "-T", "fields", "-e", "tcp.payload")
    assert (shown.stderr, shown.code) == ("", 0)
    assert bytes.fromhex(shown.stdout.replace("\n", "")) == data
    assert tshark(relay.file, *CHECKED, "-Y", BAD).stdout == ""


def test_killed_at_work_it_leaves_a_file_that_can_be_read(start: StartRelay) -> None:
    with service() as listener:
        relay = start(to(listener))
        with joined(relay, listener) as (client, server):
            sending = threading.Thread(target=_send_until_it_fails, args=(client,))
            sending.start()
            got = received(server, 3_000_000)
            relay.end(signal.SIGKILL)
            with contextlib.suppress(ConnectionError):
                while piece := server.recv(65_536):
                    got += piece
            sending.join()
    shown = tshark(relay.file, "-Y", "tcp.len > 0", "-T", "fields", "-e", "tcp.payload")
    recorded = bytes.fromhex(shown.stdout.replace("\n", ""))
    assert len(recorded) >= len(got)  # recorded first
    assert recorded[: len(got)] == got
    assert "cut short" in shown.stderr or shown.stderr == ""
    assert tshark(relay.file, *CHECKED, "-Y", BAD).stdout == ""


def _send_until_it_fails(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock.sendall(bytes(range(256)) * 256)


# What goes wrong on the way


def test_a_service_that_is_down(start: StartRelay) -> None:
    with service() as listener:
        address = to(listener)
    relay = start(address)
    for _ in range(2):
        with pytest.raises(ConnectionResetError), relay.connect() as client:
            client.recv(1)
    shown = relay.wait_for("cannot be reached")
    why = rf"{address} cannot be reached \(Connection refused\), so the connection of 127\.0\.0\.1:\d+ was cut"
    assert re.fullmatch(f"warning: {why}\n", shown)
    done = relay.end()
    assert done.code == 0
    assert done.stderr.count("warning: ") == 2
    assert done.stderr.endswith("recorded 2 connections, 8 packets into traffic.pcapng\n")
    assert [row for row in streams(relay.file, "tcp.stream", "tcp.flags.reset") if row[1] == "1"] == [
        ["0", "1"],
        ["1", "1"],
    ]


def test_a_client_hears_that_the_service_is_down(customer: Callable[[str], Shell], start: StartRelay) -> None:
    with service() as listener:
        address = to(listener)
    relay = start(address)
    done = customer("rolf")("ping", SECUREDELIVERY_SERVER=f"localhost:{relay.address.rpartition(':')[2]}")
    assert done.code == 3
    assert done.stderr.startswith("error: ")
    assert relay.end().code == 0


def test_a_full_disk(start: StartRelay) -> None:
    with service() as listener:
        relay = start(to(listener))
        _, hard = resource.prlimit(relay.pid, resource.RLIMIT_FSIZE)
        with joined(relay, listener) as (client, server):
            client.sendall(b"before")
            assert received(server, 6) == b"before"
            resource.prlimit(relay.pid, resource.RLIMIT_FSIZE, (FULL, hard))
            _send_until_it_fails(client)
            done = relay.ended()
    assert done.stdout == ""
    assert done.stderr == (
        "error: traffic.pcapng cannot be written any more (File too large)\n"
        "hint: is the disk full, or a file not accessible?\n"
    )
    assert done.code == 1
    assert FULL - 100_000 < relay.file.stat().st_size < FULL
    shown = tshark(relay.file, "-T", "fields", "-e", "tcp.payload")
    assert (shown.stderr, shown.code) == ("", 0)  # whole packets
    assert bytes.fromhex(shown.stdout.replace("\n", "")) in b"before" + bytes(range(256)) * 4_000


# Wrong usage


def test_a_file_that_is_there(shell: Shell) -> None:
    file = shell.home / "lesson.pcapng"
    file.write_text("mine")
    done = shell("relay", "--listen", "127.0.0.1:0", "--to", "localhost:5555", "--write", "lesson.pcapng")
    assert said(done) == fails("--write: lesson.pcapng is there already", "name another file, or remove it", 2)
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("option", "value", "message", "hint"),
    [
        ("--listen", "127.0.0.1:x", "'127.0.0.1:x' has no port from 0 to 65535", "write HOST:PORT, "),
        ("--listen", "127.0.0.1:65536", "'127.0.0.1:65536' has no port from 0 to 65535", "write HOST:PORT, "),
        ("--listen", "[::1:0", "'[::1:0' is not an address", "write HOST:PORT, "),
        ("--listen", "192.0.2.1:0", "192.0.2.1:0 cannot be listened on (Cannot assign requested address)", "name an "),
        ("--to", "localhost:0", "'localhost:0' has no port from 1 to 65535", "write HOST:PORT, "),
        ("--to", "shop.invalid:5555", "shop.invalid has no address (", "name a host that exists"),
        ("--to", "", "'' is not an address", "write HOST:PORT, "),
        ("--write", "nowhere/file", "nowhere/file cannot be made (No such file or directory)", "name a file in "),
        ("--write", ".", ". is there already", "name another file"),
    ],
)
def test_a_setting_that_cannot_be(shell: Shell, option: str, value: str, message: str, hint: str) -> None:
    options = {"--listen": "127.0.0.1:0", "--to": "localhost:5555", "--write": "file"} | {option: value}
    done = shell("relay", *(word for pair in options.items() for word in pair))
    assert (done.stdout, done.code) == ("", 2)
    assert done.stderr.startswith(f"error: {option}: {message}")
    assert f"\nhint: {hint}" in done.stderr
    assert list(shell.home.iterdir()) == []


def test_a_port_that_is_taken(shell: Shell) -> None:
    with service() as listener:
        done = shell("relay", "--listen", to(listener), "--to", "localhost:5555", "--write", "file")
        assert said(done) == fails(
            f"--listen: {to(listener)} cannot be listened on (Address already in use)",
            "name an address of this machine, and a free port",
            2,
        )
    assert list(shell.home.iterdir()) == []


def test_a_relay_to_itself(shell: Shell) -> None:
    with service() as listener:
        address = to(listener)
    done = shell("relay", "--listen", address, "--to", address, "--write", "file")
    assert said(done) == fails(f"--to: {address} is the relay itself", "name the service's port", 2)
    assert list(shell.home.iterdir()) == []


@pytest.mark.parametrize("missing", ["--to", "--write"])
def test_what_must_be_given(shell: Shell, missing: str) -> None:
    options = {"--to": "localhost:5555", "--write": "file"}
    del options[missing]
    done = shell("relay", *(word for pair in options.items() for word in pair))
    assert (done.stdout, done.code) == ("", 2)
    assert done.stderr == f"error: missing option '{missing}'\nhint: securedelivery relay --help\n"


# Its place


def test_it_needs_nothing_of_the_server() -> None:
    code = (
        "import sys\n"
        "for name in ('argon2', 'alembic', 'sqlalchemy', 'structlog', 'jinja2'): sys.modules[name] = None\n"
        "from securedelivery.cli import main\n"
        "sys.exit(main.run(['relay', '--help']) or ('ssl' in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert "--listen HOST:PORT" in done.stdout
    assert "securedelivery relay --listen 127.0.0.1:5556 --to localhost:5555 --write" in done.stdout
