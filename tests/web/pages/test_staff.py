"""The pages of agents and couriers."""

from typing import Any

import pytest
from web.pages.reading import Reading
from web.stage import Browser, WebStage

from securedelivery.model import Role
from securedelivery.web.pages import chat, staff


@pytest.fixture(scope="module")
def agent(web: WebStage) -> Browser:
    return web.staff("agent-ada", Role.AGENT)


@pytest.fixture(scope="module")
def other(web: WebStage) -> Browser:
    return web.staff("agent-otto", Role.AGENT)


@pytest.fixture(scope="module")
def courier(web: WebStage) -> Browser:
    return web.staff("courier-cem", Role.COURIER)


def asks(web: WebStage, name: str, *texts: str) -> tuple[Browser, int]:
    """A new customer with a question, and the conversation's number."""
    browser = web.customer(name)
    for number, text in enumerate(texts or ("Hello?",)):
        said = browser.post(
            "/api/chat/messages", json={"text": text}, headers={"Idempotency-Key": f"{name} {number}"}
        ).json()
    return browser, said["conversation"]


def conversation(agent: Browser, number: int, status: str = "assigned") -> dict[str, Any] | None:
    items = agent.get("/api/chat/conversations", params={"status": status, "limit": 200}).json()["items"]
    return next((one for one in items if one["conversation"] == number), None)


# The inbox


@pytest.mark.parametrize("path", ["/inbox", "/inbox/1", "/deliveries"])
def test_not_for_customers(web: WebStage, path: str) -> None:
    browser = web.customer(f"curious-{path.count('/')}{path[1]}")
    assert browser.get(path).status_code == 403
    assert web.client().get(path).headers["location"] == f"/login?next={path}"


def test_couriers_have_no_inbox_and_agents_no_deliveries(agent: Browser, courier: Browser) -> None:
    assert courier.get("/inbox").status_code == 403
    assert agent.get("/deliveries").status_code == 403


def test_an_admin_has_both(web: WebStage) -> None:
    admin = web.staff("admin-ann", Role.ADMIN)
    assert admin.get("/inbox").status_code == 200
    assert admin.get("/deliveries").status_code == 200


def test_who_waits_is_listed(web: WebStage, agent: Browser) -> None:
    _, number = asks(web, "bela", "Hello?", "Anybody?")
    page = Reading(agent.get("/inbox"))
    assert page.links()["bela"] == f"/inbox/{number}"
    assert "longest first" in page.find("p", data_inbox_summary="").text
    [row] = [one.text for one in page.all("li", class_="order-row") if "bela" in one.text]
    assert "2 unread" in row
    assert "2 messages" in row
    assert agent.get("/inbox?tab=nonsense").status_code == 200
    assert agent.get("/inbox?after=nonsense").status_code == 400


def test_a_question_is_answered(web: WebStage, agent: Browser) -> None:
    customer, number = asks(web, "berta", "Is it\nin stock?")
    page = Reading(agent.get(f"/inbox/{number}"))
    assert page.find("h1").text == "berta"
    assert "Is it in stock?" in page.find("*", id="m1").text
    assert page.all("*", data_chat_marks="") == [], "to look is not to read"
    found = conversation(agent, number, "waiting")
    assert found is not None
    assert found["unread"] == 1
    claimed = agent.post(f"/inbox/{number}/claim", data=page.forms[f"/inbox/{number}/claim"].fields)
    assert claimed.headers["location"] == f"/inbox/{number}"
    page = Reading(agent.get(f"/inbox/{number}"))
    assert page.all("*", data_chat_marks="") != []
    found = conversation(agent, number)
    assert found is not None
    assert found["unread"] == 0, "who has it and looks has read it"
    assert f"/inbox/{number}/claim" not in page.forms
    sent = agent.post(f"/inbox/{number}", data={**page.forms[f"/inbox/{number}"].fields, "text": "It is."})
    assert sent.headers["location"] == f"/inbox/{number}#m2"
    assert "It is." in Reading(customer.get("/chat")).find("*", id="m2").text
    done = agent.submit(f"/inbox/{number}/resolve")
    assert done.headers["location"] == f"/inbox?done=resolved&conversation={number}"
    told = Reading(agent.get(done.headers["location"]))
    assert f"Conversation {number} is marked as answered." in told.text
    assert "berta" not in told.links()
    assert "berta" in Reading(agent.get("/inbox?tab=answered")).links()
    page = Reading(agent.get(f"/inbox/{number}"))
    assert page.find("h1").text == "berta"
    assert "another agent, or answered" in page.text


