"""Searching an index: drawings, words or both in, photos out.

with Index.open("photos.index") as index:
    for hit in index.search("cup.png", text="a red cup", k=5):
        print(hit.score, hit.path)
"""

import contextlib
import functools
import os
import pathlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, UInt8

from sbir_jax import text_queries
from sbir_jax.search import backends, hits, shards
from sbir_jax.search import rerank as reranking
from sbir_jax.search.backend import check_descriptors, check_k
from sbir_jax.search.head import known_as
from sbir_jax.search.hits import Hit
from sbir_jax.search.model_paths import plain
from sbir_jax.search.opened import Opened, Retired, UnknownPhoto, photo_id
from sbir_jax.search.query import Describes, Query

__all__ = ["Hit", "Index", "UnknownPhoto", "photo_id"]

WORDS = 64  # texts whose descriptors are remembered


class Index:
    """An index that is open for searching; a context manager.

    Many threads may search at once. A writer may change the index meanwhile: `reload`
    shows it.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        embedder: Describes | None,
        backend: str,
        model: str = "",
        matcher: str = "",
        reranker: str = "",
        imaginer: str = "",
    ):
        self.folder, self._backend, self._model = folder, backend, model
        self._matcher_source, self._reranker_source = matcher, reranker
        self._imaginer_source = imaginer
        self._lock, self._reloading = threading.Lock(), threading.Lock()
        self._state: Opened | None = self._read(None)
        if embedder is not None:
            self.head.check(known_as(embedder, self.head), str(folder))
        self._embedder = embedder
        # While one draws, the words stay as they are.
        self._words = functools.lru_cache(WORDS)(
            lambda text: self.embedder.embed_words([text])
        )

    @classmethod
    def open(
        cls,
        path: str | os.PathLike,
        embedder: Describes | None = None,
        backend: str = "exact",
        model: str = "",
        matcher: str = "",
        reranker: str = "",
        imaginer: str = "",
    ) -> "Index":
        """Opens an index; descriptors stay on disk, memory-mapped.

        Args:
          path: the folder that `sbir index` made.
          embedder: for drawings; made again as index.json says, at the first one, if
            it is None.
          backend: "exact", "faiss", or "milvus:URI"; see `backends.open_backend`.
          model: where the model is now, if not where it was when the index was made.
          matcher: what re-ranks by words: a run folder of the task "matching", or a
            backbone; without it the index's own backbone does, training-free.
          reranker: a run folder of the task "reranking" or "tokens".
          imaginer: a run folder of the task "synthesis".
        Raises: FileNotFoundError without an index there; ValueError for an index that
          is damaged, and for an embedder other than the one that made it, naming both
          fingerprints; ImportError naming the extra that a backend needs.
        """
        given = embedder, backend, model, matcher, reranker, imaginer
        return cls(pathlib.Path(path), *given)

    @property
    def head(self) -> shards.Head:
        return self._open_state.snapshot.head

    @property
    def embedder(self) -> Describes:
        """The embedder that made this index, loaded when it is first asked for."""
        with self._lock:
            if self._embedder is None:
                from sbir_jax.search.model import make_embedder

                made = make_embedder(
                    self.head.embedder, str(self.folder), model=self._model
                )
                self.head.check(known_as(made, self.head), str(self.folder))
                self._embedder = made
            return self._embedder

    @functools.cached_property
    def matcher(self) -> reranking.Scores:
        """What re-ranks by words, loaded when it is first asked for."""
        from sbir_jax.search import companions

        return companions.matcher(self._matcher_source, self.embedder)

    @functools.cached_property
    def reranker(self) -> Any:
        """What re-ranks by drawings, loaded when it is first asked for; None where the
        index was opened without one."""
        from sbir_jax.search import companions

        return companions.reranker(self._reranker_source)

    @functools.cached_property
    def imaginer(self) -> Any:
        """What makes photos of drawings, loaded when it is first asked for; None where
        the index was opened without one."""
        from sbir_jax.search import companions

        return companions.imaginer(self._imaginer_source)

    def segment(self, photo: Any, words: Sequence[str]) -> Any:
        """`dense.segmenter.Masks` of words in a photo, by the index's own backbone,
        loaded at the first call; ValueError as `companions.segmenter`."""
        return self._segmenter.segment(photo, words)

    @functools.cached_property
    def _segmenter(self) -> Any:
        from sbir_jax.search import companions

        return companions.segmenter(self.embedder, str(self.folder))

    def search(
        self,
        sketch: Any = None,
        text: str | None = None,
        k: int = 20,
        min_score: float | None = None,
        text_weight: float = text_queries.WEIGHT,
        prepare: bool = True,
        fold: bool = True,
        folder: str | os.PathLike = "",
        rerank_text: int = 0,
        rerank: int = 0,
        modality: str = "sketch",
        imagined_weight: float = 0.0,
    ) -> list[Hit]:
        """The k photos nearest to a picture, to words, or to both, best first.

        Args:
          sketch: a path, the bytes of an image file, a PIL image, or a uint8 array.
          text: what the photos show: "a red cup". See `words`.
          min_score: leaves out photos with a lower score.
          text_weight: of the words beside a drawing, 0 to 1.
          prepare: makes the drawing dark, centred and large first, as
            `sketch_preparation` has it.
          fold: copies of a photo stand behind the best of them, in `Hit.copies`.
          folder: only photos below it.
          rerank_text: how many of the first photos a matcher puts in a new order by the
            words, see `rerank.rerank`; beside a drawing the words have their weight of
            it. 0 for none.
          rerank: how many of them the re-ranker does, before the words.
          modality: what the picture is, "sketch" or "photo", which is never prepared.
          imagined_weight: of photos imagined of a drawing, beside it, 0 to 1.
        Raises: BadImage for a picture that cannot be read, NoInk for an empty drawing
          where it is prepared; ValueError for neither a picture nor words, another
          modality, a k below 1, a weight outside of 0 to 1, a folder without photos,
          and re-ranking or imagining without what it goes by.
        """
        k, text = check_k(k), (text or "").strip()
        query = Query(sketch, text, modality, text_weight, imagined_weight)
        if rerank_text and not text:
            raise ValueError("rerank_text orders photos by words; give text")
        if rerank:
            reranking.check_drawing(query.drawing, self.reranker)
        imaginer = self._imaginer_for(query.drawing) if imagined_weight else None
        if prepare and (rerank or imagined_weight):
            query, prepare = query.prepared(), False
        found = query.descriptor(self.embedder, self._words, imaginer, prepare)
        with self._using() as state:
            inside = hits.folder_inside(state, folder, str(self.folder))
            count = max(k, rerank_text, rerank)
            found = hits.find(state, found, count, fold, inside)
        if min_score is not None:
            found = [hit for hit in found if hit.score >= min_score]
        if rerank:
            given = query.drawing, self.reranker, rerank
            found = reranking.rerank_drawing(found, *given)
        if rerank_text:
            part = 1.0 if sketch is None else text_weight
            found = reranking.rerank(found, text, self.matcher, rerank_text, part)
        return found[:k]

    def imagine(
        self, sketch: Any, text: str | None = None, seed: int = 0, prepare: bool = True
    ) -> UInt8[np.ndarray, "n h w 3"]:
        """Photos that the imaginer takes a drawing for, of its own size.

        Args:
          sketch, prepare: as of `search`.
          text: what the photos show, beside the drawing.
          seed: of the noise.
        Raises: BadImage, NoInk; ValueError without a drawing, and where the index was
          opened without an imaginer.
        """
        from sbir_jax.search import imagination

        given = sketch, (text or "").strip(), seed, prepare
        return imagination.pictures(self._imaginer_for(sketch), *given)

    def _imaginer_for(self, drawing: Any) -> Any:
        from sbir_jax.search import imagination

        return imagination.required(self.imaginer, drawing)

    def similar(
        self,
        photo_id: str,
        k: int = 20,
        fold: bool = True,
        folder: str | os.PathLike = "",
    ) -> list[Hit]:
        """The k photos nearest to one of the index, itself and its copies left out.

        Args:
          fold, folder: as of `search`; without `fold` its copies are found.
        Raises: UnknownPhoto; ValueError for a k below 1, or a folder without photos.
        """
        k = check_k(k)
        with self._using() as state:
            row = state.row(photo_id, str(self.folder))
            own = state.snapshot.descriptor(row).astype(np.float32)
            inside = hits.folder_inside(state, folder, str(self.folder))
            return hits.find(state, own[None], k, fold, inside, without=row)

    def search_descriptors(
        self, descriptors: Iterable, k: int
    ) -> tuple[Float32[np.ndarray, "q j"], Int[np.ndarray, "q j"]]:
        """Scores and rows of the j = min(k, photos) nearest to each descriptor.

        Args:
          descriptors: [q, dim] of unit length, as an embedder makes them.
        Returns: cosines, descending, equal ones by row; `path` has a row's path.
        Raises: ValueError for another shape, or a k below 1.
        """
        with self._using() as state:
            queries = check_descriptors(descriptors, state.snapshot.head.dim)
            return state.backend.search(queries, check_k(k))

    def path(self, row: int | np.integer) -> str:
        """Where the photo of a row lies."""
        return self._open_state.path(int(row))

    def photo(self, photo_id: str) -> str:
        """The path of the photo with this id. Raises: UnknownPhoto."""
        state = self._open_state
        return state.path(state.row(photo_id, str(self.folder)))

    def info(self) -> dict[str, Any]:
        """What the index holds, in plain values."""
        snapshot = self._open_state.snapshot
        return {
            "path": str(self.folder),
            "photos": len(self),
            "dim": snapshot.head.dim,
            "fingerprint": snapshot.head.fingerprint,
            "embedder": plain(snapshot.head.embedder),
            "backend": self._backend,
            "reranker": bool(self._reranker_source),
            "imaginer": bool(self._imaginer_source),
            "shards": len(snapshot.shards),
            "removed_rows": len(snapshot.alive) - len(self),
            "skipped": len(shards.read_skipped(self.folder)),
            "descriptor_bytes": sum(a.nbytes for a in snapshot.descriptors),
        }

    def __len__(self) -> int:
        return int(np.sum(self._open_state.snapshot.alive))

    def reload(self) -> bool:
        """Takes up what was added or removed on disk since; whether there was any.

        Also takes up an index that was made anew by the same embedder. Searches that
        are under way end with what they began with.

        Raises: as `open`; ValueError where another embedder made it anew. What is open
          stays open then.
        """
        with self._reloading:
            before = self._open_state
            self._state = after = self._read(before)
        if after is not before:
            before.retire()
        return after is not before

    def close(self) -> None:
        """Lets the files go; the index cannot be used any more."""
        with self._reloading:
            state, self._state = self._state, None
        if state is not None:
            state.retire()

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.close()

    @property
    def _open_state(self) -> Opened:
        state = self._state
        if state is None:
            raise ValueError(f"{self.folder} was closed; open it again")
        return state

    @contextlib.contextmanager
    def _using(self) -> Iterator[Opened]:
        """The newest state, open for the block."""
        with contextlib.ExitStack() as stack:
            while True:
                with contextlib.suppress(Retired):  # reloaded just now
                    state = stack.enter_context(self._open_state.used())
                    break
            yield state

    def _read(self, before: Opened | None) -> Opened:
        snapshot = shards.read(self.folder, before.snapshot if before else None)
        if before is not None and snapshot is before.snapshot:
            return before
        if before is not None:
            snapshot.head.check(before.snapshot.head.fingerprint, str(self.folder))
        backend = backends.open_backend(self._backend, self.folder, snapshot)
        return Opened(snapshot, backend)

    def folders(self) -> dict[str, int]:
        """How many photos lie below each folder; the first is the folder of all."""
        return self._open_state.folders
