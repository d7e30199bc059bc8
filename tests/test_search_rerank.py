"""Search results put in order by words."""

import json
import pathlib
import types

import numpy as np
import pytest
from fake_embedder import FakeEmbedder
from PIL import Image, ImageColor

from sbir_jax.data import images as images_lib
from sbir_jax.dense.segmenter import Segmenter
from sbir_jax.reranker import standardised
from sbir_jax.search import build, cli, companions
from sbir_jax.search.index import Hit, Index
from sbir_jax.search.rerank import rerank, rerank_drawing

COLOURS = ("red", "green", "blue", "black", "white", "orange")


class Likes:
    """A matcher that knows colours."""

    def __init__(self):
        self.asked = []

    def score(self, images, texts):
        self.asked.append((len(images), tuple(texts)))
        wanted = np.array(ImageColor.getrgb(texts[0]))
        seen = [images_lib.decode(image, 8).mean((0, 1)) for image in images]
        return -np.abs(np.array(seen) - wanted).sum(1, keepdims=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in COLOURS:
        Image.new("RGB", (32, 32), name).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def index(photos, tmp_path):
    build.build([str(photos)], tmp_path / "index", FakeEmbedder(), progress=False)
    with Index.open(tmp_path / "index", FakeEmbedder()) as opened:
        opened.__dict__["matcher"] = Likes()
        yield opened


def names(hits):
    return [hit.path.rpartition("/")[2].removesuffix(".png") for hit in hits]


def test_the_first_ones_go_by_words_and_the_others_stay(photos):
    hits = [
        Hit(str(i), str(photos / f"{n}.png"), 1 - i / 9) for i, n in enumerate(COLOURS)
    ]
    found = rerank(hits, "blue", Likes(), 4)
    assert names(found)[0] == "blue" and set(names(found)[:4]) == set(COLOURS[:4])
    assert found[4:] == hits[4:]
    scores = [hit.score for hit in found[:4]]
    assert scores == sorted(scores, reverse=True) and abs(sum(scores)) < 1e-6
    # Without a share of the words the order stays.
    assert names(rerank(hits, "blue", Likes(), 4, 0.0)) == list(COLOURS)
    assert names(rerank(hits, "white", Likes(), 6))[0] == "white"
    assert rerank([], "blue", Likes(), 4) == []
    with pytest.raises(ValueError, match="rerank_text is 201; give 1 to 200"):
        rerank(hits, "blue", Likes(), 201)
    assert standardised(np.ones(3)).tolist() == [0, 0, 0]


def test_an_index_searches_further_than_it_shows(index):
    """The right photo may be below the first k of the search."""
    by_search = names(index.search(text="grey", k=6))
    last = by_search[-1]
    index._words = lambda text: FakeEmbedder().embed_words(["grey"])
    assert names(index.search(text=last, k=1)) != [last]
    assert names(index.search(text=last, k=1, rerank_text=6)) == [last]
    assert index.matcher.asked == [(6, (last,))]
    with pytest.raises(ValueError, match="orders photos by words; give text"):
        index.search("white.png", rerank_text=3)


def test_beside_a_drawing_the_words_have_their_share(index, photos):
    drawn = str(photos / "red.png")
    given = {"text": "blue", "rerank_text": 6, "k": 1, "prepare": False}
    assert names(index.search(drawn, text_weight=0.0, **given)) == ["red"]
    assert names(index.search(drawn, text_weight=1.0, **given)) == ["blue"]


def test_masks_are_of_the_indexs_own_backbone(monkeypatch):
    made = []
    monkeypatch.setattr(
        Segmenter, "__init__", lambda _, *given, **more: made.append((given, more))
    )
    backbone = types.SimpleNamespace(
        folder=pathlib.Path("model"), dtype=np.dtype("float32"), random_seed=None
    )
    embedder = types.SimpleNamespace(backbone=backbone)
    companions.segmenter(embedder, "photos.index")
    assert made == [(("model",), {"dtype": "float32"})]
    backbone.random_seed = 3
    with pytest.raises(ValueError, match="random weights, which has learnt no words"):
        companions.segmenter(embedder, "photos.index")


def test_commands_refuse_what_means_nothing(index, capsys):
    for flags, words in (
        (["x.png", "--rerank-text"], "give --text"),
        (["--text", "red", "--matcher", "runs/x"], "--matcher is for --rerank-text"),
        (
            ["--text", "red", "--rerank", "runs/x"],
            "--rerank orders photos by a drawing",
        ),
    ):
        assert cli.main(["search", str(index.folder), *flags]) == 2
        assert words in capsys.readouterr().err


def test_match_prints_the_best_text_first(photos, monkeypatch, capsys, tmp_path):
    from sbir_jax.tasks.matching import rivals

    class Each(Likes):
        def score(self, images, texts):
            return np.concatenate(
                [super(Each, self).score(images, [t]) for t in texts], 1
            )

    monkeypatch.setattr(rivals, "open_scorer", lambda model: Each())
    photo = str(photos / "green.png")
    assert cli.main(["match", photo, "red", "green", "blue", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0] == {"text": "green", "score": 0.0} and len(found) == 3
    assert cli.main(["match", photo, "red", "green"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("green") < printed.index("red") and "of 2 texts" in printed
    assert cli.main(["match", str(tmp_path / "no.png"), "red"]) == 2
    assert cli.main(["match", photo, "red", "--save", "words.txt"]) == 2
    assert "ends in .png" in capsys.readouterr().err


class Knows:
    """A re-ranker that likes dark photos best, and remembers the drawing."""

    size = 32

    def score(self, sketch, photos):
        self.sketch = sketch
        return -np.array([images_lib.decode(photo, 8).mean() for photo in photos])


def test_a_re_ranker_puts_the_first_ones_in_a_new_order(index, monkeypatch):
    drawing = Image.new("L", (64, 64), 255)
    drawing.paste(0, (20, 20, 40, 24))
    plain = index.search(drawing, k=6)
    with pytest.raises(ValueError, match="reranker=RUN"):
        index.search(drawing, rerank=3)
    monkeypatch.setitem(index.__dict__, "reranker", Knows())
    found = index.search(drawing, k=6, rerank=6)
    assert sorted(names(found)) == sorted(names(plain))
    assert isinstance(index.reranker.sketch, np.ndarray)  # made ready as for the search
    scores = [hit.score for hit in found]
    assert scores == sorted(scores, reverse=True) and abs(sum(scores)) < 1e-6
    some = rerank_drawing(plain, drawing, Knows(), 4, 1.0)
    brightness = {"black": 0, "red": 85, "blue": 85, "green": 43, "orange": 140}
    shown = [brightness.get(name, 255) for name in names(some)[:4]]
    assert some[4:] == plain[4:] and shown == sorted(shown)
    assert rerank_drawing(plain, drawing, Knows(), 4, 0.0)[0].path == plain[0].path
    assert rerank_drawing([], drawing, Knows(), 4) == []
    with pytest.raises(ValueError, match="rerank is 201; give 1 to 200"):
        rerank_drawing(plain, drawing, Knows(), 201)
    with pytest.raises(ValueError, match="give a drawing"):
        index.search(text="red", rerank=3)
