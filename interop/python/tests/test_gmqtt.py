"""gmqtt, a client with a protocol implementation of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os

import gmqtt
import pytest
from gmqtt.mqtt.constants import MQTTv50, MQTTv311

from event_loop import in_event_loop

SESSION_TAKEN_OVER = 0x8E

_ids = itertools.count(1)

every_protocol = pytest.mark.parametrize("protocol", [MQTTv311, MQTTv50], ids=["3.1.1", "5"])
every_qos = pytest.mark.parametrize("qos", [0, 1, 2])


class Peer:
    """A gmqtt client whose events can be awaited."""

    def __init__(self, client_id=None, **options):
        self.client = gmqtt.Client(client_id or f"gmqtt-{next(_ids)}", **options)
        self.client.set_config({"reconnect_delay": 0, "reconnect_retries": 3})
        self.messages = asyncio.Queue()
        self.connects = asyncio.Queue()
        self.disconnects = asyncio.Queue()
        self._subacks = asyncio.Queue()
        self._unsubacks = asyncio.Queue()
        self.client.on_message = lambda _, *message: self.messages.put_nowait(message)
        self.client.on_connect = lambda _, *connack: self.connects.put_nowait(connack)
        self.client.on_disconnect = lambda _, packet, *rest: self.disconnects.put_nowait(packet)
        self.client.on_subscribe = lambda _, mid, codes, properties: self._subacks.put_nowait(codes)
        self.client.on_unsubscribe = lambda _, mid, codes: self._unsubacks.put_nowait(codes)

    async def subscribe(self, topic_filter, qos=0, **options):
        """The codes in SUBACK."""
        self.client.subscribe(topic_filter, qos, **options)
        return list(await self._subacks.get())

    async def unsubscribe(self, topic_filter):
        """The codes in UNSUBACK."""
        self.client.unsubscribe(topic_filter)
        return list(await self._unsubacks.get())

    def publish(self, topic, payload, qos=0, **options):
        """Sends without waiting: gmqtt shows no acknowledgement."""
        self.client.publish(topic, payload, qos=qos, **options)

    async def receive(self):
        """The next message: topic, payload, QoS, properties with `retain` and `dup` among them."""
        return await self.messages.get()

    def drop(self):
        """Closes the socket without a DISCONNECT."""
        self.client._connection._transport.abort()


@pytest.fixture
def peer(broker):
    """Makes connected clients, `async with peer(protocol) as client`."""

    @contextlib.asynccontextmanager
    async def make(protocol=MQTTv50, client_id=None, login=None, **options):
        made = Peer(client_id, **options)
        if login:
            made.client.set_auth_credentials(*login)
        await made.client.connect(broker.host, broker.port, version=protocol)
        try:
            yield made
        finally:
            await made.client.disconnect()

    return make


@every_protocol
@every_qos
@in_event_loop
async def test_publish_and_subscribe(peer, protocol, qos):
    async with peer(protocol) as subscriber, peer(protocol) as publisher:
        assert await subscriber.subscribe("room/+/temperature", qos) == [qos]
        publisher.publish("room/楼/temperature", "21.5", 2)
        topic, payload, received_qos, properties = await subscriber.receive()
        assert (topic, payload, received_qos) == ("room/楼/temperature", b"21.5", qos)
        assert (properties["retain"], properties["dup"]) == (0, 0)


@every_protocol
@in_event_loop
async def test_user_name_and_password(peer, protocol):
    async with peer(protocol, login=("door", "any")) as client:
        assert await client.subscribe("a", 1) == [1]


@every_protocol
@every_qos
@in_event_loop
async def test_order(peer, protocol, qos):
    async with peer(protocol) as subscriber, peer(protocol) as publisher:
        await subscriber.subscribe("order", qos)
        numbers = []
        # In windows, since gmqtt itself has no limit for what is under way.
        for first in range(0, 1000, 50):
            for number in range(first, first + 50):
                publisher.publish("order", number, qos)
            numbers += [int((await subscriber.receive())[1]) for _ in range(50)]
        assert numbers == list(range(1000))


@every_protocol
@in_event_loop
async def test_retained(peer, protocol):
    async with peer(protocol) as publisher, peer(protocol) as newcomer:
        publisher.publish("lamp", "on", 1, retain=True)
        await publisher.subscribe("lamp", 1)
        assert (await publisher.receive())[1] == b"on"
        await newcomer.subscribe("lamp", 1)
        _, payload, _, properties = await newcomer.receive()
        assert (payload, properties["retain"]) == (b"on", 1)
        publisher.publish("lamp", "off", 1, retain=True)
        _, payload, _, properties = await newcomer.receive()
        assert (payload, properties["retain"]) == (b"off", 0)


@every_protocol
@in_event_loop
async def test_will(peer, protocol):
    async with peer(protocol) as watcher:
        await watcher.subscribe("will/#", 1)
        async with peer(protocol, will_message=gmqtt.Message("will/clean", "no", qos=1)):
            pass
        async with peer(protocol, will_message=gmqtt.Message("will/lost", "yes", qos=1)) as lost:
            lost.client.stop_reconnect()
            lost.drop()
            topic, payload, qos, _ = await watcher.receive()
        assert (topic, payload, qos) == ("will/lost", b"yes", 1)


@every_protocol
@in_event_loop
async def test_it_reconnects_by_itself_and_finds_its_session(peer, protocol):
    session = {"session_expiry_interval": 3600} if protocol == MQTTv50 else {}
    async with peer(protocol, clean_session=False, **session) as client, peer(protocol) as publisher:
        assert (await client.connects.get())[0] == 0
        await client.subscribe("a", 1)
        client.drop()
        publisher.publish("a", "meanwhile", 1)
        assert (await client.connects.get())[0] == 1
        assert (await client.receive())[1] == b"meanwhile"


# [MQTT-3.1.4-3]
@pytest.mark.skipif("INTEROP_BROKER_COMMAND" in os.environ, reason="Mosquitto 2.0 closes without a DISCONNECT")
@in_event_loop
async def test_the_first_of_two_connections_is_told_that_it_was_taken_over(peer):
    async with peer(client_id="door") as first:
        first.client.stop_reconnect()
        async with peer(client_id="door"):
            packet = await first.disconnects.get()
    assert packet[0] == SESSION_TAKEN_OVER


@in_event_loop
async def test_publish_properties(peer):
    async with peer() as subscriber, peer() as publisher:
        await subscriber.subscribe("a", 1, subscription_identifier=300)
        publisher.publish(
            "a", "payload", 1,
            user_property=[("a", "1"), ("a", "2")], content_type="text/plain", response_topic="reply",
            correlation_data=b"\x00\xff", payload_format_id=1, message_expiry_interval=1000,
        )
        properties = (await subscriber.receive())[3]
    assert properties["user_property"] == [("a", "1"), ("a", "2")]
    assert properties["content_type"] == ["text/plain"]
    assert properties["response_topic"] == ["reply"]
    assert properties["correlation_data"] == [b"\x00\xff"]
    assert properties["payload_format_id"] == [1]
    assert properties["subscription_identifier"] == [300]
    assert 990 <= properties["message_expiry_interval"][0] <= 1000


@in_event_loop
async def test_topic_aliases_both_ways(peer):
    async with peer(topic_alias_maximum=5) as subscriber, peer() as publisher:
        await subscriber.subscribe("long/#", 1)
        publisher.publish("long/topic", "1", 1, topic_alias=1)
        publisher.publish("", "2", 1, topic_alias=1)
        publisher.publish("long/topic", "3", 1)
        for payload in (b"1", b"2", b"3"):
            topic, received, *_ = await subscriber.receive()
            assert (topic, received) == ("long/topic", payload)


@in_event_loop
async def test_subscribe_options(peer):
    async with peer() as client, peer() as other:
        await client.subscribe("own", 1, no_local=True, retain_as_published=True)
        client.publish("own", "mine", 1)
        # With the answer to this, the broker is through with the message before.
        await client.subscribe("fence", 1)
        other.publish("own", "another's", 1, retain=True)
        _, payload, _, properties = await client.receive()
        assert (payload, properties["retain"]) == (b"another's", 1)
        await client.subscribe("own", 1, retain_handling_options=2)
        other.publish("own", "live", 1)
        assert (await client.receive())[1] == b"live"


@in_event_loop
async def test_unsubscribe(peer):
    async with peer() as client:
        await client.subscribe("a", 1)
        await client.subscribe("b", 1)
        assert await client.unsubscribe("a") == [0]
        client.publish("a", "1", 1)
        client.publish("b", "2", 1)
        assert (await client.receive())[1] == b"2"
