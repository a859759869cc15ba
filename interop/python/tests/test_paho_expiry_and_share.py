"""Will delay, message expiry, shared subscriptions, and an authentication method that is not offered."""

from __future__ import annotations

import os
import time

import pytest
from paho.mqtt.packettypes import PacketTypes

from peer import Will, packet_properties

BAD_AUTHENTICATION_METHOD = 0x8C



def delayed_will(delay_s: int, payload: str = "gone") -> Will:
    return Will("will", payload, properties=packet_properties(PacketTypes.WILLMESSAGE, {"WillDelayInterval": delay_s}))


# [MQTT-3.1.2-8]
def test_a_delayed_will_comes_after_its_delay(peer):
    watcher = peer("5")
    watcher.subscribe("will", 1)
    client = peer("5", will=delayed_will(2), properties={"SessionExpiryInterval": 60})
    since = time.monotonic()
    client.drop()
    watcher.publish("will", "not yet", 1)
    assert watcher.payloads(2) == ["not yet", "gone"]
    # Brokers may count in whole seconds.
    assert time.monotonic() - since >= 1


# [MQTT-3.1.2-8], [MQTT-3.1.3-9]
def test_coming_back_in_time_cancels_a_delayed_will(peer):
    session = {"client_id": "door", "clean": False, "properties": {"SessionExpiryInterval": 60}}
    watcher = peer("5")
    watcher.subscribe("will", 1)
    peer("5", will=delayed_will(2, "wrong"), **session).drop()
    assert peer("5", **session).connack.session_present
    # The will of another client, lost later with a longer delay, shows that the time is over.
    peer("5", will=delayed_will(3, "clock"), properties={"SessionExpiryInterval": 60}).drop()
    assert watcher.payloads(1) == ["clock"]


# [MQTT-3.1.2-8], [MQTT-4.1.0-2]
def test_a_delayed_will_comes_at_the_latest_when_the_session_ends(peer):
    watcher = peer("5")
    watcher.subscribe("will", 1)
    peer("5", client_id="door", will=delayed_will(3600), properties={"SessionExpiryInterval": 1}).drop()
    assert watcher.payloads(1) == ["gone"]
    assert not peer("5", client_id="door", clean=False).connack.session_present


def test_message_expiry_travels_with_the_message(peer):
    subscriber, publisher = peer("5"), peer("5")
    subscriber.subscribe("a", 1)
    publisher.publish("a", "payload", 1, MessageExpiryInterval=1000)
    assert 990 <= subscriber.receive().properties.MessageExpiryInterval <= 1000


# [MQTT-3.3.2-5], [MQTT-3.3.2-6]
def test_expired_messages_are_not_delivered(peer):
    session = {"client_id": "sleeper", "clean": False, "properties": {"SessionExpiryInterval": 60}}
    client = peer("5", **session)
    client.subscribe("a", 1)
    client.disconnect()
    publisher = peer("5")
    publisher.publish("a", "expired", 1, MessageExpiryInterval=1)
    publisher.publish("a", "still good", 1, MessageExpiryInterval=1000)
    publisher.publish("a", "without end", 1)
    publisher.publish("kept", "expired", 1, retain=True, MessageExpiryInterval=1)
    # The passing of the time is the subject here. Brokers may count in whole seconds.
    time.sleep(2.5)  # sleep: real time must pass for an expiry

    client = peer("5", **session)
    first, second = client.receive(), client.receive()
    assert (first.payload, second.payload) == (b"still good", b"without end")
    # What is left of it: the time in the queue is taken off.
    assert 900 <= first.properties.MessageExpiryInterval <= 998
    client.subscribe("kept", 1)
    publisher.publish("kept", "live", 1)
    assert client.payloads(1) == ["live"]


def test_a_shared_subscription_gives_each_message_to_one_member(peer):
    members = [peer("5") for _ in range(3)]
    for member in members:
        assert member.subscribe("$share/workers/job/+", 1) == [1]
    watcher, publisher = peer("5"), peer("5")
    watcher.subscribe("job/#", 1)
    expected = [str(number) for number in range(30)]
    for number in expected:
        publisher.publish("job/x", number, 1)
    assert watcher.payloads(30) == expected
    # What a member got before the answer to this is in its queue.
    received = []
    for member in members:
        member.subscribe("end", 1)
    publisher.publish("end", "end", 1)
    for member in members:
        own = []
        while (message := member.receive()).topic != "end":
            own.append(int(message.payload))
        assert own == sorted(own)
        assert own, "a member of the group got nothing"
        received += own
    assert sorted(received) == list(range(30))


def test_a_shared_subscription_passes_over_who_left(peer):
    stays, leaves, publisher = peer("5"), peer("5"), peer("5")
    for member in (stays, leaves):
        member.subscribe("$share/workers/job", 1)
    leaves.disconnect()
    for number in range(10):
        publisher.publish("job", number, 1)
    assert stays.payloads(10) == [str(number) for number in range(10)]


def test_share_names_are_groups_of_their_own(peer):
    red, blue, publisher = peer("5"), peer("5"), peer("5")
    red.subscribe("$share/red/job", 1)
    blue.subscribe("$share/blue/job", 1)
    publisher.publish("job", "for both", 1)
    assert red.payloads(1) == blue.payloads(1) == ["for both"]


@pytest.mark.skipif(
    "INTEROP_BROKER_COMMAND" in os.environ, reason="Mosquitto 2.0 sends retained messages to shared subscriptions"
)
def test_a_shared_subscription_receives_no_retained_messages(peer):
    publisher, member = peer("5"), peer("5")
    publisher.publish("job", "retained", 1, retain=True)
    member.subscribe("$share/workers/job", 1)
    publisher.publish("job", "live", 1)
    assert member.payloads(1) == ["live"]


# [MQTT-4.12.0-1]
def test_an_unknown_authentication_method_is_refused(peer):
    client = peer("5", connect=False, properties={"AuthenticationMethod": "no-such-method"})
    client.connect(expect=BAD_AUTHENTICATION_METHOD)
