"""A paho client whose events can be waited for, the same under paho-mqtt 1.6 and 2.x."""

from __future__ import annotations

import itertools
import queue
import socket
import threading
from typing import Any, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

IS_PAHO_1 = not hasattr(mqtt, "CallbackAPIVersion")
TIMEOUT_S = 10
PROTOCOLS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}

_ids = itertools.count(1)


class Will(NamedTuple):
    """What the broker publishes when the connection is lost."""

    topic: str
    payload: str = "gone"
    qos: int = 1
    retain: bool = False
    properties: Properties | None = None


class Connack(NamedTuple):
    """The broker's answer to CONNECT. `code` is a number in every version."""

    code: int
    session_present: bool
    properties: Properties | None


class Peer:
    """One client. Every method that starts something waits until the broker has answered."""

    def __init__(
        self,
        broker,
        protocol: str,
        *,
        client_id: str | None = None,
        clean: bool = True,
        keepalive_s: int = 60,
        will: Will | None = None,
        login: tuple[str, str] | None = None,
        properties: dict[str, Any] | None = None,
        drop_at_message: bool = False,
        **constructor,
    ) -> None:
        self.client_id = f"peer-{next(_ids)}" if client_id is None else client_id
        self.is_v5 = protocol == "5"
        self.messages: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self.disconnects: queue.Queue[int] = queue.Queue()
        self.connack: Connack | None = None
        self._broker = broker
        self._connacks: queue.Queue[Connack] = queue.Queue()
        self._answers: dict[tuple[str, int], Any] = {}
        self._answered = threading.Condition()
        self._drop_at_message = drop_at_message
        self._connect_options: dict[str, Any] = {"keepalive": keepalive_s}

        options = {"client_id": self.client_id, "protocol": PROTOCOLS[protocol], "reconnect_on_failure": False}
        if self.is_v5:
            self._connect_options["clean_start"] = clean
            self._connect_options["properties"] = packet_properties(PacketTypes.CONNECT, properties)
        else:
            options["clean_session"] = clean
        if not IS_PAHO_1:
            options["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION2
        self.client = client = mqtt.Client(**options, **constructor)
        if login:
            client.username_pw_set(*login)
        if will:
            client.will_set(*will)
        client.on_message = self._on_message
        suffix = "_v1" if IS_PAHO_1 else "_v2"
        for event in ("on_connect", "on_disconnect", "on_subscribe", "on_unsubscribe", "on_publish"):
            setattr(client, event, getattr(self, f"_{event}{suffix}"))

    def connect(self, expect: int = 0) -> Peer:
        """Connects, and checks the code in CONNACK."""
        self.client.connect(self._broker.host, self._broker.port, **self._connect_options)
        self.client.loop_start()
        self.connack = self._connacks.get(timeout=TIMEOUT_S)
        assert self.connack.code == expect
        return self

    def subscribe(self, topic_filter: str, qos: int = 0, options=None, **properties) -> list[int]:
        """The codes in SUBACK. `options` are 5.0 subscribe options, to be used instead of `qos`."""
        arguments: dict[str, Any] = {"options": options} if options else {"qos": qos}
        if properties:
            arguments["properties"] = packet_properties(PacketTypes.SUBSCRIBE, properties)
        result, mid = self.client.subscribe(topic_filter, **arguments)
        assert result == mqtt.MQTT_ERR_SUCCESS
        return self._answer("suback", mid)

    def unsubscribe(self, topic_filter: str) -> list[int]:
        """The codes in UNSUBACK: none before 5.0."""
        result, mid = self.client.unsubscribe(topic_filter)
        assert result == mqtt.MQTT_ERR_SUCCESS
        return self._answer("unsuback", mid)

    def send(self, topic: str, payload: Any = None, qos: int = 0, retain: bool = False, **properties) -> int:
        """Publishes without waiting. The answer is the packet's id, for `published`."""
        arguments: dict[str, Any] = {}
        if properties:
            arguments["properties"] = packet_properties(PacketTypes.PUBLISH, properties)
        info = self.client.publish(topic, payload, qos, retain, **arguments)
        assert info.rc == mqtt.MQTT_ERR_SUCCESS
        return info.mid

    def published(self, mid: int) -> int:
        """Waits until the flow of packet `mid` is over. The answer is the reason code, 0 where paho shows none."""
        return self._answer("published", mid)

    def publish(self, topic: str, payload: Any = None, qos: int = 0, retain: bool = False, **properties) -> int:
        """Publishes and waits until the flow is over."""
        return self.published(self.send(topic, payload, qos, retain, **properties))

    def receive(self) -> mqtt.MQTTMessage:
        """The next message."""
        return self.messages.get(timeout=TIMEOUT_S)

    def payloads(self, count: int) -> list[str]:
        """The payloads of the next `count` messages."""
        return [self.receive().payload.decode() for _ in range(count)]

    def drop(self) -> None:
        """Closes the socket without a DISCONNECT."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.disconnects.get(timeout=TIMEOUT_S)
        self.client.loop_stop()

    def disconnect(self, **arguments) -> None:
        """Ends the connection with a DISCONNECT."""
        self.client.disconnect(**arguments)
        self.disconnects.get(timeout=TIMEOUT_S)
        self.client.loop_stop()

    def close(self) -> None:
        """Ends whatever is left. Harmless when nothing is."""
        self.client.disconnect()
        self.client.loop_stop()

    def _answer(self, kind: str, mid: int) -> Any:
        with self._answered:
            arrived = self._answered.wait_for(lambda: (kind, mid) in self._answers, TIMEOUT_S)
            assert arrived, f"no {kind} for packet {mid} within {TIMEOUT_S} s"
            return self._answers.pop((kind, mid))

    def _set_answer(self, kind: str, mid: int, answer: Any) -> None:
        with self._answered:
            self._answers[kind, mid] = answer
            self._answered.notify_all()

    def _on_message(self, client, userdata, message) -> None:
        if self._drop_at_message:
            # The acknowledgement would be sent after this callback: now it cannot be.
            client.socket().shutdown(socket.SHUT_RDWR)
        self.messages.put(message)

    # paho 2.x, callback version 2: the same arguments for every version of MQTT.

    def _on_connect_v2(self, client, userdata, flags, reason_code, properties) -> None:
        self._connacks.put(Connack(_number(reason_code), flags.session_present, properties))

    def _on_disconnect_v2(self, client, userdata, flags, reason_code, properties) -> None:
        self.disconnects.put(_number(reason_code))

    def _on_subscribe_v2(self, client, userdata, mid, reason_codes, properties) -> None:
        self._set_answer("suback", mid, [_number(code) for code in reason_codes])

    def _on_unsubscribe_v2(self, client, userdata, mid, reason_codes, properties) -> None:
        self._set_answer("unsuback", mid, [_number(code) for code in reason_codes])

    def _on_publish_v2(self, client, userdata, mid, reason_code, properties) -> None:
        self._set_answer("published", mid, _number(reason_code))

    # paho 1.6: properties and reason codes come only in 5.0.

    def _on_connect_v1(self, client, userdata, flags, code, properties=None) -> None:
        self._connacks.put(Connack(_number(code), bool(flags["session present"]), properties))

    def _on_disconnect_v1(self, client, userdata, code, properties=None) -> None:
        self.disconnects.put(_number(code))

    def _on_subscribe_v1(self, client, userdata, mid, codes, properties=None) -> None:
        self._set_answer("suback", mid, [_number(code) for code in codes])

    def _on_unsubscribe_v1(self, client, userdata, mid, properties=None, codes=()) -> None:
        codes = codes if isinstance(codes, (list, tuple)) else [codes]
        self._set_answer("unsuback", mid, [_number(code) for code in codes])

    def _on_publish_v1(self, client, userdata, mid) -> None:
        self._set_answer("published", mid, 0)


def packet_properties(packet_type: int, values: dict[str, Any] | None) -> Properties | None:
    """Properties of one packet, by paho's names: `UserProperty=[("a", "b")]`."""
    if not values:
        return None
    properties = Properties(packet_type)
    for name, value in values.items():
        if name in ("UserProperty", "SubscriptionIdentifier") and isinstance(value, list):
            for one in value:
                setattr(properties, name, one)
        else:
            setattr(properties, name, value)
    return properties


def _number(code: Any) -> int:
    return getattr(code, "value", code)
