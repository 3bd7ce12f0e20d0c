from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.receivers.dns_server import Server, Zone, address, encoded, name_server, record, srv

from trunkline.collector.pipelines import FanOut
from trunkline.component.contract import ComponentId
from trunkline.model import Batch, is_stale
from trunkline.net.client import ClientFactory
from trunkline.net.message import Response
from trunkline.net.server import serve
from trunkline.net.settings import http_client
from trunkline.receivers.prometheus.config import (
    GlobalConfig,
    PrometheusConfig,
    PrometheusFile,
    ScrapeConfig,
)
from trunkline.receivers.prometheus.discovery.dns import DnsDiscovery, DnsSdConfig
from trunkline.receivers.prometheus.discovery.file import FileDiscovery, FileSdConfig
from trunkline.receivers.prometheus.discovery.groups import Discovery, TargetGroup
from trunkline.receivers.prometheus.discovery.http import HttpDiscovery, HttpSdConfig
from trunkline.receivers.prometheus.discovery.resolver import ResolverSettings
from trunkline.receivers.prometheus.discovery.static import StaticConfig
from trunkline.receivers.prometheus.http_config import BasicAuthConfig
from trunkline.receivers.prometheus.receiver import PrometheusReceiver
from trunkline.receivers.prometheus.relabel import RelabelConfig
from trunkline.testing import Recorder, SeenBatch, VirtualClock, context_for


def shown(groups: Sequence[TargetGroup]) -> list[dict[str, str]]:
    """Every target with its own labels and its group's."""
    return [{**group.labels, **one} for group in groups for one in group.targets]


class Updates:
    """What a discovery yields, one after the other, in no time."""

    def __init__(self, discovery: Discovery) -> None:
        self._updates = discovery.updates(VirtualClock())

    async def next(self) -> list[dict[str, str]]:
        return shown(await anext(self._updates))


# Files


