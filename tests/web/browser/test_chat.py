"""The chat: a customer and an agent in browsers, the customer on a terminal as well, and lines that break."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Shell, clean_environment
from cli.terminal_driver import CONTROL_D, ENTER, Terminal
from web.browser import steps
from web.browser.chromium import Visitor, expect
from web.browser.conftest import Staff, Visit
from web.browser.line import Line
from web.browser.process import PASSWORD, Api, WebProcess

BROKEN = [r"WebSocket connection to '.*' failed", r"net::ERR_(CONNECTION_(RESET|REFUSED|CLOSED)|EMPTY_RESPONSE)"]
CONNECTED, LOST = "Connected", "The connection is lost"


@pytest.fixture
def line(shop: WebProcess) -> Iterator[Line]:
    with Line(("127.0.0.1", shop.web_port)) as line:
        yield line


@pytest.fixture
def terminal(tmp_path: Path, shop: WebProcess, api: Api, name: str) -> Iterator[Terminal]:
    """The customer's, by the socket door; the same customer as the one of `name`."""
    shell = Shell(
        tmp_path,
        clean_environment(tmp_path)
        | {
            "SECUREDELIVERY_SERVER": f"127.0.0.1:{shop.address[1]}",
            "SECUREDELIVERY_CA": str(shop.certs / "ca.crt"),
            "SECUREDELIVERY_USER": name,
            "SECUREDELIVERY_PASSWORD": PASSWORD,
        },
    )
    with Terminal(shell, "chat") as terminal:
        terminal.wait_for("> ")
        yield terminal


def open_chat(visitor: Visitor, path: str = "/chat") -> Any:
    visitor.forgiven += BROKEN
    visitor.page.goto(path)
    expect(visitor.page.locator("[data-live-state]").first).to_contain_text(CONNECTED)
    return visitor.page


def claim(agent: Any, customer: str) -> None:
    """From the inbox: look at what the customer has asked, and take it."""
    agent.goto("/inbox")
    agent.get_by_role("main").get_by_role("link", name=customer, exact=True).click()
    agent.wait_for_url(re.compile(r"/inbox/\d+"))
    agent.locator("form[action$='/claim']").get_by_role("button").click()
    expect(agent.locator("form[action$='/claim']")).to_have_count(0)
    expect(agent.locator("[data-live-state]").first).to_contain_text(CONNECTED)


def sees(page: Any, *texts: str) -> None:
    """All of that, in that order, and nothing else: nothing is lost, and nothing is there twice."""
    expect(page.locator("[data-chat] .message-text")).to_have_text(list(texts))


def shows(terminal: Terminal, *texts: str) -> None:
    for text in texts:
        terminal.wait_for(f": {text}")
    said = re.findall(r"^\d\d:\d\d \w+: (.*?) *$", terminal.screen, re.MULTILINE)
    assert said == list(texts)


def test_three_talk_and_their_lines_break(
    *, visit: Visit, staff: Staff, shop: WebProcess, line: Line, api: Api, name: str, terminal: Terminal
) -> None:
    customer = open_chat(visit(name, new=False, url=line.site))
    agent_visitor = staff("agnes", "agent")
    agent = open_chat(agent_visitor, "/inbox")
    said = ["one, in the browser"]
    steps.say(customer, said[0])
    expect(agent.get_by_role("main")).to_contain_text(name)  # it comes by itself
    claim(agent, name)
    sees(agent, *said)
    said += ["two, by the agent", "three, on the terminal"]
    steps.say(agent, said[1])
    terminal.wait_for(f": {said[1]}")
    terminal.type(said[2] + ENTER)
    for page in (customer, agent):
        sees(page, *said)

    # The customer's browser alone loses its line; the other two go on.
    line.cut()
    expect(customer.locator("[data-live-state]").first).to_contain_text(LOST)
    said += ["four, by the agent meanwhile", "five, on the terminal meanwhile"]
    steps.say(agent, said[3])
    terminal.wait_for(f": {said[3]}")
    terminal.type(said[4] + ENTER)
    sees(agent, *said)
    steps.say(customer, "six, in the browser without a line")
    sees(customer, *said[:3], "six, in the browser without a line")
    line.mend()
    said += ["six, in the browser without a line"]
    for page in (customer, agent):
        sees(page, *said)
    shows(terminal, *said)

    # The shop goes down, amid what all three are saying, and comes back.
    shop.kill()
    for page in (customer, agent):
        expect(page.locator("[data-live-state]").first).to_contain_text(LOST)
    terminal.wait_for("connection lost, trying again")
    steps.say(customer, "seven, in the browser")
    terminal.type("seven, on the terminal" + ENTER)
    terminal.wait_for("1 message to be sent when the connection is back")
    steps.say(agent, "seven, by the agent")
    shop.start(port=shop.address[1])
    late = {"seven, in the browser", "seven, on the terminal", "seven, by the agent"}
    for page in (customer, agent):
        expect(page.locator("[data-chat] .message-text")).to_have_count(9)
        expect(page.locator(".message-pending")).to_have_count(0)
    terminal.wait_for(": seven", times=3)
    history = api.get("/api/chat/messages?limit=200").json()["items"]
    texts = [one["text"] for one in history]
    assert texts[:6] == said
    assert set(texts[6:]) == late
    assert [one["sequence"] for one in history] == list(range(1, 10))
    for page in (customer, agent):
        sees(page, *texts)
    shows(terminal, *texts)
    terminal.type(CONTROL_D)
    assert terminal.end() == 0
    customer.reload()
    sees(customer, *texts)
    assert line.cuts > 0


