"""What the tests of mail share: settings for a mail server, a server whose minutes are short, and what mail says."""

import json
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import commands
from end_to_end.server_process import ServerProcess, environment

from securedelivery.mail.settings import MailServer

SHORTER = """
from datetime import timedelta

from securedelivery.mail import sender

sender.FIRST_PAUSE = sender.ROUTE_PAUSE = timedelta(seconds=0.2)
sender.LONGEST_PAUSE = sender.LONGEST_ROUTE_PAUSE = timedelta(seconds=0.5)
sender.LINGER_SECONDS = 0.5
"""

MOVABLE_CLOCK = """
from datetime import UTC, datetime, timedelta
from pathlib import Path

from securedelivery import application

application.DUE_SECONDS = 0.2
ahead = Path({path!r})


def utc_now():
    return datetime.now(UTC) + timedelta(seconds=float(ahead.read_text()))


application.utc_now = utc_now
"""
"""The server's clock goes ahead by the seconds in a file. Replace that file in one step."""


def section(server: MailServer, folder: Path) -> dict[str, Any]:
    """For the file of settings; the password goes into a file of its own in the folder."""
    values = {name: value for name in server.__struct_fields__ if (value := getattr(server, name)) is not None}
    if "password" in values:
        path = folder / f"password-{server.port}"
        path.touch(0o600)
        path.write_text(f"{values.pop('password')}\n")
        values["password_file"] = str(path)
    return values


def with_start_code(folder: Path, code: str) -> dict[str, str]:
    """Variables of a server that runs this first: other constants, another clock, and nothing else."""
    (folder / "start").mkdir()
    (folder / "start" / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(folder / "start")}


def operate(server: ServerProcess, *arguments: str) -> str:
    """`securedelivery admin ...` by somebody who names the database and no file of settings."""
    done = commands.run(["admin", *arguments, "--database", server.url], seconds=60, environment=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def queue(server: ServerProcess, *states: str) -> list[dict[str, Any]]:
    """What `admin mail queue` tells of the mail in these states."""
    flags = [word for state in states for word in ("--state", state)]
    told: dict[str, Any] = json.loads(operate(server, "mail", "queue", "--json", "--limit", "10000", *flags))
    items: list[dict[str, Any]] = told["items"]
    return items


def body(mail: EmailMessage, kind: str = "plain") -> str:
    part = mail.get_body((kind,))
    assert part is not None
    return str(part.get_content())
