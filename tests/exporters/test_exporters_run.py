"""The exporters in a collector as a process, and their settings as users write them."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from trunkline import components
from trunkline.collector.config import read, render
from trunkline.errors import ConfigError, FetchError
from trunkline.net.client import ClientFactory
from trunkline.net.message import Request, Response
from trunkline.net.server import serve

TARGET = b"# HELP hits_total Hits.\n# TYPE hits_total counter\nhits_total 3\n"

CONFIG = """
receivers:
  prometheus:
    config:
      scrape_configs:
        - job_name: app
          scrape_interval: 200ms
          scrape_timeout: 200ms
          static_configs: [{{targets: ["127.0.0.1:{target}"]}}]
exporters:
  prometheus: {{endpoint: "localhost:{port}", const_labels: {{env: test}}}}
  file: {{path: "{folder}/out.json", flush_interval: 50ms}}
  debug: {{use_internal_logger: false, output_paths: ["{folder}/debug.txt"], verbosity: normal}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    metrics: {{receivers: [prometheus], exporters: [prometheus, file, debug]}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@asynccontextmanager
async def collector(folder: Path, port: int, target: int) -> AsyncIterator[asyncio.subprocess.Process]:
    path = folder / "config.yaml"
    path.write_text(CONFIG.format(folder=folder, port=port, target=target))
    arguments = ["--config", str(path), "--data-dir", str(folder / "data"), "--health-address", "127.0.0.1:0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "trunkline", "collector", "run", *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def shown_at(port: int) -> str:
    """What the exporter shows once it has the target's counter."""
    client = ClientFactory().client()
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    request = Request("GET", f"http://127.0.0.1:{port}/metrics")
                    text = (await client.exchange(request, timeout_s=5)).body.decode()
                except FetchError:
                    text = ""
                if "hits_total" in text:
                    return text
                await asyncio.sleep(0.05)
    finally:
        await client.aclose()


async def test_what_is_scraped_is_shown_written_and_printed(tmp_path: Path) -> None:
    answer = Response(200, "OK", {"content-type": "text/plain; version=0.0.4"}, TARGET)
    async with serve("127.0.0.1", 0, {"/metrics": lambda: answer}) as target:
        port = free_port()
        async with collector(tmp_path, port, target.address[1]) as process:
            families = {one.name: one for one in text_string_to_metric_families(await shown_at(port))}
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 20) == 0
    [sample] = families["hits"].samples
    instance = f"127.0.0.1:{target.address[1]}"
    assert (sample.value, sample.labels) == (3.0, {"env": "test", "instance": instance, "job": "app"})
    assert families["up"].samples[0].value == 1.0
    lines = [json.loads(line) for line in (tmp_path / "out.json").read_text().splitlines()]
    metrics = lines[0]["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
    assert {"hits_total", "up"} <= {metric["name"] for metric in metrics}
    printed = (tmp_path / "debug.txt").read_text()
    assert "hits_total{} 3" in printed
    assert f"service.instance.id={instance}" in printed


async def test_a_collector_whose_address_is_taken_says_so_and_ends(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with collector(tmp_path, port, 9) as process:
            _, log = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    expected = (
        f"exporters::prometheus::endpoint: cannot listen on 127.0.0.1:{port}: Address already in use; "
        "choose another endpoint, or end what uses this one"
    )
    assert expected in log.decode()
    assert "Traceback" not in log.decode()


PIPELINE = "receivers: {awsecscontainermetrics: }\nservice: {pipelines: {m: {receivers: [awsecscontainermetrics], exporters: [NAME]}}}\n"

REMOTE_WRITE = """
exporters:
  prometheusremotewrite:
    endpoint: https://example.com/api/v1/push
    timeout: 5s
    namespace: n
    external_labels: {env: test, version: 1.10}
    headers: {X-Scope-OrgID: team}
    tls: {insecure: false, insecure_skip_verify: false, ca_file: a, cert_file: b, key_file: c, min_version: "1.2",
      max_version: "1.3", server_name_override: x, reload_interval: 1h, include_system_ca_certs_pool: false}
    proxy_url: ""
    compression: snappy
    read_buffer_size: 0
    write_buffer_size: 524288
    max_idle_conns: 100
    max_idle_conns_per_host: 0
    max_conns_per_host: 0
    idle_conn_timeout: 90s
    disable_keep_alives: false
    http2_read_idle_timeout: 0
    http2_ping_timeout: 0
    force_attempt_http2: true
    cookies: {enabled: false}
    retry_on_failure: {enabled: true, initial_interval: 50ms, randomization_factor: 0.5, multiplier: 1.5,
      max_interval: 30s, max_elapsed_time: 5m}
    remote_write_queue: {enabled: true, queue_size: 10000, num_consumers: 5}
    max_batch_size_bytes: 3000000
    max_batch_request_parallelism: 5
    add_metric_suffixes: true
    translation_strategy: UnderscoreEscapingWithSuffixes
    translate_scraped_names: true
    send_metadata: true
    resource_to_telemetry_conversion: {enabled: true, exclude_service_attributes: true}
    target_info: {enabled: true}
    export_created_metric: {enabled: true}
    disable_scope_info: true
    wal: {directory: ./prom_rw, buffer_size: 300, truncate_frequency: 1m, lag_record_frequency: 15s}
    protobuf_message: prometheus.WriteRequest
"""

PROMETHEUS = """
exporters:
  prometheus:
    endpoint: "1.2.3.4:1234"
    tls: {ca_file: /path/to/ca.pem, cert_file: /path/to/cert.pem, key_file: /path/to/key.pem}
    namespace: test-space
    const_labels: {label1: value1, "another label": spaced value}
    send_timestamps: true
    metric_expiration: 180m
    enable_open_metrics: true
    add_metric_suffixes: false
    translation_strategy: "UnderscoreEscapingWithoutSuffixes"
    resource_to_telemetry_conversion: {enabled: true, exclude_service_attributes: true}
    without_scope_info: true
    response_headers: {X-A: b}
    read_timeout: 1s
    sending_queue: {enabled: true}
"""

FILE = """
exporters:
  file:
    path: ./filename.json
    rotation: {max_megabytes: 10, max_days: 3, max_backups: 3, localtime: true}
    format: json
    flush_interval: 5s
    create_directory: true
    directory_permissions: "0700"
    group_by: {enabled: false, resource_attribute: a, max_open_files: 10}
"""

DEBUG = """
exporters:
  debug: {verbosity: Detailed, sampling_initial: 5, sampling_thereafter: 200, use_internal_logger: false,
    output_paths: [stderr], sending_queue: {enabled: true}}
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [("prometheusremotewrite", REMOTE_WRITE), ("prometheus", PROMETHEUS), ("file", FILE), ("debug", DEBUG)],
)
def test_every_key_of_upstream_is_understood(name: str, text: str) -> None:
    whole = f"yaml:{text}{PIPELINE.replace('NAME', name).replace('{m:', '{metrics:')}"
    try:
        found = read([whole], {}, components)
    except ConfigError as error:
        pytest.fail(render(error))
    assert all("has no effect" in str(warning) for warning in found.warnings)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "protobuf_message: io.prometheus.write.v2.Request",
            "is not supported; only prometheus.WriteRequest is",
        ),
        ("translation_strategy: NoTranslation", "NoTranslation needs remote write 2, which is not supported"),
        ("cookies: {enabled: true}", "is not supported: receivers of remote write set no cookies"),
        ("remote_write_queue: {queue_size: 0}", "a 0 size queue will drop all the data"),
        ("remote_write_queue: {num_consumers: -1}", "remote write consumer number can't be negative"),
        ("max_batch_request_parallelism: 0", "max_batch_request_parallelism can't be set to below 1"),
        (
            "retry_on_failure: {max_elapsed_time: 1s}",
            "'max_elapsed_time' must not be less than 'max_interval'",
        ),
        ("tls: {min_version: '2'}", "unsupported TLS version: '2'; write 1.0, 1.1, 1.2 or 1.3"),
        ("tls: {cert_pem: x}", "for auth via TLS, provide both certificate and key, or neither"),
        ("tls: {cipher_suites: [A]}", "is not supported: OpenSSL's own choice is used; take the key out"),
        ("proxy_url: socks5://x", "socks5:// proxies are not supported; write http://host:port"),
        ("sending_queue: {enabled: true}", "has invalid keys: sending_queue"),
    ],
)
def test_what_remote_write_cannot_do_is_refused_by_name(key: str, message: str) -> None:
    text = f"exporters: {{prometheusremotewrite: {{endpoint: 'http://h/w', {key}}}}}\n"
    pipeline = PIPELINE.replace("NAME", "prometheusremotewrite").replace("{m:", "{metrics:")
    with pytest.raises(ConfigError) as raised:
        read([f"yaml:{text}{pipeline}"], {}, components)
    assert message in render(raised.value)
    assert key.partition(":")[0] in render(raised.value)
