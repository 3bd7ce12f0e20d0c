"""The collector as a process, against a real target and a real receiver on loopback."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp.web
import cramjam
import pytest

from trunkline.model import is_stale
from trunkline.net.client import Client
from trunkline.net.message import Request
from trunkline.wire.remote_write import decode_write_request

CONFIG = """
receivers:
  prometheus:
    config:
      global: {{scrape_interval: {interval}, scrape_timeout: {interval}}}
      scrape_configs:
        - job_name: app
          static_configs: [{{targets: ["{target}"]}}]
exporters:
  prometheusremotewrite:
    endpoint: {endpoint}
    retry_on_failure: {{initial_interval: 50ms}}
service:
  telemetry: {{metrics: {{address: "127.0.0.1:0"}}}}
  pipelines:
    metrics: {{receivers: [prometheus], exporters: [prometheusremotewrite]}}
"""


@dataclass
class World:
    """A target that counts its scrapes and a receiver that keeps what it is sent."""

    address: str = ""
    scrapes: int = 0
    answer: int = 200
    broken: bool = False
    stored: dict[str, list[float]] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    ended: set[tuple[str, str]] = field(default_factory=set)
    """Name and job of series that got a stale marker."""
    ends: list[dict[str, str]] = field(default_factory=list)
    """The labels of the same."""

    async def metrics(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        del request
        if self.broken:
            raise aiohttp.web.HTTPServiceUnavailable
        self.scrapes += 1
        return aiohttp.web.Response(text=f"# TYPE scrapes_total counter\nscrapes_total {self.scrapes}\n")

    async def nobody(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        """A metadata endpoint that knows nothing."""
        del request
        return aiohttp.web.json_response({})

    async def write(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        body = await request.read()
        if self.answer == 200:
            decoded = decode_write_request(bytes(cramjam.snappy.decompress_raw(body)))
            for series in decoded.series:
                name = dict(series.labels)["__name__"]
                if any(is_stale(sample.value) for sample in series.samples):
                    self.ended.add((name, dict(series.labels).get("job", "")))
                    self.ends.append(dict(series.labels))
                else:
                    self.labels[name] = dict(series.labels)
                self.stored.setdefault(name, []).extend(sample.value for sample in series.samples)
        return aiohttp.web.Response(status=self.answer, text="words of the receiver")

    def config(self, folder: Path, interval: str = "200ms", **changes: str) -> Path:
        path = folder / "config.yaml"
        values = {"interval": interval, "target": self.address, "endpoint": f"http://{self.address}/write"}
        path.write_text(CONFIG.format(**{**values, **changes}))
        return path

    async def scraped(self, times: int) -> None:
        async with asyncio.timeout(20):
            while self.scrapes < times:  # noqa: ASYNC110 (the other side is a process)
                await asyncio.sleep(0.02)

    async def until(self, series: str, count: int) -> list[float]:
        async with asyncio.timeout(20):
            while len(self.stored.get(series, [])) < count:  # noqa: ASYNC110 (the other side is a process)
                await asyncio.sleep(0.02)
        return self.stored[series]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    application = aiohttp.web.Application()
    application.router.add_get("/metrics", made.metrics)
    application.router.add_post("/write", made.write)
    application.router.add_get("/v4/x/task", made.nobody)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    made.address = f"{host}:{port}"
    yield made
    await runner.cleanup()


@dataclass
class Collector:
    """A running collector; `log` is what it has written to standard error so far."""

    process: asyncio.subprocess.Process
    log: list[str]
    reading: asyncio.Task[None]

    async def said(self, pattern: str, timeout_s: float = 15) -> str:
        async with asyncio.timeout(timeout_s):
            while True:
                for line in self.log:
                    if re.search(pattern, line):
                        return line
                await asyncio.sleep(0.02)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(30):
            await self.reading
            return await self.process.wait()


@asynccontextmanager
async def collector(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[Collector]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "trunkline", "collector", "run", "--data-dir", str(folder / "data")),
        *("--health-address", "127.0.0.1:0", *arguments),
        env={"PATH": os.environ["PATH"], **(env or {})},
        stderr=asyncio.subprocess.PIPE,
    )
    log: list[str] = []

    async def read() -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            log.append(line.decode().rstrip())  # noqa: PERF401 (line by line, as they come)

    running = Collector(process, log, asyncio.create_task(read()))
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await running.ended()


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


async def test_what_is_scraped_arrives_with_its_labels(world: World, tmp_path: Path) -> None:
    async with collector(tmp_path, "--config", str(world.config(tmp_path))):
        values = await world.until("scrapes_total", 4)
    assert values[:4] == sorted(values[:4])
    assert world.labels["scrapes_total"] == {
        "__name__": "scrapes_total",
        "instance": world.address,
        "job": "app",
    }
    assert set(world.stored["up"]) == {1.0}


async def test_sigterm_scrapes_a_last_time_delivers_and_exits_with_0(world: World, tmp_path: Path) -> None:
    async with collector(tmp_path, "--config", str(world.config(tmp_path, interval="1h"))) as running:
        await running.said("running")
        assert await running.stop() == 0
        await running.said("everything delivered")
    assert world.stored["scrapes_total"] == [1.0]
    assert list((tmp_path / "data").rglob("*.seg")) == []


async def test_what_cannot_be_delivered_is_kept_and_delivered_after_a_restart(
    world: World, tmp_path: Path
) -> None:
    world.answer = 503
    config = str(world.config(tmp_path))
    async with collector(tmp_path, "--config", config, "--shutdown-timeout", "1") as running:
        await running.said("answered 503: words of the receiver")
        while world.scrapes < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert await running.stop() == 0
        await running.said("the rest stays in the queue")
    kept = world.scrapes
    assert world.stored == {}
    world.answer = 200
    async with collector(tmp_path, "--config", config):
        values = await world.until("scrapes_total", kept + 2)
    assert values == [float(number + 1) for number in range(len(values))]


async def test_killed_it_still_delivers_what_it_had_kept(world: World, tmp_path: Path) -> None:
    world.answer = 503
    config = str(world.config(tmp_path))
    async with collector(tmp_path, "--config", config) as running:
        while world.scrapes < 6:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await running.stop(signal.SIGKILL)
    world.answer = 200
    async with collector(tmp_path, "--config", config):
        values = await world.until("scrapes_total", 8)
    assert values[:5] == [1, 2, 3, 4, 5]
    assert values == sorted(set(values))


async def test_sighup_takes_a_right_configuration_and_keeps_the_old_one_otherwise(
    world: World, tmp_path: Path
) -> None:
    path = world.config(tmp_path)
    async with collector(tmp_path, "--config", str(path)) as running:
        await world.until("scrapes_total", 2)
        good = path.read_text()
        path.write_text(good.replace("job_name: app", "job_nam: app"))
        running.process.send_signal(signal.SIGHUP)
        await running.said("the new configuration is wrong, the old one stays")
        before = len(world.stored["scrapes_total"])
        await world.until("scrapes_total", before + 2)
        assert world.labels["scrapes_total"]["job"] == "app"
        path.write_text(good.replace("job_name: app", "job_name: renamed"))
        running.process.send_signal(signal.SIGHUP)
        await running.said("new configuration read")
        async with asyncio.timeout(10):
            while world.labels["scrapes_total"]["job"] != "renamed" or not world.ended:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert ("scrapes_total", "app") in world.ended
        assert await running.stop() == 0


async def test_a_wrong_configuration_is_refused_with_every_error_and_nothing_starts(
    world: World, tmp_path: Path
) -> None:
    path = world.config(tmp_path)
    path.write_text(path.read_text().replace("job_name", "job_nam").replace("endpoint", "endpont"))
    async with collector(tmp_path, "--config", str(path)) as running:
        assert await running.ended() == 2
    text = "\n".join(running.log)
    assert "invalid configuration" in text
    assert re.search(rf"{path}:7:\d+: .*job_nam", text)
    assert re.search(rf"{path}:11:\d+: .*endpont", text)
    assert "job_name" in text
    assert not (tmp_path / "data").exists()
    assert world.scrapes == 0


async def test_the_configuration_may_come_from_the_environment(world: World, tmp_path: Path) -> None:
    text = world.config(tmp_path).read_text()
    async with collector(tmp_path, "--config", "/nowhere.yaml", env={"AOT_CONFIG_CONTENT": text}):
        await world.until("up", 2)


async def test_no_configuration_at_all_is_a_usage_error(tmp_path: Path) -> None:
    async with collector(tmp_path) as running:
        assert await running.ended() == 2
    assert running.log == [
        "trunkline: no configuration: give --config FILE, or set AOT_CONFIG_CONTENT to its text"
    ]


async def test_a_queue_in_use_is_an_error_not_a_second_sender(world: World, tmp_path: Path) -> None:
    config = str(world.config(tmp_path))
    async with collector(tmp_path, "--config", config) as first:
        await first.said("running")
        async with collector(tmp_path, "--config", config) as second:
            assert await second.ended() == 1
        assert "is used by another collector" in second.log[-1]


async def test_a_folder_that_cannot_be_written_means_memory_and_a_loud_warning(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file is in the way")
    async with collector(tmp_path, "--config", str(world.config(tmp_path))) as running:
        await running.said("samples wait in memory and a restart loses them. Set --data-dir")
        await world.until("scrapes_total", 2)


async def test_its_own_metrics_and_health_add_up(world: World, tmp_path: Path) -> None:
    health, metrics = free_address(), free_address()
    arguments = [
        "--config",
        str(world.config(tmp_path)),
        "--health-address",
        health,
        "--metrics-address",
        metrics,
    ]
    async with collector(tmp_path, *arguments) as running:
        await world.until("scrapes_total", 3)
        client = Client()
        answer = await client.exchange(Request("GET", f"http://{health}/", {}), timeout_s=5)
        assert (answer.status, b"Server available" in answer.body) == (200, True)
        probe = await asyncio.create_subprocess_exec(
            sys.executable, *("-m", "trunkline", "collector", "healthcheck", "--address", health)
        )
        assert await probe.wait() == 0
        answer = await client.exchange(Request("GET", f"http://{metrics}/metrics", {}), timeout_s=5)
        await client.aclose()
        await running.stop()
    shown = dict(
        line.rsplit(" ", 1) for line in answer.body.decode().splitlines() if not line.startswith("#")
    )
    kept = float(shown['trunkline_kept_samples_total{exporter="prometheusremotewrite"}'])
    delivered = float(shown['trunkline_delivered_samples_total{exporter="prometheusremotewrite"}'])
    waiting = float(shown['trunkline_queue_samples{exporter="prometheusremotewrite"}'])
    assert kept == delivered + waiting >= 18
    probe = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "trunkline", "collector", "healthcheck", "--address", health),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await probe.wait() == 1


async def test_a_target_that_goes_away_is_down_and_its_series_end(world: World, tmp_path: Path) -> None:
    async with collector(tmp_path, "--config", str(world.config(tmp_path))):
        await world.until("scrapes_total", 2)
        world.broken = True
        async with asyncio.timeout(10):
            while not is_stale(world.stored["scrapes_total"][-1]):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert world.stored["up"][-1] == 0.0


async def test_a_reload_without_a_change_breaks_no_series(world: World, tmp_path: Path) -> None:
    async with collector(tmp_path, "--config", str(world.config(tmp_path))) as running:
        await world.until("scrapes_total", 2)
        running.process.send_signal(signal.SIGHUP)
        await running.said("new configuration read")
        values = await world.until("scrapes_total", len(world.stored["scrapes_total"]) + 6)
        assert values == [float(number + 1) for number in range(len(values))]
        assert not world.ended
        assert await running.stop() == 0


TWO = """
receivers:
  prometheus:
    config:
      global: {{scrape_interval: 200ms}}
      scrape_configs: [{{job_name: app, static_configs: [{{targets: ["{target}"]}}]}}]
  prometheus/other:
    config:
      global: {{scrape_interval: 200ms}}
      scrape_configs: [{{job_name: other, static_configs: [{{targets: ["{target}"]}}]}}]
