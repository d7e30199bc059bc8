"""A server that follows its index: what is added or removed shows within seconds."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

from starlette.concurrency import run_in_threadpool

from sbir_jax.search.terminal import explained

SECONDS = 2.0  # between two looks, which cost a few file times each


@runtime_checkable
class Reloads(Protocol):
    def reload(self) -> bool: ...


@contextlib.asynccontextmanager
async def following(index: Reloads, seconds: float = SECONDS) -> AsyncIterator[None]:
    """Reloads the index while the block runs, whenever it has changed.

    What cannot be read is told once, on standard error, and leaves what is open as it
    is: a writer may be at work, or the disk away for a while.
    """
    task = asyncio.create_task(_follow(index, seconds))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _follow(index: Reloads, seconds: float) -> None:
    told = ""
    while True:
        await asyncio.sleep(seconds)
        try:
            await run_in_threadpool(index.reload)
            told = ""
        except Exception as error:
            message = explained(error)
            if message != told:
                print(f"sbir: the index is not followed: {message}", file=sys.stderr)
            told = message
