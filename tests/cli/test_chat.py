"""The chat between a customer and an agent, on terminals and in pipes, with a real server."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli.conftest import SECONDS, Person, Shell, Shop, clean_environment
from cli.terminal_driver import CONTROL_C, CONTROL_D, ENTER, LEFT, UP, Terminal
from client.scripted_server import Customer, Listener, customer_script, load_security
from client.test_conversation import message
from client.test_reconnect import ACCOUNT
from end_to_end.server_process import ServerProcess

from securedelivery.client import Client, Profile

Own = Callable[[str, str | None], Shell]


@pytest.fixture
def own_server(tmp_path: Path, shop: Shop) -> Iterator[ServerProcess]:
    """A server that a test may kill."""
    folder = tmp_path / "server"
    folder.mkdir()
    with ServerProcess(folder, shop.folder) as server:
        yield server


@pytest.fixture
def own(tmp_path: Path, shop: Shop, own_server: ServerProcess) -> Own:
    """Somebody's computer, with an account at that server."""

    def make(name: str, role: str | None = None) -> Shell:
        home = tmp_path / name
        home.mkdir()
        own_server.admin("account", "create", name, "--role", role or "customer")
        return Shell(home, clean_environment(home) | profile_of(shop, name, own_server.address))

    return make


def profile_of(shop: Shop, name: str, address: tuple[str, int]) -> dict[str, str]:
    return {
        "SECUREDELIVERY_SERVER": f"{address[0]}:{address[1]}",
        "SECUREDELIVERY_CA": str(shop.folder / "ca.crt"),
        "SECUREDELIVERY_CERT": str(shop.certificate(name)),
    }


def number_of(agent: Shell, customer: str) -> str:
    """The number of a customer's conversation, as it waits in the queue."""
    page = json.loads(agent("support", "queue", "--json", "--limit", "1000").stdout)
    return next(str(one["conversation"]) for one in page["items"] if one["customer"] == customer)


def talking(screen: str) -> list[str]:
    """Who said what, without the times: what both sides must have in common."""
    return re.findall(r"^\d\d:\d\d (\w+: .*?) *$", screen, re.MULTILINE)


# Live, both ways


def test_a_customer_and_an_agent(person: Person) -> None:
    cleo, amir = person("cleo"), person("amir", "agent")
    assert cleo("chat", "Is the", "5070 quiet?").code == 0
    number = number_of(amir, "cleo")
    with contextlib.ExitStack() as stack:
        customer = stack.enter_context(Terminal(cleo, "chat"))
        customer.wait_for("you: Is the 5070 quiet?")
        agent = stack.enter_context(Terminal(amir, "support", "chat", number))
        agent.wait_for("cleo: Is the 5070 quiet?")
        agent.wait_for("Enter sends what you have typed")
        customer.wait_for("amir is here for you.")
        agent.type("Yes, ")
        customer.wait_for("amir is writing ...")
        customer.type("I a")
        agent.wait_for("cleo is writing ...")
        agent.type("it is." + ENTER)
        customer.wait_for("amir: Yes, it is.")
        customer.wait_for("> I a")  # what was begun is still there
        customer.wait_without("amir is writing")
        customer.type("m glad." + ENTER)
        agent.wait_for("cleo: I am glad.")
        agent.wait_without("cleo is writing")
        agent.wait_for("you: Yes, it is.")
        agent.type("/resolve" + ENTER)
        assert agent.end() == 0
        assert f"Conversation {number} is resolved." in agent.screen
        customer.wait_for("The shop has marked this as answered. Write, and it is open again.")
        customer.type("/quit" + ENTER)
        assert customer.end() == 0
        assert customer.usable()
        assert agent.usable()
        said = ["Is the 5070 quiet?", "Yes, it is.", "I am glad."]
        assert talking(customer.screen) == [
            f"{who}: {what}" for who, what in zip(("you", "amir", "you"), said, strict=True)
        ]
        assert talking(agent.screen) == [
            f"{who}: {what}" for who, what in zip(("cleo", "you", "cleo"), said, strict=True)
        ]