processors:
  filter: {{metrics: {{include: {{match_type: strict, metric_names: [scrapes_total, up]}}}}}}
exporters:
  prometheusremotewrite/a: {{endpoint: "{endpoint}?a", external_labels: {{to: a}}}}
  debug:
  prometheusremotewrite/b: {{endpoint: "{endpoint}?b", external_labels: {{to: b}}}}
service:
  telemetry: {{metrics: {{address: "127.0.0.1:0"}}}}
  pipelines:
    metrics/a: {{receivers: [{a}], processors: [{through}], exporters: [prometheusremotewrite/a{more}]}}
    metrics/b: {{receivers: [{b}], exporters: [prometheusremotewrite/b]}}
"""
BOTH = "prometheus, prometheus/other"


async def reloaded(world: World, folder: Path, before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Series of which job are ended at which exporter when the configuration changes in this way."""
    values = {"target": world.address, "endpoint": f"http://{world.address}/write", "through": "", "more": ""}
    path = folder / "config.yaml"
    path.write_text(TWO.format(**{**values, **before}))
    async with collector(folder, "--config", str(path)) as running:
        await world.until("up", 12)
        path.write_text(TWO.format(**{**values, **after}))
        running.process.send_signal(signal.SIGHUP)
        await running.said("new configuration read")
        count = len(world.stored["up"])
        await world.until("up", count + 12)
        ended = {f"{one['job']}>{one['to']}" for one in world.ends if one["__name__"] == "scrapes_total"}
        assert ended == {f"{one['job']}>{one['to']}" for one in world.ends if one["__name__"] == "up"}
        await running.stop()
    return ended


