from __future__ import annotations

from dataclasses import replace

import pytest

from trunkline.errors import ConfigError
from trunkline.fleet.model import Fleet, MonitoringAccount, Names, Service, WorkloadAccount

SHOP = Service(name="shop")


def workload(account_id: str = "222222222222", **changes: object) -> WorkloadAccount:
    account = WorkloadAccount(account_id=account_id, regions=("eu-west-1",), services=(SHOP,))
    return replace(account, **changes)  # type: ignore[arg-type]


def refused(fleet: Fleet, **changes: object) -> str:
    with pytest.raises(ConfigError) as raised:
        replace(fleet, **changes)  # type: ignore[arg-type]
    return str(raised.value)


def test_the_names_are_those_of_the_reference_set_up() -> None:
    names = Names()
    assert names.task_role == "ecs-xaccount-task-role"
    assert names.execution_role == "ecs-xaccount-task-execution-role"
    assert names.assume_policy == "xaccount-amp-write"
    assert names.central_role == "ECS-AMP-Central-Role"
    assert names.query_role == "ECS-AMP-Central-Role-query"
    assert {names.workspace_alias, names.cluster, names.log_group} == {"ecs-xaccount-metrics-demo"}


def test_stacks_carry_the_name_of_the_fleet(fleet: Fleet) -> None:
    assert fleet.monitoring_stack == "tests-monitoring"
    assert fleet.global_stack == "tests-global"
    assert fleet.base_stack == "tests-base"
    assert fleet.services_stack == "tests-services"
    assert fleet.tags == {"trunkline:fleet": "tests"}


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        Fleet(
            name="1st",
            iam_path="metrics",
            monitoring=MonitoringAccount(account_id="1111", region="Ireland"),
            workloads=(workload(services=()),),
        )
    assert [problem.path for problem in raised.value.problems] == [
        "name",
        "iam_path",
        "monitoring::account_id",
        "monitoring::region",
        "workloads::0::services",
    ]


def test_a_path_cannot_widen_the_trust(fleet: Fleet) -> None:
    assert refused(fleet, iam_path="/a*/").startswith("iam_path: '/a*/' is not accepted")


def test_an_account_is_named_once(fleet: Fleet) -> None:
    text = refused(fleet, workloads=(workload(), workload()))
    assert text == "workloads: '222222222222' is named more than once (name it once)"


def test_services_keep_apart_in_a_template(fleet: Fleet) -> None:
    services = (Service(name="a-1"), Service(name="a1"))
    text = refused(fleet, workloads=(workload(services=services),))
    assert text == "workloads::0::services: 'A1' is named more than once (name it once)"


def test_an_external_id_needs_a_configuration_that_sends_it(fleet: Fleet) -> None:
    assert refused(fleet, external_id="7").startswith(
        "external_id: the reference collector configuration cannot send an external id"
    )
    assert replace(fleet, external_id="7", collector_configuration="receivers: {}").external_id == "7"
