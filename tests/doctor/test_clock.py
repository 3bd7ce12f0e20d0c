"""A clock that is wrong by more than AWS allows: noticed, corrected, reported, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.doctor.stage import MONITORING, REGION, Stage, arn, stage_in, trunkline

from trunkline.aws.clock import ServerClock
from trunkline.aws.credentials import CredentialsFactory
from trunkline.errors import FetchError, Hold
from trunkline.exporters.prometheusremotewrite.config import AwsAuthConfig, AwsRemoteWriteConfig
from trunkline.exporters.prometheusremotewrite.delivery import RemoteWrite
from trunkline.net.client import Client, ClientFactory
from trunkline.net.message import Request
from trunkline.net.resolve import Resolve
from trunkline.simulator.gateway.settings import Fault
from trunkline.testing import context_for
from trunkline.wire import snappy
from trunkline.wire.remote_write import encode_labels, encode_series, encode_write_request

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with stage_in(tmp_path_factory.mktemp("state")) as made:
        yield made


@asynccontextmanager
async def exporter(
    stage: Stage, environment: Mapping[str, str], *, wrong_s: float, role: str = ""
) -> AsyncIterator[tuple[RemoteWrite, ServerClock, CredentialsFactory]]:
    """The exporter on a machine whose clock is `wrong_s` ahead."""
    clock = ServerClock(lambda: time.time() + wrong_s)
    clients = ClientFactory(Resolve.parse(stage.resolve), stage.ca)
    factory = CredentialsFactory(clients, environment, clock=clock)
    context = replace(context_for("awsprometheusremotewrite"), clients=clients, credentials=factory)
    auth = AwsAuthConfig(region=REGION, role_arn=role)
    config = AwsRemoteWriteConfig(endpoint=stage.endpoint(), aws_auth=auth, timeout=5)
    async with factory:
        made = config.build(context)
        assert isinstance(made, RemoteWrite)
        async with made.session():
            yield made, clock, factory


async def attempts(delivery: RemoteWrite, name: str, count: int) -> list[str]:
    """Send that many requests, as fast as a sender would; what became of each."""
    outcomes = []
    for number in range(count):
        labels = encode_labels([("__name__", name)])
        series = encode_series(labels, [(float(number), int(time.time() * 1000))])
        try:
            await delivery.send(snappy.compress(encode_write_request([series])))
        except Hold as error:
            outcomes.append(f"{error.reason}: {error}")
        else:
            outcomes.append("delivered")
    return outcomes


def own_key(stage: Stage) -> dict[str, str]:
    key = stage.keys[MONITORING]
    return {"AWS_ACCESS_KEY_ID": key.access_key_id, "AWS_SECRET_ACCESS_KEY": key.secret_access_key}


@pytest.mark.parametrize("wrong_s", [-1200, 1200, -7 * 86_400])
async def test_after_one_refusal_by_the_workspace_it_delivers(
    stage: Stage, wrong_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    async with exporter(stage, own_key(stage), wrong_s=wrong_s) as (delivery, clock, factory):
        await factory.default(REGION).ready()
        refused, *others = await attempts(delivery, f"clock_{wrong_s:.0f}".replace("-", "m"), 4)
    assert re.match(r"forbidden: .* answered 403: Signature (expired|not yet current): ", refused)
    assert "The clock of this machine is wrong: from now on AWS's own time is signed with" in refused
    assert others == ["delivered"] * 3
    assert abs(clock.offset_s + wrong_s) < 2
    told = [record.getMessage() for record in caplog.records if "the clock of this machine" in record.message]
    assert len(told) == 1
    assert re.search("behind AWS's" if wrong_s < 0 else "ahead of AWS's", told[0])


async def test_a_clock_that_is_only_somewhat_wrong_is_corrected_without_a_refusal(stage: Stage) -> None:
    async with exporter(stage, own_key(stage), wrong_s=-600) as (delivery, clock, factory):
        await factory.default(REGION).ready()
        assert await attempts(delivery, "clock_somewhat", 3) == ["delivered"] * 3
    assert abs(clock.offset_s - 600) < 2
    assert abs(clock.now() - time.time()) < 2


@pytest.mark.parametrize("wrong_s", [-1200, 1200])
async def test_sts_tells_the_time_before_anything_is_written(
    stage: Stage, wrong_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    environment = await stage.session("trusted")
    role = arn(MONITORING, "central")
    async with exporter(stage, environment, wrong_s=wrong_s, role=role) as (delivery, _, factory):
        assumed = factory.assume_role(role, region=REGION)
        async with asyncio.timeout(10):
            await assumed.ready()
        name = f"clock_sts_{wrong_s:.0f}".replace("-", "m")
        assert await attempts(delivery, name, 2) == ["delivered"] * 2
        expires_at = assumed.current().expires_at
    assert expires_at is not None
    assert abs(expires_at - time.time() - 3600) < 5
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert "The clock of this machine is off by" in errors[0]


CONFIGURATION = """
receivers:
  prometheus:
    config:
      scrape_configs:
        - {{job_name: self, scrape_interval: 300ms, scrape_timeout: 300ms, static_configs: [{{targets: ["{own}"]}}]}}
