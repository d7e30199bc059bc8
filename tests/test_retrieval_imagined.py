"""Photos imagined of each sketch beside it, as a row of a retrieval run."""

import dataclasses

import numpy as np
import pytest

from sbir_jax import data, text_queries
from sbir_jax.tasks.retrieval import imagined, protocols
from sbir_jax.tasks.retrieval.setup import Scoring


class Copies:
    """Imagines that a photo is the drawing itself, turned upside down."""

    size = 32

    def __init__(self):
        self.drawn = 0

    def imagine(self, sketches, texts=None, seed=0):
        assert texts is None
        self.drawn += len(sketches)
        return sketches[:, ::-1]


class Means:
    """Describes a picture by the means of its quarters."""

    def embed(self, images, modality):
        assert modality == "photo"
        found = (
            np.stack(images).astype(np.float32).reshape(len(images), 2, 16, 2, 16, 3)
        )
        rows = 1 + found.mean((2, 4, 5)).reshape(len(images), 4)
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def scored(shapes_root, tmp_path_factory):
    given = {"name": "folder", "root": str(shapes_root), "unseen": "gem,ring"}
    dataset = data.load(**given, cache_dir=str(tmp_path_factory.mktemp("prepared")))
    return dataset, protocols.make_protocol(dataset, dataset.unseen, "category", (10,))


def test_queries_are_mixed_with_what_is_imagined_of_each(scored, tmp_path):
    dataset, protocol = scored
    drawn = np.eye(4, dtype=np.float32)[np.arange(len(protocol.queries)) % 4]
    model, imaginer = Means(), Copies()
    given = imaginer, model, drawn, dataset, protocol
    whose = ["means", "copies"], tmp_path
    found = imagined.queries(*given, 0.25, *whose)
    sketches = dataset.sketches.pixels(protocol.queries, 32)
    own = model.embed(list(sketches[:, ::-1]), "photo")
    np.testing.assert_allclose(found, text_queries.mix(drawn, own, 0.25), atol=2e-3)
    assert imaginer.drawn == 4 * len(drawn)
    # Kept: another share draws nothing, and without one the sketch is alone.
    np.testing.assert_allclose(imagined.queries(*given, 0.0, *whose), drawn)
    assert imaginer.drawn == 4 * len(drawn)
    imagined.queries(*given, 0.25, ["means", "others"], tmp_path)
    assert imaginer.drawn == 8 * len(drawn)


def test_a_score_with_imagined_photos_has_a_folder_of_its_own():
    plain = Scoring()
    one = dataclasses.replace(plain, imaginer="runs/a")
    other = dataclasses.replace(one, imagined_weight=0.3)
    assert len({plain.folder, one.folder, other.folder}) == 3
    with pytest.raises(ValueError, match=r"score.imagined_weight is 2.0; give 0"):
        Scoring(imagined_weight=2.0)
