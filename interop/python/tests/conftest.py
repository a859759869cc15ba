"""Which files run with which installed clients, and the fixtures that all of them use."""

from __future__ import annotations

import importlib.metadata
import os
import sys

import pytest

from broker import Broker

PAHO = {
    "test_docs.py",
    "test_door.py",
    "test_paho.py",
    "test_paho_expiry_and_share.py",
    "test_paho_keep_alive.py",
    "test_paho_session.py",
    "test_paho_v5.py",
    "test_security.py",
}
# One line per file in requirements/: a missing client then fails an import instead of skipping tests in silence.
SUITES = {
    "paho-1.6": PAHO,
    "paho-2.1": PAHO,
    "paho-2.2": PAHO | {"test_jwt.py", "test_mosquitto_cli.py", "test_mosquitto_rules.py"},
    "asyncio": {"test_aiomqtt.py", "test_gmqtt.py"},
}


def _suite() -> set[str]:
    name = os.environ.get("LAPWING_REQUIREMENTS")
    if name is not None:
        if name not in SUITES:
            sys.exit(f"LAPWING_REQUIREMENTS is {name!r}, but there are only: {', '.join(SUITES)}")
        return SUITES[name]
    installed = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
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


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    running = getattr(item, "funcargs", {}).get("broker")
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