extensions: {{sigv4auth: {{}}}}
exporters:
  prometheusremotewrite: {{endpoint: "{endpoint}", auth: {{authenticator: sigv4auth}}}}
service:
  extensions: [sigv4auth]
  pipelines: {{metrics: {{receivers: [prometheus], exporters: [prometheusremotewrite]}}}}
"""


async def test_a_collector_process_recovers_and_says_so(stage: Stage, tmp_path: Path) -> None:
    """The workspace's clock moves, which is the same to the collector as if its own had moved."""
    own, health = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    config, log = tmp_path / "collector.yaml", tmp_path / "log"
    config.write_text(CONFIGURATION.format(own=own, endpoint=stage.endpoint()))
    arguments = ["collector", "run", "--config", str(config), "--data-dir", str(tmp_path / "data")]
    arguments += ["--metrics-address", own, "--health-address", health]
    arguments += ["--resolve", stage.resolve, "--ca-bundle", str(stage.ca)]
    fault = await stage.gateway.add_fault(Fault("skew", skew_s=1200))
    async with AsyncExitStack() as held:
        output = held.enter_context(log.open("wb"))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "trunkline", *arguments),
            stderr=output,
            env={**os.environ, "AWS_EC2_METADATA_DISABLED": "true", **own_key(stage)},
        )
        held.push_async_callback(ended, process)
        metrics = await shown(own, lambda found: delivered(found) >= 100)
        assert abs(metrics["trunkline_clock_offset_seconds"] - 1200) < 2
        await stage.gateway.remove_fault(fault)
        await shown(own, lambda found: abs(found["trunkline_clock_offset_seconds"]) < 2)
        before = delivered(await shown(own, lambda _: True))
        metrics = await shown(own, lambda found: delivered(found) > before + 50)
    assert not [name for name, value in metrics.items() if name.startswith("trunkline_refused") and value]
    lines = log.read_text()
    assert len(re.findall(r"answered 403: Signature expired", lines)) == 1
    assert (
        len(re.findall(r"WARNING .*the clock of this machine is (19m59s|20m[01]s) behind AWS's", lines)) == 1
    )
    assert "the clock of this machine is right again" in lines


async def test_the_doctor_notes_a_wrong_clock_and_goes_on(stage: Stage) -> None:
    config = stage.state / "collector.yaml"
    config.write_text(stage.configuration(role=""))
    fault = await stage.gateway.add_fault(Fault("skew", skew_s=-1200))
    arguments = ["--config", str(config), "--resolve", stage.resolve, "--ca-bundle", str(stage.ca), "--json"]
    try:
        code, output, _ = await trunkline("collector", "doctor", *arguments, environment=own_key(stage))
    finally:
        await stage.gateway.remove_fault(fault)
    [chain] = json.loads(output)["exporters"]
    hops = {hop["hop"]: hop for hop in chain["hops"]}
    assert (code, hops["clock"]["outcome"], hops["test write"]["outcome"]) == (0, "note", "ok")
    assert "ahead of AWS's" in hops["clock"]["text"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def delivered(metrics: Mapping[str, float]) -> float:
    return metrics.get('trunkline_delivered_samples_total{exporter="prometheusremotewrite"}', 0)


async def shown(address: str, wanted: object) -> dict[str, float]:
    """The collector's own metrics, as soon as they are as wanted."""
    assert callable(wanted)
    client = Client()
    found: dict[str, float] = {}
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    answer = await client.exchange(Request("GET", f"http://{address}/metrics"), timeout_s=2)
                    found = parsed(answer.body.decode())
                    if wanted(found):
                        return found
                except FetchError:
                    pass
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"not in time: {found}")
    finally:
        await client.aclose()


def parsed(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


async def ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    async with asyncio.timeout(15):
        await process.wait()
