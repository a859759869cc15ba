"""The admin channel does what its own description says: requests made up from it, right ones and wrong ones.

Schemathesis makes the requests, the same ones in each run, and compares every answer with the description: status, media type,
schema, and that nothing is answered without a token.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS
from schemathesis.core.failures import FailureGroup

from broker import Broker

ADMIN = re.compile(r"admin channel on http://(127\.0\.0\.1:\d+)")
# An answer without an end: crates/lapwing/tests/events.rs has its tests.
STREAM = "/api/v1/events"
# What is a topic filter, or a name that is not taken, is more than a schema says: what is right by the schema may be refused.
LEFT_OUT = ["positive_data_acceptance"]


class Admin:
    """A broker with an admin channel."""

    def __init__(self, data) -> None:
        self.broker = Broker(data, settings={"admin.listen": "127.0.0.1:0"})
        self.url = "http://" + self.broker.wait_for_log(ADMIN).group(1)
        self.token = (data / "admin-token").read_text(encoding="utf-8").strip()

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@pytest.fixture(scope="module")
def admin(tmp_path_factory):
    admin = Admin(tmp_path_factory.mktemp("admin"))
    try:
        yield admin
    except BaseException:
        admin.broker.kill()
        raise
    admin.broker.stop()


DOCUMENT = Path(__file__).resolve().parents[3] / "docs/reference/openapi.json"
description = schemathesis.openapi.from_dict(json.loads(DOCUMENT.read_text(encoding="utf-8")))
schema = description.exclude(path=STREAM)


@schema.parametrize()
@settings(
    max_examples=20, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
def test_every_answer_is_one_that_the_description_has(case, admin):
    left_out = [CHECKS.get_one(name) for name in LEFT_OUT]
    case.call_and_validate(
        base_url=admin.url, headers=admin.headers(), timeout=10, excluded_checks=left_out
    )


@pytest.mark.parametrize(
    "path, change, expected",
    [
        ("/health", lambda operation: operation.update(security=[{"token": ["viewer"]}]), "IgnoredAuth"),
        ("/api/v1/status", lambda operation: operation["responses"].pop("200"), "UndefinedStatusCode"),
        (
            "/api/v1/whoami",
            lambda operation: operation["responses"]["200"]["content"]["application/json"].update(
                schema={"type": "array"}
            ),
            "JsonSchemaError",
        ),
    ],
)
def test_a_description_that_is_wrong_is_noticed(admin, path, change, expected):
    """So that the test above does not pass since it looks at nothing."""
    wrong = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    change(wrong["paths"][path]["get"])
    case = schemathesis.openapi.from_dict(wrong)[path]["GET"].Case()
    with pytest.raises(FailureGroup) as raised:
        case.call_and_validate(base_url=admin.url, headers=admin.headers(), timeout=10)
    assert expected in [type(failure).__name__ for failure in raised.value.exceptions]
