from __future__ import annotations

import asyncio
import gc
import gzip
import json
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.errors import ExpositionError
from trunkline.model import Family, Kind, Labels, Resource, is_stale, make_labels
from trunkline.net.message import Response
from trunkline.net.server import serve
from trunkline.receivers.prometheus.columns import TargetColumns
from trunkline.receivers.prometheus.config import (
    GlobalConfig,
    PrometheusConfig,
    PrometheusFile,
    ScrapeConfig,
    StaticConfig,
)
from trunkline.receivers.prometheus.job import jobs_of
from trunkline.receivers.prometheus.loop import TargetLoop
from trunkline.receivers.prometheus.receiver import PrometheusReceiver
from trunkline.receivers.prometheus.target import OwnLabels, Target, make_target, sample_labels
from trunkline.testing import Recorder, SeenBatch, VirtualClock, context_for
from trunkline.wire.kernel import merge_labels
from trunkline.wire.remote_write import decode_labels, encode_labels

SYNTHETIC = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
]


def receiver_config(
    *jobs: ScrapeConfig, global_: GlobalConfig | None = None, **settings: Any
) -> PrometheusConfig:
    file = PrometheusFile(global_=global_ or GlobalConfig(), scrape_configs=list(jobs))
    return PrometheusConfig(config=file, **settings)


def target(
    address: str = "127.0.0.1:1",
    *,
    labels: dict[str, str] | None = None,
    own_addresses: frozenset[str] = frozenset(),
    global_: GlobalConfig | None = None,
    **changes: Any,
) -> Target:
    [job] = jobs_of(receiver_config(ScrapeConfig(job_name="app", **changes), global_=global_))
    found = make_target(job, {"__address__": address}, labels or {}, own_addresses)
    assert found is not None
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


def test_series_of_a_family_share_it() -> None:
    scrapes = Scrapes()
    for more in range(3):
        text = "".join(f'x_bucket{{le="{number}"}} 1\n' for number in range(3 + more))
        batch = scrapes.scrape(f"# TYPE x histogram\n{text}")
    families = {id(s.series.family) for s in batch.samples if s.series.name == "x_bucket"}
    assert len(families) == 1


LABELS = ("a", "b", "job", "instance", "env", "exported_job", "exported_exported_job", "exported_env")


@given(
    st.lists(
        st.dictionaries(st.sampled_from(LABELS), st.sampled_from(["", "1", "2", "app"])),
        min_size=1,
        max_size=8,
    ),
    st.dictionaries(st.sampled_from(LABELS), st.sampled_from(["1", "app"])),
    st.dictionaries(st.sampled_from(LABELS), st.sampled_from(["", "1", "2"])),
    st.booleans(),
)
def test_own_labels_say_what_sample_labels_say(
    samples: list[dict[str, str]], labels: dict[str, str], external: dict[str, str], honor_labels: bool
) -> None:
    outer = GlobalConfig(external_labels=dict(external))
    subject = target(labels=labels, honor_labels=honor_labels, global_=outer)
    own_labels = OwnLabels(subject)
    seen: dict[bytes, Labels] = {}
    for scraped in samples:
        final = sample_labels("m", tuple(scraped.items()), subject)
        own = own_labels.of("m", tuple(scraped.items()))
        assert decode_labels(merge_labels(own_labels.shared, own)) == final
        assert seen.setdefault(own, final) == final
    assert len(seen) == len(set(seen.values()))  # one series has one text of its own labels


def test_what_was_scraped_is_told_the_same_later() -> None:
    scrapes = Scrapes(target(labels={"team": "core"}), Resource({}, {"cloud_region": "eu-west-1"}))
    text = '# TYPE x counter\n# HELP x Many.\nx{job="b",c=""} 1\n{"ä.b",c="\\n"} 2\nup 1\n'
    batch = scrapes.scrape(text)
    table = scrapes.columns.table
    assert [sample.series for sample in batch.samples] == list(table.series)
    found = {one.name: one for one in table.series if one is not None}
    assert found["x"].labels == make_labels(
        {
            "__name__": "x",
            "job": "app",
            "exported_job": "b",
            "team": "core",
            "instance": "127.0.0.1:1",
        }
    )
    assert found["x"].family == Family("x", Kind.COUNTER, "", "Many.")
    assert found["x"].encoded == encode_labels(found["x"].labels)
    assert dict(found["ä.b"].labels)["c"] == "\n"
    assert [one.name for one in table.series if one is not None].count("up") == 2
    assert table.series.count(None) == 0


