"""The dissector for Wireshark as one file: securedelivery.lua with aesgcm.lua in it.

python -c 'from securedelivery.wireshark.plugin import plugin; print(plugin(), end="")' > securedelivery.lua
"""

from importlib.resources import files

__all__ = ["plugin"]

_REQUIRE = 'require("aesgcm")'


def plugin() -> str:
    """The text of securedelivery.lua for the user's Wireshark; one file, because Wireshark sets no path for modules."""
    here = files("securedelivery.wireshark")
    dissector = here.joinpath("securedelivery.lua").read_text(encoding="utf-8")
    module = here.joinpath("aesgcm.lua").read_text(encoding="utf-8")
    before, _, after = dissector.partition(_REQUIRE)
    return f"{before}(function()\n{module}end)(){after}"
