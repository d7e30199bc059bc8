"""Drawings as people hand them over, and what becomes of them."""

import base64
import json
import pathlib
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from scipy import stats

from sbir_jax.data import BadImage, images, svg, vector
from sbir_jax.data.sketch_preparation import NoInk, line_width, prepare
from tools.bench_drawings import cost, photographed, row, scored, variants

SIZE = 64  # what a small network sees


def chair(side=256, width=6):
    sheet = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(sheet)
    line = [(70, 30), (75, 225), (75, 140), (180, 140), (185, 228)]
    scaled = [(x * side / 256, y * side / 256) for x, y in line]
    pen.line(scaled, fill=0, width=width, joint="curve")
    return np.repeat(np.asarray(sheet)[..., None], 3, -1)


def seen(picture):
    return images.decode(picture, SIZE, "pad").astype(float).mean(-1)


def shift_free(picture):
    """The ink's box of a prepared drawing, as it would look alone."""
    ink = 255 - picture[..., 0].astype(int)
    rows, columns = (np.flatnonzero((ink > 100).any(axis)) for axis in (1, 0))
    inside = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.asarray(Image.fromarray(inside).resize((SIZE, SIZE), 1)).astype(float)


NAMES = list(variants(chair(), np.random.default_rng(0)))


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_drawing_is_the_same_however_it_is_handed_over(name):
    made = variants(chair(), np.random.default_rng(0))
    plain, other = prepare(made["as drawn"]), prepare(made[name])
    gap = np.abs(shift_free(plain) - shift_free(other)).mean()
    untouched = made[name]
    if not isinstance(untouched, bytes):
        untouched = images.decode(untouched, 512, "pad")
        assert gap < 0.5 * np.abs(shift_free(plain) - seen(untouched)[..., None]).mean()
    assert gap < 16
    assert other.shape == (512, 512, 3) and other[:8].min() > 200


def test_a_clean_large_drawing_stays_where_it_is():
    plain = chair()
    gap = np.abs(seen(prepare(plain)) - seen(plain))
    assert gap.mean() < 3


def test_a_small_drawing_is_enlarged_and_centred():
    sheet = np.full((400, 700, 3), 255, np.uint8)
    sheet[300:340, 600:660] = 0
    ink = prepare(sheet)[..., 0] < 128
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    assert np.ptp(columns) + 1 == pytest.approx(0.8 * 512, abs=12)
    assert columns.mean() == pytest.approx(255.5, abs=4)
    assert rows.mean() == pytest.approx(255.5, abs=4)


def test_thin_lines_become_heavier():
    thin = prepare(chair(1024, width=1))[..., 0] < 128
    assert line_width(thin) >= 4
    thick = chair(512, width=20)
    assert line_width(prepare(thick)[..., 0] < 128) == pytest.approx(20, abs=3)


def blank_paper():
    return photographed(np.zeros((300, 300)), np.random.default_rng(1))


@pytest.mark.parametrize(
    "sheet",
    [
        np.full((64, 64, 3), 255, np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((64, 64, 4), np.uint8),
        np.full((64, 64), 251, np.uint8),
        blank_paper(),
    ],
    ids=["white", "black", "transparent", "grey", "paper"],
)
def test_no_ink_is_said(sheet):
    with pytest.raises(NoInk, match="no ink found"):
        prepare(sheet)


def test_a_dot_is_ink():
    sheet = np.full((512, 512, 3), 255, np.uint8)
    sheet[250:256, 250:256] = 0
    assert (prepare(sheet) < 100).any()


def test_chalk_on_a_board():
    x = np.indices((300, 400))[1]
    board = 0.2 + 0.1 * x / 400 + np.random.default_rng(0).normal(0, 0.015, x.shape)
    board[60:240, 100:108] = board[60:68, 100:300] = 0.8
    found = prepare((255 * np.clip(board, 0, 1)).astype(np.uint8))[..., 0]
    # A corner of two lines, enlarged; the board between them is white.
    ink = found < 128
    assert np.flatnonzero(ink.any(0))[0] == pytest.approx(51, abs=8)
    assert ink[80:430, 50:75].mean() > 0.3 and not ink[120:, 120:].any()


def test_a_photo_stays_a_photo():
    pixels = np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8)
    photo = Image.fromarray(pixels).resize((300, 300), Image.Resampling.BICUBIC)
    wanted = images.decode(photo, 512, "pad").astype(float)
    assert np.abs(prepare(photo) - wanted).mean() < 3