def test_an_answer_takes_the_conversation(web: WebStage, agent: Browser, other: Browser) -> None:
    _, number = asks(web, "bodo")
    assert agent.submit(f"/inbox/{number}", text="Hello.", message_key="bodo 1").status_code == 303
    assert conversation(agent, number) is not None
    page = Reading(other.submit(f"/inbox/{number}", text="Me too", message_key="bodo 2"), 409)
    assert "agent-ada" in page.alert()
    assert page.forms[f"/inbox/{number}"].fields["text"] == "Me too"
    page = Reading(other.submit(f"/inbox/{number}/claim"), 409)
    assert "agent-ada" in page.alert()


def test_given_back_and_handed_over(web: WebStage, agent: Browser, other: Browser) -> None:
    _, number = asks(web, "bruno")
    agent.submit(f"/inbox/{number}/claim")
    released = agent.submit(f"/inbox/{number}/release")
    assert "waits for another agent" in Reading(agent.get(released.headers["location"])).text
    assert conversation(agent, number, "waiting") is not None
    page = Reading(agent.submit(f"/inbox/{number}/transfer", agent="bruno"), 422)
    assert "no agent bruno" in page.error("agent")
    assert page.forms[f"/inbox/{number}/transfer"].fields["agent"] == "bruno"
    handed = agent.submit(f"/inbox/{number}/transfer", agent="agent-otto")
    assert "is with the other agent" in Reading(agent.get(handed.headers["location"])).text
    assert conversation(other, number) is not None
    assert "bruno" in Reading(other.get("/inbox?tab=mine")).links()


def test_an_empty_answer(web: WebStage, agent: Browser) -> None:
    _, number = asks(web, "bianca")
    page = Reading(agent.submit(f"/inbox/{number}", text=" ", message_key="bianca 1"), 422)
    assert "Something is needed" in page.error("text")


def test_an_answer_without_a_key(web: WebStage, agent: Browser) -> None:
    """No form of ours sends it; what is wrong is told all the same."""
    _, number = asks(web, "boris")
    assert Reading(agent.submit(f"/inbox/{number}", text="Hello."), 422).alert()


@pytest.mark.parametrize("number", ["x", "0", "999999", "9" * 400, "-1", "1.5"])
def test_no_such_conversation(agent: Browser, number: str) -> None:
    assert agent.get(f"/inbox/{number}").status_code in (400, 404)
    assert agent.submit(f"/inbox/{number}/claim").status_code in (400, 404)


