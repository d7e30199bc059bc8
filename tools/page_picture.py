"""The drawing page in a real browser: how it answers its examples, and a picture of it.

    python -m tools.toybox_folder toybox
    sbir index toybox/photo --out toybox.index
    python -m tools.page_picture toybox.index --save docs/page.png

Clicks on each of the drawings that the page offers, and prints how many of the first
photos are of its class, which Toybox has in their names. Needs playwright and Chromium,
as the tests of the page do.
"""

import argparse
import contextlib
import pathlib
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from playwright import sync_api

from sbir_jax.runtime import hardware
from sbir_jax.search import server
from sbir_jax.search.index import Index
from sbir_jax.search.searchable import Searchable

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
# It may run as root, and asks no other machine for anything.
FLAGS = (
    "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync"
).split()
SIZE = {"width": 1280, "height": 860}
FIRST = 12  # photos that are counted
CLASSES = {"cup": "mug"}  # what Toybox calls an example, where that is another word
PATIENCE = 300_000  # ms; the first search compiles


@contextlib.contextmanager
def serving(index: Searchable) -> Iterator[str]:
    """The page over an index, on a free port of this machine: its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        server.make_app(index), log_config=None, log_level="warning", access_log=False
    )
    served = uvicorn.Server(config)
    thread = threading.Thread(target=served.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not served.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        served.should_exit = True
        thread.join(20)


@contextlib.contextmanager
def chromium() -> Iterator[sync_api.Browser]:
    """A browser without a window."""
    with sync_api.sync_playwright() as driver:
        flags = [f"--{flag}" for flag in FLAGS]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            yield browser
        finally:
            browser.close()


def settled(page: sync_api.Page) -> None:
    """Waits for the answer to the last change."""
    page.wait_for_function(
        "() => document.querySelector('#status').textContent.includes('best first')"
    )


def example(page: sync_api.Page, name: str) -> list[str]:
    """Draws an example on an empty sheet: names of the photos that are found."""
    button = f"Try the drawing of a {name}"
    page.get_by_role("button", name=button, exact=True).click()
    page.wait_for_selector("#grid li")
    settled(page)
    photos = page.locator("#grid li > button")
    return photos.evaluate_all("buttons => buttons.map(button => button.title)")


def emptied(page: sync_api.Page) -> None:
    """Clears the sheet."""
    page.locator("#clear").click()
    page.wait_for_selector("#grid li", state="detached")


def right(name: str, found: list[str]) -> int:
    """How many of the first photos show what an example does."""
    wanted = CLASSES.get(name, name)
    return sum(re.sub(r"_\d+\.\w+$", "", photo) == wanted for photo in found[:FIRST])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("index", help="of Toybox photos")
    parser.add_argument("--save", type=pathlib.Path, help="a PNG of the page")
    parser.add_argument("--example", default="fork", help="in the PNG (default: fork)")
    args = parser.parse_args(argv)
    hardware.keep_programs()
    options: dict[str, Any] = {"viewport": SIZE, "color_scheme": "light"}
    with (
        Index.open(args.index) as index,
        serving(index) as address,
        chromium() as browser,
    ):
        page = browser.new_page(**options)
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        page.wait_for_selector("#examples button")
        labels = page.locator("#examples button").evaluate_all(
            "buttons => buttons.map(button => button.ariaLabel)"
        )
        names = [label.rpartition(" ")[2] for label in labels]
        for name in names:
            print(f"{name}: {right(name, example(page, name))} of {FIRST}", flush=True)
            emptied(page)
        if args.save:
            example(page, args.example)
            page.wait_for_load_state("networkidle")  # all pictures are there
            page.screenshot(path=args.save)
            print(f"picture of the page: {args.save}")


if __name__ == "__main__":
    main()
