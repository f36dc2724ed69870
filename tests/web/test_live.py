"""/api/chat/live over real WebSockets."""

import asyncio
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from certificate_authority import CertificateAuthority
from web.stage import PASSWORD, Browser, WebStage
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from securedelivery.model import Role
from securedelivery.web import live as module

WAIT = 20


class Line:
    """A WebSocket of somebody, with a TCP connection that can be cut."""

    def __init__(self, web: WebStage, browser: Browser | None, query: str = "", **headers: str) -> None:
        cookies = {} if browser is None else {"Cookie": f"__Host-session={browser.cookies['__Host-session']}"}
        opening = connect(
            f"wss://localhost:{web.port}/api/chat/live{query}",
            ssl=web.tls(),
            additional_headers=cookies | headers,
            open_timeout=WAIT,
            close_timeout=WAIT,
            compression=None,
            max_size=None,
        )
        self._stack = ExitStack()
        self.socket: ClientConnection = self._stack.enter_context(opening)

    def close(self) -> None:
        self._stack.close()

    def next(self, method: str | None = None) -> dict[str, Any]:
        """The next text, or the next notification of that method."""
        while True:
            found: dict[str, Any] = json.loads(self.socket.recv(timeout=WAIT))
            if method is None or found.get("method") == method:
                return found

    def messages(self, count: int) -> list[tuple[int, str]]:
        found = [self.next("chat.message")["params"] for _ in range(count)]
        return [(message["sequence"], message["text"]) for message in found]

    def call(self, method: str, number: int | str = 1, **params: Any) -> dict[str, Any]:
        """The answer; what comes before it is put aside."""
        self.socket.send(json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}))
        while True:
            found = self.next()
            if found.get("id") == number:
                return found

    def end(self) -> tuple[int, str]:
        """How the server ends it."""
        with pytest.raises(ConnectionClosed) as caught:
            self.hear_all()
        assert caught.value.rcvd is not None, "cut"
        return caught.value.rcvd.code, caught.value.rcvd.reason

    def cut(self) -> None:
        self.socket.socket.shutdown(socket.SHUT_RDWR)

    def hear_all(self) -> None:
        while True:
            self.socket.recv(timeout=WAIT)


@pytest.fixture
def line(web: WebStage) -> Iterator[Any]:
    """Call it with a browser and a query for a WebSocket."""
    lines: list[Line] = []

    def opened(browser: Browser | None, query: str = "", **headers: str) -> Line:
        lines.append(Line(web, browser, query, **headers))
        return lines[-1]

    yield opened
    for one in lines:
        one.close()


def say(browser: Browser, text: str, **more: Any) -> dict[str, Any]:
    answer = browser.post("/api/chat/messages", json={"text": text, **more}, headers={"Idempotency-Key": text[:100]})
    assert answer.status_code == 201, answer.text
    return answer.json()


def conversation_of(web: WebStage, browser: Browser, agent: Browser) -> int:
    """Claimed by the agent."""
    number = say(browser, "hello")["conversation"]
    assert agent.post(f"/api/chat/conversations/{number}/claim").status_code == 200
    return int(number)


def test_what_is_said_is_heard_at_once(web: WebStage, line: Any) -> None:
    anton, agent = web.customer("anton"), web.staff("agent-a", Role.AGENT)
    number = conversation_of(web, anton, agent)
    ours, theirs = line(anton, "?after=1"), line(agent, f"?after=1&conversation={number}")
    say(agent, "good day", conversation=number)
    assert ours.messages(1) == theirs.messages(1) == [(2, "good day")]
    answer = ours.call("chat.send", text="and to you", message_key="k")
    assert answer["result"]["sequence"] == 3
    assert theirs.messages(1) == [(3, "and to you")]
    assert ours.messages(1) == [(3, "and to you")], "its own, behind the answer"


def test_it_is_the_same_message_on_the_socket_door(web: WebStage, line: Any) -> None:
    bertha = web.customer("bertha")
    live = line(bertha, "?after=0")
    said = say(bertha, "one and the same")
    assert live.next("chat.message") == {"jsonrpc": "2.0", "method": "chat.message", "params": said}


def test_who_was_away_gets_what_was_missed_in_order(web: WebStage, line: Any) -> None:
    carl = web.customer("carl")
    for n in range(1, 8):
        say(carl, f"message {n}")
    live = line(carl, "?after=4")
    assert live.messages(3) == [(n, f"message {n}") for n in (5, 6, 7)]
    say(carl, "message 8")
    assert live.messages(1) == [(8, "message 8")]


