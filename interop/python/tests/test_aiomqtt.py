"""aiomqtt 2.x."""

from __future__ import annotations

import asyncio
import itertools
import socket

import aiomqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from event_loop import in_event_loop

_ids = itertools.count(1)

V31, V311, V5 = aiomqtt.ProtocolVersion.V31, aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5

every_protocol = pytest.mark.parametrize("protocol", [V31, V311, V5], ids=["3.1", "3.1.1", "5"])


@pytest.fixture
def client(broker):
    """Makes clients of this test's broker, to be entered with `async with`."""

    def make(protocol=V311, **options):
        options.setdefault("identifier", f"aiomqtt-{next(_ids)}")
        return aiomqtt.Client(broker.host, broker.port, protocol=protocol, **options)

    return make


async def receive(client, count=1):
    """The next `count` messages."""
    messages = []
    async for message in client.messages:
        messages.append(message)
        if len(messages) == count:
            return messages


@every_protocol
@pytest.mark.parametrize("qos", [0, 1, 2])
@in_event_loop
async def test_publish_and_subscribe(client, protocol, qos):
    async with client(protocol) as subscriber, client(protocol) as publisher:
        granted = await subscriber.subscribe("room/+/temperature", qos)
        assert [getattr(code, "value", code) for code in granted] == [qos]
        await publisher.publish("room/楼/temperature", "21.5", qos)
        message, = await receive(subscriber)
        assert (str(message.topic), message.payload, message.qos) == ("room/楼/temperature", b"21.5", qos)


@in_event_loop
async def test_user_name_and_password(client):
    async with client(username="door", password="any") as own:
        await own.subscribe("a")
        await own.publish("a", "in")
        assert (await receive(own))[0].payload == b"in"


@every_protocol
@pytest.mark.parametrize("qos", [0, 1, 2])
@in_event_loop
async def test_order(client, protocol, qos):
    async with client(protocol) as subscriber, client(protocol) as publisher:
        await subscriber.subscribe("order", qos)
        receiving = asyncio.create_task(receive(subscriber, 500))
        for first in range(0, 500, 10):
            await asyncio.gather(*(publisher.publish("order", number, qos) for number in range(first, first + 10)))
        assert [int(message.payload) for message in await receiving] == list(range(500))


@every_protocol
@in_event_loop
async def test_retained(client, protocol):
    async with client(protocol) as publisher, client(protocol) as newcomer:
        await publisher.publish("lamp", "on", 1, retain=True)
        await newcomer.subscribe("lamp", 1)
        message, = await receive(newcomer)
        assert (message.payload, bool(message.retain)) == (b"on", True)
        await publisher.publish("lamp", "off", 1, retain=True)
        message, = await receive(newcomer)
        assert (message.payload, bool(message.retain)) == (b"off", False)


@every_protocol
@in_event_loop
async def test_will(client, protocol):
    async with client(protocol) as watcher:
        await watcher.subscribe("will/#", 1)
        async with client(protocol, will=aiomqtt.Will("will/clean", "no", 1)):
            pass
        with pytest.raises(aiomqtt.MqttError):
            async with client(protocol, will=aiomqtt.Will("will/lost", "yes", 1)) as lost:
                lost._client.socket().shutdown(socket.SHUT_RDWR)
                await receive(lost)
        assert [str(message.topic) for message in await receive(watcher)] == ["will/lost"]


@in_event_loop
async def test_unsubscribe(client):
    async with client() as own:
        await own.subscribe([("a", 1), ("b", 1)])
        await own.unsubscribe("a")
        await own.publish("a", "1", 1)
        await own.publish("b", "2", 1)
        assert [message.payload for message in await receive(own)] == [b"2"]


@in_event_loop
async def test_a_session_waits_for_the_reconnect(client):
    sleeper = {"identifier": "sleeper", "clean_session": False}
    async with client(**sleeper) as first:
        await first.subscribe("a", 2)
    async with client() as publisher:
        for number in range(20):
            await publisher.publish("a", number, 2)
    async with client(**sleeper) as again:
        assert [int(message.payload) for message in await receive(again, 20)] == list(range(20))


@in_event_loop
async def test_the_same_client_object_reconnects(client):
    own = client()
    for payload in (b"1", b"2"):
        async with own:
            await own.subscribe("a", 1)
            await own.publish("a", payload, 1)
            assert (await receive(own))[0].payload == payload


@in_event_loop
async def test_properties(client):
    async with client(V5) as subscriber, client(V5) as publisher:
        await subscriber.subscribe("a", 1)
        properties = Properties(PacketTypes.PUBLISH)
        properties.UserProperty = ("a", "1")
        properties.ResponseTopic = "reply"
        properties.CorrelationData = b"\x00\x01"
        await publisher.publish("a", "request", 1, properties=properties)
        message, = await receive(subscriber)
        assert message.properties.UserProperty == [("a", "1")]
        assert (message.properties.ResponseTopic, message.properties.CorrelationData) == ("reply", b"\x00\x01")
