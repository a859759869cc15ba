"""Runs a coroutine as a test, without a plugin."""

from __future__ import annotations

import asyncio
import functools

TEST_TIMEOUT_S = 20


def in_event_loop(test):
    """Makes pytest run the coroutine function `test` in a loop of its own, for 20 s at most."""

    @functools.wraps(test)
    def run(*arguments, **named):
        asyncio.run(asyncio.wait_for(test(*arguments, **named), TEST_TIMEOUT_S))

    return run