def test_more_than_a_page_was_missed(web: WebStage, line: Any) -> None:
    dirk = web.customer("dirk")
    for n in range(1, 121):
        say(dirk, f"message {n}")
    live = line(dirk, "?after=0")
    assert live.messages(120) == [(n, f"message {n}") for n in range(1, 121)]


def test_without_after_only_what_comes(web: WebStage, line: Any) -> None:
    emil = web.customer("emil")
    say(emil, "before")
    live = line(emil)
    assert live.call("system.ping") == {"jsonrpc": "2.0", "id": 1, "result": {}}
    say(emil, "after")
    assert live.messages(1) == [(2, "after")]


def test_a_sequence_that_has_not_been_yet(web: WebStage, line: Any) -> None:
    """Whatever a browser believes to have: it hears of what comes."""
    franz = web.customer("franz")
    say(franz, "one")
    live = line(franz, "?after=999")
    assert live.call("system.ping")["result"] == {}
    say(franz, "two")
    assert live.messages(1) == [(2, "two")]


@pytest.mark.parametrize("times", [20])
def test_cut_again_and_again_nothing_is_lost_or_doubled(web: WebStage, line: Any, times: int) -> None:
    gustav = web.customer("gustav")
    heard: list[tuple[int, str]] = []
    said = 0
    for _ in range(times):
        live = line(gustav, f"?after={len(heard)}")
        for _ in range(3):
            said += 1
            say(gustav, f"message {said}")
        missing = said - len(heard)
        heard += live.messages(max(1, missing - 2))  # cut with some of them on the way
        live.cut()
    live = line(gustav, f"?after={len(heard)}")
    heard += live.messages(said - len(heard))
    assert heard == [(n, f"message {n}") for n in range(1, said + 1)]


