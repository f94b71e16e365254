"""An HTTP server on this machine that breaks off, forgets ranges or changes its files, as it is told to."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LocalServer:
    """Files served and requests received.

    Attributes:
        files: Path → content.
        break_after: Bytes after which a connection is closed, for each of the next requests; then none is.
        ranges: Whether it answers requests for a part with that part.
        asked: The Range header of each request, or "".
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.break_after: list[int] = []
        self.ranges = True
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def serving() -> Iterator[LocalServer]:
    """Runs a server; its state may be changed between requests."""
    state = LocalServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append(wanted)
            content = state.files.get(self.path)
            if content is None:
                return self.send_error(404)
            tag = f'"{hash(content)}"'
            same = self.headers.get("If-Range", tag) == tag
            start = int(re.findall(r"\d+", wanted)[0]) if wanted and same and state.ranges else 0
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206 if start else 200)
            self.send_header("ETag", tag)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = start + state.break_after.pop(0) if state.break_after else len(content)
            self.wfile.write(content[start:end])
            return None

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
