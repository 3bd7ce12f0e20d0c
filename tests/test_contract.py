"""The contract of `component/contract.py`, held against every registered component.

A new component needs one line in MINIMAL: the least it must be told.
"""

from __future__ import annotations

import asyncio
import dataclasses
from array import array
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from trunkline import components
from trunkline.component.actions import Action
from trunkline.component.contract import Checked, Consumer, Context, Delivery
from trunkline.component.settings import settings_of
from trunkline.errors import DeliveryError
from trunkline.model import (
    NAN,
    STALE,
    Batch,
    Extra,
    Family,
    Kind,
    Origin,
    Resource,
    Series,
    Table,
    make_labels,
)
from trunkline.receivers.prometheus.config import PrometheusFile, ScrapeConfig, StaticConfig
from trunkline.testing import Recorder, context_for
from trunkline.wire.remote_write import decode_write_request
from trunkline.wire.snappy import decompress

NOBODY = "127.0.0.1:9"

MINIMAL: dict[tuple[str, str], dict[str, Any]] = {
    ("receivers", "awsecscontainermetrics"): {},
    ("receivers", "prometheus"): {
        "config": PrometheusFile(
            scrape_configs=[ScrapeConfig(job_name="a", static_configs=[StaticConfig(targets=[NOBODY])])]
        )
    },
    ("processors", "attributes"): {"actions": [Action(key="a", action="delete")]},
    ("processors", "batch"): {},
    ("processors", "filter"): {},
    ("processors", "memory_limiter"): {"check_interval": 1.0, "limit_mib": 1_000_000},
    ("processors", "metricstransform"): {},
    ("processors", "resource"): {"attributes": [Action(key="a", action="delete")]},
    ("processors", "resource_detection"): {},
    ("processors", "resourcedetection"): {},
    ("exporters", "awsprometheusremotewrite"): {
        "endpoint": "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write"
    },
    ("exporters", "debug"): {},
    ("exporters", "file"): {"path": "/dev/null"},
    ("exporters", "logging"): {},
    ("exporters", "prometheus"): {"endpoint": "localhost:0"},
    ("exporters", "prometheus_remote_write"): {"endpoint": f"http://{NOBODY}/write"},
    ("exporters", "prometheusremotewrite"): {"endpoint": f"http://{NOBODY}/write"},
    ("extensions", "health_check"): {},
    ("extensions", "sigv4auth"): {},
}

EVERY = [(kind, name) for kind in components.KINDS for name in components.names(kind)]


def of(kind: str) -> list[str]:
    return components.names(kind)


def config_of(kind: str, name: str, **changes: Any) -> Any:
    config_type = components.config_type(kind, name)
    assert config_type is not None
    return config_type(**{**MINIMAL[kind, name], **changes})


def context(name: str) -> Context:
    return context_for(name, environment={"ECS_CONTAINER_METADATA_URI_V4": f"http://{NOBODY}/v4/x"})


def test_every_component_has_its_least_settings_here() -> None:
    assert sorted(MINIMAL) == sorted(EVERY)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_a_config_is_a_frozen_dataclass_that_describes_itself(kind: str, name: str) -> None:
    config_type = components.config_type(kind, name)
    assert config_type is not None
    assert config_type.__dataclass_params__.frozen
    assert (config_type.__doc__ or "").strip().partition("\n")[0].endswith(".")
    for setting in settings_of(config_type).values():
        assert setting.doc[0].isupper() or setting.doc.startswith("`"), setting.key
        assert setting.doc.endswith("."), setting.key


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_the_least_settings_are_accepted_and_building_touches_nothing(kind: str, name: str) -> None:
    config = config_of(kind, name)
    if isinstance(config, Checked):
        assert list(config.check()) == []
    arguments = [Recorder()] if kind in ("receivers", "processors") else []
    config.build(context(name), *arguments)


def test_an_unknown_name_is_none() -> None:
    assert components.config_type("receivers", "nosuch") is None


