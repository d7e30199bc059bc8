"""Many people drawing at once: times, errors and memory of `sbir serve`.

python -m tools.load_test --photos 100000 --clients 50 --seconds 60
python -m tools.load_test --slow 200 --idle 500

The server is a process of its own, over random descriptors and the real Toybox model.
Each client sends a drawing, waits for its photos, and sends the next; every fourth time
it asks for more like the first photo. Meanwhile one more opens connections and drops
them half way; `--slow` others send an upload byte by byte, and `--idle` others connect
and say nothing, each again as soon as the server ends it. They come from another
address than the 50, as the server counts by address what one may ask (on Linux, where
all of 127.0.0.0/8 is this machine).
"""

import argparse
import collections
import http.client
import io
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

import numpy as np
from PIL import Image, ImageDraw

from sbir_jax.embedder import Embedder
from sbir_jax.runtime import hardware
from sbir_jax.search import shard_writer, shards
from tools.bench_index import descriptors

STRANGERS = "127.0.0.2"  # where slow and idle connections come from


def write_index(folder: pathlib.Path, photos: int) -> None:
    """An index of photos that do not exist, for the Toybox model's drawings."""
    embedder = Embedder.from_pretrained("toybox")
    head = shards.Head(embedder.fingerprint, embedder.dim, embedder.source)
    with shard_writer.Writer(folder, head) as writer:
        for start in range(0, photos, head.shard_rows):
            rows = min(head.shard_rows, photos - start)
            part = descriptors("random", rows, embedder.dim, (0, start))
            for i, vector in enumerate(part, start=start):
                writer.append(f"/photos/{i}.jpg", f"{i:08x}{i:024x}", 1, 1, vector)


def drawing(rng: np.random.Generator) -> bytes:
    """Some strokes, as the page sends them."""
    sheet = Image.new("RGB", (512, 512), "white")
    draw = ImageDraw.Draw(sheet)
    for _ in range(4):
        steps = rng.normal(0, 40, (12, 2)).cumsum(0) + rng.uniform(100, 400, 2)
        draw.line([tuple(point) for point in steps], "black", 7, "curve")
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def as_form(picture: bytes) -> tuple[bytes, dict[str, str]]:
    parts = b'--b\r\nContent-Disposition: form-data; name="image"; filename="d.png"\r\n'
    body = parts + b"Content-Type: image/png\r\n\r\n" + picture + b"\r\n--b--\r\n"
    return body, {"Content-Type": "multipart/form-data; boundary=b"}


class Crowd:
    """Clients on threads; `seconds` of each answer by kind, and `errors`."""

    def __init__(self, host: str, port: int, until: float):
        self.host, self.port, self.until = host, port, until
        self.seconds = collections.defaultdict(list)
        self.errors = collections.Counter()
        self.dropped = 0
        self.crawled = self.ended = 0  # connections, and those that the server ended

    def draw(self, seed: int) -> None:
        rng, wanted = np.random.default_rng(seed), None
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        for turn in range(1_000_000):
            if time.monotonic() > self.until:
                return
            if turn % 4 == 3 and wanted:
                request = ("GET", f"/api/similar/{wanted}?k=24", None, {})
            else:
                request = ("POST", "/api/search", *as_form(drawing(rng)))
            begin = time.monotonic()
            try:
                connection.request(*request)
                response = connection.getresponse()
                answer = response.read()
            except OSError as error:
                self.errors[repr(error)] += 1
                connection.close()
                continue
            if response.status != 200:
                self.errors[f"{response.status} {answer[:120]!r}"] += 1
                continue
            self.seconds[request[0]].append(time.monotonic() - begin)
            wanted = json.loads(answer)["hits"][0]["id"]

    def drop(self) -> None:
        head = (
            "POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n"
        )
        while time.monotonic() < self.until:
            with socket.create_connection((self.host, self.port)) as connection:
                connection.sendall(f"{head}\r\nhalf".encode())
            self.dropped += 1
            time.sleep(0.5)

    def crawl(self, slow: int, idle: int) -> None:
        """Holds so many connections, on one thread; the first ones are the slow."""
        head = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999"
        held: list[socket.socket | None] = [None] * (slow + idle)
        while time.monotonic() < self.until:
            for i, connection in enumerate(held):
                try:
                    if connection is None:
                        held[i] = made = socket.create_connection(
                            (self.host, self.port), 5, (STRANGERS, 0)
                        )
                        self.crawled += 1
                        if i < slow:
                            made.sendall(head + b"\r\n\r\n")
                        made.setblocking(False)
                    elif i < slow:
                        connection.send(b"x")
                    elif connection.recv(1) == b"":
                        raise ConnectionResetError
                except BlockingIOError:
                    continue  # nothing to read: it is still held
                except OSError:
                    self.ended += 1
                    if held[i] is not None:
                        held[i].close()
                    held[i] = None
            time.sleep(0.5)
        for connection in filter(None, held):
            connection.close()


def resident_mb(pid: int) -> float:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--slow", type=int, default=0, help="uploads, byte by byte")
    parser.add_argument("--idle", type=int, default=0, help="connections that wait")
    args = parser.parse_args()
    hardware.keep_programs()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "index"
        write_index(folder, args.photos)
        command = [sys.executable, "-m", "sbir_jax.search.cli", "serve", str(folder)]
        with subprocess.Popen(
            [*command, "--port", "0"], stdout=subprocess.PIPE, text=True
        ) as server:
            try:
                load(server, args)
            finally:
                server.terminate()


def load(server: subprocess.Popen, args: argparse.Namespace) -> None:
    assert server.stdout is not None
    lines = iter(server.stdout.readline, "")
    address = next(line.split()[-1] for line in lines if "http://" in line)
    place = urllib.parse.urlsplit(address)
    for name, seconds in (("warm-up", args.seconds / 6), ("load", args.seconds)):
        before = resident_mb(server.pid)
        crowd = Crowd(
            str(place.hostname), int(place.port or 0), time.monotonic() + seconds
        )
        threads = [
            threading.Thread(target=crowd.draw, args=(seed,))
            for seed in range(args.clients)
        ]
        threads.append(threading.Thread(target=crowd.drop))
        given = (args.slow, args.idle)
        threads.append(threading.Thread(target=crowd.crawl, args=given))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(
            f"{name}: memory {before:.0f} MB before, {resident_mb(server.pid):.0f} MB"
        )
    for kind, times in sorted(crowd.seconds.items()):
        p50, p95, p99 = np.percentile(times, [50, 95, 99])
        rate = len(times) / args.seconds
        print(
            f"{kind}: {len(times)} answers, {rate:.1f} a second; "
            f"p50 {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s"
        )
    print(f"errors: {sum(crowd.errors.values())}; dropped on purpose: {crowd.dropped}")
    if args.slow or args.idle:
        held = f"{args.slow} slow and {args.idle} idle connections were held"
        print(f"{held}: {crowd.crawled} opened, {crowd.ended} ended by the server")
    for error, count in crowd.errors.most_common(5):
        print(f"  {count} x {error}")


if __name__ == "__main__":
    main()
