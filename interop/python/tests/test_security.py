"""Users with passwords, and what rules allow, as paho sees it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from broker import Broker, lapwing
from peer import IS_PAHO_1, Peer

if os.environ.get("INTEROP_BROKER_COMMAND"):
    pytest.skip("another broker has other files", allow_module_level=True)

RULES = """
[[rule]]
allow = "pubsub"
topics = "home/%u/#"

[[rule]]
allow = "receive"
topics = "news/#"
"""
EVERY_PROTOCOL = ["3.1", "3.1.1", "5"]


def code(number: int, of_5: int, protocol: str) -> int:
    """The code in CONNACK: paho 2 shows those of 5.0 for every version."""
    return number if IS_PAHO_1 and protocol != "5" else of_5


def add_user(file: Path, user: str, password: str) -> None:
    command = [lapwing(), "passwd", "add", str(file), user, "--stdin", "--memory-kib", "64", "--passes", "1"]
    subprocess.run(command, input=password, text=True, check=True, capture_output=True)


@pytest.fixture
def secured(tmp_path):
    """A broker with the user anna, and nobody else."""
    users, rules = tmp_path / "users.toml", tmp_path / "acl.toml"
    add_user(users, "anna", "geheim ü")
    rules.write_text(RULES, encoding="utf-8")
    broker = Broker(tmp_path, settings={
        "authentication.anonymous": "none",
        "authentication.password.file": str(users),
        "authentication.delay_maximum_ms": "0",
        "permissions.file": str(rules),
    })
    try:
        yield broker
    except BaseException:
        broker.kill()
        raise
    broker.stop()


@pytest.fixture
def connect(secured):
    peers: list[Peer] = []

    def make(protocol: str, login, expect: int = 0) -> Peer:
        peers.append(Peer(secured, protocol, login=login))
        return peers[-1].connect(expect)

    yield make
    for made in peers:
        made.close()


@pytest.mark.parametrize("protocol", EVERY_PROTOCOL)
def test_a_password_is_right_or_the_client_is_refused(connect, protocol):
    connect(protocol, ("anna", "geheim ü"))
    connect(protocol, ("anna", "geheim ü"))
    for login in [("anna", "geheim"), ("anna", ""), ("bert", "geheim ü")]:
        connect(protocol, login, code(4, 134, protocol))
    connect(protocol, None, code(5, 135, protocol))


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_subscription_that_is_not_allowed_fails(connect, protocol):
    peer = connect(protocol, ("anna", "geheim ü"))
    failure = 135 if protocol == "5" else 128
    assert peer.subscribe("home/anna/#", 1) == [1]
    assert peer.subscribe("home/bert/#", 1) == [failure]
    assert peer.subscribe("home/#", 1) == [failure]
    assert peer.subscribe("#", 1) == [1]  # some of it is allowed, and each message is checked


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_message_that_is_not_allowed_goes_nowhere(connect, protocol):
    peer = connect(protocol, ("anna", "geheim ü"))
    peer.subscribe("#", 1)
    if protocol == "5":
        assert peer.publish("home/bert/door", "no", 1) in (0, 135)  # paho 1.6 shows no reason codes
    else:
        peer.publish("home/bert/door", "no", 1)
    peer.publish("home/anna/door", "yes", 1)
    assert peer.payloads(1) == ["yes"]
