"""Folders of certificates to try gen_certs.sh on: one is made for the whole run, each test gets a copy of it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from certificates.authority import Authority, openssl

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority") / "certs"
    authority = Authority(folder)
    authority.done()
    authority.done("client", "alice")
    return folder


@pytest.fixture
def authority(template: Path, tmp_path: Path) -> Authority:
    """CA, server, revocation list and the client alice."""
    folder = tmp_path / "certs"
    shutil.copytree(template, folder)
    return Authority(folder)


@pytest.fixture
def nothing(tmp_path: Path) -> Authority:
    """A folder that does not exist yet."""
    return Authority(tmp_path / "certs")


@pytest.fixture
def request_file(tmp_path: Path) -> Callable[..., Path]:
    """Makes a certificate request that asks for far more than it shall get."""

    def make(*algorithm: str, name: str = "request") -> Path:
        key, request = tmp_path / f"{name}.key", tmp_path / f"{name}.csr"
        algorithm = algorithm or ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        openssl("genpkey", "-quiet", *algorithm, "-out", str(key))
        extensions = ["subjectAltName=DNS:evil.example", "basicConstraints=critical,CA:TRUE"]
        wanted = [word for extension in extensions for word in ("-addext", extension)]
        openssl("req", "-new", "-key", str(key), "-subj", "/O=Evil/CN=admin", *wanted, "-out", str(request))
        return request

    return make
