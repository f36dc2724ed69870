"""Takes docs/wireshark-*.png: the kit's files, opened in the real program on a virtual screen.

python docs/record_wireshark.py     wants wireshark, Xvfb, xdotool and ImageMagick; as root, also a user without rights
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securedelivery.wireshark.demo import Kit, make_kit

DOCS = Path(__file__).parent
WIDTH, HEIGHT = 1360, 860
DETAILS, ROW = (11, 476), 15  # where the details' first row can be opened; pixels
DRAW_SECONDS = 60  # until the window is there
SETTLE_SECONDS = 2  # a window tells nobody when it has drawn itself


@dataclass(frozen=True)
class Picture:
    """name: of the file. capture: one of the three. rows: of the packet's details, those to open, the lowest first."""

    name: str
    capture: str
    packet: int
    plugin: bool = False
    rows: tuple[int, ...] = ()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="wireshark-pictures-") as name, screen() as display:
        folder = Path(name)
        kit = make_kit(folder / "kit")
        user = unprivileged(folder)
        for picture in pictures(kit, user):
            take(picture, folder, display, user)
            sys.stdout.write(f"docs/{picture.name}.png\n")


def pictures(kit: Kit, user: Mapping[str, Any]) -> list[Picture]:
    order = first_packet(kit, user, 'securedelivery.method == "order.place"')
    rejected = first_packet(kit, user, 'securedelivery.status == "rejected"')
    wire, tls, everything = (path.name for path in (kit.files.on_the_wire, kit.files.tls_opened, kit.files.all_opened))
    return [
        Picture("wireshark-1-on-the-wire", wire, order, rows=(4,)),
        Picture("wireshark-2-tls-opened", tls, order, rows=(5, 4)),
        Picture("wireshark-3-all-opened", everything, order, rows=(0,)),
        Picture("wireshark-4-rejected", everything, rejected, plugin=True, rows=(6, 0)),
    ]


def first_packet(kit: Kit, user: Mapping[str, Any], shown: str) -> int:
    command = ["tshark", "-r", kit.files.all_opened, "-X", f"lua_script:{kit.plugin}", "-Y", shown]
    done = subprocess.run(
        [*command, "-T", "fields", "-e", "frame.number"],
        env={"PATH": os.environ["PATH"], "HOME": str(kit.folder)},
        capture_output=True,
        text=True,
        check=True,
        **user,
    )
    return int(done.stdout.split()[0])


def unprivileged(folder: Path) -> dict[str, Any]:
    """For root: somebody else, since newer versions of Wireshark ignore Lua scripts for root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for one in (folder, *folder.rglob("*")):
        os.chown(one, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@contextmanager
def screen() -> Iterator[str]:
    """A virtual screen; yields its DISPLAY."""
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp"]
    process = subprocess.Popen(command, pass_fds=(writing,), stderr=subprocess.DEVNULL)
    os.close(writing)
    try:
        with os.fdopen(reading) as told:
            yield f":{told.readline().strip()}"
    finally:
        process.terminate()
        process.wait()


def take(picture: Picture, folder: Path, display: str, user: Mapping[str, Any]) -> None:
    kit = folder / "kit"
    home = folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    if user:
        os.chown(home, user["user"], user["group"])
    environment = {
        "PATH": os.environ["PATH"],
        "DISPLAY": display,
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(home),
        "LANG": "C.UTF-8",
        "QT_QPA_PLATFORM": "xcb",
        "WIRESHARK_CONFIG_DIR": str(kit / "wireshark"),
    }
    command = ["wireshark", "-C", "securedelivery", "-o", "gui.update.enabled:FALSE", "-g", str(picture.packet)]
    if picture.plugin:
        command += ["-X", f"lua_script:{kit / 'securedelivery.lua'}"]
    with (folder / "wireshark.log").open("w") as log:
        process = subprocess.Popen(
            [*command, str(kit / picture.capture)], env=environment, cwd=folder, stdout=log, stderr=log, **user
        )
    try:
        xdotool = ["xdotool"]
        shown = subprocess.run(
            [*xdotool, "search", "--sync", "--onlyvisible", "--name", picture.capture],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DRAW_SECONDS,
            check=True,
        )
        window = shown.stdout.split()[-1]
        for command in (["windowmove", window, "0", "0"], ["windowsize", window, str(WIDTH), str(HEIGHT)]):
            subprocess.run([*xdotool, *command], env=environment, check=True)
        time.sleep(SETTLE_SECONDS)
        for row in picture.rows:
            place = [str(DETAILS[0]), str(DETAILS[1] + row * ROW)]
            subprocess.run([*xdotool, "mousemove", *place, "click", "1"], env=environment, check=True)
        time.sleep(SETTLE_SECONDS)
        subprocess.run(
            ["import", "-window", "root", "-strip", "-colors", "255", f"PNG8:{DOCS / picture.name}.png"],  # noqa: S607 -- a tool that whoever runs this has
            env=environment,
            check=True,
        )
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
