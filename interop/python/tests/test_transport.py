"""TLS and WebSocket, with paho-mqtt 1.6 and 2.x."""

from __future__ import annotations

import socket
import ssl

import pytest

from peer import Peer

every_protocol = pytest.mark.parametrize("protocol", ["3.1.1", "5"])


def exchange(one: Peer, other: Peer) -> None:
    """What any two clients must be able to do: small messages and one larger than any buffer, both ways."""
    for sender, receiver in ((one, other), (other, one)):
        assert receiver.subscribe(f"to/{receiver.client_id}", 1) == [1]
        large = "x" * 300_000
        for payload in ("hello", "", large, "and again"):
            sender.publish(f"to/{receiver.client_id}", payload, 1)
        assert receiver.payloads(4) == ["hello", "", large, "and again"]


@pytest.fixture
def client(secure_broker):
    """Makes clients for a place, and ends them after the test."""
    made: list[Peer] = []

    def make(place, protocol="3.1.1", **options) -> Peer:
        made.append(Peer(place, protocol, **options))
        return made[-1]

    yield make
    for peer in made:
        peer.close()


@every_protocol
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls(secure_broker, authority, client, protocol, version):
    pair = []
    for _ in range(2):
        context = ssl.create_default_context(cafile=authority.file)
        context.minimum_version = context.maximum_version = version
        pair.append(client(secure_broker.at("tls"), protocol))
        pair[-1].client.tls_set_context(context)
        pair[-1].connect()
    exchange(*pair)
    pair[0].disconnect()


# [MQTT-6.0.0-4]
# 3.1.1 [MQTT-6.0.0-4]
@every_protocol
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_websocket(secure_broker, authority, client, protocol, scheme):
    pair = []
    for _ in range(2):
        pair.append(client(secure_broker.at(scheme), protocol, transport="websockets"))
        if scheme == "wss":
            pair[-1].client.tls_set(ca_certs=authority.file)
        pair[-1].connect()
    exchange(*pair)
    pair[0].disconnect()


def test_every_transport_is_the_same_broker(secure_broker, authority, client):
    secure = client(secure_broker.at("tls"))
    secure.client.tls_set(ca_certs=authority.file)
    exchange(secure.connect(), client(secure_broker.at("ws"), transport="websockets").connect())


def test_a_client_that_does_not_know_the_authority_goes(secure_broker, client):
    stranger = client(secure_broker.at("tls"))
    stranger.client.tls_set()
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.connect()
    secure_broker.wait_for_log("does not trust the certificate that it was shown")


def test_a_client_shows_a_certificate(secure_broker, authority, client):
    mutual = client(secure_broker.at("tls", "127.0.0.2"))
    mutual.client.tls_set(authority.file, authority.client.certificate, authority.client.key)
    other = client(secure_broker.at("ws"), transport="websockets").connect()
    exchange(mutual.connect(), other)


@pytest.mark.parametrize(
    "name, reason",
    [
        ("revoked", "it has been revoked"),
        ("expired", "it has expired"),
        ("stranger", "it is that of an authority"),
        (None, "the client showed no certificate"),
    ],
)
def test_a_certificate_that_does_not_hold_is_refused(secure_broker, authority, name, reason):
    place = secure_broker.at("tls", "127.0.0.2")
    context = ssl.create_default_context(cafile=authority.file)
    # So that the client learns of it in the handshake.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if name:
        context.load_cert_chain(*getattr(authority, name))
    with socket.create_connection(place, timeout=10) as plain, pytest.raises((ssl.SSLError, ConnectionResetError)):
        context.wrap_socket(plain, server_hostname=place.host)
    secure_broker.wait_for_log(reason)
