"""Transcripts of `securedelivery admin report`, on a database that services have filled last month."""

import json
import re
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cli.conftest import Done, Shell, fails, said
from service import shop as services
from service.test_summaries import use, writable

from securedelivery.service.rewards import RewardRules
from securedelivery.store.engine import Database

LAST = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
THIS = datetime.now(UTC).strftime("%Y-%m")
SETTINGS = """
[shop]
name = "Parts & Co"
[mail]
operator = "owner@shop.test"
[mail.summaries]
host = "mail.shop.test"
sender = "shop@shop.test"
"""

Operator = Callable[..., Done]


@pytest.fixture
def operator(shell: Shell) -> Operator:
    """`securedelivery admin report monthly ...` with the settings of a server that sends summaries."""
    (shell.home / "shop.toml").write_text(SETTINGS)
    database = f"sqlite:///{shell.home}/shop.db"
    with Database.open(database) as opened:
        shop = services.Shop(opened, services.Clock(), RewardRules(), shell.home / "names.txt")
        shop.clock.now = datetime.fromisoformat(f"{LAST}-03T10:00:00+00:00")
        use(shop)
        shop.stock(("CPU-1", 9_900, 50), ("GPU-1", 250_000, 3))
        rita, rolf = shop.customer("rita.month"), shop.customer("rolf.month")
        writable(shop, rita)
        shop.place(rita, ("CPU-1", 2))
        shop.clock.forward(days=1)
        shop.place(rita, ("GPU-1", 1), redeem=100)
        shop.cancel(rita, 1)
        shop.place(rolf, ("CPU-1", 1))

    def run(*arguments: str, settings: bool = True) -> Done:
        config = ("--config", "shop.toml") if settings else ()
        return shell("admin", "report", "monthly", *arguments, *config, "--database", database)

    return run


def earlier(months: int) -> str:
    year, month = divmod(int(LAST[:4]) * 12 + int(LAST[5:]) - 1 - months, 12)
    return f"{year}-{month + 1:02}"


def test_the_shops_month(operator: Operator) -> None:
    done = operator()
    bars = "".join(f"{earlier(back)}       0      EUR 0.00\n" for back in range(5, 0, -1))
    assert (done.stderr, done.code) == ("", 0)
    assert done.stdout == (
        f"Month    {LAST} (UTC)\n"
        "Sold     2, EUR 2,594.00\n"
        "Orders   2 placed, 1 cancelled\n"
        "Refunds  1, EUR 198.00\n"
        "\n"
        "SKU    SOLD BEST      QUANTITY           SUM\n"
        "CPU-1  Product CPU-1         1     EUR 99.00\n"
        "GPU-1  Product GPU-1         1  EUR 2,500.00\n"
        "\n"
        "SKU    RUNS OUT       LEFT NOW\n"
        "GPU-1  Product GPU-1         2\n"
        "\n"
        "MONTH    ORDERS      TURNOVER\n"
        f"{bars}{LAST}       2  EUR 2,594.00  ########################\n"
    )
    assert operator("--month", LAST).stdout == done.stdout


def test_a_customers_month(operator: Operator) -> None:
    done = operator("--account", "rita.month")
    bars = "".join(f"{earlier(back)}       0      EUR 0.00\n" for back in range(5, 0, -1))
    assert (done.stderr, done.code) == ("", 0)
    assert done.stdout == (
        f"Month     {LAST} (UTC)\n"
        "Customer  rita.month\n"
        "Orders    2, EUR 2,693.00\n"
        "Refunds   1, EUR 198.00\n"
        "Points    +2,693 earned, -100 spent, -198 taken back\n"
        "Balance   2,395 at the end of the month\n"
        "Tier      bronze\n"
        "\n"
        "ORDER  PLACED            STATUS            TOTAL\n"
        f"    1  {LAST}-03 10:00  cancelled    EUR 198.00\n"
        f"    2  {LAST}-04 10:00  placed     EUR 2,495.00\n"
        "\n"
        "ORDER  UNDONE            STATUS          TOTAL\n"
        f"    1  {LAST}-04 10:00  cancelled  EUR 198.00\n"
        "\n"
        "MONTH    ORDERS         SPENT\n"
        f"{bars}{LAST}       2  EUR 2,693.00  ########################\n"
    )