async def test_files_in_json_and_yaml_are_read_and_read_again_when_they_change(tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.yaml"
    one.write_text(json.dumps([{"targets": ["a:1", "b:2"], "labels": {"zone": "x"}}]))
    two.write_text("- targets: [c:3]\n  labels: {version: 1.10, on: yes}\n- targets: ['d:4']\n")
    updates = Updates(FileDiscovery(FileSdConfig(files=[str(one), str(tmp_path / "t*.yaml")])))
    assert await updates.next() == [
        {"__address__": "a:1", "zone": "x", "__meta_filepath": str(one)},
        {"__address__": "b:2", "zone": "x", "__meta_filepath": str(one)},
        {"__address__": "c:3", "version": "1.10", "on": "yes", "__meta_filepath": str(two)},
        {"__address__": "d:4", "__meta_filepath": str(two)},
    ]
    one.unlink()
    (tmp_path / "three.yaml").write_text("[]")
    two.write_text("- targets: [e:5]\n")
    assert await updates.next() == [{"__address__": "e:5", "__meta_filepath": str(two)}]


async def test_files_that_do_not_change_are_read_at_the_interval() -> None:
    clock = VirtualClock()
    updates = FileDiscovery(FileSdConfig(files=["/nonexistent/*.json"])).updates(clock)
    await anext(updates)
    start_s = clock.now_s
    assert await anext(updates) == []
    assert clock.now_s - start_s == 300


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[{", "Expecting property name"),
        ('[{"targets": ["a:1"], "label": {}}]', "unknown key 'label'"),
        ('[{"targets": [1]}]', "must be a list of texts"),
        ('[{"targets": ["a:1"], "labels": {"a": 1}}]', "must be texts by name"),
        ("[null]", "nil target group item found"),
        ('[{"targets": ["a:1"], "labels": {"x": "\\ud800"}}]', "surrogates not allowed"),
        ('{"targets": []}', "a list of target groups is expected"),
    ],
)
async def test_a_file_that_is_wrong_keeps_its_targets_and_is_named_once(
    tmp_path: Path, text: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "a.json"
    file.write_text('[{"targets": ["a:1"]}]')
    updates = Updates(FileDiscovery(FileSdConfig(files=[str(file)])))
    before = await updates.next()
    file.write_text(text)
    assert await updates.next() == await updates.next() == before
    [said] = [record.message for record in caplog.records]
    assert str(file) in said
    assert why in said
    file.write_text("[]")
    assert await updates.next() == []


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.json", "null", []),
        ("a.json", '[{"targets": null, "labels": null}]', []),
        ("a.json", '[{"Targets": ["a:1"], "LABELS": {"A": "x", "b": null}}]', [("a:1", {"A": "x", "b": ""})]),
        ("a.json", '[{"targets": [null]}]', [("", {})]),
        ("a.yml", "", []),
        ("a.yml", "- targets:\n  labels: ~\n", []),
        ("a.yml", "- targets: [~, 'null']\n", [("", {}), ("null", {})]),
        (
            "a.yml",
            "- targets: [a]\n  labels: {n: ~, m: null, o: , p: '~'}\n",
            [("a", {"n": "", "m": "", "o": "", "p": "~"})],
        ),
        (
            "a.yml",
            "- targets: [a]\n  labels: &l {n: 1, m: 2}\n- targets: [b]\n  labels: {<<: *l, n: 3}\n",
            [("a", {"n": "1", "m": "2"}), ("b", {"n": "3", "m": "2"})],
        ),
    ],
)
async def test_nothing_and_spelling_mean_what_they_mean_in_go(
    tmp_path: Path, name: str, text: str, expected: Sequence[tuple[str, Mapping[str, str]]]
) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert await Updates(FileDiscovery(FileSdConfig(files=[str(file)]))).next() == [
        {"__address__": where, **labels, "__meta_filepath": str(file)} for where, labels in expected
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("- Targets: [a]\n", "unknown key 'Targets'"),
        ("- targets: a\n", "must be a list of texts"),
        ("- targets: ''\n", "must be a list of texts"),
        ("- ~\n", "nil target group item found"),
        ("- targets: [a]\n  labels: {~: x}\n", "a label of item 0 has no name"),
        ("- targets: [a]\n  labels: {x: 1, x: 2}\n", 'key "x" already set in map'),
        ("- targets: [a]\n  targets: [b]\n", 'key "targets" already set in map'),
        ("- targets: [!!python/name:os.system a]\n", "could not determine a constructor"),
    ],
)
async def test_yaml_that_prometheus_refuses_is_refused(
    tmp_path: Path, text: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.yml").write_text(text)
    assert await Updates(FileDiscovery(FileSdConfig(files=[str(tmp_path / "a.yml")]))).next() == []
    [said] = [record.message for record in caplog.records]
    assert why in said


# HTTP


@asynccontextmanager
async def listing(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.Response:
        return answer(request)

    application = web.Application()
    application.router.add_get("/targets", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/targets"
    finally:
        await runner.cleanup()


def over_http(url: str, **settings: Any) -> HttpDiscovery:
    config = HttpSdConfig(url=url, **settings)
    assert list(config.check()) == []
    return HttpDiscovery(config, http_client(config.http_settings(), ClientFactory(), {}))


async def test_targets_over_http_stay_while_the_server_fails(caplog: pytest.LogCaptureFixture) -> None:
    asked: list[Mapping[str, str]] = []
    groups = json.dumps([{"targets": ["a:1"], "labels": {"zone": "x"}}])
    answers = [
        web.Response(text=groups, content_type="application/json"),
        web.Response(status=500),
        web.Response(text=groups, content_type="text/plain"),
        web.Response(text="[", content_type="application/json"),
        web.Response(text="[]", content_type="application/json"),
    ]

    def answer(request: web.Request) -> web.Response:
        asked.append(dict(request.headers))
        return answers[len(asked) - 1]

    async with listing(answer) as url:
        discovery = over_http(url, basic_auth=BasicAuthConfig(username="u", password="p"))
        updates = Updates(discovery)
        assert await updates.next() == [{"__address__": "a:1", "zone": "x", "__meta_url": url}]
        assert await updates.next() == []
        await discovery.aclose()
    assert len(asked) == 5
    assert asked[0]["X-Prometheus-Refresh-Interval-Seconds"] == "60"
    assert asked[0]["Authorization"] == "Basic dTpw"
    said = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [url in one for one in said] == [True] * 3
    assert "500" in said[0]
    assert "unsupported content type" in said[1]


# DNS


ZONE: Zone = {
    ("_web._tcp.example.com.", "SRV"): [srv("one.example.com", 8080), srv("two.example.com", 9090)],
    ("example.com.", "A"): [
        record("CNAME", encoded("other.example.com")),
        address("10.0.0.1"),
        address("10.0.0.2"),
    ],
    ("example.com.", "AAAA"): [address("fd00::1")],
    ("example.com.", "MX"): [record("MX", struct.pack(">H", 5) + b"\x04mail\xc0\x0c")],
    ("example.com.", "NS"): [record("NS", b"\x02ns\xc0\x0c")],
    ("short.corp.example.", "A"): [address("10.0.0.9")],
}


async def test_every_kind_of_record_becomes_targets(tmp_path: Path) -> None:
    async def check(kind: str, name: str, *expected: Mapping[str, str]) -> None:
        config = DnsSdConfig(names=[name], type=kind, port=0 if kind.upper() == "SRV" else 9100)
        assert list(config.check()) == []
        found = await Updates(DnsDiscovery(config, resolver)).next()
        assert found == [{"__meta_dns_name": name, **one} for one in expected]

    async with name_server(tmp_path, Server(ZONE)) as resolver:
        await check("A", "example.com", {"__address__": "10.0.0.1:9100"}, {"__address__": "10.0.0.2:9100"})
        await check("aaaa", "example.com", {"__address__": "[fd00::1]:9100"})
        await check(
            "MX",
            "example.com",
            {"__address__": "mail.example.com:9100", "__meta_dns_mx_record_target": "mail.example.com."},
        )
        await check(
            "NS",
            "example.com",
            {"__address__": "ns.example.com:9100", "__meta_dns_ns_record_target": "ns.example.com."},
        )
        await check(
            "SRV",
            "_web._tcp.example.com",
            *[
                {
                    "__address__": f"{host}.example.com:{port}",
                    "__meta_dns_srv_record_target": f"{host}.example.com.",
                    "__meta_dns_srv_record_port": str(port),
                }
                for host, port in (("one", 8080), ("two", 9090))
            ],
        )
        await check("A", "nothing.example.com")
        await check("NS", "short.corp.example")


async def test_a_large_answer_comes_over_tcp(tmp_path: Path) -> None:
    zone = {("big.example.", "A"): [address(f"10.1.{n // 250}.{n % 250}") for n in range(500)]}
    server = Server(zone)
    async with name_server(tmp_path, server) as resolver:
        assert len(await resolver.lookup("big.example.", "A")) == 500
    assert [way for _, _, way in server.asked] == ["udp", "tcp"]


async def test_the_search_list_is_tried_as_resolv_conf_says(tmp_path: Path) -> None:
    server = Server(ZONE)
    async with name_server(tmp_path, server, "search lan corp.example", "options ndots:1") as resolver:
        [found] = await resolver.lookup("short", "A")
        assert found.target == "10.0.0.9"
        assert [name for name, _, _ in server.asked] == ["short.lan.", "short.corp.example."]
        await resolver.lookup("example.com", "A")
        assert server.asked[-1][0] == "example.com."
    assert ResolverSettings(search=["a.b"], dots=5).candidates("x.y") == ["x.y.a.b.", "x.y."]


async def test_a_name_that_no_server_can_resolve_keeps_its_targets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zone = {("fails.example.", "A"): [address("10.0.0.1")], **ZONE}
    server = Server({})
    async with name_server(tmp_path, server) as resolver:
        config = DnsSdConfig(names=["example.com.", "fails.example."], type="A", port=1)
        updates = Updates(DnsDiscovery(config, resolver))
        assert await updates.next() == []
        server.zone = zone
        assert [one["__address__"] for one in await updates.next()] == ["10.0.0.1:1", "10.0.0.2:1"]
    assert [one["__address__"] for one in await updates.next()] == ["10.0.0.1:1", "10.0.0.2:1"]
    said = [entry.message for entry in caplog.records]
    assert "fails.example." in said[0]
    assert "SERVFAIL" in said[0]


async def test_answers_of_nonsense_are_errors(tmp_path: Path) -> None:
    class Nonsense(Server):
        def answer(self, query: bytes, way: str) -> bytes:
            whole = super().answer(query, way)
            return (
                query[:2]
                + struct.pack(">H", 0x8180)
                + whole[4:12]
                + os.urandom(int(self.asked[-1][0][0]) * 9)
            )

    zone = {(f"{n}x.", "A"): [address("10.0.0.1")] for n in range(10)}
    async with name_server(tmp_path, Nonsense(zone)) as resolver:
        for number in range(10):
            with suppress(Exception) if number else pytest.raises(Exception, match="cut short"):
                await resolver.lookup(f"{number}x.", "A")


def test_what_is_wrong_with_a_section_is_said_in_prometheus_words() -> None:
    def check(config: Any, *expected: str) -> None:
        assert [message for _, message in config.check()] == list(expected)

    check(FileSdConfig(), "file service discovery config must contain at least one path name")
    check(FileSdConfig(files=["a*/b.json"]), 'path name "a*/b.json" is not valid for file discovery')
    check(FileSdConfig(files=["a.txt"]), 'path name "a.txt" is not valid for file discovery')
    check(HttpSdConfig(), "URL is missing")
    check(HttpSdConfig(url="ftp://a"), "URL scheme must be 'http' or 'https'")
    check(HttpSdConfig(url="http:///x"), "host is missing in URL")
    check(DnsSdConfig(), "DNS-SD config must contain at least one SRV record name")
    check(
        DnsSdConfig(names=["a"], type="A"),
        "a port is required in DNS-SD configs for all record types except SRV",
    )
    [wrong] = [message for _, message in DnsSdConfig(names=["a"], type="TXT").check()]
    assert wrong.startswith("invalid DNS-SD records type TXT")


# Targets that come and go


class Changing:
    """A receiver that finds its targets in a file, ten times a second."""

    def __init__(self, folder: Path, address: str, **settings: Any) -> None:
        self._file = folder / "targets.json"
        self._address = address
        self.seen = Recorder()
        self._job = ScrapeConfig(
            job_name="app",
            file_sd_configs=[FileSdConfig(files=[str(self._file)], refresh_interval=0.02)],
            **{"scrape_interval": 0.1, "scrape_timeout": 0.1, **settings},
        )
        self.config = PrometheusConfig(config=PrometheusFile(scrape_configs=[self._job]))

    def have(self, *groups: Mapping[str, str], address: str = "") -> None:
        targets = [address or self._address]
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps([{"targets": targets, "labels": dict(labels)} for labels in groups]))
        new.rename(self._file)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PrometheusReceiver]:
        receiver = PrometheusReceiver(self.config, context_for("prometheus"), self.seen)
        task = asyncio.create_task(receiver.run())
        try:
            yield receiver
        finally:
            task.cancel()
            await asyncio.wait([task])

    def of(self, **labels: str) -> list[SeenBatch]:
        """The batches of the target with these labels."""
        found = []
        for batch in self.seen.batches:
            have = dict(batch.samples[0].series.labels)
            if all(have.get(name) == value for name, value in labels.items()):
                found.append(batch)
        return found

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 (conditions of many kinds)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def target() -> AsyncIterator[str]:
    page = Response(200, "OK", {"content-type": "text/plain"}, b"a 1\n")
    async with serve("127.0.0.1", 0, {"/metrics": lambda: page}) as server:
        host, port = server.address
        yield f"{host}:{port}"


def ends(batch: SeenBatch) -> bool:
    return all(is_stale(sample.value) for sample in batch.samples)


async def test_a_target_that_vanishes_ends_all_its_series_and_frees_its_table(tmp_path: Path) -> None:
    async with target() as address:
        world = Changing(tmp_path, address)
        world.have({"n": "1"}, {"n": "2"})
        async with world.running():
            await world.until(lambda: len(world.of(n="1")) > 1 and len(world.of(n="2")) > 1)
            world.have({"n": "1"})
            await world.until(lambda: world.seen.closed)
            count = len(world.of(n="1"))
            await world.until(lambda: len(world.of(n="1")) > count + 1)
    *before, last = world.of(n="2")
    assert ends(last)
    assert last.names() == [*before[-1].names()]
    assert {"up", "a", "scrape_series_added"} <= set(last.names())
    gap_ms = last.samples[0].timestamp_ms - before[-1].samples[0].timestamp_ms
    assert 50 <= gap_ms <= 1000  # a busy machine is late for a tick, or misses some
    assert not any(ends(batch) for batch in world.of(n="1"))


async def test_a_target_that_comes_back_in_time_goes_on(tmp_path: Path) -> None:
    async with target() as address:
        world = Changing(tmp_path, address)
        world.have({"n": "1"})
        async with world.running():
            await world.until(lambda: len(world.of(n="1")) > 1)
            world.have()
            await asyncio.sleep(0.12)
            world.have({"n": "1"})
            count = len(world.of(n="1"))
            await world.until(lambda: len(world.of(n="1")) > count + 4)
            assert world.seen.closed == 0
    assert len(world.seen.opened) == 1
    assert not any(ends(batch) for batch in world.of(n="1"))


async def test_a_target_that_moves_keeps_its_series(tmp_path: Path) -> None:
    rule = RelabelConfig(target_label="instance", replacement="same")
    async with target() as address, target() as other:
        world = Changing(tmp_path, address, relabel_configs=[rule])
        world.have({"n": "1"})
        async with world.running():
            await world.until(lambda: len(world.of(n="1")) > 1)
            world.have({"n": "1"}, address=other)
            count = len(world.of(n="1"))
            await world.until(lambda: len(world.of(n="1")) > count + 4)
    assert len(world.seen.opened) == 1
    assert all(batch.value("up") == 1 for batch in world.of(n="1"))
    first, *_, last = (
        {sample.series.resource.attributes["server.port"] for sample in batch.samples}
        for batch in world.of(n="1")
    )
    assert (first, last) == ({address.rpartition(":")[2]}, {other.rpartition(":")[2]})


async def test_other_labels_are_another_target(tmp_path: Path) -> None:
    async with target() as address:
        world = Changing(tmp_path, address)
        world.have({"n": "1"})
        async with world.running():
            await world.until(lambda: len(world.of(n="1")) > 1)
            world.have({"n": "2"})
            await world.until(lambda: world.seen.closed == 1 and len(world.of(n="2")) > 1)
    assert ends(world.of(n="1")[-1])


async def test_a_second_target_with_the_same_labels_is_refused_by_name_until_the_first_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with target() as address, target() as other:
        first = ScrapeConfig(
            job_name="first",
            scrape_interval=0.1,
            scrape_timeout=0.1,
            static_configs=[StaticConfig(targets=[other], labels={"job": "app", "instance": "i"})],
        )
        world = Changing(tmp_path, address)
        world.have(
            {"instance": "i", "n": ""},
            {"instance": "i", "n": "2"},
            {"instance": "i", "n": "2", "__scheme__": "https"},
        )
        config = PrometheusConfig(config=PrometheusFile(scrape_configs=[first, world._job]))
        receiver = PrometheusReceiver(config, context_for("prometheus"), world.seen)
        task = asyncio.create_task(receiver.run())
        await world.until(lambda: len(world.of(n="2")) > 2)
        task.cancel()
        await asyncio.wait([task])
    said = [entry.message for entry in caplog.records]
    assert len(said) == 2
    assert (
        f"job app: target http://{address}/metrics is not scraped: a target of job first has the same"
        in said[0]
    )
    assert (
        f"job app: target https://{address}/metrics is not scraped: http://{address}/metrics has the same"
        in said[1]
    )
    assert len(world.seen.opened) == 2


def ports(seen: Recorder) -> set[object]:
    """Those that something was scraped at."""
    return {batch.samples[0].series.resource.attributes["server.port"] for batch in seen.batches}


async def test_a_target_of_another_receiver_in_the_same_pipelines_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with target() as address, target() as other:
        one, two = Changing(tmp_path, address), Changing(tmp_path, address)
        one.have({"instance": "i", "n": "1"})
        static = StaticConfig(targets=[other], labels={"job": "app", "instance": "i", "n": "1"})
        second = ScrapeConfig(
            job_name="second", scrape_interval=0.1, scrape_timeout=0.1, static_configs=[static]
        )
        config = PrometheusConfig(config=PrometheusFile(scrape_configs=[second]))
        first_context = context_for("prometheus/one")
        contexts = [first_context, replace(first_context, id=ComponentId("prometheus", "two"))]

        async def check(downstream: Recorder) -> None:
            receivers = [
                PrometheusReceiver(
                    settings, context, FanOut([("metrics", seen)], lambda *lost: pytest.fail(str(lost)))
                )
                for settings, context, seen in zip(
                    (one.config, config), contexts, (one.seen, downstream), strict=True
                )
            ]
            count = len(one.of(n="1"))
            first = asyncio.create_task(receivers[0].run())
            await one.until(lambda: len(one.of(n="1")) > count + 1)
            task = asyncio.create_task(receivers[1].run())
            if downstream is one.seen:
                await one.until(lambda: caplog.records)
                [said] = [entry.message for entry in caplog.records]
                assert f"job second: target http://{other}/metrics is not scraped" in said
                assert "a target of job app in the receiver prometheus/one has the same labels" in said
                one.have()
            await one.until(lambda: ports(downstream) >= {other.rpartition(":")[2]})
            for running in (first, task):
                running.cancel()
            await asyncio.wait([first, task])

        await check(two.seen)
        assert caplog.records == []
        await check(one.seen)


async def test_rules_that_leave_nothing_to_tell_two_targets_apart_are_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(*rules: RelabelConfig, alike: bool, **settings: Any) -> None:
        caplog.clear()
        world = Changing(tmp_path, where, metric_relabel_configs=list(rules), **settings)
        world.have({"instance": "1"})
        async with world.running():
            await world.until(lambda: len(world.of(instance="1")) > 1)
            assert caplog.records == []
            world.have({"instance": "1"}, {"instance": "2"}, {"instance": "3"})
            await world.until(lambda: len(world.of(instance="2")) > 1 and len(world.of(instance="3")) > 1)
        said = [entry.message for entry in caplog.records]
        assert ["job app: metric_relabel_configs leave nothing that tells" in one for one in said] == [
            True
        ] * alike

    drop = RelabelConfig(regex="instance", action="labeldrop")
    async with target() as where:
        await check(drop, alike=True)
        await check(RelabelConfig(source_labels=["__name__"], regex="b", action="keep"), drop, alike=True)
        await check(RelabelConfig(regex="__name__|job", action="labelkeep"), alike=True)
        await check(RelabelConfig(target_label="instance", replacement="same"), alike=True)
        await check(RelabelConfig(source_labels=["instance"], target_label="pod"), drop, alike=False)
        await check(
            RelabelConfig(regex="(instance)", replacement="my_$1", action="labelmap"), drop, alike=False
        )
        await check(RelabelConfig(regex="path", action="labeldrop"), alike=False)
        await check(drop, alike=False, honor_labels=True)


async def test_external_labels_that_make_two_targets_alike_are_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with target() as address:
        world = Changing(tmp_path, address)
        world.have({"n": "1"}, {"n": "2", "__metrics_path__": "/other"})
        outer = GlobalConfig(external_labels={"n": "same"})
        config = PrometheusConfig(config=PrometheusFile(global_=outer, scrape_configs=[world._job]))
        receiver = PrometheusReceiver(config, context_for("prometheus"), world.seen)
        await stop(await begin(receiver, world, lambda: len(world.of(n="same")) > 2))
    assert len(world.seen.opened) == 1
    assert ["n=same" in entry.message for entry in caplog.records] == [True]


async def test_too_many_targets_all_fail(tmp_path: Path) -> None:
    async with target() as address:
        world = Changing(tmp_path, address, target_limit=1)
        world.have({"n": "1"}, {"n": "2"})
        async with world.running():
            await world.until(lambda: world.of(n="1") and world.of(n="2"))
            world.have({"n": "1"})
            await world.until(lambda: world.of(n="1")[-1].value("up") == 1)
    assert world.of(n="2")[0].value("up") == world.of(n="1")[0].value("up") == 0


async def test_the_series_of_a_target_that_is_gone_end_with_the_process(tmp_path: Path) -> None:
    async with target() as address:
        world = Changing(tmp_path, address)
        world.have({"n": "1"}, {"n": "2"})
        async with world.running() as receiver:
            await world.until(lambda: world.of(n="1") and world.of(n="2"))
            world.have({"n": "1"})
            await asyncio.sleep(0.06)
            await receiver.drain()
            count = len(world.seen.batches)
            await asyncio.sleep(0.25)
            assert len(world.seen.batches) == count
    assert ends(world.of(n="2")[-1])
    assert world.of(n="1")[-1].value("up") == 1


# A configuration that is read anew


async def reloaded(world: Changing, second: Changing, condition: Callable[[], object]) -> None:
    """Run the first receiver, then the second in its place, until the condition holds."""
    context = context_for("prometheus")
    for one in (world, second):
        task = asyncio.create_task(PrometheusReceiver(one.config, context, one.seen).run())
        await one.until((lambda: len(world.of(n="1")) > 1) if one is world else condition)
        task.cancel()
        await asyncio.wait([task])


async def test_series_go_on_under_a_new_configuration_and_what_is_gone_ends(tmp_path: Path) -> None:
    def page() -> Response:
        body = b"a 2\n" if second.seen.opened else b"a 1\nb 1\n"
        return Response(200, "OK", {"content-type": "text/plain"}, body)

    async with serve("127.0.0.1", 0, {"/metrics": page}) as server:
        host, port = server.address
        first = Changing(tmp_path, f"{host}:{port}")
        second = Changing(tmp_path, f"{host}:{port}", sample_limit=100)
        first.have({"n": "1"}, {"n": "2"})

        def over() -> bool:
            first.have({"n": "1"})
            return second.seen.closed == 1 and len(second.of(n="1")) > 2

        await reloaded(first, second, over)
    [one, *_] = second.of(n="1")
    assert (one.value("a"), is_stale(one.value("b"))) == (2, True)
    assert one.value("scrape_series_added") == 0


async def test_rules_that_change_end_the_series_first(tmp_path: Path) -> None:
    rule = RelabelConfig(target_label="more", replacement="1")
    async with target() as address:
        first = Changing(tmp_path, address)
        second = Changing(tmp_path, address, metric_relabel_configs=[rule])
        first.have({"n": "1"})
        await reloaded(first, second, lambda: len(second.of(n="1")) > 2)
    [end, one, *_] = second.of(n="1")
    assert ends(end)
    assert (one.value("a", more="1"), one.value("up")) == (1, 1)
    assert end.samples[0].timestamp_ms <= one.samples[0].timestamp_ms


async def test_what_a_new_configuration_no_longer_has_ends(tmp_path: Path) -> None:
    async with target() as address:
        first, second = Changing(tmp_path, address), Changing(tmp_path / "other", address)
        (tmp_path / "other").mkdir()
        first.have({"n": "1"})
        second.have({"n": "2"})
        await reloaded(first, second, lambda: second.of(n="1"))
    [end] = second.of(n="1")
    assert ends(end)
    assert set(end.names()) >= {"a", "up"}


async def begin(
    receiver: PrometheusReceiver, world: Changing, until: Callable[[], object]
) -> asyncio.Task[None]:
    task = asyncio.create_task(receiver.run())
    await world.until(until)
    return task


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def test_series_nobody_continues_end_though_the_configuration_is_read_anew_again(
    tmp_path: Path,
) -> None:
    async with target() as address:
        worlds = [Changing(tmp_path, address, scrape_interval=0.5) for _ in range(3)]
        context = context_for("prometheus")
        worlds[0].have({"n": "1"}, {"n": "2"})
        for world in worlds:
            receiver = PrometheusReceiver(world.config, context, world.seen)
            task = await begin(receiver, world, lambda: worlds[0].of(n="1") and worlds[0].of(n="2"))
            worlds[0].have({"n": "2"})
            if world is worlds[2]:
                await world.until(lambda: worlds[2].of(n="1"))
            elif world is worlds[1]:
                await asyncio.sleep(0.05)
            await stop(task)
    [end] = worlds[2].of(n="1")
    last = worlds[0].of(n="1")[-1]
    assert ends(end)
    assert end.names() == last.names()
    assert end.samples[0].timestamp_ms == last.samples[0].timestamp_ms + 500
    assert not worlds[1].of(n="1")


@pytest.mark.parametrize("way", ["drain", "end"])
async def test_series_nobody_continues_end_with_the_receiver(tmp_path: Path, way: str) -> None:
    async with target() as address:
        first, second = (Changing(tmp_path, address, scrape_interval=5.0) for _ in range(2))
        context = context_for("prometheus")
        first.have({"n": "1"})
        await stop(
            await begin(PrometheusReceiver(first.config, context, first.seen), first, lambda: first.of(n="1"))
        )
        first.have()
        receiver = PrometheusReceiver(second.config, context, second.seen)
        task = await begin(receiver, second, lambda: "prometheus" not in context.estate)
        assert second.seen.batches == []
        if way == "drain":
            await receiver.drain()
        else:
            receiver.end()
        await stop(task)
    [end] = second.of(n="1")
    assert ends(end)
    assert {"a", "up"} <= set(end.names())
    assert "prometheus" not in context.estate


async def test_a_receiver_that_is_ended_ends_every_series_and_leaves_nothing(tmp_path: Path) -> None:
    async with target() as address:
        world = Changing(tmp_path, address)
        context = context_for("prometheus")
        world.have({"n": "1"}, {"n": "2"}, {"n": "3"})
        receiver = PrometheusReceiver(world.config, context, world.seen)
        task = await begin(receiver, world, lambda: all(len(world.of(n=n)) > 1 for n in "123"))
        world.have({"n": "1"}, {"n": "3"})
        await asyncio.sleep(0.05)
        receiver.end()
        count = len(world.seen.batches)
        await asyncio.sleep(0.25)
        await receiver.drain()
        await stop(task)
    assert len(world.seen.batches) == count
    assert "prometheus" not in context.estate
    for number in "123":
        *before, end = world.of(n=number)
        assert ends(end)
        assert end.names() == before[-1].names()
        assert end.samples[0].timestamp_ms > before[-1].samples[0].timestamp_ms
        assert not any(ends(batch) for batch in before)


async def test_a_last_scrape_of_too_many_targets_fails_like_the_others(tmp_path: Path) -> None:
    async with target() as address:
        world = Changing(tmp_path, address, target_limit=1)
        world.have({"n": "1"})
        async with world.running() as receiver:
            await world.until(lambda: world.of(n="1") and world.of(n="1")[-1].value("up") == 1)
            world.have({"n": "1"}, {"n": "2"})
            await world.until(lambda: world.of(n="2") and world.of(n="1")[-1].value("up") == 0)
            count = len(world.seen.batches)
            await receiver.drain()
    assert [sample for batch in world.seen.batches[count:] for sample in batch.samples] == []


class Failing(Recorder):
    """A recorder that takes nothing of a target any more."""

    refused = ""

    def consume(self, batch: Batch) -> None:
        if self.refused and self.refused in batch.table.key:
            raise RuntimeError(self.refused)
        super().consume(batch)


async def test_a_last_scrape_that_fails_does_not_keep_others_from_theirs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with target() as address:
        world = Changing(tmp_path, address)
        world.seen = failing = Failing()
        world.have({"n": "1"}, {"n": "2"}, {"n": "3"})
        async with world.running() as receiver:
            await world.until(lambda: all(world.of(n=n) for n in "123"))
            counts = {n: len(world.of(n=n)) for n in "13"}
            failing.refused = "n=2"
            await receiver.drain()
    assert all(len(world.of(n=n)) > count for n, count in counts.items())
    assert [entry.message for entry in caplog.records if "last scrape" in entry.message] == [
        f"the last scrape of http://{address}/metrics failed in a way nobody foresaw"
    ]
