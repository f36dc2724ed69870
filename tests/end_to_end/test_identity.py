"""Whose name is whose: the rules of the protocol's section "Accounts"."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from certificate_authority import CertificateAuthority
from end_to_end.customers import Enter, RingOf, refusal
from end_to_end.server_process import ServerProcess
from wire_client import WireClient

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory, authority: CertificateAuthority) -> Iterator[ServerProcess]:
    """A server that also takes customers without certificate; mallory's and victor's names were issued one."""
    certs = authority.write(tmp_path_factory.mktemp("certs"))
    (certs / "names.txt").write_text("mallory\nvictor\n")
    settings = {"server": {"client_certificates": "optional"}}
    with ServerProcess(tmp_path_factory.mktemp("server"), certs, settings) as running:
        yield running


def test_a_certificate_opens_its_own_name_alone(server: ServerProcess, enter: Enter, ring: RingOf) -> None:
    with WireClient.connect(server.address, ring("grace")) as client:
        for method in ("account.create", "account.login"):
            refused = refusal(lambda method=method: client.call(method, username="heidi", password=PASSWORD))
            assert (refused.code, refused.reason) == (1403, "forbidden")
        account = client.call("account.create", username="grace")
        assert account["certificate"] == "spiffe://shop.test/account/grace"
        assert not account["has_password"]
    with WireClient.connect(server.address, ring("grace")) as client:
        assert refusal(lambda: client.call("account.get")).reason == "not_logged_in"
        assert client.call("account.login_certificate") == account
        assert client.call("account.get") == account


def test_the_welcome_names_the_identity(server: ServerProcess, ring: RingOf) -> None:
    with WireClient.connect(server.address, ring("ivan")) as client:
        welcome = client.wait_for("system.welcome")
        assert welcome["identity"] == "spiffe://shop.test/account/ivan"
        assert welcome["session"] == client.core.session.hex()


def test_an_account_without_password_takes_none(server: ServerProcess, ring: RingOf) -> None:
    with WireClient.connect(server.address, ring("judy")) as client:
        client.call("account.create", username="judy")
        refused = refusal(lambda: client.call("account.login", username="judy", password=PASSWORD))
        assert (refused.code, refused.reason) == (1401, "bad_credentials")


def test_names_with_a_certificate_are_taken_for_those_without(lenient: ServerProcess, ring: RingOf) -> None:
    with WireClient.connect(lenient.address, ring(None)) as anonymous:
        assert anonymous.wait_for("system.welcome")["identity"] is None
        refused = refusal(lambda: anonymous.call("account.create", username="mallory", password=PASSWORD))
        assert (refused.code, refused.reason) == (1409, "username_taken")
        free = anonymous.call("account.create", username="nobody-has-it", password=PASSWORD)
        assert (free["certificate"], free["has_password"]) == (None, True)
        assert refusal(lambda: anonymous.call("account.login_certificate")).reason == "bad_credentials"
    with WireClient.connect(lenient.address, ring("mallory")) as owner:
        assert owner.call("account.create", username="mallory")["certificate"] == "spiffe://shop.test/account/mallory"


def test_a_name_issued_while_the_server_runs_is_taken_at_once(lenient: ServerProcess, ring: RingOf) -> None:
    names = lenient.certs / "names.txt"
    _replace(names, names.read_text() + "late\n")
    with WireClient.connect(lenient.address, ring(None)) as anonymous:
        refused = refusal(lambda: anonymous.call("account.create", username="late", password=PASSWORD))
        assert (refused.code, refused.reason) == (1409, "username_taken")


def test_a_password_logs_in_without_certificate_and_a_wrong_one_says_nothing(
    lenient: ServerProcess, ring: RingOf
) -> None:
    with WireClient.connect(lenient.address, ring(None)) as client:
        created = client.call("account.create", username="oscar", password=PASSWORD)
    with WireClient.connect(lenient.address, ring(None)) as client:
        wrong = refusal(lambda: client.call("account.login", username="oscar", password="not the password"))
        nobody = refusal(lambda: client.call("account.login", username="no-such-name", password="not the password"))
        assert (wrong.code, wrong.data, str(wrong)) == (nobody.code, nobody.data, str(nobody))
        assert wrong.reason == "bad_credentials"
        assert client.call("account.login", username="oscar", password=PASSWORD) == created


def test_an_operator_makes_accounts_of_any_role_beside_the_running_server(
    lenient: ServerProcess, ring: RingOf, enter: Enter, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    flags = ["--role", "agent", "--certs", str(lenient.certs)]
    lenient.admin("account", "create", "sam", *flags, "--password-file", str(secret))
    with WireClient.connect(lenient.address, ring("sam")) as client:
        account = client.call("account.login_certificate")
        assert (account["role"], account["has_password"]) == ("agent", True)
        assert client.call("account.login", username="sam", password=PASSWORD) == account
        customer = enter(lenient, "tina")
        assert refusal(lambda: customer.call("order.list", account="sam")).reason == "not_found"
        assert client.call("order.list", account="tina")["items"] == []


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)
