from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from securedelivery import config
from securedelivery.errors import ConfigurationError
from securedelivery.mail.addresses import address_of, mailbox
from securedelivery.mail.settings import ReceiptsServer
from securedelivery.model import MailRoute

MAIL = """
[mail]
operator = "Olga Owner <owner@shop.example>"
time_zone = "Europe/Berlin"
hour = 0
chat_text = "none"
[mail.receipts]
host = "mail.shop.example"
sender = "Parts & Co <orders@shop.example>"
[mail.summaries]
host = "127.0.0.1"
port = 2525
security = "none"
sender = "months@shop.example"
reply_to = "help@shop.example"
"""


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "shop.toml"
    path.write_text(text)
    return path


def test_defaults_need_no_file() -> None:
    settings = config.load(None, {}, {})
    assert settings.server.listen == "0.0.0.0:5555"
    assert settings.server.client_certificates == "required"
    assert settings.limits.connections == 20_000


def test_flags_go_before_environment_and_environment_before_file(tmp_path: Path) -> None:
    path = _file(tmp_path, '[server]\nlisten = "127.0.0.1:1"\ncerts = "a"\n[limits]\nconnections = 1\n')
    environment = {"SECUREDELIVERY_SERVER_LISTEN": "127.0.0.1:2", "SECUREDELIVERY_LIMITS_CONNECTIONS": "2"}
    settings = config.load(path, environment, {"server.listen": "127.0.0.1:3", "server.certs": None})
    assert (settings.server.listen, settings.server.certs, settings.limits.connections) == ("127.0.0.1:3", "a", 2)


def test_a_setting_of_the_environment_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.load(None, {"SECUREDELIVERY_LIMITS_CONECTIONS": "5"}, {})
    assert caught.value.key == "SECUREDELIVERY_LIMITS_CONECTIONS"


def test_text_that_looks_like_a_number_stays_text() -> None:
    assert config.load(None, {"SECUREDELIVERY_SHOP_NAME": "2024"}, {}).shop.name == "2024"


def test_the_variables_of_customers_are_none_of_its_business() -> None:
    environment = {"SECUREDELIVERY_SERVER": "localhost:5555", "SECUREDELIVERY_CA": "ca.crt"}
    assert config.load(None, environment, {}) == config.load(None, {}, {})


