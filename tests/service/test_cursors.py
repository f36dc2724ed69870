import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securedelivery.errors import Reason, Refusal
from securedelivery.service import cursors


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_cursor_comes_back(key: str) -> None:
    cursor = cursors.encode("p", key)
    assert cursors.decode("p", cursor) == key
    assert "=" not in cursor
    with pytest.raises(Refusal):
        cursors.decode("o", cursor)


def test_a_number_comes_back() -> None:
    assert cursors.decode_number("o", cursors.encode("o", "17")) == 17


NO_CURSORS = [
    "",
    "x",
    "****",
    "bzo",
    "bzoxNw==",
    "ö",
    cursors.encode("o", "x"),
    cursors.encode("o", "1" * 17),
    cursors.encode("o", "²"),
    base64.urlsafe_b64encode(b"\xff\xfe\xfd").decode(),
    base64.urlsafe_b64encode(b"o17").decode(),
]


@pytest.mark.parametrize("cursor", NO_CURSORS)
def test_what_is_no_cursor(cursor: str) -> None:
    with pytest.raises(Refusal) as refused:
        cursors.decode_number("o", cursor)
    assert refused.value.reason is Reason.INVALID_PARAMS
    assert refused.value.data == {"path": "/after"}


@given(st.text())
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with contextlib.suppress(Refusal):
        cursors.decode("o", text)
