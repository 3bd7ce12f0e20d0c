"""As much of Grafana's HTTP API as `trunkline dashboards push` uses, as its documentation describes it.

Folders: https://grafana.com/docs/grafana/v10.4/developers/http_api/folder/
Dashboards: https://grafana.com/docs/grafana/v10.4/developers/http_api/dashboard/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Answer = tuple[int, dict[str, Any]]
KNOWN_KEYS = {"dashboard", "folderUid", "folderId", "overwrite", "message"}


@dataclass
class GrafanaStandIn:
    """One organisation. `prefix` is the path it is served under; `broken` answers everything, if it is set."""

    token: str
    prefix: str = ""
    port: int = 0
    broken: tuple[int, bytes, dict[str, str]] | None = None
    folders: dict[str, dict[str, Any]] = field(default_factory=dict)
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def answer(self, method: str, path: str, authorization: str, body: Any) -> Answer:
        self.asked.append(f"{method} {path}")
        if authorization != f"Bearer {self.token}":
            return 401, {"message": "Invalid API key"}
        if not path.startswith(f"{self.prefix}/api/"):
            return 404, {"message": "Not found"}
        rest = path.removeprefix(self.prefix)
        if method == "POST":
            return {"/api/folders": self._make_folder, "/api/dashboards/db": self._store}[rest](body)
        found = re.fullmatch(r"/api/(folders|dashboards/uid)/([\w-]+)", rest)
        assert found, rest
        stored = (self.folders if found[1] == "folders" else self.dashboards).get(found[2])
        return (200, stored) if stored else (404, {"message": "not found", "status": "not-found"})

    def _make_folder(self, body: dict[str, Any]) -> Answer:
        assert body.keys() <= {"uid", "title", "parentUid"}
        if not body.get("title"):
            return 400, {"message": "folder title cannot be empty"}
        if body["uid"] in self.folders:
            return 412, {"message": "a folder with the same uid already exists"}
        uid = body["uid"]
        self.folders[uid] = {"id": 1, "uid": uid, "title": body["title"], "url": f"/dashboards/f/{uid}/x"}
        return 200, self.folders[uid]

    def _store(self, body: dict[str, Any]) -> Answer:
        assert body.keys() <= KNOWN_KEYS
        dashboard = body["dashboard"]
        if not dashboard.get("title"):
            return 400, {"message": "Dashboard title cannot be empty", "status": "empty-name"}
        if len(dashboard["uid"]) > 40:
            return 400, {"message": "uid too long, max 40 characters"}
        if body.get("folderUid") not in self.folders:
            return 400, {"message": "folder not found"}
        if dashboard.get("id") is not None:
            return 404, {"message": "Dashboard not found", "status": "not-found"}
        stored = self.dashboards.get(dashboard["uid"])
        if stored and not body.get("overwrite"):
            return 412, {
                "message": "The dashboard has been changed by someone else",
                "status": "version-mismatch",
            }
        version = stored["dashboard"]["version"] + 1 if stored else 1
        number = stored["dashboard"]["id"] if stored else len(self.dashboards) + 2
        url = f"{self.prefix}/d/{dashboard['uid']}/x"
        self.dashboards[dashboard["uid"]] = {
            "dashboard": {**dashboard, "id": number, "version": version},
            "meta": {"folderUid": body["folderUid"], "url": url, "version": version, "slug": "x"},
        }
        return 200, {
            "id": number,
            "uid": dashboard["uid"],
            "url": url,
            "status": "success",
            "version": version,
        }


@contextmanager
def running(grafana: GrafanaStandIn) -> Iterator[GrafanaStandIn]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def do_PUT(self) -> None:
            self.do_POST()

        def _answer(self, body: Any) -> None:
            authorization = self.headers.get("Authorization", "")
            status, found = grafana.answer(self.command, self.path, authorization, body)
            content, headers = json.dumps(found).encode(), {"Content-Type": "application/json"}
            if grafana.broken:
                status, content, headers = grafana.broken
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    grafana.port = server.server_port
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield grafana
    finally:
        server.shutdown()
        server.server_close()