def test_lists_and_text_come_from_the_environment() -> None:
    environment = {
        "SECUREDELIVERY_SERVER_TRUSTED_PROXIES": '["spiffe://shop.test/proxy/edge"]',
        "SECUREDELIVERY_SHOP_NAME": "Parts & Co",
    }
    settings = config.load(None, environment, {})
    assert settings.server.trusted_proxies == ("spiffe://shop.test/proxy/edge",)
    assert settings.shop.name == "Parts & Co"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[limits]\nconections = 1", "limits.conections"),
        ("[nope]\n", "nope"),
        ("[limits]\nconnections = 'many'", "limits.connections"),
        ("[limits]\nconnections = 0", "limits.connections"),
        ("[limits]\nidle_seconds = -1", "limits.idle_seconds"),
        ("[server]\nclient_certificates = 'sometimes'", "server.client_certificates"),
        ("[server]\nlisten = 'localhost'", "server.listen"),
        ("[server]\nlisten = 'localhost:99999'", "server.listen"),
        ("[server]\ntrust_domain = 'Shop Test'", "server.trust_domain"),
        ("[server]\ntrusted_proxies = ['edge']", "server.trusted_proxies"),
        ("[shop]\ncurrency = 'euro'", "shop.currency"),
        ("server = 1", "server"),
        ("[limits]\nhandshake_seconds = nan", "limits.handshake_seconds"),
        ("[limits]\nidle_seconds = inf", "limits.idle_seconds"),
        ("[limits]\nworkers = 100000", "limits.workers"),
        ('[server]\ncerts = "a\\u0000b"', "server.certs"),
        ("[rewards]\nexpire_after_months = 100000", "rewards"),
        ("[rewards]\npoint_value = 5", "rewards.point_value"),
        ("[accounts.logins.name]\nburts = 5\nseconds = 1", "accounts.logins.name.burts"),
        ("[rewards]\nredeemable_percent = 101", "rewards"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.load(_file(tmp_path, text), {}, {})
    assert caught.value.key == key
    assert caught.value.hint


def test_a_setting_inside_what_is_no_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="server"):
        config.load(_file(tmp_path, "server = 1"), {"SECUREDELIVERY_SERVER_LISTEN": ":1"}, {})


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "missing.toml", "no such file"),
        (tmp_path, "cannot be read"),
        (_file(tmp_path, "[server"), "not TOML"),
    ):
        with pytest.raises(ConfigurationError, match=words) as caught:
            config.load(path, {}, {})
        assert caught.value.key == str(path)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:5555", ("127.0.0.1", 5555)),
        ("[::1]:0", ("::1", 0)),
        (":80", ("0.0.0.0", 80)),
        ("shop.example:443", ("shop.example", 443)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert config.split_address(text) == address


def test_the_trust_domain_is_the_noted_one(tmp_path: Path) -> None:
    settings = config.load(None, {}, {"server.certs": str(tmp_path)})
    assert settings.trust_domain == "securedelivery.local"
    (tmp_path / "trust-domain").write_text("shop.test\n")
    assert settings.trust_domain == "shop.test"
    (tmp_path / "trust-domain").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="trust-domain"):
        _ = settings.trust_domain
    assert config.load(None, {}, {"server.trust_domain": "other.test"}).trust_domain == "other.test"


# Mail


def test_without_a_mail_server_nothing_is_sent() -> None:
    assert config.load(None, {}, {}).mail.servers == {}


def test_each_mail_server_has_its_own_usual_way(tmp_path: Path) -> None:
    mail = config.load(_file(tmp_path, MAIL), {}, {}).mail
    assert list(mail.servers) == [MailRoute.RECEIPTS, MailRoute.SUMMARIES]
    assert mail.receipts.way == (587, "starttls")
    assert mail.summaries.way == (2525, "none")
    assert (mail.operator, mail.time_zone, mail.hour, mail.chat_text) == (
        "Olga Owner <owner@shop.example>",
        "Europe/Berlin",
        0,
        "none",
    )
    default = config.load(None, {}, {}).mail
    assert (default.receipts.way, default.summaries.way) == ((587, "starttls"), (465, "tls"))
    assert ReceiptsServer(security="tls").way == (465, "tls")
    assert ReceiptsServer(security="none").way == (25, "none")


def test_a_mail_server_comes_from_the_environment_alone_or_beside_the_file(tmp_path: Path) -> None:
    environment = {
        "SECUREDELIVERY_MAIL_RECEIPTS_HOST": "587",
        "SECUREDELIVERY_MAIL_RECEIPTS_PORT": "2587",
        "SECUREDELIVERY_MAIL_RECEIPTS_SENDER": "orders@shop.example",
        "SECUREDELIVERY_MAIL_RECEIPTS_USERNAME": "2024",
        "SECUREDELIVERY_MAIL_RECEIPTS_PASSWORD": "true",
        "SECUREDELIVERY_MAIL_HOUR": "23",
        "SECUREDELIVERY_MAIL_TIME_ZONE": "Asia/Tokyo",
    }
    alone = config.load(None, environment, {}).mail
    assert (alone.receipts.host, alone.receipts.way) == ("587", (2587, "starttls"))
    assert (alone.receipts.username, alone.receipts.password) == ("2024", "true"), "text stays text"
    assert (alone.hour, alone.time_zone) == (23, "Asia/Tokyo")
    beside = config.load(_file(tmp_path, MAIL), environment, {}).mail
    assert beside.receipts == alone.receipts
    assert beside.summaries.sender == "months@shop.example"
    assert (beside.hour, beside.chat_text) == (23, "none")


