from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from trunkline.errors import ExpositionError
from trunkline.model import Resource, is_stale, make_labels
from trunkline.net.message import Response
from trunkline.net.server import serve
from trunkline.receivers.prometheus.config import (
    GlobalConfig,
    PrometheusConfig,
    PrometheusFile,
    ScrapeConfig,
    StaticConfig,
)
from trunkline.receivers.prometheus.columns import TargetColumns
from trunkline.receivers.prometheus.receiver import PrometheusReceiver, TargetLoop
from trunkline.receivers.prometheus.target import Target, sample_labels, targets_of
from trunkline.testing import Recorder, SeenBatch, VirtualClock, context_for

SYNTHETIC = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
]


def target(address: str = "127.0.0.1:1", **changes: Any) -> Target:
    job = ScrapeConfig(
        job_name="app",
        static_configs=[StaticConfig(targets=[address], labels=changes.pop("labels", {}))],
        **changes,
    )
    [found] = targets_of(PrometheusFile(scrape_configs=[job]))
    return found


class Scrapes:
    """Feeds bodies to a target's columns as its loop would, a second apart; None is a failed scrape."""

    def __init__(self, subject: Target | None = None, resource: Resource | None = None) -> None:
        self.columns = TargetColumns(subject or target(), resource or Resource())
        self._now_s = 0.0

    def scrape(self, text: str | None, *, openmetrics: bool = False) -> SeenBatch:
        self._now_s += 1
        recorder = Recorder()
        if text is None:
            batch = self.columns.failed(self._now_s)
        else:
            batch, _ = self.columns.scraped(text.encode(), openmetrics, self._now_s)
        recorder.consume(batch)
        self.columns.handed_on()
        return recorder.batches[0]


def live(batch: SeenBatch) -> dict[str, float]:
    return {
        s.series.name: s.value
        for s in batch.samples
        if s.series.name not in SYNTHETIC and not is_stale(s.value)
    }


def stale(batch: SeenBatch) -> list[str]:
    return sorted(sample.series.name for sample in batch.samples if is_stale(sample.value))


def report(batch: SeenBatch) -> list[float]:
    return [batch.value(name) for name in SYNTHETIC if name != "scrape_duration_seconds"]


def test_a_scrape_carries_values_the_targets_labels_and_five_series_of_its_own() -> None:
    batch = Scrapes().scrape('# TYPE hits counter\nhits{code="200"} 5\nload 0.5\n')
    assert batch.names() == [*SYNTHETIC, "hits", "load"]
    assert batch.value("hits", job="app", instance="127.0.0.1:1", code="200") == 5
    assert report(batch) == [1, 2, 2, 2]
    assert {sample.timestamp_ms for sample in batch.samples} == {1000}


def test_a_series_that_vanishes_gets_one_stale_marker() -> None:
    scrapes = Scrapes()
    scrapes.scrape("a 1\nb 1\n")
    batch = scrapes.scrape("a 2\n")
    assert (live(batch), stale(batch)) == ({"a": 2.0}, ["b"])
    batch = scrapes.scrape("a 3\n")
    assert (live(batch), stale(batch)) == ({"a": 3.0}, [])


def test_a_series_that_comes_back_is_a_series_again() -> None:
    scrapes = Scrapes()
    for text in ("a 1\nb 1\n", "a 2\n", "a 3\n"):
        scrapes.scrape(text)
    batch = scrapes.scrape("a 4\nb 4\n")
    assert live(batch) == {"a": 4.0, "b": 4.0}
    assert report(batch) == [1, 2, 2, 1]


def test_slots_of_series_that_went_are_used_again() -> None:
    scrapes = Scrapes()
    for number in range(200):
        scrapes.scrape("".join(f'x{{n="{number + i}"}} 1\n' for i in range(10)))
    assert len(scrapes.columns.table) <= len(SYNTHETIC) + 12


def test_a_failed_scrape_makes_everything_stale_once_and_up_0() -> None:
    scrapes = Scrapes()
    scrapes.scrape("a 1\nb 1\n")
    batch = scrapes.scrape(None)
    assert stale(batch) == ["a", "b"]
    assert report(batch) == [0, 0, 0, 0]
    assert stale(scrapes.scrape(None)) == []
    batch = scrapes.scrape("a 2\n")
    assert (live(batch), stale(batch), report(batch)) == ({"a": 2.0}, [], [1, 1, 1, 0])
    assert len(scrapes.columns.table.series) - scrapes.columns.table.series.count(None) == len(SYNTHETIC) + 1


def test_a_body_with_an_error_in_it_counts_as_failed_as_a_whole() -> None:
    scrapes = Scrapes()
    scrapes.scrape("a 1\n")
    with pytest.raises(ExpositionError):
        scrapes.scrape("a 2\nb 2\nc x\n")
    assert stale(scrapes.scrape(None)) == ["a"]
    assert live(scrapes.scrape("a 3\nb 3\n")) == {"a": 3.0, "b": 3.0}


