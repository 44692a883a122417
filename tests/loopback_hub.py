"""A Hub on this machine: the endpoints that the installed huggingface_hub calls for repositories, and faults on demand.

It keeps repositories in memory, wants its token, and writes down what it was asked. Large files go through git-lfs: run
what talks to it with HF_HUB_DISABLE_XET=1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_loopbackCanary0123456789"
LARGE = (".safetensors", ".pt", ".bin")  # by name, as .gitattributes says on the Hub
_REPO = r"([^/]+/[^/]+)"
Answer = tuple[int, Any, dict[str, str]]


@dataclass
class Repository:
    """Commits, each a whole tree: path -> content."""

    private: bool = True
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    head: str = ""

    def commit(self, files: dict[str, bytes]) -> str:
        """Make these the files from now on."""
        self.head = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[self.head] = files
        return self.head

    @property
    def files(self) -> dict[str, bytes]:
        """What is there now."""
        return self.commits[self.head]


@dataclass
class Hub:
    """What the server serves. `fault` may answer a request in its place: a status, an Answer, or None."""

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    fault: Callable[[str, str], int | Answer | None] = lambda _method, _path: None

    def environ(self) -> dict[str, str]:
        """What a process needs to talk to it, but the token."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}

    def make(self, name: str, files: dict[str, bytes] | None = None, *, private: bool = True) -> Repository:
        """A repository as the Hub makes it."""
        repository = self.repositories[name] = Repository(private)
        repository.commit({".gitattributes": b"", **(files or {})})
        return repository

    def answer(self, method: str, path: str, body: bytes, token: str) -> Answer:
        """Status, content (bytes, or what becomes JSON) and headers."""
        self.asked.append(f"{method} {path}")
        if wrong := self.fault(method, path):
            return wrong if isinstance(wrong, tuple) else (wrong, {"error": "a fault on demand"}, {})
        if method == "PUT" and path.startswith("/large/"):
            if hashlib.sha256(body).hexdigest() != path[7:]:
                return 400, {"error": "not what was announced"}, {}
            self.large[path[7:]] = body
            return 200, {}, {}
        if token != TOKEN:
            return 401, {"error": "no"}, {"X-Error-Message": "Invalid credentials in Authorization header"}
        for wanted, pattern, what in _ROUTES:
            if method in wanted and (match := re.fullmatch(pattern, path)):
                return what(self, body, *match.groups())
        return 404, {"error": f"no such endpoint: {method} {path}"}, {}

    def _create(self, body: bytes) -> Answer:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.repositories:
            return 409, {"error": "there already", "url": f"{self.endpoint}/{name}"}, {}
        self.make(name, private=asked.get("visibility") == "private" or bool(asked.get("private")))
        return 200, {"url": f"{self.endpoint}/{name}", "name": name}, {}

    def _info(self, _body: bytes, name: str) -> Answer:
        if (repository := self.repositories.get(name)) is None:
            return _no_repository()
        return 200, {"id": name, "sha": repository.head, "private": repository.private, "siblings": []}, {}

    def _tree(self, _body: bytes, name: str, revision: str) -> Answer:
        if (repository := self.repositories.get(name)) is None:
            return _no_repository()
        files = repository.commits[repository.head if revision == "main" else revision]
        return 200, [_listed(path, content) for path, content in files.items()], {}

    def _preupload(self, body: bytes, name: str, _revision: str) -> Answer:
        if name not in self.repositories:
            return _no_repository()
        modes = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for one in json.loads(body)["files"]
        ]
        return 200, {"files": modes}, {}

    def _batch(self, body: bytes, _name: str) -> Answer:
        objects = []
        for one in json.loads(body)["objects"]:
            there = one["oid"] in self.large
            upload = {} if there else {"actions": {"upload": {"href": f"{self.endpoint}/large/{one['oid']}"}}}
            objects.append({"oid": one["oid"], "size": one["size"], **upload})
        return 200, {"transfer": "basic", "objects": objects}, {}

    def _commit(self, body: bytes, name: str, _revision: str) -> Answer:
        repository = self.repositories[name]
        files = dict(repository.files)
        for line in body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                self.messages.append(value["summary"])
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            elif key == "deletedFolder":
                inside = value["path"].rstrip("/") + "/"
                files = {path: content for path, content in files.items() if not path.startswith(inside)}
            else:
                files.pop(value["path"])
        head = repository.commit(files)
        return 200, {"commitUrl": f"{self.endpoint}/{name}/commit/{head}", "commitOid": head}, {}

    def _resolve(self, _body: bytes, name: str, revision: str, path: str) -> Answer:
        repository = self.repositories.get(name)
        if repository is None:
            return _no_repository()
        commit = repository.head if revision == "main" else revision
        content = repository.commits[commit].get(path)
        if content is None:
            return 404, {"error": "no such file"}, {"X-Error-Code": "EntryNotFound"}
        return 200, content, {"ETag": f'"{_listed(path, content)["oid"]}"', "X-Repo-Commit": commit}


_ROUTES: tuple[tuple[str, str, Callable[..., Answer]], ...] = (
    ("POST", r"/api/repos/create", Hub._create),
    ("GET", rf"/api/models/{_REPO}", Hub._info),
    ("GET", rf"/api/models/{_REPO}/tree/([^/]+)", Hub._tree),
    ("POST", rf"/api/models/{_REPO}/preupload/([^/]+)", Hub._preupload),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", Hub._batch),
    ("POST", rf"/api/models/{_REPO}/commit/([^/]+)", Hub._commit),
    ("HEAD GET", rf"/{_REPO}/resolve/([^/]+)/(.+)", Hub._resolve),
)


def _no_repository() -> Answer:
    return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}


def _listed(path: str, content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "file",
        "path": path,
        "size": len(content),
        "oid": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
    }
    if path.endswith(LARGE):
        found["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # headers and body in one packet: two make the other side wait
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        status, content, headers = self.server.hub.answer(self.command, path, body, token)
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub

    def handle_error(self, *_words: Any) -> None:
        """Whoever asked was killed: that is what tests do."""


@contextmanager
def loopback_hub() -> Iterator[Hub]:
    """A Hub that serves for as long as the context lasts, to this process too, however it was started."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET
    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = False, True
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()
        constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = before
