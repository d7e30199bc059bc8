"""What the JSON interface takes and gives, and how it refuses.

Every refusal is {"error": {"what", "rule", "remedy"}} under a 4xx status.
"""

import base64
import binascii
import pathlib
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from sbir_jax.data import images
from sbir_jax.data.sketch_preparation import NoInk
from sbir_jax.hog import Unable
from sbir_jax.search.guard import Refusal
from sbir_jax.search.opened import UnknownPhoto
from sbir_jax.search.rerank import MOST
from sbir_jax.text_queries import WEIGHT
from sbir_jax.types import Modality

MAX_UPLOAD = 8_000_000
MAX_TEXT = 500
MAX_K = 200
PICTURE = f"{', '.join(images.FORMATS)}, at most {MAX_UPLOAD:,} bytes"
FOLDER = "only photos below it: a name of /api/folders; empty for all"
ID = "^[0-9a-f]{1,64}$"

Id = Annotated[str, Path(pattern=ID, description="id of a hit")]


class Question(BaseModel):
    """What was drawn; as a form, `image` is a file."""

    model_config = ConfigDict(extra="forbid")

    image: str | None = Field(
        None, description=f"a picture file in base64, or its data: URL; {PICTURE}"
    )


class DrawingQuestion(Question):
    """A drawing that is looked at by the model."""

    prepare: bool = Field(
        True, description="first make the drawing dark on white, centred and large"
    )


class SearchQuestion(DrawingQuestion):
    """A picture, words, or both."""

    modality: Modality = Field(
        "sketch", description="what the picture is; a photo is never prepared"
    )
    text: str | None = Field(
        None, max_length=MAX_TEXT, description="what the photos show: a red cup"
    )
    text_weight: float = Field(
        WEIGHT, ge=0, le=1, allow_inf_nan=False, description="of words beside a drawing"
    )
    k: int = Field(20, ge=1, le=MAX_K, description="how many photos")
    min_score: float | None = Field(
        None, ge=-1, le=1, allow_inf_nan=False, description="leave out lower scores"
    )
    folder: str = Field("", max_length=4096, description=FOLDER)
    fold: bool = Field(True, description="copies of a photo stand behind the first")
    show_prepared: bool = Field(False, description="answer with `prepared`, too")
    rerank_text: int = Field(
        0, ge=0, le=MOST, description="how many of the first photos the words re-order"
    )

    rerank: int = Field(
        0, ge=0, le=MOST, description="how many of them the server's re-ranker does"
    )


class ImagineQuestion(DrawingQuestion):
    """A drawing, and words beside it."""

    text: str | None = Field(
        None, max_length=MAX_TEXT, description="what the photos show: a red cup"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="of the noise")


class ExplainQuestion(DrawingQuestion):
    id: str = Field(pattern=ID, description="id of a hit")


class MasksQuestion(BaseModel):
    """Where words are in a photo."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=ID, description="id of a hit")
    text: str = Field(
        min_length=1, max_length=MAX_TEXT, description="a cup, a chair: a mask each"
    )


class FoundPhoto(BaseModel):
    id: str
    name: str = Field(description="name of the photo's file")
    score: float = Field(
        description="cosine similarity, -1 to 1, larger is nearer; of re-ranked photos "
        "standard deviations from the mean of these"
    )
    above: float | None = Field(
        description="how many standard deviations the score lies above the mean of all "
        "photos for this question; null in an index of under 20"
    )
    copies: int = Field(description="how many copies of it are not shown")
    folder: str = Field(description="below the folder of all photos")
    path: str | None = Field(
        description="where it lies; null where others than this machine may ask"
    )
    thumbnail: str
    photo: str


class Found(BaseModel):
    hits: list[FoundPhoto] = Field(description="best first")
    seconds: float = Field(description="from the request to the answer")
    prepared: str | None = Field(
        None, description="data: URL of a PNG: the drawing as the network sees it"
    )


class Folder(BaseModel):
    name: str = Field(description="below the folder of all photos; empty for that")
    photos: int


class Words(BaseModel):
    stage: str = Field(description="'', 'loading', 'compiling' or 'ready'")
    seconds: float = Field(description="since the first words were asked for")


class Pair(BaseModel):
    sketch: tuple[float, float] = Field(description="(x, y) in [0, 1], from top left")
    photo: tuple[float, float]
    similarity: float
    colour: str = Field(description="of its line: #rrggbb")


class Explained(BaseModel):
    score: float
    sketch: str = Field(description="data: URL of a PNG: heat or colours over it")
    photo: str = Field(description="data: URL of a PNG: the same over the photo")
    matches: list[Pair] = Field(description="places alike, best first")
    tokens: bool = Field(
        description="whether a re-ranker tells, by colours, which places answer which"
    )


class MaskedWord(BaseModel):
    word: str
    colour: str = Field(description="as in CSS: #rrggbb")
    share: float = Field(description="of the photo, 0 to 1")


class Masked(BaseModel):
    photo: str = Field(description="data: URL of a PNG: the photo under its masks")
    words: list[MaskedWord]


class Imagined(BaseModel):
    pictures: list[str] = Field(description="data: URLs of PNGs")


class Info(BaseModel):
    photos: int
    dim: int
    fingerprint: str = Field(description="of the embedder that made the index")
    backend: str
    reranker: bool = Field(description="whether `rerank` can be asked for")
    imaginer: bool = Field(description="whether /api/imagine can be asked")


class Problem(BaseModel):
    class Error(BaseModel):
        what: str
        rule: str
        remedy: str

    error: Error


Asked = TypeVar("Asked", bound=Question)


async def read_question(
    request: Request, model: type[Asked]
) -> tuple[Asked, bytes | None]:
    """What was asked and the picture's bytes, if any, from JSON or from a form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    picture = None
    if kind == "application/json":
        asked = model.model_validate_json(await request.body())
    elif kind == "multipart/form-data":
        form = await request.form(max_files=1, max_fields=len(model.model_fields))
        values = {name: value for name, value in form.items() if isinstance(value, str)}
        asked = model.model_validate({k: v for k, v in values.items() if v != ""})
        for value in form.values():
            if isinstance(value, UploadFile):
                picture = await value.read()
        await form.close()
    else:
        raise Refusal(
            415,
            f"a body of type {kind or 'unknown'!r}",
            "application/json or multipart/form-data",
            "set the header Content-Type",
        )
    if picture is None and asked.image:
        picture = _from_base64(asked.image)
    if picture and len(picture) > MAX_UPLOAD:
        raise Refusal(
            413, f"an image of {len(picture):,} bytes", PICTURE, "make it smaller"
        )
    return asked, picture or None


