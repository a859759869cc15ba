"""One broker process for a test: Lapwing, or the one that INTEROP_BROKER_COMMAND names."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

HOST = "127.0.0.1"
START_TIMEOUT_S = 10
STOP_TIMEOUT_S = 5
LISTENING = re.compile(r"listening on tcp://127\.0\.0\.1:(\d+)")


class Place(NamedTuple):
    """Where a client connects to."""

    host: str
    port: int


class Broker:
    """A running broker process. Its output is collected in `log`, line by line."""

    def __init__(
        self,
        data: Path,
        listeners: str | None = None,
        *,
        settings: dict[str, str] | None = None,
        reference: str | None = None,
    ) -> None:
        """With other listeners than plain TCP, where `listeners` is their part of a configuration file.

        `settings` are keys of Lapwing's configuration; `reference` is the command of another broker.
        """
        self.host = HOST
        self.port = 0
        self.log: list[str] = []
        self._changed = threading.Condition()
        self._output_ended = False

        reference = reference or os.environ.get("INTEROP_BROKER_COMMAND")
        self.is_lapwing = not reference
        if reference:
            self.port = _free_port()
            command = shlex.split(reference.replace("{port}", str(self.port)))
        else:
            command = [lapwing(), "serve", "--data", str(data), "--set", "admin.listen="]
            if listeners is None:
                command += ["--listen", f"tcp://{HOST}:0"]
            else:
                (data / "lapwing.toml").write_text(listeners, encoding="utf-8")
                command += ["--config", "lapwing.toml"]
            for key, value in (settings or {}).items():
                command += ["--set", f"{key}={value}"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, encoding="utf-8", errors="replace", cwd=data,
        )
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()
        try:
            if reference:
                self._wait_until_it_accepts()
            elif listeners is None:
                self.port = int(self.wait_for_log(LISTENING, START_TIMEOUT_S).group(1))
        except BaseException:
            self.kill()
            raise

    @property
    def url(self) -> str:
        """The broker's address, like `mqtt://127.0.0.1:1883`."""
        return f"mqtt://{self.host}:{self.port}"

    def at(self, scheme: str, host: str = HOST) -> Place:
        """Where it listens with this scheme and on this address."""
        pattern = re.compile(rf"listening on {scheme}://{re.escape(host)}:(\d+)")
        return Place(host, int(self.wait_for_log(pattern, START_TIMEOUT_S).group(1)))

    def wait_for_log(self, pattern: str | re.Pattern[str], timeout_s: float = 10) -> re.Match[str]:
        """The first match of `pattern` in the output, past or to come."""
        pattern = re.compile(pattern)
        seen = 0
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for line in self.log[seen:]:
                    if match := pattern.search(line):
                        return match
                seen = len(self.log)
                left = deadline - time.monotonic()
                if self._output_ended or left <= 0:
                    why = "the broker ended its output" if self._output_ended else f"{timeout_s} s passed"
                    raise AssertionError(f"no line like {pattern.pattern!r}: {why}\n" + "\n".join(self.log))
                self._changed.wait(left)

    def stop(self) -> None:
        """Asks the broker to stop with SIGTERM and checks that it does, in time and with status 0."""
        died = self._process.poll()
        if died is not None:
            self.kill()
            raise AssertionError(f"the broker ended by itself with status {died}\n" + "\n".join(self.log))
        self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the broker still ran {STOP_TIMEOUT_S} s after SIGTERM\n" + "\n".join(self.log)
            ) from None
        finally:
            self.kill()
        if self.is_lapwing:
            assert status == 0, f"exit status {status} after SIGTERM\n" + "\n".join(self.log)

    def kill(self) -> None:
        """Ends the process if it is still there, and frees what belongs to it."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_TIMEOUT_S)
        self._process.stdout.close()

    def _collect(self) -> None:
        for line in self._process.stdout:
            with self._changed:
                self.log.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._output_ended = True
            self._changed.notify_all()

    def _wait_until_it_accepts(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
                return
            except OSError:
                # There is no event to wait for: a foreign broker's log is not ours to rely on.
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError("the reference broker did not start\n" + "\n".join(self.log)) from None
                time.sleep(0.01)  # sleep: between two attempts to connect


def lapwing() -> str:
    """The program under test."""
    binary = os.environ.get("LAPWING_BIN")
    if not binary:
        raise RuntimeError(
            "LAPWING_BIN is not set: run these tests through `cargo xtask test`, "
            "or set it to the path of a built lapwing binary"
        )
    return str(Path(binary).resolve())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]