def test_a_target_that_is_gone_leaves_nothing_behind() -> None:
    """Without waiting for a collection of cycles, which in a steady process is rare."""
    gc.disable()
    try:
        scrapes = Scrapes()
        scrapes.scrape("# TYPE a counter\na 1\n")
        columns, parser = ref(scrapes.columns), ref(scrapes.columns._parser)
        del scrapes
        assert (columns(), parser()) == (None, None)
    finally:
        gc.enable()


def test_series_that_come_and_go_give_their_memory_back() -> None:
    scrapes = Scrapes()

    def grown(scraped: int) -> int:
        """How many bytes more the columns hold after as many scrapes in which a tenth of the series is replaced."""
        before = tracemalloc.get_traced_memory()[0]
        for number in range(first, first + scraped):
            scrapes.scrape(
                "".join(f'x_{(number * 10 + i) % 50}{{n="{number * 10 + i}"}} 1\n' for i in range(100))
            )
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        first = 0
        grown(250)  # until every dictionary has found its size
        first = 250
        assert grown(150) < 20_000
    finally:
        tracemalloc.stop()
    parser, labels = scrapes.columns._parser, scrapes.columns._series.labels
    assert len(scrapes.columns.table) < 5 + 130
    assert len(labels) <= 110
    assert sys.getsizeof(labels) < 60_000
    assert sys.getsizeof(parser._slots) < 60_000


def test_limits_of_a_new_configuration_hold_at_once() -> None:
    scrapes = Scrapes()
    for _ in range(3):
        scrapes.scrape("a 1\nb 1\n")
    scrapes.columns.renew(target(sample_limit=1))
    with pytest.raises(ExpositionError, match="sample_limit is 1"):
        scrapes.scrape("a 1\nb 1\n")


async def test_a_target_that_is_moved_reports_its_new_time_out() -> None:
    seen = Recorder()
    async with exposing(iter([page("a 1\n")] * 2)) as address:
        context = context_for("prometheus")
        client = context.clients.client()
        loop = TargetLoop(
            target(address, scrape_timeout=3.0, extra_scrape_metrics=True),
            context,
            client,
            seen,
            VirtualClock(),
        )
        loop.begin(1_700_000_001.0)
        await seen.wait_for(1)
        loop.aim(target(address, scrape_timeout=2.0, extra_scrape_metrics=True))
        loop.begin(1_700_000_002.0)
        await seen.wait_for(2)
        await client.aclose()
    assert [batch.value("scrape_timeout_seconds") for batch in seen.batches] == [3, 2]


def test_bounds_are_normalised_by_the_family_not_by_the_place_in_the_body() -> None:
    batch = Scrapes().scrape(
        '# TYPE h histogram\nother{le="1"} 1\n# TYPE s summary\nh_bucket{le="1"} 2\nother{quantile="1"} 3\n'
        '# TYPE g gauge\ng{le="1"} 4\ns{quantile="1"} 5\n'
    )
    found = {
        (labels["__name__"], labels.get("le"), labels.get("quantile"))
        for labels in (dict(sample.series.labels) for sample in batch.samples)
        if labels["__name__"] not in SYNTHETIC
    }
    assert found == {
        ("other", "1", None),
        ("h_bucket", "1.0", None),
        ("other", None, "1"),
        ("g", "1", None),
        ("s", None, "1.0"),
    }


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
    assert report(batch)[1:] == [2, 2, 1]


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
        (":80", True),
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
    found = target("h:1", global_=GlobalConfig(external_labels={"job": "outer"}))
    assert dict(sample_labels("m", (), found))["job"] == "outer"


def job_with(*groups: StaticConfig, **settings: Any) -> ScrapeConfig:
    return ScrapeConfig(job_name="a", static_configs=list(groups), **settings)


def test_a_path_without_a_slash_gets_one() -> None:
    assert target("h:1", metrics_path="stats").url == "http://h:1/stats"


