"""Tokens that PyJWT has made."""

from __future__ import annotations

import os
import time

import jwt
import pytest

from broker import Broker
from peer import Peer

if os.environ.get("INTEROP_BROKER_COMMAND"):
    pytest.skip("another broker has other files", allow_module_level=True)

SECRET = "a secret of at least thirty-two bytes"
BAD_USER_NAME_OR_PASSWORD = 134


@pytest.fixture
def secured(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n", encoding="utf-8")
    broker = Broker(tmp_path, settings={
        "authentication.jwt.secret_file": str(secret),
        "authentication.jwt.audience": "broker",
        "authentication.delay_maximum_ms": "0",
    })
    try:
        yield broker
    except BaseException:
        broker.kill()
        raise
    broker.stop()


def token(algorithm: str = "HS256", secret: str = SECRET, **claims) -> str:
    return jwt.encode({"sub": "anna", "aud": "broker", "exp": int(time.time()) + 60} | claims, secret, algorithm)


def test_a_token_lets_its_user_in_and_says_what_he_may(secured):
    acl = {"pubsub": ["home/%u/#"], "receive": []}
    peer = Peer(secured, "5", login=("any", token(acl=acl))).connect()
    assert peer.publish("home/anna/x", "yes", 1) == 16
    assert peer.publish("home/bert/x", "no", 1) == 135
    assert peer.subscribe("home/anna/#") == [0]
    assert peer.subscribe("#") == [135]
    peer.close()


def test_a_token_that_is_not_right_lets_nobody_in(secured):
    wrong = [
        token(secret="another secret of thirty-two bytes or so"),
        token(exp=int(time.time()) - 60),
        token(aud="somebody else"),
        token(nbf=int(time.time()) + 300),
        token("HS512"),
        token("none", None),
        token()[:-2],
        "secret",
    ]
    for password in wrong:
        peer = Peer(secured, "5", login=("anna", password))
        peer.connect(BAD_USER_NAME_OR_PASSWORD)
        peer.close()


def test_a_connection_ends_with_its_token(secured):
    # The clocks may differ by 30 seconds: so this one has a second left.
    peer = Peer(secured, "5", login=("anna", token(exp=int(time.time()) - 28))).connect()
    assert peer.disconnects.get(timeout=20) in (135, 160)
    peer.close()
