"""What every version of MQTT has in common, with paho-mqtt 1.6 and 2.x."""

from __future__ import annotations

import pytest

from peer import TIMEOUT_S, Will

PROTOCOLS = ["3.1", "3.1.1", "5"]
QOS = [0, 1, 2]

every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


# [MQTT-3.1.4-5], [MQTT-3.2.2-2], [MQTT-4.2-1]
# 3.1.1 [MQTT-3.1.4-4], [MQTT-3.2.2-1], [MQTT-7.0.0-2], [MQTT-7.1.1-1]
@every_protocol
def test_connect_and_disconnect(peer, protocol):
    client = peer(protocol)
    assert not client.connack.session_present
    client.disconnect()


@every_protocol
def test_a_client_of_this_machine_may_present_any_user_name_and_password(peer, protocol):
    client = peer(protocol, login=("door", "no such password"))
    assert client.subscribe("a", 1) == [1]


# 3.1.1 [MQTT-3.1.3-6]
def test_an_empty_client_id_is_given_one(peer):
    first = peer("3.1.1", client_id="")
    second = peer("3.1.1", client_id="")
    first.subscribe("a")
    second.subscribe("a")
    second.publish("a", "both are there", 1)
    assert first.payloads(1) == second.payloads(1) == ["both are there"]


# [MQTT-3.3.2-3], [MQTT-3.8.4-8]
# 3.1.1 [MQTT-3.3.2-3], [MQTT-3.8.4-6]
@every_protocol
@pytest.mark.parametrize("subscribed", QOS)
@pytest.mark.parametrize("published", QOS)
def test_delivered_qos_is_the_lower_of_both(peer, protocol, published, subscribed):
    subscriber, publisher = peer(protocol), peer(protocol)
    assert subscriber.subscribe("pair/+", subscribed) == [subscribed]
    publisher.publish("pair/x", "payload", published)
    message = subscriber.receive()
    assert (message.topic, message.payload, message.qos) == ("pair/x", b"payload", min(published, subscribed))
    assert not message.retain
    assert not message.dup


@pytest.mark.parametrize("subscriber_protocol", PROTOCOLS)
@pytest.mark.parametrize("publisher_protocol", PROTOCOLS)
def test_versions_of_mqtt_understand_each_other(peer, publisher_protocol, subscriber_protocol):
    if publisher_protocol == subscriber_protocol:
        pytest.skip("has its own test")
    subscriber, publisher = peer(subscriber_protocol), peer(publisher_protocol)
    subscriber.subscribe("between", 2)
    for qos in QOS:
        publisher.publish("between", f"at {qos}", qos)
    received = {message.payload: message.qos for message in (subscriber.receive() for _ in QOS)}
    assert received == {b"at 0": 0, b"at 1": 1, b"at 2": 2}


@every_protocol
def test_a_publisher_receives_its_own_messages(peer, protocol):
    client = peer(protocol)
    client.subscribe("self", 1)
    client.publish("self", "hello", 1)
    assert client.payloads(1) == ["hello"]


# [MQTT-4.5.0-1], [MQTT-4.6.0-5], [MQTT-4.6.0-6]
# 3.1.1 [MQTT-4.5.0-1], [MQTT-4.6.0-5], [MQTT-4.6.0-6]
@every_protocol
@pytest.mark.parametrize("qos", QOS)
def test_a_thousand_messages_arrive_in_order(peer, protocol, qos):
    subscriber, publisher = peer(protocol), peer(protocol)
    subscriber.subscribe("order", qos)
    expected = [str(number) for number in range(1000)]
    sent = [publisher.send("order", number, qos) for number in expected]
    assert subscriber.payloads(1000) == expected
    for mid in sent:
        publisher.published(mid)