async def test_series_of_a_receiver_that_is_no_longer_there_end_and_others_do_not(
    world: World, tmp_path: Path
) -> None:
    ended = await reloaded(world, tmp_path, {"a": BOTH, "b": BOTH}, {"a": "prometheus", "b": "prometheus"})
    assert ended == {"other>a", "other>b"}


async def test_series_end_where_a_pipeline_no_longer_takes_them(world: World, tmp_path: Path) -> None:
    ended = await reloaded(world, tmp_path, {"a": BOTH, "b": BOTH}, {"a": BOTH, "b": "prometheus"})
    assert ended == {"other>a", "other>b"}  # and begin again at a


async def test_series_that_go_to_one_more_exporter_do_not_end(world: World, tmp_path: Path) -> None:
    ended = await reloaded(world, tmp_path, {"a": BOTH, "b": "prometheus"}, {"a": BOTH, "b": BOTH})
    assert ended == set()


async def test_series_that_are_no_longer_shown_to_people_do_not_end(world: World, tmp_path: Path) -> None:
    after = {"a": "prometheus", "b": BOTH}
    assert await reloaded(world, tmp_path, {**after, "more": ", debug"}, after) == set()


async def test_series_end_where_another_processor_stands_in_their_way(world: World, tmp_path: Path) -> None:
    before = {"a": "prometheus", "b": "prometheus/other"}
    ended = await reloaded(world, tmp_path, before, {**before, "through": "filter"})
    assert ended == {"app>a"}


