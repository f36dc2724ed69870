"""The web's listener: TLS, certificates that change, bounds, the end."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from certificate_authority import CertificateAuthority, Issued
from web.stage import Browser, WebStage

from securedelivery.errors import ConfigurationError
from securedelivery.transport.server import Limits
from securedelivery.transport.tls import ServerFiles, WebTls
from securedelivery.web import app, connections, rest
from securedelivery.web import server as module

WAIT = 20
REFUSED = (httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError, httpx.WriteError)
REQUEST = b"GET /api/system/ping HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[WebStage]:
    """With an authority of its own, to be changed."""
    stage = WebStage(tmp_path, CertificateAuthority())
    yield stage
    stage.close()


def opened(web: WebStage, issued: Issued | None = None) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", web.port), timeout=WAIT)
    return web.tls(issued).wrap_socket(raw, server_hostname="localhost")


def ping(line: ssl.SSLSocket) -> bytes:
    """The status line; empty where the connection has ended."""
    try:
        line.sendall(REQUEST)
        answer = b""
        while not answer.endswith(b"{}"):
            more = line.recv(10_000)
            if not more:
                return b""
            answer += more
    except OSError:
        return b""
    return answer.partition(b"\r\n")[0]


def wait_until_closed(line: socket.socket) -> None:
    line.settimeout(WAIT)
    try:
        while line.recv(10_000):
            pass
    except ConnectionResetError:
        pass


# TLS


def test_tls_1_3_and_http_1_1_alone(web: WebStage) -> None:
    with opened(web) as line:
        assert line.version() == "TLSv1.3"
    context = web.tls()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", web.port), timeout=WAIT) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="localhost")
    context = web.tls()
    context.set_alpn_protocols(["h2", "http/1.1"])
    raw = socket.create_connection(("127.0.0.1", web.port), timeout=WAIT)
    with context.wrap_socket(raw, server_hostname="localhost") as line:
        assert line.selected_alpn_protocol() == "http/1.1"


def test_no_session_is_resumed(web: WebStage) -> None:
    """A resumed one would skip the revocation list."""
    with opened(web) as line:
        assert ping(line) == b"HTTP/1.1 200 OK"
        assert line.session is None or not line.session.has_ticket


def test_who_speaks_no_tls_disturbs_nobody(web: WebStage) -> None:
    with socket.create_connection(("127.0.0.1", web.port), timeout=WAIT) as raw:
        raw.sendall(REQUEST)
        wait_until_closed(raw)
    with opened(web) as line:
        assert ping(line) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a" * 20_000,
    ],
)
def test_what_is_no_http(web: WebStage, nonsense: bytes) -> None:
    with opened(web) as line:
        line.sendall(nonsense)
        assert line.recv(100).startswith(b"HTTP/1.1 400")
        wait_until_closed(line)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"https://localhost/api/system/ping", b"200"),
        (b"HTTP://localhost/api/system/ping?x=/", b"200"),
        (b"http://[/x", b"404"),
        (b"http://[x]/y", b"404"),
        (b"https://localhost", b"200"),
        (b"ftp://localhost/", b"404"),
        (b"*", b"404"),
    ],
)
def test_other_forms_of_a_target(web: WebStage, target: bytes, status: bytes) -> None:
    with opened(web) as line:
        line.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert line.recv(12) == b"HTTP/1.1 " + status


def test_a_request_has_one_length(web: WebStage) -> None:
    """A proxy in front could read the second as a request of somebody else's."""
    with opened(web) as line:
        line.sendall(
            b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\n\r\n" + REQUEST
        )
        assert line.recv(100).startswith(b"HTTP/1.1 400")
        wait_until_closed(line)


def test_a_body_that_says_it_is_too_large_is_not_waited_for(web: WebStage) -> None:
    with opened(web) as line:
        line.sendall(
            b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99999999999\r\n\r\n"
        )
        assert line.recv(100).startswith(b"HTTP/1.1 413")
        wait_until_closed(line)


# Files that change


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not happened():
        assert time.monotonic() < deadline


def test_a_revoked_certificate_is_refused_and_its_open_connection_ends(own: WebStage) -> None:
    alice, bob = own.authority.client("alice"), own.authority.client("bob")
    with opened(own, alice) as first, opened(own, bob) as second:
        assert ping(first) == ping(second) == b"HTTP/1.1 200 OK"
        own.authority.revoke(alice)
        own.authority.write_crl(own.certs)
        own.running.reload()
        wait_until_closed(first)
        assert ping(second) == b"HTTP/1.1 200 OK"
    with pytest.raises(REFUSED):
        own.client(alice).get("/api/system")
    assert own.client(bob).get("/api/system").status_code == 200
    assert own.client().get("/api/system").status_code == 200