def require(picture: bytes | None, rule: str, remedy: str) -> bytes:
    """Raises: Refusal where no picture came."""
    if picture is None:
        raise Refusal(400, "no drawing", rule, remedy)
    return picture


def _from_base64(text: str) -> bytes:
    data = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(
            400,
            f"image: not base64 ({error})",
            "the bytes of a picture file in base64, or a data: URL of them",
            "encode the file, or send it as a form",
        ) from error


def body_schema(model: type[BaseModel]) -> dict:
    """OpenAPI of a body that may be JSON or a form with a file."""
    schema = model.model_json_schema()
    fields = {**schema["properties"], "image": {"type": "string", "format": "binary"}}
    form = {**schema, "properties": fields}
    kinds = {"application/json": schema, "multipart/form-data": form}
    content = {kind: {"schema": value} for kind, value in kinds.items()}
    return {"requestBody": {"required": True, "content": content}}


def add_errors(app: FastAPI) -> None:
    """Every failure as {"error": {what, rule, remedy}}; nobody else's trace."""

    def handler(kind: type[Exception]):
        def register(make: Callable[[Any], Refusal]):
            async def answer(request: Request, error: Exception) -> JSONResponse:
                return make(error).response()

            app.add_exception_handler(kind, answer)
            return make

        return register

    @handler(Refusal)
    def refused(error: Refusal) -> Refusal:
        return error

    @handler(NoInk)
    def no_ink(error: NoInk) -> Refusal:
        rule = "a drawing has lines that differ from the sheet around them"
        return Refusal(400, "nothing drawn", rule, "draw, or send a picture with lines")

    @handler(Unable)
    def unable(error: Unable) -> Refusal:
        rule = "what was asked takes a diffusion model, and this index has none"
        return Refusal(400, str(error), rule, "search with a drawing alone")

    @handler(images.BadImage)
    def bad_image(error: images.BadImage) -> Refusal:
        if error.path in ("sketch", "<bytes>"):
            remedy = "send another picture"
            return Refusal(400, f"image: {error.reason}", PICTURE, remedy)
        name = pathlib.PurePath(error.path).name
        return Refusal(
            404,
            f"{name}: {error.reason}",
            "a photo must still be where it was when the index was made",
            "bring the index up to date: sbir add INDEX PHOTOS",
        )

    @handler(UnknownPhoto)
    def unknown(error: UnknownPhoto) -> Refusal:
        return Refusal(
            404,
            "no photo of this index has that id",
            "only photos of the index can be fetched, by the id of a hit",
            "search again",
        )

    @handler(ValidationError)
    @handler(RequestValidationError)
    def invalid(error: ValidationError | RequestValidationError) -> Refusal:
        first = error.errors()[0]
        where = first["loc"][-1:]  # after "query" or "path", in an address
        field = ".".join(map(str, where))
        given = repr(first.get("input"))
        given = given if len(given) < 80 else f"{given[:77]}..."
        what = f"{field} is {given}" if field else "the body is not what it should be"
        return Refusal(422, what, first["msg"], "see /docs for what each field takes")

    @handler(ClientDisconnect)
    def left(error: ClientDisconnect) -> Refusal:
        return Refusal(499, "the client left", "", "")

    @handler(HTTPException)
    def http(error: HTTPException) -> Refusal:
        return Refusal(
            error.status_code, error.detail, "see /docs", "see /docs", error.headers
        )

    @handler(Exception)
    def failed(error: Exception) -> Refusal:
        remedy = "its log says why"
        return Refusal(500, "the server failed at this request", "", remedy)
