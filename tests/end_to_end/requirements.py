"""Programs that pip cannot bring: without them a test is skipped and says so; with REQUIRE_ALL=1 it fails."""

import os
import shutil
import subprocess
from typing import NoReturn

import pytest


def require(program: str, *trial: str) -> str:
    """The program's path. trial: arguments with which it has to succeed here (a container may forbid what it does)."""
    path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        missing(f"{program} is not installed; on Debian: apt-get install {program}")
    if trial:
        done = subprocess.run([path, *trial], capture_output=True, text=True, timeout=20, check=False)
        if done.returncode != 0:
            missing(f"{program} does not work here: {done.stderr.strip()[-300:]}")
    return path


def missing(why: str) -> NoReturn:
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"{why} (REQUIRE_ALL=1 allows no skipping)", pytrace=False)
    pytest.skip(why)
