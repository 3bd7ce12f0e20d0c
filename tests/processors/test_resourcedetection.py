from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp.web
import pytest
from tests.processors.scrapes import PIPELINE, Source, Watching, configured, problems

from trunkline import components
from trunkline.collector.config import read
from trunkline.collector.pipelines import build
from trunkline.errors import ConfigError, TrunklineError
from trunkline.model import AttributeValue, Resource
from trunkline.processors.resourcedetection.detection import ResourceDetection
from trunkline.processors.resourcedetection.detectors import _canonical_name, _reverse_name
from trunkline.testing import Recorder, context_for

ARN = "arn:aws-us-gov:ecs:us-gov-west-1:123456789012"
LOGS = {"awslogs-group": "/ecs/app", "awslogs-region": "us-gov-west-1", "awslogs-stream": "app/1"}
TASK = {
    "Cluster": "main",
    "TaskARN": f"{ARN}:task/main/0123456789abcdef",
    "Family": "web",
    "Revision": "3",
    "ServiceName": "web",
    "AvailabilityZone": "us-gov-west-1a",
    "LaunchType": "FARGATE",
    "Containers": [
        {
            "DockerId": "1",
            "Type": "NORMAL",
            "KnownStatus": "RUNNING",
            "LogDriver": "awslogs",
            "LogOptions": LOGS,
        },
        {
            "DockerId": "2",
            "Type": "NORMAL",
            "KnownStatus": "RUNNING",
            "LogDriver": "awslogs",
            "LogOptions": LOGS,
        },
        {
            "DockerId": "3",
            "Type": "NORMAL",
            "KnownStatus": "STOPPED",
            "LogDriver": "awslogs",
            "LogOptions": LOGS,
        },
        {"DockerId": "4", "Type": "CNI_PAUSE", "KnownStatus": "RUNNING"},
    ],
}
DOCUMENT = {
    "accountId": "123456789012",
    "region": "eu-west-1",
    "availabilityZone": "eu-west-1b",
    "instanceId": "i-1",
    "imageId": "ami-1",
    "instanceType": "m7g.large",
}


