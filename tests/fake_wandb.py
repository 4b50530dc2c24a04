"""A W&B server on 127.0.0.1, as far as the real client needs one: what it was sent can be read back.

It keeps what the mirror promises: rows, configuration, summary, tags and exit state of each run, artifacts with who
made and who used them, saved views, sweeps. A GraphQL operation it does not know is answered with an error and noted in
`unknown`, so that a new release of wandb says what it wants. `trouble` makes it a bad server, at once or in mid-run.
"""

import contextlib
import gzip
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fake_wandb_operations import ENTITY, Artifacts, ViewsAndSweeps, project

RUN_FIELDS = {
    "name": "name",
    "displayName": "name",
    "groupName": "group",
    "jobType": "job_type",
    "tags": "tags",
    "notes": "notes",
}


@dataclass
class Run:
    """A run as the server has it."""

    id: str
    history: list = field(default_factory=list)
    config: dict = field(default_factory=dict)
    summary: dict = field(default_factory=dict)
    exit_code: int | None = None
    preempting: bool = False
    name: str = ""
    group: str = ""
    job_type: str = ""
    notes: str = ""
    tags: list = field(default_factory=list)
    project: str = ""
    sweep: str | None = None

    @property
    def rows(self):
        return [json.loads(line) for line in self.history]

    @property
    def settings(self):
        """The configuration without the envelope of each value, and without what wandb notes for itself."""
        return {key: entry["value"] for key, entry in self.config.items() if key != "_wandb"}


class FakeServer(Artifacts, ViewsAndSweeps, ThreadingHTTPServer):
    """Serves until it is left as a context manager.

    Attributes:
        trouble: None; "hang" (accepts, never answers), or an HTTP status that answers everything.
        trouble_after: (event, trouble): bad from then on; the event is an operation's name, or "rows".
        silent_operations: GraphQL operations that are never answered.
        errors_left: how many requests are still answered by status 500 before all is well.
    """

    daemon_threads = True
    block_on_close = False  # a hanging connection must not hang the test

    def __init__(self, trouble=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.runs = {}
        self.artifacts = {}
        self.views = []
        self.sweeps = {}
        self.operations = []
        self.unknown = []
        self.trouble = trouble
        self.trouble_after = None
        self.silent_operations = set()
        self.errors_left = 0
        self.requests = 0
        self.leaving = threading.Event()
        self.lock = threading.RLock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def run(self):
        """The only run."""
        (run,) = self.runs.values()
        return run

    @property
    def variables(self):
        """What the environment of a client needs."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "0" * 40}

    def handle_error(self, request, client_address):
        """A client that was killed, or gave up, is no fault of the test."""

    # What arrives.

    def stream(self, run_id, body):
        run = self.runs[run_id]
        files = body.get("files", {})
        if history := files.get("wandb-history.jsonl"):
            run.history[history["offset"] :] = history["content"]
        if summary := files.get("wandb-summary.json"):
            run.summary = json.loads(summary["content"][-1])
        run.exit_code = body.get("exitcode", run.exit_code)
        run.preempting = body.get("preempting", run.preempting)
        if run.history:
            self._happened("rows")

    def _happened(self, event):
        if self.trouble_after and self.trouble_after[0] == event:
            self.trouble = self.trouble_after[1]

    def graphql(self, operation, variables):
        """The answer's data, or None for an operation that is not known."""
        self.operations.append((operation, variables))
        answer = getattr(self, f"on_{operation}", None)
        if answer is None:
            self.unknown.append(operation)
            return None
        self._happened(operation)
        return answer(variables.get("input") or variables)

    # Runs.

    def on_UpsertBucket(self, sent):
        inserted = sent["name"] not in self.runs
        run = self.runs.setdefault(sent["name"], Run(sent["name"]))
        for theirs, ours in RUN_FIELDS.items():
            if sent.get(theirs) is not None and theirs != "name":
                setattr(run, ours, sent[theirs])
        run.project = sent.get("project") or run.project
        run.sweep = sent.get("sweep") or run.sweep
        if sent.get("config"):
            run.config = json.loads(sent["config"])
        return {"upsertBucket": {"bucket": self._bucket(run), "inserted": inserted}}

    def on_RunResumeStatus(self, sent):
        run = self.runs.get(sent["name"])
        return {"model": {**project(sent["project"]), "bucket": self._bucket(run) if run else None}}

    def _bucket(self, run):
        return {
            "id": run.id,
            "name": run.id,
            "displayName": run.name,
            "description": "",
            "notes": run.notes,
            "config": json.dumps(run.config),
            "tags": run.tags,
            "sweepName": run.sweep,
            "project": project(run.project),
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.history),
            "historyTail": json.dumps(run.history[-1:]),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "eventsTail": "[]",
            "wandbConfig": '{"t": 1}',
        }

    def on_CreateRunFiles(self, sent):
        files = [{"name": name, "uploadUrl": f"{self.url}/storage/{sent['run']}/{name}"} for name in sent["files"]]
        return {"createRunFiles": {"runID": sent["run"], "uploadHeaders": [], "files": files}}

    def on_Viewer(self, sent):
        viewer = {"id": ENTITY, "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "admin": False}
        return {"viewer": {**viewer, "teams": {"edges": []}}}

    def on_GetDefaultEntity(self, sent):
        return {"viewer": {"id": ENTITY, "defaultEntity": {"name": ENTITY}, "entity": ENTITY}}

    def on_ServerFeaturesQuery(self, sent):
        return {"serverInfo": {"features": []}}

    def on_OrganizationCoreWeaveOrganizationID(self, sent):
        return {"entity": None}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        if self.troubled():
            return
        self.answer({})

    def do_PUT(self):
        data = self.body()
        if self.troubled():
            return
        if match := re.fullmatch(r"/artifact/([^/]+)/(.+)", self.path):
            self.server.artifacts[match[1]].files[match[2]] = data
        self.answer({})

    def do_POST(self):
        data = self.body()
        if self.troubled():
            return
        content = json.loads(gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data)
        operation = (re.search(r"(?:query|mutation)\s+(\w+)", content.get("query", "")) or [None, None])[1]
        if operation in self.server.silent_operations:
            self.server.leaving.wait()
            return
        with self.server.lock:
            if match := re.search(r"/([^/]+)/file_stream$", self.path):
                self.server.stream(match[1], content)
                self.answer({"limits": {}})
                return
            result = self.server.graphql(operation, content.get("variables") or {})
        # Errors go in a well-formed answer: the client repeats a request that got none for ever.
        unknown = {"data": None, "errors": [{"message": f"not here: {operation}"}]}
        self.answer(unknown if result is None else {"data": result})

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def troubled(self):
        """Misbehave, if that is what is wanted."""
        server = self.server
        server.requests += 1
        if server.trouble == "hang":
            server.leaving.wait()
            self.close_connection = True
            return True
        status = server.trouble
        if server.errors_left:
            server.errors_left, status = server.errors_left - 1, 500
        if status is None:
            return False
        self.answer({"errors": [{"message": f"trouble {status}"}]}, status)
        return True

    def answer(self, content, status=200):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def serving(trouble=None) -> Iterator[FakeServer]:
    """A server that runs until the end of the `with` block."""
    with FakeServer(trouble) as fake:
        threading.Thread(target=fake.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield fake
        finally:
            fake.leaving.set()
            fake.shutdown()
