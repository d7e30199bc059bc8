"""Words that stand beside the queries of a protocol."""

import dataclasses

from sbir_jax import data, text_queries
from sbir_jax.tasks.retrieval.protocols import Protocol
from sbir_jax.tasks.retrieval.setup import Scoring


@dataclasses.dataclass(frozen=True)
class Beside:
    """Words beside the queries: a text each, and `words_as` and `text_weight` of
    `config.Scoring`."""

    texts: list[str]
    way: str
    weight: float

    @property
    def key(self) -> list:
        """All that a descriptor with such words depends on."""
        made = text_queries.PICTURES, text_queries.STEPS, text_queries.GUIDANCE
        return [*dataclasses.astuple(self), *made]


def words_beside(
    score: Scoring, dataset: data.Dataset, protocol: Protocol
) -> Beside | None:
    """The words that the queries are to have, or None where there are to be none.

    Raises: ValueError where captions are asked for and a sketch's photo has none.
    """
    if not score.words:
        return None
    if score.words == "class":
        names = [dataset.classes[i].replace("_", " ") for i in protocol.query_labels]
        texts = [f"a photo of a {name}" for name in names]
        return Beside(texts, score.words_as, score.text_weight)
    photos = dataset.photos
    captions = dict(zip(photos.instances.tolist(), photos.captions, strict=True))
    found = [captions.get(i, "") for i in protocol.query_instances.tolist()]
    if missing := sum(not text for text in found):
        raise ValueError(
            f"score.words is caption, and {missing} of {len(found)} sketches have no "
            f"photo with a caption in {dataset.name}; give class"
        )
    return Beside(found, score.words_as, score.text_weight)