def test_what_is_no_value_in_the_environment_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected `int"):
        config.load(None, {"SECUREDELIVERY_MAIL_RECEIPTS_PORT": "the usual one"}, {})


def test_a_password_file_is_a_name_that_nobody_opens_yet(tmp_path: Path) -> None:
    text = MAIL.replace('host = "mail.shop', 'username = "shop"\npassword_file = "not there"\nhost = "mail.shop')
    assert config.load(_file(tmp_path, text), {}, {}).mail.receipts.password_file == "not there"


@pytest.mark.parametrize("route", list(MailRoute))
def test_a_password_stands_in_no_file_of_settings(tmp_path: Path, route: MailRoute) -> None:
    for text in (f"[mail.{route}]\npassword = 'tell nobody'", f"mail = {{{route} = {{password = 'tell nobody'}}}}"):
        with pytest.raises(ConfigurationError) as caught:
            config.load(_file(tmp_path, text), {}, {})
        assert caught.value.key == f"mail.{route}.password"
        assert f"SECUREDELIVERY_MAIL_{route.name}_PASSWORD" in str(caught.value.hint)
        assert "password_file" in str(caught.value.hint)
        assert "tell nobody" not in f"{caught.value} {caught.value.hint}"


def test_no_repr_tells_the_password(tmp_path: Path) -> None:
    environment = {
        f"SECUREDELIVERY_MAIL_{route.name}_{name}": value
        for route in MailRoute
        for name, value in (("USERNAME", "shop"), ("PASSWORD", "tell nobody"))
    }
    settings = config.load(_file(tmp_path, MAIL), environment, {})
    assert settings.mail.summaries.password == "tell nobody"
    for shown in (settings, settings.mail, settings.mail.receipts, settings.mail.servers):
        assert "tell nobody" not in f"{shown!r} {shown}"
    assert repr(settings.mail.summaries) == "SummariesServer(127.0.0.1:2525)"


def _without(line: str) -> str:
    assert line in MAIL
    return MAIL.replace(line, "", 1)


def _with(section: str, line: str) -> str:
    assert f"[{section}]\n" in MAIL
    name = line.partition(" ")[0]
    before, start, after = MAIL.partition(f"[{section}]\n")
    own, bracket, rest = after.partition("[")
    kept = "".join(one for one in own.splitlines(keepends=True) if not one.startswith(f"{name} ="))
    return f"{before}{start}{line}\n{kept}{bracket}{rest}"


@pytest.mark.parametrize(
    ("text", "key", "words", "remedy"),
    [
        ("mail = 1", "mail", "expected `object`", "docs"),
        ("[mail]\nreceipts = 1", "mail.receipts", "expected `object`", "docs"),
        ("[mail.receits]\nhost = 'a'", "mail.receits", "no such setting", "docs"),
        (_with("mail.receipts", "pasword_file = 'a'"), "mail.receipts.pasword_file", "no such setting", "docs"),
        (_with("mail.receipts", "port = '587'"), "mail.receipts.port", "expected `int", "docs"),
        (_with("mail.receipts", "security = 'ssl'"), "mail.receipts.security", "ssl", "starttls"),
        (_with("mail", "chat_text = 'all'"), "mail.chat_text", "all", "beginning"),
        (
            _without('host = "mail.shop.example"\n'),
            "mail.receipts.host",
            "sender is set, but no mail server",
            "name it",
        ),
        ("[mail.summaries]\nport = 465", "mail.summaries.host", "port is set, but no mail server", "name it"),
        (_with("mail.receipts", "port = 0"), "mail.receipts.port", "0 is not a port", "usual for starttls is 587"),
        (_with("mail.receipts", "port = 65536"), "mail.receipts.port", "65536", "587"),
        (_with("mail.receipts", "port = -1\nsecurity = 'tls'"), "mail.receipts.port", "-1", "usual for tls is 465"),
        (_with("mail.receipts", "security = 'none'"), "mail.receipts.security", "in clear", '"starttls" or "tls"'),
        (
            _with("mail.summaries", "host = '128.0.0.1'"),
            "mail.summaries.security",
            "in clear to 128.0.0.1",
            '"starttls"',
        ),
        (
            _with("mail.summaries", "host = 'localhost.example'"),
            "mail.summaries.security",
            "in clear to localhost.example",
            '"starttls"',
        ),
        (_without('sender = "months@shop.example"\n'), "mail.summaries.sender", "is missing", "Parts & Co <orders@"),
        (_with("mail.receipts", "sender = 'Parts & Co'"), "mail.receipts.sender", "not an address", "Parts & Co <"),
        (_with("mail.receipts", "sender = 'a@b, c@d'"), "mail.receipts.sender", "not an address", "Parts & Co <"),
        (
            _with("mail.receipts", 'sender = "A <a@b.example>\\r\\nBcc: <c@d.example>"'),
            "mail.receipts.sender",
            "not an address",
            "Parts & Co <",
        ),
        (_with("mail.summaries", "reply_to = 'nobody'"), "mail.summaries.reply_to", "'nobody'", "Parts & Co <"),
        ("[mail.receipts]\nhost = ' '\nsender = 'a@b'", "mail.receipts.host", "it is empty", "name the mail server"),
        (_with("mail.receipts", "password_file = 'p'"), "mail.receipts.username", "no username", "log in"),
        (_with("mail", "time_zone = 'Mars/Olympus'"), "mail.time_zone", "Mars/Olympus", "Europe/Berlin"),
        (_with("mail", "time_zone = '../etc/passwd'"), "mail.time_zone", "not a time zone", "Europe/Berlin"),
        (_with("mail", "time_zone = 'Europe'"), "mail.time_zone", "not a time zone", "Europe/Berlin"),
        (_with("mail", "time_zone = ''"), "mail.time_zone", "not a time zone", "Europe/Berlin"),
        (_with("mail", f"time_zone = '{'x' * 300}'"), "mail.time_zone", "not a time zone", "Europe/Berlin"),
        (_with("mail", "hour = 24"), "mail.hour", "24 is not an hour", "0 to 23"),
        (_with("mail", "hour = -1"), "mail.hour", "-1 is not an hour", "0 to 23"),
        (_with("mail", "hour = 7.5"), "mail.hour", "expected `int`", "docs"),
        (_with("mail", "operator = 'root'"), "mail.operator", "'root' is not an address", "owner@"),
    ],
)
def test_a_wrong_setting_of_mail_is_named(tmp_path: Path, text: str, key: str, words: str, remedy: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.load(_file(tmp_path, text), {}, {})
    assert caught.value.key == key
    assert words.lower() in str(caught.value).lower()
    assert remedy in str(caught.value.hint)


def test_a_password_comes_one_way_and_with_a_username(tmp_path: Path) -> None:
    environment = {"SECUREDELIVERY_MAIL_RECEIPTS_PASSWORD": "tell nobody"}
    for line, key in (
        ("password_file = 'p'\nusername = 'shop'", "mail.receipts.password_file"),
        ("port = 587", "mail.receipts.username"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            config.load(_file(tmp_path, _with("mail.receipts", line)), environment, {})
        assert caught.value.key == key
        assert caught.value.hint
        assert "tell nobody" not in f"{caught.value} {caught.value.hint}"
    assert not config.load(None, environment, {}).mail.servers  # a command that has been given no settings


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_in_clear_to_this_machine_alone(tmp_path: Path, host: str) -> None:
    mail = config.load(_file(tmp_path, _with("mail.summaries", f"host = '{host}'")), {}, {}).mail
    assert mail.summaries.way == (2525, "none")


# Addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ada@shop.example", "ada@shop.example"),
        ("ada+parts_1@shop.example", "ada+parts_1@shop.example"),
        ("o'hara@sub.shop.example", "o'hara@sub.shop.example"),
        ("ada@localhost", "ada@localhost"),
        ("jörg@shop.example", "jörg@shop.example"),
        ("संपर्क@डाटामेल.भारत", "संपर्क@xn--c2bd4bq1db8d.xn--h2brj9c"),  # vowels that are no letters to Python
        ("ada@münchen.example", "ada@xn--mnchen-3ya.example"),
        ("x" * 64 + "@shop.example", "x" * 64 + "@shop.example"),
    ],
)
def test_an_address_is_taken_as_smtp_takes_it(text: str, address: str) -> None:
    assert mailbox(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "@", "ada", "ada@", "@shop.example", "a@b@c.example", "a..b@shop.example", ".a@shop.example"),
        *("a.@shop.example", "a b@shop.example", " ada@shop.example", "ada@shop.example ", "ada@-shop.example"),
        *("ada@shop..example", "ada@.example", "ada@shop.example.", "ada@shop_1.example", '"a b"@shop.example'),
        *("ada@[127.0.0.1]", "ada(comment)@shop.example", "<ada@shop.example>", "ada@shop.example\r\nRCPT TO:<b@c>"),
        *("ada\0@shop.example", "ada\ud800@shop.example", "ada\u202e@shop.example", "ada@shop\u200d.example"),
        "ada@straße.example",  # IDNA 2003 would make it strasse.example, which is somebody else's
        *("x" * 65 + "@shop.example", "ö" * 33 + "@shop.example", f"ada@{'x' * 64}.example"),
        *(f"ada@{'.'.join(['x' * 60] * 5)}", "x" * 60 + f"@{'.'.join(['x' * 48] * 4)}", "é" * 30 + f"@{'x.' * 99}ab"),
    ],
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert mailbox(text) is None
    assert address_of(f"Ada <{text}>") is None or text != text.strip()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ada@shop.example", ""),
        (" ada@shop.example ", ""),
        ("<ada@shop.example>", ""),
        ("Ada <ada@shop.example>", "Ada"),
        ("Parts & Co <ada@shop.example>", "Parts & Co"),
        ("Söhne, Töchter (alle) <ada@shop.example>", "Söhne, Töchter (alle)"),
        ('"Ada, Countess" <ada@shop.example>', "Ada, Countess"),
        (r'"Ada \"A\" \\" <ada@shop.example>', 'Ada "A" \\'),
        ('Ada "A" <ada@shop.example>', 'Ada "A"'),
    ],
)
def test_an_address_of_the_settings_can_have_a_name(text: str, name: str) -> None:
    assert address_of(text) == Address(name, "ada", "shop.example")