def test_earlier_messages(web: WebStage, agent: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    _, number = asks(web, "britta", *(f"message {n}" for n in range(1, 5)))
    monkeypatch.setattr(chat, "PAGE", 2)
    page = Reading(agent.get(f"/inbox/{number}"))
    assert page.all("*", id="m2") == []
    page = Reading(agent.get(page.links()["Earlier messages"]))
    assert page.find("*", id="m2").text.endswith("message 2")
    assert page.all("form", data_chat_form="") == []
    assert page.links()["The newest messages"] == f"/inbox/{number}"


def test_the_queue_is_searched_so_far_and_no_further(
    web: WebStage, agent: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [asks(web, f"many-{n}")[1] for n in range(3)]
    monkeypatch.setattr(staff, "SEARCHED_AT_ONCE", 1)
    monkeypatch.setattr(staff, "SEARCHED", 1)
    page = Reading(agent.get(f"/inbox/{numbers[-1]}"))
    assert page.find("h1").text == "many-2", "its messages say whose it is"
    assert "another agent, or answered" in page.text
    monkeypatch.setattr(staff, "SEARCHED", 100)
    assert "Since" in Reading(agent.get(f"/inbox/{numbers[-1]}")).text


def test_the_queue_has_pages(web: WebStage, agent: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(2):
        asks(web, f"paged-{n}")
    monkeypatch.setattr(staff, "PAGE", 1)
    page = Reading(agent.get("/inbox"))
    assert "1 or more customers wait" in page.text
    following = Reading(agent.get(page.links()["More"]))
    assert following.links()["Back to the beginning"] == "/inbox?tab=waiting"


def test_empty_desks(web: WebStage) -> None:
    browser = web.staff("agent-idle", Role.AGENT)
    assert "Nothing is yours" in Reading(browser.get("/inbox?tab=mine")).text


# Deliveries


def to_deliver(web: WebStage, agent: Browser, name: str, courier: str = "courier-cem") -> tuple[int, str]:
    """A packed order that the courier is to deliver, and its code."""
    customer = web.customer(name)
    order = customer.order(("RAM-1", 2), key=name, address=f"7 {name} Lane\nTown")
    number = order["order"]
    steps: list[dict[str, str]] = [
        {"status": "confirmed"},
        {"status": "packed"},
        {"status": "out_for_delivery", "courier": courier},
        {"status": "packed"},
    ]
    for step in steps:
        assert agent.post(f"/api/orders/{number}/status", json=step).status_code == 200
    return number, order["delivery_code"]


def stop(page: Reading, number: int) -> str:
    return page.find("article", id=f"order-{number}").text


def test_nothing_to_deliver(web: WebStage) -> None:
    assert "Nothing to deliver" in Reading(web.staff("courier-idle", Role.COURIER).get("/deliveries")).text


def test_a_delivery(web: WebStage, agent: Browser, courier: Browser) -> None:
    number, code = to_deliver(web, agent, "cora")
    page = Reading(courier.get("/deliveries"))
    shown = stop(page, number)
    for words in ("7 cora Lane", "Memory", "RAM-1", "EUR 199.98", "Packed"):
        assert words in shown
    assert code not in courier.get("/deliveries").text
    assert f"/deliveries/{number}/confirm" not in page.forms
    out = courier.submit(f"/deliveries/{number}/status", status="out_for_delivery")
    assert out.headers["location"] == f"/deliveries?done=out_for_delivery&order={number}#order-{number}"
    page = Reading(courier.get(f"/deliveries?done=out_for_delivery&order={number}"))
    assert f"Order {number} is on its way." in page.text
    back = courier.submit(f"/deliveries/{number}/status", status="packed", note="nobody at home")
    assert "is back" in Reading(courier.get(back.headers["location"])).text
    assert agent.get(f"/api/orders/{number}").json()["history"][-1]["note"] == "nobody at home"
    courier.submit(f"/deliveries/{number}/status", status="out_for_delivery")
    done = courier.submit(f"/deliveries/{number}/confirm", code=code)
    assert done.headers["location"] == f"/deliveries?done=delivered&order={number}"
    page = Reading(courier.get(done.headers["location"]))
    assert f"Order {number} is delivered." in page.text
    assert page.all("article", id=f"order-{number}") == []


def test_a_wrong_code_says_how_many_tries_are_left(web: WebStage, agent: Browser, courier: Browser) -> None:
    number, code = to_deliver(web, agent, "carla")
    courier.submit(f"/deliveries/{number}/status", status="out_for_delivery")
    wrong = "000000" if code != "000000" else "111111"
    for left in (4, 3, 2, 1, 0):
        page = Reading(courier.submit(f"/deliveries/{number}/confirm", code=wrong), 409)
        assert f"{left} of 5 tries are left" in page.error("code")
        assert page.forms[f"/deliveries/{number}/confirm"].fields["code"] == wrong
    locked = Reading(courier.submit(f"/deliveries/{number}/confirm", code=code), 409)
    assert "ask the shop to look at it" in locked.error("code")


def test_what_stands_against_it_is_told_at_the_order(web: WebStage, agent: Browser, courier: Browser) -> None:
    number, _ = to_deliver(web, agent, "clara")
    page = Reading(courier.submit(f"/deliveries/{number}/confirm", code="123456"), 409)
    assert page.alert() in stop(page, number)
    courier.submit(f"/deliveries/{number}/status", status="out_for_delivery")
    page = Reading(courier.submit(f"/deliveries/{number}/status", status="packed", note="n" * 501), 422)
    assert "at most 500 characters" in page.error("note")
    assert page.forms[f"/deliveries/{number}/status"].fields["note"] == "n" * 501
    page = Reading(courier.submit(f"/deliveries/{number}/status", status="nonsense"), 422)
    assert page.alert()
    page = Reading(courier.submit(f"/deliveries/{number}/confirm", code="1" * 33), 422)
    assert "at most 32 characters" in page.error("code")


def test_the_order_of_another_courier(web: WebStage, agent: Browser, courier: Browser) -> None:
    web.staff("courier-cleo", Role.COURIER)
    number, code = to_deliver(web, agent, "conny", "courier-cleo")
    assert f"order-{number}" not in courier.get("/deliveries").text
    page = Reading(courier.submit(f"/deliveries/{number}/confirm", code=code), 404)
    assert f"no order {number}" in page.alert()
    assert courier.submit("/deliveries/x/confirm", code=code).status_code == 404


def test_deliveries_have_pages(web: WebStage, agent: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = web.staff("courier-chris", Role.COURIER)
    first, _ = to_deliver(web, agent, "carsten", "courier-chris")
    second, _ = to_deliver(web, agent, "chloe", "courier-chris")
    browser.submit(f"/deliveries/{first}/status", status="out_for_delivery")
    page = Reading(browser.get("/deliveries"))
    assert [one.get("id") for one in page.all("article")] == [f"order-{first}", f"order-{second}"], "on its way first"
    monkeypatch.setattr(staff, "PAGE", 1)
    page = Reading(browser.get("/deliveries"))
    following = Reading(browser.get(page.links()["More"]))
    assert [one.get("id") for one in following.all("article")] == [f"order-{first}"]
    assert following.links()["Back to the beginning"] == "/deliveries"
    assert browser.get("/deliveries?done=nonsense&order=x").status_code == 200
