"""The gateway as a process: real signatures, real TLS, a real Prometheus behind it."""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import pytest_asyncio
from tests.simulator.gateway_stand_in import (
    OWNER,
    REGION,
    WORKLOAD,
    WRITE_HEADERS,
    Answer,
    Caller,
    FrontDoor,
    Principal,
    compressed,
    make_certificate,
    metadata,
    named,
    now_ms,
    role,
    series,
    until,
)

from trunkline.errors import SimulatorError
from trunkline.simulator.gateway.process import Gateway
from trunkline.simulator.gateway.settings import Fault, Limits, Workspace
from trunkline.simulator.prometheus import PrometheusServer
from trunkline.wire.remote_write import encode_labels
from trunkline.wire.template import Template, join

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVERYTHING = (
    "aps:RemoteWrite",
    "aps:QueryMetrics",
    "aps:GetSeries",
    "aps:GetLabels",
    "aps:GetMetricMetadata",
    "aps:ListRules",
    "aps:ListAlerts",
)


@dataclass
class Stage:
    """Everything that runs, and ready-made callers."""

    gateway: Gateway
    front_door: FrontDoor
    prometheus: PrometheusServer
    certificate: Path
    handed_over: int
    owner: Principal
    reader: Principal
    stranger: Principal

    async def caller(self, **limits: Any) -> Caller:
        """The owner's, to a new workspace with these limits."""
        workspace_id = f"ws-{secrets.token_hex(8)}"
        workspace = Workspace(workspace_id, OWNER, REGION, self.prometheus.url, Limits(**limits))
        await self.gateway.register_workspace(workspace)
        return Caller(self.owner, workspace_id, self.gateway.plain_port)

    async def workspace_stats(self, caller: Caller) -> dict[str, Any]:
        found: dict[str, Any] = (await self.gateway.stats())["workspaces"][caller.workspace]
        return found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    state = tmp_path_factory.mktemp("state")
    certificate, key = make_certificate(state)
    handed_over = socket.create_server(("127.0.0.1", 0))
    port = handed_over.getsockname()[1]
    front_door = FrontDoor(state / "authorize.sock")
    owner = role(OWNER, "central", *EVERYTHING)
    reader = role(OWNER, "reader", "aps:QueryMetrics")
    stranger = role(WORKLOAD, "task", "aps:RemoteWrite")
    front_door.know(owner, reader, stranger)
    await front_door.start()
    async with (
        PrometheusServer(state / "prometheus") as prometheus,
        Gateway(state, certificate, key, [handed_over]) as gateway,
    ):
        yield Stage(gateway, front_door, prometheus, certificate, port, owner, reader, stranger)
    await front_door.stop()


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def no_faults(stage: Stage) -> AsyncIterator[None]:
    yield
    await stage.gateway.clear_faults()


def check(answer: Answer, status: int, text: str) -> None:
    assert (answer.status, text in answer.text) == (status, True), answer


def message(answer: Answer) -> str:
    document = answer.json
    found: str = document.get("message") or document["Message"]
    return found


async def test_a_write_is_found_by_a_query(stage: Stage) -> None:
    caller = await stage.caller()
    answer = await caller.write(series(named("found", x="1"), [(42.0, now_ms())]))
    assert (answer.status, answer.text) == (200, "")
    assert "x-amzn-RequestId" in answer.headers
    assert await caller.value("found") == [42.0]


async def test_tls_under_its_own_name_on_both_sockets(stage: Stage) -> None:
    caller = await stage.caller()
    for port in (stage.gateway.tls_port, stage.handed_over):
        real = replace(caller, port=port, certificate=stage.certificate)
        assert (await real.write(series(named("by_tls"), [(float(port), now_ms())]))).status == 200
    assert await caller.value("by_tls") == [float(stage.handed_over)]