def test_bodies_that_always_fail_half_way_leave_nothing_behind() -> None:
    scrapes = Scrapes()
    scrapes.scrape("a 1\n")
    for number in range(50):
        with pytest.raises(ExpositionError):
            scrapes.scrape(f'a 1\nx{{n="{number}"}} 1\nbroken\n')
        scrapes.scrape(None)
    assert len(scrapes.columns.table) <= len(SYNTHETIC) + 3


def test_series_decided_together_share_their_equal_labels() -> None:
    scrapes = Scrapes()
    batch = scrapes.scrape("".join(f'x{{n="{number}",zone="a"}} 1\n' for number in range(3)))
    labels = [{pair[0]: pair for pair in s.series.labels} for s in batch.samples if s.series.name == "x"]
    assert len(labels) == 3
    for name in ("__name__", "instance", "job", "zone"):
        assert len({id(one[name]) for one in labels}) == 1
    families = {id(s.series.family) for s in batch.samples if s.series.name == "x"}
    assert len(families) == 1


def test_a_changed_type_is_decided_anew_without_a_break() -> None:
    scrapes = Scrapes()
    scrapes.scrape("# TYPE a gauge\na 1\n")
    batch = scrapes.scrape("# TYPE a counter\na 2\n")
    assert (live(batch), stale(batch)) == ({"a": 2.0}, [])
    [sample] = [one for one in batch.samples if one.series.name == "a"]
    assert sample.series.family.kind == "counter"


def test_timestamps_of_the_exposition_are_kept_and_end_without_a_marker() -> None:
    scrapes = Scrapes()
    batch = scrapes.scrape("a 1 500\nb 1\n")
    stamps = {sample.series.name: sample.timestamp_ms for sample in batch.samples}
    assert (stamps["a"], stamps["b"], stamps["up"]) == (500, 1000, 1000)
    assert stale(scrapes.scrape("c 1\n")) == ["b"]
    ignoring = Scrapes(target(honor_timestamps=False))
    stamps = {sample.series.name: sample.timestamp_ms for sample in ignoring.scrape("a 1 500\n").samples}
    assert stamps["a"] == 1000


def test_several_timestamped_samples_of_one_series_all_pass() -> None:
    batch = Scrapes().scrape("a 1 100\na 2 200\na 3 300\n")
    assert batch.value("a") == 1
    assert [(extra.value, extra.timestamp_ms) for extra in batch.extras] == [(2, 200), (3, 300)]


def test_two_spellings_of_one_series_are_one() -> None:
    batch = Scrapes().scrape('a{x="1",y="2"} 1\na{y="2",x="1"} 7\n')
    assert batch.value("a") == 1
    assert report(batch)[1:] == [2, 1, 1]


def test_identity_comes_with_what_the_own_task_exposes() -> None:
    identity = Resource({}, {"aws_ecs_task_id": "t1"})
    batch = Scrapes(resource=identity).scrape("a 1\n")
    assert {sample.series.resource.identity["aws_ecs_task_id"] for sample in batch.samples} == {"t1"}


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("0.0.0.0:8000", True),
        ("127.0.0.1:8000", True),
        ("localhost:80", True),
        ("[::1]:80", True),
        ("10.0.0.7:80", False),
        ("db.internal:9187", False),
        ("localhost.example.com:80", False),
    ],
)
def test_only_this_machine_is_local(address: str, local: bool) -> None:
    assert target(address).local is local


def test_label_conflicts_are_settled_as_in_prometheus() -> None:
    def check(scraped: dict[str, str], expected: dict[str, str], **job: Any) -> None:
        labels = sample_labels("m", tuple(scraped.items()), target("h:1", **job))
        assert labels == make_labels({"__name__": "m", **expected})

    own = {"job": "app", "instance": "h:1"}
    check({}, own)
    check({"job": "x"}, {**own, "exported_job": "x"})
    check({"job": "x", "exported_job": "y"}, {**own, "exported_job": "y", "exported_exported_job": "x"})
    check({"job": ""}, own)
    check({"job": "x"}, {"job": "x", "instance": "h:1"}, honor_labels=True)
    check({"job": ""}, {"instance": "h:1"}, honor_labels=True)
    check({"zone": "b"}, {**own, "zone": "a", "exported_zone": "b"}, labels={"zone": "a"})
    check({}, own, labels={"empty": ""})


def test_external_labels_win_over_everything() -> None:
    job = ScrapeConfig(job_name="app", static_configs=[StaticConfig(targets=["h:1"])])
    file = PrometheusFile(global_=GlobalConfig(external_labels={"job": "outer"}), scrape_configs=[job])
    [found] = targets_of(file)
    assert dict(sample_labels("m", (), found))["job"] == "outer"


def job_with(*groups: StaticConfig, **settings: Any) -> ScrapeConfig:
    return ScrapeConfig(job_name="a", static_configs=list(groups), **settings)


def test_a_target_listed_twice_is_scraped_once() -> None:
    job = job_with(
        StaticConfig(targets=["h:1", "h:1", "h:2"]), StaticConfig(targets=["h:1"], labels={"zone": "a"})
    )
    found = list(targets_of(PrometheusFile(scrape_configs=[job])))
    assert [(one.address, dict(one.labels).get("zone")) for one in found] == [
        ("h:1", None),
        ("h:2", None),
        ("h:1", "a"),
    ]


