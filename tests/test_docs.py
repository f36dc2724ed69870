"""The pages say what the code says."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_diagrams_are_those_of_the_tables() -> None:
    done = subprocess.run(
        [sys.executable, "docs/diagrams.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run python docs/diagrams.py: {done.stdout}{done.stderr}"
