"""A stand-in for the API of wandb's server: it keeps sweeps, hands their points to agents and takes runs in."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

LOGIN = {"id": "user", "username": "me", "email": "me@lab", "entity": "me", "admin": False, "flags": "{}"}


class State:
    """What the server knows.

    Attributes:
        sweeps: Definitions by name, as they came.
        open: Points of the grid that no agent has yet, by sweep.
        given: Run id → parameters, of the points handed out.
        heartbeats: States of runs as agents reported them, in order.
        runs: Run id → the name of the sweep that it said it belongs to.
        history: Run id → metrics as they were logged, in order.
        artifacts: Run id → names of the artifacts that it made.
    """

    def __init__(self) -> None:
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.open: dict[str, list[dict[str, Any]]] = {}
        self.given: dict[str, dict[str, Any]] = {}
        self.heartbeats: list[dict[str, str]] = []
        self.runs: dict[str, str | None] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.artifacts: dict[str, list[str]] = {}
        self.lock = threading.Lock()

    def answer(self, operation: str, given: dict[str, Any]) -> Any:
        """The `data` of a GraphQL operation; None if this server does not know it, as older ones of wandb's do not."""
        method = getattr(self, f"on_{operation}", None)
        with self.lock:
            return None if method is None else method(given)

    def on_UpsertSweep(self, given: dict[str, Any]) -> Any:
        name = f"sweep{len(self.sweeps)}"
        self.sweeps[name] = content = yaml.safe_load(given["config"])
        parameters = content["parameters"]
        values = [each.get("values") or [each["value"]] for each in parameters.values()]
        self.open[name] = [dict(zip(parameters, point, strict=True)) for point in itertools.product(*values)]
        project = {"id": "project", "name": given["projectName"], "entity": {"id": "entity", "name": "me"}}
        return {"upsertSweep": {"sweep": {"name": name, "project": project}, "configValidationWarnings": []}}

    def on_SweepWithRuns(self, given: dict[str, Any]) -> Any:
        config = yaml.safe_dump(self.sweeps[given["sweep"]])
        found = {"id": given["sweep"], "name": given["sweep"], "state": "RUNNING", "config": config}
        return {"project": {"sweep": {**found, "method": "grid", "runs": {"edges": []}}}}

    def on_CreateAgent(self, given: dict[str, Any]) -> Any:
        return {"createAgent": {"agent": {"id": f"agent of {given['sweep']}"}}}

    def on_Heartbeat(self, given: dict[str, Any]) -> Any:
        states = json.loads(given["runState"])
        self.heartbeats.append(states)
        name = given["id"].removeprefix("agent of ")
        commands: list[dict[str, Any]] = []
        if not states and self.open[name]:
            run = f"trial{len(self.given)}"
            self.given[run] = self.open[name].pop(0)
            arguments = {key: {"value": value} for key, value in self.given[run].items()}
            program = self.sweeps[name]["program"]
            commands = [{"type": "run", "run_id": run, "program": program, "args": arguments}]
        elif not states:
            commands = [{"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": given["id"]}, "commands": json.dumps(commands)}}

    def on_Viewer(self, given: dict[str, Any]) -> Any:
        return {"viewer": {**LOGIN, "teams": {"edges": []}, "apiKeys": {"edges": []}}}

    def on_RunResumeStatus(self, given: dict[str, Any]) -> Any:
        return {"model": {"id": "project", "name": given["project"], "entity": {"id": "entity"}, "bucket": None}}

    def on_UpsertBucket(self, given: dict[str, Any]) -> Any:
        run = given["name"]
        self.runs[run] = self.runs.get(run) or given.get("sweep")
        project = {"id": "project", "name": given["project"], "entity": {"id": "entity", "name": "me"}}
        bucket = {"id": f"id-{run}", "name": run, "displayName": run, "description": "", "config": "{}"}
        bucket |= {"sweepName": given.get("sweep"), "historyLineCount": 0, "project": project}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def on_CreateArtifact(self, given: dict[str, Any]) -> Any:
        made = given["input"]
        self.artifacts.setdefault(made["runName"], []).append(made["artifactCollectionName"])
        artifact = {"id": "artifact", "state": "COMMITTED", "artifactSequence": {"id": "s", "latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}  # as one that the server has already: nothing is uploaded


class Handler(BaseHTTPRequestHandler):
    """GraphQL, and the stream of what a run logs."""

    state: State

    def do_GET(self) -> None:
        self.reply({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/sdk/otel/"):  # wandb's telemetry of itself
            return self.reply({})
        content = json.loads(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        if stream := re.fullmatch(r"/files/.*/([^/]+)/file_stream", self.path):
            lines = content.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.state.history.setdefault(stream[1], []).extend(json.loads(line) for line in lines)
            self.reply({"exitcode": None, "limits": {}})
        elif self.path == "/graphql":
            named = re.match(r"\s*(?:query|mutation)\s+(\w+)", content["query"])
            data = self.state.answer(named[1] if named else content["query"], content.get("variables") or {})
            self.reply({"errors": [{"message": "this stand-in has no answer"}]} if data is None else {"data": data})
        else:
            self.reply({})

    def reply(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving() -> Iterator[tuple[str, State]]:
    """The address of a server on this machine alone, and what it knows."""
    state = State()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
