"""A stand-in for W&B's server on this machine: as much as an online run needs, and a log of what it was sent."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WHO = {"id": "u", "name": "someone", "username": "someone", "email": "someone@example.com", "entity": "someone"}


class Server:
    """Answers on a port of its own; ``history`` holds the rows that runs have logged."""

    def __init__(self) -> None:
        self.history: list[dict[str, Any]] = []
        self.exit_codes: list[int] = []
        self.unknown: list[str] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    owner: Server

    def log_message(self, *_: Any) -> None:
        """Be silent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        content = json.loads(body or b"{}")
        if self.path.endswith("/file_stream"):
            self._stream(content)
            self._answer({"limits": {}})
        else:
            self._answer({"data": self._data(content)})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer({})

    def do_GET(self) -> None:
        self._answer({})

    def _stream(self, content: dict[str, Any]) -> None:
        rows = (content.get("files") or {}).get("wandb-history.jsonl", {}).get("content", [])
        self.owner.history += [json.loads(row) for row in rows]
        if content.get("complete"):
            self.owner.exit_codes.append(content["exitcode"])

    def _data(self, content: dict[str, Any]) -> dict[str, Any]:
        operation, variables = content.get("operationName") or "", content.get("variables") or {}
        query = content.get("query", "")
        name = operation or query.split("(")[0].split("{")[0].split()[-1]
        project = {"id": "p", "name": "paperzoo", "entity": {"id": "e", "name": "someone"}}
        run = {"id": "r", "name": variables.get("name"), "displayName": "r", "config": "{}", "sweepName": None,
               "project": project, "historyLineCount": 0}  # fmt: skip
        files = [{"name": f, "uploadUrl": f"{self.owner.url}/put/{f}"} for f in variables.get("files", [])]
        known = {
            "Viewer": {"viewer": WHO | {"flags": "{}", "teams": {"edges": []}}},
            "ServerFeaturesQuery": {"serverInfo": {"features": []}},
            "UpsertBucket": {"upsertBucket": {"bucket": run, "inserted": True}},
            "RunResumeStatus": {"model": {"id": "p", "name": "paperzoo", "entity": project["entity"], "bucket": None}},
            "RunStoppedStatus": {"project": {"run": {"stopped": False}}},
            "OrganizationCoreWeaveOrganizationID": {"entity": None},
            "CreateRunFiles": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}},
        }
        if name not in known:
            self.owner.unknown.append(name)
        return known.get(name, {})

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
