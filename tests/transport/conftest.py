"""A server with an application that does what it is told, and clients driven by hand; short sweeps, real sockets."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from certificate_authority import CertificateAuthority, Issued
from transport.stage import Log, Stage

from securedelivery.transport import io


@pytest.fixture(autouse=True)
def short_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "SWEEP_SECONDS", 0.02)


@pytest.fixture(autouse=True)
def log() -> Iterator[Log]:
    sink = Log()
    with contextlib.ExitStack() as stack:
        stack.callback(structlog.configure, **structlog.get_config())
        structlog.configure(processors=[sink], cache_logger_on_first_use=False)
        yield sink


@pytest.fixture
def ca() -> CertificateAuthority:
    return CertificateAuthority()


@pytest.fixture
def alice(ca: CertificateAuthority) -> Issued:
    return ca.client("alice")


@pytest.fixture
def certs(ca: CertificateAuthority, tmp_path: Path) -> Path:
    """The server's files."""
    return ca.write(tmp_path / "certs")


@pytest.fixture
def stage(ca: CertificateAuthority, alice: Issued, certs: Path, tmp_path: Path) -> Iterator[Stage]:
    """Not yet serving: call serve(). In the end nothing may be left of it: no thread, no entry in a table."""
    before = set(threading.enumerate())
    made = Stage(ca, alice, certs, tmp_path / "clients")
    try:
        yield made
    finally:
        made.close()
    assert len(made.application.incidents) == made.expected_incidents, made.application.incidents
    assert not [thread for thread in set(threading.enumerate()) - before if thread.is_alive()]
