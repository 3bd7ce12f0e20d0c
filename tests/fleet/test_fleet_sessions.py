"""Ways into accounts, at the simulator's front door, by files of AWS's configuration."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.simulator.frontdoor_live import IRELAND, MONITORING, VIRGINIA, Live, allow, running

from trunkline.errors import FleetError
from trunkline.fleet.model import (
    Credentials,
    Fleet,
    MonitoringAccount,
    Organization,
    Service,
    WorkloadAccount,
)
from trunkline.fleet.sessions import ORGANIZATION_ROLE, Sessions, fleet_sessions, role_arn

ROOT_OF_MONITORING = {
    "Effect": "Allow",
    "Principal": {"AWS": f"arn:aws:iam::{MONITORING}:root"},
    "Action": "sts:AssumeRole",
}
ASKS_FOR_ID = {**ROOT_OF_MONITORING, "Condition": {"StringEquals": {"sts:ExternalId": "id-7"}}}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("state")) as live:
        live.role(IRELAND, "deployer", allow(), trust=ASKS_FOR_ID, path="/ops/")
        live.role(VIRGINIA, ORGANIZATION_ROLE, allow(), trust=ROOT_OF_MONITORING)
        yield live


@pytest.fixture(autouse=True)
def profiles(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile for each account, named like it; the SDK's own chain finds the monitoring account's."""
    path = tmp_path / "credentials"
    sections = {"default": MONITORING, **{account: account for account in live.keys}}
    path.write_text("".join(_section(name, live, account) for name, account in sections.items()))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def _section(name: str, live: Live, account: str) -> str:
    key = live.keys[account]
    return f"[{name}]\naws_access_key_id = {key.access_key_id}\naws_secret_access_key = {key.secret_access_key}\n"


def fleet(way: Credentials, *, account: str = IRELAND, organization: Organization | None = None) -> Fleet:
    workload = WorkloadAccount(
        account_id=account, regions=("eu-west-1",), services=(Service(name="shop"),), credentials=way
    )
    return Fleet(
        monitoring=MonitoringAccount(account_id=MONITORING, region="eu-west-1"),
        workloads=(workload,),
        organization=organization,
    )


def caller(sessions: Sessions, account: str) -> str:
    return str(sessions(account, "eu-west-1").client("sts").get_caller_identity()["Arn"])


def refused(live: Live, wanted: Fleet, account: str = IRELAND) -> str:
    with pytest.raises(FleetError) as raised:
        fleet_sessions(wanted, live.door.url)(account, "eu-west-1")
    message = str(raised.value)
    assert not any(key.secret_access_key in message for key in live.keys.values())
    return message


ROLE = Credentials(role="ops/deployer", external_id="id-7")


def test_each_way_leads_into_the_account(live: Live) -> None:
    def check(way: Credentials, expected: str) -> None:
        assert caller(fleet_sessions(fleet(way), live.door.url), IRELAND) == expected

    assumed = f"arn:aws:sts::{IRELAND}:assumed-role/deployer/trunkline-fleet"
    check(Credentials(profile=IRELAND), f"arn:aws:iam::{IRELAND}:user/Administrator")
    check(ROLE, assumed)
    check(replace(ROLE, profile=MONITORING), assumed)
    check(replace(ROLE, role=f"arn:aws:iam::{IRELAND}:role/ops/deployer"), assumed)


def test_the_sdks_own_chain_serves_the_account_it_is_of(live: Live) -> None:
    sessions = fleet_sessions(fleet(ROLE), live.door.url)
    assert caller(sessions, MONITORING) == f"arn:aws:iam::{MONITORING}:user/Administrator"
    assert refused(live, fleet(Credentials())) == (
        f"account {IRELAND}: the SDK's own chain of credentials is of account {MONITORING}; nothing was touched. "
        f"Name a profile or a role of account {IRELAND} under its credentials"
    )


def test_a_profile_of_another_account_is_refused(live: Live) -> None:
    message = refused(live, fleet(Credentials(profile=VIRGINIA)))
    assert message.startswith(f"account {IRELAND}: profile {VIRGINIA} is of account {VIRGINIA}; nothing was")


