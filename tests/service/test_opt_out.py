"""The link in a mail that ends mail of its kind: what it does, for whom, and what is no such link."""

import base64
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service.shop import Clock, Shop

from securedelivery.errors import Reason, Refusal
from securedelivery.model import AccountId, MailPreferences, Role
from securedelivery.service import opt_out
from securedelivery.service.opt_out import MailChoice, OptOut, Wish
from securedelivery.service.rewards import RewardRules
from securedelivery.service.session import Session
from securedelivery.store import accounts, audit
from securedelivery.store.accounts import AccountRow
from securedelivery.store.engine import Database, key_file
from securedelivery.store.vault import Vault

HOME = "192.0.2.1"
PASSWORD = "a horse of the battery"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.fixture
def links(shop: Shop) -> OptOut:
    return OptOut(shop.database, shop.clock)


@pytest.fixture
def greta(shop: Shop) -> Session:
    return shop.customer("greta")


def row_of(shop: Shop, session: Session) -> AccountRow:
    with shop.database.read() as tx:
        row = accounts.by_id(tx, session.account_id)
    assert row is not None
    return row


def token(shop: Shop, session: Session, choice: MailChoice = MailChoice.SUMMARIES) -> str:
    return opt_out.token(shop.database.vault, row_of(shop, session), choice)


def audited(shop: Shop) -> list[tuple[object, ...]]:
    with shop.database.read() as tx:
        assert audit.verify(tx) is None
        return [row.entry[1:] for row in audit.everything(tx)]


def unknown(links: OptOut, text: str) -> None:
    for call in (links.look, links.apply):
        with pytest.raises(Refusal) as caught:
            call(text)
        assert (caught.value.reason, caught.value.data) == (Reason.NOT_FOUND, {})
        assert "link" in caught.value.message
        assert not text or text not in caught.value.message


@pytest.mark.parametrize("choice", MailChoice)
def test_it_ends_mail_of_one_kind(shop: Shop, links: OptOut, greta: Session, choice: MailChoice) -> None:
    emil = shop.customer("emil")
    text = token(shop, greta, choice)
    assert links.look(text) == Wish(choice, wanted=True)
    assert links.apply(text) is choice
    assert links.look(text) == Wish(choice, wanted=False)
    wanted = {one.value: one is not choice for one in MailChoice}
    assert shop.accounts.get(greta).mail == MailPreferences(**wanted)
    assert shop.accounts.get(emil).mail == MailPreferences()
    assert audited(shop) == [
        (None, "account.mail_changed", "account:1", f'{{"by":"mail link","{choice}":false}}'),
    ]


def test_looking_changes_nothing(shop: Shop, links: OptOut, greta: Session) -> None:
    before = row_of(shop, greta)
    links.look(token(shop, greta))
    assert row_of(shop, greta) == before
    assert audited(shop) == []


def test_again_is_the_same_and_is_written_down_once(shop: Shop, links: OptOut, greta: Session) -> None:
    text = token(shop, greta)
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(links.apply, [text] * 40)) == {MailChoice.SUMMARIES}
    # Two that both saw it wanted: they come to the writer one behind the other.
    outcomes = shop.database.writer.call(lambda tx, batches: [links._end(tx, batch) for batch in batches], [text, text])
    assert outcomes == [MailChoice.SUMMARIES] * 2
    assert len(audited(shop)) == 1


def test_it_ends_mail_again_where_the_owner_has_wanted_it_again(shop: Shop, links: OptOut, greta: Session) -> None:
    text = token(shop, greta)
    links.apply(text)
    shop.accounts.set_mail("greta", {"summaries": True})
    assert links.look(text).wanted
    links.apply(text)
    assert not shop.accounts.get(greta).mail.summaries


def test_it_holds_for_years_and_whatever_else_becomes_of_the_account(shop: Shop, links: OptOut, greta: Session) -> None:
    text = token(shop, greta)
    shop.clock.forward(days=20 * 365)
    shop.accounts.set_role(None, "greta", Role.COURIER)
    shop.accounts.reset_password("greta", PASSWORD)
    shop.accounts.disable(None, "greta", disabled=True)
    shop.alter(greta, name="Greta", email="greta@elsewhere.example", address="Far away")
    assert token(shop, greta) == text
    assert links.apply(text) is MailChoice.SUMMARIES
    row = row_of(shop, greta)
    assert (row.name, row.email, row.address, row.disabled, row.role) == (
        "Greta", "greta@elsewhere.example", "Far away", 1, Role.COURIER,
    )  # fmt: skip


def test_nothing_of_the_account_changes_but_that(shop: Shop, links: OptOut, greta: Session) -> None:
    before = row_of(shop, greta)
    links.apply(token(shop, greta, MailChoice.MISSED_CHAT))
    assert row_of(shop, greta) == before._replace(mail_missed_chat=False)
    assert shop.events == []


