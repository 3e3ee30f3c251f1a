"""A stand-in for W&B's server on this machine: runs, sweeps by grid, and reading back; what it was sent is kept.

The operations and what they hold are those of ``docs/facts.md``. An unknown operation is noted, not answered.
"""

import gzip
import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

WHO = {"id": "u", "name": "someone", "username": "someone", "email": "someone@example.com", "entity": "someone"}
ENTITY = {"id": "e", "name": "someone"}
PROJECT = {"id": "p", "internalId": "1", "name": "paperzoo", "entity": ENTITY, "entityName": "someone",
           "createdAt": "2026-01-01T00:00:00", "readOnly": False, "isBenchmark": False, "user": None}  # fmt: skip


class Server:
    """Answers on a port of its own.

    Attributes:
        runs: by W&B's run id: config and summary (JSON), history (rows), state, exit code, sweep.
        sweeps: by id: the YAML that was sent, the arguments of runs that no agent has yet, state.
        unknown: operations that this stand-in does not know.
        away: while it is true, every request is answered by 503.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []  # reports
        self.unknown: list[str] = []
        self.away = False
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows of all runs."""
        return [row for run in self.runs.values() for row in run["history"]]

    @property
    def exit_codes(self) -> list[int]:
        """Of the runs that have ended."""
        return [run["exit_code"] for run in self.runs.values() if run["exit_code"] is not None]

    def stop(self) -> None:
        """Close the port."""
        self.server.shutdown()
        self.server.server_close()

    def run(self, name: str) -> dict[str, Any]:
        """A run, made if it is new."""
        empty = {"config": "{}", "summary": "{}", "history": [], "exit_code": None, "state": "running", "sweep": None}
        return self.runs.setdefault(name, {**empty, "display": name, "tags": []})

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """The data of an operation; None if it is unknown."""
        known = getattr(self, f"_{operation}", None)
        with self.lock:
            return known(variables) if known else None

    # ---- who and what there is

    def _Viewer(self, _: Any) -> dict[str, Any]:
        return {"viewer": WHO | {"flags": "{}", "teams": {"edges": []}, "apiKeys": {"edges": []}, "admin": False}}

    _GetDefaultEntity = _Viewer

    def _ServerFeaturesQuery(self, _: Any) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _OrganizationCoreWeaveOrganizationID(self, _: Any) -> dict[str, Any]:
        return {"entity": None}

    # ---- runs that log

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:
        new = given["name"] not in self.runs
        run = self.run(given["name"])
        for key, field in (("config", "config"), ("summaryMetrics", "summary"), ("displayName", "display"),
                           ("sweep", "sweep"), ("tags", "tags")):  # fmt: skip
            if given.get(key):
                run[field] = given[key]
        bucket = self._node(given["name"]) | {"project": PROJECT}
        return {"upsertBucket": {"bucket": bucket, "inserted": new}}

    def _RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"model": {"id": "p", "name": "paperzoo", "entity": ENTITY, "bucket": None}}

    def _RunStoppedStatus(self, _: Any) -> dict[str, Any]:
        return {"project": {"run": {"stopped": False}}}

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/put/{name}"} for name in given.get("files", [])]
        return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}

    def stream(self, name: str, content: dict[str, Any]) -> None:
        """What a run sends as it goes: rows at an offset, its summary, its end."""
        with self.lock:
            run, files = self.run(name), content.get("files") or {}
            rows = files.get("wandb-history.jsonl", {})
            for number, row in enumerate(rows.get("content", []), rows.get("offset", 0)):
                if number >= len(run["history"]):
                    run["history"].append(json.loads(row))
            for summary in files.get("wandb-summary.json", {}).get("content", []):
                run["summary"] = summary
            if content.get("complete"):
                run["exit_code"] = content["exitcode"]
                run["state"] = "finished" if content["exitcode"] == 0 else "failed"

    # ---- sweeps

    def _UpsertSweep(self, given: dict[str, Any]) -> dict[str, Any]:
        name = f"sweep{len(self.sweeps)}"
        config = yaml.safe_load(given["config"])
        lists = {key: part.get("values", [part.get("value")]) for key, part in config["parameters"].items()}
        cells = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]
        self.sweeps[name] = {"config": given["config"], "waiting": cells, "given": {}, "state": "RUNNING"}
        return {"upsertSweep": {"sweep": {"name": name, "project": PROJECT}, "configValidationWarnings": []}}

    def _SweepWithRuns(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"sweep": self._sweep(given["sweep"]) | {"runs": {"edges": []}}}}

    def _GetSweep(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given.get("sweepName") or given.get("name") or given.get("sweep")
        return {"project": {"sweep": self._sweep(name) if name in self.sweeps else None}}

    _GetSweepLegacy = _GetSweep

    def _sweep(self, name: str) -> dict[str, Any]:
        sweep = self.sweeps[name]
        config = yaml.safe_load(sweep["config"])
        runs = [run for run in self.runs.values() if run["sweep"] == name]
        return {"id": name, "name": name, "displayName": config.get("name"), "method": config["method"],
                "state": sweep["state"], "description": config.get("description"), "config": sweep["config"],
                "createdAt": "2026-01-01T00:00:00", "updatedAt": "2026-01-01T00:00:00", "heartbeatAt": None,
                "earlyStopJobRunning": False, "controller": None, "scheduler": None, "runCount": len(runs),
                "runCountExpected": None, "bestLoss": None, "user": WHO, "priorRuns": {"edges": []},
                "project": PROJECT}  # fmt: skip

    def _CreateAgent(self, _: Any) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "agent"}}}

    def _Heartbeat(self, given: dict[str, Any]) -> dict[str, Any]:
        states = json.loads(given["runState"]) if given.get("runState") else {}
        (name, sweep), *_ = list(self.sweeps.items())[::-1]
        commands: list[dict[str, Any]] = []
        if not any(states.values()):  # the agent is idle
            if sweep["waiting"]:
                cell = sweep["waiting"].pop(0)
                run = f"{name}run{len(sweep['given'])}"
                sweep["given"][run] = cell
                self.run(run)["sweep"] = name
                arguments = {key: {"value": value} for key, value in cell.items()}
                program = yaml.safe_load(sweep["config"])["program"]
                commands = [{"type": "run", "run_id": run, "program": program, "args": arguments}]
            else:
                sweep["state"], commands = "FINISHED", [{"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}

    # ---- reading back

    def _node(self, name: str) -> dict[str, Any]:
        run = self.run(name)
        return {"id": name, "name": name, "displayName": run["display"], "state": run["state"], "tags": run["tags"],
                "sweepName": run["sweep"], "config": run["config"], "summaryMetrics": run["summary"],
                "systemMetrics": "{}", "historyLineCount": len(run["history"]), "historyKeys": self._keys(run),
                "group": None, "jobType": None, "commit": None, "readOnly": False, "projectId": "1",
                "createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:00:00", "description": "",
                "notes": "", "user": WHO}  # fmt: skip

    @staticmethod
    def _keys(run: dict[str, Any]) -> dict[str, Any]:
        rows = run["history"]
        names = {key for row in rows for key in row}
        return {"sets": [], "keys": {key: {"typeCounts": [{"count": len(rows), "type": "number"}]} for key in names},
                "lastStep": len(rows) - 1}  # fmt: skip

    def _Runs(self, given: dict[str, Any]) -> dict[str, Any]:
        wanted = json.loads(given.get("filters") or "{}")
        sweep = next((part["sweep"] for part in [wanted, *wanted.get("$and", [])] if "sweep" in part), None)
        names = sorted(name for name, run in self.runs.items() if sweep in (None, run["sweep"]))
        start = int(given["cursor"]) + 1 if given.get("cursor") else 0
        page = names[start : start + given.get("perPage", 50)]
        edges = [{"node": self._node(name), "cursor": str(start + place)} for place, name in enumerate(page)]
        end = {"endCursor": edges[-1]["cursor"] if edges else None, "hasNextPage": start + len(page) < len(names)}
        return {"project": PROJECT | {"runCount": len(names), "runs": {"edges": edges, "pageInfo": end}}}

    def _Run(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": PROJECT | {"run": self._node(given["name"]) if given["name"] in self.runs else None}}

    def _RunFullHistory(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"history": [json.dumps(row) for row in self.run(given["name"])["history"]]}}}

    def _RunSampledHistory(self, given: dict[str, Any]) -> dict[str, Any]:
        rows = self.run(given["name"])["history"]
        return {"project": {"run": {"sampledHistory": [rows for _ in given["specs"]]}}}

    def _HistoryPage(self, given: dict[str, Any]) -> dict[str, Any]:
        run = given.get("run") or given["name"]
        rows = self.run(run)["history"]
        low, high = given.get("minStep") or 0, given.get("maxStep") or len(rows)
        page = [json.dumps(row) for row in rows if low <= row.get("_step", 0) < high]
        return {"project": {"run": {"history": page, "sampledHistory": [page]}}}

    def _RunHistoryKeys(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"run": {"historyKeys": self._keys(self.run(given["name"]))}}}

    # ---- reports

    def _ProjectInternalId(self, _: Any) -> dict[str, Any]:
        return {"project": PROJECT}

    def _GetProjects(self, _: Any) -> dict[str, Any]:
        return {
            "models": {
                "edges": [{"node": PROJECT, "cursor": "0"}],
                "pageInfo": {"endCursor": "0", "hasNextPage": False},
            }
        }

    def _upsertView(self, given: dict[str, Any]) -> dict[str, Any]:
        self.views.append(given)
        view = {"id": "dmlldzox", "name": given.get("name"), "displayName": given.get("displayName"),
                "type": given.get("type"), "spec": given.get("spec"), "description": given.get("description"),
                "project": PROJECT, "user": WHO, "createdAt": PROJECT["createdAt"],
                "updatedAt": PROJECT["createdAt"]}  # fmt: skip
        return {"upsertView": {"view": view, "inserted": True}}


class _Handler(BaseHTTPRequestHandler):
    owner: Server

    def log_message(self, *_: Any) -> None:
        """Be silent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        content = json.loads(body or b"{}")
        if self.owner.away:
            self._answer({}, 503)
        elif self.path.endswith("/file_stream"):
            self.owner.stream(self.path.split("/")[-2], content)
            self._answer({"limits": {}})
        else:
            self._answer({"data": self._data(content)})

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer({}, 503 if self.owner.away else 200)

    def do_GET(self) -> None:
        self._answer({})

    def _data(self, content: dict[str, Any]) -> dict[str, Any]:
        query = content.get("query", "")
        name = content.get("operationName") or query.split("(")[0].split("{")[0].split()[-1]
        data = self.owner.answer(name, content.get("variables") or {})
        if data is None:
            self.owner.unknown.append(name)
        return data or {}

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