async def test_the_reading_side(stage: Stage) -> None:
    caller = await stage.caller()
    stamp = now_ms()
    await caller.write(
        series(named("side", job="a"), [(1.0, stamp)]),
        series(named("side", job="b"), [(2.0, stamp)]),
        metadata("side", 2, "A gauge."),
    )
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    posted = await caller.send("POST", "query", b"query=sum(side)", form)
    assert posted.json["data"]["result"][0]["value"][1] == "3"
    times = f"start={stamp // 1000 - 10}&end={stamp // 1000 + 1}&step=1"
    ranged = await caller.send("GET", f"query_range?query=side&{times}")
    assert len(ranged.json["data"]["result"]) == 2
    ranged = await caller.send("POST", "query_range", f"query=side&{times}".encode(), form)
    assert len(ranged.json["data"]["result"]) == 2
    found = await caller.send("GET", "series?match%5B%5D=side%7Bjob%3D%22a%22%7D")
    assert found.json["data"] == [{"__name__": "side", "job": "a"}]
    assert "job" in (await caller.send("GET", "labels")).json["data"]
    values = await caller.send("GET", "label/job/values?match%5B%5D=side")
    assert values.json["data"] == ["a", "b"]
    described = await caller.send("GET", "metadata?metric=side")
    assert described.json["data"] == {"side": [{"type": "gauge", "help": "A gauge.", "unit": ""}]}
    assert (await caller.send("GET", "rules")).json["data"] == {"groups": []}
    assert (await caller.send("GET", "alerts")).json["data"] == {"alerts": []}
    wrong = await caller.send("GET", "query?query=sum%28")
    assert (wrong.status, wrong.json["errorType"]) == (400, "bad_data")


async def test_signatures_are_checked(stage: Stage) -> None:
    caller = await stage.caller()
    sample = series(named("never"), [(1.0, now_ms())])
    unsigned = await replace(caller, principal=None).write(sample)
    assert (unsigned.status, unsigned.json) == (403, {"message": "Missing Authentication Token"})
    assert unsigned.headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"

    wrong_secret = replace(stage.owner, secret="another")
    answer = await replace(caller, principal=wrong_secret).write(sample)
    check(answer, 403, "The request signature we calculated does not match the signature you provided.")
    path = f"/workspaces/{caller.workspace}/api/v1/remote_write"
    assert f"The Canonical String for this request should have been\n'POST\n{path}" in message(answer)

    wrong_token = replace(stage.owner, token="another")
    answer = await replace(caller, principal=wrong_token).write(sample)
    check(answer, 403, "The security token included in the request is invalid.")
    unknown = await replace(caller, principal=role(OWNER, "nobody")).write(sample)
    check(unknown, 403, "The security token included in the request is invalid.")
    assert unknown.headers["x-amzn-ErrorType"] == "UnrecognizedClientException"

    answer = await replace(caller, sign_region="us-east-1").write(sample)
    check(answer, 403, "Credential should be scoped to a valid region.")
    answer = await replace(caller, sign_service="execute-api").write(sample)
    check(answer, 403, "Credential should be scoped to correct service: 'aps'.")

    for skew_s in (-16 * 60.0, 16 * 60.0):
        answer = await replace(caller, skew_s=skew_s).write(sample)
        check(answer, 403, "Signature expired: " if skew_s < 0 else "Signature not yet current: ")
        assert answer.headers["x-amzn-ErrorType"] == "RequestExpired"
    assert (await replace(caller, skew_s=-14 * 60.0).write(sample)).status == 200
    statuses = (await stage.workspace_stats(caller))["requests"]["aps:RemoteWrite"]
    assert statuses == {"200": 1, "403": 8}


async def test_a_changed_body_is_noticed(stage: Stage) -> None:
    caller = await stage.caller()
    path = f"/workspaces/{caller.workspace}/api/v1/remote_write"
    body = compressed(series(named("changed"), [(1.0, now_ms())]))
    headers = caller.sign("POST", path, body, WRITE_HEADERS)
    answer = await _raw(caller, path, headers, body[:-1] + b"\x00")
    assert answer.status == 403
    assert (await _raw(caller, path, headers, body)).status == 200


