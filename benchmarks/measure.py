"""Servers and load generators as processes of their own, measured from outside; what a case returns.

A case alternates: in each round it takes one sample of each contender, and a ratio is one of samples of the same round.
The main figure is the server's CPU time a request, of all its threads and children, as the kernel's scheduler counts
it: that holds on a noisy machine where requests a second do not.
"""

import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal, Protocol, Self

import psutil
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from benchmarks import order

__all__ = [
    "Bar",
    "BenchmarkFailure",
    "Case",
    "Figure",
    "Goal",
    "Load",
    "Outcome",
    "Plot",
    "Result",
    "Sample",
    "Server",
    "Table",
    "World",
    "cpu_seconds",
    "ratios",
    "sample",
    "service",
]

ROOT = Path(__file__).resolve().parent.parent
GENERATOR_BOUND = 0.85  # of the wall time: a generator that is busier may be what was measured
START_SECONDS = 60.0  # for a server to listen, for a generator to be ready
RUN_SECONDS = 600.0  # for a generator's work
STOP_SECONDS = 20.0  # for a server to end once it was asked to; ours drains


class BenchmarkFailure(Exception):  # noqa: N818 -- what went wrong stands in the text
    """A server or a generator did not do what the measurement needs; with the end of its log."""


# ------------------------------------------------------------------------------------------------------------ processes


def cpu_seconds(pid: int) -> float:
    """CPU time of a process: its threads, living and dead, its living children, and those that it has waited for.

    The first two from the process's CPU clock, in nanoseconds; children that are gone in kernel ticks of 10 ms.
    Raises psutil.NoSuchProcess.
    """
    process = psutil.Process(pid)
    children = process.children(recursive=True)
    seconds = _own_seconds(pid) + _reaped_seconds(pid)
    for child in children:
        try:
            seconds += _own_seconds(child.pid) + _reaped_seconds(child.pid)
        except psutil.NoSuchProcess:  # between the listing and the question; its parent's reaped time has it
            continue
    return seconds


def _own_seconds(pid: int) -> float:
    try:
        return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3): another process's CPU clock on Linux
    except OSError:
        raise psutil.NoSuchProcess(pid) from None


def _reaped_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.children_user + times.children_system)


class _Process:
    """A child process whose stdout is read by lines, in time, and whose stderr is kept for failures."""

    def __init__(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str]) -> None:
        self.command = list(command)
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- closed in end()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # not a tracer's
        self._popen = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=cwd,
            env={**inherited, "PYTHONUNBUFFERED": "1", **environment},
        )
        self.pid = self._popen.pid
        self._unread = b""

    def line(self, seconds: float) -> str:
        """The next line of stdout. Raises BenchmarkFailure where it does not come in time."""
        assert self._popen.stdout is not None
        descriptor = self._popen.stdout.fileno()
        deadline = time.monotonic() + seconds
        while b"\n" not in self._unread:
            readable, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0.0))
            if not readable:
                raise self.failure(f"said nothing for {seconds:g} s")
            data = os.read(descriptor, 65_536)
            if not data:
                raise self.failure("ended")
            self._unread += data
        text, _, self._unread = self._unread.partition(b"\n")
        return text.decode()

    def say(self, text: str) -> None:
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(f"{text}\n".encode())
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise self.failure("ended") from None

    @property
    def ended(self) -> bool:
        return self._popen.poll() is not None

    def failure(self, what: str) -> BenchmarkFailure:
        self._log.seek(max(self._log.seek(0, os.SEEK_END) - 4_000, 0))
        log = self._log.read().decode(errors="replace").strip()
        return BenchmarkFailure(f"{' '.join(self.command)}\n{what}; its last words:\n{log or '(none)'}")

    def end(self, *, by_signal: bool) -> None:
        """Close stdin and, where asked, send SIGTERM; who does not end in time is killed, children first."""
        popen = self._popen
        assert popen.stdin is not None
        assert popen.stdout is not None
        with suppress(BrokenPipeError):
            popen.stdin.close()
        if by_signal and popen.poll() is None:
            popen.send_signal(signal.SIGTERM)
        try:
            popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(popen.pid).children(recursive=True):
                child.kill()
            popen.kill()
            popen.wait()
        popen.stdout.close()
        self._log.close()