async def test_a_reload_that_cannot_be_started_goes_back_to_the_old_configuration(
    world: World, tmp_path: Path
) -> None:
    path = world.config(tmp_path)
    async with collector(tmp_path, "--config", str(path)) as running:
        await world.until("scrapes_total", 2)
        path.write_text(path.read_text().replace("127.0.0.1:0", "127.0.0.1:99999"))
        running.process.send_signal(signal.SIGHUP)
        await running.said("cannot be started, back to the old one: '127.0.0.1:99999' is not host:port")
        await world.until("scrapes_total", len(world.stored["scrapes_total"]) + 2)
        assert await running.stop() == 0


async def test_samples_for_an_endpoint_no_longer_configured_are_named(world: World, tmp_path: Path) -> None:
    world.answer = 503
    async with collector(
        tmp_path, "--config", str(world.config(tmp_path)), "--shutdown-timeout", "0.5"
    ) as running:
        await running.said("answered 503")
        await running.stop()
    other = world.config(tmp_path, endpoint=f"http://{world.address}/write?moved")
    async with collector(tmp_path, "--config", str(other)) as running:
        line = await running.said("no exporter sends there: configure one with that endpoint, or remove the")
        whose = rf"prometheusremotewrite for http://{world.address}/write left in \S+/queue/prometheusremotewrite-\w+"
        assert re.search(rf"\d+ samples \(\d+ bytes\) that {whose} wait", line)


