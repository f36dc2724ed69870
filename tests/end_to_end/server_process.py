"""The service as operators run it: a process of its own, a configuration file, signals, a log."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import commands
from certificate_authority import TRUST_DOMAIN
from commands import Process
from wire_client import Address

START_SECONDS = 60.0  # a slow machine, coverage, and a database to migrate; usually it takes one
STOP_SECONDS = 10.0  # the promise of the protocol

Settings = dict[str, dict[str, Any]]


def environment() -> dict[str, str]:
    """Ours, without settings for the product that whoever runs the tests may have."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SECUREDELIVERY_")}


class Log:
    """What a process says on stderr: in a file, and as it comes for those who wait for a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False

    def follow(self, stream: Any) -> None:
        """Take all that comes; on a thread of its own."""
        with self.path.open("a", encoding="utf-8") as file:
            for line in stream:
                file.write(line)
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def text(self) -> str:
        with self._changed:
            return "".join(self._lines)

    @property
    def position(self) -> int:
        """How many lines there are, for wait_for() and since()."""
        with self._changed:
            return len(self._lines)

    def since(self, position: int) -> list[str]:
        with self._changed:
            return self._lines[position:]

    def wait_for(self, pattern: str, *, since: int = 0, seconds: float = 20.0) -> str:
        """The first line from a position on that matches, now or to come."""
        found: list[str] = []

        def arrived() -> bool:
            found.extend(line for line in self._lines[since:] if re.search(pattern, line))
            return bool(found) or self._ended

        with self._changed:
            assert self._changed.wait_for(arrived, seconds), f"no {pattern!r} within {seconds} s in\n{self._tail()}"
            assert found, f"the process ended without {pattern!r} in\n{self._tail()}"
        return found[0]

    def _tail(self) -> str:
        return "".join(self._lines[-40:])


class ServerProcess:
    """start() it, stop() it; folder: for database, configuration and log. It can be started again.

    settings: of the configuration file, by section. flags, variables: more of the command line and the environment.
    real: as for commands.start(), for figures of the process itself.
    """

    def __init__(
        self,
        folder: Path,
        certs: Path,
        settings: Settings | None = None,
        *,
        catalog: Path | None = None,
        flags: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        real: bool = False,
    ) -> None:
        self.folder = folder
        self.certs = certs
        self.database = folder / "shop.db"
        self.url = f"sqlite:///{self.database}"
        self.settings: Settings = {"server": {"trust_domain": TRUST_DOMAIN}}
        for section, values in (settings or {}).items():
            self.settings.setdefault(section, {}).update(values)
        self.catalog = catalog
        self.flags = flags
        self.variables = variables or {}
        self.real = real
        self.log = Log(folder / "server.log")
        self.process: Process
        self.address: Address
        self._over = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.finish()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def config(self) -> Path:
        """The configuration file, written anew; in one step, for somebody else may be reading it."""
        path = self.folder / "securedelivery.toml"
        beside = self.folder / f"securedelivery.toml.{threading.get_ident()}"
        beside.write_text("".join(_toml(section, values) for section, values in self.settings.items()))
        return beside.rename(path)

    def start(self, *, port: int = 0) -> Self:
        """Returns once it listens. port: 0 for any that is free; address[1] of before to come back where it was."""
        command = ["serve", "--config", str(self.config)]
        command += ["--listen", f"127.0.0.1:{port}", "--certs", str(self.certs), "--database", self.url]
        if self.catalog is not None:
            command += ["--catalog", str(self.catalog)]
        command += self.flags
        self.log = Log(self.log.path)
        self._over = False
        self.process = commands.start(
            command, session=False, environment={**environment(), **self.variables}, real=self.real
        )
        self._follower = threading.Thread(target=self.log.follow, args=(self.process.stderr,), daemon=True)
        self._follower.start()
        overdue = threading.Timer(START_SECONDS, self.process.kill)
        overdue.start()
        try:
            line = self.process.stdout.readline()
        finally:
            overdue.cancel()
        ready = re.fullmatch(r"listening on (\S+):(\d+)\n", line)
        if ready is None:
            self._reap()
            raise AssertionError(f"it said {line!r} instead of `listening on HOST:PORT`, and\n{self.log.text}")
        self.address = (ready[1], int(ready[2]))
        return self

    def stop(self) -> tuple[int, float]:
        """SIGTERM; the exit code, and the seconds that it took."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        return self.exit_code(3 * STOP_SECONDS), time.monotonic() - began

    def exit_code(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its end."""
        try:
            self.process.wait(seconds)
        finally:
            self._reap()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL: as if the power failed for this process."""
        self.process.kill()
        self._reap()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def finish(self) -> None:
        """End it if it still runs, and judge what it said."""
        if not self._over:
            died = not self.running
            code, _ = self.stop()
            assert not died, f"it ended by itself, with {code}\n{self.log.text}"
            assert code == 0, f"exit code {code} after SIGTERM\n{self.log.text}"
        self.check_log()

    def check_log(self) -> None:
        text = self.log.text
        bad = re.search(r"incident|Traceback|was lost|was not delivered|Segmentation", text)
        assert bad is None, f"the log of {self.folder} says\n{text[max(0, bad.start() - 2000) :][:6000]}"

    def memory_kib(self, field: str = "VmHWM") -> int:
        """A figure of /proc/PID/status; VmHWM is the peak of resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1])

    def admin(self, *arguments: str) -> str:
        """Run `securedelivery admin ...` on this server's database; its standard output."""
        done = commands.run(["admin", *arguments, *self.admin_flags], seconds=60, environment=environment())
        assert done.returncode == 0, done.stderr
        return done.stdout

    def create_account(self, name: str, role: str) -> None:
        """Of somebody who works here; the certificate of that name logs in."""
        self.admin("account", "create", name, "--role", role, "--certs", str(self.certs))

    @property
    def admin_flags(self) -> list[str]:
        return ["--config", str(self.config), "--database", self.url]

    def _reap(self) -> None:
        self._over = True
        if self.running:
            self.process.kill()
        self.process.wait()
        self._follower.join()
        self.process.stdout.close()
        self.process.stderr.close()


def _toml(section: str, values: dict[str, Any]) -> str:
    lines = "".join(f"{name} = {_value(value)}\n" for name, value in values.items())
    return f"[{section}]\n{lines}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_value(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)  # strings, numbers and truth are written alike in both


def write_catalog(path: Path, stock: dict[str, int], *, price: str = "19.99") -> Path:
    """A catalog file. stock: by sku."""
    rows = "".join(f"{sku},The part {sku},A part for tests,{price},{number},1\n" for sku, number in stock.items())
    path.write_text(f"sku,name,description,price,stock,active\n{rows}")
    return path
