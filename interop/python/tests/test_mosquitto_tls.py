"""mosquitto_pub and mosquitto_sub over TLS, and the files that the broker reads again."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from pki import Authority
from test_mosquitto_cli import TIMEOUT_S, Subscriber

if not shutil.which("mosquitto_sub"):
    if os.environ.get("CI"):
        raise RuntimeError("mosquitto_sub is missing: install Debian's package mosquitto-clients")
    pytest.skip("mosquitto_sub is not installed (Debian's package mosquitto-clients)", allow_module_level=True)


def options(place, ca, pair=None) -> list[str]:
    shown = ["--cert", pair.certificate, "--key", pair.key] if pair else []
    return ["-h", place.host, "-p", str(place.port), "--cafile", ca, *shown]


def publish(place, ca, pair=None, payload="hello", *more: str) -> int:
    """The status of mosquitto_pub."""
    command = ["mosquitto_pub", *options(place, ca, pair), "-t", "a", "-m", payload, "-q", "1", *more]
    return subprocess.run(command, capture_output=True, timeout=TIMEOUT_S).returncode


@pytest.fixture
def subscriber(secure_broker, authority):
    """A mosquitto_sub with a certificate of its own, which is subscribed."""
    place = secure_broker.at("tls", "127.0.0.2")
    # A retained message shows that the subscription is made.
    assert publish(place, authority.file, authority.client, "ready", "-r") == 0
    running = Subscriber(["mosquitto_sub", *options(place, authority.file, authority.client), "-t", "a"])
    assert running.line() == "ready"
    yield running
    running.terminate()


def test_with_certificates_on_both_ends(secure_broker, authority, subscriber):
    place = secure_broker.at("tls", "127.0.0.2")
    assert publish(place, authority.file, authority.client) == 0
    assert subscriber.line() == "hello"
    assert publish(place, authority.file, authority.revoked) != 0
    assert publish(place, authority.file) != 0
    assert publish(secure_broker.at("tls"), authority.file, payload="from the other listener") == 0
    assert subscriber.line() == "from the other listener"


def test_a_new_certificate_is_for_new_connections(tmp_path, secure_broker, authority, subscriber):
    place = secure_broker.at("tls")
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    kept = {path: open(path, "rb").read() for path in authority.server}
    try:
        shutil.copy(other.server.key, authority.server.key)
        shutil.copy(other.server.certificate, authority.server.certificate)
        secure_broker.wait_for_log(re.compile("the certificates have been read again.*listener=tls"), 20)
        assert publish(place, other.file, payload="by the new one") == 0
        assert subscriber.line() == "by the new one"
        assert publish(place, authority.file) != 0
    finally:
        for path, content in kept.items():
            with open(path, "wb") as file:
                file.write(content)