async def _raw(caller: Caller, path: str, headers: dict[str, str], body: Any) -> Answer:
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector) as client,
        client.post(f"http://127.0.0.1:{caller.port}{path}", data=body, headers=headers) as answer,
    ):
        return Answer(answer.status, await answer.text(), dict(answer.headers))


async def test_sessions_end(stage: Stage) -> None:
    caller = await stage.caller()
    brief = role(OWNER, "brief", *EVERYTHING)
    brief.expires_at = time.time() + 1.0
    stage.front_door.know(brief)
    await asyncio.sleep(0.25)
    over = replace(caller, principal=brief)
    assert (await over.send("GET", "labels")).status == 200
    await asyncio.sleep(1.0)
    answer = await over.send("GET", "labels")
    assert (answer.status, answer.json) == (
        403,
        {"message": "The security token included in the request is expired"},
    )
    assert answer.headers["x-amzn-ErrorType"] == "ExpiredTokenException"


async def test_policies_are_asked(stage: Stage) -> None:
    caller = await stage.caller()
    answer = await replace(caller, principal=stage.reader).write(series(named("never"), [(1.0, now_ms())]))
    assert (answer.status, answer.json) == (
        403,
        {
            "Message": f"User: arn:aws:sts::{OWNER}:assumed-role/reader/task is not authorized to perform:"
            f" aps:RemoteWrite on resource: arn:aws:aps:{REGION}:{OWNER}:workspace/{caller.workspace}"
            " because no identity-based policy allows the aps:RemoteWrite action",
        },
    )
    check(await replace(caller, principal=stage.reader).send("GET", "labels"), 403, "aps:GetLabels")
    assert (await replace(caller, principal=stage.reader).send("GET", "query?query=1")).status == 200


async def test_wrong_account_region_or_workspace(stage: Stage) -> None:
    caller = await stage.caller()
    sample = series(named("never"), [(1.0, now_ms())])
    not_found = {"Message": "Workspace not found"}
    elsewhere = replace(caller, region="us-east-1", sign_region="us-east-1")
    for wrong in (
        replace(caller, principal=stage.stranger),
        replace(caller, workspace="ws-unknown"),
        elsewhere,
    ):
        answer = await wrong.write(sample)
        assert (answer.status, answer.json) == (404, not_found)
    # Who may not do it is not told whether the workspace exists.
    denied = await replace(caller, principal=stage.reader, workspace="ws-unknown").write(sample)
    assert denied.status == 403
    assert (await caller.send("POST", "/remote_write")).status == 404
    assert (await caller.send("GET", "remote_write")).status == 405


async def test_a_resource_policy_is_handed_on(stage: Stage) -> None:
    caller = await stage.caller()
    policy = '{"Version": "2012-10-17"}'
    workspace = Workspace(caller.workspace, OWNER, REGION, stage.prometheus.url, resource_policy=policy)
    await stage.gateway.register_workspace(workspace)
    answer = await replace(caller, principal=stage.stranger).write(series(named("shared"), [(1.0, now_ms())]))
    assert answer.status == 200
    question = stage.front_door.questions[-1]
    assert (question["resource"], question["resource_policy"]) == (workspace.arn, policy)


async def test_decisions_are_kept_until_iam_changes(stage: Stage) -> None:
    caller = await stage.caller()
    sample = series(named("kept"), [(1.0, now_ms())])
    writer = role(OWNER, "kept", "aps:RemoteWrite")
    stage.front_door.know(writer)
    kept = replace(caller, principal=writer)
    await asyncio.sleep(0.25)
    assert (await kept.write(sample)).status == 200
    before = (await stage.gateway.stats())["asked"]
    for _ in range(5):
        assert (await kept.write(sample)).status == 200
    after = (await stage.gateway.stats())["asked"]
    assert (after["session"], after["authorize"]) == (before["session"], before["authorize"])
    writer.actions.clear()
    stage.front_door.version += 1
    await asyncio.sleep(0.25)
    assert (await kept.write(sample)).status == 403


