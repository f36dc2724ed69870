"""A capture that goes into a file as it is made: a relay that is killed leaves a file that can be read."""

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from securedelivery import __version__
from securedelivery.errors import ConfigurationError
from securedelivery.wireshark import pcapng
from securedelivery.wireshark.capture import Capture, Recorded

__all__ = ["RecordingFile"]


class RecordingFile:
    """A context manager, which makes the file. capture: what is recorded into it within the context is in the file when
    the call returns, in one write.

    Made with mode 0600, since whoever has keys can read everything in it. Entering raises ConfigurationError where the
    file is there already or cannot be made. What cannot be written raises OSError; a block that was cut is removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._length = 0  # of the file, in whole blocks
        self._burst = bytearray()
        self.capture = Capture(self._take, settle=self._write)

    def __enter__(self) -> Self:
        try:
            self._descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
        except FileExistsError:
            raise ConfigurationError(
                "--write", f"{self._path} is there already", "name another file, or remove it"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                "--write",
                f"{self._path} cannot be made ({error.strerror})",
                "name a file in a folder that can be written to",
            ) from error
        self._burst += pcapng.section_header(f"securedelivery {__version__} relay")
        self._burst += pcapng.interface(pcapng.ETHERNET, "relay", "as forwarded by securedelivery relay")
        try:
            self._write()
        except OSError:
            os.close(self._descriptor)
            self._path.unlink()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        if kind is not None and not self.capture.count:  # it failed before anything was recorded
            self._path.unlink(missing_ok=True)

    def _take(self, packet: Recorded) -> None:
        self._burst += pcapng.packet(packet.data, at=packet.at)

    def _write(self) -> None:
        left = memoryview(bytes(self._burst))
        self._burst.clear()
        whole = self._length + len(left)
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._length)
            words = f"{self._path} cannot be written any more ({error.strerror})"
            raise OSError(error.errno, words) from error
        self._length = whole
