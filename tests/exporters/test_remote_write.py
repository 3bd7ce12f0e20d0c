from __future__ import annotations

import asyncio
import json
from array import array
from email.utils import formatdate
from functools import partial
from pathlib import Path
from time import time
from typing import Any

import pytest

from trunkline.component.contract import Delivery, Limits, QueueSettings
from trunkline.errors import ConfigError, Hold, NotNow, Rejected, RetryLater, TooLarge
from trunkline.exporters.prometheusremotewrite import AwsRemoteWriteConfig, RemoteWriteConfig
from trunkline.exporters.prometheusremotewrite.config import (
    AuthConfig,
    AwsAuthConfig,
    ConversionConfig,
    DiskQueueConfig,
    LimitsConfig,
    QueueConfig,
    RetryConfig,
    WalConfig,
)
from trunkline.exporters.prometheusremotewrite.delivery import (
    classify,
    new_credentials_may_help,
    outcome,
)
from trunkline.exporters.prometheusremotewrite.labels import final_labels
from trunkline.extensions.health_check import HealthCheckConfig
from trunkline.model import Batch, Family, Kind, Origin, Resource, Series, Table, make_labels
from trunkline.net.message import Response
from trunkline.receivers.awsecscontainermetrics import read
from trunkline.testing import context_for

ECS = Path(__file__).parents[1] / "receivers" / "data"
URL = "http://127.0.0.1:9/write"
AMP = "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write"


def labels(series: Series, **settings: Any) -> dict[str, str]:
    return dict(final_labels(series, RemoteWriteConfig(endpoint=URL, **settings)) or ())


def scraped(**pairs: str) -> Series:
    identity = {"aws_ecs_task_id": "t1", "cloud_region": "eu-west-1"}
    return Series(
        make_labels({"__name__": "http_requests", **pairs}), Family("http_requests"), Resource({}, identity)
    )


def ecs_series() -> list[tuple[str, Series]]:
    task = json.loads((ECS / "ecs_fargate_cgroupv2.task_metadata.json").read_text())
    stats = json.loads((ECS / "ecs_fargate_cgroupv2.task_stats.json").read_text())
    from trunkline.model import Table
    from trunkline.receivers.awsecscontainermetrics import EcsColumns

    columns = EcsColumns(Table("task"))
    columns.batch(list(read(task, stats, Resource())), 0)
    return [(series.name, series) for series in columns.table.series if series is not None]


def test_scraped_names_stay_and_identity_is_added() -> None:
    assert labels(scraped(code="200")) == {
        "__name__": "http_requests",
        "code": "200",
        "aws_ecs_task_id": "t1",
        "cloud_region": "eu-west-1",
    }
    assert labels(scraped(), identity_labels=False) == {"__name__": "http_requests"}
    assert labels(scraped(cloud_region="mars"))["cloud_region"] == "mars"
    assert labels(scraped(), namespace="adot")["__name__"] == "adot_http_requests"


def test_external_labels_fill_gaps_and_never_overwrite() -> None:
    found = labels(
        scraped(env="prod"), external_labels={"env": "test", "team.name": "core", "cloud_region": "x"}
    )
    assert (found["env"], found["team_name"], found["cloud_region"]) == ("prod", "core", "eu-west-1")


def test_every_ecs_metric_is_named_as_the_aws_distribution_names_it() -> None:
    names = json.loads((ECS / "ecs_remote_write_names.json").read_text())
    known = {one["otlp_name"]: one for one in names["metrics"]}
    found = ecs_series()
    assert len({name for name, _ in found}) == 54
    for name, series in found:
        assert labels(series)["__name__"] == known[name]["with_suffixes"]
        assert labels(series, add_metric_suffixes=False)["__name__"] == known[name]["without_suffixes"]


def test_resource_attributes_become_labels_when_asked_for() -> None:
    resource = Resource(
        {"aws.ecs.task.id": "t1", "service.name": "shop", "service.namespace": "eu", "n": 3, "ok": True}
    )
    series = Series((("__name__", "ecs.x"),), Family("ecs.x", origin=Origin.OPENTELEMETRY), resource)
    assert labels(series) == {"__name__": "ecs_x", "job": "eu/shop"}
    found = labels(series, resource_to_telemetry_conversion=ConversionConfig(enabled=True))
    assert (found["aws_ecs_task_id"], found["n"], found["ok"]) == ("t1", "3", "true")


