"""What only MQTT 5.0 has, with paho-mqtt 1.6 and 2.x."""

from __future__ import annotations

import time

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.subscribeoptions import SubscribeOptions

from peer import IS_PAHO_1, Will, packet_properties

try:
    from paho.mqtt.reasoncodes import ReasonCode
except ImportError:  # the name in 1.6
    from paho.mqtt.reasoncodes import ReasonCodes as ReasonCode

NO_MATCHING_SUBSCRIBERS = 0x10
NO_SUBSCRIPTION_EXISTED = 0x11

shows_puback_codes = pytest.mark.skipif(IS_PAHO_1, reason="paho-mqtt 1.6 does not show the code in PUBACK")


# [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20]
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_publish_properties_reach_the_subscriber(peer, qos):
    subscriber, publisher = peer("5"), peer("5")
    subscriber.subscribe("request", 2)
    publisher.publish(
        "request", "打开", qos,
        UserProperty=[("a", "1"), ("b", "2"), ("a", "3")],
        ContentType="text/plain; charset=utf-8",
        ResponseTopic="reply/楼",
        CorrelationData=b"\x00\x01\xff",
        PayloadFormatIndicator=1,
    )
    properties = subscriber.receive().properties
    assert properties.UserProperty == [("a", "1"), ("b", "2"), ("a", "3")]
    assert properties.ContentType == "text/plain; charset=utf-8"
    assert properties.ResponseTopic == "reply/楼"
    assert properties.CorrelationData == b"\x00\x01\xff"
    assert properties.PayloadFormatIndicator == 1


def test_a_message_without_properties_gains_none(peer):
    subscriber, publisher = peer("5"), peer("5")
    subscriber.subscribe("a", 1)
    publisher.publish("a", "plain", 1)
    assert subscriber.receive().properties.isEmpty()


def test_properties_do_not_disturb_older_clients(peer):
    subscriber, publisher = peer("3.1.1"), peer("5")
    subscriber.subscribe("a", 1)
    publisher.publish("a", "payload", 1, UserProperty=[("a", "1")], ContentType="x", MessageExpiryInterval=60)
    assert subscriber.payloads(1) == ["payload"]


def test_a_retained_message_keeps_its_properties(peer):
    peer("5").publish("a", "kept", 1, retain=True, UserProperty=[("a", "1")], ContentType="x")
    newcomer = peer("5")
    newcomer.subscribe("a", 1)
    properties = newcomer.receive().properties
    assert (properties.UserProperty, properties.ContentType) == ([("a", "1")], "x")


def test_a_will_keeps_its_properties(peer):
    watcher = peer("5")
    watcher.subscribe("will", 1)
    properties = packet_properties(
        PacketTypes.WILLMESSAGE, {"UserProperty": [("a", "1")], "ContentType": "x", "CorrelationData": b"\x01"}
    )
    peer("5", will=Will("will", properties=properties)).drop()
    properties = watcher.receive().properties
    assert (properties.UserProperty, properties.ContentType) == ([("a", "1")], "x")
    assert properties.CorrelationData == b"\x01"


# [MQTT-3.1.2-8]
def test_disconnect_with_will_message(peer):
    watcher = peer("5")
    watcher.subscribe("will", 1)
    code = ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message")
    peer("5", will=Will("will", "left on purpose")).disconnect(reasoncode=code)
    assert watcher.payloads(1) == ["left on purpose"]


# [MQTT-3.3.4-3]
def test_the_subscription_identifier_comes_with_each_message(peer):
    subscriber, publisher = peer("5"), peer("5")
    subscriber.subscribe("a/+", 1, SubscriptionIdentifier=7)
    subscriber.subscribe("b", 1, SubscriptionIdentifier=268_435_455)
    subscriber.subscribe("c", 1)
    for topic in ("a/x", "b", "c"):
        publisher.publish(topic, topic, 1)
    received = {}
    for _ in range(3):
        message = subscriber.receive()
        received[message.topic] = getattr(message.properties, "SubscriptionIdentifier", None)
    assert received == {"a/x": [7], "b": [268_435_455], "c": None}


