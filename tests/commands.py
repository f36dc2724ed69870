"""`securedelivery ...` as people run it, a process each; a fork of a zygote (zygote.py) where that makes no difference.

done = commands.run(["catalog"], environment=..., folder=..., seconds=60)
with commands.start(["chat"], environment=..., folder=...) as command:
    command.send_signal(signal.SIGINT)
    assert command.wait(60) == 130
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import TextIOWrapper
from pathlib import Path
from subprocess import DEVNULL, PIPE, CompletedProcess, TimeoutExpired
from typing import Any, Self

EVERY = "REAL_PROCESSES"
"""Set this variable, and every command is an interpreter of its own."""
LOCALE = ("LANG", "LC_")
SETTLED = ("COVERAGE", "LD_", "OPENSSL", "PYTHON")
"""Beginnings of the names of variables that are read when an interpreter starts, or a library is loaded."""
CONTROLLING = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
"""A program that lets its standard input, a terminal, control it, and then becomes the one that it is given."""


class Command:
    """A fork of a zygote, with as much of subprocess.Popen as tests use; in text.

    outcome: descriptor of the pipe from the zygote. streams: our ends of the pipes to 0 and from 1 and 2.
    """

    def __init__(self, arguments: Sequence[str], outcome: int, streams: Sequence[int | None]) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._outcome = open(outcome, "rb", buffering=0)  # noqa: SIM115 -- as long as this object
        weakref.finalize(self, self._outcome.close)
        self._lock = threading.Lock()
        self.stdin, self.stdout, self.stderr = map(_stream, streams, "wrr")
        self.pid = int(self._outcome.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self.wait()

    def poll(self) -> int | None:
        """The exit code, below zero for a signal; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            raise TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[Any, Any]:  # noqa: A002
        """Write that into its standard input, read its outputs to their ends, and wait for it."""
        with ThreadPoolExecutor(3) as threads:
            done = [threads.submit(self._give, input)]
            done += [threads.submit(_everything, stream) for stream in (self.stdout, self.stderr)]
            try:
                _, stdout, stderr = (one.result(timeout) for one in done)
                self.wait(timeout)
            except BaseException:
                self.kill()  # which ends the threads
                raise
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, seconds: float | None) -> int | None:
        poll = select.poll()
        poll.register(self._outcome, select.POLLIN)
        if self.returncode is None and poll.poll(None if seconds is None else 1_000 * seconds):
            with self._lock:
                if self.returncode is None:
                    self.returncode = int(self._outcome.readline())
        return self.returncode

    def _give(self, text: str | None) -> None:
        if self.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self.stdin:
                self.stdin.write(text or "")


Process = Command | subprocess.Popen[str]


def run(arguments: Iterable[str | Path], given: str = "", *, seconds: float, **options: Any) -> CompletedProcess[str]:
    """options: those of start()."""
    with start(arguments, stdin=PIPE, brief=True, **options) as command:
        try:
            stdout, stderr = command.communicate(given, seconds)
        except BaseException:
            command.kill()
            raise
    return CompletedProcess(command.args, command.wait(), stdout, stderr)


def start(
    arguments: Iterable[str | Path],
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    stdin: Any = DEVNULL,
    stdout: Any = PIPE,
    stderr: Any = PIPE,
    session: bool = True,
    terminal: bool = False,
    brief: bool = False,
    real: bool = False,
) -> Process:
    """Start one. stdin, stdout, stderr: as for subprocess.Popen; folder: its working directory.

    session: whether it leads a session of its own; terminal: whether its standard input is one, which then controls it.
    brief: it need not free its memory at its end. real: it is an interpreter of its own whatever that costs.
    """
    words = [os.fspath(argument) for argument in arguments]
    if not (real or EVERY in os.environ) and _settled(environment) == _settled(os.environ):
        return _fork(
            words,
            environment,
            folder or Path.cwd(),
            (stdin, stdout, stderr),
            session=session,
            terminal=terminal,
            brief=brief,
        )
    command = [sys.executable, "-m", "securedelivery", *words]
    if terminal:
        command = [sys.executable, "-c", CONTROLLING, *command]
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        text=True,
        env=environment,
        cwd=folder,
        start_new_session=session,
    )


def _fork(
    words: list[str],
    environment: Mapping[str, str],
    folder: Path,
    streams: Sequence[Any],
    *,
    session: bool,
    terminal: bool,
    brief: bool,
) -> Command:
    request = {
        "arguments": words,
        "environment": dict(environment),
        "folder": str(folder),
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE),
        "session": session,
        "brief": brief,
        "terminal": terminal,
    }
    with contextlib.ExitStack() as theirs:
        ends = [_ends(stream, output=number > 0) for number, stream in enumerate(streams)]
        outcome, reported = os.pipe()
        descriptors = [end for end, _ in ends] + [reported]
        for descriptor in descriptors:
            theirs.callback(os.close, descriptor)
        socket.send_fds(_zygote(environment), [json.dumps(request).encode()], descriptors)
    return Command(words, outcome, [ours for _, ours in ends])


def _ends(stream: Any, *, output: bool) -> tuple[int, int | None]:
    """Descriptors: what the command gets, and what remains here."""
    if stream == PIPE:
        reading, writing = os.pipe()
        return (writing, reading) if output else (reading, writing)
    if stream == DEVNULL:
        return os.open(os.devnull, os.O_RDWR), None
    return os.dup(stream if isinstance(stream, int) else stream.fileno()), None


def _stream(descriptor: int | None, mode: str) -> TextIOWrapper | None:
    return None if descriptor is None else open(descriptor, mode)  # noqa: PTH123 -- the caller closes it


def _everything(stream: TextIOWrapper | None) -> str | None:
    if stream is None:
        return None
    with stream:
        return stream.read()


def _settled(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(SETTLED)}


# Zygotes: one for each locale, from its first command to end()

_zygotes: dict[tuple[tuple[str, str], ...], tuple[socket.socket, subprocess.Popen[bytes]]] = {}
_starting = threading.Lock()


def _zygote(environment: Mapping[str, str]) -> socket.socket:
    locale = {name: value for name, value in environment.items() if name.startswith(LOCALE)}
    with _starting:
        key = tuple(sorted(locale.items()))
        if key not in _zygotes:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                program = [sys.executable, str(Path(__file__).with_name("zygote.py")), str(theirs.fileno())]
                process = subprocess.Popen(
                    program, stdin=DEVNULL, stdout=DEVNULL, pass_fds=[theirs.fileno()],
                    env={"PATH": os.environ["PATH"], **_settled(environment), **locale},
                )  # fmt: skip
            _zygotes[key] = ours, process
        return _zygotes[key][0]


def end() -> None:
    """Of the zygotes. Commands that still run are not touched."""
    while _zygotes:
        control, process = _zygotes.popitem()[1]
        control.close()
        assert process.wait(60) == 0
