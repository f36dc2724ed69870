"""Transcripts of `securedelivery admin account|order|audit`, beside a server that runs."""

import hashlib
import json
import re
import shutil
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Done, Person, Shell, Shop, clean_environment, fails, said
from cli.terminal_driver import CONTROL_D, ENTER, Terminal
from cli.test_orders import place
from end_to_end.server_process import ServerProcess

from securedelivery.client import Client, Notification
from securedelivery.errors import Refusal
from securedelivery.store.chain import AuditEntry, AuditRow, examine

REACHED_SECONDS = 5.0
"""The promise for open connections."""

Operator = Callable[..., Done]


@pytest.fixture
def operator(shell: Shell, shop: Shop) -> Operator:
    """`securedelivery admin ...` on the database of the server that requires certificates."""

    def run(*arguments: str, **options: str) -> Done:
        return shell("admin", *arguments, *shop.server.admin_flags, **options)

    return run


def without_times(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d(T[\d:.]+Z| \d\d:\d\d)?", "TIME", text)


# Accounts


def test_the_list_of_accounts_fits_80_columns(operator: Operator, person: Person) -> None:
    person("lisa.list1")
    person("lisa.list2", "courier")
    done = operator("account", "list", "lisa.")
    assert without_times(done.stdout).splitlines() == [
        "ACCOUNT     ROLE      LOGS IN BY   ORDERS  TIER    SINCE",
        "lisa.list1  customer  certificate       0  bronze  TIME",
        "lisa.list2  courier   certificate       0  bronze  TIME",
    ]
    assert (done.stderr, done.code) == ("", 0)
    assert operator("account", "list", "LISA.").stdout == done.stdout


def test_who_is_locked_out_shows(operator: Operator, person: Person) -> None:
    for name in ("lock.a", "lock.b", "lock.c"):
        person(name)
    operator("account", "disable", "lock.b")
    operator("account", "require-certificate", "lock.c")
    done = operator("account", "list", "lock.")
    ways = [line.split()[2:4] for line in done.stdout.splitlines()[1:]]
    assert ways == [["certificate", "0"], ["(disabled)", "0"], ["certificate", "only"]]
    notes = [operator("account", "show", name).stderr for name in ("lock.a", "lock.b", "lock.c")]
    assert notes == [
        "",
        "lock.b is disabled: securedelivery admin account disable lock.b --enable\n",
        "lock.c can log in by certificate alone\n",
    ]


def test_a_long_list_goes_on_where_it_ended(operator: Operator, person: Person) -> None:
    for number in range(3):
        person(f"paged{number}")
    first = operator("account", "list", "paged", "--limit", "2", "--json")
    page = json.loads(first.stdout)
    assert [one["username"] for one in page["items"]] == ["paged0", "paged1"]
    done = operator("account", "list", "paged", "--after", page["next"], "--json")
    assert [one["username"] for one in json.loads(done.stdout)["items"]] == ["paged2"]
    assert json.loads(done.stdout)["next"] is None
    assert operator("account", "list", "paged", "--limit", "2").stderr == (
        f"There are more: --limit NUMBER, or go on with --after {page['next']}\n"
    )
    assert said(operator("account", "list", "--after", "nonsense")) == fails(
        "not a cursor of this list; pass on `next` as it was given", "give --after CURSOR cursor as it was printed", 1
    )


def test_nobody_of_that_name(operator: Operator) -> None:
    assert said(operator("account", "list", "nobody-has-this")) == (
        "",
        'No account whose name has "nobody-has-this" in it.\n',
        0,
    )
    assert json.loads(operator("account", "list", "nobody-has-this", "--json").stdout) == {"items": [], "next": None}


def test_a_shop_without_accounts(shell: Shell) -> None:
    (shell.home / "parts.csv").write_text("sku,name,price\nA-1,A,1.00\n")
    shell("admin", "catalog", "import", "parts.csv", "--database", "sqlite:///new.db")
    assert said(shell("admin", "account", "list", "--database", "sqlite:///new.db")) == ("", "No accounts yet.\n", 0)
    assert said(shell("admin", "order", "list", "--database", "sqlite:///new.db")) == ("", "No orders.\n", 0)
    done = shell("admin", "audit", "list", "--action", "login", "--database", "sqlite:///new.db")
    assert said(done) == ("", "Nothing of the kind has happened.\n", 0)


def test_one_account(operator: Operator, person: Person) -> None:
    person("shona", address="12 Shown Street")
    done = operator("account", "show", "shona")
    assert "Address      12 Shown Street\n" in done.stdout
    assert (done.stderr, done.code) == ("", 0)
    account = json.loads(operator("account", "show", "shona", "--json").stdout)
    assert (account["username"], account["address"]) == ("shona", "12 Shown Street")
    viewed = json.loads(operator("audit", "list", "--account", "shona", "--action", "account.viewed", "--json").stdout)
    assert [(one["actor"], one["subject"]) for one in viewed["items"]] == [("operator", "account:shona")] * 2


@pytest.mark.parametrize(
    "command",
    [
        ("show", "nobody"),
        ("set-role", "nobody", "agent"),
        ("disable", "nobody"),
        ("require-certificate", "nobody"),
        ("reset-password", "nobody", "--password-file", "word.txt"),
    ],
)
def test_an_account_that_there_is_not(operator: Operator, shell: Shell, command: tuple[str, ...]) -> None:
    (shell.home / "word.txt").write_text("correct horse battery\n")
    assert said(operator("account", *command)) == fails(
        "there is no account nobody", "see which there are: securedelivery admin account list", 1
    )


def arrived(client: Client, method: str) -> Any:
    """What the next notification of that kind says, within the promised time."""
    for one in client.notifications(REACHED_SECONDS):
        if isinstance(one, Notification) and one.method == method:
            return one.params
    raise AssertionError(f"no {method} within {REACHED_SECONDS} s")


def listen(client: Client) -> None:
    """For as long as it may take until the connection is ended from the other side."""
    for _ in client.notifications(REACHED_SECONDS):
        pass


def test_a_role_reaches_whoever_is_logged_in(operator: Operator, shop: Shop) -> None:
    with shop.enter("rolf", "customer") as client:
        with pytest.raises(Refusal, match=r"."):
            client.chat_queue()
        assert said(operator("account", "set-role", "rolf", "agent")) == ("rolf is an agent now\n", "", 0)
        ends = time.monotonic() + 20  # the promise is 5 s, on a machine that does nothing else
        while time.monotonic() < ends:  # each a round trip
            with suppress(Refusal):
                client.chat_queue()
                break
        else:
            raise AssertionError("the new role did not reach the connection")
    changed = json.loads(operator("account", "set-role", "rolf", "courier", "--json").stdout)
    assert (changed["username"], changed["role"]) == ("rolf", "courier")
    noted = json.loads(
        operator("audit", "list", "--account", "rolf", "--action", "account.role_changed", "--json").stdout
    )
    assert [(one["actor"], one["detail"]["old"], one["detail"]["new"]) for one in noted["items"]] == [
        ("operator", "agent", "courier"),
        ("operator", "customer", "agent"),
    ]
    assert operator("account", "set-role", "rolf", "king").code == 2


def test_who_is_locked_out_is_out_within_seconds(operator: Operator, shop: Shop) -> None:
    with shop.enter("mallory", "customer") as client:
        assert said(operator("account", "disable", "mallory")) == ("mallory is locked out\n", "", 0)
        with pytest.raises(Refusal, match="this account is disabled"):  # to the client, which came back at once
            listen(client)
    with pytest.raises(Refusal, match="this account is disabled"), shop.enter("mallory", "customer"):
        pass
    assert said(operator("account", "disable", "mallory", "--enable")) == ("mallory can log in again\n", "", 0)
    with shop.enter("mallory", "customer") as client:
        assert client.account().username == "mallory"
    assert json.loads(operator("account", "disable", "mallory", "--json").stdout)["username"] == "mallory"


@pytest.fixture
def gate(shop: Shop, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own that lets people in with passwords."""
    folder = tmp_path / "gate"
    folder.mkdir()
    with ServerProcess(folder, shop.folder, {"server": {"client_certificates": "optional"}}) as server:
        yield server


def test_passwords_and_certificates(gate: ServerProcess, shop: Shop, shell: Shell) -> None:
    shell.environment |= {
        "SECUREDELIVERY_SERVER": ":".join(map(str, gate.address)),
        "SECUREDELIVERY_CA": str(shop.folder / "ca.crt"),
    }

    def admin(*arguments: str, **options: str) -> Done:
        return shell("admin", "account", *arguments, *gate.admin_flags, **options)

    word = {"SECUREDELIVERY_PASSWORD": "correct horse battery"}
    assert shell("account", "create", "bob", **word).code == 0
    # Another password, from a file: the old one is of no use any more.
    (shell.home / "bob.txt").write_text("another horse battery\r\nand a second line\n")
    assert said(admin("reset-password", "bob", "--password-file", "bob.txt")) == ("bob has another password\n", "", 0)
    assert shell("account", "show", "--user", "bob", **word).code == 1
    word = {"SECUREDELIVERY_PASSWORD": "another horse battery"}
    assert shell("account", "show", "--user", "bob", **word).code == 0
    # From the environment.
    done = admin("reset-password", "bob", "--json", SECUREDELIVERY_NEW_PASSWORD="a third horse battery")
    assert (json.loads(done.stdout)["has_password"], done.code) == (True, 0)
    assert shell("account", "show", "--user", "bob", SECUREDELIVERY_PASSWORD="a third horse battery").code == 0
    assert re.search(r"^bob +customer +password ", admin("list", "bob").stdout, re.MULTILINE)
    # By certificate alone, which bob has none of.
    assert said(admin("require-certificate", "bob")) == (
        "bob can log in by certificate alone\n",
        "bob is bound to no certificate, and so cannot log in at all: see that it gets one\n",
        0,
    )
    assert shell("account", "show", "--user", "bob", SECUREDELIVERY_PASSWORD="a third horse battery").code == 1
    assert said(admin("require-certificate", "bob", "--off")) == ("bob can log in by password too\n", "", 0)
    assert shell("account", "show", "--user", "bob", SECUREDELIVERY_PASSWORD="a third horse battery").code == 0
    assert json.loads(admin("require-certificate", "bob", "--json").stdout)["certificate"] is None


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("short", "8 to 256 characters"),
        ("password", "on the list of those that are tried first"),
        ("\nsecond line", "8 to 256 characters"),
    ],
)
def test_a_password_that_will_not_do(operator: Operator, shell: Shell, person: Person, word: str, message: str) -> None:
    person(f"paul{len(word)}")
    (shell.home / "paul.txt").write_text(f"{word}\n")
    done = operator("account", "reset-password", f"paul{len(word)}", "--password-file", "paul.txt")
    assert (done.stdout, done.code) == ("", 1)
    assert re.fullmatch(rf"error: .*{message}.*\nhint: take a longer or a rarer one\n", done.stderr)


def test_a_password_that_is_nowhere(operator: Operator, person: Person) -> None:
    person("pauline")
    assert said(operator("account", "reset-password", "pauline")) == fails(
        "password: there is no terminal to ask for it", "set SECUREDELIVERY_NEW_PASSWORD", 2
    )
    done = operator("account", "reset-password", "pauline", "--password-file", "none.txt")
    assert (done.stdout, done.code) == ("", 2)
    assert done.stderr.startswith("error: --password-file: none.txt: ")


def test_a_password_is_asked_twice_on_the_terminal(shell: Shell, shop: Shop, person: Person) -> None:
    person("pella")
    command = ("admin", "account", "reset-password", "pella", *shop.server.admin_flags)
    with Terminal(shell, *command) as terminal:
        terminal.wait_for("A new password for pella, 8 characters or more: ")
        terminal.type(f"correct horse battery{ENTER}")
        terminal.wait_for("The same again: ")
        terminal.type(f"correct horse battery{ENTER}")
        terminal.wait_for("pella has another password")
        assert terminal.end() == 0
        assert "horse" not in terminal.raw
    with Terminal(shell, *command) as terminal:
        terminal.wait_for("more: ")
        terminal.type(f"correct horse battery{ENTER}")
        terminal.wait_for("again: ")
        terminal.type(f"another horse battery{ENTER}")
        terminal.wait_for("error: password: the two were not the same")
        assert terminal.end() == 2
    with Terminal(shell, *command) as terminal:
        terminal.wait_for("more: ")
        terminal.type(CONTROL_D)
        terminal.wait_for("error: nothing was entered")
        assert terminal.end() == 2


def test_tables_fit_a_terminal_of_80_columns(shell: Shell, shop: Shop, person: Person) -> None:
    name = "a-name-that-is-as-long-as-can-be"
    assert len(name) == 32
    place(person(name), "CPU-1", "CPU_2:2")
    for command in (("account", "list"), ("order", "list"), ("audit", "list", "--limit", "200")):
        with Terminal(shell, "admin", *command, *shop.server.admin_flags) as terminal:
            assert terminal.end() == 0
            plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.raw)
            assert max(len(line.rstrip("\r")) for line in plain.split("\n")) <= 80
            assert "a-name-" in plain


# Orders


def test_an_order_moves_on_and_its_customer_hears_of_it(operator: Operator, person: Person, shop: Shop) -> None:
    number = place(person("ursa", address="5 Order Street"), "CPU-1:2")
    person("koen", "courier")
    with shop.enter("ursa", "customer") as customer:
        done = operator("order", "advance", number, "confirmed")
        assert done.code == 0
        changed = arrived(customer, "order.changed")
        assert (changed.order, changed.status) == (int(number), "confirmed")
        assert [(one.status, one.by) for one in changed.history] == [("placed", "ursa"), ("confirmed", "operator")]
    assert operator("order", "advance", number, "packed", "--courier", "koen").code == 0
    done = operator("order", "show", number)
    assert said(done) == (
        (
            "Order     NUMBER\n"
            "Customer  ursa\n"
            "Status    packed\n"
            "Placed    AT-SOME-MINUTE--\n"
            "Address   5 Order Street\n"
            "Courier   koen\n"
            "\n"
            "QUANTITY  SKU    PRODUCT                 EACH       TOTAL\n"
            "       2  CPU-1  A small processor  EUR 99.00  EUR 198.00\n"
            "\n"
            "Total   EUR 198.00\n"
            "Earned  198 points\n"
            "\n"
            "WHEN              STATUS     BY        NOTE\n"
            "AT-SOME-MINUTE--  placed     ursa\n"
            "AT-SOME-MINUTE--  confirmed  operator\n"
            "AT-SOME-MINUTE--  packed     operator\n"
        ),
        "",
        0,
    )
    assert operator("order", "advance", number, "out_for_delivery").code == 0
    delivered = operator("order", "advance", number, "delivered", "--note", "signed for at the door", "--json")
    order = json.loads(delivered.stdout)
    assert (order["status"], order["history"][-1]["note"]) == ("delivered", "signed for at the door")
    assert "delivery_code" not in order
    # Once more is the same; further is not allowed.
    assert json.loads(operator("order", "advance", number, "delivered", "--json").stdout)["version"] == order["version"]


def test_what_an_order_cannot_become(operator: Operator, person: Person) -> None:
    number = place(person("ines"), "CPU-1")
    done = operator("order", "advance", number, "delivered")
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.splitlines()[1] == "hint: what it can become now: confirmed, cancelled"
    for status in ("confirmed", "packed"):
        assert operator("order", "advance", number, status).code == 0
    done = operator("order", "advance", number, "out_for_delivery")
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.splitlines()[1] == "hint: --courier takes the name of a courier's account that is not disabled"
    done = operator("order", "advance", number, "out_for_delivery", "--courier", "ines")
    assert done.code == 1
    assert done.stderr.splitlines()[1] == "hint: --courier takes the name of a courier's account that is not disabled"
    person("karl", "courier")
    assert operator("order", "advance", number, "out_for_delivery", "--courier", "karl").code == 0
    done = operator("order", "advance", number, "delivered")
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.splitlines()[1].startswith("hint: say with --note how it is known; couriers need")
    assert operator("order", "advance", number, "packed", "--note", "nobody was in").code == 0
    assert operator("order", "advance", number, "cancelled").code == 0
    done = operator("order", "advance", number, "packed")
    assert done.code == 1
    assert done.stderr.splitlines()[1] == "hint: nothing can be made of it any more"


def test_the_list_of_orders(operator: Operator, person: Person) -> None:
    first, second = place(person("lotte"), "CPU-1"), place(person("lukas"), "CPU_2")
    done = operator("order", "list", "--account", "lotte")
    (width,) = {max(5, len(first))}
    assert said(done) == (
        (
            f"{'ORDER':>{width}}  CUSTOMER  PLACED            STATUS  PRODUCTS       TOTAL\n"
            f"{first:>{width}}  lotte     AT-SOME-MINUTE--  placed  1 x CPU-1  EUR 99.00\n"
        ),
        "",
        0,
    )
    both = json.loads(operator("order", "list", "--status", "placed", "--limit", "2", "--json").stdout)
    assert [str(one["order"]) for one in both["items"]] == [second, first]
    operator("order", "advance", second, "confirmed")
    confirmed = json.loads(operator("order", "list", "--status", "confirmed", "--json").stdout)
    assert second in {str(one["order"]) for one in confirmed["items"]}
    assert said(operator("order", "list", "--status", "returned")) == ("", "No orders that are returned.\n", 0)
    assert said(operator("order", "list", "--account", "nobody")) == fails(
        "there is no account nobody", "see which there are: securedelivery admin account list", 1
    )


@pytest.mark.parametrize("command", [("show", "999999"), ("advance", "999999", "confirmed")])
def test_an_order_that_there_is_not(operator: Operator, command: tuple[str, ...]) -> None:
    assert said(operator("order", *command)) == fails(
        "there is no order 999999", "see which there are: securedelivery admin order list", 1
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("order", "show", "0"),
        ("order", "show", "seventeen"),
        ("order", "advance", "1", "lost"),
        ("order", "list", "--limit", "0"),
        ("account", "disable"),
        ("audit", "list", "--limit", "some"),
    ],
)
def test_wrong_usage_is_told_in_two_lines(operator: Operator, arguments: tuple[str, ...]) -> None:
    done = operator(*arguments)
    assert (done.stdout, done.code) == ("", 2)
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert hint == f"hint: securedelivery admin {' '.join(arguments[:2])} --help"


# Audit


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database of four rows of audit, and its key."""
    home = tmp_path_factory.mktemp("audited")
    shell = Shell(home, clean_environment(home))
    for name in ("ada", "ben", "cid"):
        assert shell("admin", "account", "create", name, "--database", "sqlite:///shop.db").code == 0
    assert shell("admin", "account", "set-role", "ben", "agent", "--database", "sqlite:///shop.db").code == 0
    return home


@pytest.fixture
def audited(shell: Shell, original: Path) -> Path:
    """A copy of that database at home."""
    shutil.copytree(original, shell.home, dirs_exist_ok=True)
    return shell.home / "shop.db"


def audit(shell: Shell, *arguments: str) -> Done:
    return shell("admin", "audit", *arguments, "--database", "sqlite:///shop.db")


def test_who_did_what(shell: Shell, audited: Path) -> None:
    done = audit(shell, "list")
    assert said(done) == (
        (
            "ENTRY  WHEN              WHO       WHAT                  ABOUT\n"
            "    4  AT-SOME-MINUTE--  operator  account.role_changed  account:ben old=customer new=agent by=operator\n"
            "    3  AT-SOME-MINUTE--  operator  account.created       account:cid role=customer certificate=true"
            " by=operator\n"
            "    2  AT-SOME-MINUTE--  operator  account.created       account:ben role=customer certificate=true"
            " by=operator\n"
            "    1  AT-SOME-MINUTE--  operator  account.created       account:ada role=customer certificate=true"
            " by=operator\n"
        ),
        "",
        0,
    )
    assert audit(shell, "list") == done  # the operator can read the database anyway: looking is not written down
    page = json.loads(audit(shell, "list", "--account", "ben", "--limit", "1", "--json").stdout)
    assert [one["action"] for one in page["items"]] == ["account.role_changed"]
    page = json.loads(audit(shell, "list", "--account", "ben", "--after", page["next"], "--json").stdout)
    assert [one["action"] for one in page["items"]] == ["account.created"]
    assert "    4  " in audit(shell, "list", "--action", "account.role_changed").stdout
    assert said(audit(shell, "list", "--action", "login")) == ("", "Nothing of the kind has happened.\n", 0)
    assert said(audit(shell, "list", "--account", "nobody")) == fails(
        "there is no account nobody", "see which there are: securedelivery admin account list", 1
    )


def exported(text: str) -> list[AuditRow]:
    rows = map(json.loads, text.splitlines())
    return [
        AuditRow(
            row["id"],
            AuditEntry(row["at"], row["actor_id"], row["action"], row["subject"], row["detail"]),
            bytes.fromhex(row["hash"]),
        )
        for row in rows
    ]


def test_an_export_can_be_checked_elsewhere(shell: Shell, audited: Path) -> None:
    done = audit(shell, "export")
    assert (done.stderr, done.code) == ("", 0)
    rows = exported(done.stdout)
    assert [row.number for row in rows] == [1, 2, 3, 4]
    assert examine(rows, None) is None
    # By whoever has never seen this program.
    first = json.loads(done.stdout.splitlines()[0])
    text = json.dumps([1, first["at"], None, "account.created", "account:1", first["detail"]], separators=(",", ":"))
    assert hashlib.sha256(bytes(32) + text.encode()).hexdigest() == first["hash"]
    assert said(audit(shell, "export", "audit.jsonl")) == ("4 rows in audit.jsonl\n", "", 0)
    assert (shell.home / "audit.jsonl").read_text() == done.stdout
    assert stat.S_IMODE((shell.home / "audit.jsonl").stat().st_mode) == 0o600


def test_an_export_replaces_nothing(shell: Shell, audited: Path) -> None:
    (shell.home / "audit.jsonl").write_text("of last month")
    before = {path.name for path in shell.home.iterdir()}
    hint = "name a file that is not there yet and can be written"
    assert said(audit(shell, "export", "audit.jsonl")) == fails("audit.jsonl: File exists", hint, 2)
    assert said(audit(shell, "export", "none/audit.jsonl")) == fails(
        "none/audit.jsonl: No such file or directory", hint, 2
    )
    assert (shell.home / "audit.jsonl").read_text() == "of last month"
    assert {path.name for path in shell.home.iterdir()} == before


def test_a_whole_audit(shell: Shell, audited: Path) -> None:
    newest = exported(audit(shell, "export").stdout)[-1].hash.hex()
    assert said(audit(shell, "verify")) == (f"whole: 4 rows, the newest has the hash {newest}\n", "", 0)
    done = audit(shell, "verify", "--json")
    assert json.loads(done.stdout) == {"whole": True, "damage": None, "entry": 4, "hash": newest}


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        ("UPDATE audit SET action = 'z' WHERE id = 2", "row 2 was altered (or row 1 together with its hash)"),
        ("DELETE FROM audit WHERE id = 3", "row 3 was removed"),
        ("DELETE FROM audit WHERE id = 4", "row 4 was removed (from the end)"),
        ("DELETE FROM audit_head", "the head of the chain was removed, and perhaps rows from its end"),
    ],
)
def test_an_audit_that_was_tampered_with(shell: Shell, audited: Path, tampering: str, named: str) -> None:
    with closing(sqlite3.connect(audited, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER audit_update")
        connection.execute("DROP TRIGGER audit_delete")
        connection.execute(tampering)
    done = audit(shell, "verify")
    assert said(done) == fails(
        f"the audit was tampered with: {named}",
        "trust nothing from there on; compare it with your last export, and find out who could write the database",
        1,
    )
    done = audit(shell, "verify", "--json")
    told = json.loads(done.stdout)
    assert (told["whole"], told["damage"], done.code) == (False, named, 1)


def test_a_slow_reader_of_an_export_holds_up_nobody(shell: Shell, audited: Path) -> None:
    """The database is read to the end before the first line goes out."""
    with shell.start("admin", "audit", "export", "--database", "sqlite:///shop.db") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["id"] == 1
        process.stdout.close()
        assert process.wait(60) in (0, 141)


def test_the_audit_of_a_running_server_is_whole(operator: Operator, person: Person) -> None:
    results: list[Done] = []
    customer = person("andrea")
    number = place(customer, "CPU-1")
    verifying = [threading.Thread(target=lambda: results.append(operator("audit", "verify"))) for _ in range(3)]
    for thread in verifying:
        thread.start()
    assert operator("order", "advance", number, "confirmed").code == 0
    for thread in verifying:
        thread.join()
    assert [done.code for done in results] == [0, 0, 0]
