"""Command, stdout, stderr, exit code: what people see, word for word."""

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from certificate_authority import CertificateAuthority
from cli.conftest import Shell, Shop, fails, said
from cryptography.hazmat.primitives.serialization import Encoding

Customer = Callable[[str], Shell]


# The first hour of a customer


def test_from_nothing_to_an_order(shell: Shell, shop: Shop) -> None:
    certificate = shop.certificate("zoe")
    folder = str(shop.folder)
    assert said(shell("order", "list")) == fails(
        "--user: who are you? There is neither a certificate nor a name",
        "securedelivery profile set --certificate FILE, or: --user NAME",
        2,
    )
    assert said(shell("profile", "show"), home=str(shell.home)) == (
        (
            "SETTING          VALUE           FROM\n"
            "Server           localhost:5555  default\n"
            "CA               -\n"
            "Certificate      -\n"
            "Key              -\n"
            "Revocation list  -\n"
            "CA of TLS        -\n"
        ),
        "There is no profile yet (HOME/.config/securedelivery/profile.toml)\n",
        0,
    )
    done = shell("profile", "set", "--server", shop.required, "--ca", f"{folder}/ca.crt", "--cert", str(certificate))
    assert done.code == 0
    file = shell.home / ".config/securedelivery/profile.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert said(shell("order", "list")) == fails(
        "there is no account yet for zoe", "open one: securedelivery account create", 1
    )
    assert said(shell("account", "create", "--name", "Zoe Zander", "--address", "1 Main Street")) == (
        (
            "Account      zoe\n"
            "Role         customer\n"
            "Name         Zoe Zander\n"
            "E-mail       -\n"
            "Address      1 Main Street\n"
            "Certificate  spiffe://shop.test/account/zoe\n"
            "Password     -\n"
            "Mail         receipts, summaries, missed chat\n"
            "Orders       0\n"
            "Points       0\n"
            "Tier         bronze\n"
            "Since        AT-SOME-MINUTE--\n"
        ),
        "",
        0,
    )
    assert said(shell("order", "list")) == (
        "",
        "No orders yet. Order something: securedelivery order place SKU\n",
        0,
    )
    shown = (
        "Order          NUMBER\n"
        "Status         placed\n"
        "Placed         AT-SOME-MINUTE--\n"
        "Address        1 Main Street\n"
        "Delivery code  CODE (for the courier, when the parcel is in your hands)\n"
        "\n"
        "QUANTITY  SKU    PRODUCT                     EACH         TOTAL\n"
        "       1  CPU-1  A small processor      EUR 99.00     EUR 99.00\n"
        "       2  CPU_2  A larger processor  EUR 1,234.50  EUR 2,469.00\n"
        "\n"
        "Total   EUR 2,568.00\n"
        "Earned  2,568 points\n"
    )
    placed = shell("order", "place", "CPU-1", "CPU_2:2", "--key", "k1")
    assert said(placed) == (shown, "", 0)
    assert shell("order", "place", "CPU-1", "CPU_2:2", "--key", "k1") == placed
    assert shell("order", "show", placed.stdout.split()[1]) == placed
    assert said(shell("order", "place", "CPU-1:3", "--key", "k1")) == fails(
        "this key was used for another order; take a new one",
        "leave out --key to place a new order; the old one is in: securedelivery order list",
        1,
    )
    done = shell("order", "place", "CPU-1", "--redeem", "100", "--address", "2 Side Street\nBack door")
    assert "Address        2 Side Street, Back door\n" in done.stdout
    assert "Subtotal  EUR 99.00\nDiscount  EUR -5.00 (100 points)\nTotal     EUR 94.00\n" in done.stdout
    listed = said(shell("order", "list", "--limit", "1"))
    assert re.fullmatch(
        r"ORDER  PLACED            STATUS  PRODUCTS       TOTAL\n"
        r" +\d+  AT-SOME-MINUTE--  placed  1 x CPU-1  EUR 94\.00\n",
        listed[0],
    )
    assert listed[1:] == ("There are more: --limit NUMBER, or go on with --after CURSOR\n", 0)
    assert said(shell("order", "list", "--status", "out_for_delivery")) == (
        "", "No orders that are out for delivery.\n", 0,
    )  # fmt: skip
    assert said(shell("account", "create")) == fails(
        "there is an account zoe already", "see it: securedelivery account show", 1
    )


