"""Connections that nobody can hold for ever, and never so many that others have none.

uvicorn's HTTP/1.1 with a time for a request's header, one for its body and one for an
answer that is not fetched. Where there are too many connections, the one that keeps the
server waiting longest makes room.
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Literal

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS, BODY_SECONDS, ANSWER_SECONDS = 10.0, 30.0, 60.0
# The whole is far below the 1,024 files that a process may have open by default: each
# connection may have a photo open. A browser has 6 to one server, a proxy many.
CONNECTIONS, CONNECTIONS_OF_ONE = 400, 250

Waits = Literal["", "header", "body", "answer"]  # for what of the client's


class Connection(H11Protocol):
    """One connection of one client; handed to uvicorn as its protocol."""

    _waits: Waits = ""
    _since = 0.0
    _timer: asyncio.TimerHandle | None = None
    _full = False

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._watch()
        address = self.client and self.client[0]
        everybody: list[Connection] = list(self.connections)  # pyright: ignore
        own = [c for c in everybody if (c.client and c.client[0]) == address]
        for group, most in ((own, CONNECTIONS_OF_ONE), (everybody, CONNECTIONS)):
            if len(group) > most:
                longest_waiting(group).abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._full = True
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._full = False
        self._watch()

    def abort(self) -> None:
        self._stop()
        self.connections.discard(self)  # at once, not when the loop comes to it
        self.transport.abort()

    @property
    def waiting(self) -> float:
        """Seconds that the client has kept the server waiting; 0 if it does not."""
        return time.monotonic() - self._since if self._waits else 0.0

    def _watch(self) -> None:
        waits = self._now()
        if waits == self._waits:
            return  # a byte now and then buys no time
        self._stop()
        self._waits, self._since = waits, time.monotonic()
        seconds = {
            "header": HEADER_SECONDS,
            "body": BODY_SECONDS,
            "answer": ANSWER_SECONDS,
        }
        if waits:
            self._timer = self.loop.call_later(seconds[waits], self._late)

    def _now(self) -> Waits:
        if self._full:
            return "answer"
        if self.cycle is None or self.cycle.response_complete:
            return "header"
        return "body" if self.cycle.more_body else ""

    def _late(self) -> None:
        self._timer = None
        if self._now() == self._waits:
            self.abort()
        else:
            self._watch()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def longest_waiting(connections: Iterable[Connection]) -> Connection:
    """Of those that wait for nothing from their client, any: all are at work."""
    return max(connections, key=lambda connection: connection.waiting)