def test_a_path_without_a_slash_gets_one() -> None:
    job = job_with(StaticConfig(targets=["h:1"]), metrics_path="stats")
    assert [one.url for one in targets_of(PrometheusFile(scrape_configs=[job]))] == ["http://h:1/stats"]


def test_what_is_wrong_with_a_job_is_named() -> None:
    def problems(*jobs: ScrapeConfig) -> list[str]:
        config = PrometheusConfig(config=PrometheusFile(scrape_configs=list(jobs)))
        return [f"{path}: {message}" for path, message in config.check()]

    assert problems() == ["config: no Prometheus scrape_configs or target_allocator set"]
    assert problems(ScrapeConfig(job_name=""))[0].endswith("job_name is empty")
    assert problems(ScrapeConfig(job_name="a"), ScrapeConfig(job_name="a")) == [
        'config::scrape_configs::1::job_name: found multiple scrape configs with job name "a"'
    ]
    [timeout] = problems(ScrapeConfig(job_name="a", scrape_interval=5.0, scrape_timeout=6.0))
    assert timeout.endswith('scrape timeout greater than scrape interval for scrape config with job name "a"')
    [internal] = problems(job_with(StaticConfig(targets=["h:1"], labels={"__scheme__": "https"})))
    assert "__scheme__ is not supported as a label; use metrics_path, scheme or params" in internal
    [slash] = problems(ScrapeConfig(job_name="a", static_configs=[StaticConfig(targets=["h:1/metrics"])]))
    assert '"h:1/metrics" is not a valid hostname' in slash


@asynccontextmanager
async def exposing(responses: Iterator[Response]) -> AsyncIterator[str]:
    async with serve("127.0.0.1", 0, {"/metrics": lambda: next(responses)}) as server:
        host, port = server.address
        yield f"{host}:{port}"


def page(text: str, status: int = 200, content_type: str = "text/plain; version=0.0.4") -> Response:
    return Response(status, "", {"content-type": content_type}, text.encode())


async def test_a_target_is_scraped_over_http_in_its_rhythm() -> None:
    pages = iter(
        [
            page("a 1\n"),
            page("", status=500),
            page("a 3\n# EOF\n", content_type="application/openmetrics-text"),
            *[page("a 4\n")] * 9,
        ]
    )
    clock, seen = VirtualClock(), Recorder()
    async with exposing(pages) as address:
        job = ScrapeConfig(
            job_name="app", scrape_interval=15.0, static_configs=[StaticConfig(targets=[address])]
        )
        receiver = PrometheusReceiver(
            PrometheusFile(scrape_configs=[job]), context_for("prometheus"), seen, clock
        )
        running = asyncio.create_task(receiver.run())
        await seen.wait_for(3)
        running.cancel()
        await asyncio.wait([running])
    assert [batch.value("up") for batch in seen.batches[:3]] == [1, 0, 1]
    assert seen.batches[2].value("a") == 3
    stamps = [batch.samples[0].timestamp_ms for batch in seen.batches[:3]]
    assert [stamps[1] - stamps[0], stamps[2] - stamps[1]] == [15000, 15000]
    assert seen.closed == 1


async def test_the_last_scrape_counts_only_if_it_succeeds() -> None:
    seen = Recorder()
    async with exposing(iter([page("a 1\n"), page("broken"), page("", status=503)])) as address:
        context = context_for("prometheus")
        client = context.clients.client()
        loop = TargetLoop(target(address), context, client, seen, VirtualClock())
        for _ in range(3):
            await loop.last_scrape()
        await client.aclose()
    await loop.last_scrape()
    assert [batch.value("a") for batch in seen.batches] == [1]


async def test_a_target_that_does_not_answer_is_down_and_the_log_says_it_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Recorder()
    job = ScrapeConfig(job_name="app", static_configs=[StaticConfig(targets=["127.0.0.1:9"])])
    receiver = PrometheusReceiver(
        PrometheusFile(scrape_configs=[job]), context_for("prometheus"), seen, VirtualClock()
    )
    running = asyncio.create_task(receiver.run())
    await seen.wait_for(3)
    running.cancel()
    await asyncio.wait([running])
    assert {batch.value("up") for batch in seen.batches} == {0.0}
    said = [record.message for record in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("target http://127.0.0.1:9/metrics cannot be scraped: ")


def test_tasks_with_one_configuration_are_scraped_at_different_moments() -> None:
    def phase(task: str) -> float:
        context = context_for("prometheus", identity=Resource({}, {"aws_ecs_task_id": task}))
        loop = TargetLoop(target(), context, context.clients.client(), Recorder(), VirtualClock())
        return loop.phase_s

    assert len({phase(f"t{number}") for number in range(20)}) == 20
    assert phase("t1") == phase("t1")


def test_parameters_become_the_query() -> None:
    found = target(params={"module": ["http_2xx"], "target": ["a b"]}, metrics_path="/probe", scheme="https")
    assert found.url == "https://127.0.0.1:1/probe?module=http_2xx&target=a+b"
    assert json.dumps(found.key)
