"""An S3-compatible store on this machine, spoken to over HTTP, behind a line that can be cut."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import boto3
from moto.server import ThreadedMotoServer

KEY, SECRET = "AKIATESTKEYOFNOBODY0", "a-secret-that-no-file-may-hold/+="


class Line:
    """Forwards TCP connections to a port.

    Attributes:
        cuts: Answers that will be cut off after a kilobyte, as by a router that restarts.
        refused: Until when (`time.monotonic`) connections are closed at once.
        answers: Answers that began.
        lost: Answers that were cut off, and connections that were closed.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.cuts = self.answers = self.lost = 0
        self.refused = 0.0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if time.monotonic() < self.refused:
                self.lost += 1
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, to: socket.socket, answers: bool) -> None:
        sent = 0
        with suppress(OSError):
            while content := source.recv(1024):
                self.answers += answers and sent == 0
                to.sendall(content)
                sent += len(content)
                if answers and self.cuts > 0 and sent > 1024:
                    self.cuts -= 1
                    self.lost += 1
                    break
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        """Take no more connections."""
        self._server.close()


@contextmanager
def object_store(bucket: str) -> Iterator[tuple[Line, dict[str, str]]]:
    """A store with an empty bucket; yields its line, and the environment in which programs reach it."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    line = Line(port)
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{line.port}",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        ).create_bucket(Bucket=bucket)
        yield line, environment
    finally:
        line.close()
        server.stop()
