"""Sessions of the web: who is logged in with a token, for how long, and what ends it."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from service.shop import Shop

from securedelivery.model import Role
from securedelivery.service.session import Session
from securedelivery.service.web_sessions import FARTHEST, IDLE, KEPT, LIFE, SEEN_EVERY, STAFF_LIFE, WebSessions

HOME = "192.0.2.1"
PASSWORD = "a horse of the battery"
MOMENT = timedelta(microseconds=1)


def of(name: str) -> str:
    return f"spiffe://example.org/account/{name}"


@pytest.fixture
def sessions(shop: Shop) -> WebSessions:
    return WebSessions(shop.database, shop.clock)


@pytest.fixture
def greta(shop: Shop) -> Session:
    return shop.accounts.create("greta", PASSWORD, identity=None, remote=HOME)


def kept(shop: Shop) -> int:
    ((count,),) = shop.sql("SELECT count(*) FROM web_sessions")
    assert isinstance(count, int)
    return count


def seen(shop: Shop) -> str:
    ((at,),) = shop.sql("SELECT seen_at FROM web_sessions")
    return str(at)


def test_who_has_the_token_is_logged_in(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    emil = shop.customer("emil", Role.AGENT)
    first, second = sessions.open(greta), sessions.open(emil)
    assert sessions.find(first, None) == greta
    assert sessions.find(second, None) == emil
    assert sessions.find(first, None) == greta  # and stays so


def test_a_token_is_not_guessed_and_not_kept(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    tokens = [sessions.open(greta) for _ in range(20)]
    assert len(set(tokens)) == 20
    assert all(re.fullmatch("[A-Za-z0-9_-]{43}", token) for token in tokens)
    rows = shop.sql("SELECT * FROM web_sessions")
    assert {row[0] for row in rows} == {sha256(token.encode()).digest() for token in tokens}
    assert not [cell for row in rows for cell in row if cell in tokens]


@pytest.mark.parametrize("other", ["", "a" * 43, "{}a", "{}=", " {}"])
def test_nobody_else_is(sessions: WebSessions, greta: Session, other: str) -> None:
    token = sessions.open(greta)
    assert sessions.find(other.format(token), None) is None
    assert sessions.find(token[:-1], None) is None
    assert sessions.find(token.swapcase(), None) is None


def test_logging_out(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    first, second = sessions.open(greta), sessions.open(greta)
    sessions.end(first)
    sessions.end(first)
    sessions.end("never one")
    assert sessions.find(first, None) is None
    assert sessions.find(second, None) == greta
    assert kept(shop) == 1


def test_as_the_account_is_now(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    token = sessions.open(greta)
    shop.accounts.set_role(None, "greta", Role.COURIER)
    assert sessions.find(token, None) == Session(greta.account_id, "greta", Role.COURIER, greta.credentials)


ENDINGS: dict[str, Callable[[Shop, Session], object]] = {
    "another password": lambda shop, one: shop.accounts.change_password(one, "another horse", PASSWORD, remote=HOME),
    "reset": lambda shop, _: shop.accounts.reset_password("greta", "another horse"),
    "disabled": lambda shop, _: shop.accounts.disable(None, "greta", disabled=True),
    "deleted": lambda shop, one: shop.privacy.delete(one, PASSWORD, remote=HOME),
    "certificate required": lambda shop, _: shop.accounts.require_certificate("greta", required=True),
}


@pytest.mark.parametrize("what", ENDINGS)
def test_what_ends_all_sessions_of_an_account(shop: Shop, sessions: WebSessions, greta: Session, what: str) -> None:
    emil = shop.customer("emil")
    tokens = [sessions.open(greta), sessions.open(greta)]
    other = sessions.open(emil)
    ENDINGS[what](shop, greta)
    assert [sessions.find(token, None) for token in tokens] == [None, None]
    assert sessions.find(other, None) == emil


def test_who_changes_the_password_goes_on_with_a_new_token(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    after = shop.accounts.change_password(greta, "another horse", PASSWORD, remote=HOME)
    assert sessions.find(sessions.open(after), None) == after
    assert sessions.find(sessions.open(greta), None) is None  # a login that the change has overtaken


def test_who_is_let_in_again_logs_in_again(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    token = sessions.open(greta)
    for disabled in (True, False):
        shop.accounts.disable(None, "greta", disabled=disabled)
        assert sessions.find(token, None) is None


@pytest.mark.parametrize("column", [{"disabled": True}, {"deleted_at": "2026-03-01T12:00:00.123456Z"}])
def test_each_is_enough_by_itself(shop: Shop, sessions: WebSessions, greta: Session, column: dict[str, object]) -> None:
    """Whatever else changes with it: here the credentials stay, and the row does."""
    token = sessions.open(greta)
    shop.alter(greta, **column)
    assert sessions.find(token, None) is None


def test_the_rows_of_a_deleted_account_are_gone(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    sessions.open(shop.customer("emil"))
    sessions.open(greta)
    shop.privacy.delete(greta, PASSWORD, remote=HOME)
    assert shop.sql("SELECT account_id FROM web_sessions") == [(2,)]


def test_certificates_are_those_of_the_account(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    token = sessions.open(greta)
    assert sessions.find(token, of("greta")) == greta
    for other in (of("emil"), of("greta.x"), of("gret"), "spiffe://example.org/account/"):
        assert sessions.find(token, other) is None
    assert sessions.find(token, None) == greta
    shop.accounts.require_certificate("greta", required=True)
    assert sessions.find(token, None) is None
    assert sessions.find(token, of("greta")) == greta
    assert sessions.find(token, of("emil")) is None


def test_what_was_opened_with_a_certificate_ends_with_it(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    certified, other = sessions.open(greta, of("greta")), sessions.open(greta)
    assert sessions.find(certified, of("greta")) == greta
    assert sessions.find(certified, None) is None
    assert sessions.find(certified, of("emil")) is None
    assert [sessions.find(other, identity) for identity in (None, of("greta"))] == [greta, greta]


def look(shop: Shop, sessions: WebSessions, token: str) -> Session | None:
    """Find it, and wait for the note of that, which find() leaves to the writer."""
    found = sessions.find(token, None)
    shop.database.writer.call(lambda _tx, commands: [None for _ in commands], None)
    return found


def use(shop: Shop, sessions: WebSessions, token: str, until: timedelta) -> None:
    """As somebody who comes back each day, until so long after the login."""
    end = shop.clock.now + until
    while shop.clock.now + timedelta(days=1) < end:
        shop.clock.forward(days=1)
        assert look(shop, sessions, token) is not None
    shop.clock.now = end


def test_a_session_that_is_not_used_ends(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    token = sessions.open(greta)
    shop.clock.now += IDLE
    assert sessions.find(token, None) == greta
    shop.clock.now += IDLE + MOMENT
    assert sessions.find(token, None) is None


def test_and_one_that_is_used_does_too_one_day(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    token = sessions.open(greta)
    use(shop, sessions, token, LIFE)
    assert sessions.find(token, None) == greta
    shop.clock.now += MOMENT
    assert sessions.find(token, None) is None


@pytest.mark.parametrize("role", [Role.AGENT, Role.COURIER, Role.ADMIN])
def test_staff_logs_in_every_day(shop: Shop, sessions: WebSessions, role: Role) -> None:
    emil = shop.customer("emil", role)
    token = sessions.open(emil)
    shop.clock.now += STAFF_LIFE
    assert sessions.find(token, None) == emil
    shop.clock.now += MOMENT
    assert sessions.find(token, None) is None


def test_who_becomes_staff_has_a_session_of_staff(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    token = sessions.open(greta)
    shop.clock.now += STAFF_LIFE + MOMENT
    shop.accounts.set_role(None, "greta", Role.AGENT)
    assert sessions.find(token, None) is None


def test_looks_are_written_down_once_an_hour(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    token = sessions.open(greta)
    first = seen(shop)
    shop.clock.now += SEEN_EVERY
    sessions.find(token, None)
    assert seen(shop) == first
    shop.clock.now += MOMENT
    look(shop, sessions, token)
    second = seen(shop)
    assert second == shop.clock.now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert shop.sql("SELECT opened_at FROM web_sessions") == [(first,)]
    shop.clock.forward(minutes=30)
    look(shop, sessions, token)
    assert seen(shop) == second


def test_a_look_that_finds_nobody_is_not_written_down(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    token = sessions.open(greta)
    first = seen(shop)
    shop.clock.forward(days=6)
    assert sessions.find(token, of("emil")) is None
    assert seen(shop) == first
    shop.accounts.disable(None, "greta", disabled=True)
    assert sessions.find(token, None) is None
    assert seen(shop) == first


def test_an_account_has_so_many_and_no_more(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    emil = shop.customer("emil")
    other = sessions.open(emil)
    tokens = []
    for _ in range(KEPT + 2):
        shop.clock.forward(seconds=1)
        tokens.append(sessions.open(greta))
    assert [sessions.find(token, None) for token in tokens] == [None, None, *[greta] * KEPT]
    assert sessions.find(other, None) == emil


def test_tidying_takes_out_what_is_over_and_nothing_else(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    emil, fritz = shop.customer("emil"), shop.customer("fritz")
    old, idle, changed = sessions.open(greta), sessions.open(greta), sessions.open(emil)
    shop.clock.forward(days=1)
    good = sessions.open(fritz)
    shop.accounts.reset_password("emil", "another horse")
    sessions.tidy()
    assert kept(shop) == 3
    shop.clock.now += IDLE - timedelta(days=1)
    sessions.tidy()
    assert [sessions.find(one, None) for one in (old, good)] == [greta, fritz]
    assert kept(shop) == 3  # idle is on its last moment
    shop.clock.now += MOMENT
    sessions.tidy()
    assert (kept(shop), sessions.find(idle, None), sessions.find(changed, None)) == (2, None, None)
    use(shop, sessions, old, LIFE - IDLE - MOMENT)
    newest = sessions.open(fritz)
    sessions.tidy()
    assert sessions.find(old, None) == greta
    shop.clock.now += MOMENT
    sessions.tidy()
    assert (kept(shop), sessions.find(newest, None)) == (1, fritz)


def test_csrf_tokens(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    token = sessions.open(greta)
    proof = sessions.csrf_token(token)
    assert re.fullmatch("[A-Za-z0-9_-]{43}", proof)
    assert proof == WebSessions(shop.database, shop.clock).csrf_token(token)
    others = {sessions.csrf_token(one) for one in (sessions.open(greta), of("greta"), of("emil"), "", token)}
    assert len(others) == 5
    assert proof not in (token, sha256(token.encode()).hexdigest())


def test_a_clock_that_is_set_back(shop: Shop, sessions: WebSessions, greta: Session) -> None:
    token = sessions.open(greta)
    shop.clock.forward(hours=-1)
    assert sessions.find(token, None) == greta
    sessions.tidy()
    assert sessions.find(token, None) == greta


def test_a_look_waits_for_no_other_program(shop: Shop, sessions: WebSessions, greta: Session, tmp_path: Path) -> None:
    """One that has the database locked: who only reads notices nothing, though a look is due to be noted."""
    token = sessions.open(greta)
    first = seen(shop)
    shop.clock.now += SEEN_EVERY + MOMENT
    with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert sessions.find(token, None) == greta
        other.execute("ROLLBACK")
    assert seen(shop) > first


def test_a_clock_that_was_far_ahead_gives_nobody_a_longer_session(
    shop: Shop, sessions: WebSessions, greta: Session
) -> None:
    token = sessions.open(greta)
    shop.clock.now -= FARTHEST
    assert sessions.find(token, None) == greta
    shop.clock.now -= MOMENT
    assert sessions.find(token, None) is None
