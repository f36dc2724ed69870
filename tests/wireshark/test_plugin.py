"""The one file for the user: made from the package's two, also where the package is a wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

from wireshark.tshark import run

from securedelivery.wireshark.plugin import plugin

MAKE = "from securedelivery.wireshark.plugin import plugin; print(plugin(), end='')"
EMPTY_CAPTURE = bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000")


def test_it_needs_no_module_beside_it(tmp_path: Path) -> None:
    script, capture = tmp_path / "securedelivery.lua", tmp_path / "empty.pcap"
    script.write_text(plugin(), encoding="utf-8")
    capture.write_bytes(EMPTY_CAPTURE)
    assert "require(" not in plugin()
    loaded = run("tshark", "-X", "lua_script:{}", script, "-r", capture, "-Y", "securedelivery.status")
    assert (loaded.stderr, loaded.code) == ("", 0)
    unloaded = run("tshark", "-r", capture, "-Y", "securedelivery.status")
    assert unloaded.code != 0


def test_it_can_be_had_from_the_shell() -> None:
    done = subprocess.run([sys.executable, "-c", MAKE], capture_output=True, text=True, check=True)
    assert done.stdout == plugin()


def test_it_can_be_had_from_a_wheel(tmp_path: Path) -> None:
    """importlib.resources, and not paths: here even from within the archive."""
    package = Path(__file__).parents[2] / "securedelivery"
    wheel = tmp_path / "securedelivery-0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("__init__.py", "wireshark/__init__.py", "wireshark/plugin.py"):
            archive.write(package / name, f"securedelivery/{name}")
        for name in ("securedelivery.lua", "aesgcm.lua"):
            archive.write(package / "wireshark" / name, f"securedelivery/wireshark/{name}")
    code = f"import sys; sys.path.insert(0, {str(wheel)!r}); {MAKE}"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == plugin()