def test_what_is_wrong_with_a_job_is_named() -> None:
    def problems(*jobs: ScrapeConfig) -> list[str]:
        return [f"{path}: {message}" for path, message in receiver_config(*jobs).check()]

    [none] = problems()
    assert none.startswith("config: no Prometheus scrape_configs or target_allocator set; list at least one")
    assert problems(ScrapeConfig(job_name=""))[0].startswith(
        "config::scrape_configs::0::job_name: job_name is empty; it becomes"
    )
    assert problems(ScrapeConfig(job_name="a"), ScrapeConfig(job_name="a")) == [
        'config::scrape_configs::1::job_name: found multiple scrape configs with job name "a"; rename one, or join them'
    ]
    [timeout] = problems(ScrapeConfig(job_name="a", scrape_interval=5.0, scrape_timeout=6.0))
    assert 'scrape timeout greater than scrape interval for scrape config with job name "a"; leave' in timeout
    [slash] = problems(ScrapeConfig(job_name="a", static_configs=[StaticConfig(targets=["h:1/metrics"])]))
    assert '"h:1/metrics" is not a valid hostname' in slash


@asynccontextmanager
async def exposing(responses: Iterator[Response]) -> AsyncIterator[str]:
    async with serve("127.0.0.1", 0, {"/metrics": lambda: next(responses)}) as server:
        host, port = server.address
        yield f"{host}:{port}"


def page(text: str, status: int = 200, content_type: str = "text/plain; version=0.0.4") -> Response:
    return Response(status, "", {"content-type": content_type}, text.encode())


class InStep(VirtualClock):
    """Time that passes only as far as its batches have been seen."""

    def __init__(self, seen: Recorder) -> None:
        super().__init__()
        self._seen = seen

    async def sleep(self, seconds: float) -> None:
        await self._seen.wait_for(len(self.slept))
        await super().sleep(seconds)


