"""The mail server of the tests, as a process that is killed: what it answered is there afterwards."""

from pathlib import Path

import pytest
from mail.smtp_server import MailProcess
from mail.test_smtp import mail, opened

from securedelivery.errors import MailRefused, MailServerFailure


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_what_was_accepted_outlives_the_process(tmp_path: Path, security: str) -> None:
    faults = [("MESSAGE", "451 4.3.0 later", 1)]
    with MailProcess(tmp_path / "mail", security=security, faults=faults) as host:  # type: ignore[arg-type]
        first = opened(host.server())
        with pytest.raises(MailRefused):
            first.send(mail())
        first.send(mail(subject="one"))
        host.kill()
        with pytest.raises(MailServerFailure):
            first.send(mail())
        port = host.port
        host.start()
        assert host.port == port
        with opened(host.server()) as second:
            with pytest.raises(MailRefused):
                second.send(mail())
            second.send(mail(subject="two"))
        assert [one.message["Subject"] for one in host.wait(2)] == ["one", "two"]
        assert [one.login for one in host.stored()] == ["shop", "shop"]