# [MQTT-3.3.4-3]
def test_overlapping_subscriptions_are_all_named(peer):
    subscriber, publisher = peer("5"), peer("5")
    subscriber.subscribe("a/+", 1, SubscriptionIdentifier=1)
    subscriber.subscribe("a/#", 2, SubscriptionIdentifier=2)
    subscriber.subscribe("end", 2)
    publisher.publish("a/x", "x", 2)
    publisher.publish("end", "end", 2)
    # One message with both identifiers or one for each: both are allowed.
    identifiers = []
    while (message := subscriber.receive()).topic != "end":
        identifiers += message.properties.SubscriptionIdentifier
    assert sorted(identifiers) == [1, 2]


def test_a_topic_alias_from_the_client(peer):
    subscriber, publisher = peer("5"), peer("5")
    assert publisher.connack.properties.TopicAliasMaximum >= 1
    subscriber.subscribe("long/#", 1)
    publisher.publish("long/topic", "1", 1, TopicAlias=1)
    publisher.publish("", "2", 1, TopicAlias=1)
    publisher.publish("long/other", "3", 0, TopicAlias=1)
    publisher.publish("", "4", 0, TopicAlias=1)
    messages = [subscriber.receive() for _ in range(4)]
    assert [(message.topic, message.payload) for message in messages] == [
        ("long/topic", b"1"), ("long/topic", b"2"), ("long/other", b"3"), ("long/other", b"4"),
    ]
    # An alias belongs to one connection: it never travels on.
    assert not any(hasattr(message.properties, "TopicAlias") for message in messages)


# [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11], [MQTT-3.8.4-4]
def test_retain_handling(peer):
    publisher, client = peer("5"), peer("5")
    publisher.publish("a", "retained", 1, retain=True)

    def subscribe(handling):
        client.subscribe("a", options=SubscribeOptions(qos=1, retainHandling=handling))
        publisher.publish("a", "end", 1)
        received = []
        while (payload := client.receive().payload) != b"end":
            received.append(payload)
        return received

    assert subscribe(SubscribeOptions.RETAIN_DO_NOT_SEND) == []
    assert subscribe(SubscribeOptions.RETAIN_SEND_IF_NEW_SUB) == []
    assert subscribe(SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE) == [b"retained"]
    client.unsubscribe("a")
    assert subscribe(SubscribeOptions.RETAIN_SEND_IF_NEW_SUB) == [b"retained"]
    client.unsubscribe("a")
    assert subscribe(SubscribeOptions.RETAIN_DO_NOT_SEND) == []


# [MQTT-3.8.3-3]
def test_no_local(peer):
    client, other = peer("5"), peer("5")
    client.subscribe("a", options=SubscribeOptions(qos=1, noLocal=True))
    client.publish("a", "my own", 1)
    other.publish("a", "another's", 1)
    assert client.payloads(1) == ["another's"]


# [MQTT-3.3.1-12], [MQTT-3.3.1-13]
def test_retain_as_published(peer):
    publisher, keeps, clears = peer("5"), peer("5"), peer("5")
    keeps.subscribe("a", options=SubscribeOptions(qos=1, retainAsPublished=True))
    clears.subscribe("a", options=SubscribeOptions(qos=1, retainAsPublished=False))
    publisher.publish("a", "retained", 1, retain=True)
    publisher.publish("a", "plain", 1)
    assert [bool(keeps.receive().retain) for _ in range(2)] == [True, False]
    assert [bool(clears.receive().retain) for _ in range(2)] == [False, False]


# [MQTT-3.1.2-23], [MQTT-4.1.0-2]
def test_a_session_lives_as_long_as_it_asked_for(peer):
    long = {"SessionExpiryInterval": 3600}
    peer("5", client_id="long", clean=False, properties=long).drop()
    peer("5", client_id="none", clean=False).drop()
    peer("5", client_id="short", clean=False, properties={"SessionExpiryInterval": 1}).drop()
    # The passing of the time is the subject here. Brokers may look at their clocks once in a second.
    time.sleep(2.5)  # sleep: real time must pass for an expiry
    assert peer("5", client_id="long", clean=False, properties=long).connack.session_present
    assert not peer("5", client_id="none", clean=False).connack.session_present
    assert not peer("5", client_id="short", clean=False).connack.session_present


