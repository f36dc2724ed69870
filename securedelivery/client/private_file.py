"""Files that are nobody else's business."""

import contextlib
import os
import tempfile
from pathlib import Path

__all__ = ["replace_private"]


def replace_private(file: Path, text: str) -> None:
    """Write a file as a whole, mode 0600, in UTF-8; what was there before is there until then. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)  # 0600, never through a link
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123 -- it is a descriptor
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise
