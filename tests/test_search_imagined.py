"""Searching by imagination, with an imaginer that makes sheets of one colour."""

import numpy as np
import pytest
from fake_embedder import FakeEmbedder
from PIL import Image, ImageColor

from sbir_jax.data import images as images_lib
from sbir_jax.data.sketch_preparation import NoInk
from sbir_jax.search import build, cli, companions
from sbir_jax.search import index as index_lib
from sbir_jax.search.index import Index
from sbir_jax.tasks.synthesis import imagined
from sbir_jax.text_queries import mix

COLOURS = ("red", "green", "blue", "black", "white", "orange")


class Paints:
    """Takes every drawing for a thing of the colour that the words name, or blue."""

    size = 24

    def __init__(self):
        self.asked = []

    def imagine(self, sketches, texts=None, seed=0):
        self.asked.append((sketches, texts, seed))
        made = np.zeros((len(sketches), self.size, self.size, 3), np.uint8)
        made[:] = ImageColor.getrgb(texts[0] if texts else "blue")
        return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("imagined")
    (place / "photos").mkdir()
    for name in COLOURS:
        Image.new("RGB", (32, 32), name).save(place / "photos" / f"{name}.png")
    given = [str(place / "photos")], place / "index", FakeEmbedder()
    build.build(*given, progress=False)
    return place / "index"


@pytest.fixture
def paints(monkeypatch):
    made = Paints()
    monkeypatch.setattr(imagined, "open_imaginer", lambda run: made)
    return made


@pytest.fixture
def index(folder, paints):
    with Index.open(folder, FakeEmbedder(), imaginer="runs/synthesis") as opened:
        yield opened


@pytest.fixture
def drawing():
    """A short line in a corner."""
    sheet = Image.new("RGB", (64, 64), "white")
    sheet.paste("black", (4, 4, 20, 7))
    return sheet


def names(hits):
    return [hit.path.rpartition("/")[2].removesuffix(".png") for hit in hits]


def test_an_index_shows_what_a_drawing_is_taken_for(index, paints, drawing):
    made = index.imagine(drawing)
    assert made.shape == (imagined.PICTURES, 24, 24, 3) and made.dtype == np.uint8
    assert (made == (0, 0, 255)).all()
    sketches, texts, seed = paints.asked[-1]
    assert texts is None and seed == 0 and (sketches == sketches[:1]).all()
    # Made ready, the line lies in the middle; as drawn it lies in its corner.
    assert sketches[0, 12, 12].mean() < 128 < sketches[0, 1, 1].mean()
    made = index.imagine(drawing, " red ", seed=3, prepare=False)
    assert (made == (255, 0, 0)).all()
    sketches, texts, seed = paints.asked[-1]
    assert texts == ["red"] * imagined.PICTURES and seed == 3
    assert sketches[0, 12, 12].mean() == 255
    with pytest.raises(NoInk):
        index.imagine(Image.new("RGB", (64, 64), "white"))
    assert index.info()["imaginer"] is True


def test_imagined_photos_have_their_share_of_a_search(index, paints, drawing):
    plain = index.search(drawing, k=6)
    assert names(plain)[0] == "white" and not paints.asked
    assert index.search(drawing, k=6, imagined_weight=0.0) == plain
    assert names(index.search(drawing, imagined_weight=1.0))[0] == "blue"
    # The words beside the drawing say what is imagined, too.
    red = index.search(drawing, "red", text_weight=0.0, imagined_weight=1.0)
    assert names(red)[0] == "red"
    embedder, half = FakeEmbedder(), index.search(drawing, k=6, imagined_weight=0.5)
    ready = images_lib.decode(paints.asked[-1][0][0])
    assert ready[12, 12].mean() < 128  # the embedder and the imaginer see the same
    blue = embedder.embed([Image.new("RGB", (24, 24), "blue")], "photo")
    from sbir_jax.data import sketch_preparation

    drawn = embedder.embed([sketch_preparation.prepare(drawing)], "sketch")
    expected = mix(drawn, blue, 0.5) @ blue.T
    found = next(hit for hit in half if names([hit]) == ["blue"])
    assert found.score == pytest.approx(expected.item(), abs=2e-3)


