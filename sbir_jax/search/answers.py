"""What an index finds, in the words of the JSON interface."""

import base64
import io
import itertools
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from sbir_jax.dense.painting import colour, paint_labels
from sbir_jax.dense.segmenter import Masks
from sbir_jax.search.api import (
    Explained,
    Folder,
    Found,
    FoundPhoto,
    Imagined,
    Masked,
    MaskedWord,
    Pair,
    SearchQuestion,
)
from sbir_jax.search.explain import Explanation, TokenExplanation
from sbir_jax.search.guard import Refusal
from sbir_jax.search.photo_files import pixels

FOLDERS = 2000  # that are listed
SEEN = 1024  # longest side of a photo under its masks, in pixels


def found(
    hits: list,
    root: str,
    start: float,
    prepared: str | None = None,
    *,
    paths: bool,
) -> Found:
    """Hits as visitors get them. Args: paths: whether they may know where files lie."""
    photos = [
        FoundPhoto(
            id=hit.id,
            name=pathlib.PurePath(hit.path).name,
            score=round(float(hit.score), 6),
            above=None if hit.above is None else round(float(hit.above), 3),
            copies=len(hit.copies),
            folder=below(hit.path.rpartition("/")[0], root),
            path=hit.path if paths else None,
            thumbnail=f"/api/thumbnail/{hit.id}",
            photo=f"/api/photo/{hit.id}",
        )
        for hit in hits
    ]
    seconds = round(time.monotonic() - start, 4)
    return Found(hits=photos, seconds=seconds, prepared=prepared)


def below(folder: str, root: str) -> str:
    """The name of a folder as visitors see it: from the folder of all photos on."""
    return folder.removeprefix(root).lstrip("/")


def check_reranks(
    asked: SearchQuestion, text: str | None, picture: bytes | None, index: Any
) -> None:
    """Raises: Refusal for an order by words without any, or by a drawing without one or
    where the server has no re-ranker."""
    if asked.rerank_text and text is None:
        what, rule = "rerank_text without text", "words re-order photos"
        raise Refusal(400, what, rule, "send text, or leave rerank_text out")
    drawn = picture is not None and asked.modality == "sketch"
    if asked.rerank and not (drawn and index.info()["reranker"]):
        what = "no re-ranker here" if drawn else "rerank without a drawing"
        rule = "a re-ranker looks at a drawing and each photo"
        remedy = "send a drawing, to a server started with --rerank RUN"
        raise Refusal(400, what, rule, remedy)


def check_imaginer(index: Any) -> None:
    """Raises: Refusal where the server has no imaginer."""
    if not index.info()["imaginer"]:
        rule = "photos are imagined by a run of the task synthesis"
        remedy = "ask a server started with --imagine RUN"
        raise Refusal(400, "no imaginer here", rule, remedy)


def folder_of(name: str, found: Mapping[str, int]) -> str:
    """The folder that `below` gave a name to. Raises: Refusal for any other.

    Args:
      found: `Index.folders`.
    """
    if not name:
        return ""
    root = next(iter(found), "")
    path = f"{root.rstrip('/')}/{name}"
    if path not in found:
        rule, remedy = "a folder of photos", "see /api/folders"
        raise Refusal(404, f"folder is {name!r}", rule, remedy)
    return path


def explained(found: Explanation | TokenExplanation) -> Explained:
    """The two pictures with what tells of their score."""
    sketch, photo = map(_data_url, found.pictures())
    return Explained(
        score=found.score,
        sketch=sketch,
        photo=photo,
        matches=[Pair(**match._asdict()) for match in found.matches],
        tokens=isinstance(found, TokenExplanation),
    )


def imagined(pictures: UInt8[np.ndarray, "n h w 3"]) -> Imagined:
    """Pictures that an imaginer made."""
    return Imagined(pictures=[_data_url(Image.fromarray(each)) for each in pictures])


def masked(found: Masks) -> Masked:
    """The photo with a colour for each word."""
    painted = paint_labels(found.photo, found.labels, bare=(0,))
    words = [
        MaskedWord(
            word=word,
            colour="#{:02x}{:02x}{:02x}".format(*colour(number)),
            share=round(found.shares[word], 4),
        )
        for number, word in enumerate(found.words, start=1)
    ]
    return Masked(photo=_data_url(Image.fromarray(painted)), words=words)


def seen(path: str) -> np.ndarray:
    """A photo as masks are painted on it: not larger than a page shows it.

    Raises: BadImage for a photo that is gone or damaged.
    """
    picture = Image.fromarray(pixels(path))
    picture.thumbnail((SEEN, SEEN), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def _data_url(picture: Image.Image) -> str:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def listed(found: Mapping[str, int]) -> list[Folder]:
    """The folders that photos lie in, by name."""
    root = next(iter(found), "")
    some = itertools.islice(found.items(), FOLDERS)
    return [Folder(name=below(path, root), photos=count) for path, count in some]