def test_a_line_that_breaks_again_and_again(
    *, visit: Visit, staff: Staff, line: Line, api: Api, name: str, terminal: Terminal
) -> None:
    """Cut with every word: between the sending and its answer, too."""
    customer = open_chat(visit(name, new=False, url=line.site))
    steps.say(customer, "word 0")
    agent = open_chat(staff("agatha", "agent"), "/inbox")
    claim(agent, name)
    for number in range(1, 6):
        steps.say(customer, f"word {number}")
        line.cut()
        steps.say(agent, f"answer {number}")
        terminal.wait_for(f": answer {number}")
        line.mend()
        expect(customer.locator("[data-live-state]").first).to_contain_text(CONNECTED)
        expect(customer.locator(".message-pending")).to_have_count(0)
        terminal.wait_for(f": word {number}")
    history = api.get("/api/chat/messages?limit=200").json()["items"]
    texts = [one["text"] for one in history]
    assert sorted(texts) == sorted(["word 0", *(f"{kind} {n}" for n in range(1, 6) for kind in ("word", "answer"))])
    assert [text for text in texts if text.startswith("word")] == [f"word {number}" for number in range(6)]
    sees(customer, *texts)
    sees(agent, *texts)
    shows(terminal, *texts)


def test_what_is_unread_is_marked(visit: Visit, staff: Staff, name: str) -> None:
    visitor = visit(name)
    customer = open_chat(visitor)
    steps.say(customer, "a question")
    agent = open_chat(staff("alma", "agent"), "/inbox")
    claim(agent, name)
    elsewhere = visitor.context.new_page()
    elsewhere.goto("/rewards")
    support = elsewhere.get_by_role("link", name=re.compile("^Support"))
    customer.goto("/basket")
    steps.say(agent, "an answer")
    expect(support).to_have_accessible_name("Support, 1 unread")
    steps.say(agent, "and another")
    expect(support).to_have_accessible_name("Support, 2 unread")
    expect(elsewhere).to_have_title(re.compile(r"^\(2\)"))
    support.click()
    sees(elsewhere, "a question", "an answer", "and another")
    expect(elsewhere.get_by_role("link", name=re.compile("^Support"))).to_have_accessible_name("Support")


def test_who_is_writing_is_seen(visit: Visit, staff: Staff, name: str) -> None:
    customer = open_chat(visit(name))
    steps.say(customer, "a question")
    agent = open_chat(staff("ada", "agent"), "/inbox")
    claim(agent, name)
    agent.locator("form[data-chat-form] [name=text]").press_sequentially("An ans")
    expect(customer.get_by_text("ada is writing")).to_be_visible()
    agent.locator("form[data-chat-form] [name=text]").press("Enter")
    sees(customer, "a question", "An ans")
    expect(customer.get_by_text("ada is writing")).to_have_count(0)


def test_it_goes_without_javascript(visit: Visit, staff: Staff, name: str) -> None:
    visitor = visit(name, java_script_enabled=False)
    customer = visitor.page
    customer.goto("/chat")
    steps.say(customer, "a question, with the form")
    sees(customer, "a question, with the form")
    agent = open_chat(staff("alva", "agent"), "/inbox")
    claim(agent, name)
    steps.say(agent, "an answer")
    sees(agent, "a question, with the form", "an answer")
    customer.goto("/chat")
    sees(customer, "a question, with the form", "an answer")
