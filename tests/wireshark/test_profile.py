"""The profile, as a real Wireshark takes it."""

import re
from pathlib import Path

import pytest
from wireshark.told import opened, performed, story
from wireshark.traffic import Studio
from wireshark.tshark import Result, run, tshark

from securedelivery.wireshark import files, profile
from securedelivery.wireshark.demo import Kit
from securedelivery.wireshark.stage import ADDRESSES

NAMES = ["colorfilters", "dfilter_buttons", "heuristic_protos", "hosts", "preferences", "recent"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    profile.write(tmp_path, performed())
    return tmp_path / "wireshark" / "profiles" / "securedelivery"


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    return files.write(tmp_path, performed(), opened()).all_opened


def look(folder: Path, capture: Path, *arguments: str | Path) -> Result:
    """What tshark says with the profile. A Path among the arguments, behind a word that ends with {}, is a file."""
    script = (
        "place=own/profiles/securedelivery; mkdir -p $place; capture=$1; shift;"
        f' for name in {" ".join(NAMES)}; do cp "$1" $place/$name; shift; done;'
        ' WIRESHARK_CONFIG_DIR=$PWD/own tshark -C securedelivery -r "$capture" "$@"'
    )
    return run("bash", "-c", script, "bash", capture, *(folder / name for name in NAMES), *arguments)


def test_the_files_of_a_profile(folder: Path) -> None:
    assert sorted(one.name for one in folder.iterdir()) == NAMES
    profile.write(folder.parents[2], performed())
    assert sorted(one.name for one in folder.iterdir()) == NAMES


def test_columns_and_names(folder: Path, capture: Path) -> None:
    result = look(folder, capture)
    assert (result.code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert re.match(r" +1 0\.0+ +alice (→|->) shop +TCP [0-9]+ .*\[SYN\].*Act 1\. alice -> shop", lines[0])
    assert not re.search(r"192\.0\.2\.\d+ (→|->)", result.stdout)
    assert re.search(r"gateway (→|->) shop", result.stdout)


def test_nobody_is_asked_for_names(folder: Path, capture: Path) -> None:
    preferences = (folder / "preferences").read_text()
    assert "nameres.use_external_name_resolver: FALSE" in preferences
    assert "nameres.dns_pkt_addr_resolution: FALSE" in preferences
    hosts = dict(reversed(line.split()) for line in (folder / "hosts").read_text().splitlines())
    assert hosts == ADDRESSES


def test_every_preference_is_one_that_wireshark_knows(folder: Path) -> None:
    known = run("tshark", "-G", "currentprefs").stdout
    names = re.findall(r"^([a-z_.]+): ", (folder / "preferences").read_text(), re.MULTILINE)
    assert len(names) >= 6
    for name in names:
        assert re.search(rf"^#?{re.escape(name)}: ", known, re.MULTILINE), name


def test_random_bytes_are_not_taken_for_another_protocol(folder: Path, tmp_path: Path) -> None:
    """A HANDSHAKE whose e looks like Remote Desktop: Wireshark believes it, with this profile it does not."""
    studio = Studio(tmp_path)
    line = studio.line()
    line.send(True, b"\x01\x00\x04\xc0" + b"\x80\x00" + bytes(1_214))
    capture = studio.write()
    guessed = tshark(capture, "-Y", "tls", "-T", "fields", "-e", "frame.protocols").stdout
    result = look(folder, capture, "-Y", "tls", "-T", "fields", "-e", "frame.protocols")
    assert result.stderr == ""
    assert "tls:rdpmt" in guessed
    assert "tls:rdpmt" not in result.stdout
    assert "tls:data" in result.stdout


def test_colours_say_what_became_of_a_frame(folder: Path, capture: Path, kit: Kit) -> None:
    """With the dissector every filter compiles, and each finds its packets."""
    colours = (folder / "colorfilters").read_text().splitlines()
    result = look(
        folder,
        capture,
        *("-X", "lua_script:{}", kit.plugin),
        *("--color", "-T", "fields", "-e", "frame.number", "-e", "frame.coloring_rule.name"),
    )
    assert (result.code, result.stderr) == (0, "")
    plain = re.sub("\x1b\\[[0-9;]*[A-Za-z]", "", result.stdout)
    named = {int(number): rule for number, rule in re.findall(r"(\d+)\t([^\t\n]*)", plain)}
    assert set(named.values()) == {line.split("@")[1] for line in colours}
    by_rule = {rule: {number for number, one in named.items() if one == rule} for rule in set(named.values())}
    assert len(by_rule["A frame that its receiver rejects"]) == 3
    assert len(by_rule["An alert of TLS"]) == 2
    assert min(by_rule["A message in clear"]) == len(performed().packets) + 1


def contrast(ground: list[int], text: list[int]) -> float:
    """WCAG 2.2, section 1.4.3."""

    def luminance(colour: list[int]) -> float:
        parts = [one / 65_535 for one in colour]
        red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    first, second = sorted((luminance(ground), luminance(text)), reverse=True)
    return (first + 0.05) / (second + 0.05)


def test_colours_can_be_read(folder: Path) -> None:
    for line in (folder / "colorfilters").read_text().splitlines():
        ground, text = ([int(one) for one in part.split(",")] for part in re.findall(r"\[([^]]*)\]", line))
        assert contrast(ground, text) >= 7, line


def test_each_button_shows_one_act_and_together_all(folder: Path, capture: Path) -> None:
    acts = {packet: performed().legs[leg.number].act for leg in opened() for packet in leg.packets}
    buttons = (folder / "dfilter_buttons").read_text().splitlines()
    shown: dict[int, set[int]] = {}
    for act, button in enumerate(buttons, 1):
        enabled, name, expression, title = re.findall('"([^"]*)"', button)
        assert (enabled, name, title) == ("TRUE", f"Act {act}", story().acts[act - 1].title)
        result = tshark(capture, "-Y", expression, "-T", "fields", "-e", "frame.number", "-e", "exported_pdu.orig_fno")
        assert result.stderr == ""
        shown[act] = {int(number) for number, _ in result.rows}
        assert {acts[int(original or number)] for number, original in result.rows} == {max(act, 3) if act > 3 else 1}
    whole = set(range(1, 1 + len(tshark(capture, "-T", "fields", "-e", "frame.number").rows)))
    assert set().union(*shown.values()) == whole
    assert shown[2] < shown[1] < shown[3]
    for act in range(4, 9):
        for other in range(act + 1, 9):
            assert not shown[act] & shown[other]
