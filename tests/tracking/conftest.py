"""A W&B server small enough to read: it keeps the rows, the summary and the exit code that the real client sends it."""

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

PROJECT = {"name": "project", "id": "project", "entity": {"name": "somebody", "id": "somebody"}}


class FakeServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.history = []
        self.summary = "{}"
        self.exit_code = None
        self.exists = False
        self.config = {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def rows(self):
        return [json.loads(line) for line in self.history]

    def stream(self, body):
        files = body.get("files", {})
        if history := files.get("wandb-history.jsonl"):
            self.history[history["offset"] :] = history["content"]
        if summary := files.get("wandb-summary.json"):
            self.summary = summary["content"][-1]
        self.exit_code = body.get("exitcode", self.exit_code)

    def graphql(self, operation, variables):
        if operation == "UpsertBucket":
            new, self.exists = not self.exists, True
            self.config = json.loads(variables.get("config") or "{}") or self.config
            run = {"id": "run", "name": variables.get("name"), "displayName": variables.get("displayName")}
            run |= {"description": "", "config": "{}", "sweepName": None, "project": PROJECT}
            run["historyLineCount"] = len(self.history)
            return {"upsertBucket": {"bucket": run, "inserted": new}}
        if operation == "RunResumeStatus":
            run = {"id": "run", "name": "run", "eventsLineCount": 0, "logLineCount": 0, "eventsTail": "[]", "tags": []}
            run |= {"historyLineCount": len(self.history), "historyTail": json.dumps(self.history[-1:])}
            run |= {"summaryMetrics": self.summary, "config": "{}", "wandbConfig": '{"t": 1}'}
            return {"model": {**PROJECT, "bucket": run if self.exists else None}}
        if operation == "ArtifactType":
            return {"project": None}
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data)
        if "file_stream" in self.path:
            self.server.stream(body)
            self.answer({"limits": {}})
            return
        operation = re.search(r"(?:query|mutation)\s+(\w+)", body.get("query", "")).group(1)
        result = self.server.graphql(operation, body.get("variables") or {})
        # Errors go in a well-formed answer: the client repeats a request that got none for ever.
        unknown = {"data": None, "errors": [{"message": f"not here: {operation}"}]}
        self.answer(unknown if result is None else {"data": result})

    def answer(self, content):
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def server():
    with FakeServer() as fake:
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        yield fake
        fake.shutdown()
