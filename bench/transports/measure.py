"""What each transport costs a broker: bytes of an idle connection, processor time of a handshake and of a message.

    cargo build --release -p lapwing
    python3 bench/transports/measure.py --lapwing target/release/lapwing > bench/transports/DATE.json

Lapwing and Mosquitto (if it is installed) get the same load in turns, `--rounds` times; the medians are printed. Processor time is that of all
threads of the broker, as the kernel counts it in nanoseconds, so that the load generator's own slowness does not matter.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import re
import resource
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOST = "127.0.0.1"
SCHEMES = ["tcp", "tls", "ws", "wss"]
KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Link:
    """One client's connection: bytes of MQTT, whatever carries them."""

    def __init__(self, scheme: str, port: int, context: ssl.SSLContext, session=None) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if scheme in ("tls", "wss"):
            self.socket = context.wrap_socket(self.socket, server_hostname=HOST, session=session)
        self.is_websocket = scheme in ("ws", "wss")
        self.kept = b""
        self.frame_left = 0
        if self.is_websocket:
            key = base64.b64encode(os.urandom(16)).decode()
            self.socket.sendall(
                f"GET /mqtt HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n".encode()
            )
            while b"\r\n\r\n" not in self.kept:
                self.kept += self.socket.recv(4096)
            head, self.kept = self.kept.split(b"\r\n\r\n", 1)
            assert b" 101 " in head, head

    def frame(self, packet: bytes) -> bytes:
        """A packet, in a frame of its own as most clients send it. The mask is all zeros: taking it off costs the same."""
        if not self.is_websocket:
            return packet
        length = len(packet)
        if length < 126:
            return bytes([0x82, 0x80 | length]) + bytes(4) + packet
        return bytes([0x82, 0x80 | 126]) + length.to_bytes(2, "big") + bytes(4) + packet

    def send(self, framed: bytes) -> None:
        self.socket.sendall(framed)

    def skip(self, count: int) -> None:
        """Reads so many bytes of MQTT."""
        while count > 0:
            if not self.is_websocket:
                count -= len(self.recv(min(count, 1 << 18)))
                continue
            if self.frame_left == 0:
                while len(self.kept) < 2 or len(self.kept) < self.header_length():
                    self.kept += self.recv(1 << 18)
                self.take_header()
            if not self.kept:
                self.kept = self.recv(1 << 18)
            taken = min(count, self.frame_left, len(self.kept))
            self.kept = self.kept[taken:]
            self.frame_left -= taken
            count -= taken

    def header_length(self) -> int:
        return {126: 4, 127: 10}.get(self.kept[1], 2)

    def take_header(self) -> None:
        length = self.header_length()
        self.frame_left = self.kept[1] if length == 2 else int.from_bytes(self.kept[2:length], "big")
        self.kept = self.kept[length:]

    def recv(self, count: int) -> bytes:
        received = self.socket.recv(count)
        assert received, "the broker has closed the connection"
        return received

    def enter(self, client_id: str) -> "Link":
        identifier = client_id.encode()
        body = b"\0\x04MQTT\x04\x02\0\0" + len(identifier).to_bytes(2, "big") + identifier
        self.send(self.frame(bytes([0x10, len(body)]) + body))
        self.skip(4)
        return self

    def close(self) -> None:
        self.socket.close()


