"""The same access control and password files under Mosquitto and under Lapwing: who gets what."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from broker import Broker, lapwing
from peer import Peer

if os.environ.get("INTEROP_BROKER_COMMAND"):
    pytest.skip("it starts both brokers itself", allow_module_level=True)
if not shutil.which("mosquitto") or not shutil.which("mosquitto_passwd"):
    if os.environ.get("CI"):
        raise RuntimeError("mosquitto is missing: install Debian's package mosquitto")
    pytest.skip("mosquitto is not installed (Debian's package mosquitto)", allow_module_level=True)

RULES = """
# Before the first user: for those without one.
topic read public/#
topic write inbox/+

user anna
topic readwrite home/#
topic deny home/secret/#
topic read $SYS/#
topic readwrite with blank
topic write only/write

user bert
topic home/bert
topic deny c/bert-1/private
topic deny +/+/both

pattern read c/%c/#
pattern write c/%c/event
pattern deny c/+/private
pattern u/%u/x
pattern read 100%/all
pattern readwrite sync/all
"""
USERS = {"anna": "one", "bert": "two", "carl": "three"}
CLIENTS = [("a-1", "anna"), ("bert-1", "bert"), ("c-1", "carl"), ("n-1", None), ("+", "carl"), ("c", "anna")]
TOPICS = [
    "public/x", "inbox/x", "inbox/x/y", "home/x", "home", "home/secret", "home/secret/x", "home/bert", "with blank", "only/write",
    "c/a-1/event", "c/a-1/x", "c/bert-1/event", "c/bert-1/private", "c/c-1/event", "c/c-1/private", "c/n-1/event",
    "c/+/event".replace("+", "plus"), "u/anna/x", "u/bert/x", "u/carl/x", "100%/all", "c/c/both", "c/bert-1/both", "$other/x", "none",
]


@pytest.fixture
def brokers(tmp_path):
    """Mosquitto, and Lapwing with the files as they are, and with what is made of them."""
    passwords, rules, users = tmp_path / "passwd", tmp_path / "acl.txt", tmp_path / "users.toml"
    rules.write_text(RULES, encoding="utf-8")
    passwords.touch(mode=0o600)
    for user, password in USERS.items():
        subprocess.run(["mosquitto_passwd", "-b", str(passwords), user, password], check=True, capture_output=True)
    subprocess.run([lapwing(), "passwd", "import", str(passwords), str(users)], check=True, capture_output=True)
    converted = subprocess.run([lapwing(), "acl", "import", str(rules)], check=True, capture_output=True).stdout
    (tmp_path / "acl.toml").write_bytes(converted)
    configuration = tmp_path / "mosquitto.conf"

    started: list[Broker] = []

    def lapwing_with(name: str, **permissions: str) -> Broker:
        data = tmp_path / name
        data.mkdir()
        settings = {f"permissions.{key}": value for key, value in permissions.items()}
        started.append(Broker(data, settings={"authentication.password.file": str(users)} | settings))
        return started[-1]

    try:
        direct = lapwing_with("direct", file=str(rules), format="mosquitto")
        made = lapwing_with("made", file=str(tmp_path / "acl.toml"))
        # Started as root it would become somebody who cannot read these files.
        configuration.write_text(
            f"allow_anonymous true\npassword_file {passwords}\nacl_file {rules}\nuser root\n", encoding="utf-8"
        )
        started.append(Broker(tmp_path, reference=f"mosquitto -p {{port}} -c {configuration}"))
        yield [started[-1], direct, made]
    finally:
        for broker in started:
            broker.kill()


def received(peer: Peer, may_read: bool) -> set[tuple[str, str]]:
    """What has come until everything was published."""
    got = set()
    if may_read:
        while (message := peer.receive()).topic != "sync/all":
            got.add((message.topic, message.payload.decode()))
        return got
    # Nothing comes to tell it; what comes before an answer has come.
    peer.subscribe("none", 0)
    while not peer.messages.empty():
        message = peer.receive()
        got.add((message.topic, message.payload.decode()))
    return got


def deliveries(broker: Broker) -> dict[tuple[str, str | None, str], bool]:
    """For each client and topic: whether what it publishes arrives, and whether it is given what others publish."""
    found = {}
    peers = {
        (client_id, user): Peer(broker, "3.1.1", client_id=client_id, login=(user, USERS[user]) if user else None).connect()
        for client_id, user in CLIENTS
    }
    try:
        for peer in peers.values():
            assert peer.subscribe("#", 1) == [1]
            peer.subscribe("$other/#", 1)
        for (client_id, user), peer in peers.items():
            for topic in TOPICS:
                peer.publish(topic, f"{client_id} {user}", 1)
        peers["a-1", "anna"].publish("sync/all", "", 1)
        for (client_id, user), peer in peers.items():
            got = received(peer, may_read=client_id != "+")
            for topic in TOPICS:
                for writer in peers:
                    found[client_id, user, f"{writer} -> {topic}"] = (topic, f"{writer[0]} {writer[1]}") in got
    finally:
        for peer in peers.values():
            peer.close()
    return found


def test_everybody_gets_the_same(brokers):
    mosquitto, direct, made = (deliveries(broker) for broker in brokers)
    assert any(mosquitto.values()) and not all(mosquitto.values())
    assert direct == made
    # To a client that calls itself + no pattern of Mosquitto's applies; with us, those in which %c stands.
    assert ordinary(direct) == ordinary(mosquitto)
    assert not any(is_given for (client_id, _, what), is_given in direct.items() if client_id == "+" and "-> c/" in what)


def ordinary(found):
    return {key: is_given for key, is_given in found.items() if key[0] != "+" and not key[2].startswith("('+'")}