def test_without_a_list_every_certificate_is_refused_and_nobody_else(tmp_path: Path) -> None:
    authority = CertificateAuthority()
    stage = WebStage(tmp_path, authority, before=lambda certs: (certs / "crl.pem").unlink())
    try:
        with pytest.raises(REFUSED):
            stage.client(authority.client("alice")).get("/api/system")
        assert stage.client().get("/api/system").status_code == 200
    finally:
        stage.close()


def subject(web: WebStage) -> bytes:
    with opened(web) as line:
        found = line.getpeercert(binary_form=True)
        assert found is not None
        return found


def test_a_renewed_certificate_is_shown_from_then_on(own: WebStage) -> None:
    before = subject(own)
    own.authority.server("localhost", "127.0.0.1").write(own.certs / "server.crt", own.certs / "server.key")
    own.running.reload()
    wait_for(lambda: subject(own) != before)


def test_a_certificate_of_its_own(tmp_path: Path) -> None:
    """That of a public CA: renewed by whoever renews it, seen without a restart, never by half."""
    authority, public = CertificateAuthority(), CertificateAuthority("a public CA")
    certificate, key = tmp_path / "public.crt", tmp_path / "public.key"
    public.server("localhost").write(certificate, key)
    stage = WebStage(tmp_path, authority, web={"certificate": str(certificate), "key": str(key)})
    try:
        public.write(tmp_path / "public")
        stage.ca = tmp_path / "public" / "ca.crt"
        before = subject(stage)
        assert stage.client(authority.client("alice")).get("/api/system").status_code == 200
        renewed = public.server("localhost")
        key.write_text("half of a key")
        stage.running.reload()
        assert subject(stage) == before
        renewed.write(certificate, key)
        wait_for(lambda: subject(stage) != before)
    finally:
        stage.close()


@pytest.mark.parametrize(
    ("broken", "word"),
    [("certificate", "no such file"), ("key", "no such file"), ("pair", "OpenSSL does not take it")],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, broken: str, word: str) -> None:
    authority = CertificateAuthority()
    folder = authority.write(tmp_path / "certs")
    certificate, key = tmp_path / "a.crt", tmp_path / "a.key"
    authority.server("localhost").write(certificate, key)
    if broken == "pair":
        authority.server("localhost").write(tmp_path / "b.crt", key)
    else:
        (certificate if broken == "certificate" else key).unlink()
    with pytest.raises(ConfigurationError, match=word):
        WebTls(ServerFiles.in_directory(folder), certificate, key)


# Bounds


def test_one_address_has_so_many_connections(tmp_path: Path) -> None:
    stage = WebStage(tmp_path, CertificateAuthority(), {"limits": Limits(connections_per_address=3)})
    try:
        lines = [opened(stage) for _ in range(3)]
        assert [ping(line) for line in lines] == [b"HTTP/1.1 200 OK"] * 3
        with socket.create_connection(("127.0.0.1", stage.port), timeout=WAIT) as raw:
            wait_until_closed(raw)
        lines.pop().close()

        def again() -> bool:
            try:
                with opened(stage) as line:
                    return ping(line) == b"HTTP/1.1 200 OK"
            except OSError:
                return False

        wait_for(again)
        for line in lines:
            line.close()
    finally:
        stage.close()


