"""Which files run with which installed clients, and the fixtures that all of them use."""

from __future__ import annotations

import importlib.metadata
import os
import sys

import pytest

from broker import Broker
from pki import Authority

PAHO = {
    "test_docs.py",
    "test_door.py",
    "test_paho.py",
    "test_paho_expiry_and_share.py",
    "test_paho_keep_alive.py",
    "test_paho_session.py",
    "test_paho_v5.py",
    "test_security.py",
    "test_transport.py",
}
# One line per file in requirements/: a missing client then fails an import instead of skipping tests in silence.
SUITES = {
    "paho-1.6": PAHO,
    "paho-2.1": PAHO,
    "paho-2.2": PAHO
    | {"test_jwt.py", "test_mosquitto_cli.py", "test_mosquitto_rules.py", "test_mosquitto_tls.py"},
    "asyncio": {"test_aiomqtt.py", "test_gmqtt.py"},
    "schemathesis": {"test_admin_api.py", "test_configuration_schema.py"},
}


def _suite() -> set[str]:
    name = os.environ.get("LAPWING_REQUIREMENTS")
    if name is not None:
        if name not in SUITES:
            sys.exit(f"LAPWING_REQUIREMENTS is {name!r}, but there are only: {', '.join(SUITES)}")
        return SUITES[name]
    installed = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
    if "schemathesis" in installed:
        return SUITES["schemathesis"]
    return SUITES["asyncio"] if "gmqtt" in installed else SUITES["paho-2.2"]


SUITE = _suite()


def pytest_ignore_collect(collection_path, config):
    name = collection_path.name
    return True if name.startswith("test_") and name not in SUITE else None


@pytest.fixture
def broker(tmp_path):
    """A fresh broker for this test only; that it stops cleanly is part of every test."""
    broker = Broker(tmp_path)
    try:
        yield broker
    except BaseException:
        broker.kill()
        raise
    broker.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """An authority, and the certificates that tests need, made once with openssl."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def secure_broker(tmp_path, authority):
    """A broker with every transport: TLS, mutual TLS on 127.0.0.2, WebSocket with TLS and without."""
    if os.environ.get("INTEROP_BROKER_COMMAND"):
        pytest.skip("the reference broker has no such listeners")
    broker = Broker(tmp_path, authority.listeners())
    try:
        yield broker
    except BaseException:
        broker.kill()
        raise
    broker.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    arguments = getattr(item, "funcargs", {})
    running = arguments.get("broker") or arguments.get("secure_broker")
    if report.failed and running is not None:
        report.sections.append(("broker's log", "\n".join(running.log[-200:])))


if "test_paho.py" in SUITE:
    from peer import Peer

    @pytest.fixture
    def peer(broker):
        """Makes connected clients, `peer("3.1.1", clean=False)`, and ends them after the test."""
        peers: list[Peer] = []

        def make(protocol: str = "3.1.1", connect: bool = True, **options) -> Peer:
            made = Peer(broker, protocol, **options)
            peers.append(made)
            return made.connect() if connect else made

        yield make
        for made in peers:
            made.close()