class Service:
    """A server on loopback that answers GET by path; with a token asks for it as IMDSv2 does."""

    def __init__(self, answers: Mapping[str, Any], token: str = "") -> None:
        self.answers = dict(answers)
        self.token = token
        self.asked: list[str] = []
        self.failures = 0
        self.url = ""

    async def answer(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        self.asked.append(f"{request.method} {request.path}")
        if self.failures:
            self.failures -= 1
            return aiohttp.web.Response(status=500)
        if self.token and request.method == "PUT":
            assert request.headers["x-aws-ec2-metadata-token-ttl-seconds"].isdecimal()
            return aiohttp.web.Response(text=self.token)
        if self.token and request.headers.get("x-aws-ec2-metadata-token") != self.token:
            return aiohttp.web.Response(status=401)
        if request.path not in self.answers:
            return aiohttp.web.Response(status=404)
        answer = self.answers[request.path]
        return aiohttp.web.Response(text=answer if isinstance(answer, str) else json.dumps(answer))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        application = aiohttp.web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        runner = aiohttp.web.AppRunner(application)
        await runner.setup()
        try:
            await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()


def metadata() -> Service:
    return Service({"/v4/x/task": TASK, "/v4/x": {"DockerId": "2"}})


def instance(**more: str) -> Service:
    answers = {
        "/latest/dynamic/instance-identity/document": DOCUMENT,
        "/latest/meta-data/hostname": "ip-10-0-0-1",
    }
    return Service({**answers, **more}, token="secret")


async def detect(
    settings: dict[str, Any],
    environment: Mapping[str, str],
    given: Mapping[str, AttributeValue] | None = None,
) -> dict[str, AttributeValue]:
    """The attributes that a resource has afterwards."""
    source, seen = Source(resource=Resource(given or {})), Recorder()
    config = configured("resourcedetection", settings)
    processor = config.build(context_for("resourcedetection", environment=environment), seen)
    inlet = processor.open(source.table)  # as receivers do, before anything is entered
    async with processor:
        inlet.consume(source.scrape({"a": 1}))
    return dict(seen.batches[0].samples[0].series.resource.attributes)


async def test_env() -> None:
    text = " service.name = shop ,deployment.environment=a%2Cb+c,empty=,x=1=2, "
    assert await detect({}, {"OTEL_RESOURCE_ATTRIBUTES": text}) == {
        "service.name": "shop",
        "deployment.environment": "a,b c",
        "empty": "",
        "x": "1=2",
    }
    assert await detect({}, {}) == {}
    assert await detect({}, {"OTEL_RESOURCE": "a=b"}) == {"a": "b"}
    for wrong in ("nonsense", "a=b,,c=d", "=x", "a=%zz"):
        with pytest.raises(ConfigError, match="OTEL_RESOURCE_ATTRIBUTES: invalid resource format"):
            await detect({}, {"OTEL_RESOURCE_ATTRIBUTES": wrong})


async def test_override_and_the_order_of_detectors() -> None:
    environment = {"OTEL_RESOURCE_ATTRIBUTES": "os.type=beos,a=new"}
    both = {"detectors": ["env", "system"], "system": {"hostname_sources": ["os"]}}
    found = await detect(both, environment, {"a": "old"})
    assert found == {"os.type": "beos", "a": "new", "host.name": socket.gethostname()}
    kept = await detect({**both, "override": False}, environment, {"a": "old"})
    assert kept["a"] == "old"
    last = await detect({**both, "detectors": ["system", "env"]}, environment)
    assert last["os.type"] == "linux"
    only = await detect({**both, "attributes": ["a"]}, environment)
    assert only == {"a": "new"}


async def test_system() -> None:
    switches = {"host.name": {"enabled": False}, "host.arch": {"enabled": True}}
    settings = {
        "detectors": ["system"],
        "system": {"hostname_sources": ["os"], "resource_attributes": switches},
    }
    found = await detect(settings, {})
    assert found["os.type"] == "linux"
    assert found["host.arch"] in ("amd64", "arm64")
    assert set(found) == {"os.type", "host.arch"}


async def test_names_are_looked_up() -> None:
    assert (await _canonical_name("localhost")).startswith("localhost")
    assert await _reverse_name("127.0.0.1")
    with pytest.raises(OSError):  # noqa: PT011 (the words are the system's)
        await _canonical_name("name with spaces")


async def test_ecs() -> None:
    async with metadata().running() as service:
        environment = {"ECS_CONTAINER_METADATA_URI_V4": f"{service.url}/v4/x"}
        found = await detect({"detectors": ["ecs"]}, environment)
    group = "arn:aws-us-gov:logs:us-gov-west-1:123456789012:log-group:/ecs/app"
    assert found == {
        "cloud.provider": "aws",
        "cloud.platform": "aws_ecs",
        "cloud.account.id": "123456789012",
        "cloud.region": "us-gov-west-1",
        "cloud.availability_zone": "us-gov-west-1a",
        "aws.ecs.cluster.arn": f"{ARN}:cluster/main",
        "aws.ecs.task.arn": TASK["TaskARN"],
        "aws.ecs.task.id": "0123456789abcdef",
        "aws.ecs.task.family": "web",
        "aws.ecs.task.revision": "3",
        "aws.ecs.launchtype": "fargate",
        "aws.log.group.names": '["/ecs/app"]',
        "aws.log.group.arns": f'["{group}"]',
        "aws.log.stream.names": '["app/1"]',
        "aws.log.stream.arns": f'["{group}:log-stream:app/1"]',
    }
    assert await detect({"detectors": ["ecs"]}, {}) == {}


async def test_attributes_can_be_switched_off() -> None:
    async with metadata().running() as service:
        switches = {"aws.log.group.arns": {"enabled": False}, "cloud.region": {"enabled": False}}
        settings = {"detectors": ["ecs"], "ecs": {"resource_attributes": switches}}
        found = await detect(settings, {"ECS_CONTAINER_METADATA_URI_V4": f"{service.url}/v4/x"})
    assert len(found) == 13
    assert "cloud.region" not in found


async def test_ec2() -> None:
    async with instance().running() as service:
        found = await detect({"detectors": ["ec2"]}, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url + "/"})
        assert service.asked[0] == "PUT /latest/api/token"
    assert found == {
        "cloud.provider": "aws",
        "cloud.platform": "aws_ec2",
        "cloud.account.id": "123456789012",
        "cloud.region": "eu-west-1",
        "cloud.availability_zone": "eu-west-1b",
        "host.id": "i-1",
        "host.image.id": "ami-1",
        "host.type": "m7g.large",
        "host.name": "ip-10-0-0-1",
    }