def test_monotonic_sums_are_counters() -> None:
    family = Family("system.processes.created", Kind.COUNTER, origin=Origin.OPENTELEMETRY)
    series = Series((("__name__", "system.processes.created"),), family, Resource())
    assert labels(series)["__name__"] == "system_processes_created_total"


def answered(kind: type, status: int, body: str, reason: str, words: str = "") -> None:
    problem = outcome(Response(status, "Reason", {}, body.encode()), AMP)
    assert type(problem) is kind
    assert isinstance(problem, Hold | NotNow | RetryLater | Rejected | TooLarge)
    assert problem.reason == reason
    assert words in str(problem)
    assert str(problem).startswith(f"{AMP} answered {status}")


def test_what_is_misconfigured_is_held_until_somebody_mends_it() -> None:
    check = partial(answered, Hold)
    missing = '{"message":"Missing Authentication Token"}'
    check(403, missing, "forbidden", "signature was not accepted")
    denied = '{"message":"User: x is not authorized to perform: aps:RemoteWrite"}'
    check(403, denied, "forbidden", "give it aps:")
    expired = '{"message":"The security token included in the request is expired"}'
    check(403, expired, "forbidden", "has expired")
    check(400, '{"message":"The security token included in the request is invalid"}', "forbidden")
    check(404, '{"message":"Workspace not found"}', "not_found", "compare the workspace id, the region")
    check(302, "moved", "misdirected", "check the endpoint's path")
    check(405, "", "misdirected", "not a URL that takes remote write")
    check(400, 'unsupported path requested: "/write"', "misdirected", "check the endpoint's path")
    check(400, "Client sent an HTTP request to an HTTPS server.", "misdirected", "endpoint's path")
    check(400, "The plain HTTP request was sent to HTTPS port", "misdirected", "endpoint's path")


def test_what_passes_by_itself_is_tried_again_later() -> None:
    check = partial(answered, RetryLater)
    check(429, '{"message":"Rate exceeded"}', "throttled", "Rate exceeded")
    check(400, '{"message":"Rate exceeded"}', "throttled", "Rate exceeded")
    check(429, "ingestion rate limit (70000) exceeded while adding 5 samples", "throttled", "7")
    check(503, "", "server_error", "answered 503")
    check(500, "panic: too old samples bug", "server_error", "panic")


def test_what_a_limit_keeps_out_is_not_for_now() -> None:
    check = partial(answered, NotNow)
    amp = "per-user series limit of 10000000 exceeded, Capacity from"
    check(400, amp, "series_limit", "Capacity")
    check(429, "per-user series limit (5000000) exceeded", "series_limit", "5000000")
    mimir = "per-user series limit of 10 exceeded (err-mimir-max-series-per-user)"
    check(400, f"failed pushing to ingester: user=u: {mimir}", "series_limit", "err-mimir")
    check(400, "per-labelset series limit of 5 exceeded", "labelset_limit", "per-labelset")
    check(400, "out-of-order-rate-limit exceeded", "out_of_order_rate", "rate")


def test_what_will_never_be_taken_is_rejected() -> None:
    check = partial(answered, Rejected)
    check(400, "duplicate sample for timestamp", "duplicate_timestamp", "duplicate")
    check(400, "series has too many labels", "labels", "too many labels")
    check(422, "?", "bad_request", "answered 422")
    check(500, "too old sample", "too_old", "too old")
    check(400, 'out of order sample; series={__name__="per_metric_series limit"}', "out_of_order")
    thanos = "store locally for endpoint 127.0.0.1:10907: add 1 samples: out of order sample"
    check(409, thanos, "out_of_order", "add 1")
    check(409, "forwarding: add 1 samples: duplicate sample for timestamp", "duplicate_timestamp")


def test_a_request_that_is_too_large_is_known_as_such() -> None:
    answered(TooLarge, 413, "too big", "too_large", "answered 413: too big")


def test_a_redirect_names_the_url_to_write() -> None:
    problem = outcome(Response(308, "", {"location": "https://other/write"}, b""), AMP)
    assert "It redirects to https://other/write: write that URL as endpoint" in str(problem)