class Broker:
    """A broker with a listener for each scheme."""

    def __init__(self, name: str, binary: str, folder: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.ports = {}
        for scheme in SCHEMES:
            with socket.socket() as probe:
                probe.bind((HOST, 0))
                self.ports[scheme] = probe.getsockname()[1]
        config = self.folder / "config"
        config.write_text(self.lapwing(folder) if name == "lapwing" else self.mosquitto(folder))
        command = [binary, "serve", "--config"] if name == "lapwing" else [binary, "-c"]
        self.process = subprocess.Popen([*command, str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for port in self.ports.values():
            self.wait(port)

    def lapwing(self, pki: Path) -> str:
        tls = f'tls.certificate = "{pki}/server.pem"\ntls.key = "{pki}/server.key"\n'
        listeners = "".join(
            f'[listeners.{scheme}]\nbind = "{scheme}://{HOST}:{port}"\n{tls if scheme in ("tls", "wss") else ""}'
            for scheme, port in self.ports.items()
        )
        return listeners + '[admin]\nlisten = ""\n[store]\ndurability = "memory"\n[log]\nlevel = "error"\n'

    def mosquitto(self, pki: Path) -> str:
        lines = ["allow_anonymous true", "log_type error", "user root", "max_queued_messages 0", "set_tcp_nodelay true"]
        for scheme, port in self.ports.items():
            lines.append(f"listener {port} {HOST}")
            if scheme in ("ws", "wss"):
                lines.append("protocol websockets")
            if scheme in ("tls", "wss"):
                lines += [f"certfile {pki}/server.pem", f"keyfile {pki}/server.key"]
        return "\n".join(lines) + "\n"

    def wait(self, port: int) -> None:
        for _ in range(500):
            try:
                return socket.create_connection((HOST, port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("the broker does not listen")

    def cpu_ns(self) -> int:
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)

    def memory(self) -> int:
        status = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text()
        return sum(int(found) for found in re.findall(r"^Private_\w+: +(\d+) kB", status, re.M)) * 1024

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


def idle(broker: Broker, scheme: str, context, count: int) -> float:
    """Bytes of a connected client that is silent, by how much more twice as many take."""
    links = [Link(scheme, broker.ports[scheme], context).enter(f"a{index}") for index in range(count)]
    time.sleep(1.5)
    before = broker.memory()
    links += [Link(scheme, broker.ports[scheme], context).enter(f"b{index}") for index in range(count)]
    time.sleep(1.5)
    grown = broker.memory() - before
    for link in links:
        link.close()
    return grown / count


def handshakes(broker: Broker, scheme: str, context, count: int, is_resumed: bool) -> float:
    """Microseconds of processor time for a connection with CONNECT and its end."""
    session = None
    if is_resumed:
        first = Link(scheme, broker.ports[scheme], context).enter("h")
        session = first.socket.session
        first.close()
    before = broker.cpu_ns()
    for _ in range(count):
        link = Link(scheme, broker.ports[scheme], context, session).enter("h")
        if is_resumed:
            assert link.socket.session_reused, "the session was not resumed"
            session = link.socket.session
        link.close()
    time.sleep(0.2)
    return (broker.cpu_ns() - before) / count / 1000


def messages(broker: Broker, scheme: str, context, count: int, size: int, window: int) -> float:
    """Microseconds of processor time for a message at QoS 0 from one client to another, `window` of them at a time."""
    subscriber = Link(scheme, broker.ports[scheme], context).enter("s")
    subscriber.send(subscriber.frame(b"\x82\x06\0\x01\0\x01t\0"))
    subscriber.skip(5)
    publisher = Link(scheme, broker.ports[scheme], context).enter("p")
    remaining = size + 3
    length = bytes([remaining]) if remaining < 128 else bytes([remaining & 0x7F | 0x80, remaining >> 7])
    packet = b"\x30" + length + b"\0\x01t" + bytes(size)
    batch = publisher.frame(packet) * window
    for _ in range(max(1, 200 // window)):
        publisher.send(batch)
        subscriber.skip(len(packet) * window)
    before = broker.cpu_ns()
    for _ in range(count // window):
        publisher.send(batch)
        subscriber.skip(len(packet) * window)
    spent = broker.cpu_ns() - before
    publisher.close()
    subscriber.close()
    return spent / (count // window * window) / 1000


def measure(broker: Broker, context, scale: float) -> dict[str, float]:
    found = {}
    for scheme in SCHEMES:
        found[f"{scheme} handshake, µs"] = handshakes(broker, scheme, context, int(400 * scale), False)
    found["tls resumed handshake, µs"] = handshakes(broker, "tls", context, int(400 * scale), True)
    for size in (64, 1024):
        for window in (100, 1):
            count = int((200_000 if window > 1 else 10_000) * scale)
            for scheme in SCHEMES:
                name = f"{scheme} message of {size} bytes, {window} at a time, µs"
                found[name] = messages(broker, scheme, context, count, size, window)
    return found


def certify(folder: Path) -> ssl.SSLContext:
    names = ["-subj", "/CN=broker", "-addext", f"subjectAltName=IP:{HOST}"]
    command = ["openssl", "req", "-x509", *KEY, "-days", "10", "-keyout", "server.key", "-out", "server.pem", *names]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return ssl.create_default_context(cafile=str(folder / "server.pem"))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--lapwing", default="target/release/lapwing")
    arguments.add_argument("--mosquitto", default=shutil.which("mosquitto") or "/usr/sbin/mosquitto")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--scale", type=float, default=1.0, help="a part of the load, for a look")
    options = arguments.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    brokers = {"lapwing": options.lapwing}
    if Path(options.mosquitto).exists():
        brokers["mosquitto"] = options.mosquitto
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in brokers}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        context = certify(Path(folder))
        for number in range(options.rounds):
            for name, binary in brokers.items():
                print(f"round {number + 1}: {name}", file=sys.stderr)
                broker = Broker(name, binary, Path(folder))
                try:
                    found = measure(broker, context, options.scale)
                finally:
                    broker.stop()
                for scheme in SCHEMES:
                    # A broker of its own: what others have left free would hide what this one takes.
                    broker = Broker(name, binary, Path(folder))
                    try:
                        count = max(500, int(2000 * options.scale))
                        found[f"{scheme} idle connection, bytes"] = idle(broker, scheme, context, count)
                    finally:
                        broker.stop()
                rounds[name].append(found)
    median = {
        name: {key: round(statistics.median(one[key] for one in found), 2) for key in found[0]}
        for name, found in rounds.items()
    }
    machine = {"processors": os.cpu_count(), "kernel": platform.release(), "openssl": ssl.OPENSSL_VERSION}
    print(json.dumps({"machine": machine, "rounds": options.rounds, "median": median}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