@pytest.mark.parametrize(
    "text", ["Ada <ada@shop.example> <b@c>", "Ada <ada@shop.example", "Ada\n<ada@shop.example>", "Ada <>", "a@b <c>"]
)
def test_what_is_more_or_less_than_an_address_of_the_settings(text: str) -> None:
    assert address_of(text) is None


PIECES = st.sampled_from(
    [
        *"aB9.-_+@<>\"'\\,;:()[] ",
        "ö",
        "ß",
        "。",
        "\uff20",
        "ℵ",
        "र्",
        "\u0301",
        "\u200d",
        "\ud800",
        "\0",
        "\r\n",
        "xn--",
        "=?",
    ]
)
TEXTS = st.one_of(
    st.text(),
    st.lists(PIECES, max_size=40).map("".join),
    st.tuples(st.lists(PIECES, max_size=6), st.sampled_from(["a@b.example", "ö@ö.example"])).map(
        lambda pair: f"{''.join(pair[0])}<{pair[1]}>"
    ),
    st.tuples(st.text(min_size=1, max_size=70), st.text(min_size=1, max_size=70)).map("@".join),
)


@given(TEXTS)
@example("a@" + "x" * 10_000)
@example("=?utf-8?q?=0d=0aBcc:_b@c?= <a@b.example>")
def test_any_text_is_an_address_or_none(text: str) -> None:
    address = mailbox(text)
    if address is not None:
        local, _, domain = address.rpartition("@")
        assert Address("", local, domain).addr_spec == address
        assert domain.isascii()
        assert mailbox(address) == address
        assert not set(address) & set(" <>\r\n\0")
        assert len(address.encode()) <= 254
        if local.isascii():
            assert Address(addr_spec=address).addr_spec == address
    named = address_of(text)
    if named is not None:
        assert mailbox(named.addr_spec) == named.addr_spec
        assert named.display_name.isprintable()
        again = address_of(f"{named.display_name} <{named.addr_spec}>")
        assert again is None or again.addr_spec == named.addr_spec
        message = EmailMessage(policy.SMTP)
        message["To"] = named
        assert len(message["To"].addresses) == 1