async def test_headers_are_required(stage: Stage) -> None:
    caller = await stage.caller()
    sample = series(named("never"), [(1.0, now_ms())])
    second = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
    check(await caller.write(sample, **{"Content-Type": second}), 415, "unsupported content type")
    check(await caller.write(sample, **{"Content-Type": "text/plain"}), 415, "unsupported content type")
    check(await caller.write(sample, **{"Content-Encoding": "gzip"}), 415, "unsupported content encoding")
    version = {"X-Prometheus-Remote-Write-Version": "2.0.0"}
    check(await caller.write(sample, **version), 400, "unsupported X-Prometheus-Remote-Write-Version")
    broken = await caller.send("POST", "remote_write", b"no snappy", WRITE_HEADERS)
    check(broken, 400, "snappy: corrupt input")
    broken = await caller.send("POST", "remote_write", compressed(b"\x0a\x05\x0a"), WRITE_HEADERS)
    check(broken, 400, "proto: ")


async def test_the_good_part_of_a_request_is_stored(stage: Stage) -> None:
    caller = await stage.caller()
    stamp = now_ms()
    await caller.write(series(named("part", x="a"), [(1.0, stamp)]))
    answer = await caller.write(
        series(named("part", x="a"), [(2.0, stamp)]),
        series(named("part", x="b"), [(3.0, stamp)]),
        series(named("part", x="c"), [(4.0, stamp - 7_200_000), (5.0, stamp)]),
        series(named("part", x=""), [(6.0, stamp)]),
    )
    # What depends on the series alone is looked at first.
    check(answer, 400, "timestamp too old: ")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert await caller.value("part") == [1.0, 3.0, 5.0]
    again = await caller.write(series(named("part", x="a"), [(2.0, stamp)]))
    tenant = f"user={OWNER}_{caller.workspace}: err: duplicate sample for timestamp. timestamp="
    check(again, 400, tenant)
    check(again, 400, 'series={__name__="part", x="a"}')
    stats = await stage.workspace_stats(caller)
    assert stats["accepted"] == 3
    assert stats["refused"] == {
        "new-value-for-timestamp": 2,
        "greater_than_max_sample_age": 1,
        "label_invalid": 1,
    }
    assert stats["sources"][OWNER]["active_series"] == stats["active_series"] == 3


async def test_what_was_unclear_can_be_sent_again(stage: Stage) -> None:
    caller = await stage.caller()
    fields = [series(named("again", x=str(number)), [(1.0, now_ms())]) for number in range(50)]
    await stage.gateway.add_fault(Fault("drop", workspace=caller.workspace, count=1))
    with pytest.raises(aiohttp.ClientPayloadError):
        await caller.write(*fields)
    assert await caller.value("count(again)") == [50.0]
    assert (await caller.write(*fields)).status == 200


async def test_late_samples_are_stored_within_the_window(stage: Stage) -> None:
    caller = await stage.caller(out_of_order_window_s=30.0)
    stamp = now_ms()
    for age_ms in (0, 10_000, 25_000):
        assert (await caller.write(series(named("late"), [(1.0, stamp - age_ms)]))).status == 200
    check(await caller.write(series(named("late"), [(1.0, stamp - 31_000)])), 400, "too old sample")
    assert await caller.value("count_over_time(late[1h])") == [3.0]


async def test_requests_are_bounded(stage: Stage) -> None:
    caller = await stage.caller(max_request_bytes=2000)
    big = secrets.token_bytes(2001)
    answer = await caller.send("POST", "remote_write", big, WRITE_HEADERS)
    assert (answer.status, message(answer)) == (413, "Request Too Long")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield secrets.token_bytes(100)

    path = f"/workspaces/{caller.workspace}/api/v1/remote_write"
    answer = await _raw(caller, path, caller.sign("POST", path, b"", WRITE_HEADERS), endless())
    assert answer.status == 413
    assert (await caller.write(series(named("small"), [(1.0, now_ms())]))).status == 200


