"""Signatures, judged by the implementation of those who wrote the specification."""

import time
from datetime import UTC, datetime

import pytest
import standardwebhooks

from streams.errors import SetupError
from tests.support.psp import SECRET
from topologies.orders.signature import BadSignature, secret, sign, verify

KEY = secret(SECRET, "here")
OTHER = secret("whsec_" + SECRET[-44:][::-1].replace("=", "A"), "here")
BODY = '{"type": "payment.settled", "café": 1}'.encode()
NOW = int(time.time())


def test_what_we_sign_others_verify_and_the_other_way_round() -> None:
    theirs = standardwebhooks.Webhook(SECRET)
    now = int(time.time())  # theirs looks at the clock, and this file may have been loaded long ago
    headers = sign(KEY, "msg_1", now, BODY)
    theirs.verify(BODY, headers)
    assert headers["webhook-signature"] == theirs.sign("msg_1", datetime.fromtimestamp(now, UTC), BODY.decode())
    assert verify([KEY], headers, BODY, now) == "msg_1"


def test_while_a_secret_is_changed_either_is_good() -> None:
    both = sign(KEY, "m", NOW, BODY) | {
        "webhook-signature": " ".join(sign(key, "m", NOW, BODY)["webhook-signature"] for key in (OTHER, KEY))
    }
    assert verify([KEY], both, BODY, NOW) == "m"
    assert verify([OTHER, KEY], sign(KEY, "m", NOW, BODY), BODY, NOW) == "m"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"webhook-id": "msg_2"}, "no signature"),
        ({"webhook-id": ""}, "needed"),
        ({"webhook-id": "m" * 129}, "no id"),
        ({"webhook-id": "m\x00"}, "no id"),
        ({"webhook-timestamp": str(NOW + 1)}, "no signature"),
        ({"webhook-timestamp": "yesterday"}, "no number"),
        ({"webhook-timestamp": "١٢٣"}, "no number"),
        ({"webhook-timestamp": "-5"}, "no number"),
        ({"webhook-signature": ""}, "needed"),
        ({"webhook-signature": "v1,"}, "no signature"),
        ({"webhook-signature": "v1,é€\udcff"}, "no signature"),
        ({"webhook-signature": "v1a," + sign(KEY, "msg_1", NOW, BODY)["webhook-signature"][3:]}, "no signature"),
        ({"webhook-signature": sign(OTHER, "msg_1", NOW, BODY)["webhook-signature"]}, "no signature"),
        ({"webhook-signature": "v1,x " * 8 + sign(KEY, "msg_1", NOW, BODY)["webhook-signature"]}, "no signature"),
    ],
)
def test_anything_else_is_refused(changes: dict[str, str], says: str) -> None:
    with pytest.raises(BadSignature, match=says):
        verify([KEY], sign(KEY, "msg_1", NOW, BODY) | changes, BODY, NOW)


def test_an_altered_body_and_another_time_are_refused() -> None:
    headers = sign(KEY, "m", NOW, BODY)
    with pytest.raises(BadSignature, match="no signature"):
        verify([KEY], headers, BODY + b" ", NOW)
    for now in (NOW + 301, NOW - 301):
        with pytest.raises(BadSignature, match="300 s"):
            verify([KEY], headers, BODY, now)
    assert verify([KEY], headers, BODY, NOW + 300) == "m"


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_!", "whsec_é", "whsec_" + "A" * 100])
def test_a_secret_that_is_none_is_not_repeated(text: str) -> None:
    with pytest.raises(SetupError, match="openssl") as caught:
        secret(text, "TOWPATH_X")
    assert caught.value.where == "TOWPATH_X"
    assert not text or text.removeprefix("whsec_")[:20] not in str(caught.value) or len(text) < 8
