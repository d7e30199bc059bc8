"""The drawing page and its JSON interface, over one open index.

Photos go by id, never by path: only what is in the index can be fetched. The model
runs one call at a time; further ones wait in a short queue. An imaginer, which is slow,
has a queue of its own.
"""

import contextlib
import ipaddress
import secrets
import socket
import sys
import time
import urllib.parse
from collections.abc import Callable
from importlib import resources
from typing import Annotated

import numpy as np
import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from sbir_jax.search import answers
from sbir_jax.search.api import (
    FOLDER,
    MAX_K,
    DrawingQuestion,
    Explained,
    ExplainQuestion,
    Folder,
    Found,
    Id,
    Imagined,
    ImagineQuestion,
    Info,
    Masked,
    MasksQuestion,
    Problem,
    SearchQuestion,
    Words,
    add_errors,
    body_schema,
    read_question,
    require,
)
from sbir_jax.search.connections import CONNECTIONS, Connection
from sbir_jax.search.drawings import Drawings, as_seen
from sbir_jax.search.explain import explain
from sbir_jax.search.first_words import FirstWords
from sbir_jax.search.following import following
from sbir_jax.search.gate import Gate
from sbir_jax.search.guard import LOOPBACK, Guard, Refusal
from sbir_jax.search.photo_files import HEADERS, Pictures, Reader, pixels, whole
from sbir_jax.search.searchable import Searchable

QUEUE = 64  # searches that may wait for the model
IMAGINING = 8  # drawings that may wait for the imaginer
PICTURE_BYTES = 64_000_000  # kept in memory
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript")
        for name in ("page", "sheet", "server", "viewer", "chosen", "imagined")
    },
    "/examples.json": ("examples.json", "application/json"),
    "/docs": ("docs.html", "text/html"),
    "/docs.js": ("docs.js", "text/javascript"),
}


def make_app(
    index: Searchable,
    token: str | None = None,
    hosts: frozenset | None = LOOPBACK,
) -> FastAPI:
    """The application over an open index, which it follows while it runs.

    Args:
      token, hosts: who may ask; see `guard.Guard`.
    """
    app = FastAPI(
        title="sbir: find photos by drawing",
        description="Every refusal is a JSON object with what, rule and remedy.",
        docs_url=None,  # FastAPI's own page loads its scripts from elsewhere
        redoc_url=None,
        responses={"4XX": {"model": Problem, "description": "Refused"}},
        lifespan=lambda app: following(index),
    )
    app.add_middleware(Guard, token=token, hosts=hosts)
    add_errors(app)
    for path, (name, kind) in PAGE.items():
        app.get(path, include_in_schema=False)(_static(name, kind))
    gate, reader, drawings, words = Gate(QUEUE), Reader(), Drawings(), FirstWords()
    # Of its own, so that no search waits until photos are made.
    imagining = Gate(IMAGINING)
    pictures = Pictures(PICTURE_BYTES, reader)
    # Whoever may ask from elsewhere need not know how this machine's disk is laid out.
    paths = hosts == LOOPBACK and not token

    def answer(hits: list, start: float, prepared: str | None = None) -> Found:
        root = next(iter(index.folders()), "")
        return answers.found(hits, root, start, prepared, paths=paths)

    @app.post("/api/search", openapi_extra=body_schema(SearchQuestion))
    async def search(request: Request) -> Found:
        """Photos nearest to a picture, to words, or to both."""
        start = time.monotonic()
        asked, picture = await read_question(request, SearchQuestion)
        text = (asked.text or "").strip() or None
        if text is None:
            require(picture, "a search has a drawing, words, or both", "send either")
        answers.check_reranks(asked, text, picture, index)
        seen, given = None, None
        if picture:
            prepare = asked.prepare and asked.modality == "sketch"
            given = await drawings.read(picture, prepare)
        asks = given, text, asked.k, asked.min_score, asked.text_weight, False
        inside = answers.folder_of(asked.folder, index.folders())
        more = asked.fold, inside, asked.rerank_text, asked.rerank, asked.modality
        with words.asked() if text else contextlib.nullcontext():
            hits = await gate.run(request, lambda: index.search(*asks, *more))
        if given is not None and asked.show_prepared:
            size = await run_in_threadpool(lambda: index.embedder.size)
            seen = await run_in_threadpool(as_seen, given, size, asked.modality)
        return answer(hits, start, seen)

    @app.get("/api/similar/{id}")
    async def similar(
        request: Request,
        id: Id,
        k: Annotated[int, Query(ge=1, le=MAX_K)] = 20,
        folder: Annotated[str, Query(max_length=4096, description=FOLDER)] = "",
    ) -> Found:
        """Photos nearest to a photo of the index."""
        start = time.monotonic()
        inside = answers.folder_of(folder, index.folders())
        hits = await gate.run(request, lambda: index.similar(id, k, True, inside))
        return answer(hits, start)

    @app.post("/api/explain", openapi_extra=body_schema(ExplainQuestion))
    async def why(request: Request) -> Explained:
        """Which places of a drawing and a photo make their score."""
        asked, found = await read_question(request, ExplainQuestion)
        picture = require(found, "what is explained is a drawing's score", "send one")
        path = index.photo(asked.id)
        drawing = await drawings.read(picture, asked.prepare)
        model = await run_in_threadpool(lambda: index.reranker or index.embedder)
        # Read before its turn comes, so that a hung disk does not hold up the others.
        photo = await reader.run(pixels, path, model.size)
        made = await gate.run(request, lambda: explain(model, drawing, photo))
        return answers.explained(made)

    @app.post("/api/imagine", openapi_extra=body_schema(ImagineQuestion))
    async def imagine(request: Request) -> Imagined:
        """Photos that the server's imaginer takes a drawing for."""
        asked, found = await read_question(request, ImagineQuestion)
        answers.check_imaginer(index)
        rule = "what is imagined is the photo of a drawing"
        picture = require(found, rule, "send one")
        drawing = await drawings.read(picture, asked.prepare)
        given = drawing, asked.text, asked.seed, False
        made = await imagining.run(request, lambda: index.imagine(*given))
        return await run_in_threadpool(answers.imagined, made)

    @app.post("/api/masks")
    async def masks(request: Request, asked: MasksQuestion) -> Masked:
        """Where words are in a photo; words between commas have a mask each."""
        words = [word for part in asked.text.split(",") if (word := part.strip())]
        if not words:
            what, rule = f"text is {asked.text!r}", "masks are of words"
            raise Refusal(400, what, rule, "send some, with commas between them")
        photo = await reader.run(answers.seen, index.photo(asked.id))
        made = await gate.run(request, lambda: index.segment(photo, words))
        return await run_in_threadpool(answers.masked, made)

    @app.post(
        "/api/picture",
        response_class=Response,
        openapi_extra=body_schema(DrawingQuestion),
    )
    async def picture(request: Request) -> Response:
        """A drawing's file as a PNG; of formats, too, that browsers cannot read."""
        asked, found = await read_question(request, DrawingQuestion)
        given = require(found, "what is read is a picture", "send one")
        content = await drawings.as_png(given, asked.prepare)
        return Response(content, media_type="image/png")

    @app.get("/api/folders")
    def folders() -> list[Folder]:
        """The folders that photos lie in, at most 2,000 of them."""
        return answers.listed(index.folders())

    @app.get("/api/words")
    def first_words() -> Words:
        """How far the model is that the first words load."""
        stage, seconds = words.stage(index.embedder)
        return Words(stage=stage, seconds=round(seconds, 1))

    @app.get("/api/thumbnail/{id}", response_class=Response)
    async def thumbnail(id: Id) -> Response:
        """The central square of a photo as a JPEG, as large as a page's tile."""
        content = await pictures.thumbnail(id, index.photo(id))
        return Response(content, media_type="image/jpeg", headers=HEADERS)

    @app.get("/api/photo/{id}", response_class=Response)
    async def photo(id: Id) -> Response:
        """A photo as it is on disk; as a JPEG where browsers cannot show its format."""
        return await whole(id, index.photo(id), pictures)

    @app.get("/api/info")
    def info() -> Info:
        """How many photos there are to find, and with what."""
        return Info(**{name: index.info()[name] for name in Info.model_fields})

    return app