async def test_a_target_is_scraped_over_http_in_its_rhythm() -> None:
    pages = iter(
        [
            page("a 1\n"),
            page("", status=500),
            page("a 3\n# EOF\n", content_type="application/openmetrics-text"),
            *[page("a 4\n")] * 9,
        ]
    )
    seen = Recorder()
    clock = InStep(seen)
    async with exposing(pages) as address:
        job = ScrapeConfig(
            job_name="app", scrape_interval=15.0, static_configs=[StaticConfig(targets=[address])]
        )
        receiver = PrometheusReceiver(receiver_config(job), context_for("prometheus"), seen, clock)
        running = asyncio.create_task(receiver.run())
        await seen.wait_for(3)
        running.cancel()
        await asyncio.wait([running])
    assert [batch.value("up") for batch in seen.batches[:3]] == [1, 0, 1]
    assert seen.batches[2].value("a") == 3
    stamps = [batch.samples[0].timestamp_ms for batch in seen.batches[:3]]
    assert [stamps[1] - stamps[0], stamps[2] - stamps[1]] == [15000, 15000]
    assert seen.closed == 1


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_the_limit_of_a_body_holds_for_what_it_is_decompressed(
    encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    def sent(text: str) -> Response:
        body = text.encode()
        headers = {"content-type": "text/plain", "content-encoding": encoding}
        return Response(200, "", headers, gzip.compress(body) if encoding == "gzip" else body)

    texts = ["a 12345\n", "a 1234567\n", "a 123456\n", "a 1" + 5000 * "0" + "\n"]
    assert [len(text) for text in texts[:3]] == [8, 10, 9]
    seen = Recorder()
    async with exposing(iter(map(sent, texts))) as address:
        context = context_for("prometheus")
        client = context.clients.client()
        subject = target(address, body_size_limit=10, extra_scrape_metrics=True)
        loop = TargetLoop(subject, context, client, seen, VirtualClock())
        for number in range(1, 5):
            loop.begin(1_700_000_000.0 + number)
            await seen.wait_for(number)
        await client.aclose()
    assert [batch.value("up") for batch in seen.batches] == [1, 0, 1, 0]
    assert [batch.value("scrape_body_size_bytes") for batch in seen.batches] == [8, -1, 9, -1]
    said = [record.message for record in caplog.records if "cannot be scraped" in record.message]
    assert len(said) == 2
    assert all("the body is larger than the limit: body_size_limit is 10 bytes" in line for line in said)


async def test_the_first_scrape_may_be_put_off() -> None:
    seen = Recorder()
    clock = VirtualClock()
    job = ScrapeConfig(job_name="app", static_configs=[StaticConfig(targets=["127.0.0.1:9"])])
    config = receiver_config(job, initial_scrape_offset=600.0)
    running = asyncio.create_task(PrometheusReceiver(config, context_for("prometheus"), seen, clock).run())
    await seen.wait_for(1)
    running.cancel()
    await asyncio.wait([running])
    assert 600 <= seen.batches[0].samples[0].timestamp_ms / 1000 - 1_700_000_000 <= 660


async def test_a_last_scrape_that_hangs_behind_another_ends_in_time() -> None:
    answer = asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    seen = Recorder()
    context = context_for("prometheus")
    client = context.clients.client()
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    loop = TargetLoop(target(address, scrape_timeout=0.2), context, client, seen, VirtualClock())
    loop.begin(1.0)
    async with asyncio.timeout(1):
        await loop.last_scrape()
    await client.aclose()
    answer.set()
    server.close()
    await server.wait_closed()
    assert [batch.names() for batch in seen.batches if batch.samples] in ([], [SYNTHETIC])


async def last_scrape(*pages: Response, identity: Resource | None = None) -> list[SeenBatch]:
    """What is handed on when a target is scraped as often as there are pages, the last time before the end."""
    seen = Recorder()
    async with exposing(iter(pages)) as address:
        context = context_for("prometheus", identity=identity)
        client = context.clients.client()
        loop = TargetLoop(target(address), context, client, seen, VirtualClock())
        for number in range(1, len(pages)):
            loop.begin(1_700_000_000.0 - 100 + number)
            await seen.wait_for(number)
        await loop.last_scrape()
        loop.begin(1_700_000_001.0)
        await client.aclose()
    return seen.batches


async def test_the_last_scrape_is_sent_if_it_succeeds() -> None:
    [_, last] = await last_scrape(page("a 1\n"), page("a 2\n"))
    assert (last.value("a"), last.value("up")) == (2, 1)


async def test_the_last_scrape_is_later_than_the_one_before_it() -> None:
    """Which may have been due in a moment, or just now, and its samples have to be new to the workspace."""
    seen = Recorder()
    async with exposing(iter([page("a 1\n"), page("a 2\n")])) as address:
        context = context_for("prometheus")
        client = context.clients.client()
        clock = VirtualClock()
        loop = TargetLoop(target(address), context, client, seen, clock)
        loop.begin(clock.time() + 0.002)
        await loop.last_scrape()
        await client.aclose()
    first, last = (batch.samples[0].timestamp_ms for batch in seen.batches)
    assert last == first + 1


@pytest.mark.parametrize("failure", [page("broken"), page("", status=503)])
async def test_a_last_scrape_that_fails_ends_the_series_and_says_nothing_of_up(failure: Response) -> None:
    [_, last] = await last_scrape(page("a 1\n"), failure)
    assert (last.names(), stale(last)) == (["a"], ["a"])


async def test_series_that_only_this_task_has_end_with_it() -> None:
    identity = Resource({}, {"aws_ecs_task_id": "t1"})
    [_, last, end] = await last_scrape(page("a 1\n"), page("a 2\n"), identity=identity)
    assert last.value("a") == 2
    assert stale(end) == sorted([*SYNTHETIC, "a"])
    assert end.samples[0].timestamp_ms == last.samples[0].timestamp_ms + 1
    [_, end] = await last_scrape(page("a 1\n"), page("", status=503), identity=identity)
    assert stale(end) == sorted([*SYNTHETIC, "a"])


async def test_a_target_that_does_not_answer_is_down_and_the_log_says_it_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen = Recorder()
    job = ScrapeConfig(job_name="app", static_configs=[StaticConfig(targets=["127.0.0.1:9"])])
    receiver = PrometheusReceiver(receiver_config(job), context_for("prometheus"), seen, VirtualClock())
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


def test_samples_shown_twice_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    scrapes = Scrapes()
    for text in ("a 1\n", "a 1\na 2\n", "a 1\na 2\n", "a 1\n", "a 1\na 2\n"):
        batch = scrapes.scrape(text)
        assert live(batch) == {"a": 1.0}
    assert [record.message.partition(" shows ")[2][:10] for record in caplog.records] == ["1 samples "] * 2
