"""What every request passes before the page sees it: who may ask, how often, how much.

One ASGI middleware, so that nothing can be added to the server that escapes it.
"""

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 12_000_000  # 8 MB of image are 10.7 MB in base64, plus the rest
# A search with its thumbnails is 25 requests; a fast drawer makes two in a second.
REQUESTS_PER_SECOND, BURST = 100.0, 400
ADDRESSES = 4096  # remembered at once
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
COOKIE = "sbir_token"
# Of bodies that are arriving, all together; small ones, as drawings are, do not count.
ARRIVING, SMALL_BODY = 100_000_000, 256_000

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Refusal(Exception):
    """A request that is not served: what was wrong, the rule, and the remedy."""

    def __init__(
        self,
        status: int,
        what: str,
        rule: str,
        remedy: str,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(what)
        self.status, self.headers = status, headers
        self.error = {"what": what, "rule": rule, "remedy": remedy}

    def response(self) -> JSONResponse:
        return JSONResponse({"error": self.error}, self.status, self.headers)


class RateLimit:
    """A token bucket for each client address; old addresses are forgotten."""

    def __init__(
        self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic
    ):
        self.rate, self.burst, self.clock = rate, burst, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Takes a token; seconds until there is one, 0 where there was."""
        now = self.clock()
        level, then = self._buckets.pop(address, (float(self.burst), now))
        level = min(self.burst, level + (now - then) * self.rate)
        allowed = level >= 1
        self._buckets[address] = (level - 1 if allowed else level), now
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - level) / self.rate


class Guard:
    """Checks host, token, rate and size, and adds the security headers.

    Args:
      token: the word visitors must give; None or empty lets everybody in.
      hosts: names the server may be called by; None for any. A page elsewhere can let
        its own name point to this machine ("DNS rebinding") and would otherwise read
        the photos through the visitor's browser.
    """

    def __init__(
        self, app: ASGIApp, token: str | None = None, hosts: frozenset | None = LOOPBACK
    ):
        self.app, self.hosts = app, hosts
        self.proof = _proof(token) if token else None
        self.limit = RateLimit(REQUESTS_PER_SECOND, BURST)
        self.arriving = 0  # bytes of large bodies in memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def guarded_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        try:
            answer = self._check(scope)
        except Refusal as refusal:
            answer = refusal.response()
        if answer is not None:
            return await answer(scope, receive, guarded_send)
        body = _Body(self, receive)
        try:
            await self.app(scope, body.receive, guarded_send)
        finally:
            self.arriving -= body.counted

    def _check(self, scope: Scope) -> Response | None:
        """An answer in the app's place, if any. Raises: Refusal."""
        headers = {
            k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]
        }
        wait = self.limit.wait((scope.get("client") or ("",))[0])
        if wait:
            raise Refusal(
                429,
                "too many requests from this address",
                f"{REQUESTS_PER_SECOND:g} a second, {BURST} at once",
                f"wait {wait:.1f} s and ask again",
                {"Retry-After": str(max(1, round(wait)))},
            )
        self._check_origin(scope["path"], headers)
        if self.proof:
            entered = self._enter(scope)
            if entered is not None:
                return entered
            self._check_token(headers)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            raise _too_large(length)
        return None

    def _check_origin(self, path: str, headers: Mapping[str, str]) -> None:
        host = headers.get("host", "")
        name = host.rpartition("]")[0].lstrip("[") or host.partition(":")[0]
        if self.hosts is not None and name.lower() not in self.hosts:
            raise Refusal(
                403,
                f"this server was called by the name {host!r}",
                f"without a token it answers only to {', '.join(sorted(self.hosts))}",
                "open it by one of these names, or start it with a token",
            )
        if path.startswith("/api/") and headers.get("sec-fetch-site") == "cross-site":
            raise Refusal(
                403,
                "a page of another site asked",
                "only this server's own page, and programs, may ask",
                "open the page itself",
            )

    def _enter(self, scope: Scope) -> Response | None:
        """The page opened with ?token=: a cookie takes over, the address is cleaned."""
        if scope["method"] != "GET" or scope["path"] != "/":
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if not given or not self._right(_proof(given[0])):
            return None
        answer = RedirectResponse("/", 303)
        assert self.proof is not None
        answer.set_cookie(COOKIE, self.proof, httponly=True, samesite="strict")
        return answer

    def _check_token(self, headers: Mapping[str, str]) -> None:
        kind, _, word = headers.get("authorization", "").partition(" ")
        # Sent as UTF-8 by most programs; a header itself is of single bytes.
        word = word.encode("latin-1").decode("utf-8", "replace")
        if kind.lower() == "bearer" and self._right(_proof(word)):
            return
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None and self._right(cookie.value):
            return
        raise Refusal(
            401,
            "no token, or a wrong one",
            "this server answers only to those who know its token",
            "open the address that `sbir serve` printed, or send the header "
            "'Authorization: Bearer TOKEN'",
            {"WWW-Authenticate": "Bearer"},
        )

    def _right(self, proof: str) -> bool:
        expected = (self.proof or "").encode()
        return hmac.compare_digest(proof.encode("utf-8", "replace"), expected)


def _proof(token: str) -> str:
    """Hex, so that any token can be a cookie, and all comparisons are as long."""
    word = token.strip().encode("utf-8", "replace")  # a header cannot end in blanks
    return hashlib.sha256(b"sbir" + word).hexdigest()


def _too_large(length: str) -> Refusal:
    return Refusal(
        413,
        f"a request of {length} bytes",
        f"at most {MAX_BODY:,} bytes",
        "make the image smaller: a drawing needs no more than 1000 x 1000 pixels",
    )


class _Body:
    """A body that stops at MAX_BODY, whatever Content-Length said, and at ARRIVING."""

    def __init__(self, guard: Guard, receive: Receive):
        self.guard, self._receive = guard, receive
        self.seen = self.counted = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self.seen += len(message.get("body", b""))
        if self.seen > MAX_BODY:
            raise _too_large(f"more than {MAX_BODY:,}")
        if self.seen > SMALL_BODY:
            self.guard.arriving += self.seen - self.counted
            self.counted = self.seen
            if self.guard.arriving > ARRIVING:
                raise Refusal(
                    503,
                    "too many large pictures are arriving",
                    f"{ARRIVING:,} bytes at one moment",
                    "ask again in a moment, or make the picture smaller",
                    {"Retry-After": "5"},
                )
        return message