async def test_rates(stage: Stage) -> None:
    caller = await stage.caller(writes_per_s=0.01, queries_per_s=0.01, lookups_per_s=0.01)
    check(await caller.write(), 429, '{"message": "Rate exceeded"}')
    caller = await stage.caller(samples_per_s=1.0, samples_burst=2.0)
    samples = [(1.0, now_ms() + number) for number in range(3)]
    check(
        await caller.write(series(named("fast"), samples)),
        429,
        "ingestion rate limit (1) exceeded while adding 3 samples and 0 metadata",
    )
    assert await caller.value("fast") == []


async def test_a_query_ends_in_time(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        workspace = Workspace("ws-silent", OWNER, REGION, url, Limits(max_query_s=0.2))
        await stage.gateway.register_workspace(workspace)
        answer = await Caller(stage.owner, "ws-silent", stage.gateway.plain_port).send("GET", "query?query=1")
    assert (answer.status, answer.json["errorType"]) == (422, "timeout")


async def test_many_large_bodies_at_once(stage: Stage) -> None:
    caller = await stage.caller()
    bodies = [secrets.token_bytes(950_000) for _ in range(40)]
    answers = await asyncio.gather(
        *(caller.send("POST", "remote_write", body, WRITE_HEADERS) for body in bodies),
    )
    assert {answer.status for answer in answers} == {400}
    assert _peak_bytes(stage.gateway.pid) < 110_000_000


def _peak_bytes(pid: int | None) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def test_the_bytes_of_the_writer(stage: Stage) -> None:
    caller = await stage.caller()
    template = Template([encode_labels(named("written", number=str(number))) for number in range(300)])
    values = array("d", (float(number) for number in range(300)))
    late = array("q", range(now_ms() - 30_000, now_ms() - 29_700))

    async def send(fragment: bytes) -> None:
        body = join([(fragment, template.raw_bytes)])
        assert (await caller.send("POST", "remote_write", body, WRITE_HEADERS)).status == 200

    await send(template.fill(values, range(300), now_ms()))
    await send(template.fill_each(values, range(300), late))
    assert await caller.value("sum(written)") == [sum(values)]
    assert await caller.value("sum(count_over_time(written[5m]))") == [600.0]
    assert (await stage.workspace_stats(caller))["active_series"] == 300


async def test_faults(stage: Stage) -> None:
    caller = await stage.caller()
    gateway, workspace = stage.gateway, caller.workspace
    sample = series(named("faults", x="1"), [(1.0, now_ms())])

    async def once(kind: str, **settings: Any) -> Answer:
        await gateway.add_fault(Fault(kind, workspace=workspace, count=1, **settings))
        return await caller.write(sample)

    answer = await once("throttle", retry_after_s=7)
    assert (answer.status, answer.json, answer.headers["Retry-After"]) == (
        429,
        {"message": "Rate exceeded"},
        "7",
    )
    check(await once("error"), 500, "Internal server error")
    check(await once("error", status=503), 503, "Internal server error")
    check(await once("expire"), 403, "The security token included in the request is expired")
    check(await once("too_large", max_bytes=10), 413, "Request Too Long")
    check(await once("refuse_series", labels={"x": "1"}), 400, 'sample invalid label: "x" metric')
    began = time.monotonic()
    assert (await once("slow", delay_s=0.3)).status == 200
    assert time.monotonic() - began >= 0.3
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await once("down")
    assert (await caller.write(sample)).status == 200
    assert await gateway.faults() == {}


async def test_faults_are_aimed_and_end(stage: Stage) -> None:
    caller, other = await stage.caller(), await stage.caller()
    number = await stage.gateway.add_fault(
        Fault("error", workspace=caller.workspace, action="aps:QueryMetrics", source=OWNER),
    )
    assert (await caller.send("GET", "query?query=1")).status == 500
    assert (await caller.send("GET", "labels")).status == 200
    assert (await other.send("GET", "query?query=1")).status == 200
    await stage.gateway.remove_fault(number)
    assert (await caller.send("GET", "query?query=1")).status == 200
    await stage.gateway.add_fault(Fault("error", duration_s=0.2))
    assert (await caller.send("GET", "labels")).status == 500
    await asyncio.sleep(0.25)
    assert (await caller.send("GET", "labels")).status == 200
    with pytest.raises(SimulatorError, match="'flood' is no kind of fault; there are throttle, error"):
        await stage.gateway.add_fault(Fault("flood"))


async def test_the_clock_can_be_ahead(stage: Stage) -> None:
    caller = await stage.caller()
    sample = series(named("skewed"), [(1.0, now_ms())])
    await stage.gateway.add_fault(Fault("skew", workspace=caller.workspace, skew_s=1800.0))
    answer = await caller.write(sample)
    assert answer.headers["x-amzn-ErrorType"] == "RequestExpired"
    ahead_s = parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
    assert 1795 < ahead_s < 1805
    assert (await replace(caller, skew_s=ahead_s).write(sample)).status == 200


async def test_registered_again_and_removed(stage: Stage) -> None:
    caller = await stage.caller()
    stamp = now_ms()
    await caller.write(series(named("again_a"), [(1.0, stamp)]))
    changed = Workspace(
        caller.workspace, OWNER, REGION, stage.prometheus.url, Limits(out_of_order_window_s=0.0)
    )
    await stage.gateway.register_workspace(changed)
    check(await caller.write(series(named("again_a"), [(1.0, stamp - 1)])), 400, "out of order sample")
    assert (await stage.workspace_stats(caller))["accepted"] == 1
    await stage.gateway.remove_workspace(caller.workspace)
    check(await caller.write(series(named("again_a"), [(1.0, stamp)])), 404, "Workspace not found")


async def test_prometheus_gone(stage: Stage) -> None:
    workspace = Workspace("ws-gone", OWNER, REGION, "http://127.0.0.1:9")
    await stage.gateway.register_workspace(workspace)
    caller = Caller(stage.owner, "ws-gone", stage.gateway.plain_port)
    check(await caller.write(series(named("gone"), [(1.0, now_ms())])), 500, "Internal server error")
    check(await caller.send("GET", "query?query=1"), 500, "Internal server error")
    assert (await stage.workspace_stats(caller))["accepted"] == 0


async def test_memory_stays_small(stage: Stage) -> None:
    caller = await stage.caller()
    for batch in range(10):
        fields = [
            series(named("many", number=str(batch * 2000 + number), pad="x" * 40), [(1.0, now_ms())])
            for number in range(2000)
        ]
        assert (await caller.write(*fields)).status == 200
    stats = await stage.gateway.stats()
    assert stats["workspaces"][caller.workspace]["active_series"] == 20_000
    # Some 49 MB; on a busy machine the allocator has been seen to hold 76. Keeping 3 kB of a series would be too much.
    assert stats["memory_bytes"] < 100_000_000


async def test_the_front_door_gone(tmp_path: Path, stage: Stage) -> None:
    certificate, key = make_certificate(tmp_path)
    async with Gateway(tmp_path, certificate, key) as gateway:
        caller = Caller(stage.owner, "ws-1", gateway.plain_port)
        check(await caller.write(), 500, "Internal server error")
        assert psutil.pid_exists(gateway.pid or 0)
    assert gateway.pid is None
    with pytest.raises(SimulatorError, match=r"does not answer on .*gateway.sock.*is the simulator up?"):
        await gateway.stats()


async def test_settings_that_cannot_be(tmp_path: Path) -> None:
    settings = tmp_path / "gateway.json"
    settings.write_text('{"listeners": [], "control": "x"}')
    command = [sys.executable, "-m", "trunkline.simulator.gateway", "--settings", str(settings)]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
    assert ended.returncode == 2
    assert b"GatewaySettings has no control; there are listeners, control_socket" in ended.stderr


_PARENT = """
import asyncio, sys
from pathlib import Path
from trunkline.simulator.gateway.process import Gateway

async def main():
    state = Path(sys.argv[1])
    gateway = Gateway(state, state / "server.pem", state / "server-key.pem")
    await gateway.start()
    print(gateway.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_dies_with_its_parent(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    command = [sys.executable, "-c", _PARENT, str(tmp_path)]
    parent = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert parent.stdout
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