@pytest.mark.parametrize("name", of("receivers"))
async def test_a_receiver_survives_a_world_that_does_not_answer(name: str) -> None:
    seen = Recorder()
    receiver = config_of("receivers", name).build(context(name), seen)
    running = asyncio.create_task(receiver.run())
    await asyncio.sleep(0.1)
    await receiver.drain()
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert seen.closed == len(seen.opened) == 1


def sources() -> dict[str, Callable[[], list[Batch]]]:
    """Batches as sources make them: plain, with gaps, NaN, own timestamps, extras, and changing series."""

    def table(count: int, origin: Origin = Origin.PROMETHEUS) -> Table:
        made = Table("source")
        for number in range(count):
            name = f"metric.{number % 7}" if origin is Origin.OPENTELEMETRY else f"metric_{number % 7}"
            family = Family(name, Kind.GAUGE, "By", origin=origin)
            labels = make_labels({"__name__": name, "n": str(number), "path": '/a"b\\c\nö'})
            made.assign(Series(labels, family, Resource({"service.name": "shop", "n": 1}, {"task": "t1"})))
        return made

    def plain() -> list[Batch]:
        source = table(1200)
        values = array("d", range(1200))
        return [
            Batch(source, stamp, values, source.take_changes())
            for stamp in (1_700_000_000_000, 1_700_000_015_000)
        ]

    def special() -> list[Batch]:
        source = table(5)
        values = array("d", [NAN, STALE, float("inf"), -0.0, 1e308])
        return [Batch(source, 1_700_000_000_000, values, source.take_changes(), bytearray(b"\1\1\1\1\0"))]

    def timestamped() -> list[Batch]:
        source = table(3)
        stamps = array("q", [1_700_000_000_001, 5, 1_700_000_000_003])
        extras = [Extra(0, 7.0, 1_700_000_000_005), Extra(0, 6.0, 1_700_000_000_004)]
        values = array("d", [1, 2, 3])
        return [Batch(source, 1_700_000_000_000, values, source.take_changes(), None, stamps, extras)]

    def changing() -> list[Batch]:
        source = table(600)
        values = array("d", range(600))
        batches = [Batch(source, 1_700_000_000_000, values, source.take_changes())]
        source.free(3)
        source.free(599)
        source.assign(Series(make_labels({"__name__": "late"}), Family("late"), Resource()))
        return [*batches, Batch(source, 1_700_000_015_000, values, source.take_changes())]

    def empty() -> list[Batch]:
        return [Batch(Table("nothing"), 1, array("d"))]

    def opentelemetry() -> list[Batch]:
        source = table(20, Origin.OPENTELEMETRY)
        return [Batch(source, 1_700_000_000_000, array("d", range(20)), source.take_changes())]

    return {one.__name__: one for one in (plain, special, timestamped, changing, empty, opentelemetry)}


SOURCES = sources()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", of("processors"))
def test_a_processor_passes_on_and_leaves_the_batch_alone(name: str, source: str) -> None:
    seen = Recorder()
    inlet = None
    for batch in SOURCES[source]():
        head = config_of("processors", name).build(context(name), seen)
        inlet = inlet or head.open(batch.table)
        before = (batch.values.tobytes(), list(batch.table.series))
        inlet.consume(batch)
        assert (batch.values.tobytes(), list(batch.table.series)) == before
        assert len(seen.batches[-1].samples) == len(batch.slots())
    assert inlet is not None
    inlet.close()
    assert seen.closed == 1


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", of("exporters"))
def test_an_exporter_takes_every_batch(name: str, source: str) -> None:
    made: Consumer | Delivery = config_of("exporters", name).build(context(name))
    if isinstance(made, Delivery):
        check_encoding(made, SOURCES[source]())
        return
    inlet = None
    for batch in SOURCES[source]():
        inlet = inlet or made.open(batch.table)
        inlet.consume(batch)
    assert inlet is not None
    inlet.close()


