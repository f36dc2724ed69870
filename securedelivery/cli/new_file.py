"""Files that a command writes for its operator."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from securedelivery.errors import ConfigurationError

__all__ = ["new_file"]


@contextmanager
def new_file(path: Path, option: str = "") -> Iterator[BinaryIO]:
    """To write a new file of the owner's alone (0600), which is whole or not there.

    option: that named it. Raises ConfigurationError where there is one, or none can be.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with open(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:  # noqa: PTH123
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, path)  # unlike a rename, never in the place of a file that is there
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        what = error.strerror or str(error)
        raise ConfigurationError(
            option or str(path),
            f"{path}: {what}" if option else what,
            "name a file that is not there yet and can be written",
        ) from error
