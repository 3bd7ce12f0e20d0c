import json
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.aws.pretend import Answer, closing, pretend_aws
from tests.net.loopback import hanging, raw_server

from trunkline.aws.task_metadata import TaskMetadata, fetch_identity, identity_of
from trunkline.errors import ConnectError, FetchTimeoutError, ProtocolError
from trunkline.net.client import Client

FARGATE = {
    "Cluster": "arn:aws:ecs:eu-west-1:111122223333:cluster/prod",
    "TaskARN": "arn:aws:ecs:eu-west-1:111122223333:task/prod/45f36d5449924905a16c3d03c1fba67a",
    "Family": "web-frontend",
    "Revision": "7",
    "ServiceName": "web-frontend-service",
    "AvailabilityZone": "eu-west-1b",
    "LaunchType": "FARGATE",
    "Containers": [],
}


def test_a_task_on_fargate() -> None:
    resource = identity_of(FARGATE)
    assert resource.identity == {
        "cloud_account_id": "111122223333",
        "cloud_region": "eu-west-1",
        "aws_ecs_cluster_name": "prod",
        "aws_ecs_service_name": "web-frontend-service",
        "aws_ecs_task_family": "web-frontend",
        "aws_ecs_task_id": "45f36d5449924905a16c3d03c1fba67a",
    }
    assert resource.attributes == {
        "cloud.provider": "aws",
        "cloud.platform": "aws_ecs",
        "cloud.account.id": "111122223333",
        "cloud.region": "eu-west-1",
        "cloud.availability_zone": "eu-west-1b",
        "aws.ecs.cluster.name": "prod",
        "aws.ecs.cluster.arn": "arn:aws:ecs:eu-west-1:111122223333:cluster/prod",
        "aws.ecs.task.arn": FARGATE["TaskARN"],
        "aws.ecs.task.id": "45f36d5449924905a16c3d03c1fba67a",
        "aws.ecs.task.family": "web-frontend",
        "aws.ecs.task.revision": "7",
        "aws.ecs.service.name": "web-frontend-service",
        "aws.ecs.launchtype": "fargate",
    }


def test_every_partition_and_both_forms_of_arn() -> None:
    def check(arn: str, region: str, account: str, task_id: str) -> None:
        resource = identity_of({"TaskARN": arn, "Cluster": "short"})
        assert resource.identity == {
            "cloud_account_id": account,
            "cloud_region": region,
            "aws_ecs_cluster_name": "short",
            "aws_ecs_task_id": task_id,
        }
        partition = arn.split(":")[1]
        expected = f"arn:{partition}:ecs:{region}:{account}:cluster/short"
        assert resource.attributes["aws.ecs.cluster.arn"] == expected

    check("arn:aws:ecs:us-west-2:123456789012:task/c/d22a", "us-west-2", "123456789012", "d22a")
    check("arn:aws:ecs:us-west-2:123456789012:task/d22a-1", "us-west-2", "123456789012", "d22a-1")
    check("arn:aws-cn:ecs:cn-north-1:123456789012:task/c/x", "cn-north-1", "123456789012", "x")
    check("arn:aws-us-gov:ecs:us-gov-west-1:123456789012:task/c/x", "us-gov-west-1", "123456789012", "x")
    check("arn:aws-iso-b:ecs:us-isob-east-1:123456789012:task/x", "us-isob-east-1", "123456789012", "x")


def test_what_is_missing_or_of_another_type_is_left_out() -> None:
    empty = {"cloud.provider": "aws", "cloud.platform": "aws_ecs"}
    for task in ({}, {"TaskARN": "nonsense", "Cluster": None, "Family": 7, "ServiceName": ""}):
        resource = identity_of(task)
        assert resource.identity == {}
        assert {name: resource.attributes[name] for name in empty} == empty


ids = st.text(string.hexdigits, min_size=1, max_size=32)


@settings(deadline=None)
@given(ids, ids, st.booleans())
def test_two_tasks_never_share_an_identity(one: str, other: str, old: bool) -> None:
    def identity(task_id: str) -> object:
        form = task_id if old else f"prod/{task_id}"
        arn = f"arn:aws:ecs:eu-west-1:111122223333:task/{form}"
        return identity_of(FARGATE | {"TaskARN": arn}).identity

    assert (identity(one) == identity(other)) is (one == other)


async def no_pause(seconds: float) -> None:
    pauses.append(seconds)


pauses: list[float] = []


async def test_identity_comes_from_the_endpoint_and_is_tried_again() -> None:
    pauses.clear()
    async with pretend_aws() as aws, closing(Client()) as client:
        environment = {"ECS_CONTAINER_METADATA_URI_V4": f" {aws.url}/v4/abc "}
        answers = [Answer("", 500), Answer("not json"), Answer(json.dumps(FARGATE))]
        aws.answers["GET /v4/abc/task"] = lambda _asked: answers.pop(0)
        resource = await fetch_identity(client, environment, sleep=no_pause)
        assert resource == identity_of(FARGATE)
        assert pauses == [0.25, 0.5]
        aws.answers["GET /v4/abc/task"] = Answer("gone", 404)
        with pytest.raises(ProtocolError, match="404 Not Found"):
            await fetch_identity(client, environment, sleep=no_pause)
        assert len(aws.asked) == 7


async def test_outside_ecs_there_is_no_identity() -> None:
    async with closing(Client()) as client:
        assert await fetch_identity(client, {}) is None
        assert await fetch_identity(client, {"ECS_CONTAINER_METADATA_URI_V4": " "}) is None


async def test_documents_and_their_errors() -> None:
    async with pretend_aws() as aws, closing(Client()) as client:
        metadata = TaskMetadata(client, f"{aws.url}/v4/abc/")
        base = f"{aws.url}/v4/abc"
        aws.answers["GET /v4/abc/task"] = Answer('{"Family": "f"}')
        aws.answers["GET /v4/abc/task/stats"] = Answer('{"id": null}')
        aws.answers["GET /v4/abc"] = Answer('{"Name": "collector"}')
        assert await metadata.task() == {"Family": "f"}
        assert await metadata.stats() == {"id": None}
        assert await metadata.container() == {"Name": "collector"}
        assert aws.asked[0].headers["content-type"] == "application/json"
        aws.answers["GET /v4/abc/task"] = Answer("", 500)
        with pytest.raises(ProtocolError) as caught:
            await metadata.task()
        assert str(caught.value) == (
            "cannot read data from task metadata endpoint: "
            f'request GET {base}/task failed - "500 Internal Server Error"'
        )
        for wrong in ("nope", "[]", '"text"'):
            aws.answers["GET /v4/abc/task/stats"] = Answer(wrong)
            with pytest.raises(ProtocolError, match="cannot unmarshall task stats: "):
                await metadata.stats()
        with pytest.raises(
            ConnectError, match=r"cannot read data from task metadata endpoint: .*connection refused"
        ):
            await TaskMetadata(client, "http://127.0.0.1:1").task()
    async with raw_server(hanging) as server, closing(Client()) as client:
        with pytest.raises(FetchTimeoutError, match=r"cannot read data .* within 0.05s"):
            await TaskMetadata(client, server.url, timeout_s=0.05).task()


def test_the_documents_of_the_specification(request: pytest.FixtureRequest) -> None:
    folder = Path(request.config.rootpath) / "tests/receivers/data"
    documents = sorted(folder.rglob("*task_metadata.json"))
    assert documents
    for path in documents:
        identity = identity_of(json.loads(path.read_text())).identity
        assert {"cloud_account_id", "cloud_region", "aws_ecs_cluster_name", "aws_ecs_task_id"} <= set(
            identity
        )