def test_a_password_is_not_shown_by_rich_either() -> None:
    from rich.pretty import pretty_repr

    environment = {"SECUREDELIVERY_MAIL_RECEIPTS_PASSWORD": "tell nobody", "SECUREDELIVERY_MAIL_RECEIPTS_HOST": "h"}
    environment["SECUREDELIVERY_MAIL_RECEIPTS_SENDER"] = "a@b.example"
    environment["SECUREDELIVERY_MAIL_RECEIPTS_USERNAME"] = "shop"
    shown = pretty_repr(config.load(None, environment, {}))
    assert "host='h'" in shown
    assert "tell nobody" not in shown


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[mail.receipts]\nsecurity = 'ssl'", 'write "starttls", "tls" or "none"'),
        ("[log]\nformat = 'xml'", 'write "text" or "json"'),
    ],
)
def test_a_word_that_is_none_of_a_few(tmp_path: Path, text: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config.load(_file(tmp_path, text), {}, {})
    assert caught.value.hint == hint


# The web


def test_the_web_is_asked_for_by_its_address(tmp_path: Path) -> None:
    assert config.load(None, {}, {}).web.listen is None
    path = _file(tmp_path, '[web]\nlisten = "127.0.0.1:8443"\npublic_url = "https://shop.example.org/"\n')
    web = config.load(path, {}, {"web.listen": "127.0.0.1:9443"}).web
    assert (web.listen, web.public_url) == ("127.0.0.1:9443", "https://shop.example.org/")
    assert config.load(None, {"SECUREDELIVERY_WEB_LISTEN": ":443"}, {}).web.listen == ":443"


@pytest.mark.parametrize(
    ("key", "value", "words", "hint"),
    [
        ("web.listen", "8443", "'8443' is not HOST:PORT", "write for example 127.0.0.1:5555"),
        ("web.certificate", "a.crt", "certificate and key go together", "name both files, or none"),
        ("web.key", "a.key", "certificate and key go together", "name both files, or none"),
        ("web.public_url", "shop.example.org", "is not the address of a site", "write https://shop.example.org"),
        ("web.public_url", "http://shop.example.org", "is not the address of a site", "write https://shop"),
        ("web.public_url", "https://shop.example.org/shop", "is not the address of a site", "write https://shop"),
        ("web.public_url", "https://shop.example.org\n", "is not the address of a site", "write https://shop"),
    ],
)
def test_a_wrong_setting_of_the_web_is_named(key: str, value: str, words: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        config.load(None, {}, {key: value})
    assert caught.value.key.startswith("web.")
    assert hint in caught.value.hint


def test_a_file_of_the_web_is_no_nul(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"web\.key"):
        config.load(None, {}, {"web.certificate": "a.crt", "web.key": "a\0.key"})