def test_a_photo_can_be_searched_with(index, monkeypatch):
    """It is embedded as a photo, and never prepared."""
    asked = []
    embed = FakeEmbedder.embed

    def remembering(self, images, modality, prepare=False):
        asked.append(modality)
        return embed(self, images, modality)

    monkeypatch.setattr(FakeEmbedder, "embed", remembering)
    green = Image.new("RGB", (40, 40), "green")  # as a drawing it would have no ink
    assert names(index.search(green, modality="photo"))[0] == "green"
    mixed = index.search(green, "red", text_weight=1.0, modality="photo")
    assert names(mixed)[0] == "red"
    assert set(asked) == {"photo"}
    with pytest.raises(ValueError, match="modality is 'film'; give one of"):
        index.search(green, modality="film")


def test_what_means_nothing_is_refused(folder, index, drawing, paints):
    for share in (-0.1, 1.5):
        with pytest.raises(ValueError, match=f"imagined_weight is {share}; give 0"):
            index.search(drawing, imagined_weight=share)
    with pytest.raises(ValueError, match="give a drawing"):
        index.search(text="red", imagined_weight=0.5)
    with pytest.raises(ValueError, match="give a drawing"):
        index.search(drawing, modality="photo", imagined_weight=0.5)
    with pytest.raises(ValueError, match="rerank orders photos by a drawing"):
        index.search(drawing, modality="photo", rerank=3)
    with pytest.raises(ValueError, match="give a drawing"):
        index.imagine(None)
    with Index.open(folder, FakeEmbedder()) as bare:
        assert bare.imaginer is None and bare.info()["imaginer"] is False
        for ask in (bare.imagine, lambda s: bare.search(s, imagined_weight=0.5)):
            with pytest.raises(ValueError, match=r"imaginer=RUN"):
                ask(drawing)
    assert not paints.asked


def test_a_run_opens_once(monkeypatch, folder):
    opened = []
    monkeypatch.setattr(imagined, "open_imaginer", opened.append)
    assert companions.imaginer("") is None and not opened
    with Index.open(folder, FakeEmbedder(), imaginer="runs/a") as index:
        assert not opened  # until it is asked for
        assert index.imaginer is index.imaginer
    assert opened == ["runs/a"]


def test_the_shell_searches_by_imagination(
    folder, paints, drawing, monkeypatch, tmp_path, capsys
):
    given = {}
    real = index_lib.Index.open.__func__

    def opened(cls, path, **more):
        given.update(more)
        return real(cls, path, FakeEmbedder(), imaginer=more["imaginer"])

    monkeypatch.setattr(index_lib.Index, "open", classmethod(opened))
    drawing.save(tmp_path / "cup.png")
    command = ["search", str(folder), str(tmp_path / "cup.png"), "--paths", "-k", "1"]

    def first(*flags):
        assert cli.main([*command, *flags]) == 0
        return capsys.readouterr().out.strip().rpartition("/")[2]

    assert first() == "white.png" and given["imaginer"] == "" and not paints.asked
    flags = "--imagine", "runs/synthesis"
    assert first(*flags, "--imagined-weight", "1") == "blue.png"
    assert given["imaginer"] == "runs/synthesis"
    assert first(*flags, "--imagined-weight", "0") == "white.png"
    shares = []
    search = index_lib.Index.search

    def watched(self, *asks, **more):
        shares.append(more.get("imagined_weight"))
        return search(self, *asks, **more)

    monkeypatch.setattr(index_lib.Index, "search", watched)
    first(*flags)
    first()
    assert shares == [0.5, None]


def test_the_shell_serves_an_imaginer(folder, paints, monkeypatch):
    server = pytest.importorskip("sbir_jax.search.server")
    served = []
    monkeypatch.setattr(server, "serve", lambda index, *_: served.append(index))
    assert cli.main(["serve", str(folder), "--imagine", "runs/synthesis"]) == 0
    assert served[0].imaginer is paints
    assert cli.main(["serve", str(folder)]) == 0
    assert served[1].imaginer is None


def test_commands_refuse_what_means_nothing(folder, capsys):
    for flags, words in (
        (["--text", "red", "--imagine", "runs/x"], "--imagine makes photos of a draw"),
        (["x.png", "--imagined-weight", "0.5"], "--imagined-weight weighs what"),
    ):
        assert cli.main(["search", str(folder), *flags]) == 2
        assert words in capsys.readouterr().err