@pytest.fixture
def bob(customer: Customer) -> Shell:
    """A customer with an account; may be there from an earlier test."""
    shell = customer("bobby")
    assert shell("account", "create", "--address", "3 Hill Road").code in (0, 1)
    return shell


# Refused by the service: 1


@pytest.mark.parametrize(
    ("command", "message", "hint"),
    [
        ("order place GPU-1:4", "GPU-1: 3 left", "order at most 3: GPU-1:3"),
        ("order place NO-1", "there is no product NO-1", "securedelivery catalog"),
        ("order place OLD-1", "there is no product OLD-1", "securedelivery catalog"),
        ("order place CPU-1 --redeem 5", "0 points to redeem", "see what there is: securedelivery rewards"),
        ("order show 999", "there is no order 999", "securedelivery order list"),
        (
            "account create another",
            "this connection's certificate is for bobby alone",
            "leave out the name: securedelivery account create",
        ),
    ],
)
def test_refused(bob: Shell, command: str, message: str, hint: str) -> None:
    assert said(bob(*command.split())) == fails(message, hint, 1)


def test_no_address_anywhere(customer: Customer) -> None:
    shell = customer("homeless")
    shell("account", "create")
    assert said(shell("order", "place", "CPU-1")) == fails(
        "where to? neither this call nor the account has an address",
        "give one with --address, or keep one: securedelivery account update --address TEXT",
        1,
    )


def test_more_than_a_frame_holds(bob: Shell) -> None:
    done = bob("order", "place", "CPU-1", "--address", "x" * 70_000)
    assert done.code == 1
    assert "does not fit a frame" in done.stderr


def test_text_that_is_no_utf8(bob: Shell) -> None:
    assert said(bob("order", "place", b"CPU\xff".decode("utf-8", "surrogateescape"))) == fails(
        "there is text in the request that is not valid Unicode", "give shorter texts, in UTF-8", 1
    )


# Wrong usage: 2


@pytest.mark.parametrize(
    ("command", "message", "hint"),
    [
        ("ordr", "no such command 'ordr'. Did you mean 'order'?", "securedelivery --help"),
        ("order plcae", "no such command 'plcae'. Did you mean 'place'?", "securedelivery order --help"),
        ("order place", "missing argument 'SKU[:QUANTITY]'", "securedelivery order place --help"),
        ("order list --nonsense", "no such option: --nonsense", "securedelivery order list --help"),
        ("order place CPU-1:0", "CPU-1:0: a quantity is 1 to 10,000", "for example: CPU-1:2"),
        ("order place CPU-1:10001", "CPU-1:10001: a quantity is 1 to 10,000", "for example: CPU-1:2"),
        (f"order place CPU-1:{'9' * 5000}", f"CPU-1:{'9' * 5000}: a quantity is 1 to 10,000", "for example: CPU-1:2"),
        (
            "catalog --server a@b",
            "server: 'a@b' is not an address",
            "write HOST:PORT, for example shop.example.org:5555",
        ),
        ("profile set", "profile set: nothing to remember was given", "securedelivery profile set --help"),
        ("order list --user carl", "--user: the certificate is for bobby", "leave out --user, or the certificate"),
    ],
)
def test_wrong_usage(bob: Shell, command: str, message: str, hint: str) -> None:
    assert said(bob(*command.split())) == fails(message, hint, 2)


@pytest.mark.parametrize(
    "command", ["order show x", "order show 0", "order list --status lost", "catalog --limit 0", "ping --timeout 0"]
)
def test_values_that_cannot_be(shell: Shell, command: str) -> None:
    done = shell(*command.split())
    assert done.code == 2
    assert done.stderr.startswith("error: invalid value for ")
    assert "\nhint: securedelivery " in done.stderr


