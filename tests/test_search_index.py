import importlib.util
import io
import pathlib
import shutil
import sys
import threading

import numpy as np
import pytest
from fake_embedder import FakeEmbedder
from PIL import Image

from sbir_jax.data import BadImage
from sbir_jax.search import exact_backend, shards
from sbir_jax.search.backend import Backend
from sbir_jax.search.build import build
from sbir_jax.search.exact_backend import Exact
from sbir_jax.search.index import Index, UnknownPhoto, photo_id
from sbir_jax.search.shard_writer import Writer
from sbir_jax.search.shards import Head

DIM = 16
BACKENDS = ("exact", "faiss", "milvus")


def units(n, seed=0, dim=DIM):
    found = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found.astype(np.float16)


def clusters(n, seed=0, dim=DIM):
    """Descriptors as they come in practice: many groups of near ones."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, dim))[rng.integers(20, size=n)]
    found = centres + 0.3 * rng.normal(size=(n, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(params=BACKENDS)
def kind(request):
    module = {"faiss": "faiss", "milvus": "pymilvus"}.get(request.param)
    if module and importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    return request.param


@pytest.fixture
def make(kind, tmp_path):
    """A function from a dimension to an empty backend."""
    made = []

    def make(dim=DIM) -> Backend:
        if kind == "exact":
            backend = Exact(dim, block_rows=64)
        elif kind == "faiss":
            from sbir_jax.search.faiss_backend import Hnsw

            backend = Hnsw(dim)
        else:
            from sbir_jax.search.milvus_backend import Milvus

            backend = Milvus(str(tmp_path / "test.db"), "test", dim)
        made.append(backend)
        return backend

    yield make
    for backend in made:
        backend.close()


def brute_force(queries, gallery, k, removed=()):
    """In float64, by a plain sort: scores, descending, and rows."""
    scores = queries.astype(np.float64) @ gallery.astype(np.float64).T
    scores[:, list(removed)] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, axis=1), order


def check(backend, kind, queries, gallery, k, removed=()):
    """What every backend promises, and that it misses little, or nothing if exact."""
    scores, rows = backend.search(queries.astype(np.float32), k)
    best, order = brute_force(queries, gallery, k, removed)
    found = min(k, len(gallery) - len(set(removed)))
    assert scores.shape == rows.shape == (len(queries), found)
    assert scores.dtype == np.float32 and rows.dtype == np.int64
    assert backend.count() == len(gallery) - len(set(removed))
    assert not set(rows.flat) & set(removed)
    for line, mine in zip(scores, rows, strict=True):
        assert len(set(mine.tolist())) == found
        assert (np.diff(line) <= 0).all()
    true = np.einsum("qd,qjd->qj", queries, gallery[rows].astype(np.float64))
    np.testing.assert_allclose(scores, true, atol=2e-5)
    best, order = best[:, :found], order[:, :found]
    if kind == "exact":
        np.testing.assert_allclose(scores, best, atol=2e-6)
        np.testing.assert_array_equal(rows, order)
    hits = [len(set(a) & set(b)) for a, b in zip(rows, order, strict=True)]
    assert np.mean(hits) >= 0.9 * found


@pytest.mark.parametrize("k", [1, 7, 64])
@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1000])
def test_backend_finds_the_nearest(make, kind, rows, k):
    backend, gallery = make(), clusters(rows)
    assert isinstance(backend, Backend)
    backend.add(0, gallery)
    queries = clusters(5, seed=1).astype(np.float64)
    check(backend, kind, queries, gallery, k)


def test_backend_grows_and_shrinks(make, kind):
    backend, gallery = make(), clusters(300)
    queries = gallery[[0, 10, 299]].astype(np.float64)
    for start in (0, 10, 50, 51, 120):
        stop = {0: 10, 10: 50, 50: 51, 51: 120, 120: 300}[start]
        backend.add(start, gallery[start:stop])
    check(backend, kind, queries, gallery, 5)
    removed = [0, 10, 11, 63, 64]
    backend.remove(np.array(removed[:3]))
    backend.remove(np.array(removed[2:]))  # one of them again
    backend.remove(np.zeros(0, np.int64))
    check(backend, kind, queries, gallery, 5, removed)
    more = clusters(50, seed=2)
    backend.add(300, more)
    check(backend, kind, queries, np.concatenate([gallery, more]), 20, removed)


def test_backend_with_little_in_it(make, kind):
    backend = make()
    queries = units(2).astype(np.float64)
    nothing = np.zeros((0, DIM), np.float16)
    check(backend, kind, queries, nothing, 3)
    backend.add(0, nothing)
    gallery = units(4, seed=1)
    backend.add(0, gallery)
    check(backend, kind, queries, gallery, 100)
    scores, rows = backend.search(np.zeros((0, DIM), np.float32), 2)
    assert scores.shape == rows.shape == (0, 2)
    backend.remove(np.arange(4))
    check(backend, kind, queries, gallery, 3, range(4))


def test_backend_gives_all_when_asked_for_all(make, kind):
    """Most of it removed, which is hard for a graph."""
    backend, gallery = make(), clusters(400)
    backend.add(0, gallery)
    removed = [i for i in range(400) if i % 8]
    backend.remove(np.array(removed))
    check(backend, kind, units(3, seed=3).astype(np.float64), gallery, 400, removed)


def test_backend_puts_the_lower_row_first_of_equals(make, kind):
    """Small whole numbers over 4: every product and sum is exact."""
    rng = np.random.default_rng(0)
    few = rng.choice([-0.25, 0.25], (6, DIM)).astype(np.float16)
    gallery = few[rng.integers(6, size=200)]
    backend = make()
    backend.add(0, gallery)
    queries = few.astype(np.float64)
    scores, rows = backend.search(few.astype(np.float32), 200)
    best, order = brute_force(queries, gallery, 200)
    np.testing.assert_array_equal(scores, best)
    np.testing.assert_array_equal(rows, order)


def test_exact_asks_for_many_queries_at_once(monkeypatch):
    gallery, queries = clusters(500), clusters(150, seed=4).astype(np.float64)
    backend = Exact(DIM, block_rows=64)
    backend.add(0, gallery)
    check(backend, "exact", queries, gallery, 3)


def test_exact_keeps_blocks_on_an_accelerator(monkeypatch):
    """As if there were one, with room for two of the four blocks."""
    monkeypatch.setattr("sbir_jax.runtime.hardware.platform", lambda: "gpu")
    monkeypatch.setattr(exact_backend, "RESIDENT_BYTES", 2 * 64 * DIM * 2)
    backend, gallery = Exact(DIM, block_rows=64), clusters(240)
    queries = clusters(5, seed=1).astype(np.float64)
    backend.add(0, gallery[:100])
    check(backend, "exact", queries, gallery[:100], 9)
    backend.add(100, gallery[100:110])  # into a block that is there already
    check(backend, "exact", queries, gallery[:110], 9)
    backend.add(110, gallery[110:])
    check(backend, "exact", queries, gallery, 9)
    check(backend, "exact", queries, gallery, 9)
    assert len(backend._resident) == 2


def test_rows_come_in_order():
    backend = Exact(DIM)
    with pytest.raises(ValueError, match=r"rows 5\.\.\. after 0 rows"):
        backend.add(5, units(2))


# From here on with photos.


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(30):
        pixels = np.random.default_rng(i).integers(0, 256, (2, 2, 3), np.uint8)
        image = Image.fromarray(pixels).resize((16, 16), Image.Resampling.NEAREST)
        image.save(root / f"{i}.png")
    (root / "twin.png").write_bytes((root / "3.png").read_bytes())
    return root


@pytest.fixture
def folder(photos, tmp_path):
    build([photos], tmp_path / "index", FakeEmbedder(), progress=False)
    return tmp_path / "index"


@pytest.fixture
def index(folder):
    with Index.open(folder, FakeEmbedder()) as index:
        yield index


def test_finds_what_a_plain_loop_finds(index, photos):
    assert len(index) == 31
    files = sorted(photos.iterdir())
    embedder = FakeEmbedder()
    gallery = embedder.embed(files, "photo").astype(np.float16).astype(np.float64)
    query = embedder.embed([photos / "7.png"], "sketch")[0]
    scores = gallery @ query
    hits = index.search(photos / "7.png", k=10)
    best = sorted(zip(-scores, files, strict=True))[:10]
    assert [hit.path for hit in hits] == [str(path) for _, path in best]
    np.testing.assert_allclose(
        [hit.score for hit in hits], [-s for s, _ in best], atol=1e-5
    )


def test_takes_paths_bytes_pil_and_arrays(index, photos):
    path = photos / "7.png"
    image = Image.open(path)
    found = [
        index.search(sketch, k=4)
        for sketch in (path, str(path), path.read_bytes(), image, np.asarray(image))
    ]
    assert all(hits == found[0] for hits in found)
    assert found[0][0].path == str(path)


def test_words_find_photos_alone_and_beside_a_drawing(index, photos):
    path, embedder = photos / "7.png", FakeEmbedder()
    drawn, said = embedder.embed([path], "sketch"), embedder.embed_words(["red"])

    def scores(**asked):
        return [hit.score for hit in index.search(k=31, fold=False, **asked)]

    def wanted(query):
        query = (query / np.linalg.norm(query)).astype(np.float32)
        found, _ = index.search_descriptors(query, 31)
        return pytest.approx(found[0].tolist(), abs=1e-6)

    assert scores(text="red") == wanted(said)
    assert scores(sketch=path, text="red") == wanted(drawn + said)
    fifth = scores(sketch=path, text="red", text_weight=0.2)
    assert fifth == wanted(0.8 * drawn + 0.2 * said)
    assert scores(sketch=path, text="red", text_weight=1.0) == wanted(said)
    assert scores(sketch=path, text=" ") == scores(sketch=path) == wanted(drawn)
    for nothing in ({}, {"text": " "}):
        with pytest.raises(ValueError, match="give a sketch, text, or both"):
            index.search(**nothing)
    with pytest.raises(ValueError, match="text_weight is 2"):
        index.search(path, "red", text_weight=2.0)


def test_words_are_looked_at_once(index, photos):
    index.search(photos / "7.png", "red")
    index.search(photos / "3.png", "red")
    index.search(text="red ")
    assert index.embedder.calls.count(("red",)) == 1


def test_min_score_and_k(index, photos):
    hits = index.search(photos / "7.png", k=31, fold=False)
    assert len(hits) == 31 == len({hit.id for hit in hits})
    limit = hits[4].score
    assert index.search(photos / "7.png", None, 31, limit, fold=False) == hits[:5]
    assert index.search(photos / "7.png", min_score=1.1) == []
    assert len(index.search(photos / "7.png", k=10**6, fold=False)) == 31
    for k in (0, -1, True):
        with pytest.raises(ValueError, match=r"k is .*; give a whole number"):
            index.search(photos / "7.png", k=k)


def test_more_like_this(index, photos):
    (hit,) = index.search(photos / "3.png", k=1)
    assert hit.path == str(photos / "3.png")
    others = index.similar(hit.id, k=31, fold=False)
    assert len(others) == 30 and others[0].path == str(photos / "twin.png")
    assert hit not in others
    near = index.search(photos / "3.png", k=6, fold=False)
    assert [h.path for h in index.similar(hit.id, k=5, fold=False)] == [
        h.path for h in near[1:]
    ]


def test_copies_stand_behind_the_first(index, photos):
    shown = index.search(photos / "3.png", k=40)
    paths = {str(path) for path in photos.iterdir()}
    assert len(shown) == 30 and shown[0].path == str(photos / "3.png")
    assert shown[0].copies == (str(photos / "twin.png"),)
    assert {p for hit in shown for p in (hit.path, *hit.copies)} == paths
    assert index.similar(shown[0].id, k=1)[0].path == shown[1].path
    # No fewer than asked for, where copies take places.
    assert len(index.search(photos / "3.png", k=2)) == 2


def test_nearly_equal_photos_are_copies(photos, folder, index):
    image = Image.open(photos / "7.png").convert("RGB")
    image.save(photos / "again.jpg", quality=100, subsampling=0)
    build([photos], folder, FakeEmbedder(), progress=False)
    assert index.reload()
    first = index.search(photos / "7.png", k=1)[0]
    assert {first.path, *first.copies} == {
        str(photos / "7.png"),
        str(photos / "again.jpg"),
    }


def test_how_far_a_photo_stands_out(index, photos):
    hits = index.search(photos / "7.png", k=31, fold=False)
    scores = np.array([hit.score for hit in hits])
    wanted = (scores - scores.mean()) / scores.std()
    np.testing.assert_allclose([hit.above for hit in hits], wanted, atol=1e-3)


def test_few_photos_have_no_spread():
    from sbir_jax.search.hits import standing

    few, scores = np.linspace(0, 1, 19), np.array([0.5])
    assert standing(few, scores) is None
    assert standing(np.linspace(0, 1, 20), scores) == pytest.approx(0, abs=1e-9)
    assert standing(np.full(30, 0.7), scores) is None


def test_only_below_a_folder(tmp_path, photos):
    (photos / "in").mkdir()
    for name in ("7.png", "9.png"):
        (photos / name).rename(photos / "in" / name)
    (photos / "inside.png").write_bytes((photos / "8.png").read_bytes())
    build([photos], tmp_path / "other", FakeEmbedder(), progress=False)
    with Index.open(tmp_path / "other", FakeEmbedder()) as index:
        hits = index.search(photos / "3.png", k=9, folder=photos / "in")
        assert sorted(h.path for h in hits) == [
            str(photos / "in" / name) for name in ("7.png", "9.png")
        ]
        whole = index.search(photos / "3.png", k=99, fold=False)
        order = [h for h in whole if h.path in {hit.path for hit in hits}]
        assert [h.path for h in order] == [h.path for h in hits]
        near = index.similar(hits[0].id, folder=photos / "in")
        assert [h.path for h in near] == [hits[1].path]
        with pytest.raises(ValueError, match="has no photo below"):
            index.search(photos / "3.png", folder=tmp_path / "none")
        assert index.folders() == {str(photos): 32, str(photos / "in"): 2}


def test_ids_name_photos(index, photos):
    hits = index.search(photos / "3.png", k=31, fold=False)
    assert {index.photo(hit.id) for hit in hits} == {str(p) for p in photos.iterdir()}
    twins = [hit for hit in hits if hit.path.endswith(("/3.png", "/twin.png"))]
    assert twins[0].id[:8] == twins[1].id[:8] and twins[0].id != twins[1].id
    for hit in hits:
        assert len(hit.id) == 16 and int(hit.id, 16) >= 0
    for wrong in (
        "",
        "0" * 16,
        hits[0].id[:15],
        hits[0].id.upper() + "x",
        "../etc",
        "ü",
    ):
        with pytest.raises(UnknownPhoto, match=r"no photo of .* has the id"):
            index.photo(wrong)
        with pytest.raises(UnknownPhoto):
            index.similar(wrong)


def test_an_id_stays_while_its_photo_stays(photos, folder, index):
    before = {
        hit.path: hit.id for hit in index.search(photos / "3.png", k=31, fold=False)
    }
    (photos / "5.png").unlink()
    (photos / "6.png").rename(photos / "new.png")
    build([photos], folder, FakeEmbedder(), progress=False)
    assert index.reload()
    after = {
        hit.path: hit.id for hit in index.search(photos / "3.png", k=31, fold=False)
    }
    stayed = before.keys() & after.keys()
    assert len(stayed) == 29 and all(before[p] == after[p] for p in stayed)
    moved = after[str(photos / "new.png")]
    assert moved[:8] == before[str(photos / "6.png")][:8]
    for name in ("5.png", "6.png"):
        with pytest.raises(UnknownPhoto):
            index.photo(before[str(photos / name)])


def test_search_by_descriptors(index):
    queries = FakeEmbedder().embed([np.zeros((16, 16, 3), np.uint8)] * 3, "photo")
    scores, rows = index.search_descriptors(queries, 4)
    assert scores.shape == rows.shape == (3, 4)
    assert pathlib.Path(index.path(rows[0, 0])).exists()
    with pytest.raises(ValueError, match=r"shape \[12\].* \[q, 12\]"):
        index.search_descriptors(queries[0], 4)
    with pytest.raises(ValueError, match=r"shape \[3, 5\]"):
        index.search_descriptors(queries[:, :5], 4)


def test_reload_shows_what_was_added(photos, folder, index, tmp_path):
    assert not index.reload()
    Image.new("RGB", (16, 16), "red").save(photos / "red.png")
    build([photos], folder, FakeEmbedder(), progress=False)
    red = np.full((16, 16, 3), (255, 0, 0), np.uint8)
    assert index.search(red, k=1)[0].path != str(photos / "red.png")
    assert index.reload() and len(index) == 32
    assert index.search(red, k=1)[0].path == str(photos / "red.png")


def test_many_threads_search_while_it_reloads(photos, folder, index):
    wanted = index.search(photos / "7.png", k=5)
    wrong = []

    def search():
        for _ in range(20):
            # How far it stands out changes with the gallery.
            if index.search(photos / "7.png", k=5)[0].path != wanted[0].path:
                wrong.append(1)

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(5):
        Image.new("RGB", (16, 16), (10 * i, 0, 0)).save(photos / f"red{i}.png")
        build([photos], folder, FakeEmbedder(), progress=False)
        index.reload()
    for thread in threads:
        thread.join()
    assert not wrong and len(index) == 36


def test_what_an_index_says_of_itself(folder, index):
    info = index.info()
    assert info["photos"] == 31 and info["dim"] == 12 and info["shards"] == 1
    assert info["fingerprint"] == FakeEmbedder.fingerprint
    assert info["path"] == str(folder) and info["embedder"] is None
    assert info["removed_rows"] == info["skipped"] == 0
    assert info["descriptor_bytes"] == 31 * 12 * 2


def test_an_index_by_a_former_fingerprint_opens_and_grows(tmp_path, photos):
    class Renamed(FakeEmbedder):
        fingerprint = "now"
        former_fingerprint = FakeEmbedder().fingerprint

    build([photos], tmp_path / "index", FakeEmbedder(), progress=False)
    done = build([photos], tmp_path / "index", Renamed(), progress=False)
    assert done.embedded == 0
    with Index.open(tmp_path / "index", Renamed()) as index:
        assert index.search(next(photos.iterdir()), k=1, prepare=False)
    Renamed.former_fingerprint = "other"
    with pytest.raises(ValueError, match="made by the embedder with fingerprint"):
        Index.open(tmp_path / "index", Renamed())
    with pytest.raises(ValueError, match="made by the embedder with fingerprint"):
        build([photos], tmp_path / "index", Renamed(), progress=False)


def test_another_embedder_is_refused_with_both_fingerprints(folder):
    other = FakeEmbedder()
    other.fingerprint = "0b" * 32
    with pytest.raises(ValueError, match=r"fafafafafafa.* 0b0b0b0b0b0b"):
        Index.open(folder, other)


def test_an_embedder_put_together_by_hand_has_to_be_given(folder, photos):
    with Index.open(folder) as index:
        asked = photo_of(folder, photos / "3.png")
        (hit,) = index.similar(asked, k=1, fold=False)
        assert hit.path == str(photos / "twin.png")
        with pytest.raises(ValueError, match=r"put together by hand.*Index\.open"):
            index.search(photos / "3.png")


def photo_of(folder, path):
    table = shards.read(folder).table.to_pylist()
    return next(photo_id(r["hash"], r["path"]) for r in table if r["path"] == str(path))


def test_bad_drawings_and_closed_indexes(folder, index, tmp_path):
    with pytest.raises(BadImage, match="no such file"):
        index.search(tmp_path / "nothing.png")
    with pytest.raises(BadImage, match="not an image"):
        index.search(b"hello")
    index.close()
    index.close()
    with pytest.raises(ValueError, match="was closed"):
        index.search(np.zeros((16, 16, 3), np.uint8))


def test_an_index_made_anew_is_taken_up_if_by_the_same_embedder(folder, index):
    shutil.rmtree(folder)
    with Writer(folder, Head(FakeEmbedder.fingerprint, 12, None)):
        pass
    assert index.reload() and len(index) == 0
    shutil.rmtree(folder)
    with Writer(folder, Head("0b" * 32, 12, None)):
        pass
    with pytest.raises(ValueError, match="0b0b0b0b0b0b and this one is fafafafafafa"):
        index.reload()
    assert len(index) == 0  # it stays as it was


def test_a_reload_closes_what_it_leaves_when_nobody_uses_it(
    photos, folder, index, monkeypatch
):
    closed, inside, go_on = [], threading.Event(), threading.Event()
    monkeypatch.setattr(Exact, "close", lambda self: closed.append(self))
    search, first = Exact.search, index._open_state.backend

    def slow(self, queries, k):
        if self is first:
            inside.set()
            assert go_on.wait(10)
            assert first not in closed
        return search(self, queries, k)

    monkeypatch.setattr(Exact, "search", slow)
    found = []
    thread = threading.Thread(
        target=lambda: found.extend(index.search(photos / "7.png", k=3))
    )
    thread.start()
    assert inside.wait(10)
    Image.new("RGB", (16, 16), "red").save(photos / "red.png")
    build([photos], folder, FakeEmbedder(), progress=False)
    assert index.reload() and closed == []
    go_on.set()
    thread.join(10)
    assert len(found) == 3 and closed == [first]
    second = index._open_state.backend
    (photos / "red.png").unlink()
    build([photos], folder, FakeEmbedder(), progress=False)
    assert index.reload() and closed == [first, second]


def test_a_model_is_found_after_it_moved_with_its_index(tiny_folder, tmp_path):
    from sbir_jax.search.model import open_model

    home, photos = tmp_path / "home", tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (32, 32), "red").save(photos / "red.png")
    shutil.copytree(tiny_folder, home / "model")
    embedder = open_model(str(home / "model"), batch_size=1)
    build([photos], home / "index", embedder, progress=False)
    home.rename(tmp_path / "away")
    with Index.open(tmp_path / "away" / "index") as index:
        assert index.embedder.fingerprint == embedder.fingerprint
        assert "relative" not in index.info()["embedder"]
    (tmp_path / "away" / "model").rename(tmp_path / "model")
    with Index.open(tmp_path / "away" / "index") as index:
        with pytest.raises(FileNotFoundError, match=r"home/model.*--model"):
            index.search(photos / "red.png", prepare=False)
    model = str(tmp_path / "model")
    with Index.open(tmp_path / "away" / "index", model=model) as index:
        (hit,) = index.search(photos / "red.png", k=1, prepare=False)
        assert hit.path == str(photos / "red.png")
    with Index.open(tmp_path / "away" / "index", model="toybox") as index:
        with pytest.raises(ValueError, match="fingerprint"):
            index.search(photos / "red.png", prepare=False)


def test_no_such_backend(folder):
    for name in ("annoy", "milvus", "milvus:", "faiss:x"):
        with pytest.raises(ValueError, match=f"backend is '{name}'"):
            Index.open(folder, backend=name)


def test_a_backend_that_is_not_installed_names_its_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, "sbir_jax.search.faiss_backend", raising=False)
    monkeypatch.delattr("sbir_jax.search.faiss_backend", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'sbir_jax\[faiss\]'"):
        Index.open(folder, backend="faiss")


def test_faiss_keeps_its_graph_beside_the_shards(photos, folder):
    faiss_backend = pytest.importorskip("sbir_jax.search.faiss_backend")
    embedder = FakeEmbedder()
    with Index.open(folder, embedder) as exact:
        wanted = exact.search(photos / "7.png", k=31, fold=False)
    with Index.open(folder, embedder, backend="faiss") as index:
        hits = index.search(photos / "7.png", k=31, fold=False)
        assert [h[:2] for h in hits] == [h[:2] for h in wanted]
        np.testing.assert_allclose(
            [h.score for h in hits], [h.score for h in wanted], atol=1e-5
        )
        graph, checksum = sorted((folder / "faiss").iterdir())
        assert checksum.name == f"{graph.name}.sum"
        assert faiss_backend.faiss.read_index(str(graph)).ntotal == 31
        # It is filled up, not made again, when the index has grown.
        Image.new("RGB", (16, 16), "red").save(photos / "red.png")
        (photos / "5.png").unlink()
        build([photos], folder, embedder, progress=False)
        made = faiss_backend.Hnsw.add
        added = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                faiss_backend.Hnsw,
                "add",
                lambda self, start, x: (
                    added.append((start, len(x))),
                    made(self, start, x),
                )[1],
            )
            assert index.reload()
        assert added == [(31, 1)]
        hits = index.search(photos / "7.png", k=99, fold=False)
        assert len(hits) == 31 and str(photos / "5.png") not in {h.path for h in hits}
    # Damaged, it is made again: cut, or changed where faiss would not see it.
    whole = bytearray(graph.read_bytes())
    flipped = whole[:-400] + bytes(400)
    for content in (whole[:100], flipped):
        graph.write_bytes(content)
        with Index.open(folder, embedder, backend="faiss") as index:
            assert [
                hit[:2] for hit in index.search(photos / "7.png", k=99, fold=False)
            ] == [hit[:2] for hit in hits]
        assert faiss_backend.faiss.read_index(str(graph)).ntotal == 32
    assert bytearray(graph.read_bytes())[-400:] != bytes(400)
    checksum.unlink()
    with Index.open(folder, embedder, backend="faiss") as index:
        assert len(index.search(photos / "7.png", k=99, fold=False)) == 31
    # Sound, it is not made again.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faiss_backend.Hnsw, "save", lambda *_: pytest.fail())
        Index.open(folder, embedder, backend="faiss").close()


def test_a_drawing_in_memory_needs_no_file(index, photos):
    stream = io.BytesIO()
    Image.open(photos / "7.png").save(stream, format="BMP")
    assert index.search(stream.getvalue(), k=1)[0].path == str(photos / "7.png")


def test_milvus_is_filled_from_the_shards(photos, folder, tmp_path):
    pytest.importorskip("pymilvus")
    backend, embedder = f"milvus:{tmp_path / 'photos.db'}", FakeEmbedder()
    with Index.open(folder, embedder) as exact:
        wanted = exact.search(photos / "7.png", k=31, fold=False)
    with Index.open(folder, embedder, backend) as index:
        hits = index.search(photos / "7.png", k=31, fold=False)
        assert [h[:2] for h in hits] == [h[:2] for h in wanted]
        Image.new("RGB", (16, 16), "red").save(photos / "red.png")
        (photos / "5.png").unlink()
        build([photos], folder, embedder, progress=False)
        assert index.reload()
        found = {hit.path for hit in index.search(photos / "7.png", k=99, fold=False)}
    assert found == {str(path) for path in photos.iterdir()}