def test_wildcards(peer):
    cases = {
        "home/+/temperature": ["home/kitchen/temperature"],
        "home/#": ["home", "home/kitchen/temperature", "home/kitchen/temperature/unit", "home/"],
        "+/kitchen/#": ["home/kitchen/temperature", "home/kitchen/temperature/unit"],
        "+": ["home"],
        "home/+": ["home/"],
        "/+": ["/finance"],
        "+/+": ["home/", "/finance"],
        "#": [
            "home", "home/kitchen/temperature", "home/kitchen/temperature/unit", "home/", "/finance",
        ],
    }
    subscribers = {topic_filter: peer() for topic_filter in cases}
    for topic_filter, subscriber in subscribers.items():
        assert subscriber.subscribe(topic_filter, 1) == [1]
        subscriber.subscribe("the/end/of/all")
    publisher = peer()
    for topic in ["home", "home/kitchen/temperature", "home/kitchen/temperature/unit", "home/", "/finance"]:
        publisher.publish(topic, topic, 1)
    publisher.publish("the/end/of/all", "end")
    for topic_filter, subscriber in subscribers.items():
        received = []
        while (message := subscriber.receive()).topic != "the/end/of/all":
            assert message.topic == message.payload.decode()
            received.append(message.topic)
        assert received == cases[topic_filter], topic_filter


# 3.1.1 [MQTT-4.7.2-1]
def test_a_wildcard_does_not_match_topics_that_begin_with_a_dollar_sign(peer):
    everything, named = peer(), peer()
    everything.subscribe("#")
    everything.subscribe("+/status")
    named.subscribe("$lab/#")
    publisher = peer()
    publisher.publish("$lab/status", "hidden", 1)
    publisher.publish("end", "seen", 1)
    assert everything.payloads(1) == ["seen"]
    assert named.payloads(1) == ["hidden"]


# [MQTT-3.10.4-1], [MQTT-3.10.4-2], [MQTT-3.10.4-4]
# 3.1.1 [MQTT-3.10.4-1], [MQTT-3.10.4-2]
@every_protocol
def test_unsubscribe(peer, protocol):
    subscriber, publisher = peer(protocol), peer(protocol)
    subscriber.subscribe("kept", 1)
    subscriber.subscribe("left", 1)
    publisher.publish("left", "1", 1)
    assert subscriber.payloads(1) == ["1"]
    subscriber.unsubscribe("left")
    publisher.publish("left", "2", 1)
    publisher.publish("kept", "3", 1)
    assert subscriber.payloads(1) == ["3"]


# 3.1.1 [MQTT-3.8.4-3]
def test_subscribing_again_replaces_the_subscription(peer):
    subscriber, publisher = peer(), peer()
    assert subscriber.subscribe("again", 2) == [2]
    assert subscriber.subscribe("again", 0) == [0]
    publisher.publish("again", "once", 2)
    publisher.publish("again", "end", 2)
    first, second = subscriber.receive(), subscriber.receive()
    assert [(first.payload, first.qos), (second.payload, second.qos)] == [(b"once", 0), (b"end", 0)]


# 3.1.1 [MQTT-3.8.4-4], [MQTT-3.8.4-5], [MQTT-3.9.3-1]
def test_several_filters_in_one_subscribe(peer):
    subscriber, publisher = peer(), peer()
    assert subscriber.subscribe([("one", 0), ("two", 1), ("three", 2)], None) == [0, 1, 2]
    publisher.publish("three", "3", 2)
    assert subscriber.receive().qos == 2


# [MQTT-3.3.1-5], [MQTT-3.3.1-9], [MQTT-3.3.1-12]
# 3.1.1 [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-8], [MQTT-3.3.1-9]
@every_protocol
def test_a_retained_message_waits_for_newcomers(peer, protocol):
    publisher, present = peer(protocol), peer(protocol)
    present.subscribe("lamp/+/state", 1)
    publisher.publish("lamp/1/state", "on", 1, retain=True)
    message = present.receive()
    assert (message.payload, bool(message.retain)) == (b"on", False)

    newcomer = peer(protocol)
    newcomer.subscribe("lamp/#", 1)
    message = newcomer.receive()
    assert (message.topic, message.payload, message.qos, bool(message.retain)) == ("lamp/1/state", b"on", 1, True)