def test_a_handshake_has_its_time(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", web.port), timeout=WAIT) as silent:
        wait_until_closed(silent)


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: local"])
def test_a_request_has_its_time(web: WebStage, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.2)
    with opened(web) as line:
        line.sendall(begun)
        wait_until_closed(line)


def test_the_next_request_has_its_time_too(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    with opened(web) as line:
        assert ping(line) == b"HTTP/1.1 200 OK"
        line.sendall(b"GET / HTTP/1.1\r\n")
        wait_until_closed(line)


def test_a_body_has_its_time(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "BODY_SECONDS", 0.2)
    with opened(web) as line:
        line.sendall(
            b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        assert line.recv(10_000).startswith(b"HTTP/1.1 408")
        wait_until_closed(line)


def test_who_leaves_in_the_middle_of_a_body(web: WebStage) -> None:
    with opened(web) as line:
        line.sendall(b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    with opened(web) as line:
        assert ping(line) == b"HTTP/1.1 200 OK"


def test_an_answer_that_takes_too_long(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that is put in: a read that hangs."""
    monkeypatch.setattr(app, "REQUEST_SECONDS", 0.2)
    go_on = threading.Event()

    def hanging(*_: object, **__: object) -> None:
        assert go_on.wait(WAIT)

    monkeypatch.setattr(web.shop.catalog, "list", hanging)
    answer = web.client().get("/api/catalog")
    go_on.set()
    assert (answer.status_code, answer.json()["reason"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-security-policy"]


# Begin and end


def test_a_port_that_is_taken_is_named(web: WebStage, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"web 127.0.0.1:{web.port}: Address already in use"):
        WebStage(tmp_path, CertificateAuthority(), web={"listen": f"127.0.0.1:{web.port}"})


def test_the_end_answers_what_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = WebStage(tmp_path, CertificateAuthority())
    began, go_on = threading.Event(), threading.Event()
    get = stage.shop.catalog.get

    def slow(*args: object, **options: object) -> object:
        began.set()
        assert go_on.wait(WAIT)
        return get(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(stage.shop.catalog, "get", slow)
    answers: list[httpx.Response] = []
    browser = Browser(stage.url, stage.tls())
    asking = threading.Thread(target=lambda: answers.append(browser.get("/api/catalog/RAM-1")))
    asking.start()
    assert began.wait(WAIT)
    idle = opened(stage)
    ending = threading.Thread(target=stage.close)
    ending.start()
    wait_until_closed(idle)
    idle.close()
    go_on.set()
    asking.join()
    ending.join()
    browser.close()
    assert [answer.status_code for answer in answers] == [200]


def test_the_settings_reach_the_pages(tmp_path: Path) -> None:
    stage = WebStage(tmp_path, CertificateAuthority(), web={"public_url": "https://shop.example/"})
    try:
        browser = stage.client()
        headers = {"Origin": "https://shop.example"}
        answer = browser.post("/api/accounts", json={"username": "ada", "password": "correct horse 7"}, headers=headers)
        assert answer.status_code == 201, "behind a proxy the page is at another address than the server"
    finally:
        stage.close()


def test_without_asking_no_certificate_comes(tmp_path: Path) -> None:
    """For a public shop, whose visitors' browsers would offer whatever they have."""
    stage = WebStage(tmp_path, CertificateAuthority(), web={"client_certificates": "none"})
    try:
        alice = stage.client(stage.authority.client("alice"))
        assert alice.get("/api/account").status_code == 401
        assert alice.csrf == ""
        assert stage.client(CertificateAuthority().client("mallory")).get("/api/system").status_code == 200
    finally:
        stage.close()


def test_an_authority_that_is_replaced_is_believed_no_more(own: WebStage) -> None:
    old = own.authority.client("alice")
    assert own.client(old).get("/api/system").status_code == 200
    before = subject(own)
    other = CertificateAuthority()
    other.write(own.certs)
    own.running.reload()

    def is_other() -> bool:
        try:
            return subject(own) != before
        except ssl.SSLError:  # which believes in the other one already
            return False

    wait_for(is_other)
    with pytest.raises(REFUSED):
        own.client(old).get("/api/system")
    assert own.client(other.client("alice")).get("/api/system").status_code == 200


def test_that_its_own_certificate_ends_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority, public = CertificateAuthority(), CertificateAuthority("a public CA")
    certificate, key = tmp_path / "public.crt", tmp_path / "public.key"
    public.server("localhost", end=timedelta(days=3)).write(certificate, key)
    stage = WebStage(tmp_path, authority, web={"certificate": str(certificate), "key": str(key)})
    stage.close()
    assert "the web's certificate ends soon" in capsys.readouterr().out


def test_the_end_waits_so_long_and_says_nothing_of_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(module, "ENDING_SECONDS", 1)
    stage = WebStage(tmp_path, CertificateAuthority())
    line = opened(stage)
    line.sendall(b"POST /api/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    assert stage.client().get("/api/system").status_code == 200
    stage.close()
    wait_until_closed(line)
    line.close()
    said = capsys.readouterr()
    assert "Traceback" not in caplog.text + said.out + said.err


@pytest.mark.parametrize("url", ["https://Shop.Example:443", "https://shop.example/"])
def test_a_public_url_is_compared_as_browsers_write_it(tmp_path: Path, url: str) -> None:
    stage = WebStage(tmp_path, CertificateAuthority(), web={"public_url": url})
    try:
        body = {"username": "ada", "password": "correct horse 7"}
        answer = stage.client().post("/api/accounts", json=body, headers={"Origin": "https://shop.example"})
        assert answer.status_code == 201
    finally:
        stage.close()
