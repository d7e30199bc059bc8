"""The page in a real browser, driven as a person drives it."""

import json
import pathlib
import threading
import time
from importlib import resources

import numpy as np
import pytest
from fake_search import FakeIndex, fake_explain
from PIL import Image

pytest.importorskip("uvicorn")
pytest.importorskip("playwright.sync_api")

from sbir_jax.data.toybox import world
from sbir_jax.search import server
from tools import page_picture
from tools.page_picture import settled

pytestmark = pytest.mark.skipif(
    not page_picture.CHROMIUM, reason="there is no chromium here"
)
# The fake index finds by where the ink is: drawings are searched with as they are.
RAW = "#raw=1"
PATIENCE = 30_000  # ms; a busy machine is slow, and no test measures time


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return FakeIndex(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def address(index):
    """The page over the index without a network, on a free port."""
    patch = pytest.MonkeyPatch()
    patch.setattr(server, "explain", fake_explain)
    with page_picture.serving(index) as found:
        yield found
    patch.undo()


@pytest.fixture(scope="module")
def browser():
    with page_picture.chromium() as found:
        yield found


def open_page(browser, address, raw=True, **options):
    """A fresh visit, with what it asked for and what it complained about."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            page.complaints.append(message.text)
            if message.type in ("error", "warning")
            else None
        ),
    )
    page.goto(f"{address}{RAW}" if raw else address)
    page.wait_for_selector("#examples button")
    return page


@pytest.fixture
def page(browser, address):
    page = open_page(browser, address, viewport={"width": 1280, "height": 860})
    yield page
    page.context.close()
    assert page.complaints == []
    assert [url for url in page.asked if not url.startswith((address, "data:"))] == []


def draw(page, *points):
    """A stroke with the pointer; points in [0, 1] of the sheet."""
    box = page.locator("#canvas").bounding_box()
    for i, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if i == 0:
            page.mouse.down()
    page.mouse.up()


def first(page, name):
    """Waits until `name` is the first photo."""
    page.wait_for_function(
        "name => document.querySelector('#grid li button')?.title === name", arg=name
    )


CORNER = ((0.05, 0.05), (0.12, 0.12), (0.06, 0.1))
OTHER = ((0.9, 0.9), (0.95, 0.95), (0.9, 0.95))


def test_draw_undo_redo_clear(page):
    assert page.locator("#hint").evaluate("e => getComputedStyle(e).opacity") == "1"
    assert page.locator("#grid li").count() == 0
    assert page.locator("#count").inner_text() == "36 photos"
    draw(page, *CORNER)
    first(page, "photo00.png")
    assert page.locator("#grid li").count() == 24
    draw(page, *OTHER)
    page.wait_for_function(
        "() => document.querySelector('#grid li button').title !== 'photo00.png'"
    )
    page.get_by_role("button", name="Undo").click()
    first(page, "photo00.png")
    page.keyboard.press("Control+Shift+Z")
    page.wait_for_function(
        "() => document.querySelector('#grid li button').title !== 'photo00.png'"
    )
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("() => !document.querySelector('#grid li')")
    assert page.locator("#empty").is_visible()
    page.keyboard.press("Control+z")
    page.wait_for_selector("#grid li")


def test_eraser_takes_ink_away(page):
    draw(page, *CORNER)
    first(page, "photo00.png")
    draw(page, *OTHER)
    page.wait_for_function(
        "() => document.querySelector('#grid li button').title !== 'photo00.png'"
    )
    page.keyboard.press("e")
    page.locator("#width").fill("40")
    draw(page, *OTHER)
    first(page, "photo00.png")


def test_words_change_the_ranking_and_find_photos_alone(page, index):
    page.locator("#text").fill("far away")
    settled(page)
    assert page.locator("#grid li").count() == 24
    assert index.asked is None
    page.locator("#grid button").first.click()
    assert page.get_by_role("button", name="Why this photo?").count() == 0
    page.keyboard.press("Escape")
    draw(page, *CORNER)
    first(page, "photo35.png")
    page.locator("#text").fill("")
    first(page, "photo00.png")
    page.get_by_role("button", name="Clear").click()
    page.wait_for_function("() => !document.querySelector('#grid li')")


def test_a_long_name_keeps_its_number(page):
    draw(page, *CORNER)
    first(page, "photo00.png")
    name = page.locator("#grid .name").first
    assert [s.inner_text() for s in name.locator("span").all()] == ["ph", "oto00"]
    assert page.locator("#grid button").first.get_attribute("title") == "photo00.png"


def test_enlarge_walk_explain_and_more_like_this(page):
    draw(page, *CORNER)
    first(page, "photo00.png")
    page.locator("#grid button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#view-name").inner_text() == "photo00.png"
    page.keyboard.press("ArrowRight")
    name = page.locator("#view-name").inner_text()
    assert name != "photo00.png"
    page.wait_for_function("() => document.querySelector('#big').naturalWidth === 90")
    page.get_by_role("button", name="Why this photo?").click()
    page.wait_for_selector("#lines circle")
    assert page.locator("#lines circle").count() == 2
    assert page.locator("#why-photo").evaluate("e => e.naturalWidth") == 384
    box, end = (
        page.locator(selector).bounding_box()
        for selector in ("#why-photo", "#lines circle:last-child")
    )
    assert end["x"] + end["width"] / 2 == pytest.approx(
        box["x"] + 0.6 * box["width"], abs=2
    )
    page.get_by_role("button", name="More like this").click()
    page.wait_for_selector("#back")
    assert page.locator("#title").inner_text() == f"Photos like {name}"
    assert page.locator(f"#grid button[title='{name}']").count() == 0
    page.get_by_role("button", name="Back to your search").click()
    first(page, "photo00.png")


def test_a_click_shows_the_masks_of_the_words(page):
    page.locator("#text").fill("far, away")
    settled(page)
    page.locator("#grid button").first.click()
    page.wait_for_selector("#words li")
    assert page.locator("#words li").all_inner_texts() == ["far", "away"]
    assert page.locator("#big").get_attribute("src").startswith("data:image/png")
    colours = page.locator("#words span").evaluate_all(
        "spans => spans.map(span => span.style.background)"
    )
    assert len(set(colours)) == 2
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#words li")
    button = page.get_by_role("button", name="Where the words are")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert page.locator("#words li").count() == 0
    assert page.locator("#big").get_attribute("src").startswith("/api/photo/")
    page.keyboard.press("Escape")
    page.locator("#text").fill("")
    draw(page, *CORNER)
    first(page, "photo00.png")
    page.locator("#grid button").first.click()
    assert button.is_hidden() and page.locator("#words li").count() == 0


def test_words_order_the_first_photos_when_asked(page, index):
    page.locator("#text").fill("far away")
    settled(page)
    assert index.reranked == 0
    page.locator("#order").check()
    page.wait_for_function("() => location.hash.includes('order=1')")
    settled(page)
    assert index.reranked == 24
    page.reload()
    settled(page)
    assert page.locator("#order").is_checked() and index.reranked == 24


def test_show_more(page):
    draw(page, *CORNER)
    first(page, "photo00.png")
    page.get_by_role("button", name="Show more").click()
    page.wait_for_function("() => document.querySelectorAll('#grid li').length === 36")
    assert page.locator("#more").is_hidden()


def test_a_picture_of_a_drawing(page, tmp_path):
    pixels = np.full((200, 200, 3), 255, np.uint8)
    pixels[170:190, 10:30] = 0
    Image.fromarray(pixels).save(tmp_path / "cup.png")
    page.locator("#file").set_input_files(tmp_path / "cup.png")
    first(page, "photo30.png")
    (tmp_path / "notes.png").write_text("no picture")
    page.locator("#file").set_input_files(tmp_path / "notes.png")
    told(page, "notes.png")
    first(page, "photo30.png")
    expect_complaint(page, "400")


def told(page, text):
    """Waits until the line above the photos says so."""
    page.wait_for_function(
        "text => document.querySelector('#status').textContent.includes(text)",
        arg=text,
    )


def expect_complaint(page, text):
    """The browser itself logs refusals, when it comes to it; all else is a fault."""
    begin = time.monotonic()
    while not page.complaints and time.monotonic() - begin < PATIENCE / 1000:
        page.wait_for_timeout(50)
    assert len(page.complaints) == 1 and text in page.complaints[0]
    page.complaints.clear()


def test_formats_that_a_browser_cannot_read(page, tmp_path):
    (tmp_path / "cup.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">'
        '<rect x="7.7" y="0.3" width="1" height="1"/></svg>'
    )
    page.locator("#file").set_input_files(tmp_path / "cup.svg")
    first(page, "photo05.png")
    page.locator("#clear").click()
    (tmp_path / "a.ndjson").write_text('{"drawing": [[[0, 99], [0, 0]]]}')
    page.locator("#file").set_input_files(tmp_path / "a.ndjson")
    settled(page)
    assert page.locator("#canvas").evaluate("c => c.width") > 0


def test_a_drawing_is_cleaned_and_shown_as_the_model_sees_it(
    browser, address, index, tmp_path
):
    page = open_page(browser, address, raw=False)
    assert page.locator("#seen-picture").is_hidden()
    draw(page, *CORNER)
    settled(page)
    columns = np.flatnonzero((index.asked[..., 0] < 128).any(0))
    assert columns.mean() == pytest.approx(256, abs=20) and len(columns) > 300
    assert page.locator("#seen-picture").evaluate("e => e.naturalWidth") == 64
    page.locator("#tidy").uncheck()
    first(page, "photo00.png")
    assert "raw=1" in page.url
    page.locator("#tidy").check()
    page.locator("#clear").click()
    page.wait_for_function("() => !document.querySelector('#grid li')")
    Image.new("RGB", (99, 99), "black").save(tmp_path / "blank.png")
    page.locator("#file").set_input_files(tmp_path / "blank.png")
    told(page, "Nothing drawn")
    expect_complaint(page, "400")
    page.context.close()


def test_reload_keeps_drawing_words_and_folder(page, tmp_path):
    draw(page, *CORNER)
    first(page, "photo00.png")
    page.locator("#folder").select_option("right")
    first(page, "photo03.png")
    page.locator("#text").fill("far away")
    first(page, "photo35.png")
    page.reload()
    first(page, "photo35.png")
    assert page.locator("#text").input_value() == "far away"
    assert page.locator("#folder").input_value() == "right"
    page.locator("#text").fill("")
    first(page, "photo03.png")
    assert page.locator("#undo").is_enabled()
    # A picture on the sheet is kept, too.
    page.locator("#clear").click()
    Image.new("L", (90, 90), 0).save(tmp_path / "all.png")
    page.locator("#file").set_input_files(tmp_path / "all.png")
    settled(page)
    page.reload()
    settled(page)
    assert page.locator("#grid li").count() == 18


def test_back_returns_from_more_like_this(page):
    draw(page, *CORNER)
    first(page, "photo00.png")
    page.locator("#grid button").nth(3).click()
    name = page.locator("#view-name").inner_text()
    page.get_by_role("button", name="More like this").click()
    page.wait_for_selector("#back")
    page.reload()
    page.wait_for_selector("#back")
    assert page.locator("#title").inner_text() == f"Photos like {name}"
    page.go_back()
    first(page, "photo00.png")
    assert page.locator("#back").is_hidden()
    page.go_forward()
    page.wait_for_selector("#back")
    draw(page, *OTHER)  # another drawing is another question
    page.wait_for_selector("#back", state="hidden")


def test_photos_are_selected_and_listed(page, index):
    draw(page, *CORNER)
    first(page, "photo00.png")
    boxes = page.locator("#grid .tick")
    boxes.nth(0).focus()
    page.keyboard.press(" ")
    page.locator("#clear").click()
    page.wait_for_function("() => !document.querySelector('#grid li')")
    draw(page, *OTHER)
    first(page, "photo35.png")
    boxes.nth(0).check(force=True)
    assert page.locator("#chosen-count").inner_text() == "2 photos selected"
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save the list").click()
    lines = pathlib.Path(saved.value.path()).read_text().splitlines()
    places = {pathlib.Path(p).name: p for p in index.paths.values()}
    assert lines == [places["photo00.png"], places["photo35.png"]]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the list").click()
    told(page, "copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines() == lines
    page.get_by_role("button", name="Select none").click()
    assert page.locator("#chosen").is_hidden() and not boxes.nth(0).is_checked()


def test_where_a_photo_lies(page, index):
    draw(page, *CORNER)
    first(page, "photo00.png")
    page.locator("#grid button").first.click()
    place = page.locator("#view-place").inner_text()
    assert place in index.paths.values() and place.endswith("/left/photo00.png")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy the path").click()
    page.wait_for_function(
        "() => document.querySelector('#view-status').textContent.includes('copied')"
    )
    assert page.evaluate("navigator.clipboard.readText()") == place
    page.get_by_role("button", name="Only this folder").click()
    page.wait_for_function("() => document.querySelectorAll('#grid li').length === 18")
    page.go_back()
    page.wait_for_function("() => document.querySelectorAll('#grid li').length === 24")


def test_the_first_words_say_how_far_their_model_is(page, index, monkeypatch):
    told_so, search = threading.Event(), index.search

    def slow(*asks):
        told_so.wait(20)
        return search(*asks)

    monkeypatch.setattr(server.FirstWords, "stage", lambda *_: ("loading", 3.2))
    monkeypatch.setattr(index, "search", slow)
    page.locator("#text").fill("far away")
    told(page, "Loading the model that reads words: step 1 of 2")
    told_so.set()
    settled(page)


def imagined(page):
    """Waits for the photos that the model takes the drawing for."""
    page.wait_for_selector("#imagined-pictures button")
    return page.locator("#imagined-pictures button")


def corner_of(page):
    """The first photo's number once an imagined one was searched with."""
    page.wait_for_selector("#back")
    settled(page)
    return page.locator("#grid li button").first.get_attribute("title")


def test_an_imagined_photo_is_a_question(page, index):
    assert page.locator("#imagined").is_hidden()
    draw(page, *CORNER)
    photos = imagined(page)
    assert photos.count() == 4
    first(page, "photo00.png")
    drawn, text, *_ = index.imagined[-1]
    assert drawn.shape == (512, 512, 3) and drawn[:80, :80].min() < 40 and text is None
    alts = photos.locator("img").evaluate_all("all => all.map(image => image.alt)")
    assert alts[1] == "Search with imagined photo 2 of 4" and len(set(alts)) == 4
    assert page.get_by_role("button", name=alts[3]).count() == 1
    told, place = len(index.imagined), photos.nth(1).bounding_box()
    photos.nth(1).focus()
    page.keyboard.press("Enter")
    assert corner_of(page) == "photo05.png" and index.modality == "photo"
    assert page.locator("#title").inner_text() == "Photos like imagined photo 2"
    pressed = "all => all.map(button => button.getAttribute('aria-pressed'))"
    assert photos.evaluate_all(pressed) == ["false", "true", "false", "false"]
    assert photos.nth(1).bounding_box() == place  # the next one is where it was
    page.locator("#grid button").first.click()  # nothing is asked of the drawing now
    assert page.get_by_role("button", name="Why this photo?").count() == 0
    page.keyboard.press("Escape")
    photos.nth(2).click()
    first(page, "photo30.png")
    page.locator("#folder").select_option("right")
    first(page, "photo33.png")
    assert page.locator("#title").inner_text() == (
        "Photos like imagined photo 3 in right"
    )
    page.go_back()
    first(page, "photo30.png")
    page.get_by_role("button", name="Back to your search").click()
    first(page, "photo00.png")
    assert page.locator("#title").inner_text() == "Photos"
    assert photos.evaluate_all(pressed) == ["false"] * 4
    page.get_by_role("button", name="Show more").click()
    page.wait_for_function("() => document.querySelectorAll('#grid li').length === 36")
    assert len(index.imagined) == told  # the drawing is the same


def test_a_reload_keeps_the_imagined_photo_that_was_chosen(page):
    draw(page, *CORNER)
    imagined(page).nth(3).click()
    first(page, "photo35.png")
    page.reload()
    assert corner_of(page) == "photo35.png"
    assert page.locator("#title").inner_text() == "Photos like imagined photo 4"
    page.go_back()
    first(page, "photo00.png")
    assert imagined(page).count() == 4
    draw(page, *OTHER)
    page.locator("#clear").click()
    page.wait_for_function("() => !document.querySelector('#grid li')")
    assert page.locator("#imagined").is_hidden()


def test_what_is_imagined_follows_the_drawing_and_its_words(page, index, monkeypatch):
    go_on, imagine, slow = threading.Event(), index.imagine, threading.Event()
    slow.set()

    def waiting(*asks):
        if slow.is_set():
            go_on.wait(20)
        return imagine(*asks)

    monkeypatch.setattr(index, "imagine", waiting)
    index.imagined.clear()
    draw(page, *CORNER)
    first(page, "photo00.png")
    page.wait_for_selector("#imagined-status.busy")
    # Its place is taken already: nothing moves when the photos come.
    before = page.locator("#grid").bounding_box()["y"]
    with page.expect_event("requestfailed") as left:
        draw(page, *OTHER)
    assert left.value.url.endswith("/api/imagine")
    assert page.locator("#imagined-pictures button").count() == 0
    slow.clear()
    go_on.set()
    assert imagined(page).count() == 4
    assert page.locator("#grid").bounding_box()["y"] == before
    assert index.imagined[-1][0][450:, 450:].min() < 40
    page.locator("#text").fill("a mug")
    page.wait_for_selector("#imagined-pictures button", state="detached")
    imagined(page)
    assert index.imagined[-1][1] == "a mug"
    page.locator("#clear").click()
    page.wait_for_selector("#imagined", state="hidden")  # words alone


def test_nothing_is_imagined_while_the_pen_is_down(page, index):
    index.imagined.clear()
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    settled(page)
    page.wait_for_timeout(300)
    assert index.imagined == [] and page.locator("#imagined").is_hidden()
    page.mouse.up()
    imagined(page)
    assert len(index.imagined) == 1


def test_what_cannot_be_imagined_is_told_in_its_place(page, index, monkeypatch):
    def broken(*_):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(index, "imagine", broken)
        draw(page, *CORNER)
        page.wait_for_selector("#imagined-status.bad")
        first(page, "photo00.png")
        said = page.locator("#imagined-status").inner_text()
        assert "The server failed at this request" in said
        expect_complaint(page, "500")
    draw(page, *OTHER)
    assert imagined(page).count() == 4
    assert page.locator("#imagined-status.bad").count() == 0


def test_a_server_without_an_imaginer_shows_no_place_for_it(page, index, monkeypatch):
    monkeypatch.setattr(index, "imagines", False)
    page.reload()
    page.wait_for_selector("#examples button")
    draw(page, *CORNER)
    first(page, "photo00.png")
    settled(page)
    assert page.locator("#imagined").is_hidden()
    assert not any(url.endswith("/api/imagine") for url in page.asked)


def tab_to(page, selector, key="Tab"):
    """Presses Tab until the focus is there, where it can be seen."""
    for _ in range(80):
        page.keyboard.press(key)
        if page.evaluate("wanted => document.activeElement.matches(wanted)", selector):
            break
    here = page.locator(":focus")
    assert here.evaluate("(e, wanted) => e.matches(wanted)", selector), selector
    assert here.evaluate("e => getComputedStyle(e).outlineStyle") != "none"
    assert here.evaluate("e => getComputedStyle(e).visibility") == "visible"


def test_keyboard_alone(page):
    """Nothing but keys: what is used is what Tab comes to."""
    tab_to(page, "#canvas")
    for _ in range(22):
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
    page.keyboard.press(" ")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press(" ")
    first(page, "photo00.png")
    imagined(page)
    for selector in ("#pen", "#width", "#clear", "#text", "#order", "#tidy"):
        tab_to(page, selector)
    tab_to(page, "#imagined-pictures button")
    tab_to(page, "#folder")
    tab_to(page, "#grid li:first-child > button")
    page.keyboard.press("Enter")
    assert page.locator("#view").is_visible()
    tab_to(page, "#next")
    page.keyboard.press("Enter")
    assert page.locator("#view-name").inner_text() != "photo00.png"
    tab_to(page, "#explain")
    page.keyboard.press("Enter")
    page.wait_for_selector("#lines circle")
    for _ in range(12):  # nothing behind the dialog
        page.keyboard.press("Tab")
        assert not page.evaluate("document.activeElement.closest('main, header')")
    page.keyboard.press("Escape")
    # Back where it was opened, at the photo that was looked at last.
    second = "#grid li:nth-child(2)"
    assert page.evaluate(f"document.activeElement.matches('{second} > button')")
    tab_to(page, f"{second} .tick")
    opaque = "e => Number(getComputedStyle(e).opacity) === 1"
    page.wait_for_function(f"() => ({opaque})(document.activeElement)")
    page.keyboard.press(" ")
    assert page.locator("#chosen-count").inner_text() == "1 photo selected"
    tab_to(page, "#chosen-none", "Shift+Tab")
    page.keyboard.press("Enter")
    assert page.locator("#chosen").is_hidden()
    tab_to(page, f"{second} > button")
    page.keyboard.press("Enter")
    tab_to(page, "#similar")
    page.keyboard.press("Enter")
    page.wait_for_selector("#back")
    tab_to(page, "#back")
    page.keyboard.press("Enter")
    first(page, "photo00.png")
    tab_to(page, "#help-open")
    page.keyboard.press("Enter")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "help-open"
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    tab_to(page, "#help [data-close]")
    page.keyboard.press("Enter")
    assert page.locator("#help").is_hidden()


def test_examples_are_drawn_and_answered(page):
    """How well by the real model, `python -m tools.page_picture` prints."""
    assert len(page_picture.example(page, "fork")) == 24
    page_picture.emptied(page)
    assert page.locator("#examples button").count() == 3


def test_examples_are_things_that_toybox_has():
    listed = resources.files("sbir_jax.search.page") / "examples.json"
    names = json.loads(listed.read_text())
    known = {page_picture.CLASSES.get(name, name) for name in names}
    assert known <= set(world.PRETRAINED) and len(known) == 3
    found = ["mug_0001.png", "fork_0001.png", "mug_0002.png"]
    assert page_picture.right("cup", found) == 2
    assert page_picture.right("fork", found) == 1


def test_what_is_sent_is_black_on_white_in_the_dark(browser, address, index):
    page = open_page(browser, address, color_scheme="dark")
    draw(page, *CORNER)
    first(page, "photo00.png")
    sheet = index.asked
    assert sheet.shape[:2] == (512, 512)
    assert sheet[300:, 300:].min() == 255
    assert sheet[:80, :80].min() < 40
    page.context.close()
    assert page.complaints == []


SMALL = [(320, 640), (390, 844), (844, 390)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width, height", SMALL)
def test_touch_on_a_small_screen(browser, address, width, height, scheme):
    size = {"width": width, "height": height}
    looks = {"viewport": size, "color_scheme": scheme}
    page = open_page(browser, address, has_touch=True, **looks)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".words span").first.is_visible()
    for name in ("canvas", "pen", "upload", "clear"):
        inside = page.locator(f"#{name}").bounding_box()
        assert inside["x"] >= 0 and inside["x"] + inside["width"] <= width
        assert inside["y"] + inside["height"] <= height  # no need to scroll
    box = page.locator("#canvas").bounding_box()
    page.touchscreen.tap(
        box["x"] + 0.08 * box["width"], box["y"] + 0.08 * box["height"]
    )
    first(page, "photo00.png")
    for photo in imagined(page).all():
        inside = photo.bounding_box()
        assert inside["x"] >= 0 and inside["x"] + inside["width"] <= width
        assert (
            inside["width"] == pytest.approx(inside["height"]) and inside["width"] > 44
        )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#grid .name").first.is_visible()
    page.locator("#grid button").first.tap()
    inside = page.locator("#view").bounding_box()
    assert inside["x"] >= 0 and inside["x"] + inside["width"] <= width
    assert inside["y"] >= 0 and inside["y"] + inside["height"] <= height
    page.context.close()
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width, height", [(1280, 720), *SMALL])
def test_accessibility(browser, address, width, height, scheme):
    axe = pytest.importorskip("axe_core_python")
    script = pathlib.Path(axe.__file__).with_name("axe.min.js").read_text()
    page = open_page(
        browser,
        address,
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        reduced_motion="reduce",
        bypass_csp=True,
    )

    def check():
        page.evaluate(script)
        found = page.evaluate("axe.run()")
        assert [
            (problem["id"], node["html"], node["failureSummary"])
            for problem in found["violations"]
            for node in problem["nodes"]
        ] == []

    check()
    draw(page, *CORNER)
    first(page, "photo00.png")
    settled(page)
    imagined(page)
    page.locator("#grid .tick").first.check(force=True)
    check()
    page.locator("#imagined-pictures button").first.click()
    page.wait_for_selector("#back")
    check()
    page.locator("#back").click()
    page.wait_for_selector("#back", state="hidden")
    page.locator("#grid button").first.click()
    page.get_by_role("button", name="Why this photo?").click()
    page.wait_for_selector("#lines circle")
    check()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    check()
    page.goto(f"{address}docs")
    page.wait_for_selector("article")
    assert page.locator("article").count() == 11
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    check()
    page.context.close()