def test_a_message_out_of_turn_has_the_history_read(web: WebStage, line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault that is put in: every second notification is lost on its way."""
    heinz = web.customer("heinz")
    live = line(heinz, "?after=0")
    assert live.call("system.ping")["result"] == {}
    tell, told = module._Socket.tell, []

    def forgetful(socket: Any, text: str, params: Any) -> None:
        told.append(text)
        if len(told) % 2:
            tell(socket, text, params)

    monkeypatch.setattr(module._Socket, "tell", forgetful)
    for n in range(1, 10):
        say(heinz, f"message {n}")
    monkeypatch.undo()
    say(heinz, "message 10")
    assert live.messages(10) == [(n, f"message {n}") for n in range(1, 11)]


def test_typing_and_read_marks_reach_the_other_side(web: WebStage, line: Any) -> None:
    ingo, agent = web.customer("ingo"), web.staff("agent-i", Role.AGENT)
    number = conversation_of(web, ingo, agent)
    ours, theirs = line(ingo, "?after=1"), line(agent)
    assert ours.call("chat.typing")["result"] == {}
    assert theirs.next("chat.typing")["params"] == {"conversation": number, "sender": "ingo"}
    say(agent, "good day", conversation=number)
    assert ours.messages(1) == [(2, "good day")]
    assert ours.call("chat.mark_read", up_to=2)["result"] == {}
    assert ours.next("chat.conversation")["params"]["unread"] == 0


def test_orders_and_points_tell_of_their_changes(web: WebStage, line: Any) -> None:
    jana, agent = web.customer("jana"), web.staff("agent-j", Role.AGENT)
    live = line(jana)
    live.call("system.ping")
    order = jana.order(("RAM-1", 1), key="live")
    assert live.next("order.changed")["params"] == order
    assert live.next("rewards.changed")["params"]["points"] == order["points_earned"]
    agent.post(f"/api/orders/{order['order']}/status", json={"status": "confirmed"})
    assert live.next("order.changed")["params"]["status"] == "confirmed"


def test_nobody_hears_of_anothers(web: WebStage, line: Any) -> None:
    kurt, lars = web.customer("kurt"), web.customer("lars")
    live = line(kurt, "?after=0")
    say(lars, "a secret")
    lars.order(("RAM-1", 1), key="lars")
    say(kurt, "mine")
    assert live.next()["params"]["text"] == "mine"


# Requests


def test_only_what_belongs_to_the_chat_can_be_asked(web: WebStage, line: Any) -> None:
    live = line(web.customer("mark"))
    for method in ("order.list", "account.logout", "chat.nothing"):
        error = live.call(method)["error"]
        assert error["data"]["reason"] == "method_not_found"
    error = live.call("chat.send", text="", message_key="k")["error"]
    assert (error["code"], error["data"]["path"]) == (-32602, "/text")
    assert live.call("chat.queue")["error"]["data"]["reason"] == "forbidden"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"id": 1}', '{"jsonrpc":"2.0","id":1,"method":"chat.send","params":5}']
)
def test_what_is_no_request_is_answered_and_forgotten(web: WebStage, line: Any, text: str) -> None:
    live = line(_known(web, "noah"))
    live.socket.send(text)
    assert live.next()["error"]["code"] in (-32700, -32600)
    assert live.call("system.ping", number="x")["result"] == {}


def _known(web: WebStage, name: str) -> Browser:
    browser = web.client()
    answer = browser.post("/api/accounts", json={"username": name, "password": PASSWORD})
    if answer.status_code != 201:
        browser.log_in(name)
    return browser


def test_a_request_without_an_id_gets_no_answer(web: WebStage, line: Any) -> None:
    live = line(web.customer("otto"))
    live.socket.send('{"jsonrpc":"2.0","method":"system.ping"}')
    assert live.call("system.ping", number=7)["id"] == 7


def test_what_is_no_text_ends_it(web: WebStage, line: Any) -> None:
    live = line(web.customer("pia"))
    live.socket.send(b"bytes")
    assert live.end() == (1003, "send text")


def test_what_is_too_long_ends_it(web: WebStage, line: Any) -> None:
    live = line(web.customer("quirin"))
    live.socket.send("x" * 70_000)
    assert live.end()[0] == 1009


# Who may


def test_nobody_is_told_to_log_in(web: WebStage, line: Any) -> None:
    assert line(None).end() == (4401, "not_logged_in")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost"])
def test_another_sites_page_gets_none(web: WebStage, line: Any, origin: str) -> None:
    ralf = _known(web, "ralf")
    with pytest.raises(InvalidStatus) as caught:
        line(ralf, Origin=origin)
    response = caught.value.response
    assert response.status_code == 403
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert json.loads(response.body or b"")["reason"] == "forbidden"
    assert line(ralf, Origin=web.url).call("system.ping")["result"] == {}


@pytest.mark.parametrize("query", ["?after=x", "?after=-1", "?after=1&conversation=y", "?after=9999999999999999"])
def test_what_is_no_number_is_refused(web: WebStage, line: Any, query: str) -> None:
    with pytest.raises(InvalidStatus) as caught:
        line(_known(web, "sven"), query)
    assert caught.value.response.status_code == 400
    assert json.loads(caught.value.response.body or b"")["path"] in ("/after", "/conversation")


def test_a_conversation_of_somebody_elses(web: WebStage, line: Any) -> None:
    tom, agent = web.customer("tom"), web.staff("agent-t", Role.AGENT)
    number = conversation_of(web, tom, agent)
    assert line(_known(web, "uwe"), f"?after=0&conversation={number}").end() == (1008, "not_found")


@pytest.mark.parametrize("end", ["logout", "password", "disabled", "deleted"])
def test_what_ends_a_session_ends_its_line(web: WebStage, line: Any, end: str) -> None:
    name = f"vera-{end}"
    vera = web.customer(name)
    live = line(vera, "?after=0")
    assert live.call("system.ping")["result"] == {}
    if end == "logout":
        vera.delete("/api/session")
        assert live.end() == (4401, "not_logged_in")
    elif end == "password":
        vera.put("/api/account/password", json={"old_password": PASSWORD, "new_password": "another horse 7"})
        assert live.end()[0] in (1008, 4401)
    elif end == "disabled":
        web.shop.accounts.disable(None, name, True)
        assert live.end() == (1008, "credentials_changed")
    else:
        vera.request("DELETE", "/api/account", json={"password": PASSWORD})
        assert live.end() == (1008, "account_deleted")


def test_logging_out_ends_what_a_certificate_has_opened(web: WebStage, authority: CertificateAuthority) -> None:
    yves = web.client(authority.client("yves"))
    yves.get("/api/system")
    yves.post("/api/accounts", json={"username": "yves"})
    yves.cookies.clear()
    with connect(f"wss://localhost:{web.port}/api/chat/live", ssl=web.tls(authority.client("yves"))) as opened:
        opened.send('{"jsonrpc":"2.0","id":1,"method":"system.ping"}')
        opened.recv(timeout=WAIT)
        yves.get("/api/account")
        yves.delete("/api/session")
        with pytest.raises(ConnectionClosed) as caught:
            opened.recv(timeout=WAIT)
    assert caught.value.rcvd is not None
    assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4401, "not_logged_in")


def test_a_line_goes_on_where_its_account_logs_in_again(web: WebStage, line: Any) -> None:
    zora = web.customer("zora")
    live = line(zora, "?after=0")
    live.call("system.ping")
    zora.log_in("zora")
    say(zora, "still here")
    assert live.messages(1) == [(1, "still here")]
    zora.delete("/api/session")
    assert live.end() == (4401, "not_logged_in")


def test_a_login_as_somebody_else_ends_it(web: WebStage, line: Any) -> None:
    web.customer("adam-other")
    adam = web.customer("adam-one")
    live = line(adam)
    live.call("system.ping")
    adam.log_in("adam-other")
    assert live.end() == (4401, "not_logged_in")


def test_a_logout_while_a_line_is_let_in_is_not_missed(
    web: WebStage, line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at its cookie and its place among the others."""
    beate = web.customer("beate")
    look_up = module.look_up

    async def late(*args: Any) -> Any:
        visit = await look_up(*args)
        await asyncio.get_running_loop().run_in_executor(None, lambda: web.shop.web_sessions.end(visit.token or ""))
        return visit

    monkeypatch.setattr(module, "look_up", late)
    assert line(beate).end() == (4401, "not_logged_in")


def test_a_role_changes_under_an_open_line(web: WebStage, line: Any) -> None:
    walter = web.customer("walter")
    live = line(walter)
    assert live.call("chat.queue")["error"]["data"]["reason"] == "forbidden"
    web.shop.accounts.set_role(None, "walter", Role.AGENT)
    live.call("system.ping")
    for _ in range(100):
        if "result" in live.call("chat.queue"):
            break
    else:
        raise AssertionError("the role did not come")


def test_a_certificate_is_enough(web: WebStage, authority: CertificateAuthority) -> None:
    xenia = web.client(authority.client("xenia"))
    xenia.get("/api/system")
    xenia.post("/api/accounts", json={"username": "xenia"})
    with connect(f"wss://localhost:{web.port}/api/chat/live?after=0", ssl=web.tls(authority.client("xenia"))) as opened:
        say(xenia, "by certificate")
        assert json.loads(opened.recv(timeout=WAIT))["params"]["text"] == "by certificate"


# Bounds


def test_who_does_not_read_is_dropped(web: WebStage, line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody else notices."""
    monkeypatch.setattr(module, "UNSENT_BYTES", 100_000)
    yara = web.customer("yara")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.connect(("127.0.0.1", web.port))
    deaf: ssl.SSLSocket = web.tls().wrap_socket(raw, server_hostname="localhost")
    deaf.sendall(
        f"GET /api/chat/live HTTP/1.1\r\nHost: localhost:{web.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        f"Cookie: __Host-session={yara.cookies['__Host-session']}\r\n\r\n".encode()
    )
    assert b"101 Switching" in deaf.recv(1_000)
    live = line(yara, "?after=0")
    account = web.shop.accounts.login("yara", PASSWORD, identity=None, remote="127.0.0.1").account_id
    sockets = web.running._web._live._sockets  # type: ignore[union-attr]
    assert len(sockets[account]) == 2
    said = 0
    while len(sockets[account]) == 2:
        said += 1
        assert said < 2_000
        say(yara, f"{said} " + "x" * 3_900)
        assert live.messages(1)[0][0] == said
    deaf.close()


def test_one_account_has_so_many(web: WebStage, line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SOCKETS", 2)
    zoe = web.customer("zoe")
    kept = [line(zoe) for _ in range(2)]
    assert line(zoe).end() == (1008, "too_many")
    assert [one.call("system.ping")["result"] for one in kept] == [{}, {}]


def test_it_lasts_half_a_day_and_is_let_in_again(web: WebStage, line: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIFE_SECONDS", 0.2)
    assert line(web.customer("anna")).end() == (1012, "session_expired")


def test_somebody_with_a_line_is_here(web: WebStage, line: Any) -> None:
    bianca = web.customer("bianca")
    account = web.shop.accounts.login("bianca", PASSWORD, identity=None, remote="127.0.0.1").account_id
    assert web.running._last_connected(account) is None
    live = line(bianca)
    live.call("system.ping")
    first = web.running._last_connected(account)
    assert first is not None
    live.close()
    sockets = web.running._web._live._sockets  # type: ignore[union-attr]
    while account in sockets:
        web.client().get("/api/system")
    last = web.running._last_connected(account)
    assert last is not None
    assert last >= first
    assert web.running._last_connected(account) is not None