def check_encoding(delivery: Delivery, batches: list[Batch]) -> None:
    """Every sample of every batch comes out of the joined bytes, bit for bit."""
    encoder = delivery.encoder(batches[0].table)
    lanes: set[int] = set()
    for batch in batches:
        expected = sorted(
            [(array("d", [batch.values[slot]]).tobytes(), batch.timestamp_of(slot)) for slot in batch.slots()]
            + [(array("d", [extra.value]).tobytes(), extra.timestamp_ms) for extra in batch.extras]
        )
        fragments = encoder.encode(batch)
        assert sum(fragment.samples for fragment in fragments) == len(expected)
        raw = decompress(delivery.join(fragments), 10_000_000)
        assert sum(fragment.raw_bytes for fragment in fragments) == len(raw)
        found = decode_write_request(raw).series
        assert expected == sorted(
            (array("d", [sample.value]).tobytes(), sample.timestamp_ms)
            for series in found
            for sample in series.samples
        )
        for series in found:
            assert list(series.labels) == sorted(series.labels)
        lanes |= {fragment.lane for fragment in fragments}
        if not batch.extras:
            assert len({fragment.lane for fragment in fragments}) == len(fragments)
        oldest = [fragment.oldest_ms for fragment in fragments]
        assert not expected or min(oldest) == min(stamp for _, stamp in expected)
    again = delivery.encoder(batches[0].table)
    replay = [fragment.lane for fragment in again.encode(batches[-1])] if len(batches) == 1 else []
    assert set(replay) <= lanes  # a restarted collector finds its lanes again


NETWORK = [
    name
    for name in of("exporters")
    if isinstance(config_of("exporters", name).build(context(name)), Delivery)
]
UNSIGNED = [name for name in NETWORK if name != "awsprometheusremotewrite"]


@pytest.mark.parametrize("name", UNSIGNED)
async def test_sending_succeeds_or_raises_what_the_host_understands(name: str) -> None:
    answers = {
        200: None,
        204: None,
        400: "Rejected",
        401: "Hold",
        403: "Hold",
        404: "Hold",
        408: "RetryLater",
    }
    answers |= {
        302: "Hold",
        405: "Hold",
        413: "TooLarge",
        422: "Rejected",
        429: "RetryLater",
        500: "RetryLater",
        503: "RetryLater",
    }
    async for status, delivery in answering(name, list(answers)):
        raised = None
        try:
            await delivery.send(b"\0")
        except DeliveryError as error:
            raised = type(error).__name__
        assert raised == answers[status], status


async def answering(name: str, statuses: list[int]) -> AsyncIterator[tuple[int, Delivery]]:
    import aiohttp.web

    current = 0

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        await request.read()
        return aiohttp.web.Response(status=current, text="" if current == 204 else "words")

    application = aiohttp.web.Application()
    application.router.add_post("/write", answer)
    runner = aiohttp.web.AppRunner(application)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        [address] = runner.addresses
        delivery = config_of("exporters", name, endpoint=f"http://127.0.0.1:{address[1]}/write").build(
            context(name)
        )
        async with delivery.session():
            for current in statuses:
                yield current, delivery
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("name", NETWORK)
async def test_a_receiver_that_is_not_there_means_later_or_held_not_lost(name: str) -> None:
    delivery = config_of("exporters", name, endpoint=f"http://{NOBODY}/write", **region_of(name)).build(
        context(name)
    )
    async with delivery.session():
        with pytest.raises(DeliveryError) as raised:
            await delivery.send(b"\0")
    assert type(raised.value).__name__ in ("RetryLater", "Hold")


def region_of(name: str) -> dict[str, Any]:
    if name != "awsprometheusremotewrite":
        return {}
    from trunkline.exporters.prometheusremotewrite.config import AwsAuthConfig

    return {"aws_auth": AwsAuthConfig(region="eu-west-1")}


@pytest.mark.parametrize("name", of("extensions"))
async def test_an_extension_starts_and_stops(name: str) -> None:
    async with config_of("extensions", name).build(context(name)):
        pass


def test_minimal_settings_are_really_minimal() -> None:
    for (kind, name), settings in MINIMAL.items():
        config_type = components.config_type(kind, name)
        assert config_type is not None
        required = {field.name for field in dataclasses.fields(config_type) if is_required(field)}
        assert required <= set(settings)


def is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
