"""What the drawing page needs of an index."""

from typing import Any, Protocol, runtime_checkable

from sbir_jax.text_queries import WEIGHT


@runtime_checkable
class Searchable(Protocol):
    """`index.Index` is one."""

    @property
    def embedder(self) -> Any: ...

    @property
    def reranker(self) -> Any: ...

    def segment(self, photo, words) -> Any: ...

    def search(
        self,
        sketch=None,
        text=None,
        k=20,
        min_score=None,
        text_weight=WEIGHT,
        prepare=True,
        fold=True,
        folder="",
        rerank_text=0,
        rerank=0,
        modality="sketch",
    ) -> list: ...

    def imagine(self, sketch, text=None, seed=0, prepare=True) -> Any: ...

    def similar(self, photo_id: str, k: int = 20, fold=True, folder="") -> list: ...

    def folders(self) -> dict[str, int]: ...

    def photo(self, photo_id: str) -> Any: ...

    def info(self) -> dict: ...

    def reload(self) -> bool: ...
