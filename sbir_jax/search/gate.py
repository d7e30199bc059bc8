"""One model call at a time, and a short queue of requests before it."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from sbir_jax.search.guard import Refusal

Answer = TypeVar("Answer")


class Gate:
    """One model call at a time, and a bounded number of requests that wait for it."""

    def __init__(self, limit: int):
        self.limit, self.inside = limit, 0
        self._lock = asyncio.Lock()

    async def run(self, request: Request, call: Callable[[], Answer]) -> Answer:
        """Raises: Refusal where the queue is full or nobody waits for the answer."""
        if self.inside > self.limit:
            raise Refusal(
                503,
                "the server is busy",
                f"{self.limit} requests may wait",
                "ask again in a moment",
                {"Retry-After": "1"},
            )
        self.inside += 1
        try:
            async with self._lock:
                # While one draws, most searches are outdated before their turn comes.
                if await request.is_disconnected():
                    raise Refusal(499, "the client left", "", "")
                return await run_in_threadpool(call)
        finally:
            self.inside -= 1
