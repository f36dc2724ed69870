"""tshark, run as a user without rights: newer versions silently ignore Lua scripts for root."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TIMEOUT_SECONDS = 90


@dataclass(frozen=True)
class Result:
    stdout: str
    stderr: str
    code: int

    @property
    def rows(self) -> list[list[str]]:
        """The lines of `-T fields`, cut at tabs."""
        return [line.split("\t") for line in self.stdout.splitlines()]


def require(program: str = "tshark") -> str:
    """Its path; else the test is skipped, or fails where everything is required."""
    path = shutil.which(program)
    if path is None:
        reason = f"{program} is not installed (apt-get install {program})"
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@cache
def _unprivileged() -> dict[str, object]:
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def run(program: str, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Result:
    """Run tshark, editcap, capinfos ... A Path among the arguments is a file; a copy is read that anybody may read.

    A Path inside an option is given as a pair: ("-o", "tls.keylog_file:{}", path) becomes `-o tls.keylog_file:COPY`.
    """
    path = require(program)
    with tempfile.TemporaryDirectory(prefix="wireshark-") as folder:
        place = Path(folder)
        words: list[str] = []
        for number, one in enumerate(arguments):
            if not isinstance(one, Path):
                words.append(one)
                continue
            copy = place / f"{number}-{one.name}"
            shutil.copyfile(one, copy)
            copy.chmod(0o644)
            if words and "{}" in words[-1]:
                words[-1] = words[-1].replace("{}", str(copy))
            else:
                words.append(str(copy))
        configuration = place / "configuration"
        configuration.mkdir()
        for one in (place, configuration):
            one.chmod(0o777)
        done = subprocess.run(
            [path, *words],
            cwd=place,
            env={"PATH": os.environ["PATH"], "HOME": folder, "LANG": "C.UTF-8"}
            | {"WIRESHARK_CONFIG_DIR": str(configuration)}
            | dict(environment or {}),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
            **_unprivileged(),  # type: ignore[call-overload]
        )
    return Result(done.stdout, done.stderr, done.returncode)


def tshark(capture: Path, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Result:
    """What `tshark -r CAPTURE ...` says; names are not resolved."""
    return run("tshark", "-n", "-r", capture, *arguments, environment=environment)
