"""What the doctor says of the web's door."""

import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from certificate_authority import TRUST_DOMAIN, CertificateAuthority

from securedelivery.config import ServerSettings, Settings
from securedelivery.doctor import Finding, State, examine
from securedelivery.web.settings import WebSettings


class Door:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = CertificateAuthority()
        self.certs = self.ca.write(folder / "certs", self.ca.server("localhost"))
        self.public = CertificateAuthority("a public CA")

    def own(self, *names: str) -> dict[str, str]:
        """Certificate and key of a public CA for these names."""
        certificate, key = self.folder / "public.crt", self.folder / "public.key"
        self.public.server(*names).write(certificate, key)
        key.chmod(0o600)
        return {"certificate": str(certificate), "key": str(key)}

    def find(self, now: datetime | None = None, **web: Any) -> list[Finding]:
        server = ServerSettings(certs=str(self.certs), trust_domain=TRUST_DOMAIN)
        settings = Settings(server=server, web=WebSettings(**{"listen": "127.0.0.1:0", **web}))
        return [one for one in examine(settings, now or self.ca.now) if one.check == "web"]


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return Door(tmp_path)


def test_without_a_web_there_is_nothing_to_see(door: Door) -> None:
    (found,) = door.find(listen=None)
    assert (found.state, "no web page" in found.what) == (State.OK, True)


def test_a_door_with_the_servers_own_certificate(door: Door) -> None:
    (door.certs / "server.key").chmod(0o600)
    found = door.find()
    assert {one.state for one in found} == {State.OK}
    text = "\n".join(one.what for one in found)
    assert "89 days more" in text
    assert "browsers warn until they know ca.crt" in text
    assert "any port that is free" in text


@pytest.mark.parametrize("url", ["https://shop.example", "https://a.shop.example/", "https://192.0.2.7:8443"])
def test_a_certificate_for_its_name(door: Door, url: str) -> None:
    found = door.find(public_url=url, **door.own("Shop.Example", "*.shop.example", "192.0.2.7"))
    assert {one.state for one in found} == {State.OK}


@pytest.mark.parametrize("url", ["https://other.example", "https://a.b.shop.example", "https://192.0.2.8"])
def test_a_certificate_for_other_names(door: Door, url: str) -> None:
    found = [one for one in door.find(public_url=url, **door.own("*.shop.example")) if one.state is State.WRONG]
    assert len(found) == 1
    assert "the certificate is for *.shop.example" in found[0].what
    assert found[0].remedy.startswith("get one for")


def test_files_that_cannot_be_used(door: Door) -> None:
    own = door.own("shop.example")
    Path(own["key"]).chmod(0o644)
    (found,) = [one for one in door.find(**own) if one.state is State.WRONG]
    assert found.remedy == f"chmod 600 {own['key']}"
    (found,) = door.find(**own, now=door.ca.now + timedelta(days=80))[:1]
    assert found.state is State.NOTE
    (found,) = door.find(**own, now=door.ca.now + timedelta(days=90))[:1]
    assert (found.state, found.remedy) == (State.WRONG, "renew it where it comes from")
    Path(own["certificate"]).unlink()
    (found,) = door.find(**own)
    assert (found.state, "no such file" in found.what) == (State.WRONG, True)


def test_a_port_that_is_taken_or_cannot_be_had(door: Door) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = door.find(listen=f"127.0.0.1:{port}")[-1]
    assert (found.state, f"sport = :{port}" in found.remedy) == (State.NOTE, True)
    assert door.find(listen=f"127.0.0.1:{port}")[-1].state is State.OK
    assert door.find(listen="192.0.2.1:8443")[-1].state is State.WRONG
