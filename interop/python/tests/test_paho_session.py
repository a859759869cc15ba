"""Sessions that outlive their connection, with paho-mqtt 1.6 and 2.x."""

from __future__ import annotations

import pytest

from peer import TIMEOUT_S

FOR_AN_HOUR = {"SessionExpiryInterval": 3600}

every_protocol = pytest.mark.parametrize("protocol", ["3.1", "3.1.1", "5"])


@pytest.fixture
def keep(peer):
    """Makes a client whose session stays after its connection."""

    def make(protocol, client_id, **options):
        if protocol == "5":
            options["properties"] = FOR_AN_HOUR
        return peer(protocol, client_id=client_id, clean=False, **options)

    return make


# [MQTT-3.1.2-5], [MQTT-3.1.2-6], [MQTT-3.1.2-23], [MQTT-3.2.2-3], [MQTT-4.5.0-1]
# 3.1.1 [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.2.2-2], [MQTT-3.2.2-3], [MQTT-4.5.0-1]
@every_protocol
def test_messages_wait_for_a_session_that_is_away(peer, keep, protocol):
    client = keep(protocol, "sleeper")
    assert not client.connack.session_present
    client.subscribe("at/1", 1)
    client.subscribe("at/2", 2)
    client.disconnect()

    publisher = peer(protocol)
    for number in range(100):
        publisher.publish("at/1", number, 1)
        publisher.publish("at/2", number, 2)

    client = keep(protocol, "sleeper")
    # 3.1 has no such flag: the byte is reserved there.
    if protocol != "3.1":
        assert client.connack.session_present
    received = [client.receive() for _ in range(200)]
    # Order is promised among messages of one topic and one QoS.
    for qos in (1, 2):
        numbers = [int(message.payload) for message in received if message.topic == f"at/{qos}"]
        assert numbers == list(range(100))
    assert {(message.topic, message.qos) for message in received} == {("at/1", 1), ("at/2", 2)}

    publisher.publish("at/2", "end", 2)
    assert client.payloads(1) == ["end"]


# [MQTT-3.1.2-23]
# 3.1.1 [MQTT-3.1.2-4], [MQTT-3.1.2-5]
@every_protocol
def test_messages_wait_when_the_connection_was_lost(peer, keep, protocol):
    client = keep(protocol, "sleeper")
    client.subscribe("a", 1)
    client.drop()
    peer(protocol).publish("a", "waited", 1)
    assert keep(protocol, "sleeper").payloads(1) == ["waited"]


def test_each_return_finds_only_what_is_new(peer, keep):
    client = keep("3.1.1", "sleeper")
    client.subscribe("a", 2)
    publisher = peer()
    for qos, payload in ((1, "first"), (2, "second"), (1, "third")):
        client.disconnect()
        publisher.publish("a", payload, qos)
        client = keep("3.1.1", "sleeper")
        assert client.payloads(1) == [payload]
        # The QoS 2 flow ends with packets that paho does not show. A message after it does.
        publisher.publish("a", "seen", 2)
        assert client.payloads(1) == ["seen"]


# 3.1.1 [MQTT-3.3.1-1]
def test_a_message_without_acknowledgement_is_sent_again(peer, keep):
    client = keep("3.1.1", "sleeper", drop_at_message=True)
    client.subscribe("a", 1)
    peer().publish("a", "twice", 1)
    first = client.receive()
    client.disconnects.get(timeout=TIMEOUT_S)
    second = keep("3.1.1", "sleeper").receive()
    assert (first.payload, first.dup) == (b"twice", False)
    assert (second.payload, second.dup) == (b"twice", True)


# [MQTT-3.1.2-4], [MQTT-3.1.4-4], [MQTT-3.2.2-2]
# 3.1.1 [MQTT-3.1.2-6], [MQTT-3.1.4-3], [MQTT-3.2.2-1]
@every_protocol
def test_a_clean_connection_discards_the_session(peer, keep, protocol):
    client = keep(protocol, "sleeper")
    client.subscribe("a", 1)
    client.disconnect()
    publisher = peer(protocol)
    publisher.publish("a", "discarded", 1)

    client = peer(protocol, client_id="sleeper", clean=True)
    assert not client.connack.session_present
    publisher.publish("a", "no subscription any more", 1)
    client.subscribe("a", 1)
    publisher.publish("a", "new", 1)
    assert client.payloads(1) == ["new"]
    client.disconnect()
    assert not keep(protocol, "sleeper").connack.session_present


# [MQTT-3.2.2-3], [MQTT-4.1.0-2]
# 3.1.1 [MQTT-3.1.2-6], [MQTT-3.2.2-3]
@every_protocol
def test_a_clean_session_ends_with_its_connection(peer, keep, protocol):
    client = peer(protocol, client_id="sleeper")
    client.subscribe("a", 1)
    client.disconnect()
    publisher = peer(protocol)
    publisher.publish("a", "missed", 1)
    client = keep(protocol, "sleeper")
    assert not client.connack.session_present
    client.subscribe("a", 1)
    publisher.publish("a", "new", 1)
    assert client.payloads(1) == ["new"]


# [MQTT-3.1.2-5], [MQTT-3.1.4-3]
# 3.1.1 [MQTT-3.1.2-4], [MQTT-3.1.4-2]
@every_protocol
def test_taking_over_keeps_the_session(peer, keep, protocol):
    first = keep(protocol, "door")
    first.subscribe("a", 1)
    second = keep(protocol, "door")
    first.disconnects.get(timeout=TIMEOUT_S)
    if protocol != "3.1":
        assert second.connack.session_present
    peer(protocol).publish("a", "here", 1)
    assert second.payloads(1) == ["here"]


def test_unsubscribing_is_remembered(peer, keep):
    client = keep("3.1.1", "sleeper")
    client.subscribe("a", 1)
    client.subscribe("b", 1)
    client.unsubscribe("a")
    client.disconnect()
    publisher = peer()
    publisher.publish("a", "unwanted", 1)
    publisher.publish("b", "wanted", 1)
    assert keep("3.1.1", "sleeper").payloads(1) == ["wanted"]
