"""mosquitto_pub and mosquitto_sub: libmosquitto, a client in C."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading

import pytest

TIMEOUT_S = 10
VERSIONS = ["31", "311", "5"]

if not shutil.which("mosquitto_sub"):
    if os.environ.get("CI"):
        raise RuntimeError("mosquitto_sub is missing: install Debian's package mosquitto-clients")
    pytest.skip("mosquitto_sub is not installed (Debian's package mosquitto-clients)", allow_module_level=True)

every_version = pytest.mark.parametrize("version", VERSIONS)
every_qos = pytest.mark.parametrize("qos", [0, 1, 2])


class Subscriber:
    """A running mosquitto_sub. Its lines can be waited for."""

    def __init__(self, command: list[str]) -> None:
        # What came before it was known to be subscribed.
        self.before: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def line(self) -> str:
        """The next line."""
        line = self._lines.get(timeout=TIMEOUT_S)
        assert line is not None, f"mosquitto_sub ended with status {self._process.wait(TIMEOUT_S)}"
        return line

    def lines(self, count: int) -> list[str]:
        """The next `count` lines."""
        return [self.line() for _ in range(count)]

    def wait(self) -> None:
        """Waits for its own end."""
        self._end()

    def terminate(self) -> None:
        """Ends it with SIGTERM: it says DISCONNECT, in 5.0 with a wish for its will."""
        self._process.terminate()
        self._end()

    def kill(self) -> None:
        """Ends it with SIGKILL: the connection is lost."""
        self._process.kill()
        self._end()

    def _end(self) -> None:
        self._process.wait(TIMEOUT_S)
        self._reader.join(TIMEOUT_S)
        self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)


@pytest.fixture
def publish(broker):
    """Runs mosquitto_pub to its end."""

    def run(topic: str, *options: str, version: str = "311", stdin: str | None = None) -> None:
        command = ["mosquitto_pub", "-h", broker.host, "-p", str(broker.port), "-V", version, "-t", topic, *options]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, encoding="utf-8", timeout=TIMEOUT_S,
        )
        assert (done.returncode, done.stderr) == (0, "")

    return run


@pytest.fixture
def subscribe(broker, publish):
    """Starts mosquitto_sub and waits until it is subscribed."""
    running: list[Subscriber] = []

    def start(topic_filter: str, *options: str, version: str = "311", form: str = "%t %q %r %p") -> Subscriber:
        # A retained message of its own shows that the subscription is made.
        fence = f"ready/{len(running)}"
        publish(fence, "-m", "ready", "-r", "-q", "1")
        started = Subscriber(
            [
                "mosquitto_sub", "-h", broker.host, "-p", str(broker.port), "-V", version, "-F", form,
                "-t", topic_filter, "-t", fence, *options,
            ]
        )
        running.append(started)
        while "ready" not in (line := started.line()):
            started.before.append(line)
        return started

    yield start
    for started in running:
        if started._process.poll() is None:
            started.kill()


@every_version
@every_qos
def test_publish_and_subscribe(publish, subscribe, version, qos):
    subscriber = subscribe("room/+/temperature", "-q", str(qos), version=version)
    publish("room/楼/temperature", "-q", str(qos), "-m", "21.5 °C", version=version)
    assert subscriber.line() == f"room/楼/temperature {qos} 0 21.5 °C"


@pytest.mark.parametrize("subscriber_version", VERSIONS)
@pytest.mark.parametrize("publisher_version", VERSIONS)
def test_between_versions(publish, subscribe, publisher_version, subscriber_version):
    if publisher_version == subscriber_version:
        pytest.skip("has its own test")
    subscriber = subscribe("a", "-q", "2", version=subscriber_version)
    publish("a", "-q", "2", "-m", "hello", version=publisher_version)
    assert subscriber.line() == "a 2 0 hello"


@every_qos
def test_lines_from_standard_input_arrive_in_order(publish, subscribe, qos):
    subscriber = subscribe("log", "-q", str(qos), form="%p")
    lines = [f"line {number}" for number in range(500)]
    publish("log", "-l", "-q", str(qos), stdin="\n".join(lines) + "\n")
    assert subscriber.lines(500) == lines


def test_a_whole_file_as_one_message(publish, subscribe):
    subscriber = subscribe("file", "-q", "1", form="%t %l")
    publish("file", "-s", "-q", "1", stdin="x" * 1_000_000)
    assert subscriber.line() == "file 1000000"


@every_version
def test_retained(publish, subscribe, version):
    publish("lamp", "-m", "on", "-r", "-q", "1", version=version)
    present = subscribe("lamp", "-q", "1", version=version)
    publish("lamp", "-n", "-r", "-q", "1", version=version)
    # Retained messages of two filters have no order among each other: the fence may come first.
    received = present.before + present.lines(2 - len(present.before))
    assert received == ["lamp 1 1 on", "lamp 1 0 "]
    newcomer = subscribe("lamp", "-q", "1", version=version)
    publish("lamp", "-m", "live", "-q", "1", version=version)
    assert newcomer.before + newcomer.lines(1) == ["lamp 1 0 live"]


@every_version
def test_only_retained_messages(broker, publish, version):
    publish("lamp", "-m", "on", "-r", "-q", "1", version=version)
    done = subprocess.run(
        ["mosquitto_sub", "-h", broker.host, "-p", str(broker.port), "-V", version, "-t", "lamp", "-C", "1",
         "-F", "%r %p", "-W", str(TIMEOUT_S)],
        capture_output=True, text=True, timeout=2 * TIMEOUT_S,
    )
    assert (done.returncode, done.stdout) == (0, "1 on\n")


@every_version
def test_will(publish, subscribe, version):
    watcher = subscribe("will/#", "-q", "1", version=version)
    will = ["--will-payload", "gone", "--will-qos", "1"]
    # It ends by itself, with a DISCONNECT, after the first message.
    subscribe("a", "-C", "1", "--will-topic", "will/clean", *will, version=version).wait()
    subscribe("a", "--will-topic", "will/lost", *will, version=version).kill()
    assert watcher.line() == "will/lost 1 0 gone"


@every_version
def test_a_persistent_session(publish, subscribe, version):
    session = ["-c", "-i", "sleeper", "-q", "1"]
    subscribe("a", *session, version=version, form="%p").terminate()
    publish("a", "-l", "-q", "1", stdin="1\n2\n3\n", version=version)
    again = subscribe("b", *session, version=version, form="%p")
    publish("a", "-m", "4", "-q", "1", version=version)
    assert again.before + again.lines(4 - len(again.before)) == ["1", "2", "3", "4"]


def test_user_name_and_password(publish, subscribe):
    login = ["-u", "door", "-P", "any"]
    subscriber = subscribe("a", *login)
    publish("a", "-m", "in", *login)
    assert subscriber.line() == "a 0 0 in"


def test_properties(publish, subscribe):
    subscriber = subscribe(
        "a", "-q", "1", "-D", "subscribe", "subscription-identifier", "42",
        version="5", form="%p|%C|%D|%F|%P|%R|%S",
    )
    publish(
        "a", "-q", "1", "-m", "payload",
        "-D", "publish", "content-type", "text/plain",
        "-D", "publish", "correlation-data", "c-1",
        "-D", "publish", "payload-format-indicator", "1",
        "-D", "publish", "user-property", "floor", "3",
        "-D", "publish", "response-topic", "reply",
        version="5",
    )
    assert subscriber.line() == "payload|text/plain|c-1|1|floor:3|reply|42"


def test_a_topic_alias(publish, subscribe):
    subscriber = subscribe("a", "-q", "1", version="5")
    publish("a", "-q", "1", "--repeat", "3", "-m", "again", "-D", "publish", "topic-alias", "1", version="5")
    assert subscriber.lines(3) == ["a 1 0 again"] * 3


def test_a_shared_subscription(publish, subscribe):
    members = [subscribe("$share/workers/job", "-t", "end", "-q", "1", version="5", form="%p") for _ in range(2)]
    lines = [str(number) for number in range(20)]
    publish("job", "-l", "-q", "1", stdin="\n".join(lines) + "\n", version="5")
    publish("end", "-m", "end", "-q", "1")
    received = []
    for member in members:
        own = []
        while (line := member.line()) != "end":
            own.append(line)
        assert own
        received += own
    assert sorted(received, key=int) == lines
