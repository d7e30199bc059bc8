import asyncio
import base64
import contextlib
import io
import json
import os
import socket
import struct
import threading
import time
import types
import urllib.parse
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")

import uvicorn
from fake_search import FakeIndex, fake_explain
from fastapi.testclient import TestClient

from sbir_jax.search import api, connections, guard, photo_files, server
from sbir_jax.search import following as following_lib
from sbir_jax.search.gate import Gate
from sbir_jax.search.opened import UnknownPhoto
from sbir_jax.search.photo_files import Pictures, Reader

HERE = "http://localhost"


def drawing(x=16, y=16, form="PNG"):
    """A dot on white, its centre in pixels of 64."""
    sheet = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(sheet).ellipse((x - 4, y - 4, x + 4, y + 4), fill="black")
    out = io.BytesIO()
    sheet.save(out, form)
    return out.getvalue()


def coded(data):
    return base64.b64encode(data).decode()


# Where the ink is decides what is found, so it is not moved.
GOOD = {"image": coded(drawing()), "prepare": False}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return FakeIndex(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def client(index):
    app = server.make_app(index)
    return TestClient(app, base_url=HERE, raise_server_exceptions=False)


def test_masks_have_a_colour_for_each_word(client):
    found = client.post("/api/search", json={**GOOD, "k": 1}).json()["hits"][0]
    asked = {"id": found["id"], "text": "mug, red chair,,sofa"}
    answer = client.post("/api/masks", json=asked).json()
    assert [word["word"] for word in answer["words"]] == ["mug", "red chair", "sofa"]
    assert [word["share"] for word in answer["words"]] == [0.5, 0.5, 0.0]
    assert len({word["colour"] for word in answer["words"]}) == 3
    content = base64.b64decode(answer["photo"].partition(",")[2])
    picture = np.asarray(Image.open(io.BytesIO(content)))
    assert picture.shape == (60, 90, 3)
    plain = np.asarray(Image.open(found["path"]).convert("RGB"))
    assert (picture != plain).any(-1).mean() > 0.9
    unknown = client.post("/api/masks", json={"id": "0" * 16, "text": "mug"})
    refused(unknown, 404, "no photo of this index")
    refused(client.post("/api/masks", json={**asked, "text": " , "}), 400, "of words")
    refused(client.post("/api/masks", json={**asked, "text": ""}), 422, "text")


def names(answer):
    assert answer.status_code == 200, answer.text
    return [hit["name"] for hit in answer.json()["hits"]]


def refused(answer, status, words):
    """A refusal says what, rule and remedy."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"what", "rule", "remedy"}
    assert words in f"{error['what']}. {error['rule']}. {error['remedy']}"


def works(client):
    asked = {**GOOD, "k": 3}
    assert names(client.post("/api/search", json=asked))[0] == "photo07.png"


def test_search_as_json_as_data_url_and_as_form(client):
    expected = ["photo07.png", "photo06.png", "photo01.png"]
    image = coded(drawing(15.5, 15.5))
    for given in (image, f"data:image/png;base64,{image}"):
        asked = {"image": given, "k": 3, "prepare": False}
        found = client.post("/api/search", json=asked)
        assert sorted(names(found)[1:]) == sorted(expected[1:])
        assert names(found)[0] == expected[0]
    files = {"image": ("d.jpg", drawing(48, 48, "JPEG"), "image/jpeg")}
    form = {"prepare": "false"}
    found = client.post("/api/search", files=files, data=form)
    assert names(found)[0] == "photo28.png"
    form = {**form, "text": "far", "k": "2", "min_score": ""}
    far = client.post("/api/search", files=files, data=form)
    assert names(far)[0] == "photo00.png" and len(names(far)) == 2


def test_a_form_may_name_every_field_and_no_more(client, index):
    named = api.SearchQuestion(text="a red cup").model_dump()
    form = {k: str(v) for k, v in named.items() if v is not None}
    form |= {"min_score": "-1", "folder": "", "rerank": "0", "rerank_text": "0"}
    assert len(form) == len(api.SearchQuestion.model_fields) - 1  # image is a file
    files = {"image": ("cup.png", drawing(), "image/png")}
    assert client.post("/api/search", files=files, data=form).status_code == 200
    more = form | {f"more{i}": "1" for i in range(9)}
    refused(client.post("/api/search", files=files, data=more), 400, "fields")


def test_words_re_order_the_first_photos(client, index):
    asked = {"text": "far", "k": 3}
    names(client.post("/api/search", json={**asked, "rerank_text": 12}))
    assert index.reranked == 12
    names(client.post("/api/search", json=asked))
    assert index.reranked == 0
    drawn = {"image": coded(drawing()), "rerank_text": 5}
    refused(client.post("/api/search", json=drawn), 400, "words re-order photos")
    more = client.post("/api/search", json={**asked, "rerank_text": 201})
    refused(more, 422, "rerank_text is 201")


def test_a_re_ranker_puts_the_first_photos_in_a_new_order(client, index):
    asked = {**GOOD, "k": 3, "rerank": 12}
    refused(client.post("/api/search", json=asked), 400, "--rerank RUN")
    index.reranker = types.SimpleNamespace(size=64)
    assert client.get("/api/info").json()["reranker"] is True
    names(client.post("/api/search", json=asked))
    assert index.closer == 12
    words = {"text": "far", "rerank": 5}
    refused(client.post("/api/search", json=words), 400, "rerank without a drawing")


def test_a_drawing_is_imagined(client, index):
    assert client.get("/api/info").json()["imaginer"] is True
    index.imagined.clear()
    asked = {"image": coded(drawing()), "text": "a mug", "seed": 5}
    answer = client.post("/api/imagine", json=asked)
    assert answer.status_code == 200, answer.text
    pictures = answer.json()["pictures"]
    assert len(pictures) == 4
    for i, url in enumerate(pictures):
        kind, _, data = url.partition(",")
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert kind == "data:image/png;base64" and picture.size == (64, 64)
        made = index.imagine(None)[i]
        np.testing.assert_array_equal(np.asarray(picture), made)
    seen, *more = index.imagined[0]
    assert more == ["a mug", 5, False]
    # It was prepared before its turn: a dot in a corner fills the sheet.
    assert seen.shape == (512, 512, 3) and seen[256, 256].mean() < 50
    client.post("/api/imagine", json=GOOD)
    assert index.imagined[-1][0].shape == (64, 64, 3)
    assert index.imagined[-1][1:3] == (None, 0)
    form = client.post(
        "/api/imagine", files={"image": ("d.png", drawing(), "image/png")}
    )
    assert len(form.json()["pictures"]) == 4


def test_the_imaginer_is_made_ready_before_the_first_visitor(index, monkeypatch):
    """With words beside the drawing it is another program than without."""
    monkeypatch.setattr(server._Server, "run", lambda self, sockets: None)
    index.imagined.clear()
    server.serve(index, port=0)
    assert [text for _, text, *_ in index.imagined] == [None, "a photo"]
    monkeypatch.setattr(index, "imagines", False)
    server.serve(index, port=0)
    assert len(index.imagined) == 2


def test_what_cannot_be_imagined_is_told(client, index, monkeypatch):
    place = "/api/imagine"
    refused(client.post(place, json={"text": "a mug"}), 400, "the photo of a drawing")
    blank = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(blank, "PNG")
    asked = {"image": coded(blank.getvalue())}
    refused(client.post(place, json=asked), 400, "nothing drawn")
    refused(client.post(place, json={"image": coded(b"?")}), 400, "image: ")
    for name, value in (("seed", -1), ("seed", 2**31), ("text", "x" * 501)):
        refused(client.post(place, json={**GOOD, name: value}), 422, f"{name} is ")
    refused(client.post(place, json={**GOOD, "steps": 9}), 422, "steps is 9")
    made = len(index.imagined)
    monkeypatch.setattr(index, "imagines", False)
    assert client.get("/api/info").json()["imaginer"] is False
    refused(client.post(place, json=GOOD), 400, "--imagine RUN")
    assert len(index.imagined) == made
    closed = TestClient(server.make_app(index, "word"), base_url=HERE)
    assert closed.post(place, json=GOOD).status_code == 401


def test_no_search_waits_for_what_is_imagined(client, index, monkeypatch):
    """And only so many may wait to be imagined."""
    monkeypatch.setattr(server, "IMAGINING", 1)
    client = TestClient(server.make_app(index), base_url=HERE)
    begun, done = threading.Semaphore(0), threading.Event()
    at_once = []

    def slow(*_):
        at_once.append(1)
        begun.release()
        done.wait(30)
        at_once.pop()
        return np.zeros((4, 8, 8, 3), np.uint8)

    monkeypatch.setattr(index, "imagine", slow)
    with client, ThreadPoolExecutor(3) as pool:
        asks = [pool.submit(client.post, "/api/imagine", json=GOOD) for _ in range(3)]
        assert begun.acquire(timeout=30)
        works(client)
        turned_away = next(as_completed(asks, timeout=30))
        refused(turned_away.result(), 503, "1 requests may wait")
        assert at_once == [1]
        done.set()
        codes = [each.result().status_code for each in asks]
        assert sorted(codes) == [200, 200, 503]


def test_a_photo_can_be_searched_with(client, index):
    image = coded(drawing(15.5, 15.5))
    asked = {"image": image, "modality": "photo", "k": 3}
    # It is not prepared: the dot stays in its corner.
    assert names(client.post("/api/search", json=asked))[0] == "photo07.png"
    assert index.modality == "photo" and index.asked.shape == (64, 64, 3)
    names(client.post("/api/search", json=GOOD))
    assert index.modality == "sketch"
    refused(client.post("/api/search", json={**asked, "modality": "film"}), 422, "film")
    closer = client.post("/api/search", json={**asked, "rerank": 3})
    refused(closer, 400, "rerank without a drawing")


def test_a_photo_is_shown_as_the_network_sees_it(client):
    """The middle of a wide one, where a drawing would be padded."""
    wide = Image.new("RGB", (120, 60), "black")
    wide.paste("red", (30, 0, 90, 60))
    out = io.BytesIO()
    wide.save(out, "PNG")
    asked = {"image": coded(out.getvalue()), "show_prepared": True, "prepare": False}
    for modality, all_red in (("photo", True), ("sketch", False)):
        answer = client.post("/api/search", json={**asked, "modality": modality})
        data = answer.json()["prepared"].partition(",")[2]
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        assert (seen[..., 0] > 200).all() == all_red


def test_paths_are_for_this_machine_alone_and_min_score_cuts(client, index):
    asked = {**GOOD, "k": 36, "min_score": 0.8}
    answer = client.post("/api/search", json=asked)
    hits = answer.json()["hits"]
    assert 0 < len(hits) < 36 and min(hit["score"] for hit in hits) >= 0.8
    assert all(hit["path"] == index.paths[hit["id"]] for hit in hits)
    assert {hit["folder"] for hit in hits} == {"left"}
    root = next(iter(index.folders()))
    for app in (server.make_app(index, "word", None), server.make_app(index, "word")):
        headers = {"Authorization": "Bearer word"}
        other = TestClient(app, base_url=HERE, headers=headers)
        answer = other.post("/api/search", json=asked)
        assert names(answer) == [hit["name"] for hit in hits]
        assert root not in answer.text and root not in other.get("/api/folders").text
    none = client.post("/api/search", json={**asked, "min_score": 1})
    assert names(none) == []


def test_hits_tell_how_they_stand_and_their_copies(client):
    first = client.post("/api/search", json={**GOOD, "k": 1}).json()["hits"][0]
    assert first["name"] == "photo07.png" and first["copies"] == 1
    assert first["above"] == pytest.approx(4 * first["score"] - 2, abs=1e-3)


def test_a_drawing_is_prepared_and_can_be_looked_at(client, index):
    asked = {"image": coded(drawing()), "show_prepared": True}
    kind, _, data = (
        client.post("/api/search", json=asked).json()["prepared"].partition(",")
    )
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert kind == "data:image/png;base64" and seen.shape == (64, 64)
    # The dot of 9 pixels in a corner fills the sheet.
    assert (seen < 128).any(0).sum() == pytest.approx(0.8 * 64, abs=3)
    assert index.asked.shape == (512, 512, 3)
    assert client.post("/api/search", json=GOOD).json()["prepared"] is None


def test_nothing_drawn_is_told(client):
    blank = io.BytesIO()
    Image.new("RGB", (64, 64), "white").save(blank, "PNG")
    for place in ("search", "picture"):
        asked = {"image": coded(blank.getvalue())}
        answer = client.post(f"/api/{place}", json=asked)
        refused(answer, 400, "nothing drawn")


def test_a_picture_comes_back_as_a_png(client):
    svg = (
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">'
        b'<path d="M1 1H3V3" fill="none" stroke="#fff" stroke-width="0.5"/></svg>'
    )
    files = {"image": ("a.svg", svg, "image/svg+xml")}
    answer = client.post("/api/picture", files=files)
    assert answer.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.size == (512, 512) and picture.convert("L").getextrema()[0] < 50
    raw = client.post("/api/picture", files=files, data={"prepare": "false"})
    assert Image.open(io.BytesIO(raw.content)).mode == "RGBA"


def test_only_one_folder_is_searched(client):
    folders = client.get("/api/folders").json()
    assert folders == [
        {"name": "", "photos": 36},
        {"name": "left", "photos": 18},
        {"name": "right", "photos": 18},
    ]
    asked = {**GOOD, "k": 36, "folder": "right"}
    hits = client.post("/api/search", json=asked).json()["hits"]
    assert len(hits) == 18 and {hit["folder"] for hit in hits} == {"right"}
    like = client.get(f"/api/similar/{hits[0]['id']}?k=36&folder=right").json()["hits"]
    assert {hit["folder"] for hit in like} == {"right"}
    for outside in ("..", "/etc", "left/..", "none"):
        refused(
            client.post("/api/search", json={**GOOD, "folder": outside}), 404, "folder"
        )


def test_how_far_the_first_words_are(client, index, monkeypatch):
    def stage():
        return client.get("/api/words").json()["stage"]

    assert stage() == ""
    seen = []

    def search(*asks):
        seen.append(stage())
        monkeypatch.setattr(index.embedder, "words_loaded", True, raising=False)
        seen.append(stage())
        return []

    monkeypatch.setattr(index, "search", search)
    client.post("/api/search", json=GOOD)
    assert stage() == ""
    monkeypatch.delattr(index.embedder, "words_loaded")
    client.post("/api/search", json={"text": "a cup"})
    assert seen[2:] == ["loading", "compiling"] and stage() == "ready"


def test_similar_photos_thumbnails_and_files(client, index):
    wanted = next(iter(index.paths))
    found = client.get(f"/api/similar/{wanted}?k=2")
    assert set(names(found)) == {"photo01.png", "photo06.png"}
    hit = found.json()["hits"][0]
    small = client.get(hit["thumbnail"])
    assert small.headers["content-type"] == "image/jpeg"
    assert "max-age" in small.headers["cache-control"]
    assert max(Image.open(io.BytesIO(small.content)).size) <= 320
    whole = client.get(hit["photo"])
    assert whole.content == open(index.paths[hit["id"]], "rb").read()
    assert whole.headers["content-type"] == "image/png"
    assert hit["name"] in whole.headers["content-disposition"]


def test_formats_that_browsers_cannot_show_come_as_jpeg(index, tmp_path):
    tiff = tmp_path / "scan.tif"
    Image.new("RGB", (30, 20), "teal").save(tiff)
    client = TestClient(server.make_app(Gallery(index, tiff)), base_url=HERE)
    answer = client.get("/api/photo/aa")
    assert answer.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(answer.content)).size == (30, 20)


class Gallery:
    """An index with one photo, "aa"."""

    def __init__(self, index, path):
        self.path = path
        names = ("search", "similar", "info", "reload", "folders", "imagine")
        for name in (*names, "embedder", "reranker", "segment"):
            setattr(self, name, getattr(index, name))

    def photo(self, photo_id):
        if photo_id != "aa":
            raise UnknownPhoto("no photo has this id")
        return str(self.path)


def test_photos_that_are_gone_or_damaged_are_told(index, tmp_path):
    damaged = tmp_path / "cup.jpg"
    damaged.write_bytes(drawing(form="JPEG")[:300])
    for path, words in ((tmp_path / "gone.jpg", "no such file"), (damaged, "cup.jpg")):
        app = server.make_app(Gallery(index, path))
        client = TestClient(app, base_url=HERE, raise_server_exceptions=False)
        refused(client.get("/api/thumbnail/aa"), 404, words)
        assert str(tmp_path) not in client.get("/api/thumbnail/aa").text
    refused(client.get("/api/photo/bb"), 404, "no photo of this index has that id")


def test_info_tells_nothing_private(client):
    info = client.get("/api/info").json()
    assert info["photos"] == 36 and "/private" not in str(info)


def test_explain_gives_pictures_and_matches(client, index, monkeypatch):
    monkeypatch.setattr(server, "explain", fake_explain)
    asked = {"image": coded(drawing()), "id": list(index.paths)[3]}
    found = client.post("/api/explain", json=asked).json()
    assert found["matches"] == [
        {
            "sketch": [0.4, 0.4],
            "photo": [0.6, 0.4],
            "similarity": 0.9,
            "colour": "#3346c4",
        }
    ]
    for side in ("sketch", "photo"):
        kind, _, data = found[side].partition(",")
        assert kind == "data:image/png;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).format == "PNG"
    refused(client.post("/api/explain", json={**asked, "id": "0" * 16}), 404, "id")
    alone = {"id": asked["id"]}
    refused(client.post("/api/explain", json=alone), 400, "a drawing's score")


def bomb():
    """A PNG of 1.6 gigapixels in a few kilobytes."""

    def chunk(kind, data):
        code = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + code

    head = struct.pack(">IIBBBBB", 40000, 40000, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes(5001 * 200))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", body)
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "body, status, words",
    [
        ({**GOOD, "k": -1}, 422, "k is -1"),
        ({**GOOD, "k": 201}, 422, "less than or equal to 200"),
        ({**GOOD, "k": "many"}, 422, "k is 'many'"),
        ({**GOOD, "min_score": 7}, 422, "min_score is 7"),
        ({**GOOD, "text": "x" * 501}, 422, "at most 500 characters"),
        ({**GOOD, "text": 3}, 422, "text is 3"),
        ({**GOOD, "path": "/etc/passwd"}, 422, "path is"),
        ({}, 400, "no drawing"),
        ({"text": " "}, 400, "a drawing, words, or both"),
        ({"text": "a cup", "text_weight": 2}, 422, "text_weight is 2"),
        ({"image": ""}, 400, "no drawing"),
        ({"image": "§§§"}, 400, "not base64"),
        ({"image": "abc"}, 400, "not base64"),
        ({"image": coded(b"GIF89a nonsense")}, 400, "image:"),
        ({"image": coded(b"%PDF-1.4")}, 400, "not an image file"),
        ({"image": coded(bomb())}, 400, "so many pixels"),
        ({"image": coded(drawing()[:100])}, 400, "image:"),
        ({"image": coded(bytes(8_000_001))}, 413, "8,000,001 bytes"),
        ([1], 422, "the body"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_questions_are_refused_and_the_next_works(client, body, status, words):
    refused(client.post("/api/search", json=body), status, words)
    works(client)


@pytest.mark.parametrize(
    "content, kind, status",
    [
        (b'{"image": ', "application/json", 422),
        (b"[" * 100_000, "application/json", 422),
        (b'{"k": NaN}', "application/json", 422),
        (b'{"image": "\xff"}', "application/json", 422),
        (b'{"text": "\\ud800"}', "application/json", 422),
        (b"", "application/json", 422),
        (b"image=x", "application/x-www-form-urlencoded", 415),
        (b"no boundary", "multipart/form-data", 400),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", 400),
    ],
)
def test_malformed_bodies_are_refused_and_the_next_works(client, content, kind, status):
    answer = client.post("/api/search", content=content, headers={"Content-Type": kind})
    refused(answer, status, "")
    works(client)


def test_a_hundred_megabytes_are_refused_whatever_the_header_says(client):
    def stream():
        for _ in range(100):
            yield bytes(1_000_000)

    files = {"image": ("big.png", bytes(100_000_000), "image/png")}
    refused(client.post("/api/search", files=files), 413, "at most 12,000,000 bytes")
    headers = {"Content-Type": "application/json"}
    answer = client.post("/api/search", content=stream(), headers=headers)
    refused(answer, 413, "at most 12,000,000 bytes")
    works(client)


@pytest.mark.parametrize(
    "path",
    [
        "/api/photo/..%2f..%2fetc%2fpasswd",
        "/api/photo/%2e%2e/%2e%2e/etc/passwd",
        "/api/photo//etc/passwd",
        "/api/thumbnail/..%5c..%5cwindows",
        "/api/photo/0123456789abcdef",
        "/api/similar/zz?k=3",
        "/api/similar/00?k=-3",
        "/page/index.html",
        "/../setup.py",
    ],
)
def test_only_ids_of_the_index_are_served(client, path):
    answer = client.get(path)
    assert answer.status_code in (404, 422)
    refused(answer, answer.status_code, "")
    works(client)


def test_every_answer_has_the_security_headers(client, index):
    for answer in (client.get("/"), client.get("/nowhere"), client.post("/")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def test_other_names_and_other_sites_are_refused(client, index):
    refused(client.get("/", headers={"Host": "evil.example:8000"}), 403, "evil.example")
    for host in ("127.0.0.1:8000", "[::1]:8000", "localhost"):
        assert client.get("/", headers={"Host": host}).status_code == 200
    cross = {"Sec-Fetch-Site": "cross-site"}
    refused(client.post("/api/search", json=GOOD, headers=cross), 403, "another site")
    free = TestClient(server.make_app(index, hosts=None), base_url="http://box:8000")
    assert free.get("/api/info").status_code == 200


def test_token_by_header_by_cookie_and_not_otherwise(index):
    app = server.make_app(index, token="päss word")
    client = TestClient(app, base_url=HERE)
    for path in ("/", "/page.js", "/api/info", "/openapi.json", "/?token=wrong"):
        refused(client.get(path), 401, "token")
    for wrong in ("Bearer wrong", "Basic päss word", "Bearer "):
        headers = {"Authorization": wrong.encode()}
        refused(client.get("/api/info", headers=headers), 401, "token")
    headers = {"Authorization": "Bearer plain"}
    plain = TestClient(server.make_app(index, token="plain"), base_url=HERE)
    assert plain.get("/api/info", headers=headers).status_code == 200
    entered = client.get("/", params={"token": "päss word"}, follow_redirects=False)
    assert entered.status_code == 303 and entered.headers["location"] == "/"
    cookie = entered.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert client.get("/api/info").status_code == 200  # the client keeps cookies


def test_rate_limit_refills(index, monkeypatch):
    now = [0.0]
    limit = guard.RateLimit(rate=2.0, burst=3, clock=lambda: now[0])
    assert [limit.wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.wait("b") == 0
    now[0] = 0.5
    assert [limit.wait("a"), limit.wait("a")] == [0, 0.5]
    monkeypatch.setattr(guard, "ADDRESSES", 2)
    limit.wait("c")
    assert len(limit._buckets) == 2

    monkeypatch.setattr(guard, "BURST", 2)
    client = TestClient(server.make_app(index), base_url=HERE)
    assert [client.get("/").status_code for _ in range(2)] == [200, 200]
    monkeypatch.setattr(guard, "REQUESTS_PER_SECOND", 0.001)
    slow = TestClient(server.make_app(index), base_url=HERE)
    answers = [slow.get("/") for _ in range(3)]
    refused(answers[2], 429, "too many requests")
    assert int(answers[2].headers["retry-after"]) > 0


class Caller:
    """A request whose client may have left."""

    def __init__(self, left=False):
        self.left = left

    async def is_disconnected(self):
        return self.left


def test_gate_runs_one_call_at_a_time_and_refuses_when_full():
    running, most, lock = [0], [0], threading.Lock()
    release = threading.Event()

    def call():
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        release.wait(5)
        with lock:
            running[0] -= 1
        return "done"

    async def main():
        gate = Gate(limit=2)
        tasks = [asyncio.create_task(gate.run(Caller(), call)) for _ in range(3)]
        await asyncio.sleep(0.01)
        with pytest.raises(guard.Refusal, match="busy") as refusal:
            await gate.run(Caller(), call)
        assert refusal.value.status == 503 and refusal.value.headers["Retry-After"]
        release.set()
        assert await asyncio.gather(*tasks) == ["done"] * 3
        with pytest.raises(guard.Refusal, match="left"):
            await gate.run(Caller(left=True), lambda: pytest.fail("was run"))
        assert await gate.run(Caller(), lambda: 1) == 1

    asyncio.run(main())
    assert most == [1]


def test_thumbnails_are_kept_up_to_a_limit(tmp_path):
    rng, paths = np.random.default_rng(0), []
    for i in range(3):
        paths.append(tmp_path / f"{i}.png")
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(paths[-1])

    async def main():
        one = len(await Pictures(10**9, Reader()).thumbnail("x", paths[0]))
        kept = Pictures(int(2.5 * one), Reader())
        for i, path in enumerate(paths):
            await kept.thumbnail(str(i), path)
            path.unlink()
        assert kept.bytes <= 2.5 * one
        assert await kept.thumbnail("2", paths[2]) and await kept.thumbnail(
            "1", paths[1]
        )
        with pytest.raises(ValueError, match="no such file"):
            await kept.thumbnail("0", paths[0])

    asyncio.run(main())


def test_equal_requests_share_one_decode(tmp_path, monkeypatch):
    path, made = tmp_path / "a.png", []
    Image.new("RGB", (40, 40), "teal").save(path)

    def slow(path):
        made.append(path)
        time.sleep(0.1)
        if len(made) == 1:
            raise ValueError("once")
        return b"jpeg"

    monkeypatch.setattr(photo_files, "_thumbnail", slow)

    async def main():
        kept = Pictures(10**6, Reader())
        for wanted in (ValueError, bytes):  # a failure is shared, and not kept
            asked = [kept.thumbnail("a", path) for _ in range(9)]
            found = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(one, wanted) for one in found)
        assert len(made) == 2

    asyncio.run(main())


def test_a_tiff_is_made_a_jpeg_once(index, tmp_path, monkeypatch):
    path, made, make = tmp_path / "a.tif", [], photo_files._as_jpeg
    Image.new("RGB", (40, 30), "teal").save(path)

    def counted(path):
        made.append(path)
        return make(path)

    monkeypatch.setattr(photo_files, "_as_jpeg", counted)
    app = server.make_app(Gallery(index, path))
    with TestClient(app, base_url=HERE) as client, ThreadPoolExecutor(9) as pool:
        answers = list(pool.map(client.get, ["/api/photo/aa"] * 9))
    assert {answer.headers["Content-Type"] for answer in answers} == {"image/jpeg"}
    assert Image.open(io.BytesIO(answers[0].content)).size == (40, 30)
    assert len(made) == 1


def test_a_disk_that_hangs_for_ever_has_few_threads():
    release = threading.Event()

    async def main():
        reader, before = Reader(2, 0.05), threading.active_count()
        for _ in range(6):
            with pytest.raises(guard.Refusal, match="did not answer"):
                await reader.run(release.wait, 30)
        assert threading.active_count() == before + 2
        begin = time.monotonic()
        for _ in range(40):  # refused without waiting
            with pytest.raises(guard.Refusal):
                await reader.run(lambda: 1)
        assert time.monotonic() - begin < 1
        release.set()
        while threading.active_count() > before:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        assert await reader.run(lambda: 1) == 1

    try:
        asyncio.run(main())
    finally:
        release.set()


def test_a_disk_that_hangs_midway_holds_up_nobody(tmp_path):
    (tmp_path / "a.png").write_bytes(b"content")
    file, size = photo_files._open(tmp_path / "a.png")
    with file:
        assert isinstance(file, io.FileIO) and size == 7
    ends = os.pipe()  # nobody writes

    async def main():
        parts = photo_files._parts(io.FileIO(ends[0]), 10, Reader(1, 0.05))
        with pytest.raises(guard.Refusal):
            await anext(parts)

    try:
        asyncio.run(main())
    finally:
        os.close(ends[1])


def test_what_is_decoded_has_been_read_before(tmp_path, monkeypatch):
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "a.png")
    decode = photo_files.images.decode

    def decoded(source, *args):
        assert not isinstance(source, str | os.PathLike)
        return decode(source, *args)

    monkeypatch.setattr(photo_files.images, "decode", decoded)
    assert photo_files.pixels(tmp_path / "a.png", 16).shape == (16, 16, 3)


def test_a_hung_disk_is_told_and_blocks_only_photos(index, tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(photo_files, "opened", lambda path: release.wait(20))
    monkeypatch.setattr(photo_files, "_thumbnail", lambda path: release.wait(20))
    monkeypatch.setattr(photo_files, "SECONDS", 0.3)
    monkeypatch.setattr(server, "Reader", lambda: Reader(2, 0.3))
    with TestClient(server.make_app(index), base_url=HERE) as client:
        try:
            asked = [f"/api/{kind}/{id}" for id in index.paths for kind in KINDS][:45]
            with ThreadPoolExecutor(45) as pool:
                answers = pool.map(client.get, asked)
                works(client)
                for answer in answers:
                    refused(answer, 504, "did not answer")
        finally:
            release.set()


KINDS = ("photo", "thumbnail")


def test_what_stands_in_a_photos_place_is_told_without_its_path(index, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "text.jpg").write_text("hello")
    for name in ("pipe.jpg", "folder.jpg", "text.jpg", "none.jpg"):
        app = server.make_app(Gallery(index, tmp_path / name))
        client = TestClient(app, base_url=HERE, raise_server_exceptions=False)
        for kind in KINDS:
            answer = client.get(f"/api/{kind}/aa")
            refused(answer, 404, name)
            assert str(tmp_path) not in answer.text and "Errno" not in answer.text
        asked = {"image": coded(drawing()), "id": "aa"}
        refused(client.post("/api/explain", json=asked), 404, name)


def test_a_key_error_of_a_bug_is_no_unknown_photo(index, monkeypatch):
    monkeypatch.setattr(index, "similar", lambda *_: {}["a bug"])
    app = server.make_app(index)
    client = TestClient(app, base_url=HERE, raise_server_exceptions=False)
    wanted = next(iter(index.paths))
    refused(client.get(f"/api/similar/{wanted}"), 500, "the server failed")


def test_the_index_is_followed_while_the_server_runs(index, monkeypatch, capsys):
    looks = []

    def reload():
        looks.append(1)
        if len(looks) < 4:
            raise OSError("the disk \x1b[31m is away")
        return True

    monkeypatch.setattr(index, "reload", reload)
    monkeypatch.setattr(following_lib, "SECONDS", 0.01)

    async def main():
        async with following_lib.following(index, 0.01):
            while len(looks) < 8:
                await asyncio.sleep(0.01)
        seen = len(looks)
        await asyncio.sleep(0.05)
        assert len(looks) == seen

    asyncio.run(main())
    told = capsys.readouterr().err
    assert told.count("the disk \\x1b[31m is away") == 1  # once
    looks.clear()
    monkeypatch.setattr(
        server, "following", lambda index: following_lib.following(index, 0.01)
    )
    with TestClient(server.make_app(index), base_url=HERE) as client:
        works(client)
        time.sleep(0.1)
    assert looks


def test_large_bodies_together_are_bounded(index, monkeypatch):
    monkeypatch.setattr(guard, "ARRIVING", 300_000)
    monkeypatch.setattr(guard, "SMALL_BODY", 1_000)
    client = TestClient(server.make_app(index), base_url=HERE)
    asked = {"image": coded(drawing()) + " " * 400_000}
    refused(client.post("/api/search", json=asked), 503, "too many large pictures")
    for _ in range(4):  # what is done does not count any more
        client.post("/api/search", json={"image": coded(drawing()) + " " * 200_000})
        works(client)


def test_a_server_error_shows_no_trace(index, monkeypatch):
    monkeypatch.setattr(index, "info", lambda: 1 / 0)
    app = server.make_app(index)
    client = TestClient(app, base_url=HERE, raise_server_exceptions=False)
    answer = client.get("/api/info")
    refused(answer, 500, "the server failed")
    assert "division" not in answer.text


def test_openapi_describes_json_and_form(client):
    paths = client.get("/openapi.json").json()["paths"]
    kinds = paths["/api/search"]["post"]["requestBody"]["content"]
    assert set(kinds) == {"application/json", "multipart/form-data"}
    form = kinds["multipart/form-data"]["schema"]["properties"]["image"]
    assert form["format"] == "binary"
    fields = {"image", "text", "text_weight", "k", "min_score", "folder", "fold"}
    fields |= {"prepare", "show_prepared", "rerank_text", "rerank", "modality"}
    assert fields == set(kinds["application/json"]["schema"]["properties"])
    assert "/api/imagine" in paths
    scripts = ("/page.js", "/docs.js", "/sheet.js", "/imagined.js")
    for page in ("/", "/docs", "/page.css", *scripts):
        text = client.get(page).text
        assert "https://" not in text
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_beyond_this_machine_a_token_is_made_up(index, monkeypatch, capsys):
    for host, token, expected in (
        ("127.0.0.1", None, False),
        ("0.0.0.0", None, True),
        ("0.0.0.0", "", False),
        ("127.0.0.1", "word", True),
    ):
        printed = {}

        def run(self, sockets, printed=printed):
            printed["place"] = self.place

        monkeypatch.setattr(server._Server, "run", run)
        server.serve(index, host, 0, token)
        shown = capsys.readouterr()
        assert ("?token=" in printed["place"]) == expected
        # Whoever lets everybody in is told.
        assert ("warning: anybody" in shown.err) == (token == "")


@pytest.mark.parametrize("token", ["a&b=c#d e?/%+", "größer 猫", "'\"<>;,", " blank "])
def test_a_token_may_have_any_characters(index, token):
    with server._listen("127.0.0.1", 0) as listener:
        place = urllib.parse.urlsplit(server.address(listener, token))
    app = server.make_app(index, token, hosts=None)
    client = TestClient(app, base_url=HERE, follow_redirects=False)
    assert client.get("/").status_code == 401
    entered = client.get(f"{place.path}?{place.query}")
    assert entered.status_code == 303 and client.get("/").status_code == 200
    client.cookies.clear()
    head = {"Authorization": b"Bearer " + token.encode()}
    assert client.get("/", headers=head).status_code == 200
    head = {"Authorization": b"Bearer x" + token.encode()}
    assert client.get("/", headers=head).status_code == 401


def test_the_address_is_printed_when_it_listens(index, capsys):
    with running(index) as (served, place):
        assert served.started
        assert f":{place[1]}/" in capsys.readouterr().out
        with urllib.request.urlopen(f"http://127.0.0.1:{place[1]}/") as answer:
            assert answer.status == 200


@contextlib.contextmanager
def running(index):
    """The server as `serve` sets it up, on a thread."""
    servers = []

    def run(self, sockets):
        servers.append(self)
        uvicorn.Server.run(self, sockets=sockets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server._Server, "run", run)
        thread = threading.Thread(
            target=server.serve, args=(index,), kwargs={"port": 0}
        )
        thread.start()
        while not (servers and servers[0].started):
            time.sleep(0.02)
        yield servers[0], servers[0].servers[0].sockets[0].getsockname()
        servers[0].should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def test_slow_clients_are_let_go_and_others_served(index, monkeypatch, capfd):
    for name, seconds in (("HEADER", 0.5), ("BODY", 0.5), ("ANSWER", 0.5)):
        monkeypatch.setattr(connections, f"{name}_SECONDS", seconds)
    with running(index) as (_, place), contextlib.ExitStack() as stack:

        def connect():
            return stack.enter_context(socket.create_connection(place, timeout=5))

        head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\n"
        long = b"Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
        slow = {"idle": b"", "header": head, "body": head + long + b"{"}
        held = {name: connect() for name in slow}
        for name, sent in slow.items():
            held[name].sendall(sent)
        for _ in range(12):
            time.sleep(0.1)
            for name in ("header", "body"):  # a byte now and then buys no time
                with contextlib.suppress(OSError):
                    held[name].sendall(b"x")
        for name, connection in held.items():
            with contextlib.suppress(ConnectionError):
                assert connection.recv(10) == b"", name
        with urllib.request.urlopen(f"http://127.0.0.1:{place[1]}/") as answer:
            assert answer.status == 200
    assert "Traceback" not in capfd.readouterr().err


def test_too_many_connections_make_room_for_new_ones(index, monkeypatch):
    monkeypatch.setattr(connections, "CONNECTIONS_OF_ONE", 20)
    with running(index) as (served, place), contextlib.ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(place, timeout=5))
            for _ in range(60)
        ]
        for _ in range(10):
            with urllib.request.urlopen(f"http://127.0.0.1:{place[1]}/") as answer:
                assert answer.status == 200
        assert len(served.server_state.connections) <= 20
        with contextlib.suppress(ConnectionError):
            assert idle[0].recv(1) == b""  # the first to come is the first to go


def test_a_port_in_use_is_told(index):
    with server._listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port}.*another --port"):
            server.serve(index, port=port)


def test_dropped_connections_leave_the_server_working(index, capfd, caplog):
    body = json.dumps(GOOD).encode()
    head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\n"
    head += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    with running(index) as (_, place):
        for sent in (b"", b"POS", head, head + body[:9], head + body):
            for linger in (0, 1):  # closed, and reset
                with socket.create_connection(place) as connection:
                    connection.sendall(sent)
                    option = struct.pack("ii", linger, 0)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        address = f"http://127.0.0.1:{place[1]}/api/search"
        kind = {"Content-Type": "application/json"}
        request = urllib.request.Request(address, body, kind)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert len(json.load(answer)["hits"]) == 20
    assert "Traceback" not in capfd.readouterr().err
    assert not [record for record in caplog.records if record.exc_info]
