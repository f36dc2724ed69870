"""What the mail about missed chat says, from the template as it is sent."""

import re
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from service.post import Post
from service.shop import Clock, Shop

from securedelivery.errors import Unwanted
from securedelivery.mail import missed_chat
from securedelivery.mail.missed_chat import BEGINNING, ChatText
from securedelivery.mail.rendering import WIDTH, Rendered, Templates
from securedelivery.model import MailKind, Message, Role
from securedelivery.service.missed_chat import SHOWN, Missed
from securedelivery.service.rewards import RewardRules
from securedelivery.store.engine import Database

SHOP = "Nuts & Bolts"
TEMPLATES = Templates(None, ZoneInfo("Europe/Berlin"))


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    with Database.open(f"sqlite:///{tmp_path}/shop.db") as database:
        yield Post(Shop(database, Clock(), RewardRules(), tmp_path / "names.txt"))


def filled(found: Missed, chat_text: ChatText = "full", customer: str = "Carol C") -> Rendered:
    made = missed_chat._content(found, chat_text, customer, SHOP)
    return TEMPLATES.render(made.template, made.values)


def rendered(post: Post, chat_text: ChatText = "full") -> Rendered:
    """The mail that is due."""
    assert post.later() == 1
    with post.shop.database.read() as tx:
        made = missed_chat.content(tx, post.waiting()[0], chat_text, shop_name=SHOP)
    return TEMPLATES.render(made.template, made.values)


def message(text: str) -> Message:
    return msgspec.structs.replace(missed_chat._SAMPLE.messages[0], text=text)


def told(text: str) -> Missed:
    return Missed("carol", ["agnes"], 1, [message(text)])


def test_one_message_in_full(post: Post) -> None:
    post.change(post.carol, name="Carol C")
    post.answer("It does.\n\nThe board has <two> such slots & a third.")
    mail = rendered(post)
    assert mail.subject == "Nuts & Bolts has written to you in the chat"
    assert mail.text.startswith(
        "Hello Carol C,\n\n"
        "while you were away, agnes wrote to you in the support chat.\n\n"
        "agnes, 1 March 2026, 13:00 CET\n\n"
        "  It does.\n\n  The board has <two> such slots & a third.\n\n"
        "READ AND ANSWER\n\n  securedelivery chat\n"
    )
    assert "You get this as the customer carol of Nuts & Bolts.\n" in mail.text
    assert "securedelivery account update --no-missed-chat" in mail.text
    assert re.search(r">It does\.(\s|<br>)+The board has &lt;two&gt; such slots &amp; a third\.</td>", mail.html)
    assert "Nuts &amp; Bolts" in mail.html
    assert "follow" not in mail.text + mail.html


def test_the_username_greets_who_gave_no_name(post: Post) -> None:
    post.answer()
    mail = rendered(post)
    assert mail.text.startswith("Hello carol,\n")
    assert "Hello carol, while" in mail.html


def test_the_subject_tells_nothing_of_what_was_said(post: Post) -> None:
    post.answer("a word")
    assert "word" not in rendered(post).subject


def test_beginnings(post: Post) -> None:
    whole, cut = "\u0416" * BEGINNING, "\u042f" * BEGINNING
    post.answer(whole)
    post.answer(f"{cut}\u03a9")
    mail = rendered(post, "beginning")
    for body in (mail.text, mail.html):
        assert whole in body
        assert cut in body
        assert "\u03a9" not in body
    assert f"  {cut}\n  (it goes on)\n" in mail.text
    assert mail.text.count("(it goes on)") == 1
    assert f">{cut} \u2026</td>" in mail.html
    assert f">{whole}</td>" in mail.html