def test_a_month_without_anything(operator: Operator, shell: Shell) -> None:
    shell.environment["SECUREDELIVERY_SHOP_LOW_STOCK"] = "0"
    assert operator("--month", "2020-02").stdout.splitlines()[:6] == [
        "Month    2020-02 (UTC)", "Sold     0", "Orders   -", "Refunds  0", "", "MONTH    ORDERS  TURNOVER",
    ]  # fmt: skip
    lines = operator("--month", "2020-02", "--account", "rolf.month").stdout.splitlines()
    assert lines[4:7] == ["Points    0", "Balance   0 at the end of the month", "Tier      bronze"]


def test_a_month_that_goes_on(operator: Operator) -> None:
    done = operator("--month", THIS)
    assert (done.stderr, done.code) == (f"{THIS} is not over: this is how it stands now.\n", 0)
    assert said(operator("--month", THIS, "--send")) == fails(
        f"{THIS} is not over, and a month is told of once",
        f"--month takes a month like {LAST}, which is the last whole one",
        1,
    )


def test_a_list_that_is_too_long(operator: Operator, shell: Shell) -> None:
    with Database.open(f"sqlite:///{shell.home}/shop.db") as opened:
        shop = services.Shop(opened, services.Clock(), RewardRules(), shell.home / "names.txt")
        shop.clock.now = datetime.fromisoformat(f"{LAST}-05T10:00:00+00:00")
        ruth = shop.customer("ruth.month")
        shop.stock(("NUT-1", 1, 100))
        for _ in range(51):
            shop.place(ruth, ("NUT-1", 1))
    done = operator("--account", "ruth.month")
    assert (len(done.stdout.splitlines()), done.stderr) == (7 + 2 + 50 + 8, "The newest 50 of 51.\n")


def test_refunds_of_earlier_months(operator: Operator, shell: Shell) -> None:
    with Database.open(f"sqlite:///{shell.home}/shop.db") as opened:
        shop = services.Shop(opened, services.Clock(), RewardRules(), shell.home / "names.txt")
        shop.clock.now = datetime.now(UTC)
        shop.cancel(None, 3)
    refunds = operator("--month", THIS).stdout.splitlines()[3]
    assert refunds == "Refunds  1, EUR 99.00 (of earlier months: 1, EUR 99.00)"


def test_as_json(operator: Operator) -> None:
    shops = json.loads(operator("--json").stdout)
    assert (shops["month"], shops["orders"], shops["turnover"], len(shops["bars"])) == (LAST, 2, 259_400, 6)
    ritas = json.loads(operator("--account", "rita.month", "--json").stdout)
    assert (ritas["account"], ritas["spend"], ritas["points"]["balance"]) == ("rita.month", 269_300, 2_395)


