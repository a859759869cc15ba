"""`lapwing config schema` says of a file what `lapwing config check` says, as far as a schema can."""

from __future__ import annotations

import json
import subprocess
import tomllib

import pytest
from jsonschema import Draft202012Validator

from broker import lapwing


def _run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([lapwing(), *arguments], capture_output=True, text=True, timeout=10)


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(_run("config", "schema").stdout)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_defaults_are_valid(validator):
    validator.validate(tomllib.loads(_run("config", "default").stdout))


RIGHT = """
data = "/var/lib/lapwing"
[listeners.lan]
bind = "tcp://0.0.0.0:1883"
[listeners.wan]
bind = "ws://0.0.0.0:8080/mqtt"
[admin]
listen = "127.0.0.1:18831"
[authentication]
anonymous = "all"
[limits]
receive_maximum = 100
queue_overflow = "refuse"
[store]
durability = "os"
[[rules.rewrite]]
pattern = "^old/(.*)$"
replacement = "new/$1"
[log]
level = "debug"
"""
WRONG = [
    "elephants = 1",
    "[limits]\nreceive_maximun = 1",
    "[limits]\nreceive_maximum = 'many'",
    "[limits]\nreceive_maximum = -1",
    "[listeners.lan]\nbind = 1883",
    "[listeners.lan]\nbnd = 'tcp://127.0.0.1:1883'",
    "[authentication]\nanonymous = 'some'",
    "[store]\ndurability = 'maybe'",
    "[[rules.rewrite]]\npattern = 'a'\nreplacement = 'b'\nmore = 1",
]


def test_a_file_that_is_right_is_valid(validator, tmp_path):
    (tmp_path / "lapwing.toml").write_text(RIGHT, encoding="utf-8")
    checked = _run("config", "check", str(tmp_path / "lapwing.toml"))
    assert checked.returncode == 0, checked.stderr
    validator.validate(tomllib.loads(RIGHT))


@pytest.mark.parametrize("text", WRONG)
def test_a_file_that_is_wrong_is_not(validator, tmp_path, text):
    (tmp_path / "lapwing.toml").write_text(text, encoding="utf-8")
    assert _run("config", "check", str(tmp_path / "lapwing.toml")).returncode == 1
    assert not validator.is_valid(tomllib.loads(text))
