"""What ECS says of services while CloudFormation waits, as a stand-in for its API at the front door says it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from tests.fleet.conftest import administrators
from tests.simulator.frontdoor_live import Live

from trunkline.fleet.pace import Place
from trunkline.fleet.services_watch import ServicesWatch, services_in, why_stopped
from trunkline.fleet.watch import Halt
from trunkline.simulator.frontdoor.calls import Answer, Call

ACCOUNT, REGION = "955555555555", "eu-west-1"


class Ecs:
    """Two services, one of whose tasks end one after the other."""

    def __init__(self) -> None:
        self.began = time.time()
        self.stopped = 0

    async def handle(self, call: Call) -> Answer | None:
        if call.account != ACCOUNT:
            return None
        document = getattr(self, call.operation)(call.parameters)
        return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/x-amz-json-1.1"})

    def DescribeServices(self, asked: dict[str, list[str]]) -> object:  # noqa: N802 (ECS's name)
        assert len(asked["services"]) <= 10
        return {"services": [self._service(name) for name in asked["services"]], "failures": []}

    def _service(self, name: str) -> object:
        events = [
            {
                "id": f"{name}-2",
                "createdAt": self.began + 3600,
                "message": f"(service {name}) was unable to place",
            },
            {
                "id": f"{name}-1",
                "createdAt": self.began + 3500,
                "message": f"(service {name}) has started 1 tasks",
            },
            {"id": f"{name}-0", "createdAt": self.began - 3600, "message": "long ago"},
        ]
        return {"serviceName": name, "events": events}

    def ListTasks(self, asked: dict[str, str]) -> object:  # noqa: N802
        assert asked["desiredStatus"] == "STOPPED"
        count = self.stopped if asked["serviceName"] == "shop" else 0
        arns = [f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/demo/{number}" for number in range(count)]
        return {"taskArns": arns}

    def DescribeTasks(self, asked: dict[str, list[str]]) -> object:  # noqa: N802
        return {"tasks": [self._task(arn) for arn in asked["tasks"]], "failures": []}

    def _task(self, arn: str) -> object:
        containers = [
            {"name": "app", "exitCode": 137, "reason": "OutOfMemoryError: container killed"},
            {"name": "aws-otel-collector", "exitCode": 0},
        ]
        reason = "Essential container in task exited"
        return {
            "taskArn": arn,
            "stoppedAt": self.began + 3600,
            "stoppedReason": reason,
            "containers": containers,
        }


@pytest.fixture
def ecs(live: Live) -> Iterator[Ecs]:
    made = Ecs()
    live.door.handlers["ecs"] = made.handle
    yield made
    del live.door.handlers["ecs"]


def test_each_event_and_each_stopped_task_is_told_once(live: Live, ecs: Ecs) -> None:
    place = Place(ACCOUNT, REGION, administrators(live, [ACCOUNT]), Halt())
    told: list[str] = []
    watch = ServicesWatch(place, "demo", ["shop", "till"], told.append, first_look_s=0, look_every_s=0)
    watch.look()
    assert told == [
        "(service shop) has started 1 tasks",
        "(service shop) was unable to place",
        "(service till) has started 1 tasks",
        "(service till) was unable to place",
    ]
    assert watch.reasons == []
    ecs.stopped = 1
    watch.look()
    watch.look()
    assert told[4:] == watch.reasons
    assert watch.reasons == [
        (
            "a task of service shop stopped: Essential container in task exited; "
            "app: exit code 137, OutOfMemoryError: container killed"
        )
    ]


def test_it_looks_only_now_and_then(live: Live, ecs: Ecs) -> None:
    place = Place(ACCOUNT, REGION, administrators(live, [ACCOUNT]), Halt())
    told: list[str] = []
    watch = ServicesWatch(place, "demo", ["shop"], told.append, first_look_s=60)
    watch.look()
    assert told == []
    assert ecs.stopped == 0


def test_a_service_that_cannot_be_looked_at_is_no_error(live: Live) -> None:
    place = Place(ACCOUNT, REGION, administrators(live, [ACCOUNT]), Halt())
    watch = ServicesWatch(place, "never-there", ["shop"], lambda _: None, first_look_s=0)
    watch.look()
    assert watch.reasons == []


def test_the_services_of_a_template() -> None:
    resources = {
        "One": {"Type": "AWS::ECS::Service", "Properties": {"ServiceName": "shop"}},
        "Two": {"Type": "AWS::ECS::Service", "Properties": {"ServiceName": {"Ref": "Name"}}},
        "Three": {"Type": "AWS::ECS::Cluster", "Properties": {}},
    }
    assert services_in(json.dumps({"Resources": resources})) == ("shop",)


def test_a_task_without_a_reason() -> None:
    assert why_stopped({}) == "no reason given"