async def test_ec2_tags() -> None:
    tags = "/latest/meta-data/tags/instance"
    answers = {tags: "team\nteam leader\nother", f"{tags}/team": "a", f"{tags}/team leader": "b"}
    async with instance(**answers).running() as service:
        settings = {"detectors": ["ec2"], "ec2": {"tags": ["^team"], "tags_from_imds": True}}
        found = await detect(settings, {"AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url})
    assert {key: value for key, value in found.items() if key.startswith("ec2.tag.")} == {
        "ec2.tag.team": "a",
        "ec2.tag.team leader": "b",
    }


async def test_where_there_is_no_instance_nothing_is_found_unless_that_is_a_failure() -> None:
    nobody = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:9"}
    assert await detect({"detectors": ["ec2"]}, nobody) == {}
    required = {"detectors": ["ec2"], "fail_on_missing_metadata": True, "timeout": "300ms"}
    with pytest.raises(
        TrunklineError,
        match=r"the detector ec2 gave no answer within 0\.3s: .*127\.0\.0\.1:9: cannot connect",
    ):
        await detect(required, nobody)


async def test_instance_metadata_that_does_not_answer_is_no_failure_however_short_the_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        nobody = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        assert await detect({"detectors": ["ec2"], "timeout": "600ms"}, nobody) == {}


async def test_switched_off_instance_metadata_is_not_asked() -> None:
    async with instance().running() as service:
        off = {"AWS_EC2_METADATA_SERVICE_ENDPOINT": service.url, "AWS_EC2_METADATA_DISABLED": "True"}
        assert await detect({"detectors": ["ec2"]}, off) == {}
        assert service.asked == []


async def test_what_fails_is_tried_again_until_the_time_is_up() -> None:
    async with metadata().running() as service:
        environment = {"ECS_CONTAINER_METADATA_URI_V4": f"{service.url}/v4/x"}
        service.failures = 1
        assert len(await detect({"detectors": ["ecs"]}, environment)) == 15
        service.failures = 1000
        started = time.monotonic()
        with pytest.raises(TrunklineError, match=re.escape("the detector ecs gave no answer within 0.7s")):
            await detect({"detectors": ["env", "ecs"], "timeout": "700ms"}, environment)
        assert time.monotonic() - started < 2


async def test_a_refresh_decides_known_series_anew() -> None:
    async with metadata().running() as service:
        source, seen = Source(), Watching()
        config = configured("resourcedetection", {"detectors": ["ecs"], "refresh_interval": "50ms"})
        environment = {"ECS_CONTAINER_METADATA_URI_V4": f"{service.url}/v4/x"}
        processor = config.build(context_for("resourcedetection", environment=environment), seen)
        inlet = processor.open(source.table)

        def revision() -> AttributeValue:
            inlet.consume(source.scrape({"a": 1}))
            return seen.batches[-1].samples[0].series.resource.attributes["aws.ecs.task.revision"]

        async with processor:
            assert revision() == "3"
            service.answers["/v4/x/task"] = {**TASK, "Revision": "4"}
            async with asyncio.timeout(5):
                while revision() != "4":  # noqa: ASYNC110 (what is asked is a series, not an event)
                    await asyncio.sleep(0.02)
            service.failures = 1_000_000
            await asyncio.sleep(0.1)
            assert revision() == "4"


async def test_the_host_enters_it_once() -> None:
    text = PIPELINE % "batch, resourcedetection, memory_limiter" + (
        "processors: {batch: , resourcedetection: , memory_limiter: {check_interval: 1s, limit_mib: 9000}}"
    )
    environment = {"ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:9/v4"}

    def no_sender(*_: object) -> Any:
        raise AssertionError("debug needs no sender")

    def lose(name: str, samples: int) -> None:
        raise AssertionError((name, samples))

    config = read([f"yaml:{text}"], {}, components)
    assembly = build(
        config,
        lambda id_: context_for(str(id_), environment=environment),
        no_sender,
        lambda _, head: head,
        lose,
    )
    [detection] = assembly.entered
    assert isinstance(detection, ResourceDetection)
    assert [str(warning) for warning in config.warnings] == []


def test_settings_are_checked() -> None:
    def check(settings: dict[str, Any], *expected: str) -> None:
        assert problems("resourcedetection", settings) == list(expected)

    check({"detectors": ["env", " system "], "timeout": "2s", "override": False})
    check(
        {"detectors": ["eks", "env"]},
        "detectors::0: invalid detector key: eks; detectors supported: env, system, ecs, ec2",
    )
    check({"timeout": "0s"}, "timeout: must be greater than zero, such as 5s")
    check(
        {"system": {"hostname_sources": ["hosts"]}},
        "system::hostname_sources::0: hostname_sources contains invalid value: 'hosts'; sources: dns, os, cname, lookup",
    )
    check(
        {"system": {"resource_attributes": {"host.ip": {"enabled": True}, "host.mac": {"enabled": False}}}},
        "system::resource_attributes::host.ip: host.ip is not supported",
    )
    [unknown] = problems(
        "resourcedetection", {"ec2": {"resource_attributes": {"host.nme": {"enabled": True}}}}
    )
    assert unknown.startswith("ec2::resource_attributes::host.nme: has invalid keys: host.nme; attributes: ")
    [tags] = problems("resourcedetection", {"ec2": {"tags": ["x"]}})
    assert "set tags_from_imds: true" in tags
