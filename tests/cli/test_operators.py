"""Transcripts of the operator's commands: what was typed, what came, the exit code."""

import contextlib
import csv
import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cli.conftest import Shell, Shop

ROWS = """\
sku,name,description,price,stock,active
CPU-1,A processor,Six cores,99.00,5,1
GPU-1,"A graphics card, large",,2500.00,3,0
"""


@pytest.fixture
def database(shell: Shell) -> str:
    (shell.home / "parts.csv").write_text(ROWS)
    done = shell("admin", "catalog", "import", "parts.csv", "--database", "sqlite:///shop.db")
    assert (done.stdout, done.code) == ("2 added, 0 changed, 0 as they were\n", 0)
    assert done.stderr == (
        f"made the database {shell.home}/shop.db\n"
        f"made its key {shell.home}/shop.db.key: copy it to a safe place apart from the backups:"
        " without it nobody can read names, addresses and chat again\n"
    )
    return "sqlite:///shop.db"


def test_the_database_is_its_owners_alone(shell: Shell, database: str) -> None:
    assert {file.name for file in shell.home.iterdir()} == {"parts.csv", "shop.db", "shop.db.key"}
    assert stat.S_IMODE((shell.home / "shop.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((shell.home / "shop.db.key").stat().st_mode) == 0o600


def test_a_command_that_needs_a_database_makes_none(shell: Shell) -> None:
    for command in (
        ("account", "list"), ("account", "show", "a"), ("account", "set-role", "a", "agent"),
        ("account", "disable", "a"), ("account", "require-certificate", "a"), ("account", "reset-password", "a"),
        ("order", "list"), ("order", "show", "1"), ("order", "advance", "1", "packed"), ("audit", "list"),
        ("audit", "verify"), ("audit", "export"), ("catalog", "list"), ("catalog", "export"), ("backup", "copy.db"),
    ):  # fmt: skip
        done = shell("admin", *command, "--database", "sqlite:///none.db")
        assert (done.stdout, done.code) == ("", 1)
        assert done.stderr.startswith(f"error: there is no database {shell.home}/none.db; check --database")
    assert list(shell.home.iterdir()) == []


def test_a_missing_key_is_said_loudly(shell: Shell, database: str) -> None:
    (shell.home / "shop.db.key").unlink()
    for command in (("admin", "account", "list"), ("serve", "--listen", "127.0.0.1:0")):
        done = shell(*command, "--database", database)
        assert (done.stdout, done.code) == ("", 1)
        assert done.stderr == (
            f"error: the key of this database, {shell.home}/shop.db.key, is missing; without the right one no name,"
            " address, note or message in it can ever be read again: put it back from where you keep your copy, or name"
            " it as database.key_file\n"
        )


def test_an_import_again_changes_nothing(shell: Shell, database: str) -> None:
    done = shell("admin", "catalog", "import", "parts.csv", "--database", database, "--json")
    assert (json.loads(done.stdout), done.code) == ({"added": 0, "changed": 0, "unchanged": 2}, 0)


def test_an_export_is_what_import_takes(shell: Shell, database: str) -> None:
    done = shell("admin", "catalog", "export", "--database", database)
    assert (done.stdout, done.code) == (ROWS, 0)
    done = shell("admin", "catalog", "export", "out.csv", "--database", database)
    assert (done.stdout, done.code) == ("2 products in out.csv\n", 0)
    assert (shell.home / "out.csv").read_text() == ROWS
    assert not (shell.home / "out.csv.new").exists()


def test_the_list_shows_what_is_not_sold_too(shell: Shell, database: str) -> None:
    done = shell("admin", "catalog", "list", "--database", database)
    assert done.stdout.splitlines() == [
        "SKU    PRODUCT                        PRICE  STOCK  SOLD",
        "CPU-1  A processor                EUR 99.00      5  yes",
        "GPU-1  A graphics card, large  EUR 2,500.00      3  no",
    ]
    done = shell("admin", "catalog", "list", "--database", database, "--json")
    assert [item["active"] for item in json.loads(done.stdout)["items"]] == [True, False]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ("CPU-2,A processor,,cheap,1,1", "line 2, column price: 'cheap' is no price"),
        ("CPU-2,A processor,,1.00,some,1", "line 2, column stock: 'some' is no stock"),
        (",A processor,,1.00,1,1", "line 2, column sku: empty"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(shell: Shell, database: str, row: str, error: str) -> None:
    (shell.home / "bad.csv").write_text(f"sku,name,description,price,stock,active\n{row}\n")
    done = shell("admin", "catalog", "import", "bad.csv", "--database", database)
    assert (done.stdout, done.code) == ("", 2)
    assert done.stderr.startswith(f"error: {error}\nhint: ")


def test_the_sample_catalog_is_large_enough_and_can_be_imported(shell: Shell) -> None:
    sample = Path(__file__).parents[2] / "securedelivery/data/catalog.csv"
    with sample.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 40
    assert len({row["sku"] for row in rows}) == len(rows)
    done = shell("admin", "catalog", "import", str(sample), "--database", "sqlite:///sample.db")
    assert done.stdout == f"{len(rows)} added, 0 changed, 0 as they were\n"


def test_a_large_import_shows_how_far_it_is_on_a_terminal(shell: Shell) -> None:
    rows = "".join(f"SKU-{number},Part {number},1.00\n" for number in range(3_000))
    (shell.home / "many.csv").write_text(f"sku,name,price\n{rows}")
    controller, terminal = pty.openpty()
    command = ["admin", "catalog", "import", "many.csv", "--database", "sqlite:///many.db"]
    with subprocess.Popen(
        [sys.executable, "-m", "securedelivery", *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=terminal, text=True,
        env=shell.environment, cwd=shell.home,
    ) as process:  # fmt: skip
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # Linux's way to say that nobody has the terminal open any more
            while part := os.read(controller, 65_536):
                shown += part
        os.close(controller)
        assert process.stdout.read() == "3000 added, 0 changed, 0 as they were\n"
    assert process.returncode == 0
    assert b"importing" in shown
    assert b"%" in shown


def test_a_missing_database_is_named(shell: Shell) -> None:
    done = shell("admin", "catalog", "list", "--database", "sqlite:///none.db")
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.startswith(f"error: there is no database {shell.home}/none.db")


def test_an_account_is_bound_to_the_certificate_of_its_name(shell: Shell, database: str) -> None:
    create = ("admin", "account", "create", "sam", "--role", "agent", "--database", database)
    done = shell(*create, "--json")
    account = json.loads(done.stdout)
    assert (account["username"], account["role"], account["has_password"]) == ("sam", "agent", False)
    assert account["certificate"] == "spiffe://securedelivery.local/account/sam"
    done = shell(*create)
    assert (done.stdout, done.code) == ("", 1)
    assert done.stderr.startswith("error: the name sam is taken\n")
    done = shell(*create, "--if-missing")
    assert (done.stdout, done.stderr, done.code) == ("", "sam has an account already\n", 0)


def test_a_password_comes_from_a_file(shell: Shell, database: str) -> None:
    (shell.home / "kim.txt").write_text("correct horse battery\n")
    create = ("admin", "account", "create", "kim", "--role", "courier", "--database", database)
    done = shell(*create, "--password-file", "none.txt")
    assert done.code == 2
    assert done.stderr.startswith("error: --password-file: none.txt: ")
    assert json.loads(shell(*create, "--password-file", "kim.txt", "--json").stdout)["has_password"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("admin", "account", "create", "Sam", "--role", "agent"), 1, "error: a username has 3 to 32 of"),
        (("admin", "account", "create", "sam", "--role", "king"), 2, "error: "),
        (("admin", "account", "create"), 2, "error: "),
        (("admin", "catalog", "import", "none.csv"), 2, "error: none.csv: "),
        (("serve", "--listen", "here"), 2, "error: server.listen: 'here' is not HOST:PORT\nhint: "),
        (("serve", "--config", "none.toml"), 2, "error: none.toml: there is no such file\nhint: "),
        (("serve", "--database", "mysql://x"), 1, "error: "),
    ],
)
def test_what_is_wrong_is_said_in_two_lines(shell: Shell, arguments: tuple[str, ...], code: int, error: str) -> None:
    done = shell(*arguments)
    assert (done.stdout, done.code) == ("", code)
    assert done.stderr.startswith(error)
    assert len(done.stderr.splitlines()) <= 2


def test_missing_certificates_are_named(shell: Shell, database: str) -> None:
    done = shell("serve", "--certs", "none", "--database", database)
    assert (done.stdout, done.code) == ("", 2)
    assert done.stderr == (
        "error: none/server.crt: there is no such file\nhint: run ./gen_certs.sh, or name the right file\n"
    )


def test_the_first_start_says_loudly_that_it_has_made_a_key(shell: Shell) -> None:
    done = shell("serve", "--certs", "none", SECUREDELIVERY_LOG_FORMAT="json")
    first = json.loads(done.stderr.splitlines()[0])
    assert (first["level"], first["event"]) == ("warning", "! made the key of the database")
    assert first["file"] == str(shell.home / "securedelivery.db.key")
    assert "without it nobody can read names, addresses and chat again" in first["hint"]


def test_a_port_that_is_in_use_is_named(shell: Shell, shop: Shop) -> None:
    done = shell("serve", "--certs", str(shop.folder), "--listen", shop.required)
    assert (done.stdout, done.code) == ("", 2)
    assert f"error: listen {shop.required}: " in done.stderr
    assert "hint: choose an address of this machine and a port that nobody else uses" in done.stderr


def test_a_file_that_cannot_be_written_is_named(shell: Shell, database: str) -> None:
    done = shell("admin", "catalog", "export", "parts.csv/out.csv", "--database", database)
    assert (done.stdout, done.code) == ("", 2)
    assert done.stderr.startswith("error: parts.csv/out.csv: ")