# [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-7]
# 3.1.1 [MQTT-3.3.1-7], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
@every_protocol
def test_a_retained_message_is_replaced_and_deleted(peer, protocol):
    publisher, present = peer(protocol), peer(protocol)
    publisher.publish("lamp", "old", 1, retain=True)
    publisher.publish("lamp", "new", 0, retain=True)
    present.subscribe("lamp", 2)
    message = present.receive()
    assert (message.payload, message.qos, bool(message.retain)) == (b"new", 0, True)

    publisher.publish("lamp", b"", 1, retain=True)
    message = present.receive()
    assert (message.payload, bool(message.retain)) == (b"", False)
    newcomer = peer(protocol)
    newcomer.subscribe("lamp", 1)
    publisher.publish("lamp", "not retained", 1)
    assert newcomer.payloads(1) == ["not retained"]


# 3.1.1 [MQTT-3.8.4-3]
def test_subscribing_again_sends_the_retained_message_again(peer):
    client = peer()
    client.publish("lamp", "on", 1, retain=True)
    for _ in range(2):
        client.subscribe("lamp", 1)
        assert client.receive().retain


# [MQTT-3.1.2-7], [MQTT-3.1.2-8]
# 3.1.1 [MQTT-3.1.2-8]
@every_protocol
@pytest.mark.parametrize("qos", QOS)
def test_the_will_is_sent_when_the_connection_is_lost(peer, protocol, qos):
    watcher = peer(protocol)
    watcher.subscribe("will/#", 2)
    peer(protocol, will=Will("will/door", "lost", qos)).drop()
    message = watcher.receive()
    assert (message.topic, message.payload, message.qos, bool(message.retain)) == ("will/door", b"lost", qos, False)


# 3.1.1 [MQTT-3.1.2-17]
def test_the_will_can_be_retained(peer):
    watcher = peer()
    watcher.subscribe("will/door")
    peer(will=Will("will/door", "lost", retain=True)).drop()
    assert watcher.payloads(1) == ["lost"]
    newcomer = peer()
    newcomer.subscribe("will/door")
    assert newcomer.receive().retain


# [MQTT-3.1.2-8], [MQTT-3.1.2-10], [MQTT-3.14.4-3]
# 3.1.1 [MQTT-3.1.2-10], [MQTT-3.14.4-3]
@every_protocol
def test_no_will_after_a_disconnect(peer, protocol):
    watcher = peer(protocol)
    watcher.subscribe("will", 1)
    peer(protocol, client_id="door", will=Will("will", "lost")).disconnect()
    # Once the same client is in again, the broker is through with its first connection.
    peer(protocol, client_id="door").publish("will", "end", 1)
    assert watcher.payloads(1) == ["end"]


# [MQTT-3.1.4-3]
# 3.1.1 [MQTT-3.1.4-2]
@every_protocol
def test_a_second_connection_with_the_same_client_id_ends_the_first(peer, protocol):
    first = peer(protocol, client_id="door")
    second = peer(protocol, client_id="door")
    first.disconnects.get(timeout=TIMEOUT_S)
    second.subscribe("a", 1)
    second.publish("a", "alive", 1)
    assert second.payloads(1) == ["alive"]


@pytest.mark.parametrize("qos", QOS)
def test_a_payload_of_one_mebibyte(peer, qos):
    subscriber, publisher = peer(), peer()
    subscriber.subscribe("big", qos)
    payload = bytes(range(256)) * 4096
    publisher.publish("big", payload, qos)
    assert subscriber.receive().payload == payload


@pytest.mark.parametrize("qos", QOS)
def test_an_empty_payload(peer, qos):
    subscriber, publisher = peer(), peer()
    subscriber.subscribe("nothing", qos)
    publisher.publish("nothing", None, qos)
    message = subscriber.receive()
    assert (message.topic, message.payload) == ("nothing", b"")


@every_protocol
def test_topics_in_chinese(peer, protocol):
    subscriber, publisher = peer(protocol), peer(protocol)
    subscriber.subscribe("楼/+/门", 1)
    publisher.publish("楼/三号/门", "已开", 1, retain=True)
    message = subscriber.receive()
    assert (message.topic, message.payload.decode()) == ("楼/三号/门", "已开")
    newcomer = peer(protocol)
    newcomer.subscribe("楼/三号/#", 1)
    assert newcomer.receive().topic == "楼/三号/门"
