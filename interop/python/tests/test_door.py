"""Runs the example door against the broker: door.py with paho-mqtt 1.x, door_v2.py with 2.x."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

TIMEOUT_S = 20
PAHO_MAJOR = int(version("paho-mqtt").split(".")[0])
EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "paho"

# What the script prints: on_connect, on_disconnect for a connection that ended without its asking, and for one that it
# ended.
if PAHO_MAJOR == 1:
    SCRIPT = EXAMPLES / "door.py"
    CONNECTED = "connected: Connection Accepted."
    DISCONNECTED = "disconnected: 7"
    LEFT = "disconnected: 0"
else:
    SCRIPT = EXAMPLES / "door_v2.py"
    CONNECTED = "connected: Success"
    DISCONNECTED = "disconnected: Unspecified error"
    LEFT = "disconnected: Normal disconnection"


class Script:
    """The example as a process of its own, its output as lines that can be waited for."""

    def __init__(self, broker):
        environment = os.environ | {
            "LAPWING_HOST": broker.host,
            "LAPWING_PORT": str(broker.port),
            "PYTHONIOENCODING": "utf-8",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            # Where the tests run in the background, an interrupt would be ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def line(self):
        """The next line of output; None once the script has ended."""
        try:
            return self.lines.get(timeout=TIMEOUT_S)
        except queue.Empty:
            pytest.fail(f"{SCRIPT.name} printed nothing for {TIMEOUT_S} s")

    def stop(self):
        self.process.kill()
        self.process.wait(TIMEOUT_S)
        self.reader.join(TIMEOUT_S)
        self.process.stdout.close()


class Observer:
    """The other side: subscribed to one topic, able to publish."""

    def __init__(self, broker, topic):
        self.messages = queue.Queue()
        subscribed = threading.Event()
        self.client = new_client("observer")
        self.client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.on_message = lambda client, userdata, message: self.messages.put(message)
        self.client.connect(broker.host, broker.port)
        self.client.loop_start()
        assert subscribed.wait(TIMEOUT_S), "the observer's subscription was not acknowledged"

    def stop(self):
        self.client.disconnect()
        self.client.loop_stop()


def new_client(client_id):
    if PAHO_MAJOR == 1:
        return mqtt.Client(client_id)
    return mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id)


def connect_as(client_id, broker):
    """Connects without a loop of its own, so that the client never reconnects by itself."""
    client = new_client(client_id)
    client.connect(broker.host, broker.port)
    deadline = time.monotonic() + TIMEOUT_S
    while not client.is_connected():
        assert time.monotonic() < deadline, f"{client_id} was not let in"
        client.loop(timeout=0.5)
    return client


@pytest.fixture
def observer(broker):
    # Before the script starts, so that its one message is not missed.
    observer = Observer(broker, "topic")
    yield observer
    observer.stop()


@pytest.fixture
def script(broker, observer):
    script = Script(broker)
    yield script
    script.stop()


def test_the_door_reports_once_and_prints_its_events(broker, observer, script):
    report = observer.messages.get(timeout=TIMEOUT_S)
    assert (report.topic, report.qos, bool(report.retain)) == ("topic", 1, False)
    body = json.loads(report.payload)
    assert sorted(body) == ["message", "timestamp"]
    assert body["message"] == "the door is ready"
    assert abs(time.time() - body["timestamp"]) < 60

    assert script.line() == CONNECTED
    assert script.line() == "1", "the QoS granted for gate/door_1/event"

    observer.client.publish("gate/door_2/event", '{"open":false}', qos=1)
    for event in ['{"open":true}', '{"open":"开"}']:
        observer.client.publish("gate/door_1/event", event, qos=1)
        assert script.line() == f"gate/door_1/event {event}"

    # Another client with the same id takes the script's place; the script says so and comes back.
    usurper = connect_as("door_1", broker)
    assert script.line() == DISCONNECTED
    usurper.disconnect()
    assert script.line() == CONNECTED
    assert script.line() == "1"

    observer.client.publish("gate/door_1/event", "back", qos=1)
    assert script.line() == "gate/door_1/event back"

    script.stop()
    assert script.line() is None, "the script printed more than it should"
    assert observer.messages.empty(), "the script's message arrived more than once"


def test_ctrl_c_ends_the_door_in_good_order(broker, script):
    assert script.line() == CONNECTED
    assert script.line() == "1"
    script.process.send_signal(signal.SIGINT)
    assert script.line() == LEFT
    assert script.line() is None, "the door prints no traceback"
    assert script.process.wait(TIMEOUT_S) == 0
