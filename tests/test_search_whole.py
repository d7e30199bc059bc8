"""Server, index and the real small model together: what the page gets for a drawing is
what the model itself says of the photos."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")

from fastapi.testclient import TestClient

from sbir_jax.embedder import Embedder
from sbir_jax.search import server
from sbir_jax.search.build import build
from sbir_jax.search.index import Index


def shape(corners, fill, outline=None, back="white"):
    picture = Image.new("RGB", (96, 96), back)
    ImageDraw.Draw(picture).regular_polygon(
        (48, 48, 36), corners, fill=fill, outline=outline
    )
    return picture


def png(picture):
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


def test_the_page_gets_what_the_model_says(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    colours = ("red", "blue", "green", "orange", "purple")
    for corners, colour in enumerate(colours, start=3):
        shape(corners, colour, back="grey").save(photos / f"{colour}.png")
    paths = sorted(photos.iterdir())
    drawing = png(shape(4, None, "black"))
    embedder = Embedder.from_pretrained("toybox", batch_size=1)
    build([photos], tmp_path / "index", embedder, progress=False)

    with Index.open(tmp_path / "index") as index:  # makes its model again
        client = TestClient(server.make_app(index), "http://localhost")
        files = {"image": ("d.png", drawing, "image/png")}
        answer = client.post("/api/search", files=files, data={"k": 5})
        assert answer.status_code == 200, answer.text
        hits = answer.json()["hits"]
        photo = client.get(hits[0]["photo"])
        alike = client.get(f"/api/similar/{hits[0]['id']}?k=2").json()["hits"]
        small = client.get(hits[0]["thumbnail"])
        broken = {"image": ("d.png", drawing[:50], "image/png")}
        refused = client.post("/api/search", files=broken)

    wanted = embedder.embed(paths, "photo")
    query = embedder.embed([drawing], "sketch", prepare=True)  # as the page does
    scores = (query @ wanted.T)[0]
    best = np.argsort(-scores)
    assert [hit["name"] for hit in hits] == [paths[i].name for i in best]
    found = [hit["score"] for hit in hits]
    np.testing.assert_allclose(found, scores[best], atol=2e-3)  # float16 in the index
    assert np.ptp(scores) > 0.01  # the model tells them apart
    first = paths[best[0]]
    assert photo.content == first.read_bytes()
    assert Image.open(io.BytesIO(small.content)).format == "JPEG"
    nearest = wanted @ wanted[best[0]]
    nearest[best[0]] = -1
    assert alike[0]["name"] == paths[int(nearest.argmax())].name
    assert 400 <= refused.status_code < 500 and str(tmp_path) not in refused.text
