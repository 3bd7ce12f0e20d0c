"""A workspace filled by the real thing: the demo application and a task's metadata endpoint, scraped by a collector
process with the fleet's own configuration, which delivers by signed remote write to a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import yaml

from trunkline.simulator.prometheus import PrometheusServer

DATA = Path(__file__).parents[1] / "receivers" / "data"
TASK = "ecs_fargate_cgroupv2"
INTERVAL = "500ms"
PATIENCE_S = 20.0


class Workspace:
    """A Prometheus to ask, and the collector that delivers to it."""

    def __init__(self, url: str, collector: subprocess.Popen[str]) -> None:
        self.url = url
        self.collector = collector

    def ask(self, path: str, **form: str) -> Any:
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(form)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query", query=expr)["result"]
        return found

    def values(self, label: str, selector: str) -> list[str]:
        found: list[str] = self.ask(f"label/{label}/values", **{"match[]": selector})
        return sorted(found)

    def series(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = self.ask("series", **{"match[]": '{__name__=~".+"}'})
        return found


class Metadata(BaseHTTPRequestHandler):
    """The task metadata endpoint v4, with the answers of a task that once ran."""

    def do_GET(self) -> None:
        kind = {"/task": "metadata", "/task/stats": "stats"}.get(self.path)
        body = (DATA / f"{TASK}.task_{kind}.json").read_bytes() if kind else b""
        self.send_response(200 if kind else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def configuration(application: str, own_metrics: str, workspace: str) -> str:
    """The fleet's, with this computer's addresses, no role to assume, and in a hurry."""
    text = (resources.files("trunkline.fleet") / "collector.yaml").read_text("utf-8")
    text = re.sub(r"\$\{env:TRUNKLINE_METRICS_ADDRESS[^}]*\}", own_metrics, text)
    document = yaml.safe_load(
        text.replace("0.0.0.0:8000", application).replace("loglevel: debug", "loglevel: warn")
    )
    scraping = document["receivers"]["prometheus"]["config"]["global"]
    scraping |= {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL}
    document["receivers"]["awsecscontainermetrics"]["collection_interval"] = INTERVAL
    exporter = document["exporters"]["awsprometheusremotewrite"]
    exporter["endpoint"] = f"{workspace}/api/v1/write"
    del exporter["aws_auth"]["role_arn"]
    document["service"]["telemetry"] = {"metrics": {"address": own_metrics}}
    return json.dumps(document)


@contextmanager
def filled_workspace(folder: Path) -> Iterator[Workspace]:
    """The workspace, once there is enough for a rate of everything."""
    prometheus = PrometheusServer(folder / "workspace")
    asyncio.run(prometheus.start())
    endpoint = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    Thread(target=endpoint.serve_forever, daemon=True).start()
    try:
        shop = [
            sys.executable,
            "-m",
            "trunkline.simulator.demo_application",
            "--address",
            "127.0.0.1",
            "--port",
            "0",
        ]
        with process(shop, {}) as application:
            assert application.stdout
            opened = application.stdout.readline()
            found = re.search(r"open on (\S+)", opened)
            assert found, opened
            own_metrics = free_address()
            config = folder / "collector.yaml"
            config.write_text(configuration(found[1], own_metrics, prometheus.url))
            environment = {
                "ECS_CONTAINER_METADATA_URI_V4": f"http://127.0.0.1:{endpoint.server_port}",
                "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
                "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            }
            agent = [sys.executable, "-m", "trunkline", "collector", "run", "--config", str(config)]
            agent += ["--data-dir", str(folder / "data"), "--health-address", "127.0.0.1:0"]
            with process(agent, environment) as collector:
                workspace = Workspace(prometheus.url, collector)
                wait_for_rates(workspace)
                yield workspace
    finally:
        endpoint.shutdown()
        endpoint.server_close()
        asyncio.run(prometheus.stop())


def wait_for_rates(workspace: Workspace) -> None:
    """Until the youngest of what we need has been seen a few times."""
    youngest = (
        "shop_http_requests_total",
        "ecs_task_memory_utilized_MiB",
        "trunkline_delivered_samples_total",
        "trunkline_delivery_duration_seconds_bucket",
    )
    deadline = time.monotonic() + PATIENCE_S
    while missing := [name for name in youngest if not workspace.query(f"count_over_time({name}[1m]) >= 4")]:
        assert time.monotonic() < deadline, f"these have not come: {missing}"
        time.sleep(0.25)


@contextmanager
def process(command: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    running = subprocess.Popen(
        command,
        env={**inherited, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.communicate()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"