@pytest.mark.parametrize("command", ["", "order", "account", "profile", "deliveries", "support"])
def test_nothing_more_said_is_help_and_an_error(shell: Shell, command: str) -> None:
    done = shell(*command.split())
    assert (done.stdout, done.code) == ("", 2)
    assert "Usage: securedelivery" in done.stderr


def test_a_profile_that_cannot_be_read(shell: Shell) -> None:
    file = shell.home / ".config/securedelivery/profile.toml"
    file.parent.mkdir(parents=True)
    file.write_text("sever = 1")
    file.chmod(0o600)
    done = shell("order", "list")
    assert done.code == 2
    assert "sever" in done.stderr
    assert "hint: " in done.stderr


# No connection: 3


def test_connection_refused(shell: Shell, shop: Shop) -> None:
    assert said(shell("catalog", "--server", "localhost:1", "--ca", str(shop.folder / "ca.crt"))) == fails(
        "nothing answers at localhost:1 (connection refused)",
        "is the service running, and is this its port? If not: securedelivery profile set --server HOST:PORT",
        3,
    )


def test_no_ca(shell: Shell) -> None:
    assert said(shell("catalog")) == fails(
        "ca: it is not known which CA to trust",
        "get ca.crt from the operator: securedelivery profile set --ca FILE",
        3,
    )


def test_no_certificate(shell: Shell, shop: Shop) -> None:
    done = shell("catalog", "--server", shop.required, "--ca", str(shop.folder / "ca.crt"))
    assert said(done, server=shop.required) == fails(
        "SERVER: the server wants a certificate from its customers, and none was given",
        "ask the operator for one, then: securedelivery profile set --certificate FILE --key FILE",
        3,
    )


def test_files_that_are_not_there(bob: Shell) -> None:
    done = bob("catalog", "--cert", "nowhere.crt")
    assert done.code == 3
    assert f"error: {bob.home}/nowhere.crt: there is no such file" in done.stderr


# Passwords


def test_with_a_password(shell: Shell, shop: Shop) -> None:
    shell.environment |= {"SECUREDELIVERY_SERVER": shop.optional, "SECUREDELIVERY_CA": str(shop.folder / "ca.crt")}
    word = "correct horse battery"
    assert said(shell("account", "create", "dora")) == fails(
        "password: there is no terminal to ask for it", "set SECUREDELIVERY_PASSWORD", 2
    )
    assert said(shell("account", "create")) == fails(
        "NAME: without a certificate, an account needs a name",
        "securedelivery account create NAME, or: securedelivery profile set --certificate FILE",
        2,
    )
    assert shell("account", "create", "dora", "--address", "here", SECUREDELIVERY_PASSWORD="short").code == 1
    assert shell("account", "create", "dora", "--address", "here", SECUREDELIVERY_PASSWORD=word).code == 0
    assert said(shell("account", "create", "dora", SECUREDELIVERY_PASSWORD=word)) == fails(
        "the name dora is taken", "take another name, or log in if it is yours: --user NAME", 1
    )
    assert said(shell("--user", "dora", "order", "list", SECUREDELIVERY_PASSWORD="wrong word")) == fails(
        "wrong name or password", "check --user and the password; with a certificate, no password is needed", 1
    )
    assert shell("order", "place", "CPU-1", "--user", "dora", SECUREDELIVERY_PASSWORD=word).code == 0
    done = shell("order", "list", "--json", SECUREDELIVERY_USER="dora", SECUREDELIVERY_PASSWORD=word)
    assert [order["account"] for order in json.loads(done.stdout)["items"]] == ["dora"]


def test_with_a_certificate_no_password_is_used(bob: Shell) -> None:
    assert bob("account", "show", SECUREDELIVERY_PASSWORD="wrong").code == 0


# The connection's options stand where they are convenient


