"""A Hub in memory, on a free port: what huggingface_hub and datasets need to look, list, fetch and commit. No Xet, no CDN.

It answers as the real one does where a client takes its decisions: a repository that is missing and one that is private
look alike (401 for a stranger, 404 with a token), the pages of a gated one are open and its files are not, and an
unknown token is refused even where none is needed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

READER = "hf_aReaderOfPrivateThings0123456789"
WRITER = "hf_aWriterOfPrivateThings0123456789"  # the only other token that is known
LARGE = (".safetensors", ".bin", ".gguf", ".parquet")  # what the Hub keeps outside git
PIECE = 64 * 1024

_API = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|preupload|commit)/([^/]+)(?:/(.+))?)?"
)
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Asked(NamedTuple):
    """A line of the request log."""

    method: str
    path: str
    token: str | None
    range: str | None


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit_of(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class FakeHub:
    """`publish` puts repositories there; `faults` maps a part of a path to a status; `dies_at` is a part of a
    path in whose middle it dies; `log` is what was asked, `sent` in bytes."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.faults: dict[str, int] = {}
        self.dies_at: str | None = None
        self.log: list[Asked] = []
        self.sent: dict[str, int] = {}
        self.large: dict[str, bytes] = {}
        self.url = ""

    def publish(
        self, name: str, files: dict[str, bytes], kind: str = "models", branch: str = "main", **access: bool
    ) -> str:
        """A commit with exactly these files on a branch; `access`: private, gated. Returns its sha, which follows the content."""
        repository = self.repositories.setdefault((kind, name), Repository(**access))
        digest = hashlib.sha1(name.encode())
        for path in sorted(files):
            digest.update(path.encode() + hashlib.sha256(files[path]).digest())
        commit = digest.hexdigest()
        repository.commits[commit] = files
        repository.branches[branch] = commit
        return commit

    def asked(self, part: str, method: str = "GET") -> list[Asked]:
        return [each for each in self.log if each.method == method and part in each.path]

    @contextmanager
    def running(self, port: int = 0) -> Iterator[FakeHub]:
        app = Starlette(routes=[Route("/{rest:path}", self._answer, methods=["GET", "HEAD", "POST", "PUT"])])
        config = uvicorn.Config(app, port=port, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        self._server = server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join(5)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode().split("?")[0]
        token = request.headers.get("authorization", "").removeprefix("Bearer ") or None
        self.log.append(Asked(request.method, unquote(path), token, request.headers.get("range")))
        for part, status in self.faults.items():
            if part in unquote(path):
                return _refused(status, "", "A fault put here by the test")
        if request.method == "PUT":
            self.large[path.removeprefix("/large/")] = await request.body()
            return Response()
        if token not in (None, READER, WRITER):
            return _refused(401, "", "Invalid credentials in Authorization header")
        if (
            path == "/api/repos/create"
            or path.endswith("/objects/batch")
            or "/preupload/" in path
            or "/commit/" in path
        ):
            if token != WRITER:
                return _refused(403 if token else 401, "", "You don't have the rights to write here")
            return await self._write(path, request)
        if match := _API.fullmatch(path):
            kind, name, verb, revision, inside = match.groups()
        elif match := _FILE.fullmatch(path):
            kind, name, verb = "datasets" if match[1] else "models", match[2], "resolve"
            revision, inside = match[3], match[4]
        else:
            return _refused(404, "", "Sorry, we can't find the page you are looking for.")
        repository = self.repositories.get((kind, name))
        if repository is None or (repository.private and token is None):
            return _refused(404 if token else 401, "RepoNotFound", "Repository not found")
        commit = repository.commit_of(unquote(revision or "main"))
        if commit is None:
            return _refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files = repository.commits[commit]
        if verb == "tree":
            return JSONResponse(_tree(files, unquote(inside or ""), request.query_params.get("recursive") == "true"))
        if verb == "paths-info":
            wanted = (await request.form()).getlist("paths")
            entries = _tree(files, "", True)
            return JSONResponse([entry for entry in entries if entry["path"] in wanted])
        if verb == "resolve":
            if repository.gated:
                return _refused(403 if token else 401, "GatedRepo", f"Access to {kind} {name} is restricted.")
            return self._file(request, path, unquote(inside), files, commit)
        return JSONResponse(_info(name, repository, commit, "blobs" in request.query_params))

    async def _write(self, path: str, request: Request) -> Response:
        """The four questions of an upload: a repository, what is large, where the large go, and the commit of all."""
        body = await request.body()
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if ("models", name) in self.repositories:
                already = {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
                return JSONResponse(already, 409)
            self.publish(name, {".gitattributes": b""}, private=asked.get("visibility") == "private")
            return JSONResponse({"url": f"{self.url}/{name}"})
        if path.endswith("/objects/batch"):
            objects = [each | self._place(each["oid"]) for each in json.loads(body)["objects"]]
            return JSONResponse({"transfer": "basic", "objects": objects})
        kind, name, verb, _, _ = _API.fullmatch(path).groups()
        repository = self.repositories[kind, name]
        files = dict(repository.commits[repository.branches["main"]])
        if verb == "preupload":
            modes = [
                (each["path"], "lfs" if each["path"].endswith((*LARGE, ".pt", ".pth")) else "regular")
                for each in json.loads(body)["files"]
            ]
            return JSONResponse(
                {"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]}
            )
        for line in body.splitlines():
            key, value = json.loads(line).values()
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        commit = self.publish(name, files)
        url = f"{self.url}/{name}/commit/{commit}"
        return JSONResponse({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _place(self, oid: str) -> dict:
        return {} if oid in self.large else {"actions": {"upload": {"href": f"{self.url}/large/{oid}"}}}

    def _file(self, request: Request, path: str, name: str, files: dict[str, bytes], commit: str) -> Response:
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if name not in files:
            return _refused(404, "EntryNotFound", "Entry not found", headers)
        content, status = files[name], 200
        headers["ETag"] = f'"{_object_id(name, content)}"'
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")):
            first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        headers["Content-Length"] = str(len(content))
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)

        async def pieces():
            for start in range(0, len(content), PIECE):
                yield content[start : start + PIECE]
                self.sent[name] = self.sent.get(name, 0) + len(content[start : start + PIECE])
                if self.dies_at and self.dies_at in path and start + PIECE >= len(content) // 2:
                    self._server.should_exit = self._server.force_exit = True
                    raise ConnectionAbortedError

        return StreamingResponse(pieces(), status, headers)


def _refused(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    said = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return JSONResponse({"error": message}, status, headers=said | (headers or {}))


def _object_id(name: str, content: bytes) -> str:
    """What the Hub uses as ETag: git's name of the blob, or sha256 for what lies outside git."""
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _tree(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict]:
    entries: dict[str, dict] = {}
    for path, content in sorted(files.items()):
        if folder and not path.startswith(folder + "/"):
            continue
        inner = path[len(folder) + 1 :] if folder else path
        parents = inner.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            parent = "/".join([*([folder] if folder else []), *parents[:depth]])
            if recursive or depth == 1:
                oid = hashlib.sha1(parent.encode()).hexdigest()
                entries[parent] = {"type": "directory", "path": parent, "size": 0, "oid": oid}
        if recursive or not parents:
            entries[path] = {"type": "file", "path": path, "size": len(content)} | _blob(path, content)
    return list(entries.values())


def _blob(path: str, content: bytes) -> dict:
    if not path.endswith(LARGE):
        return {"oid": _object_id(path, content)}
    large = {
        "oid": _object_id(path, content),
        "sha256": _object_id(path, content),
        "size": len(content),
        "pointerSize": 134,
    }
    return {"oid": hashlib.sha1(content).hexdigest(), "lfs": large}


def _info(name: str, repository: Repository, commit: str, blobs: bool) -> dict:
    files = repository.commits[commit]
    siblings = [
        {"rfilename": path} | ({"size": len(content), "blobId": "0" * 40} if blobs else {})
        for path, content in sorted(files.items())
    ]
    info = {
        "_id": "0" * 24,
        "id": name,
        "sha": commit,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "tags": [],
        "downloads": 1,
        "likes": 0,
        "lastModified": "2026-01-01T00:00:00.000Z",
        "createdAt": "2026-01-01T00:00:00.000Z",
        "siblings": siblings,
    }
    counts = _parameters(files)
    return info | ({"safetensors": {"parameters": counts, "total": sum(counts.values())}} if counts else {})


def _parameters(files: dict[str, bytes]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for path, content in files.items():
        if path.startswith("model") and path.endswith(".safetensors"):
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            for tensor in (tensor for name, tensor in header.items() if name != "__metadata__"):
                counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + prod(tensor["shape"])
    return counts
