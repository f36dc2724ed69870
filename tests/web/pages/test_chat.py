"""The customer's side of the chat, by forms alone."""

import pytest
from web.pages.reading import Reading
from web.stage import Browser, WebStage

from securedelivery.model import Role
from securedelivery.web.pages import chat


@pytest.fixture(scope="module")
def kim(web: WebStage) -> Browser:
    return web.staff("kim-of-chat", Role.AGENT)


def conversation_of(agent: Browser, customer: str) -> int:
    items = agent.get("/api/chat/conversations?limit=200").json()["items"]
    [number] = [one["conversation"] for one in items if one["customer"] == customer]
    assert isinstance(number, int)
    return number


def answer(agent: Browser, conversation: int, text: str, key: str) -> None:
    body = {"text": text, "conversation": conversation}
    answered = agent.post("/api/chat/messages", json=body, headers={"Idempotency-Key": key})
    assert answered.status_code == 201, answered.text


def say(browser: Browser, text: str) -> int:
    """By the form, as it stands in the page. Returns the sequence."""
    form = Reading(browser.get("/chat")).forms["/chat"]
    sent = browser.post("/chat", data={**form.fields, "text": text})
    assert sent.status_code == 303
    return int(sent.headers["location"].removeprefix("/chat#m"))


def test_nothing_said_yet(web: WebStage) -> None:
    page = Reading(web.customer("hugo").get("/chat"))
    assert "Nothing has been said yet" in page.text
    log = page.find("*", role="log")
    assert (log.get("data-live-after"), log.get("data-me"), log.get("data-conversation")) == ("0", "hugo", "")


def test_a_conversation(web: WebStage, kim: Browser) -> None:
    browser = web.customer("hilda")
    assert say(browser, "Is it\r\nin stock?") == 1
    page = Reading(browser.get("/chat"))
    assert "You" in page.find("*", id="m1").text
    assert "Is it in stock?" in page.find("*", id="m1").text
    number = conversation_of(kim, "hilda")
    answer(kim, number, "It is.", "hilda 1")
    page = Reading(browser.get("/chat"))
    assert "kim-of-chat" in page.find("*", id="m2").text
    log = page.find("*", role="log")
    assert (log.get("data-live-after"), log.get("data-conversation")) == ("2", str(number))
    assert page.forms["/chat"].fields["text"] == ""


def test_what_is_new_is_marked_once(web: WebStage, kim: Browser) -> None:
    browser = web.customer("heidi")
    say(browser, "Hello?")
    browser.get("/chat")
    number = conversation_of(kim, "heidi")
    answer(kim, number, "Hello.", "heidi 1")
    answer(kim, number, "How can I help?", "heidi 2")
    page = Reading(browser.get("/chat"))
    assert page.find("*", id="new").text == "2 new"
    assert page.title.startswith("(2) ")
    again = Reading(browser.get("/chat"))
    assert again.all("*", id="new") == []
    assert "(" not in again.title


def test_looking_marks_it_read(web: WebStage, kim: Browser) -> None:
    browser = web.customer("hanno")
    say(browser, "Hello?")
    number = conversation_of(kim, "hanno")
    answer(kim, number, "Hello.", "hanno 1")

    def unread() -> int:
        with web.shop.database.read() as tx:
            from securedelivery.store import chat as stored

            return stored.find(tx, [number], [])[0].customer_unread

    assert unread() == 1
    browser.get("/chat?before=2")
    assert unread() == 1, "what was before it says nothing of what came last"
    browser.get("/chat")
    assert unread() == 0


def test_the_cookie_of_somebody_else_counts_nothing(web: WebStage, kim: Browser) -> None:
    browser = web.customer("hedwig")
    say(browser, "Hello?")
    answer(kim, conversation_of(kim, "hedwig"), "Hello.", "hedwig 1")
    for value in ("hugo:1", "hedwig", "hedwig:x", "nonsense"):
        browser.cookies.set(chat.READ_COOKIE, value, domain="localhost.local")
        page = Reading(browser.get("/chat"))
        assert page.find("*", id="new").text == "1 new"
        browser.cookies.delete(chat.READ_COOKIE)