def test_both_have_read_what_they_saw(person: Person, shop: Shop) -> None:
    cora, anna = person("cora"), person("anna", "agent")
    cora("chat", given="one\ntwo\n")
    number = number_of(anna, "cora")
    assert anna("support", "chat", number, given="three\n").code == 0
    with shop.enter("anna", "agent") as client:
        (mine,) = [one for one in client.chat_queue(status="assigned").items if one.customer == "cora"]
    assert mine.unread == 0
    assert mine.last_sequence == 3


def test_a_first_question(person: Person) -> None:
    with Terminal(person("cyra"), "chat") as terminal:
        terminal.wait_for("Nothing has been said yet.")
        terminal.type("Hello?" + ENTER)
        terminal.wait_for("you: Hello?")
        terminal.wait_for("An agent answers as soon as one is free.")
        terminal.type(CONTROL_D)
        assert terminal.end() == 0


def test_the_line_can_be_changed_and_comes_back(person: Person) -> None:
    with Terminal(person("cain"), "chat", NO_COLOR="1") as terminal:
        terminal.wait_for("> ")
        terminal.type("helo" + LEFT + "l")
        terminal.wait_for("> hello")
        terminal.type(ENTER)
        terminal.wait_for("you: hello")
        terminal.type(UP + "!" + ENTER)
        terminal.wait_for("you: hello!")
        terminal.type("x" * 200)
        terminal.wait_for("> x")
        assert "\x1b[1m" not in terminal.raw
        assert "\x1b[2m" not in terminal.raw
        assert all(len(row) <= 80 for row in terminal.screen.split("\n"))
        terminal.type("\x15" + CONTROL_D)
        assert terminal.end() == 0


def test_words_that_are_commands_and_some_that_are_not(person: Person) -> None:
    with Terminal(person("cleve"), "chat") as terminal:
        terminal.wait_for("> ")
        terminal.type("/qiut" + ENTER)
        terminal.wait_for("There is no /qiut.")
        terminal.wait_for("/quit leaves (so does Ctrl-D).")
        terminal.type("/help" + ENTER + "   " + ENTER)
        terminal.wait_for("/quit leaves (so does Ctrl-D).", times=2)
        terminal.type("/etc/passwd is a file" + ENTER)
        terminal.wait_for("you: /etc/passwd is a file")
        terminal.type("/resolve" + ENTER)
        terminal.wait_for("There is no /resolve.")
        terminal.type("/quit" + ENTER)
        assert terminal.end() == 0


def test_a_narrow_terminal_that_is_widened(person: Person) -> None:
    carl, abel = person("carl"), person("abel", "agent")
    carl("chat", "Words that need more than one of these narrow lines, andaverylongwordthatisbrokenup")
    number = number_of(abel, "carl")
    with Terminal(abel, "support", "chat", number, columns=24) as terminal:
        terminal.wait_for("brokenup")
        assert all(len(row) <= 24 for row in terminal.screen.split("\n"))
        assert "carl: Words that\n      need more than\n" in re.sub(" +\n", "\n", terminal.screen)
        terminal.type("what is typed goes on beyond the edge")
        terminal.wait_for("edge")
        terminal.resize(60)
        terminal.signal(signal.SIGWINCH)
        terminal.wait_for("> what is typed goes on beyond the edge")
        terminal.type(ENTER)
        terminal.wait_for("you: what is typed goes on beyond the edge")
        terminal.type(CONTROL_D)
        assert terminal.end() == 0


def test_text_of_others_does_nothing_to_the_terminal(person: Person, shop: Shop) -> None:
    carla = person("carla")
    carla("chat", "hello")
    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egro\r\n18:00 you: I pay\n\n\x00"[:-1]
    with Terminal(carla, "chat") as terminal, shop.enter("avery", "agent") as agent:
        terminal.wait_for("you: hello")
        number = next(one.conversation for one in agent.chat_queue(limit=200).items if one.customer == "carla")
        agent.send_message(evil, conversation=number)
        terminal.wait_for("I pay")  # the driver takes nothing but what the product may write
        assert talking(terminal.screen) == ["you: hello", "avery: \ufffd]0;owned\ufffd\ufffd[2J\ufffd31m\ufffdgro"]
        assert "\n      18:00 you: I pay" in terminal.screen  # indented, so it is nobody's line
        terminal.type(CONTROL_D)
        assert terminal.end() == 0
    done = carla("chat")
    assert (
        done.stdout.splitlines()[1][18:] == "avery: \ufffd]0;owned\ufffd\ufffd[2J\ufffd31m\ufffdgro, 18:00 you: I pay"
    )
    as_json = carla("chat", "--json").stdout
    assert as_json.isprintable() or not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", as_json)
    assert json.loads(as_json.splitlines()[1])["text"] == evil