def test_a_role_of_another_account_is_refused(live: Live) -> None:
    role = f"arn:aws:iam::{VIRGINIA}:role/{ORGANIZATION_ROLE}"
    assert f"role {role} is of account {VIRGINIA}" in refused(live, fleet(Credentials(role=role)))


def test_a_profile_that_is_not_there_is_named(live: Live) -> None:
    assert refused(live, fleet(Credentials(profile="nobody"))) == (
        f"account {IRELAND}: there is no profile 'nobody' in the AWS configuration files; add it, or name another "
        "under credentials"
    )


def test_a_role_that_does_not_trust_says_whose_words_these_are(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    message = refused(live, fleet(replace(ROLE, external_id="id-8")))
    assert message.startswith(f"account {IRELAND} cannot be entered by role ops/deployer: ")
    assert "is not authorized to perform: sts:AssumeRole" in message
    assert caplog.records == []
    assert message.endswith(
        "let the role trust whoever asks for it (its external id included), and let them assume it"
    )


def test_without_any_credentials_it_says_how_to_get_some(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    message = refused(live, fleet(ROLE), MONITORING)
    assert message.startswith(
        f"account {MONITORING}: the SDK's own chain of credentials gives no credentials; sign"
    )


def test_an_account_that_is_not_of_the_fleet_is_refused(live: Live) -> None:
    assert refused(live, fleet(ROLE), VIRGINIA).startswith(f"account {VIRGINIA} is not of this fleet")


def test_members_of_the_organisation_are_entered_by_its_role(live: Live) -> None:
    organized = fleet(Credentials(), account=VIRGINIA, organization=Organization(id_="o-a1b2c3d4e5"))
    sessions = fleet_sessions(organized, live.door.url)
    assumed = f"arn:aws:sts::{VIRGINIA}:assumed-role/{ORGANIZATION_ROLE}/trunkline-fleet"
    assert caller(sessions, VIRGINIA) == assumed
    assert caller(sessions, MONITORING) == f"arn:aws:iam::{MONITORING}:user/Administrator"


def test_accounts_of_the_units_are_entered_though_the_file_does_not_name_them(live: Live) -> None:
    def check(way: Credentials, expected: str) -> None:
        units = Organization(
            id_="o-a1b2c3d4e5",
            units=("ou-a1b2-c3d4e5f6",),
            regions=("eu-west-1",),
            services=(Service(name="shop"),),
            credentials=way,
        )
        sessions = fleet_sessions(fleet(Credentials(), organization=units), live.door.url)
        assert (
            caller(sessions, VIRGINIA) == f"arn:aws:sts::{VIRGINIA}:assumed-role/{expected}/trunkline-fleet"
        )

    check(Credentials(), ORGANIZATION_ROLE)
    check(
        Credentials(role=f"arn:aws:iam::{{account}}:role/{ORGANIZATION_ROLE}"),
        ORGANIZATION_ROLE,
    )
    named = fleet(Credentials(), organization=Organization(id_="o-a1b2c3d4e5"))
    assert "is not of this fleet" in refused(live, named, VIRGINIA)


def test_credentials_are_renewed_while_they_are_used(live: Live) -> None:
    live.door.sessions.longest_s = 2.0
    try:
        sessions = fleet_sessions(fleet(ROLE), live.door.url)
        iam = sessions(IRELAND, "eu-west-1").client("iam")
        iam.list_roles()
        time.sleep(2.2)
        iam.list_roles()
        assert "deployer" in caller(sessions, IRELAND)
    finally:
        live.door.sessions.longest_s = None


def test_many_threads_prove_an_account_once(live: Live) -> None:
    sessions = fleet_sessions(fleet(ROLE), live.door.url)
    live.door.calls.clear()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: sessions(IRELAND, "eu-west-1").client("iam").list_roles(), range(16)))
    assert live.door.calls[MONITORING, "sts", "AssumeRole"] == 1
    assert live.door.calls[IRELAND, "sts", "GetCallerIdentity"] == 1
    assert live.door.calls[IRELAND, "iam", "ListRoles"] == 16


def test_partitions_have_arns_of_their_own() -> None:
    assert role_arn(IRELAND, "a/b", "cn-north-1") == f"arn:aws-cn:iam::{IRELAND}:role/a/b"