def test_a_preview_is_a_new_file_of_ones_own(operator: Operator, shell: Shell) -> None:
    done = operator("--account", "rita.month", "--preview", "rita.html")
    assert (done.stdout, done.stderr, done.code) == ("rita.html is the mail\n", "", 0)
    file = shell.home / "rita.html"
    page = file.read_text("utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "<!doctype html>" in page[:200].lower()
    assert "Parts &amp; Co" in page
    assert "EUR 2,693.00" in page
    assert re.findall(r"<img|https?://", re.sub(r"http://www\.w3\.org/\S+", "", page)) == []
    refused = fails("--preview: rita.html: File exists", "name a file that is not there yet and can be written", 2)
    assert said(operator("--preview", "rita.html")) == refused
    assert file.read_text("utf-8") == page
    assert said(operator("--preview", "nowhere/rita.html"))[1].startswith(
        "error: --preview: nowhere/rita.html: No such"
    )
    assert {path.name for path in shell.home.iterdir() if path.name.startswith(".")} == set()
    done = operator("--preview", "shop.html", "--json")
    assert (json.loads(done.stdout), done.code) == ({"file": "shop.html", "mail": None}, 0)
    assert "EUR 2,594.00" in (shell.home / "shop.html").read_text("utf-8")


def test_sent_once(operator: Operator, shell: Shell) -> None:
    done = operator("--account", "rita.month", "--send")
    assert said(done) == ("queued as mail 1: the server sends it as soon as it runs\n", "", 0)
    done = operator("--send", "--preview", "shop.html")
    assert said(done) == (
        "shop.html is the mail\nqueued as mail 2: the server sends it as soon as it runs\n", "", 0,
    )  # fmt: skip
    again = operator("--send")
    assert said(again) == (
        "mail 2 waits already since AT-SOME-MINUTE--: the server sends it as soon as it runs\n", "", 0,
    )  # fmt: skip
    found = json.loads(operator("--send", "--json").stdout)
    assert found["file"] is None
    assert (found["mail"]["number"], found["mail"]["state"], found["mail"]["new"]) == (2, "waiting", False)
    actions = shell("admin", "audit", "list", "--action", "report.queued", "--database", "sqlite:///shop.db", "--json")
    items = json.loads(actions.stdout)["items"]
    assert [(one["actor"], one["subject"]) for one in items] == [
        ("operator", None), ("operator", "account:rita.month"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "attempts", "words"),
    [
        ("waiting", 2, "mail 1 waits after 2 tries for the next, at TIME; at once: securedelivery admin mail retry 1"),
        ("sending", 1, "mail 1 is being sent just now"),
        ("sent", 1, "mail 1 was sent already, at TIME"),
        ("failed", 1, "mail 1 was given up at TIME, after 1 try; once more: securedelivery admin mail retry 1"),
        ("withdrawn", 1, "queued as mail 1: the server sends it as soon as it runs"),
    ],
)
def test_what_has_become_of_it(operator: Operator, shell: Shell, state: str, attempts: int, words: str) -> None:
    operator("--send")
    with Database.open(f"sqlite:///{shell.home}/shop.db") as opened:
        shop = services.Shop(opened, services.Clock(), RewardRules(), shell.home / "names.txt")
        node = "'here'" if state == "sending" else "NULL"
        shop.sql(f"UPDATE outbox SET state = '{state}', node = {node}, attempts = {attempts}")  # noqa: S608 -- ours
    assert said(operator("--send")) == (words.replace("TIME", "AT-SOME-MINUTE--") + "\n", "", 0)


def test_what_cannot_be(operator: Operator) -> None:
    last_whole = f"--month takes a month like {LAST}, which is the last whole one"
    assert said(operator("--month", "10/2026")) == fails("not a month like 2026-10", last_whole, 1)
    assert said(operator("--month", "2999-01")) == fails("2999-01 has not begun", last_whole, 1)
    assert said(operator("--account", "nobody.month")) == fails(
        "there is no account nobody.month", "see which there are: securedelivery admin account list", 1
    )
    assert said(operator("--send", settings=False)) == fails(
        "mail.operator: nobody is named to get the operator's summary",
        "set it to an address, and name the settings with --config FILE",
        2,
    )


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ("email = NULL", "has given no e-mail address", "its customer can give one: {} account update --email ADDRESS"),
        (
            "mail_summaries = 0",
            "wants no summaries",
            "its customer can want them, or you: {} admin account mail rita.month --summaries",
        ),
        ("disabled = 1", "is disabled", "let it in again: {} admin account disable rita.month --enable"),
    ],
)
def test_who_cannot_be_written_to(operator: Operator, shell: Shell, change: str, message: str, hint: str) -> None:
    with Database.open(f"sqlite:///{shell.home}/shop.db") as opened:
        shop = services.Shop(opened, services.Clock(), RewardRules(), shell.home / "names.txt")
        shop.sql(f"UPDATE accounts SET {change} WHERE username = 'rita.month'")  # noqa: S608 -- ours
    assert said(operator("--account", "rita.month", "--send")) == fails(
        f"rita.month {message}", hint.format("securedelivery"), 1
    )


def test_where_no_summaries_are_sent(operator: Operator, shell: Shell) -> None:
    with Database.open(f"sqlite:///{shell.home}/shop.db") as opened:
        shop = services.Shop(opened, services.Clock(), RewardRules(), shell.home / "names.txt")
        shop.sql("DELETE FROM mail_routes")
    assert said(operator("--send")) == fails(
        "mail.summaries: the server sends no summaries", "set host and sender there, then start it anew", 2
    )


def test_no_database_is_made(shell: Shell) -> None:
    done = shell("admin", "report", "monthly", "--database", "sqlite:///none.db")
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.startswith(f"error: there is no database {shell.home}/none.db; check --database")
    assert list(shell.home.iterdir()) == []