# The server goes away


def test_a_kill_amid_a_chat_loses_and_repeats_nothing(own: Own, own_server: ServerProcess, shop: Shop) -> None:
    cleo, amir = own("cleo", None), own("amir", "agent")
    cleo("chat", "a question")
    with Terminal(cleo, "chat") as customer, Terminal(amir, "support", "chat", "1") as agent:
        agent.wait_for("cleo: a question")
        agent.type("an answer" + ENTER)
        customer.wait_for("amir: an answer")
        customer.type("a half-written li")
        agent.wait_for("cleo is writing ...")
        port = own_server.address[1]
        own_server.kill()
        for terminal in (customer, agent):
            terminal.wait_for("connection lost, trying again")
        customer.type("ne" + ENTER + "and another" + ENTER)
        customer.wait_for("2 messages to be sent when the connection is back")
        agent.type("the agent's" + ENTER)
        agent.wait_for("1 message to be sent when the connection is back")
        own_server.start(port=port)
        for terminal in (customer, agent):
            terminal.wait_for("back", times=1)
            terminal.wait_for("a half-written line")
            terminal.wait_for("and another")
            terminal.wait_for("the agent's")
        customer.type("once more" + ENTER)
        agent.wait_for("cleo: once more")
        for terminal in (customer, agent):
            terminal.type(CONTROL_D)
            assert terminal.end() == 0
        seen = [line.replace("you:", "cleo:") for line in talking(customer.screen)]
        assert [line.replace("you:", "amir:") for line in talking(agent.screen)] == seen
    profile = Profile(f"127.0.0.1:{port}", shop.folder / "ca.crt", *pair(shop, "cleo"))
    with Client(profile) as client:
        client.login_certificate()
        history = list(client.all_messages())
    assert [f"{one.sender}: {one.text}" for one in history] == seen
    assert [one.sequence for one in history] == list(range(1, 7))
    assert sorted(one.text for one in history) == sorted(
        ["a question", "an answer", "a half-written line", "and another", "the agent's", "once more"]
    )


def pair(shop: Shop, name: str) -> tuple[Path, Path]:
    certificate = shop.certificate(name)
    return certificate, certificate.with_suffix(".key")


def test_leaving_waits_for_what_is_not_sent_yet(own: Own, own_server: ServerProcess) -> None:
    cleo = own("cleo", None)
    with Terminal(cleo, "chat") as terminal:
        terminal.wait_for("Nothing has been said yet.")
        port = own_server.address[1]
        own_server.kill()
        terminal.wait_for("connection lost")
        terminal.type("my last words" + ENTER + "/quit" + ENTER)
        terminal.wait_for("What you wrote is sent as soon as the shop is back. Ctrl-C gives it up.")
        own_server.start(port=port)
        assert terminal.end() == 0
    assert cleo("chat").stdout.endswith("cleo: my last words\n")


def test_control_c_gives_up_what_is_not_sent(own: Own, own_server: ServerProcess) -> None:
    with Terminal(own("cleo", None), "chat") as terminal:
        terminal.wait_for("Nothing has been said yet.")
        port = own_server.address[1]
        own_server.kill()
        terminal.wait_for("connection lost")
        terminal.type("my last words" + ENTER)
        terminal.wait_for("1 message to be sent")
        terminal.type(CONTROL_C)
        assert terminal.end() == 130
        assert terminal.usable()
        own_server.start(port=port)


# How it ends


