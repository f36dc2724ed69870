"""Takes docs/mail-*.png: every mail's sample in the real Chromium, narrow and wide, light and dark.

python docs/record_mail.py     wants chromium and ImageMagick
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from zoneinfo import ZoneInfo

from securedelivery.mail.composer import samples
from securedelivery.mail.links import Site
from securedelivery.mail.rendering import Templates

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "tests"))
from wireshark.browser import Browser  # noqa: E402 -- of the tests

NARROW, WIDE = 360, 1000
SAMPLES = samples(Site("https://shop.example.org"))
COLOURS = 128
SMALL = (
    "-define",
    "png:compression-level=9",
    "-define",
    "png:compression-filter=0",
    "-define",
    "png:compression-strategy=0",
)
PICTURES = {
    "mail-1-orders": ("order_placed", "order_cancelled", "order_delivered", "order_returned"),
    "mail-2-summaries": ("customer_summary", "operator_summary"),
    "mail-3-others": ("missed_chat", "test"),
}


def main() -> None:
    missing = set(SAMPLES).difference(*PICTURES.values())
    if missing:
        sys.exit(f"no picture has {', '.join(sorted(missing))}")
    templates = Templates(None, ZoneInfo("Europe/Berlin"))
    with tempfile.TemporaryDirectory(prefix="mail-pictures-") as name, Browser() as browser:
        folder = Path(name)
        for picture, mails in PICTURES.items():
            rows = []
            for mail in mails:
                page = folder / f"{mail}.html"
                page.write_text(templates.render(mail, SAMPLES[mail]).html, encoding="utf-8")
                rows.append(row(browser, page))
            magick(*rows, "-append", "-strip", "+dither", "-colors", str(COLOURS), *SMALL, f"PNG8:{DOCS / picture}.png")
            sys.stdout.write(f"docs/{picture}.png\n")


def row(browser: Browser, page: Path) -> Path:
    """Four views of one mail, side by side."""
    views = []
    for width in (NARROW, WIDE):
        for scheme in ("light", "dark"):
            browser.scheme(scheme)
            browser.open(page, width=width, height=200)
            view = page.with_name(f"{page.stem}-{width}-{scheme}.png")
            view.write_bytes(browser.picture())
            views.append(view)
    done = page.with_suffix(".png")
    magick(*views, "-background", "#808080", "-bordercolor", "#808080", "-border", "6", "+append", done)
    return done


def magick(*arguments: str | Path) -> None:
    subprocess.run(["convert", *map(str, arguments)], check=True)  # noqa: S607 -- a tool that whoever runs this has


if __name__ == "__main__":
    main()