def test_of_a_deleted_account_it_is_worth_nothing(shop: Shop, links: OptOut) -> None:
    greta = shop.accounts.create("greta", PASSWORD, identity=None, remote=HOME)
    text = token(shop, greta)
    shop.privacy.delete(greta, PASSWORD, remote=HOME)
    before = audited(shop)
    unknown(links, text)
    with pytest.raises(Refusal) as caught:  # deleted while it was on its way to the writer
        shop.database.writer.call(links._end, text)
    assert caught.value.reason is Reason.NOT_FOUND
    assert audited(shop) == before


def test_of_another_shop_it_is_worth_nothing(shop: Shop, links: OptOut, greta: Session, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    with Database.open(f"sqlite:///{folder}/shop.db") as database:
        other = Shop(database, Clock(), RewardRules(), tmp_path / "names.txt")
        same = other.customer("greta")
        assert row_of(other, same) == row_of(shop, greta)
        unknown(links, token(other, same))


def test_a_number_that_comes_again_with_a_backup_has_other_links(
    shop: Shop, links: OptOut, greta: Session, tmp_path: Path
) -> None:
    """Emil's account is in no backup; after it was put back, his number is somebody else's."""
    folder = tmp_path / "restored"
    folder.mkdir()
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("VACUUM INTO ?", [str(folder / "shop.db")])
    shutil.copy(key_file(tmp_path / "shop.db"), folder)
    emil = shop.customer("emil")
    of_greta, of_emil = token(shop, greta), token(shop, emil)
    with Database.open(f"sqlite:///{folder}/shop.db") as database:
        clock = Clock()
        clock.forward(days=1)
        restored = Shop(database, clock, RewardRules(), tmp_path / "names.txt")
        fritz = restored.customer("fritz")
        assert fritz.account_id == emil.account_id
        after = OptOut(database, clock)
        unknown(after, of_emil)
        assert after.apply(of_greta) is MailChoice.SUMMARIES


def test_what_is_in_mails_that_have_left_stays_good(shop: Shop) -> None:
    """Never change what this expects: mails are read for years."""
    row = row_of(shop, shop.customer("greta"))._replace(
        id=AccountId(0x01020304050607), created_at="2026-03-01T12:00:00.123456Z"
    )
    vault = Vault(bytes(range(32)))
    assert [opt_out.token(vault, row, choice) for choice in MailChoice] == [
        "AQECAwQFBgcLjVD_DEOJ0tG6y6Boi3Jd", "AgECAwQFBgfUshytA7hLMs88koDeQiIJ", "AwECAwQFBgctzkYczNxFqKOgSxMFigUQ",
    ]  # fmt: skip


def test_it_is_text_that_goes_into_addresses_as_it_is(shop: Shop, greta: Session) -> None:
    for choice in MailChoice:
        text = token(shop, greta, choice)
        assert len(text) == 32
        assert set(text) <= set(ALPHABET)
        assert base64.urlsafe_b64decode(text)[1:8] == (1).to_bytes(7, "big")


def test_kinds_and_accounts_cannot_be_exchanged(shop: Shop, links: OptOut, greta: Session) -> None:
    shop.customer("emil")
    data = base64.urlsafe_b64decode(token(shop, greta, MailChoice.RECEIPTS))
    for head in (b"\2" + data[1:8], b"\1" + (2).to_bytes(7, "big"), b"\0" + data[1:8], b"\xff" * 8, bytes(8)):
        unknown(links, base64.urlsafe_b64encode(head + data[8:]).decode())


@pytest.mark.parametrize("place", range(32))
def test_no_character_can_be_another(shop: Shop, links: OptOut, greta: Session, place: int) -> None:
    text = token(shop, greta)
    for other in set(ALPHABET + "=+/ %\n\0é") - {text[place]}:
        with pytest.raises(Refusal):
            links.look(text[:place] + other + text[place + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "", "=" * 32, "A" * 31, "A" * 33, "A" * 28 + "=" * 4, "A" * 31 + "=", "\0" * 32, "é" * 32, "A" * 100_000,
        "\ud800" * 32, "A" * 32,
    ],
)  # fmt: skip
def test_what_is_no_token(links: OptOut, text: str) -> None:
    unknown(links, text)


def test_a_token_is_not_another_of_more_characters(shop: Shop, links: OptOut, greta: Session) -> None:
    text = token(shop, greta)
    for other in (
        text + "=",
        text + "====",
        f" {text}",
        text + "\n",
        text[:-1],
        text.upper() + "A",
        text[:16] + "!" + text[16:],
    ):
        unknown(links, other)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=40) | st.text(ALPHABET, min_size=32, max_size=32))
def test_any_text(shop: Shop, links: OptOut, text: str) -> None:
    with pytest.raises(Refusal):
        links.look(text)