def serve(
    index: Searchable,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
) -> None:
    """Serves the page until it is interrupted; prints the address to open.

    Args:
      host: 127.0.0.1 for this machine alone, 0.0.0.0 for all that can reach it.
      port: 0 takes a free one.
      token: the word that visitors must give. By default there is none on this machine
        alone, and a new one otherwise; an empty one lets everybody in.
    Raises: OSError naming the address that cannot be had.
    """
    alone = _is_loopback(host)
    if token is None and not alone:
        token = secrets.token_urlsafe(16)
    if not token and not alone:
        print(
            "sbir: warning: anybody who can reach this machine can see the photos of "
            "the index; leave --token out for a word of the server's own",
            file=sys.stderr,
        )
    with _listen(host, port) as listener:
        print("loading the model ...", flush=True)
        # The first call compiles: better now than under the first stroke.
        white = np.full((64, 64, 3), 255, np.uint8)
        index.search(white, k=1, prepare=False)
        if index.info()["imaginer"]:
            print("loading the imaginer ...", flush=True)
            for text in (None, "a photo"):  # two programs
                index.imagine(white, text, prepare=False)
        app = make_app(index, token, LOOPBACK if alone and not token else None)
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            backlog=CONNECTIONS,
            log_level="warning",
            log_config=None,  # or it would close the handlers of everybody else
            access_log=False,
            server_header=False,
            # Or any client could choose the address that it is known by.
            proxy_headers=False,
        )
        _Server(config, address(listener, token)).run(sockets=[listener])


def address(listener: socket.socket, token: str | None) -> str:
    """What to open in a browser, whatever characters the token has."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    asked = f"?token={urllib.parse.quote(token, safe='')}" if token else ""
    return f"http://{shown}:{port}/{asked}"


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, place: str):
        super().__init__(config)
        self.place = place

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # Not before: who opens it at once must find somebody there.
        print(f"draw here: {self.place}", flush=True)
        print("stop with Ctrl+C", flush=True)


def _static(name: str, kind: str) -> Callable[[], Response]:
    content = (resources.files("sbir_jax.search") / "page" / name).read_bytes()
    headers = {"Cache-Control": "no-cache"}
    return lambda: Response(content, media_type=kind, headers=headers)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise OSError(
            f"cannot listen on {host} port {port} ({error}); give another --port, or 0 "
            "for any free one"
        ) from error
    return listener
