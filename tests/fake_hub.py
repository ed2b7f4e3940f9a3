"""A repository of the Hugging Face Hub on this machine: what its client library asks for, and nothing more."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from gate import Gate
from huggingface_hub import close_session, constants

from drorae.pretrained import download
from drorae.pretrained.download import end_server

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PIECE = 16384


@contextmanager
def serve(name: str, folder: Path, pieces: Gate | None = None) -> Iterator[str]:
    """Serve a folder as the repository ``name``; yields the address of the hub.

    Every piece of a file but its first waits at the gate ``pieces``: what is small arrives, what is large is held.
    """
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args) -> None:
            """Quiet."""

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def do_GET(self, body: bool = True) -> None:
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{name}/tree/"):
                rows = [
                    {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for file, content in files.items()
                ]
                return self.answer(json.dumps(rows).encode(), {"Content-Type": "application/json"}, body)
            if path in (f"/api/models/{name}", f"/api/models/{name}/revision/main"):
                siblings = [{"rfilename": file} for file in files]
                info = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
                return self.answer(json.dumps(info).encode(), {"Content-Type": "application/json"}, body)
            prefix = f"/{name}/resolve/"
            file = path.removeprefix(prefix).partition("/")[2]
            if path.startswith(prefix) and file in files:
                digest = hashlib.sha256(files[file]).hexdigest()
                headers = {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
                return self.answer(files[file], headers, body)
            return self.answer(b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"}, body, 404)

        def answer(self, content: bytes, headers: dict[str, str], body: bool, code: int = 200) -> None:
            self.send_response(code)
            for key, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(key, value)
            self.end_headers()
            if not body:
                return
            for start in range(0, len(content), PIECE):
                if start and pieces is not None:
                    pieces.enter()
                try:
                    self.wfile.write(content[start : start + PIECE])
                except OSError:  # whoever asked has gone
                    return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def reach(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started from now on, as downloads are. Like this one, they take the hub at ``address`` for the
    one there is, with an empty cache.

    The library reads its environment once, when it is imported.
    """
    for key, value in {"HF_ENDPOINT": address, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()  # it remembers whether there is a network, and its proxies
    end_server()  # it was started with another one
    monkeypatch.setattr(download, "_started", None)  # and what is started now is not for other tests