def test_the_same_form_twice_is_one_message(web: WebStage) -> None:
    browser = web.customer("iris")
    form = Reading(browser.get("/chat")).forms["/chat"]
    sent = [browser.post("/chat", data={**form.fields, "text": "Once"}) for _ in range(2)]
    assert [one.headers["location"] for one in sent] == ["/chat#m1", "/chat#m1"]
    other = Reading(browser.post("/chat", data={**form.fields, "text": "Another"}), 409)
    assert "sent this form before" in other.alert()
    form = other.forms["/chat"]
    assert form.fields["text"] == "Another"
    assert browser.post("/chat", data=form.fields).headers["location"] == "/chat#m2", "sent again, it goes"


def test_a_message_that_is_none(web: WebStage) -> None:
    browser = web.customer("ida")
    empty = Reading(browser.submit("/chat", text="  \r\n ", message_key="ida 1"), 422)
    assert "Something is needed" in empty.error("text")
    long = Reading(browser.submit("/chat", text="a" * 4_001, message_key="ida 2"), 422)
    assert "at most 4000 characters" in long.error("text")
    assert long.forms["/chat"].fields["text"] == "a" * 4_001
    assert Reading(browser.get("/chat")).find("textarea").get("maxlength") == "4000"


def test_what_somebody_has_answered_to_is_not_new(web: WebStage, kim: Browser) -> None:
    browser = web.customer("herta")
    say(browser, "Hello?")
    answer(kim, conversation_of(kim, "herta"), "Hello.", "herta 1")
    elsewhere = web.client()
    elsewhere.log_in("herta")
    elsewhere.post("/api/chat/messages", json={"text": "Is it in stock?"}, headers={"Idempotency-Key": "herta 2"})
    assert Reading(browser.get("/chat")).all("*", id="new") == []


def test_messages_that_do_not_fit_a_frame(web: WebStage) -> None:
    browser = web.customer("holly")
    for number in range(20):
        body = {"text": f"{number} {'a' * 3_900}"}
        browser.post("/api/chat/messages", json=body, headers={"Idempotency-Key": f"holly {number}"})
    page = Reading(browser.get("/chat"))
    assert [f"m{n}" for n in range(1, 21)] == [one.get("id") for one in page.all("div", class_="message message-ours")]


def test_a_long_conversation_has_pages(web: WebStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "PAGE", 3)
    browser = web.customer("ines")
    for number in range(1, 8):
        body = {"text": f"message {number}"}
        browser.post("/api/chat/messages", json=body, headers={"Idempotency-Key": f"ines {number}"})

    def shown(page: Reading) -> list[str]:
        return [one.get("id") for one in page.elements if one.get("id").startswith("m") and one.get("id")[1:].isdigit()]

    page = Reading(browser.get("/chat"))
    assert shown(page) == ["m5", "m6", "m7"]
    page = Reading(browser.get(page.links()["Earlier messages"]))
    assert shown(page) == ["m2", "m3", "m4"]
    assert "/chat" not in page.forms, "what is said comes at the end"
    assert page.links()["The newest messages"] == "/chat"
    page = Reading(browser.get(page.links()["Earlier messages"]))
    assert shown(page) == ["m1"]
    assert "Earlier messages" not in page.links()
    for odd in ("x", "-1", "0", "9" * 30):
        assert browser.get(f"/chat?before={odd}").status_code == 200


def test_only_for_those_who_are_logged_in(web: WebStage) -> None:
    browser = web.client()
    assert browser.get("/chat?before=3").headers["location"] == "/login?next=/chat%3Fbefore%3D3"
    assert browser.post("/chat", data={"text": "Hello?"}).headers["location"] == "/login"


def test_markup_is_words(web: WebStage) -> None:
    browser = web.customer("ilka")
    evil = "</p><script>alert(1)</script><img src=x onerror=alert(1)>"
    say(browser, evil)
    answer = browser.get("/chat")
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text
    assert evil in Reading(answer).find("*", id="m1").text
