"""The demo application as a process of its own, over real HTTP."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def application() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The process and the port it chose."""
    environment = {**os.environ, "PORT": "0", "BIND_ADDRESS": "127.0.0.1"}
    command = [sys.executable, "-m", "trunkline.simulator.demo_application"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            opened = process.stdout.readline()
            match = re.fullmatch(r"the shop is open on 127\.0\.0\.1:(\d+)\n", opened)
            assert match, opened
            yield process, int(match[1])
        finally:
            process.kill()


def get(port: int, path: str, accept: str = "*/*") -> tuple[int, str, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


def samples(port: int) -> Samples:
    families = text_string_to_metric_families(get(port, "/metrics")[2])
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_have_every_kind(application: tuple[subprocess.Popen[str], int]) -> None:
    _, port = application
    families = {
        family.name: family.type for family in text_string_to_metric_families(get(port, "/metrics")[2])
    }
    assert families["shop_orders"] == "counter"
    assert families["shop_orders_waiting"] == "gauge"
    assert families["shop_workers_busy"] == "gauge"
    assert families["shop_order_duration_seconds"] == "histogram"
    assert families["process_cpu_seconds"] == "counter"
    assert not [name for name in families if name.endswith("_created")]


def test_openmetrics_when_asked_for(application: tuple[subprocess.Popen[str], int]) -> None:
    _, port = application
    status, kind, body = get(port, "/metrics", "application/openmetrics-text; version=1.0.0")
    assert status == 200
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


def test_a_request_is_an_order_and_is_counted(application: tuple[subprocess.Popen[str], int]) -> None:
    _, port = application
    key = ("shop_http_requests_total", (("path", "/"), ("status", "200")))
    before = samples(port)
    status, _, body = get(port, "/")
    after = samples(port)
    assert status == 200
    assert re.fullmatch(r"\d+ items, receipt [0-9a-f]{64}\.\n|Rejected\.\n", body)
    assert after[key] == before.get(key, 0.0) + 1
    assert finished_orders(after) > finished_orders(before)
    durations = ("shop_order_duration_seconds_count", ())
    assert after[durations] > before[durations]


def test_an_unknown_path_is_not_found_and_not_a_label(application: tuple[subprocess.Popen[str], int]) -> None:
    _, port = application
    assert get(port, "/wp-login.php")[0] == 404
    assert samples(port)["shop_http_requests_total", (("path", "other"), ("status", "404"))] >= 1


def test_it_works_for_itself(application: tuple[subprocess.Popen[str], int]) -> None:
    _, port = application
    cpu = ("process_cpu_seconds_total", ())
    first = latest = samples(port)
    deadline_s = time.monotonic() + 30
    while finished_orders(latest) == finished_orders(first) or latest[cpu] == first[cpu]:
        assert time.monotonic() < deadline_s, "no order of its own in thirty seconds"
        time.sleep(0.1)
        latest = samples(port)


def test_sigterm_ends_it_cleanly(application: tuple[subprocess.Popen[str], int]) -> None:
    process, _ = application  # the last test of this file: it ends what the others use
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 0
    assert process.stdout is not None
    assert process.stdout.read() == "the shop is closed\n"


def finished_orders(found: Samples) -> float:
    return sum(found["shop_orders_total", (("outcome", outcome),)] for outcome in ("shipped", "rejected"))