def test_nothing_of_what_was_said_where_the_operator_wants_none(post: Post) -> None:
    adam = post.person("adam", Role.ADMIN)
    post.answer("quarkblende")
    post.release(post.agnes, post.conversation)
    post.answer("zwirnspule", adam)
    mail = rendered(post, "none")
    for body in (mail.text, mail.html, mail.subject):
        assert not re.search("quarkblende|zwirnspule", body)
    assert "while you were away, agnes and adam wrote 2 messages to you in the\nsupport chat.\n\nREAD" in mail.text
    assert "agnes and adam wrote to you in the support chat" in mail.html
    assert "2 messages for you in the chat" in mail.html
    assert "follow" not in mail.text + mail.html


@pytest.mark.parametrize(("more", "words"), [(1, "1 more message follows."), (1_234, "1,234 more messages follow.")])
def test_what_is_not_shown_is_counted(more: int, words: str) -> None:
    mail = filled(Missed("carol", ["agnes"], SHOWN + more, [message("one of many")] * SHOWN))
    assert mail.text.count("one of many") == mail.html.count("one of many") == SHOWN
    assert f"\n\n{words}\n\n" in mail.text
    assert f">{words}<" in mail.html


def test_who_wrote(post: Post) -> None:
    sample = missed_chat._SAMPLE
    names = [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
    names.append((["deleted~1a2b3c4d", "b", "deleted~5e6f7a8b"], "somebody who has left and b"))
    for senders, words in names:
        assert f"away, {words} wrote" in filled(sample._replace(senders=senders)).text
    post.answer()
    post.change(post.agnes, username="deleted~1a2b3c4d")
    mail = rendered(post)
    assert "\nsomebody who has left, 1 March 2026, 13:00 CET\n" in mail.text
    assert "deleted~" not in mail.text + mail.html


def test_what_was_read_is_unwanted(post: Post) -> None:
    up_to = post.answer()
    post.later()
    post.read(post.carol, up_to)
    with post.shop.database.read() as tx, pytest.raises(Unwanted):
        missed_chat.content(tx, post.waiting()[0], "full", shop_name=SHOP)


def test_long_lines_are_folded_and_long_words_are_not_cut() -> None:
    link = "https://shop.example/" + "a-b/" * 40
    mail = filled(told(f"{'word ' * 100}{link}"))
    lines = mail.text.splitlines()
    assert [line for line in lines if len(line) > WIDTH] == [f"  {link}"]


def test_a_message_cannot_pose_as_the_mail_around_it() -> None:
    """Whatever its lines end with, all of them stand further in."""
    evil = "a\r\n-- \rREAD\u2028READ\u0085READ\x0bREAD AND ANSWER"
    mail = filled(told(evil))
    assert re.findall(r"^.*READ.*$", mail.text, re.MULTILINE) == [
        *["  READ"] * 3,
        "  READ AND ANSWER",
        "READ AND ANSWER",
    ]
    assert re.findall("^-- $", mail.text, re.MULTILINE) == ["-- "]


def test_markup_stays_text() -> None:
    mail = filled(told("<script>alert(1)</script>{{ 7 * 7 }}<img src=x>"), customer="<b>Carol</b>")
    assert "<script" not in mail.html
    assert "<img" not in mail.html
    assert "<b>" not in mail.html
    assert "{{ 7 * 7 }}" in mail.html


@settings(deadline=None)
@given(st.text(max_size=300), st.sampled_from(["full", "beginning", "none"]))
def test_whatever_is_said_makes_a_mail(text: str, chat_text: ChatText) -> None:
    mail = filled(told(text), chat_text)
    unsafe = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
    assert not unsafe.search(mail.subject + mail.text + mail.html)
    assert (mail.text + mail.html).encode()


def test_the_sample_shows_all_that_a_template_can_meet() -> None:
    ((name, values),) = missed_chat.samples(None).items()
    assert name == MailKind.MISSED_CHAT
    assert {message["is_cut"] for message in values["messages"]} == {False, True}
    assert values["more"]
    assert set(values) == {"shop", "account", "customer", "count", "senders", "messages", "more", "links"}
