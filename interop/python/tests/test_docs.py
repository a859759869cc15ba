"""Runs the Python of docs/concepts/mqtt.md against the broker and compares what it prints with what the page says."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

TIMEOUT_S = 30
PAHO_MAJOR = int(version("paho-mqtt").split(".")[0])
REPOSITORY = Path(__file__).resolve().parents[3]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = pytest.mark.skipif(PAHO_MAJOR < 2, reason="the page is written for paho-mqtt 2.x")


def blocks(path):
    """The fenced blocks of a page, in order: (language, text, line of the fence)."""
    page = (REPOSITORY / path).read_text(encoding="utf-8")
    return [(b[1], b[2], page.count("\n", 0, b.start()) + 1) for b in FENCE.finditer(page)]


def programs():
    """Each Python block with the block behind it, which says what it prints."""
    page = blocks("docs/concepts/mqtt.md")
    pairs = zip(page, page[1:] + [("", "", 0)])
    return [
        pytest.param(program, answer, id=f"line-{line}")
        for (language, program, line), answer in pairs
        if language == "python"
    ]


@pytest.mark.parametrize("program, answer", programs())
def test_the_page_prints_what_it_says(broker, program, answer, tmp_path):
    language, expected, _ = answer
    assert language == "text", "a Python block is followed by what it prints"
    script = tmp_path / "try.py"
    script.write_text(program, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ
        | {"LAPWING_HOST": broker.host, "LAPWING_PORT": str(broker.port), "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=TIMEOUT_S,
    )
    assert run.stdout == expected
    assert run.returncode == 0


@pytest.mark.parametrize("page", ["README", "docs/concepts/mqtt", "docs/guides/configuration"])
def test_the_chinese_page_has_the_same_code(page):
    english, chinese = (
        [(language, text) for language, text, _ in blocks(page + suffix)] for suffix in (".md", ".zh-CN.md")
    )
    assert english, "the page has code"
    assert chinese == english
