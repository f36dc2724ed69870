"""The process of which the tests' commands are forks: what a command imports, it has imported, once for all of them.

    python zygote.py 7      7: a socket (SOCK_SEQPACKET), on which requests come until its end

A request is JSON, see Request; with it come four descriptors: the command's 0, 1 and 2, and a pipe. Into that goes a
line with the command's process id, and when it has ended one with its exit code, below zero for a signal.

A command is a process with a process id, signals, a terminal and an end of its own: it runs main() of
securedelivery.__main__, as if an interpreter had been started for it. Not the same are the modules, which are imported
already, so what an interpreter settles at its start (PYTHON... variables, the locale) has to be that of the zygote.
commands.py, which asks for all this, sees to it.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import sys
import termios
import threading
import time
from collections.abc import Callable
from typing import NoReturn, TextIO, TypedDict

LONGEST = 1 << 20
OUTCOME = 3
UNFLUSHED = 120
"""The exit code of a Python that could not write out what it had buffered."""
# Modules of others that ours import within functions. What is missing here only costs time.
BESIDE = (
    "alembic.command",
    "alembic.ddl.sqlite",
    "argon2",
    "getpass",
    "rich.box",
    "rich.table",
    "rich.text",
    "typer._adapters",
    "typer._click.decorators",
)
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Request(TypedDict):
    """brief: whether it need not free its memory at its end. session: whether it leads a session of its own.

    terminal: whether its standard input is one, which then controls it.
    """

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    open_files: tuple[int, int]
    session: bool
    brief: bool
    terminal: bool


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, which end this process
    del sys.path[0]  # the tests' folder
    prepare()
    request = serve(control)
    if request is not None:
        become(request)
        from securedelivery.__main__ import main as command

        if request["brief"]:
            briefly(command)
        else:
            command()


def prepare() -> None:
    """Import what commands may need."""
    import securedelivery

    ours = (module.name for module in pkgutil.walk_packages(securedelivery.__path__, "securedelivery."))
    for name in (*ours, *BESIDE):
        if ".migrations." not in name and not name.endswith(".__main__"):
            with contextlib.suppress(ImportError):  # which is for the command to tell
                importlib.import_module(name)
    if "coverage" in sys.modules:  # then each command writes what it has measured itself, and this process what it has
        sys.modules["coverage"].Coverage.current().get_data()
    gc.collect()
    gc.freeze()  # or each command's first collection would copy it all


def serve(control: socket.socket) -> Request | None:
    """Fork for each request and report each end, until the socket's end. In a fork it returns: what is to be run."""
    running: dict[int, tuple[int, int]] = {}  # by the descriptor of the process: its id, and the pipe for its outcome
    poll = select.poll()
    poll.register(control, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != control.fileno():
                poll.unregister(ready)
                report_end(ready, *running.pop(ready))
                continue
            message, descriptors, _, _ = socket.recv_fds(control, LONGEST, OUTCOME + 1)
            if not message:
                return None
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # one that comes early strikes when handlers are there
            if (pid := os.fork()) == 0:
                control.detach()
                take(descriptors)
                return json.loads(message)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            for descriptor in descriptors[:OUTCOME]:
                os.close(descriptor)
            tell(descriptors[OUTCOME], pid)
            running[process := os.pidfd_open(pid)] = pid, descriptors[OUTCOME]
            poll.register(process, select.POLLIN)


def report_end(process: int, pid: int, outcome: int) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(process)
    tell(outcome, code)
    os.close(outcome)


def tell(outcome: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # who started it is gone
        os.write(outcome, b"%d\n" % number)


def take(descriptors: list[int]) -> None:
    """In a fork: make these 0, 1 and 2, and close all others."""
    for number, descriptor in enumerate(descriptors[:OUTCOME]):
        os.dup2(descriptor, number)
    os.closerange(OUTCOME, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def become(request: Request) -> None:
    """In a fork: what the kernel and the interpreter do at the start of a program."""
    if request["session"]:
        os.setsid()
    if request["terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    resource.setrlimit(resource.RLIMIT_NOFILE, request["open_files"])
    sys.path.insert(0, request["folder"])
    sys.argv = [sys.modules["securedelivery"].__path__[0] + "/__main__.py", *request["arguments"]]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        setattr(sys, name, stream(number, getattr(sys, name)))
    sys.stderr.reconfigure(line_buffering=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def briefly(command: Callable[[], None]) -> NoReturn:
    """Run it and leave as Python does, but free nothing: that takes longer than the command, and the kernel does it."""
    try:
        command()
    except SystemExit as end:
        code = end.code
    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = UNFLUSHED
    os._exit(code)


def stream(number: int, before: TextIO) -> TextIO:
    """A standard stream as the interpreter makes it: what it knows of its descriptor has to be true of the new one."""
    mode = "w" if number else "r"
    return open(number, mode, encoding=before.encoding, errors=before.errors, newline="\n", closefd=False)


if __name__ == "__main__":
    main()
