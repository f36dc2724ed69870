"""Key logs, for teaching and debugging: the keys of each connection, for Wireshark (docs/protocol.md, section 6).

    SSLKEYLOGFILE                 TLS, in the NSS format
    SECUREDELIVERY_FRAME_KEYLOG   the frames; the protocol core hands over the first keys of both directions

Whoever has them and a recording reads everything in it. So nothing is written on the word of a variable alone, each
file is opened once, where nobody can put another one in its place, and each connection is told of.

OpenSSL writes to a pipe, and what comes out of it is appended here: where OpenSSL cannot write, as on a full disk, the
error stays in its queue and ends this or another connection.
"""

import contextlib
import errno
import logging
import os
import ssl
import stat
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from securedelivery.errors import ConfigurationError

__all__ = ["FRAME_VARIABLE", "TLS_VARIABLE", "KeyLogs"]

TLS_VARIABLE = "SSLKEYLOGFILE"
FRAME_VARIABLE = "SECUREDELIVERY_FRAME_KEYLOG"
PRIVATE = 0o600
PIPE_BYTES = 65_536  # a handshake has less than 1,000 to say

# O_NONBLOCK: a FIFO that nobody reads would be waited for. O_PATH: a folder needs only to be passed through.
_FILE = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class KeyLogs:
    """The key logs of a process. Any thread may call. A connection never ends because a key could not be written.

    tls, frames: the files, of which one may be None. warn: told of what goes wrong, and by clients of each connection;
    Python's logging by default, which shows it on stderr. Raises ConfigurationError, which names file and remedy, where
    a file is a symbolic link (or lies behind one), no regular file, another user's, or open to others.
    """

    def __init__(self, tls: Path | None, frames: Path | None, *, warn: Callable[[str], None] | None = None) -> None:
        if tls is None and frames is None:
            raise ConfigurationError(
                "--key-log",
                f"no file is named: neither {TLS_VARIABLE} nor {FRAME_VARIABLE} is set",
                f"set {TLS_VARIABLE}=tls-keys.log and {FRAME_VARIABLE}=frame-keys.log, or leave out --key-log",
            )
        self.warn = warn or logging.getLogger("securedelivery").warning
        self._tls = None if tls is None else _File(tls)
        self._frames = None if frames is None else _File(frames)
        if self._tls is not None and self._frames is not None and self._tls.identity == self._frames.identity:
            raise ConfigurationError(
                str(frames),
                "it is the key log of TLS as well",
                "name two files: whoever is given the one is not to get the other's keys with it",
            )
        self._pipe = None if self._tls is None else _Pipe(self._append_tls)

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], *, warn: Callable[[str], None] | None = None
    ) -> "KeyLogs":
        """The files that the two variables name; one that is empty counts as not set. For who was given the flag."""
        tls, frames = (environment.get(name) or None for name in (TLS_VARIABLE, FRAME_VARIABLE))
        return cls(tls and Path(tls), frames and Path(frames), warn=warn)

    @property
    def files(self) -> tuple[Path, ...]:
        """TLS first."""
        return tuple(one.path for one in (self._tls, self._frames) if one is not None)

    def close(self) -> None:
        """From now on nothing is written. Otherwise it closes itself."""
        for one in (self._tls, self._frames):
            if one is not None:
                one.close()

    def prepare(self, context: ssl.SSLContext) -> None:
        """Have the keys of the context's connections logged, for those over memory (channel.Channel)."""
        if self._pipe is not None:
            try:
                self._pipe.connect(context)
            except OSError as error:
                self.warn(f"the keys of a connection cannot be logged ({error.strerror}); it goes on without")

    def frame_keys(self, initiator_e: bytes, client_to_server: bytes, server_to_client: bytes) -> None:
        """Append both lines. initiator_e: the client's X25519 public key; the first keys of both directions."""
        if self._frames is not None:
            e = initiator_e.hex()
            lines = f"SD_FRAME_KEY_C2S {e} {client_to_server.hex()}\nSD_FRAME_KEY_S2C {e} {server_to_client.hex()}\n"
            self._append(self._frames, lines.encode())

    def _append_tls(self, lines: bytes) -> None:
        assert self._tls is not None
        self._append(self._tls, lines)

    def _append(self, file: "_File", lines: bytes) -> None:
        try:
            file.append(lines)
        except OSError as error:
            if not file.is_failing:  # told once, until it works again
                file.is_failing = True
                self.warn(f"{file.path}: keys could not be logged ({error.strerror}); connections go on without")
        else:
            file.is_failing = False