@pytest.mark.parametrize(("how", "code"), [(CONTROL_C, 130), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_chat_leaves_a_usable_terminal(
    customer: Callable[[str], Shell], how: str | signal.Signals, code: int
) -> None:
    shell = customer("cindy")
    shell("account", "create")
    with Terminal(shell, "chat") as terminal:
        terminal.wait_for("> ")
        terminal.type("half a li")
        terminal.wait_for("half a li")
        assert not terminal.usable()
        if isinstance(how, str):
            terminal.type(how)
        else:
            terminal.signal(how)
        assert terminal.end() == code
        assert terminal.usable()
        assert terminal.raw.endswith("\x1b[?2004l")


def test_a_terminal_that_the_shell_has_changed_meanwhile(person: Person) -> None:
    """Ctrl-Z and fg: the shell puts its own modes back."""
    with Terminal(person("cody"), "chat", real=True) as terminal:
        terminal.wait_for("> ")
        terminal.type("half")
        terminal.wait_for("> half")
        terminal.signal(signal.SIGSTOP)
        os.waitpid(terminal.process.pid, os.WUNTRACED)
        termios.tcsetattr(terminal._slave, termios.TCSANOW, terminal.attributes)
        terminal.signal(signal.SIGCONT)
        terminal.wait_for_modes()
        terminal.type(" a line" + ENTER)
        terminal.wait_for("you: half a line")
        terminal.type(CONTROL_D)
        assert terminal.end() == 0
        assert terminal.usable()


def test_an_account_that_is_disabled_amid_a_chat(own: Own, own_server: ServerProcess, shop: Shop) -> None:
    own("cleo", None)
    own("root", "admin")
    shell = Shell(
        own_server.folder, clean_environment(own_server.folder) | profile_of(shop, "cleo", own_server.address)
    )
    with Terminal(shell, "chat") as terminal:
        terminal.wait_for("Nothing has been said yet.")
        profile = Profile(f"127.0.0.1:{own_server.address[1]}", shop.folder / "ca.crt", *pair(shop, "root"))
        with Client(profile) as admin:
            admin.login_certificate()
            admin.disable_account("cleo")
        assert terminal.end() == 1
        assert "error: " in terminal.screen
        assert "hint: ask the operator" in terminal.screen
        assert terminal.usable()


# Pipes


def test_lines_of_a_pipe_are_messages(person: Person) -> None:
    cain = person("cass")
    done = cain("chat", given="one\ntwo\r\n\n  three  ")
    assert (done.stderr, done.code) == ("", 0)
    lines = done.stdout.splitlines()
    assert [line[18:] for line in lines] == ["cass: one", "cass: two", "cass: three"]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d  cass: ", line) for line in lines)
    again = cain("chat", "--after", "1", "--json")
    assert [json.loads(line)["text"] for line in again.stdout.splitlines()] == ["two", "three"]
    assert set(json.loads(again.stdout.splitlines()[0])) == {
        "conversation", "sequence", "sender", "role", "text", "at", "message_key",
    }  # fmt: skip
    assert cain("chat", given="four\n/quit\nfive\n").stdout.count("\n") == 4


def test_one_message(person: Person) -> None:
    caro = person("caro")
    done = caro("chat", "Is it", "there?")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d  caro: Is it there\?\n", done.stdout)
    assert (done.stderr, done.code) == ("", 0)
    assert json.loads(caro("chat", "--json", "And now?").stdout)["sequence"] == 2
    assert caro("chat", " ").stderr == "error: TEXT: there is nothing in it\nhint: leave it out to see what was said\n"
    done = caro("chat", "x" * 4_001)
    assert (done.stderr, done.code) == (
        "error: TEXT: a message has at most 4,000 characters\nhint: send it in parts\n",
        2,
    )


def test_what_is_refused_in_a_pipe_is_told(person: Person) -> None:
    done = person("cole")("chat", given="one\n" + "x" * 4_001 + "\ntwo\n")
    assert done.code == 1
    assert done.stderr == "error: not sent: a message has at most 4,000 characters; this one has 4,001\n"
    assert [line[24:] for line in done.stdout.splitlines()] == ["one", "two"]


def test_a_pipe_that_stays_open_hears_what_is_said(person: Person, shop: Shop) -> None:
    shell = person("cato")
    process = subprocess.Popen(
        [sys.executable, "-m", "securedelivery", "chat", "--json"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=shell.environment, cwd=shell.home,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("a question\n")
    process.stdin.flush()
    asked = json.loads(process.stdout.readline())
    assert (asked["sender"], asked["sequence"]) == ("cato", 1)
    with shop.enter("aldo", "agent") as agent:
        agent.send_message("an answer", conversation=asked["conversation"])
    assert json.loads(process.stdout.readline())["text"] == "an answer"
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert (stdout, stderr, process.returncode) == ("", "", 0)


def test_a_dumb_terminal_is_read_line_by_line(person: Person) -> None:
    with Terminal(person("cliff"), "chat", TERM="dumb") as terminal:
        terminal.type("hello" + ENTER)
        terminal.wait_for("cliff: hello")
        assert "\x1b" not in terminal.raw
        terminal.type(CONTROL_D)
        assert terminal.end() == 0


def test_without_stdin_the_history_is_shown(person: Person) -> None:
    shell = person("cosmo")
    shell("chat", "hello")
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m securedelivery chat <&-', sys.executable],
        capture_output=True, text=True, env=shell.environment, cwd=shell.home, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.stdout.endswith("cosmo: hello\n")
    assert (done.stderr, done.returncode) == ("", 0)


def scripted(shop: Shop, *scripts: Callable[[Customer], None]) -> Listener:
    security = load_security(shop.folder)
    return Listener(*(customer_script(security, script) for script in scripts))


def history(*messages: dict[str, object]) -> dict[str, object]:
    return {"items": list(messages), "next": None, "last": len(messages)}


def test_a_pipe_does_not_wait_for_ever(shell: Shell, shop: Shop) -> None:
    """The server is gone when the message is sent."""

    def script(customer: Customer) -> None:
        customer.greet(identity="spiffe://shop.test/account/alice")
        customer.answer(customer.request("account.login_certificate")[0], ACCOUNT)
        while customer.request()[0] is not None and customer.heard[-1] != "chat.send":
            pass
        listener._listener.close()

    with scripted(shop, script) as listener:
        shell.environment |= profile_of(shop, "alice", ("localhost", listener.port))
        done = shell("--timeout", "0.5", "chat", given="one\ntwo\n")
    assert done.code == 3
    assert "error: " in done.stderr
    assert "it is not known whether this was sent: one (1 message behind it was not)" in done.stderr
    assert "hint: see what has arrived: securedelivery chat\n" in done.stderr


# Agents


def test_a_conversation_that_is_not_there(person: Person) -> None:
    done = person("adam", "agent")("support", "chat", "999999")
    assert done.code == 1
    assert done.stderr.endswith("hint: see which there are: securedelivery support queue\n")


def test_a_conversation_of_another_agent(person: Person) -> None:
    cruz, abby, axel = person("cruz"), person("abby", "agent"), person("axel", "agent")
    cruz("chat", "hello")
    number = number_of(abby, "cruz")
    assert abby("support", "chat", number).stdout.endswith("cruz: hello\n")  # and keeps it
    done = axel("support", "chat", number)
    assert done.code == 1
    assert "abby" in done.stderr


def test_an_agent_gives_it_back(person: Person) -> None:
    cora, aron = person("corin"), person("aron", "agent")
    cora("chat", "hello")
    number = number_of(aron, "corin")
    done = aron("support", "chat", number, given="just a moment\n/release\n")
    assert (done.stderr, done.code) == (f"Conversation {number} waits for another agent.\n", 0)
    assert number_of(aron, "corin") == number


def test_a_conversation_that_goes_to_another(person: Person, shop: Shop) -> None:
    cyd, alma = person("cyd"), person("alma", "agent")
    person("ashe", "agent")
    cyd("chat", "hello")
    number = number_of(alma, "cyd")
    with Terminal(alma, "support", "chat", number) as terminal, shop.enter("root", "admin") as admin:
        terminal.wait_for("cyd: hello")
        admin.transfer(int(number), "ashe")
        assert terminal.end() == 0
        assert "The conversation is with ashe now." in terminal.screen


def test_what_an_agent_may_not_say_any_more_stays_in_the_line(person: Person, shop: Shop) -> None:
    """The agent hears of it later than the server."""
    taken = {"conversation": 3, "customer": "cleo", "status": "assigned", "agent": "alice", "unread": 0,
             "last_sequence": 1, "waiting_since": None}  # fmt: skip

    def script(customer: Customer) -> None:
        from securedelivery.errors import Reason
        from securedelivery.protocol.connection import CloseReceived

        customer.greet(identity="spiffe://shop.test/account/alice")
        answers = {"account.login_certificate": ACCOUNT, "chat.claim": taken, "chat.history": history(message(1))}
        while not isinstance(event := customer.event(), CloseReceived):
            if event.method == "chat.send":
                customer.say(
                    customer.core.send_error(event.id, Reason.CONVERSATION_TAKEN, "kim has it", {"agent": "kim"})
                )
            else:
                customer.answer(event.id, answers.get(event.method, {}))
        customer.close()

    shell = person("alice2")
    with scripted(shop, script) as listener:
        shell.environment |= profile_of(shop, "alice", ("localhost", listener.port))
        with Terminal(shell, "support", "chat", "3") as terminal:
            terminal.wait_for("bob: hello")
            terminal.type("let me see" + ENTER)
            terminal.wait_for("error: not sent: kim has it")
            terminal.wait_for("> let me see")
            terminal.type("\x15" + CONTROL_D)
            assert terminal.end() == 0
        done = shell("support", "chat", "3", given="let me see\n")
        assert (done.stderr, done.code) == ("error: not sent: kim has it\n", 1)


@pytest.mark.parametrize("still", [True, False])
def test_an_agent_who_was_away_asks_whether_it_is_still_theirs(person: Person, shop: Shop, *, still: bool) -> None:
    taken = {"conversation": 3, "customer": "cleo", "status": "assigned", "agent": "alice", "unread": 0,
             "last_sequence": 1, "waiting_since": None}  # fmt: skip
    other = {**taken, "conversation": 4}
    pages = {None: {"items": [other], "next": "more"}, "more": {"items": [taken] if still else [], "next": None}}

    def first(customer: Customer) -> None:
        customer.greet(identity="spiffe://shop.test/account/alice")
        customer.answer(customer.request("account.login_certificate")[0], ACCOUNT)
        customer.answer(customer.request("chat.claim")[0], taken)
        customer.answer(customer.request("chat.history")[0], history(message(1)))
        customer.answer(customer.request("chat.mark_read")[0], {})

    def second(customer: Customer) -> None:
        from securedelivery.protocol.connection import CloseReceived

        customer.greet(identity="spiffe://shop.test/account/alice")
        while not isinstance(event := customer.event(), CloseReceived):
            import msgspec

            params = msgspec.json.decode(event.params)
            results = {
                "account.login_certificate": lambda _params: ACCOUNT,
                "chat.queue": lambda params: pages[params.get("after")],
                "chat.history": lambda _params: history(),
            }
            customer.answer(event.id, results.get(event.method, lambda _params: {})(params))
        customer.close()

    shell = person("alice3" if still else "alice4")
    with scripted(shop, first, second) as listener:
        shell.environment |= profile_of(shop, "alice", ("localhost", listener.port))
        with Terminal(shell, "support", "chat", "3") as terminal:
            terminal.wait_for("connection lost, trying again")
            terminal.wait_for("back")
            if still:
                terminal.type(CONTROL_D)
            assert terminal.end() == 0
            assert ("The conversation is not yours any more." in terminal.screen) is not still


def test_time_goes_by(person: Person) -> None:
    """Nothing is polled: a chat in which nothing happens costs no time of a processor."""
    with Terminal(person("calm"), "chat") as terminal:
        terminal.wait_for("Nothing has been said yet.")
        before = spent(terminal.process.pid)
        terminal.type("x")
        terminal.wait_for("> x")
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            terminal._read(0.2)
        assert spent(terminal.process.pid) - before < 0.3
        terminal.type("\x7f" + CONTROL_D)
        assert terminal.end() == 0


def spent(pid: int) -> float:
    """Seconds of processor time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