CUP = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100">'
    '<path d="M20 20V80H80V20" fill="none" stroke="black" stroke-width="4"/></svg>'
)
THIN = CUP.replace('stroke-width="4"', 'stroke-width="0.9"')
SCENE = {
    "type": "excalidraw",
    "elements": [
        {"type": "line", "x": 500, "y": -20, "width": 60, "height": 60}
        | {"points": [[0, 0], [0, 60], [60, 60], [60, 0]]},
        {"type": "text", "x": 0, "y": 0, "width": 9, "height": 9, "text": "a"},
        {"type": "ellipse", "x": 0, "y": 0, "width": 9, "height": 9}
        | {"isDeleted": True},
    ],
}
STROKE = {"word": "cup", "drawing": [[[20, 20, 80, 80], [20, 80, 80, 20]]]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.svg", THIN),
        ("a.excalidraw", json.dumps(SCENE)),
        ("a.ndjson", json.dumps(STROKE) + "\n"),
    ],
)
def test_drawings_without_pixels(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    wanted = shift_free(prepare(THIN.encode()))
    for source in (tmp_path / name, str(tmp_path / name), text.encode()):
        assert np.abs(shift_free(prepare(source)) - wanted).mean() < 22
    # A photo's place takes no drawing, whatever is in it.
    (tmp_path / "photo.png").write_text(text)
    with pytest.raises(BadImage, match="not an image file"):
        images.decode(tmp_path / "photo.png")


def element(kind, x, y, width, height, **more):
    """Of a scene, with what a saved one says of it besides."""
    looks = {"strokeColor": "#1e1e1e", "backgroundColor": "transparent", "opacity": 100}
    looks |= {"strokeWidth": 2, "strokeStyle": "solid", "roughness": 1, "seed": 7}
    ties = {"id": kind, "groupIds": [], "frameId": None, "boundElements": None}
    place = {"x": x, "y": y, "width": width, "height": height, "angle": 0}
    return {"type": kind, **ties, **looks, "isDeleted": False, **place, **more}


def scene(*elements):
    head = {"type": "excalidraw", "version": 2, "source": "https://excalidraw.com"}
    app = {"gridSize": None, "viewBackgroundColor": "#ffffff"}
    return {**head, "elements": list(elements), "appState": app, "files": {}}


PEN = {"pressures": [0.2, 0.5, 0.4], "simulatePressure": False}
PEN |= {"points": [[0, 0], [0, 40], [80, 40]], "lastCommittedPoint": [80, 40]}
ARROW = {"points": [[0, 0], [80, 40]], "endArrowhead": "arrow", "startBinding": None}
CIRCLE = [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)]
SQUARE = [(0, 0), (1, 0), (1, 1), (0, 1)]


@pytest.mark.parametrize(
    ("kind", "more", "inked", "bare"),
    [
        ("freedraw", PEN, [(0, 0.5), (0.5, 1)], [(1, 0.5), (0.5, 0), (0.5, 0.5)]),
        ("arrow", ARROW, [(0.25, 0.25), (0.5, 0.5), (1, 1)], [(1, 0), (0, 1)]),
        ("ellipse", {}, CIRCLE, [*SQUARE, (0.5, 0.5)]),
        ("rectangle", {"roundness": {"type": 3}}, CIRCLE + SQUARE, [(0.5, 0.5)]),
        ("diamond", {}, [*CIRCLE, (0.25, 0.25)], [*SQUARE, (0.5, 0.5)]),
    ],
)
def test_every_kind_of_line_of_a_scene_is_drawn(kind, more, inked, bare):
    text = json.dumps(scene(element(kind, -300, 900, 80, 40, **more)), indent=2)
    ink = np.asarray(vector.picture(text.encode()).convert("L")) < 128
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    assert np.ptp(columns) == pytest.approx(2 * np.ptp(rows), rel=0.05)

    def at(place):
        x, y = (
            line[0] + 4 + share * (np.ptp(line) - 8)
            for share, line in zip(place, (columns, rows), strict=True)
        )
        near = ink[round(y) - 8 : round(y) + 9, round(x) - 8 : round(x) + 9]
        return near.any()

    assert [at(place) for place in inked] == [True] * len(inked)
    assert [at(place) for place in bare] == [False] * len(bare)


def test_an_element_of_a_scene_is_turned():
    flat = scene(element("rectangle", 0, 0, 80, 40, angle=np.pi / 2))
    ink = np.asarray(vector.picture(json.dumps(flat).encode()).convert("L")) < 128
    tall, wide = (np.ptp(np.flatnonzero(ink.any(axis))) for axis in (1, 0))
    assert tall == pytest.approx(2 * wide, rel=0.05)


