"""Indexes and prompts made by an earlier version open, and find what they found.

`old_files` holds a model of a few thousand weights, an index made with it as it is, an
index made with prompts on it, and the prompts, all written by the last version before
the package was divided into rooms; and what that version found for `sketch.png`.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest

from sbir_jax.adapters.prompt_files import load_prompts
from sbir_jax.embedder import Embedder
from sbir_jax.search import shards
from sbir_jax.search.build import build
from sbir_jax.search.index import Index

OLD = pathlib.Path(__file__).parent / "old_files"
FOUND = json.loads((OLD / "found.json").read_text())


@pytest.fixture(scope="module")
def embedders():
    """As their makers had them; the bytes of the fingerprints have not changed."""
    model = str(OLD / "model")
    made = {
        "frozen": Embedder.from_pretrained(model, batch_size=4),
        "prompts": load_prompts(OLD / "prompts", model, batch_size=4),
    }
    named = FOUND["fingerprints"]
    for embedder in made.values():
        assert embedder.backbone.fingerprint == named["backbone"]
    assert made["prompts"].fingerprint == named["prompts"]
    if made["frozen"].former_fingerprint != named["frozen"]:
        del made["frozen"]
    return made


def embedder_of(embedders, name):
    if name not in embedders:
        pytest.skip("a frozen model's fingerprint was of this kind of processor only")
    return embedders[name]


@pytest.mark.parametrize("name", ["frozen", "prompts"])
def test_descriptors_are_what_they_were(embedders, name):
    with np.load(OLD / "found.npz") as file:
        wanted = file[name]
    found = embedder_of(embedders, name).embed([OLD / "sketch.png"], "sketch")
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["frozen", "prompts"])
def test_an_index_finds_what_it_found_and_goes_on(embedders, name, tmp_path):
    kept = {"frozen": "index", "prompts": "index-prompts"}[name]
    folder = shutil.copytree(OLD / kept, tmp_path / "index")
    embedder = embedder_of(embedders, name)
    with Index.open(folder, embedder) as index:
        hits = index.search(OLD / "sketch.png", k=9)
        assert index.info()["photos"] == 3  # a fourth was removed
    # By now a search prepares its drawing first; so that version's query is asked.
    snapshot = shards.read(folder)
    paths = [pathlib.Path(path).name for path in snapshot.table["path"].to_pylist()]
    with np.load(OLD / "found.npz") as file:
        found = {
            paths[i]: float(snapshot.descriptor(i).astype(np.float32) @ file[name][0])
            for i in np.flatnonzero(snapshot.alive)
        }
    assert found == pytest.approx(dict(FOUND[name]), abs=1e-5)
    assert {pathlib.Path(hit.path).name for hit in hits} == set(found)
    photos = shutil.copytree(OLD / "photos", tmp_path / "photos")
    done = build([photos], folder, embedder, progress=False)
    # Contents that it knows are not embedded again, that of the removed one neither.
    assert done.embedded == 0 and done.added + done.moved == 4