def test_a_policy_that_allows_nothing_is_not_renewed_against() -> None:
    def helps(status: int, message: str) -> bool:
        return new_credentials_may_help(Response(status, "", {}, message.encode()))

    assert helps(401, "")
    assert helps(403, "The security token included in the request is expired")
    assert helps(403, "not authorized, with an explicit deny in an identity-based policy")
    assert not helps(403, "not authorized because no identity-based policy allows the aps:RemoteWrite action")
    assert not helps(404, "Workspace not found")


def test_success_is_no_problem() -> None:
    assert outcome(Response(200, "OK", {}, b""), AMP) is None
    assert outcome(Response(204, "No Content", {}, b""), AMP) is None


def test_the_wish_for_a_pause_is_read_in_both_forms() -> None:
    def wish(value: str) -> float | None:
        problem = outcome(Response(429, "", {"retry-after": value}, b""), AMP)
        assert isinstance(problem, RetryLater)
        return problem.after_s

    assert wish("7") == 7
    assert wish(formatdate(time() + 30, usegmt=True)) == pytest.approx(30, abs=2)
    assert wish(formatdate(time() - 30, usegmt=True)) == 0
    assert wish("soon") is None
    assert wish("999999") == 300


def test_refusals_are_counted_by_reason() -> None:
    assert classify("out of order sample") == "out_of_order"
    assert classify("samples with different value but same timestamp") == "duplicate_timestamp"
    assert classify("sample too old") == "too_old"
    assert classify("who knows") == "bad_request"


def test_what_is_wrong_with_the_settings_is_named() -> None:
    def problems(config: RemoteWriteConfig) -> list[str]:
        return [f"{path}: {message}" for path, message in config.check()]

    assert problems(RemoteWriteConfig(endpoint="nowhere")) == [
        "endpoint: invalid endpoint: expected http(s)://host/path"
    ]
    assert problems(RemoteWriteConfig(endpoint=URL, compression="gzip")) == [
        "compression: compression type must be snappy"
    ]
    [empty] = problems(RemoteWriteConfig(endpoint=URL, external_labels={"a": ""}))
    assert "contains an empty key or value" in empty
    assert problems(RemoteWriteConfig(endpoint="http://user:secret@h/write")) == [
        "endpoint: user and password in the URL are not sent; use headers or an authenticator"
    ]
    wrong = RetryConfig(initial_interval=-1.0, max_interval=-1.0, randomization_factor=9, multiplier=-0.1)
    assert [one.partition(":: ")[0].partition(": ")[0] for one in problems(retrying(wrong))] == [
        "retry_on_failure::initial_interval",
        "retry_on_failure::multiplier",
        "retry_on_failure::max_interval",
        "retry_on_failure::randomization_factor",
    ]
    assert problems(retrying(RetryConfig(initial_interval=0.0, max_interval=0.0, multiplier=0.0))) == []
    assert problems(retrying(RetryConfig(enabled=False, multiplier=-1))) == []
    assert problems(RemoteWriteConfig(endpoint=URL, queue=DiskQueueConfig(max_size=1))) == [
        "queue::max_size: must be at least 16MiB"
    ]
    assert problems(RemoteWriteConfig(endpoint=URL, limits=LimitsConfig(max_labels=0))) == [
        "limits::max_labels: must be greater than zero"
    ]
    [nameless] = problems(RemoteWriteConfig(endpoint=URL, external_labels={"_": "x"}))
    assert nameless.startswith("external_labels::_: ")
    [region] = problems(AwsRemoteWriteConfig(endpoint=URL))
    assert region.startswith("aws_auth::region: invalid endpoint")
    assert problems(AwsRemoteWriteConfig(endpoint=AMP)) == []
    assert problems(AwsRemoteWriteConfig(endpoint=URL, aws_auth=AwsAuthConfig(region="eu-west-1"))) == []
    [role] = problems(AwsRemoteWriteConfig(endpoint=AMP, aws_auth=AwsAuthConfig(role_arn="Central")))
    assert role.startswith("aws_auth::role_arn: 'Central' is not a role's ARN")
    [auth] = problems(AwsRemoteWriteConfig(endpoint=AMP, auth=AuthConfig(authenticator="sigv4auth")))
    assert auth.startswith("auth: is not used here: this exporter signs by aws_auth")


