"""A hub on this machine, for the real client: folders as repositories, over HTTP."""

import base64
import contextlib
import hashlib
import http.server
import json
import pathlib
import threading
from collections.abc import Iterator

import huggingface_hub
import pytest

COMMIT = "c0ffee" * 6 + "c0ff"


class FakeHub(http.server.ThreadingHTTPServer):
    """Serves ROOT/owner/name/..., and takes new files.

    Attributes:
      asked: the method and path of every request.
      private: of each repository that was made.
      gated: whether only those may have files who agreed to a licence.
    """

    daemon_threads = True

    def __init__(self, root: pathlib.Path):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.asked, self.private = root, [], []
        self.gated = False

    @property
    def fetched(self) -> list[str]:
        """Names of the files that were sent, sorted."""
        lines = (line.split(" ") for line in self.asked)
        paths = [path for verb, path in lines if verb == "GET" and "/resolve/" in path]
        return sorted(path.split(f"/resolve/{COMMIT}/")[1] for path in paths)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeHub

    def log_message(self, format, *args):
        pass

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def do_POST(self):
        self.server.asked.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.strip("/").split("/")
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            (self.server.root / name).mkdir(parents=True)
            # Older clients send the first, newer ones the second.
            private = asked.get("private", asked.get("visibility") == "private")
            self.server.private.append(private)
            return self._json({"url": f"http://{self.headers['Host']}/{name}"})
        if parts[1] == "validate-yaml":  # of the model card
            return self._json({"errors": [], "warnings": []})
        if parts[4:5] == ["preupload"]:
            files = json.loads(body)["files"]
            answer = {"uploadMode": "regular", "shouldIgnore": False}
            return self._json({"files": [{**answer, "path": f["path"]} for f in files]})
        folder = self.server.root.joinpath(*parts[2:4])
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                value = line["value"]
                content = base64.b64decode(value["content"])
                (folder / value["path"]).write_bytes(content)
        address = (
            f"http://{self.headers['Host']}/{'/'.join(parts[2:4])}/commit/{COMMIT}"
        )
        self._json({"success": True, "commitOid": COMMIT, "commitUrl": address})

    def _answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            repo, rest = self.server.root.joinpath(*parts[2:4]), parts[4:]
            if repo.is_dir():
                files = sorted(p for p in repo.rglob("*") if p.is_file())
                return self._json(_tree(repo, files, tree=rest[:1] == ["tree"]))
        elif parts[2:3] == ["resolve"]:
            file = self.server.root.joinpath(*parts[:2], *parts[4:])
            if self.server.gated:
                return self._send(403, b"", 0, {"X-Error-Code": "GatedRepo"})
            if file.is_file():
                content = file.read_bytes()
                return self._send(200, content if with_body else b"", len(content))
        self._send(404, b"", 0, {"X-Error-Code": "RepoNotFound"})

    def _json(self, value) -> None:
        content = json.dumps(value).encode()
        self._send(200, content, len(content), {"Content-Type": "application/json"})

    def _send(self, status, content, length, headers=None) -> None:
        self.send_response(status)
        tag = hashlib.sha1(self.path.encode()).hexdigest()
        known = {"Content-Length": str(length), "X-Repo-Commit": COMMIT}
        for name, value in (known | {"ETag": f'"{tag}"'} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


def _tree(repo: pathlib.Path, files: list[pathlib.Path], tree: bool):
    name = "path" if tree else "rfilename"
    found = [
        {
            "type": "file",
            name: str(file.relative_to(repo)),
            "size": file.stat().st_size,
            "oid": hashlib.sha1(str(file).encode()).hexdigest(),
        }
        for file in files
    ]
    return found if tree else {"id": repo.name, "sha": COMMIT, "siblings": found}


@contextlib.contextmanager
def serving(root: pathlib.Path, cache: pathlib.Path) -> Iterator[FakeHub]:
    """The client talks to a hub over `root` and keeps what it gets in `cache`."""
    from huggingface_hub import constants

    hub, patch = FakeHub(root), pytest.MonkeyPatch()
    address = f"http://127.0.0.1:{hub.server_address[1]}"
    for name, value in {
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": address
        + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
    }.items():
        patch.setattr(constants, name, value)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()
        huggingface_hub.close_session()
        patch.undo()