async def test_an_exporter_that_is_renamed_goes_on_where_it_was(world: World, tmp_path: Path) -> None:
    world.answer = 503
    path = world.config(tmp_path)
    async with collector(tmp_path, "--config", str(path), "--shutdown-timeout", "0.5") as running:
        await running.said("answered 503")
        await world.scraped(5)
        await running.stop()
    kept = world.scrapes
    world.answer = 200
    path.write_text(path.read_text().replace("prometheusremotewrite", "prometheusremotewrite/renamed"))
    async with collector(tmp_path, "--config", str(path)):
        values = await world.until("scrapes_total", kept + 2)
    assert values == [float(number + 1) for number in range(len(values))]


async def test_another_collector_delivers_what_a_killed_one_has_kept(world: World, tmp_path: Path) -> None:
    world.answer = 503
    path = world.config(tmp_path)
    dead = tmp_path / "dead"
    async with collector(dead, "--config", str(path)) as running:
        await running.said("answered 503")
        await world.scraped(5)
        running.process.kill()
        await running.ended()
    world.broken = True
    kept = world.scrapes
    world.answer = 200
    async with collector(tmp_path, "--config", str(path), "--take-over", str(dead)):
        values = await world.until("scrapes_total", kept)
    assert values == [float(number + 1) for number in range(len(values))]
    assert list((dead / "data" / "queue").iterdir()) == []


async def test_a_collector_that_cannot_learn_who_it_is_does_not_start(world: World, tmp_path: Path) -> None:
    environment = {"ECS_CONTAINER_METADATA_URI_V4": f"http://{world.address}/v4/x"}
    async with collector(tmp_path, "--config", str(world.config(tmp_path)), env=environment) as running:
        assert await running.ended() == 1
    assert "the task metadata endpoint does not say which task this is" in running.log[-1]
    assert "its TaskARN is ''" in running.log[-1]
    assert world.stored == {}


@pytest.mark.parametrize("later_s", [0.0, 0.01, 0.03, 0.1])
async def test_a_stop_during_a_reload_delivers_too(world: World, tmp_path: Path, later_s: float) -> None:
    path = world.config(tmp_path)
    async with collector(tmp_path, "--config", str(path)) as running:
        await world.until("scrapes_total", 2)
        running.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(later_s)
        assert await running.stop() == 0
        await running.said("everything delivered")
    assert world.stored["scrapes_total"][-1] == world.scrapes
    assert list((tmp_path / "data").rglob("*.seg")) == []


async def test_what_waits_in_memory_outlives_a_reload(world: World, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file is in the way")
    path = world.config(tmp_path)
    world.answer = 503
    async with collector(tmp_path, "--config", str(path)) as running:
        while world.scrapes < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        running.process.send_signal(signal.SIGHUP)
        await running.said("new configuration read")
        await asyncio.sleep(0.5)
        world.answer = 200
        values = await world.until("scrapes_total", 8)
        assert values[:3] == [1, 2, 3]
        assert not [line for line in running.log if "given up" in line]
        (tmp_path / "data").unlink()
        running.process.send_signal(signal.SIGHUP)  # and goes to the disk when that is there
        await world.until("scrapes_total", len(world.stored["scrapes_total"]) + 3)
        assert await running.stop() == 0
    values = world.stored["scrapes_total"]
    assert values == sorted(set(values))