def test_exported_scenes_with_the_scene_inside(tmp_path):
    """As an SVG and as a PNG, which hold their scene beside the picture."""
    held = json.dumps(scene(element("freedraw", 0, 0, 60, 60, **PEN)))
    packed = base64.b64encode(zlib.compress(held.encode() * 200)).decode()
    parts = {"version": "1", "encoding": "bstring", "compressed": True}
    payload = json.dumps({**parts, "encoded": packed})
    svg_text = (
        '<svg version="1.1" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100" '
        'width="100" height="100"><!-- svg-source:excalidraw --><metadata>'
        "<!-- payload-type:application/vnd.excalidraw+json -->"
        "<!-- payload-version:2 -->"
        f"<!-- payload-start -->{packed}<!-- payload-end --></metadata>"
        '<defs><style class="style-fonts">@font-face {font-family: "Virgil"; '
        f'src: url("data:font/woff2;base64,{packed[:64]}");}}</style></defs>'
        '<rect x="0" y="0" width="100" height="100" fill="#ffffff"></rect>'
        '<g stroke-linecap="round"><g transform="translate(20 20) rotate(0 30 30)">'
        '<path d="M0 0 C0 20, 0 40, 0 60 M0 60 L60 60 M60 60 L60 0" stroke="#1e1e1e" '
        'stroke-width="4" fill="none"></path></g></g><mask></mask></svg>'
    )
    (tmp_path / "a.excalidraw.svg").write_text(svg_text)
    info = PngInfo()
    info.add_text("application/vnd.excalidraw+json", payload)
    rendered = Image.fromarray(images.decode(CUP.encode(), 400))
    rendered.save(tmp_path / "a.excalidraw.png", pnginfo=info)
    wanted = shift_free(prepare(CUP.encode()))
    for name in ("a.excalidraw.svg", "a.excalidraw.png"):
        gap = np.abs(shift_free(prepare(tmp_path / name)) - wanted).mean()
        assert gap < 16, name


def test_a_file_of_many_drawings_says_how_to_take_one(tmp_path, monkeypatch):
    """Published files hold a class, a drawing a line, and more bytes than one may."""
    monkeypatch.setattr(vector, "MAX_BYTES", 2_000)
    (tmp_path / "cup.ndjson").write_text((json.dumps(STROKE) + "\n") * 99)
    with pytest.raises(BadImage, match=r"--additional-suffix=\.ndjson"):
        prepare(tmp_path / "cup.ndjson")
    (tmp_path / "one.ndjson").write_text(json.dumps({**STROKE, "more": "x" * 3_000}))
    with pytest.raises(BadImage, match="more than 0 MB; save it as a PNG"):
        prepare(tmp_path / "one.ndjson")


def test_an_svg_reads_no_other_file(tmp_path):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "secret.png")
    svg = CUP.replace(
        "<path",
        f'<image href="{tmp_path}/secret.png" width="100" height="100"/>'
        f'<rect width="9" height="9" fill="url({tmp_path}/secret.png)"/><path',
    )
    colours = images.decode(svg.encode()).reshape(-1, 3)
    assert not ((colours[:, 0] > 200) & (colours[:, 1] < 50)).any()


NESTED = "".join(
    f'<g id="a{i}">{f"""<use href="#a{i - 1}"/>""" * 10}</g>' for i in range(1, 9)
)


@pytest.mark.parametrize(
    "text",
    [
        CUP.replace("0 0 100 100", "0 0 1 100000000"),
        CUP.replace("<path", '<g id="a0"><rect width="1" height="1"/></g>' + NESTED),
    ],
    ids=["a long canvas", "uses of uses"],
)
def test_an_svg_takes_no_more_than_its_share(text):
    # Rendered as it stands, the first ends the process, the second takes all memory.
    picture = vector.picture(text.replace("<path", "<path").encode())
    assert picture is not None and picture.size == (1024, 1024)


FULL = '<rect width="100" height="100"/>'
DASHES = '<path d="M0 0L100 100L0 100" stroke="black" stroke-dasharray="1e-4"/>'


