"""A folder of certificates, and gen_certs.sh run on it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "gen_certs.sh"


@dataclass(frozen=True)
class Authority:
    """A folder and the script that keeps it."""

    folder: Path
    script: Path = SCRIPT

    def command(self, *words: str | os.PathLike[str]) -> list[str]:
        return [str(self.script), "--dir", str(self.folder), *(os.fspath(word) for word in words)]

    def run(
        self, *words: str | os.PathLike[str], stdin: str = "", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words),
            input=stdin,
            env=os.environ | (env or {}),
            capture_output=True,
            text=True,
            timeout=60,
            start_new_session=True,  # bash passes SIGHUP on to its process group, which shall not be pytest's
            check=False,
        )

    def done(self, *words: str | os.PathLike[str], stdin: str = "") -> str:
        """Runs it, expects success and silence on stderr, returns what it said."""
        result = self.run(*words, stdin=stdin)
        assert (result.returncode, result.stderr) == (0, ""), result
        return result.stdout

    def refused(
        self,
        *words: str | os.PathLike[str],
        code: int = 1,
        stdin: str = "",
        env: dict[str, str] | None = None,
    ) -> str:
        """Runs it, expects one line of error and an untouched folder, returns the line."""
        before = contents(self.folder)
        result = self.run(*words, stdin=stdin, env=env)
        assert result.returncode == code, result
        assert result.stderr.startswith("error: "), result
        assert result.stderr.count("\n") == 1, result
        assert contents(self.folder) == before
        return result.stderr

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.folder / name).read_bytes())

    def revocation_list(self) -> x509.CertificateRevocationList:
        return x509.load_pem_x509_crl((self.folder / "crl.pem").read_bytes())


def contents(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file with its inode, mode and bytes; an equal one means that nothing was written, not even the same."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".lock":
            status = path.stat()
            found[str(path.relative_to(folder))] = (status.st_ino, status.st_mode, path.read_bytes())
    return found


def openssl(*words: str, stdin: str = "") -> str:
    result = subprocess.run(
        ["openssl", *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result
    return result.stdout