def test_the_certificates_key_and_the_orders_key(shell: Shell, shop: Shop) -> None:
    certificate = shop.certificate("erin")
    key = certificate.with_suffix(".key").rename(shop.folder / "erin.pem")
    connection = ["--server", shop.required, "--ca", str(shop.folder / "ca.crt"), "--certificate", str(certificate)]
    assert shell(*connection, "--key", str(key), "account", "create", "--address", "here").code == 0
    done = shell(*connection, "--key", str(key), "order", "place", "CPU-1", "--key", "k", "--json")
    number = json.loads(done.stdout)["order"]
    done = shell("order", "place", "CPU-1", "--key", "k", "--json", "--private-key", str(key), *connection)
    assert json.loads(done.stdout)["order"] == number
    done = shell("account", "show", "--json", "--key", str(key), *connection)
    assert json.loads(done.stdout)["username"] == "erin"


def test_profile(shell: Shell, shop: Shop) -> None:
    certificate, ca = shop.certificate("fred"), shop.folder / "ca.crt"
    assert said(shell("profile", "set", "--ca", "nowhere.crt")) == fails(
        f"--ca: there is no file {shell.home}/nowhere.crt", "name one that is there", 2
    )
    link = shell.home / "mine.crt"
    link.symlink_to(certificate)
    (shell.home / "mine.key").symlink_to(certificate.with_suffix(".key"))
    assert shell("profile", "set", "--ca", str(ca), "--certificate", "mine.crt", "--key", "~/mine.key").code == 0
    assert shell("profile", "set", "--server", shop.required).code == 0
    assert json.loads(shell("profile", "show", "--json").stdout) == {
        "file": str(shell.home / ".config/securedelivery/profile.toml"),
        "server": shop.required,
        "ca": str(ca),
        "certificate": str(link),
        "key": str(shell.home / "mine.key"),
        "crl": None,
        "tls_ca": None,
    }
    done = shell("profile", "show", "--server", "a:1", SECUREDELIVERY_CA="/b")
    assert "Server           a:1" in done.stdout
    assert "flag\n" in done.stdout
    assert "SECUREDELIVERY_CA\n" in done.stdout
    assert shell("account", "create").code == 0
    assert shell("profile", "set", "--certificate", "").code == 0
    assert "certificate" not in Path(shell.home, ".config/securedelivery/profile.toml").read_text()


def test_whom_to_trust_in_tls_alone(shell: Shell, shop: Shop) -> None:
    """Without a proxy: the server shows a certificate of the shop's CA outside as well as inside."""
    ca, stranger = shop.folder / "ca.crt", shell.home / "stranger.crt"
    stranger.write_bytes(CertificateAuthority("another CA").certificate.public_bytes(Encoding.PEM))
    file = shell.home / ".config/securedelivery/profile.toml"
    assert said(shell("profile", "set", "--tls-ca", "nowhere.crt")) == fails(
        f"--tls-ca: there is no file {shell.home}/nowhere.crt", "name one that is there", 2
    )
    assert not file.exists()
    certificate = str(shop.certificate("tess"))
    done = shell("profile", "set", "--server", shop.required, "--ca", str(ca), "--cert", certificate)
    assert done.code == 0
    assert shell("info").code == 0

    done = shell("profile", "set", "--tls-ca", "stranger.crt")
    assert (done.stdout.splitlines()[-1].split(), done.code) == (["CA", "of", "TLS", str(stranger), "profile"], 0)
    assert json.loads(shell("profile", "show", "--json").stdout)["tls_ca"] == str(stranger)
    refused = (
        "the certificate of SERVER is not from the CA that is trusted here",
        (
            "get the CA of the proxy that ends TLS from the operator, then: securedelivery profile set --tls-ca FILE "
            '("" without a proxy). Do not go on with another certificate'
        ),
        3,
    )
    assert said(shell("info"), server=shop.required) == fails(*refused)
    assert shell("info", "--tls-ca", str(ca)).code == 0
    assert shell("--tls-ca", str(ca), "info").code == 0
    assert shell("info", SECUREDELIVERY_TLS_CA=str(ca)).code == 0
    assert shell("info", "--tls-ca", "").code == 0
    assert said(shell("info", "--tls-ca", "stranger.crt", SECUREDELIVERY_TLS_CA=str(ca)), server=shop.required) == (
        fails(*refused)
    )
    done = shell("profile", "show", "--tls-ca", "flag.crt", SECUREDELIVERY_TLS_CA="/environment.crt")
    assert re.search(rf"^CA of TLS +{shell.home}/flag.crt +flag$", done.stdout, re.MULTILINE)
    done = shell("profile", "show", SECUREDELIVERY_TLS_CA="/environment.crt")
    assert re.search(r"^CA of TLS +/environment.crt +SECUREDELIVERY_TLS_CA$", done.stdout, re.MULTILINE)
    assert said(shell("info", "--tls-ca", "nowhere.crt")) == fails(
        f"{shell.home}/nowhere.crt: there is no such file", "run ./gen_certs.sh, or name the right file", 3
    )
    assert shell("profile", "set", "--tls-ca", "").code == 0
    assert "tls_ca" not in file.read_text()
    assert shell("info").code == 0