@pytest.mark.parametrize(
    "body",
    [
        '<g opacity="0.9">' * 150 + FULL + "</g>" * 150,
        DASHES * 2000,
        f'<g opacity="0.5">{FULL}{FULL}</g>' * 3000,
    ],
    ids=["deep opacity", "dashes", "many opacities"],
)
def test_an_svg_that_takes_for_ever_is_refused(body, monkeypatch):
    monkeypatch.setattr(svg, "SECONDS", 1)
    with pytest.raises(BadImage, match="takes more than 1 s or 1,000 MB"):
        prepare(CUP.replace("<path", body + "<path").encode())


def test_an_svg_that_takes_all_memory_is_refused(monkeypatch):
    monkeypatch.setattr(svg, "BYTES", 60_000_000)
    blend = '<g style="mix-blend-mode:multiply;isolation:isolate">'
    with pytest.raises(BadImage, match="more than 5 s or 60 MB"):
        prepare(CUP.replace("<path", blend * 99 + FULL + "</g>" * 99).encode())


def test_no_encoding_hides_entities():
    tag = b"<svg".decode("utf-16-le")  # two other letters, by which it is taken for one
    text = f'<!DOCTYPE x [<!ENTITY a "b">]><!--{tag}-->{CUP}'
    with pytest.raises(BadImage, match="entities"):
        prepare(text.encode("utf-16-le"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<svg/>", "without a viewBox"),
        (CUP[:-8], "not well-formed"),
        (CUP.replace("<path", "<g>" * 300 + "<path"), "not well-formed"),
        (CUP.replace("<path", "<g>" * 300 + "</g>" * 300 + "<path"), "200 deep"),
        ('<!DOCTYPE x [<!ENTITY a "b">]>' + CUP, "entities"),
        ('{"drawing": []}', "without a single stroke"),
        ('{"drawing": [[[1, 2], [1]]]}', "2 places across and 1 down"),
        ('{"drawing": [[[1e999, 2], [1, 2]]]}', "no numbers"),
        ('{"drawing": [[[1e300, 2], [1, -1e300]]]}', "no numbers"),
        (f'{{"drawing": [[[1{"0" * 400}, 2], [1, 2]]]}}', "strokes are not as they"),
        ('{"drawing": [3]}', "strokes are not as they should be"),
        ('{"name": "x"}', "JSON that is no drawing"),
        (json.dumps(STROKE) + "\n" + json.dumps(STROKE), "more than one drawing"),
        ("{" * 99, "cannot be read"),
    ],
)
def test_bad_drawings_say_why(text, reason):
    with pytest.raises(BadImage, match=reason):
        prepare(text.encode())


def test_a_folder_of_sketches_holds_drawings(tmp_path):
    from sbir_jax.data.tree import read_tree

    for kind, name in (("sketch", "a.svg"), ("photo", "a.svg"), ("photo", "a.png")):
        path = tmp_path / kind / "cup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CUP)
    tree = read_tree(tmp_path, [tmp_path / "sketch"], [tmp_path / "photo"])
    assert [pathlib.Path(f.path).name for f in tree.sketches] == ["a.svg"]
    assert [pathlib.Path(f.path).name for f in tree.photos] == ["a.png"]
    content = images.checked_bytes(tree.sketches[0].path)
    assert images.decode(content).min() < 50


class Turned:
    """Finds each drawing's own photo, or the next one where drawings are prepared."""

    def embed(self, sketches, modality, *, prepare):
        return np.roll(np.eye(4)[sketches], prepare, axis=1)


def test_what_preparation_costs_clean_drawings():
    right = np.eye(4, dtype=bool) | np.eye(4, k=1, dtype=bool)  # two photos a drawing
    found = scored(Turned(), [0, 1, 2], np.eye(4), right[:3], np.arange(3))
    # As they are: its own first. Prepared: the other of its class first.
    assert row("as drawn", found) == "| as drawn | 0.861 (1.000) | 0.889 (0.000) |"
    change = found[1] - found[0]
    assert f"Acc@1 {-1:+.4f} (standard error 0.0000)" in cost(found)
    assert f"mAP@all {change[0].mean():+.4f}" in cost(found)
    assert f"(standard error {stats.sem(change[0]):.4f})" in cost(found)


def test_every_case_comes_out_like_its_plain_drawing(sbir_data):
    folder = sbir_data.parent / "cases" / "drawings"
    if not folder.is_dir():
        pytest.skip("no cases here")
    for drawing in sorted(folder.iterdir()):
        plain = shift_free(prepare(drawing / "plain.png"))
        for path in drawing.iterdir():
            gap = np.abs(shift_free(prepare(path)) - plain).mean()
            assert gap < 16, path
