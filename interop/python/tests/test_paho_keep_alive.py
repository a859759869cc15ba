"""Keep alive: a client that falls silent is given up, and its will is sent."""

from __future__ import annotations

import socket
import time

import pytest

from peer import TIMEOUT_S

KEEP_ALIVE_S = 2
# CONNECT of MQTT 3.1.1: clean session, a will at QoS 1 to `will` with the payload `silent`, client id `mute`.
CONNECT = b"\x10\x1e\x00\x04MQTT\x04\x0e\x00\x02\x00\x04mute\x00\x04will\x00\x06silent"
CONNACK = b"\x20\x02\x00\x00"
PINGREQ = b"\xc0\x00"
PINGRESP = b"\xd0\x00"


# 3.1.1 [MQTT-3.1.2-24], [MQTT-3.1.2-8]
def test_a_silent_client_is_closed_and_its_will_sent(broker, peer):
    watcher = peer()
    watcher.subscribe("will", 1)
    with socket.create_connection((broker.host, broker.port), timeout=TIMEOUT_S) as silent:
        silent.sendall(CONNECT)
        assert _read(silent, len(CONNACK)) == CONNACK
        since = time.monotonic()
        assert silent.recv(1) == b"", "the broker sent something to a client that did nothing"
        took = time.monotonic() - since
    assert watcher.payloads(1) == ["silent"]
    assert took >= KEEP_ALIVE_S
    # [MQTT-3.1.2-22]: at 1.5 times the keep alive, and a second of grace for a busy machine. Mosquitto 2.0 looks
    # only every five seconds.
    assert took <= KEEP_ALIVE_S * 1.5 + (1 if broker.is_lapwing else 6)


# 3.1.1 [MQTT-3.12.4-1]
def test_pings_keep_the_connection(broker):
    with socket.create_connection((broker.host, broker.port), timeout=TIMEOUT_S) as client:
        client.sendall(CONNECT)
        assert _read(client, len(CONNACK)) == CONNACK
        # Twice the keep alive in all, never more than half of it without a packet.
        for _ in range(4):
            client.settimeout(KEEP_ALIVE_S / 2)
            with pytest.raises(TimeoutError):
                client.recv(1)
            client.settimeout(TIMEOUT_S)
            client.sendall(PINGREQ)
            assert _read(client, len(PINGRESP)) == PINGRESP


def _read(connection: socket.socket, count: int) -> bytes:
    read = b""
    while len(read) < count:
        piece = connection.recv(count - len(read))
        assert piece, f"closed after {read!r}"
        read += piece
    return read
