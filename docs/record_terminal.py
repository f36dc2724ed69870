"""Draws docs/terminal.svg: a real shop, a real customer, what a terminal really shows.

python docs/record_terminal.py
"""

import io
import os
import pty
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).parents[1]
COLUMNS = 110
SESSION = (
    "./gen_certs.sh client alice",
    "securedelivery account create --address '1 Analytical Row, London'",
    "securedelivery catalog radeon",
    "securedelivery order place GPU-AMD-9070XT CPU-AMD-9800X3D",
    "securedelivery order list",
)
FONTS = re.compile(r"@font-face \{.*?\}|<!--.*?-->", re.DOTALL)  # nothing is loaded from elsewhere
THEME = TerminalTheme(
    (24, 27, 34),
    (214, 218, 226),
    [
        (80, 86, 99),
        (240, 113, 120),
        (126, 198, 153),
        (230, 192, 123),
        (110, 168, 254),
        (198, 146, 233),
        (86, 190, 200),
        (200, 204, 212),
    ],
    [
        (110, 116, 130),
        (255, 138, 144),
        (152, 219, 175),
        (245, 212, 150),
        (140, 188, 255),
        (215, 170, 245),
        (115, 210, 218),
        (245, 247, 250),
    ],
)


def shown(command: str, environment: dict[str, str], folder: Path) -> str:
    """What a terminal gets from a command."""
    controller, terminal = pty.openpty()
    arguments = shlex.split(command)
    if arguments[0] == "securedelivery":
        arguments = [sys.executable, "-m", *arguments]
    else:
        arguments = ["bash", str(ROOT / arguments[0]), "--dir", str(folder / "certs"), *arguments[1:]]
    with subprocess.Popen(arguments, stdout=terminal, stderr=terminal, env=environment, cwd=folder) as process:
        os.close(terminal)
        output = b""
        while True:
            try:
                part = os.read(controller, 65_536)
            except OSError:  # Linux says so when the last one has closed the terminal
                break
            output += part
            if not part:
                break
    os.close(controller)
    if process.returncode:
        raise SystemExit(f"{command}: exit code {process.returncode}\n{output.decode()}")
    return output.decode().replace("\r\n", "\n").replace(f"{folder}/", "")


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": name,
            "TERM": "xterm-256color",
            "COLUMNS": str(COLUMNS),
            "LINES": "40",
            "SECUREDELIVERY_CA": str(folder / "certs/ca.crt"),
            "SECUREDELIVERY_CERT": str(folder / "certs/clients/alice.crt"),
            "SECUREDELIVERY_KEY": str(folder / "certs/clients/alice.key"),
        }
        subprocess.run(
            ["/bin/bash", ROOT / "gen_certs.sh", "--dir", folder / "certs"], check=True, stdout=subprocess.DEVNULL
        )
        serve = [
            sys.executable,
            "-m",
            "securedelivery",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--certs",
            folder / "certs",
        ]
        serve += ["--database", f"sqlite:///{name}/shop.db", "--catalog", ROOT / "securedelivery/data/catalog.csv"]
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
        with subprocess.Popen(
            serve, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        ) as server:
            assert server.stdout is not None
            port = server.stdout.readline().rpartition(":")[2].strip()
            environment["SECUREDELIVERY_SERVER"] = f"localhost:{port}"
            try:
                for command in SESSION:
                    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
                    console.print(Text.from_ansi(shown(command, environment, folder).rstrip("\n")))
                    if command != SESSION[-1]:
                        console.print()
            finally:
                server.terminate()
        svg = console.export_svg(title="securedelivery", theme=THEME)
        svg = FONTS.sub("", svg).replace("Fira Code", "ui-monospace, Menlo, Consolas, DejaVu Sans Mono")
    (ROOT / "docs/terminal.svg").write_text(svg)


if __name__ == "__main__":
    main()