class _Pipe:
    """What OpenSSL writes to. append: is called with whole lines, before a step of a handshake ends, on its thread."""

    def __init__(self, append: Callable[[bytes], None]) -> None:
        self._append = append
        self._reading, writing = os.pipe()
        os.set_blocking(self._reading, False)
        for descriptor in (self._reading, writing):
            weakref.finalize(self, os.close, descriptor)
        self._path = f"/dev/fd/{writing}"
        # One step at a time, and it is emptied behind each: so the pipe is never full, which would hold OpenSSL up.
        self._turn = threading.Lock()
        self._tls_class = _logging_class(self)
        try:
            os.close(os.open(self._path, os.O_WRONLY | os.O_CLOEXEC))
        except OSError as error:
            raise ConfigurationError(
                TLS_VARIABLE, f"{self._path} cannot be opened ({error.strerror})", "mount /dev and /proc"
            ) from error

    def connect(self, context: ssl.SSLContext) -> None:
        """Raises OSError."""
        context.sslobject_class = self._tls_class
        context.keylog_filename = self._path

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around each step of a handshake."""
        with self._turn:
            try:
                yield
            finally:
                with contextlib.suppress(BlockingIOError):  # it is empty
                    self._append(os.read(self._reading, PIPE_BYTES))


def _logging_class(pipe: _Pipe) -> type[ssl.SSLObject]:
    class Logging(ssl.SSLObject):
        def do_handshake(self) -> None:
            with pipe.step():
                super().do_handshake()

    return Logging


class _File:
    """A key log: opened once, written at its end, private. is_failing: whether the last lines could not be written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_failing = False
        self._descriptor = _open(path)
        # It closes at the end of this object, too, and in a child, which is not to have it.
        self._close = weakref.finalize(self, os.close, self._descriptor)
        os.register_at_fork(after_in_child=self._close)
        status = os.fstat(self._descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self._lock = threading.Lock()
        self._is_torn = False

    def close(self) -> None:
        with self._lock:
            self._close()

    def append(self, lines: bytes) -> None:
        """In one write, so that the lines of other processes stand before or behind these. Raises OSError."""
        with self._lock:
            if not self._close.alive:
                return
            rest = b"\n" + lines if self._is_torn else lines
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
                self._is_torn = bool(rest)  # the disk is full, as the next round will say


def _open(path: Path) -> int:
    """A descriptor of the file, which is made where there is none. Raises ConfigurationError."""
    try:
        folder = _open_folder(path)
        try:
            descriptor = _open_in(folder, path.name or ".")
        finally:
            os.close(folder)
    except OSError as error:
        raise _refusal(path, *_explain(path, error)) from error
    fault = _fault_of(os.fstat(descriptor), path)
    if fault is not None:
        os.close(descriptor)
        raise _refusal(path, *fault)
    return descriptor


def _open_folder(path: Path) -> int:
    """The folder that the file is in, reached step by step: a link on the way would be somebody else's choice too."""
    first, *others = path.parent.parts or (".",)
    here = os.open(first, _FOLDER)
    for name in others:
        try:
            below = os.open(name, _FOLDER, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


def _open_in(folder: int, name: str) -> int:
    try:
        descriptor = os.open(name, _FILE | os.O_CREAT | os.O_EXCL, PRIVATE, dir_fd=folder)
    except FileExistsError:
        return os.open(name, _FILE, dir_fd=folder)
    os.fchmod(descriptor, PRIVATE)  # an umask may have taken the owner's rights as well
    return descriptor


def _fault_of(status: os.stat_result, path: Path) -> tuple[str, str] | None:
    """What is wrong with a file, and the remedy; None for one that may hold keys."""
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return "it is a symbolic link", f"name the file itself: {os.path.realpath(path)}"
    if stat.S_ISDIR(status.st_mode):
        return "it is a folder", f"name a file in it, such as {path / 'keys.log'}"
    if not stat.S_ISREG(status.st_mode):
        return "it is no regular file", "name a file on a disk"
    if status.st_uid != os.geteuid():
        return "it belongs to another user, who can read it", "name a new file, or one of this user"
    if mode & 0o077:
        return f"others may read or write it (mode {mode:04o})", f"chmod 600 {path}, or name a new file"
    return None


def _explain(path: Path, error: OSError) -> tuple[str, str]:
    """Words for a file that could not be opened; what it was found to be decides nothing any more."""
    links = [one for one in (path, *path.parents) if os.path.islink(one)]  # noqa: PTH114 -- Path's raises
    if links and links[0] != path:
        return f"{links[0]} is a symbolic link", f"name it without the link: {os.path.realpath(path)}"
    try:
        fault = _fault_of(path.lstat(), path)
    except OSError:
        fault = None
    if fault is not None:
        return fault
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "its folder does not exist", f"mkdir -p {path.parent}"
    return f"cannot be opened ({error.strerror})", "name a file in a folder that this user may write"


def _refusal(path: Path, what: str, hint: str) -> ConfigurationError:
    return ConfigurationError(str(path), f"no keys are written here: {what}", hint)