class Server:
    """A server of its own process, from its first line of stdout to SIGTERM. A context manager.

    port_of: the port in that line. pid and port are there once it was entered.
    """

    def __init__(
        self,
        command: Sequence[str],
        port_of: Callable[[str], int] = int,
        cwd: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        self._port_of = port_of
        self._cwd = cwd
        self._environment = environment or {}
        self._process: _Process
        self.pid: int
        self.port: int

    def __enter__(self) -> Self:
        self._process = _Process(self._command, self._cwd, self._environment)
        try:
            self.pid = self._process.pid
            self.port = self._port_of(self._process.line(START_SECONDS))
        except BaseException:
            self._process.end(by_signal=True)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.end(by_signal=True)

    def cpu(self) -> float:
        """Seconds so far, children included. Raises BenchmarkFailure where it has died."""
        if self._process.ended:
            raise self._process.failure("died")
        return cpu_seconds(self.pid)

    def rss(self) -> int:
        """Bytes of resident memory, children included."""
        process = psutil.Process(self.pid)
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


@dataclass(frozen=True)
class Outcome:
    """What a generator says at the end. cpu_seconds: its own. checked: answers that were opened and compared.

    more: whatever else it said.
    """

    requests: int
    seconds: float
    cpu_seconds: float
    errors: int
    p50_us: float
    p99_us: float
    checked: int
    more: dict[str, Any]


class Load:
    """A load generator, `python -m module arguments`: ready once entered, at work in go(). A context manager.

    The dialogue is in lines: it connects, prepares all bytes, prints {"ready": true}; reads "go"; works; prints its
    Outcome as JSON; and stays connected until its stdin ends, so that nobody measures the hanging up.
    """

    def __init__(self, module: str, *arguments: object, environment: Mapping[str, str] | None = None) -> None:
        self._command = [sys.executable, "-m", module, *map(str, arguments)]
        self._environment = environment or {}
        self._process: _Process

    def __enter__(self) -> Self:
        self._process = _Process(self._command, ROOT, self._environment)
        try:
            first = self._process.line(START_SECONDS)
            if json.loads(first) != {"ready": True}:
                raise self._process.failure(f"said {first!r} instead of being ready")  # noqa: TRY301 -- it is to end
        except BaseException:
            self._process.end(by_signal=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._process.end(by_signal=kind is not None)

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """Say go; outcome() waits. For several generators at once; else go()."""
        self._process.say("go")

    def outcome(self, seconds: float = RUN_SECONDS) -> Outcome:
        """Wait for the end of the work. Raises BenchmarkFailure, also where an answer was missing or wrong."""
        said: dict[str, Any] = json.loads(self._process.line(seconds))
        known = {name: said.pop(name) for name in Outcome.__dataclass_fields__ if name in said}
        outcome = Outcome(**known, more=said)
        if outcome.errors or outcome.checked != outcome.requests:
            raise self._process.failure(
                f"{outcome.errors} wrong answers; {outcome.checked} of {outcome.requests} were checked"
            )
        return outcome

    def go(self, seconds: float = RUN_SECONDS) -> Outcome:
        self.start()
        return self.outcome(seconds)


@dataclass(frozen=True)
class Sample:
    """One contender in one round. cpu_us: server CPU microseconds a request; rate: requests a second.

    load_busy, server_busy: CPU over wall time (a server with children or C code in threads can exceed 1).
    more: what else the generator said.
    """

    cpu_us: float
    rate: float
    p50_us: float
    p99_us: float
    load_busy: float
    server_busy: float
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def paced(self) -> bool:
        """Whether the generator kept to a rate that it was given; then it waits awake, and load_busy says nothing."""
        return bool(self.more.get("paced"))


def sample(server: Server | None, load: Load) -> Sample:
    """Let a generator that is ready work, and measure the server between "go" and the result.

    server: None where the generator does the work itself (raw sqlite3), and is what is measured.
    """
    before = 0.0 if server is None else server.cpu()
    outcome = load.go()
    spent = outcome.cpu_seconds if server is None else server.cpu() - before
    return Sample(
        cpu_us=spent / outcome.requests * 1e6,
        rate=outcome.requests / outcome.seconds,
        p50_us=outcome.p50_us,
        p99_us=outcome.p99_us,
        load_busy=0.0 if server is None else outcome.cpu_seconds / outcome.seconds,
        server_busy=spent / outcome.seconds,
        more=outcome.more,
    )


# ---------------------------------------------------------------------------------------------------------- the service


def service(folder: Path, certs: Path, *, environment: Mapping[str, str] | None = None, **flags: object) -> Server:
    """`securedelivery serve` over folder/shop.db. flags: of the command, such as catalog=Path(...)."""
    command = [
        *(sys.executable, "-m", "securedelivery", "serve", "--listen", "127.0.0.1:0", "--certs", str(certs)),
        *("--database", f"sqlite:///{folder}/shop.db"),
    ]
    for name, value in flags.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    return Server(command, lambda line: int(line.rpartition(":")[2]), folder, environment)


class World:
    """What all cases share, made once in a folder: certificates, accounts, the catalog.

    folder: on the disk that is to be measured, for fdatasync is part of it.
    """

    def __init__(self, folder: Path, *, quick: bool = False) -> None:
        self.folder = folder
        self.quick = quick
        self.certs = folder / "certs"
        self._shops = 0
        script = ROOT / "gen_certs.sh"
        for arguments in ([], ["client", "bench"]):
            subprocess.run(
                ["/bin/bash", script, "--dir", self.certs, *arguments], check=True, stdout=subprocess.DEVNULL
            )
        for number in range(order.CUSTOMERS):
            self.client(order.customer(number))

    @classmethod
    @contextmanager
    def temporary(cls, *, quick: bool = False, parent: Path | None = None) -> Iterator[Self]:
        """parent: where; None for the system's folder of temporary files, which should not be in memory."""
        with tempfile.TemporaryDirectory(prefix="securedelivery-bench.", dir=parent) as folder:
            yield cls(Path(folder), quick=quick)

    def client(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of an account, made when first asked for: certs/clients/<name>.crt and .key.

        All but `bench` are issued here, after its pattern: gen_certs.sh takes 0.1 s for one.
        """
        clients = self.certs / "clients"
        certificate, key = clients / f"{name}.crt", clients / f"{name}.key"
        if not certificate.exists():
            pair = ec.generate_private_key(ec.SECP256R1())
            certificate.write_bytes(self._issue(name, pair.public_key()).public_bytes(Encoding.PEM))
            key.touch(0o600)
            key.write_bytes(pair.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return certificate, key

    def _issue(self, name: str, public: ec.EllipticCurvePublicKey) -> x509.Certificate:
        pattern, authority = self._authority
        uri = pattern.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        domain = uri.get_values_for_type(x509.UniformResourceIdentifier)[0].removesuffix("bench")
        replaced = {
            x509.SubjectAlternativeName.oid: x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(f"{domain}{name}")]
            ),
            x509.SubjectKeyIdentifier.oid: x509.SubjectKeyIdentifier.from_public_key(public),
        }
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name.from_rfc4514_string(f"CN={name}"))
            .issuer_name(pattern.issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(pattern.not_valid_before_utc)
            .not_valid_after(pattern.not_valid_after_utc)
        )
        for extension in pattern.extensions:
            builder = builder.add_extension(replaced.get(extension.oid, extension.value), extension.critical)
        return builder.sign(authority, SHA256())

    @cached_property
    def _authority(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        pattern = x509.load_pem_x509_certificate((self.certs / "clients/bench.crt").read_bytes())
        key = load_pem_private_key((self.certs / "ca.key").read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return pattern, key

    @cached_property
    def shop(self) -> Path:
        """A folder with shop.db and its key: the catalog, the accounts bench and bench0 to bench63. To be copied."""
        # Imported here: a case without a shop need not have the server's packages in its memory.
        from securedelivery import config
        from securedelivery.application import Shop
        from securedelivery.model import Role
        from securedelivery.service import catalog_file

        folder = self.folder / "shop"
        folder.mkdir()
        settings = config.load(
            None, {}, {"database.url": f"sqlite:///{folder}/shop.db", "server.certs": str(self.certs)}
        )
        catalog = folder / "catalog.csv"
        catalog.write_text(
            "sku,name,description,price,stock,active\n"
            + "".join(
                f"{one.sku},{one.name},To be ordered.,{one.price // 100}.{one.price % 100:02d},{order.STOCK},1\n"
                for one in order.PRODUCTS
            )
        )
        with Shop(settings) as shop:
            shop.catalog.fill(catalog_file.read(catalog, order.CURRENCY))
            for name in ("bench", *map(order.customer, range(order.CUSTOMERS))):
                identity = f"spiffe://{settings.trust_domain}/account/{name}"
                shop.accounts.create_by_operator(name, Role.CUSTOMER, identity=identity)
        return folder

    def service(self, *, environment: Mapping[str, str] | None = None, **flags: object) -> Server:
        """Our service over a fresh copy of the shop."""
        self._shops += 1
        folder = self.folder / f"shop{self._shops}"
        shutil.copytree(self.shop, folder)
        return service(folder, self.certs, environment=environment, **flags)

    def peer(self, name: str, *arguments: object) -> Server:
        """benchmarks/peers/<name>.py, with a database of its own where it keeps a shop (not: echo)."""
        self._shops += 1
        command = [sys.executable, "-m", f"benchmarks.peers.{name}", "--certs", str(self.certs)]
        if name != "echo":
            command += ["--database", str(self.folder / f"{name}{self._shops}.db")]
        return Server([*command, *map(str, arguments)])

    def load(self, name: str, server: Server, *arguments: object) -> Load:
        """benchmarks/load/<name>.py against a server."""
        return Load(f"benchmarks.load.{name}", "--port", server.port, "--certs", self.certs, *arguments)


# -------------------------------------------------------------------------------------------------- what a case returns


@dataclass(frozen=True)
class Goal:
    kind: Literal["at most", "at least"]
    value: float

    def met(self, value: float) -> bool:
        return value <= self.value if self.kind == "at most" else value >= self.value


@dataclass(frozen=True)
class Figure:
    """One row of the table. values: one a round, in the unit ("" for a ratio). note: what was compared with what."""

    name: str
    unit: str
    values: Sequence[float]
    goal: Goal | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the goal; None without one."""
        return None if self.goal is None else self.goal.met(self.median)


@dataclass(frozen=True)
class Bar:
    """values: one a round. ours: ours, or a part of the floor and the peers, which are drawn less strongly."""

    label: str
    values: Sequence[float]
    ours: bool = False
    note: str = ""
    """Behind the bar, such as "4.2 x ours"."""


@dataclass(frozen=True)
class Plot:
    """Horizontal bars of medians with the range of the rounds as whiskers. name: of the file, plots/<name>.svg.

    log: dots on a logarithmic axis, where the values differ by more than bars can show. goal: a line at this value.
    """

    name: str
    title: str
    unit: str
    bars: Sequence[Bar]
    log: bool = False
    goal: float | None = None
    subtitle: str = ""


@dataclass(frozen=True)
class Table:
    """Anything else in rows; the cells are texts."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Result:
    """samples: contender -> its sample of each round; they become a table with load_busy and server_busy."""

    figures: Sequence[Figure]
    plots: Sequence[Plot] = ()
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()
    samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict)


class Case(Protocol):
    """A module of benchmarks/cases."""

    NAME: str
    TITLE: str

    def run(self, world: World, rounds: int, quick: bool) -> Result: ...


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]
