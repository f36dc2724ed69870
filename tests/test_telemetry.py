import json
import logging
import subprocess
import sys

import pytest

from securedelivery.telemetry import redact

PROGRAM = """
import logging, structlog
from securedelivery.telemetry import LogSettings, configure_logging
configure_logging(LogSettings(format="{format}", level="info"))
log = structlog.get_logger("test")
log.debug("not shown")
log.warning("! refused", remote="127.0.0.1", password="hunter22")
logging.getLogger("library").warning("says %s", "something")
try:
    raise ValueError("why")
except ValueError as error:
    log.error("! incident", exc_info=error)
"""


def _logged(format_: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(format=format_)], check=True, capture_output=True, text=True
    )
    assert done.stdout == ""
    return done.stderr


def test_text_is_one_readable_line_an_event() -> None:
    text = _logged("text")
    assert "! refused" in text
    assert "remote=127.0.0.1" in text
    assert "says something" in text
    assert "ValueError: why" in text
    assert "not shown" not in text
    assert "hunter22" not in text


def test_json_is_one_object_a_line() -> None:
    refused, library, incident = (json.loads(line) for line in _logged("json").splitlines())
    assert refused == {
        "event": "! refused",
        "level": "warning",
        "password": "[redacted]",
        "remote": "127.0.0.1",
        "timestamp": refused["timestamp"],
    }
    assert library["event"] == "says something"
    assert "ValueError: why" in incident["exception"]


@pytest.mark.parametrize("name", ["password", "address", "email", "key", "params"])
def test_what_is_called_secret_does_not_get_out(name: str) -> None:
    assert redact(logging.getLogger(), "info", {"event": "e", name: "x"}) == {"event": "e", name: "[redacted]"}
