"""A real Postfix in a folder of its own, with a CA of the test's own, delivering into a Maildir.

    with Postfix.start() as postfix:                  # skips the test with a reason where there can be none
        postfix.submission, postfix.tls               # ports: STARTTLS is a must; TLS from the first byte
        (mail,) = postfix.wait(1)                     # bounded; list[EmailMessage], in the order of their delivery
        postfix.stop(); postfix.run()                 # down and up again, on the same ports; the queue stays

Whatever is for DOMAIN is delivered; everything else is refused (554 5.7.1), and so is nobody@DOMAIN (550 5.1.1).
Its folder is not below pytest's, which only its owner may enter; Postfix's daemons are the user `postfix`.
"""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Self

from certificate_authority import CertificateAuthority
from end_to_end.requirements import missing, require

DOMAIN = "post.example"
USER = "postfix"
PATIENCE_SECONDS = 30.0
DAEMONS = Path("/usr/lib/postfix/sbin")

MAIN = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = {user}
setgid_group = postdrop
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.test
mydestination =
mynetworks =
local_recipient_maps =
alias_maps =
alias_database =
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = reject_unlisted_recipient
smtpd_error_sleep_time = 0
smtputf8_enable = yes
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}
virtual_mailbox_maps = regexp:{folder}/recipients
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_tls_cert_file = {folder}/server.crt
smtpd_tls_key_file = {folder}/server.key
smtpd_tls_mandatory_protocols = >=TLSv1.2
smtpd_tls_received_header = yes
default_transport = error:nothing leaves this machine
"""

MASTER = """\
127.0.0.1:{submission} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt
127.0.0.1:{tls} inet n - n - - smtpd -o smtpd_tls_security_level=encrypt -o smtpd_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    def __init__(self, folder: Path) -> None:
        """folder: that the user postfix can enter."""
        self.folder = folder
        self.ca = CertificateAuthority("mail CA")
        self.submission, self.tls = _free_ports(2)
        self._settings = folder / "settings"
        self._write()

    @classmethod
    @contextlib.contextmanager
    def start(cls) -> Iterator[Self]:
        _check()
        folder = Path(tempfile.mkdtemp(prefix="securedelivery-postfix-"))
        folder.chmod(0o755)
        try:
            postfix = cls(folder)
            postfix.run()
            try:
                yield postfix
            finally:
                postfix.stop()
        finally:
            shutil.rmtree(folder)

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def log(self) -> str:
        """With addresses: Postfix's, not ours."""
        path = self.folder / "maillog"
        return path.read_text(errors="replace") if path.exists() else ""

    def run(self) -> None:
        self._command("start")
        for port in (self.submission, self.tls):
            with self._explained():
                socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS).close()

    def stop(self) -> None:
        """By the pid that it wrote into its own folder; what it has taken stays in its queue."""
        self._command("stop")

    def mails(self) -> list[EmailMessage]:
        """All that have been delivered, in that order."""
        delivered = sorted((self.folder / "inbox" / "new").glob("*"), key=lambda path: path.stat().st_mtime_ns)
        found = [message_from_bytes(path.read_bytes(), policy=policy.default) for path in delivered]
        return [mail for mail in found if isinstance(mail, EmailMessage)]

    def wait(self, count: int, seconds: float = PATIENCE_SECONDS) -> list[EmailMessage]:
        """All mails, as soon as there are so many."""
        new, until = self.folder / "inbox" / "new", time.monotonic() + seconds
        while len(list(new.glob("*"))) < count:
            assert time.monotonic() < until, f"{count} mails: not within {seconds} s, {len(self.mails())}\n{self.log}"
            threading.Event().wait(0.02)  # a Maildir tells nobody
        return self.mails()

    def empty(self) -> None:
        """Take out what was delivered, and nothing must be on its way."""
        for path in (self.folder / "inbox" / "new").glob("*"):
            path.unlink()

    def _write(self) -> None:
        user = pwd.getpwnam(USER)
        values = {
            "folder": self.folder,
            "daemons": DAEMONS,
            "user": USER,
            "domain": DOMAIN,
            "uid": user.pw_uid,
            "gid": user.pw_gid,
            "submission": self.submission,
            "tls": self.tls,
        }
        self._settings.mkdir()
        (self._settings / "main.cf").write_text(MAIN.format(**values))
        (self._settings / "master.cf").write_text(MASTER.format(**values))
        (self.folder / "recipients").write_text("!/^nobody@/ inbox/\n")
        (self.folder / "queue").mkdir()
        for name in ("data", "inbox"):
            (self.folder / name).mkdir()
            os.chown(self.folder / name, user.pw_uid, user.pw_gid)
        self.ca.write(self.folder)

    def _command(self, word: str) -> None:
        done = subprocess.run(
            [require("postfix"), "-c", str(self._settings), word],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"postfix {word}: {done.stdout}{done.stderr}\n{self.log}"

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AssertionError(f"{error}\n{self.log}") from error


def _check() -> None:
    """Skips, or fails where nothing may be skipped."""
    require("postfix")
    if os.geteuid() != 0:
        missing("Postfix has to be started by root, who gives its daemons to the user postfix")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
