"""What passwords cost a broker, and whom they hold up: see README.md.

    python3 bench/security/logins.py target/release/lapwing
"""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

USERS = 400
STORM_S = 10
CONNECTED = b"\x20\x03\x00\x00\x00"


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack(">H", len(encoded)) + encoded


def connect_packet(client_id: str, user: str | None = None, password: str | None = None) -> bytes:
    flags = 0x02 | (0x80 if user else 0) | (0x40 if password else 0)
    body = text("MQTT") + bytes([4, flags]) + struct.pack(">H", 60) + text(client_id)
    body += b"".join(text(value) for value in (user, password) if value)
    return packet(0x10, body)


def packet(first: int, body: bytes) -> bytes:
    length, size = b"", len(body)
    while True:
        size, low = divmod(size, 128)
        length += bytes([low | (0x80 if size else 0)])
        if not size:
            return bytes([first]) + length + body


class Client:
    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def login(self, client_id: str, user: str | None = None, password: str | None = None) -> int:
        """The return code of CONNACK."""
        self.socket.sendall(connect_packet(client_id, user, password))
        return self.read(4)[3]

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise ConnectionError("the broker has closed the connection")
            data += more
        return data

    def close(self) -> None:
        self.socket.close()


class Canary(threading.Thread):
    """A client that is connected, and notices when it has to wait."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.client = Client(port)
        assert self.client.login("canary") == 0
        self.client.socket.sendall(packet(0x82, b"\x00\x01" + text("canary") + b"\x00"))
        self.client.read(5)
        self.times: list[float] = []
        self.message = packet(0x30, text("canary") + b"song")
        self.is_over = False
        self.start()

    def run(self) -> None:
        while not self.is_over:
            start = time.perf_counter()
            self.client.socket.sendall(self.message)
            self.client.read(len(self.message))
            self.times.append(time.perf_counter() - start)
            time.sleep(0.002)

    def report(self, what: str) -> None:
        times, self.times = sorted(self.times), []
        at = lambda share: times[min(len(times) - 1, int(len(times) * share))] * 1000
        print(f"canary {what}: median {at(0.5):.2f} ms, p99 {at(0.99):.2f} ms, longest {times[-1] * 1000:.2f} ms")


def storm(port: int, sources: list[str], threads: int) -> tuple[int, int]:
    """Wrong passwords, each a new one: how many were judged, and how many refused unseen."""
    judged, busy, lock = [0], [0], threading.Lock()
    end = time.monotonic() + STORM_S

    def run(number: int) -> None:
        count = 0
        while time.monotonic() < end:
            client = Client(port, sources[number % len(sources)])
            try:
                code = client.login("x", "user1", f"{number} {count}")
            except (ConnectionError, TimeoutError):
                continue
            finally:
                client.close()
            count += 1
            with lock:
                (judged if code == 4 else busy)[0] += 1

    workers = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    return judged[0], busy[0]


def logins(port: int, threads: int) -> float:
    """Every user once, with the right password: logins per second."""
    numbers, lock = iter(range(USERS)), threading.Lock()

    def run() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            client = Client(port)
            assert client.login(f"c{number}", f"user{number}", "right") == 0
            client.close()

    start = time.monotonic()
    workers = [threading.Thread(target=run) for _ in range(threads)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    return USERS / (time.monotonic() - start)


def main() -> None:
    binary = str(Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        users = Path(folder, "users.toml")
        subprocess.run([binary, "passwd", "add", users, "user0", "--stdin"], input=b"right", check=True,
                       stdout=subprocess.DEVNULL)
        table = users.read_text()
        users.write_text(table + "".join(table[table.index("[users"):].replace("user0", f"user{n}") for n in range(1, USERS)))
        users.chmod(0o600)
        settings = {"authentication.password.file": users, "store.durability": "memory"}
        command = [binary, "serve", "--listen", "tcp://127.0.0.1:0", "--set", "admin.listen="]
        command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        broker = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"XDG_DATA_HOME": folder})
        try:
            port = None
            for line in broker.stderr:
                if found := re.search(rb"listening on tcp://127\.0\.0\.1:(\d+)", line):
                    port = int(found.group(1))
                    break
            threading.Thread(target=broker.stderr.read, daemon=True).start()
            canary = Canary(port)
            time.sleep(3)
            canary.report("with nothing else")
            many = [f"127.0.0.{n}" for n in range(2, 66)]
            for name, sources in (("of 64 addresses", many), ("of one address", many[:1])):
                judged, busy = storm(port, sources, 64)
                print(f"storm {name}: {judged / STORM_S:.1f} judged/s, {busy / STORM_S:.1f} refused/s")
                canary.report("meanwhile")
            # From the loopback address, which has presented nothing wrong.
            print(f"first logins: {logins(port, 16):.0f}/s")
            canary.report("meanwhile")
            print(f"logins again: {logins(port, 16):.0f}/s")
            canary.report("meanwhile")
            canary.is_over = True
            canary.join()
        finally:
            broker.kill()
            broker.wait()


if __name__ == "__main__":
    main()
