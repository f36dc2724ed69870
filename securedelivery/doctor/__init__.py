"""What is wrong with a service, and what to do about it: `securedelivery doctor`.

Nothing is changed: no migration, no key, no file. Each check is a function in CHECKS that yields what it finds; what it
raises of the project's errors, or of the system's, is one more thing that is wrong.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from securedelivery.config import Settings
from securedelivery.doctor import certificates, database, machine, mail, web
from securedelivery.doctor.findings import Finding, Found, State, wrong
from securedelivery.errors import SecureDeliveryError

__all__ = ["CHECKS", "Check", "Finding", "State", "examine"]

Check = Callable[[Settings, datetime], Iterator[Found]]
"""Called with the settings and the time (aware, UTC)."""

CHECKS: Mapping[str, Check] = {
    "ca": certificates.authority,
    "server_certificate": certificates.server,
    "revocation_list": certificates.revocation_list,
    "private_keys": certificates.private_keys,
    "names": certificates.names,
    "database": database.database,
    "key": database.key,
    "listen": machine.listen,
    "clock": machine.clock,
    "open_files": machine.open_files,
    "mail_receipts": mail.receipts,
    "mail_summaries": mail.summaries,
    "web": web.door,
}


def examine(settings: Settings, now: datetime) -> Iterator[Finding]:
    """All that the checks find, in their order, as it is found."""
    for name, check in CHECKS.items():
        try:
            for found in check(settings, now):
                yield Finding(name, *found)
        except SecureDeliveryError as error:
            yield Finding(name, *wrong(str(error), getattr(error, "hint", "")))
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            yield Finding(name, *wrong(f"{place}{error.strerror or error}"))
