"""An acknowledged order is on the disk: seen from outside, in the order of the server's system calls."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from end_to_end.customers import Enter, StartServer, order
from end_to_end.requirements import require

ORDERS = 40

# With -yy: `4711 fdatasync(9</tmp/shop.db-wal>) = 0`, `4712 sendto(12<TCP:[127.0.0.1:5555->127.0.0.1:4000]>, ... = 9`,
# and in two lines where another thread's call came between: `... <unfinished ...>`, `<... fdatasync resumed>) = 0`.
_LINE = re.compile(r"^(?P<thread>\d+) +(?P<rest>.*)$")
_CALL = re.compile(r"^(?P<name>\w+)\(\d+<(?P<file>.+?)>[,) ]")
_RESUMED = re.compile(r"^<\.\.\. (?P<name>\w+) resumed>")
_RESULT = re.compile(r"= (?P<result>-?\d+)[^=]*$")


@contextmanager
def traced(pid: int, output: Path) -> Iterator[None]:
    """The system calls of a running process, all its threads, into a file."""
    calls = "pwrite64,fsync,fdatasync,sendto,sendmsg,write,writev,recvfrom,recvmsg,read"
    command = [require("strace", "-o", "/dev/null", "true"), "-f", "-yy", "-s", "0", "-e", f"trace={calls}"]
    with subprocess.Popen([*command, "-o", str(output), "-p", str(pid)], stderr=subprocess.PIPE, text=True) as strace:
        try:
            assert strace.stderr is not None
            said = strace.stderr.readline()
            assert "attached" in said, said
            yield
        finally:
            strace.send_signal(signal.SIGINT)  # it lets go of the process, and ends
            strace.communicate(timeout=30)


def events(trace: Path, port: int) -> Iterator[str]:
    """`R`eceived, `w`ritten, `f`lushed, `S`ent, in order: what the server did with one client's connection and its log.

    A call counts when it has returned, but what is sent and written counts from when the call begins.
    """
    begun: dict[str, str] = {}
    for line in trace.read_text().splitlines():
        thread, rest = _LINE.match(line).group("thread", "rest")
        call = _CALL.match(rest)
        if call is not None:
            kind = _kind(call["name"], call["file"], port)
            if kind in ("S", "w"):
                yield kind
            elif "<unfinished" in rest:
                begun[thread] = kind
            elif _succeeded(rest):
                yield from filter(None, [kind])
        elif _RESUMED.match(rest) and (kind := begun.pop(thread, "")) and _succeeded(rest):
            yield kind


def _kind(name: str, file: str, port: int) -> str:
    if name in ("fdatasync", "fsync"):
        return "f" if file.endswith("-wal") else ""
    if name == "pwrite64":
        return "w" if file.endswith("-wal") else ""
    if not file.endswith(f":{port}]"):
        return ""
    return "R" if name in ("recvfrom", "recvmsg", "read") else "S"


def _succeeded(rest: str) -> bool:
    result = _RESULT.search(rest)
    return result is not None and int(result["result"]) >= 0


def test_every_answer_to_an_order_leaves_after_the_log_was_synced(
    start_server: StartServer, enter: Enter, tmp_path: Path
) -> None:
    server = start_server(stock={"CPU-1": 1_000})
    client = enter(server, "alice")
    port = client.socket.getsockname()[1]
    trace = tmp_path / "trace"
    with traced(server.pid, trace):
        for number in range(ORDERS):
            client.notifications.clear()
            client.call("order.place", **order(f"key-{number}", CPU_1=1))
            # So that a late notification is not taken for the next answer.
            client.wait_for("order.changed")
            client.wait_for("rewards.changed")

    rounds = "".join(events(trace, port)).split("R")[1:]
    assert [one for one in rounds if not re.fullmatch("w+f+S+", one)] == []
    assert len(rounds) == ORDERS


def test_the_trace_would_show_an_answer_without_a_sync(start_server: StartServer, enter: Enter, tmp_path: Path) -> None:
    """The positive control of the test above: a ping, and an order that is there already, change nothing."""
    server = start_server(stock={"CPU-1": 1_000})
    client = enter(server, "alice")
    client.call("order.place", **order("key", CPU_1=1))
    client.wait_for("rewards.changed")
    trace = tmp_path / "trace"
    with traced(server.pid, trace):
        for _ in range(5):
            client.call("system.ping")

            client.call("order.place", **order("key", CPU_1=1))

    assert "".join(events(trace, client.socket.getsockname()[1])) == "RS" * 10