def test_the_keys_of_upstreams_queue_are_those_of_ours() -> None:
    def built(**settings: Any) -> Delivery:
        made = RemoteWriteConfig(endpoint=URL, **settings).build(context_for("prometheusremotewrite"))
        assert isinstance(made, Delivery)
        return made

    assert built().limits == Limits(max_requests=5, max_age_s=3600.0)
    assert built().queue == QueueSettings(4 * 1024**3, "", fsync=False)
    assert built(remote_write_queue=QueueConfig(num_consumers=2)).limits.max_requests == 2
    assert built(remote_write_queue=QueueConfig(num_consumers=0)).limits.max_requests == 1
    assert built(max_batch_request_parallelism=3).limits.max_requests == 3
    assert built(max_batch_size_bytes=1000).limits.max_raw_bytes == 1000
    assert built(limits=LimitsConfig(max_sample_age=60.0)).limits.max_age_s == 60
    found = built(wal=WalConfig(directory="/wal"), queue=DiskQueueConfig(max_size=2**24, fsync=True)).queue
    assert found == QueueSettings(2**24, "/wal", fsync=True)


def test_series_with_more_labels_than_the_receiver_takes_are_left_out_and_counted() -> None:
    def sent(config: RemoteWriteConfig, pairs: dict[str, str]) -> tuple[int, dict[tuple[str, ...], float]]:
        context = context_for("prometheusremotewrite")
        delivery = config.build(context)
        assert isinstance(delivery, Delivery)
        labels = make_labels({"__name__": "x", **pairs})
        table = Table("t", "t", [Series(labels, Family("x"), Resource())])
        fragments = delivery.encoder(table).encode(Batch(table, 1000, array("d", [1.0]), [0]))
        return sum(one.samples for one in fragments), context.metrics.refused.values

    many = {f"label_{number}": "v" for number in range(150)}
    refused = {("prometheusremotewrite", "labels"): 1.0}
    assert sent(RemoteWriteConfig(endpoint=URL), many) == (1, {})
    assert sent(AwsRemoteWriteConfig(endpoint=AMP), many) == (0, refused)
    assert sent(AwsRemoteWriteConfig(endpoint=AMP), {"long": "v" * 8000}) == (0, refused)
    assert sent(AwsRemoteWriteConfig(endpoint=AMP, limits=LimitsConfig(max_labels=151)), many) == (1, {})
    exactly = RemoteWriteConfig(endpoint=URL, limits=LimitsConfig(max_labels=2, max_label_bytes=20))
    assert sent(exactly, {"name": "value"}) == (1, {})  # __name__x and namevalue: 18 bytes
    assert sent(exactly, {"name": "value678"}) == (0, refused)
    assert sent(exactly, {"a": "b", "c": "d"}) == (0, refused)


def retrying(retry: RetryConfig) -> RemoteWriteConfig:
    return RemoteWriteConfig(endpoint=URL, retry_on_failure=retry)


async def test_headers_of_the_settings_win_in_whatever_case_they_are_written() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        config = RemoteWriteConfig(
            endpoint=f"http://127.0.0.1:{port}/write", headers={"user-agent": "own", "X-Tenant": "1"}
        )
        delivery = config.build(context_for("prometheusremotewrite"))
        async with delivery.session():
            await delivery.send(b"")
    [head] = asked
    assert [line for line in head.splitlines() if line.lower().startswith(b"user-agent")] == [
        b"user-agent: own"
    ]
    assert b"X-Tenant: 1" in head
    assert head.lower().count(b"content-type: application/x-protobuf") == 1


def test_an_authenticator_must_run_and_must_sign() -> None:
    config = RemoteWriteConfig(endpoint=URL, auth=AuthConfig(authenticator="sigv4auth"))
    with pytest.raises(
        ConfigError, match='failed to resolve authenticator "sigv4auth": authenticator not found'
    ):
        config.build(context_for("prometheusremotewrite"))
    health = HealthCheckConfig().build(context_for("health_check"))
    with pytest.raises(ConfigError, match="extension sigv4auth signs no requests"):
        config.build(context_for("prometheusremotewrite", extensions={"sigv4auth": health}))
