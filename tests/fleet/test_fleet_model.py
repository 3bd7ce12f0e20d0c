from __future__ import annotations

from dataclasses import replace

import pytest

from trunkline.errors import ConfigError
from trunkline.fleet.checks import service_problems
from trunkline.fleet.model import (
    Fleet,
    Grafana,
    MonitoringAccount,
    Names,
    Network,
    Organization,
    Service,
    WorkloadAccount,
)

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
        "monitoring::account",
        "monitoring::region",
        "workloads::0::services",
    ]


def test_a_path_cannot_widen_the_trust(fleet: Fleet) -> None:
    assert refused(fleet, iam_path="/a*/").startswith("iam_path: '/a*/' is not accepted")


def test_an_account_is_named_once(fleet: Fleet) -> None:
    text = refused(fleet, workloads=(workload(), workload()))
    assert text.startswith("workloads::1::account: '222222222222' is named more than once")


def test_services_keep_apart_in_a_template(fleet: Fleet) -> None:
    services = (Service(name="a-1"), Service(name="a1"))
    text = refused(fleet, workloads=(workload(services=services),))
    assert text.startswith("workloads::0::services: the services 'a-1' and 'a1' are told apart by nothing")


def test_an_external_id_is_text_that_iam_takes(fleet: Fleet) -> None:
    assert replace(fleet, external_id="our-fleet:7").external_id == "our-fleet:7"
    assert refused(fleet, external_id="with space").startswith("external_id: 'with space' is not accepted")


def test_a_region_exists(fleet: Fleet) -> None:
    text = refused(fleet, workloads=(workload(regions=("eu-west-9",)),))
    assert text.startswith("workloads::0::regions: there is no region 'eu-west-9' (did you mean `eu-west-")


def test_the_workspace_s_region_has_the_service(fleet: Fleet) -> None:
    elsewhere = replace(fleet.monitoring, grafana=Grafana(), region="eu-south-1")
    assert "monitoring::grafana: Amazon Managed Grafana is not in eu-south-1" in refused(
        fleet, monitoring=elsewhere
    )


def test_a_fleet_of_units_needs_no_workload_account(fleet: Fleet) -> None:
    units = Organization(
        id_="o-a1b2c3d4e5", units=("ou-a1b2-c3d4e5f6",), regions=("eu-west-1",), services=(SHOP,)
    )
    assert replace(fleet, workloads=(), organization=units).workloads == ()
    text = refused(fleet, workloads=(), organization=replace(units, units=()))
    assert text == "workloads: there is no workload account (name at least one)"


def test_fargate_has_only_some_sizes() -> None:
    def check(cpu_units: int, memory_mib: int, said: str = "") -> None:
        service = replace(SHOP, cpu_units=cpu_units, memory_mib=memory_mib)
        found = [str(problem) for problem in service_problems(service)]
        assert len(found) == bool(said)
        assert not said or found[0].startswith(said)

    check(256, 2048)
    check(16384, 122880)
    check(8192, 20480)
    check(256, 3072, "memory: Fargate has no task of 256 CPU units and 3GiB")
    check(8192, 17408, "memory: Fargate has no task of 8192 CPU units and 17GiB")
    check(128, 512, "cpu: Fargate has no task of 128 CPU units")


def test_a_service_s_place_is_told(fleet: Fleet) -> None:
    placed = replace(SHOP, cpu_units=1, place="fleet.yaml:7:5")
    text = refused(fleet, workloads=(workload(services=(placed,)),))
    assert text.startswith("fleet.yaml:7:5: workloads::0::services::0::cpu: ")


def test_peered_networks_do_not_overlap(fleet: Fleet) -> None:
    ours = Network(kind="new", cidr="10.40.0.0/16")
    peered = Network(kind="new", cidr="10.41.0.0/16", peering=True)
    monitoring = replace(fleet.monitoring, network=ours)

    def with_networks(*networks: Network) -> dict[str, object]:
        accounts = [
            workload(f"{number:012}", regions=("us-east-1",), networks={"us-east-1": network})
            for number, network in enumerate(networks)
        ]
        return {"monitoring": monitoring, "workloads": tuple(accounts)}

    replace(fleet, **with_networks(peered, replace(peered, cidr="10.42.0.0/16")))  # type: ignore[arg-type]
    twice = refused(fleet, **with_networks(peered, peered))
    assert (
        "the addresses 10.41.0.0/16 overlap with 10.41.0.0/16 of account 000000000000 in us-east-1" in twice
    )
    apart = with_networks(replace(peered, peering=False), replace(peered, peering=False))
    replace(fleet, **apart)  # type: ignore[arg-type]
