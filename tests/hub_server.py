"""A server on this machine that speaks the HTTP API of the Hugging Face hub and of ModelScope, and fails when told to.

GET  /api/models/ID[/revision/REV]?blobs=true      what the model is: commit, files, sizes, hashes
GET  /api/models/ID/tree/REV, /api/models?author=  its files as a tree; the models of a maker
HEAD, GET /ID/resolve/REV/FILE                     small files: their bytes; large ones: a redirect to the store
GET  /store/SHA256                                 bytes, whole or from a Range, on another host name (localhost)
GET  /api/v1/models/ID/repo/files, …/repo          ModelScope's list and files
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = 1 << 12
"""Bytes from which a file is in the store, as Git LFS would have it."""


@dataclass
class Fault:
    """What goes wrong with the next request whose path has the given text in it.

    `status` and `headers`: another answer; `cut`: the connection ends after so many bytes; `stall`: it stays open after
    so many until `Hub.released`; `wrong`: other bytes of the right number; `whole`: Range is ignored.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = -1
    stall: int = -1
    wrong: bool = False
    whole: bool = False


@dataclass
class Asked:
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Hub:
    """The server's state: models by id as {path: bytes}, the faults to come, the requests so far."""

    url: str = ""
    models: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)  #: sizes to claim instead of the true ones
    token: str = ""  #: asked of every request for a model where it is set
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def fail(self, where: str, fault: Fault, times: int = 1) -> None:
        self.faults += [(where, fault)] * times

    def next_fault(self, path: str) -> Fault:
        for i, (where, _) in enumerate(self.faults):
            if where in path:
                return self.faults.pop(i)[1]
        return Fault()

    def files(self, word: str) -> list[Asked]:
        """The requests for file contents whose path has `word` in it."""
        return [a for a in self.asked if a.method == "GET" and word in a.path]

    def commit(self, model: str) -> str:
        told = "".join(f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in self.models[model].items())
        return hashlib.sha1(told.encode()).hexdigest()

    def stored(self, sha: str) -> bytes:
        return next(d for files in self.models.values() for d in files.values() if hashlib.sha256(d).hexdigest() == sha)


def git_id(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """The server, on a free port."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield hub
        finally:
            hub.released.set()
            server.shutdown()


class _Handler(http.server.BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, address = self.state, urlsplit(self.path)
        hub.asked.append(Asked(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        fault = hub.next_fault(self.path)
        if fault.status:
            location = {"Location": self.path} if fault.status in (301, 302) and "Location" not in fault.headers else {}
            return self.answer(fault.status, b'{"error": "as the test wants"}', {**fault.headers, **location})
        path, query = unquote(address.path), parse_qs(address.query)
        routes = (
            (r"/api/models", lambda: self.search(query)),
            (r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self.model),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", self.tree),
            (r"/store/(\w+)", lambda sha: self.send(hub.stored(sha), fault, {"ETag": f'"{sha}"'})),
            (
                r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)",
                lambda model, commit, name: self.resolve(model, commit, name, fault),
            ),
            (r"/api/v1/models/([^/]+/[^/]+)/repo/files", self.scope_list),
            (r"/api/v1/models/([^/]+/[^/]+)/repo", lambda m: self.send(hub.models[m][query["FilePath"][0]], fault, {})),
        )
        for pattern, answer in routes:
            if found := re.fullmatch(pattern, path):
                return answer(*found.groups())
        return self.answer(404, b"{}", {})

    # ---- the Hugging Face hub ----------------------------------------------------------------------------------------

    def refused(self, model: str, revision: str | None) -> bool:
        """Answers where the model is not to be had, with the hub's own error codes."""
        hub = self.state
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            code = {"X-Error-Code": "GatedRepo", "X-Error-Message": f"Access to model {model} is restricted."}
            self.answer(401, b"{}", code)
        elif model not in hub.models:
            self.answer(404 if hub.token else 401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif revision not in (None, "main", "v1", hub.commit(model)):
            self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            return False
        return True

    def model(self, model: str, revision: str | None) -> None:
        if self.refused(model, revision):
            return
        siblings = []
        for name, data in self.state.models[model].items():
            size = self.state.sizes.get(name, len(data))
            told: dict[str, Any] = {"rfilename": name, "size": size, "blobId": git_id(data)}
            if size >= LARGE:
                told["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": size, "pointerSize": 134}
            siblings.append(told)
        record = {"id": model, "modelId": model, "sha": self.state.commit(model), "siblings": siblings, "tags": []}
        self.answer(200, json.dumps(record).encode(), {"Content-Type": "application/json"})

    def tree(self, model: str, revision: str) -> None:
        if self.refused(model, revision):
            return
        files = []
        for name, data in self.state.models[model].items():
            told: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": git_id(data)}
            if len(data) >= LARGE:
                told["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            files.append(told)
        self.answer(200, json.dumps(files).encode(), {"Content-Type": "application/json"})

    def search(self, query: dict[str, list[str]]) -> None:
        author, word = query.get("author", [""])[0], query.get("search", [""])[0]
        found = [m for m in self.state.models if m.startswith(f"{author}/" if author else "") and word in m]
        self.answer(200, json.dumps([{"id": m} for m in found]).encode(), {"Content-Type": "application/json"})

    def resolve(self, model: str, revision: str, name: str, fault: Fault) -> None:
        if self.refused(model, revision):
            return
        if name not in self.state.models[model]:
            self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": self.state.commit(model)})
            return
        data, commit = self.state.models[model][name], {"X-Repo-Commit": self.state.commit(model)}
        if len(data) < LARGE:
            self.send(data, fault, {**commit, "ETag": f'"{git_id(data)}"'})
            return
        sha = hashlib.sha256(data).hexdigest()
        linked = {"X-Linked-Etag": f'"{sha}"', "X-Linked-Size": str(len(data))}
        store = self.state.url.replace("127.0.0.1", "localhost")
        self.answer(302, b"", {**commit, **linked, "Location": f"{store}/store/{sha}?of={name}"})

    # ---- ModelScope --------------------------------------------------------------------------------------------------

    def scope_list(self, model: str) -> None:
        if model not in self.state.models:
            told: dict[str, Any] = {"Code": 10010205001, "Success": False, "Message": "the model does not exist"}
            return self.answer(404, json.dumps(told).encode(), {"Content-Type": "application/json"})
        files: list[dict[str, Any]] = [{"Path": "unet", "Name": "unet", "Type": "tree", "Size": 0}]
        for name, data in self.state.models[model].items():
            files.append({"Path": name, "Type": "blob", "Size": len(data), "Sha256": hashlib.sha256(data).hexdigest()})
        told = {"Code": 200, "Success": True, "Data": {"Files": files}}
        return self.answer(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    # ---- answers -----------------------------------------------------------------------------------------------------

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send(self, data: bytes, fault: Fault, headers: dict[str, str]) -> None:
        begin = 0 if fault.whole else int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or (0, 0))[1])
        if begin >= len(data) > 0:
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        ranged = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"} if begin else {}
        body = bytes(len(data)) if fault.wrong else data[begin:]
        sent = min((n for n in (fault.cut, fault.stall) if n >= 0), default=len(body))
        self.send_response(206 if begin else 200)
        for key, value in {"Content-Length": str(len(body)), **headers, **ranged}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        with contextlib.suppress(OSError):
            self.wfile.write(body[:sent])
            self.wfile.flush()
        if fault.stall >= 0:
            self.state.released.wait(30)
        self.close_connection = sent < len(body)
        return None