# JSON, and the rest


def test_json_is_the_protocols(bob: Shell) -> None:
    placed = json.loads(bob("order", "place", "CPU-1:2", "--json").stdout)
    assert placed["lines"][0]["total"] == 19_800
    assert len(placed["delivery_code"]) == 6
    assert json.loads(bob("order", "show", str(placed["order"]), "--json").stdout) == placed
    page = json.loads(bob("order", "list", "--json", "--limit", "1").stdout)
    assert page["items"] == [placed]
    page = json.loads(bob("catalog", "--json", "--limit", "2").stdout)
    assert [item["sku"] for item in page["items"]] == ["CPU-1", "CPU_2"]
    rest = json.loads(bob("catalog", "--json", "--after", page["next"]).stdout)
    assert [item["sku"] for item in rest["items"]] == ["GPU-1"]
    assert rest["next"] is None
    assert json.loads(bob("catalog", "no", "such", "thing", "--json").stdout) == {"items": [], "next": None}
    assert json.loads(bob("order", "list", "--status", "returned", "--json").stdout) == {"items": [], "next": None}
    assert json.loads(bob("account", "show", "--json").stdout)["username"] == "bobby"
    assert json.loads(bob("info", "--json").stdout)["currency"] == "EUR"
    assert json.loads(bob("ping", "--json").stdout)["welcome"]["identity"].endswith("/bobby")


def test_catalog(bob: Shell) -> None:
    assert said(bob("catalog", "graphics")) == (
        "SKU    PRODUCT                 PRICE  STOCK\nGPU-1  A graphics card  EUR 2,500.00      3\n", "", 0,
    )  # fmt: skip
    assert said(bob("catalog", "no", "such")) == (
        "", 'Nothing found for "no such". See everything: securedelivery catalog\n', 0,
    )  # fmt: skip


def test_info_and_ping(bob: Shell) -> None:
    done = bob("info")
    assert done.code == 0
    assert "Currency" in done.stdout
    done = bob("ping", "--count", "2")
    assert done.stdout.startswith("connected to securedelivery/")
    assert done.stdout.count("round trip") == 2


def test_version(shell: Shell) -> None:
    done = shell("--version")
    assert done.stdout.startswith("securedelivery 0.")
    assert done.code == 0


@pytest.mark.parametrize(
    "command",
    [
        "", "profile set", "profile show", "account create", "account show", "account update", "account password",
        "account bind", "account export", "account delete", "catalog", "order place", "order list", "order show",
        "order update", "order cancel", "rewards", "deliveries list", "deliveries out", "deliveries failed",
        "deliveries confirm", "support queue", "support claim", "support release", "support resolve",
        "support transfer", "info", "ping", "serve", "admin account create", "admin catalog import",
    ],
)  # fmt: skip
def test_help_has_examples(shell: Shell, command: str) -> None:
    done = shell(*command.split(), "--help")
    assert (done.stderr, done.code) == ("", 0)
    assert "Example" in done.stdout
    assert f"securedelivery {command}".rstrip() in done.stdout
    assert "\b" not in done.stdout