# [MQTT-4.1.0-2]
def test_disconnect_can_change_the_session_expiry(peer):
    hour = packet_properties(PacketTypes.DISCONNECT, {"SessionExpiryInterval": 3600})
    now = packet_properties(PacketTypes.DISCONNECT, {"SessionExpiryInterval": 0})
    start = {"clean": False, "properties": {"SessionExpiryInterval": 60}}
    peer("5", client_id="longer", **start).disconnect(properties=hour)
    peer("5", client_id="over", **start).disconnect(properties=now)
    assert peer("5", client_id="longer", **start).connack.session_present
    assert not peer("5", client_id="over", **start).connack.session_present


# [MQTT-3.1.3-6], [MQTT-3.1.3-7], [MQTT-3.2.2-16]
def test_an_empty_client_id_is_answered_with_an_assigned_one(peer):
    first, second = peer("5", client_id=""), peer("5", client_id="")
    names = [client.connack.properties.AssignedClientIdentifier for client in (first, second)]
    assert all(names)
    assert names[0] != names[1]
    named = peer("5", client_id="named")
    assert not hasattr(named.connack.properties, "AssignedClientIdentifier")


# [MQTT-3.8.4-5], [MQTT-3.8.4-6], [MQTT-3.8.4-7], [MQTT-3.9.3-1], [MQTT-3.10.4-6], [MQTT-3.11.3-1]
def test_suback_and_unsuback_codes(peer):
    client = peer("5")
    assert client.subscribe(
        [("a", SubscribeOptions(qos=0)), ("b", SubscribeOptions(qos=1)), ("c", SubscribeOptions(qos=2))]
    ) == [0, 1, 2]
    assert client.unsubscribe(["a", "never", "c"]) == [0, NO_SUBSCRIPTION_EXISTED, 0]
    assert client.unsubscribe("a") == [NO_SUBSCRIPTION_EXISTED]


@shows_puback_codes
@pytest.mark.parametrize("qos", [1, 2])
def test_puback_and_pubrec_codes(peer, qos):
    subscriber, publisher = peer("5"), peer("5")
    # A broker may say that nobody listens, or just that all is well.
    assert publisher.publish("a", "unheard", qos) in (0, NO_MATCHING_SUBSCRIBERS)
    subscriber.subscribe("a", 2)
    assert publisher.publish("a", "heard", qos) == 0
    assert subscriber.payloads(1) == ["heard"]


# [MQTT-3.1.2-24], [MQTT-3.1.2-25]
def test_a_message_above_the_maximum_packet_size_is_left_out(peer):
    subscriber = peer("5", properties={"MaximumPacketSize": 200})
    subscriber.subscribe("a", 1)
    publisher = peer("5")
    publisher.publish("a", "x" * 300, 1)
    publisher.publish("a", "small", 1)
    assert subscriber.payloads(1) == ["small"]


# [MQTT-3.3.4-9], [MQTT-3.3.4-10], [MQTT-4.9.0-2], [MQTT-4.9.0-3]
@pytest.mark.skipif(IS_PAHO_1, reason="paho-mqtt 1.6 always acknowledges by itself")
def test_no_more_messages_than_the_receive_maximum(peer):
    subscriber = peer("5", properties={"ReceiveMaximum": 2}, manual_ack=True)
    subscriber.subscribe("a", 1)
    publisher = peer("5")
    for number in range(5):
        publisher.publish("a", number, 1)
    first, second = subscriber.receive(), subscriber.receive()
    # Whatever was sent before the answer to this is in the queue now.
    subscriber.subscribe("b", 1)
    assert subscriber.messages.empty()
    subscriber.client.ack(first.mid, 1)
    third = subscriber.receive()
    for message in (second, third):
        subscriber.client.ack(message.mid, 1)
    received = [first, second, third, subscriber.receive(), subscriber.receive()]
    assert [int(message.payload) for message in received] == [0, 1, 2, 3, 4]
