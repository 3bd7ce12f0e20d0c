from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest
from tests.simulator.frontdoor_live import Live, running

from trunkline.fleet.deploy import deploy_fleet, destroy_fleet
from trunkline.fleet.model import Fleet, MonitoringAccount, Service, WorkloadAccount
from trunkline.fleet.sessions import AccessKey, Sessions, key_sessions

MONITORING, FIRST, SECOND, APART = "111111111111", "222222222222", "333333333333", "444444444444"


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The simulator's front door, which verifies signatures and evaluates IAM, before a running emulator."""
    with running(tmp_path_factory.mktemp("state")) as running_door:
        yield running_door


@pytest.fixture(scope="session")
def sessions(live: Live) -> Sessions:
    """Administrators' sessions at the front door."""
    return administrators(live, (MONITORING, FIRST, SECOND, APART))


def administrators(live: Live, accounts: Iterable[str]) -> Sessions:
    """Sessions that may do everything in their accounts."""
    keys = {account: live.door.add_account(account) for account in accounts}
    known = {account: AccessKey(key.access_key_id, key.secret_access_key) for account, key in keys.items()}
    return key_sessions(known, live.door.url)


@contextmanager
def standing(fleet: Fleet, sessions: Sessions) -> Iterator[None]:
    """The fleet deployed, and removed with everything its stacks retain."""
    deploy_fleet(fleet, sessions, lambda _: None)
    yield
    destroy_fleet(fleet, sessions, lambda _: None, images=True, logs=True, data=True)


def one_shop(name: str, monitoring: str, workload: str) -> Fleet:
    """One service without tasks, in one account and region."""
    service = Service(name="shop", desired_count=0)
    return Fleet(
        name=name,
        monitoring=MonitoringAccount(account_id=monitoring, region="eu-west-1"),
        workloads=(WorkloadAccount(account_id=workload, regions=("eu-west-1",), services=(service,)),),
    )


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """Two workload accounts, one of them in two regions."""
    return Fleet(
        name="tests",
        monitoring=MonitoringAccount(account_id=MONITORING, region="eu-west-1"),
        workloads=(
            WorkloadAccount(
                account_id=FIRST,
                regions=("eu-west-1", "eu-central-1"),
                services=(Service(name="web-shop", desired_count=2),),
            ),
            WorkloadAccount(
                account_id=SECOND,
                regions=("us-east-1",),
                services=(Service(name="web-shop"), Service(name="billing")),
            ),
        ),
    )


@pytest.fixture(scope="session")
def small_fleet() -> Fleet:
    """Everything in one account that no other test uses."""
    return Fleet(
        name="small",
        monitoring=MonitoringAccount(account_id=APART, region="eu-west-1"),
        workloads=(
            WorkloadAccount(account_id=APART, regions=("eu-west-1",), services=(Service(name="shop"),)),
        ),
    )
