"""The walk through a fleet's accounts, link by link."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from trunkline.errors import FleetError, TrunklineError
from trunkline.fleet.explain import Role, does_not_trust, may_not, read_role
from trunkline.fleet.lists import pages
from trunkline.fleet.members import member_ids, with_members
from trunkline.fleet.metrics import Arrived, Place, Route, arrived
from trunkline.fleet.model import TAG, Fleet, Service, WorkloadAccount
from trunkline.fleet.sessions import Sessions, role_arn
from trunkline.fleet.templates import QUERY_ACTIONS
from trunkline.fleet.templates.existing import own_task_role
from trunkline.fleet.verify.links import DEPLOY, Judge, Link, OnLink, is_shared
from trunkline.fleet.verify.service import ServiceWalk

MAX_ACCOUNTS_AT_ONCE: Final = 16

_SERVICES_A_CALL: Final = 10


class Walk:
    """The walk through one fleet; what the monitoring account showed is kept for the others."""

    def __init__(self, fleet: Fleet, sessions: Sessions, on_progress: OnLink, route: Route) -> None:
        self.fleet = fleet
        """With the accounts of its units, once they are known."""
        self._members: frozenset[str] = frozenset()
        self._sessions = sessions
        self._on_progress = on_progress
        self._route = route
        self._lock = Lock()
        self._links: list[Link] = []
        self._central: Role | None = None
        self.workspace: Mapping[str, Any] = {}
        self.arrived: dict[Place, Arrived] | str = "the monitoring account cannot be entered"

    def all(self) -> list[Link]:
        self._add_members()
        self._monitoring()
        accounts = self.fleet.workloads
        with ThreadPoolExecutor(MAX_ACCOUNTS_AT_ONCE, thread_name_prefix="verify") as pool:
            list(pool.map(self._account, accounts))
        order = {account.account_id: index for index, account in enumerate(accounts)}
        self._links.sort(key=lambda link: (not is_shared(link), order.get(link.account_id, -1)))
        return self._links

    def _add_members(self) -> None:
        """The accounts of the organisation's units, if there are units; if they cannot be listed, that is said."""
        monitoring, given = self.fleet.monitoring, self.fleet
        try:
            self.fleet = with_members(given, self._sessions)
        except (ClientError, BotoCoreError, FleetError) as error:
            with self.link("account", monitoring.account_id) as judge:
                judge.not_checked(f"the accounts of the organisation's units cannot be listed: {error}")
        self._members = member_ids(given, self.fleet)

    def _tell(self, link: Link) -> None:
        with self._lock:
            self._links.append(link)
            self._on_progress(link)

    @contextmanager
    def link(self, name: str, account_id: str, region: str = "", service: str = "") -> Iterator[Judge]:
        """One link; what AWS refuses to tell is not checked, and the walk goes on."""
        judge = Judge(Link(account_id, region, service, name, "ok", ""))
        try:
            yield judge
        except (ClientError, BotoCoreError, TrunklineError) as error:
            judge.not_checked(str(error))
        self._tell(judge.link)

    def _enter(self, name: str, account_id: str, region: str) -> bool:
        with self.link(name, account_id) as judge:
            try:
                self._sessions(account_id, region)
                judge.ok("they lead into the account")
            except (FleetError, ClientError, BotoCoreError) as error:
                if account_id in self._members:  # CloudFormation enters them; nobody has to be able to
                    judge.not_checked(str(error))
                    return False
                judge.broken(
                    "the account cannot be entered", str(error), "correct its credentials in the fleet's file"
                )
        return judge.link.state == "ok"

    def client(self, account_id: str, region: str, service: str) -> Any:
        return self._sessions(account_id, region).client(service)

    # The monitoring account.

    def _monitoring(self) -> None:
        monitoring = self.fleet.monitoring
        if not self._enter("monitoring account", monitoring.account_id, monitoring.region):
            return
        self._check_workspace()
        self._check_central_role()
        self._check_query_role()

    def _check_workspace(self) -> None:
        monitoring = self.fleet.monitoring
        with self.link("workspace", monitoring.account_id, monitoring.region) as judge:
            amp = self.client(monitoring.account_id, monitoring.region, "amp")
            found = _workspaces(amp, self.fleet)
            if not found:
                named = (
                    monitoring.workspace.id_ or f"with alias {self.fleet.names.workspace_alias} of this fleet"
                )
                wrong_id = "correct monitoring.workspace.id in the fleet's file"
                judge.broken(
                    "there is none",
                    f"account {monitoring.account_id} has no workspace {named} in {monitoring.region}",
                    wrong_id if monitoring.workspace.id_ else DEPLOY,
                )
            elif found["status"]["statusCode"] not in {"ACTIVE", "UPDATING"}:
                status = found["status"]["statusCode"]
                judge.broken(
                    f"it is {status}",
                    f"workspace {found['workspaceId']} is {status}",
                    "wait, then look again",
                )
            else:
                self.workspace = found
                judge.ok(f"{found['workspaceId']} is {found['status']['statusCode']}")

    def _check_central_role(self) -> None:
        fleet, monitoring = self.fleet, self.fleet.monitoring
        with self.link("central role", monitoring.account_id) as judge:
            self._central = self._role(judge, self._arn(monitoring.account_id, fleet.names.central_role))
            if self._central and self.workspace:
                reason = may_not(self._central, "aps:RemoteWrite", self.workspace["arn"])
                judge.holds_unless(
                    reason, "it may write to the workspace", "it may not write to the workspace"
                )

    def _check_query_role(self) -> None:
        monitoring, role = self.fleet.monitoring, None
        with self.link("query role", monitoring.account_id) as judge:
            role = self._role(judge, self._arn(monitoring.account_id, self.fleet.names.query_role))
            if role and self.workspace:
                reasons = (may_not(role, action, self.workspace["arn"]) for action in QUERY_ACTIONS)
                reason = next(filter(None, reasons), None)
                judge.holds_unless(reason, "it may query the workspace", "it may not query the workspace")
        self.arrived = self._ask_workspace(role.arn) if role and self.workspace else "there is nothing to ask"

    def _arn(self, account_id: str, name: str) -> str:
        """Of a role of the fleet, where it should be."""
        return role_arn(account_id, f"{self.fleet.iam_path}{name}", self.fleet.monitoring.region)

    def _ask_workspace(self, query_role_arn: str) -> dict[Place, Arrived] | str:
        """What has arrived, or why that cannot be asked."""
        monitoring = self.fleet.monitoring
        places = [
            (account.account_id, region, service.name)
            for account in self.fleet.workloads
            for region in account.regions
            for service in account.services
        ]
        try:
            sts = self.client(monitoring.account_id, monitoring.region, "sts")
            keys = sts.assume_role(RoleArn=query_role_arn, RoleSessionName="trunkline-verify")["Credentials"]
            url = self.workspace["prometheusEndpoint"]
            return arrived(url, monitoring.region, keys, places, self._route)
        except (ClientError, BotoCoreError, TrunklineError) as error:
            return f"the workspace cannot be queried: {error}"

    def _role(self, judge: Judge, wanted: str, missing: str = DEPLOY) -> Role | None:
        """The role with this ARN, if it is there; `missing` is what to do if it is not."""
        account_id, name = wanted.split(":")[4], wanted.rpartition("/")[2]
        role = read_role(self.client(account_id, self.fleet.monitoring.region, "iam"), name)
        if role is None:
            judge.broken("it is not there", f"there is no role {wanted}", missing)
        elif role.arn != wanted:
            path = role.arn.partition(":role")[2].rpartition("/")[0] + "/"
            remedy = f"a role cannot be moved: write iam_path: {path}, or delete this role and {DEPLOY}"
            judge.broken("it is elsewhere", f"it is {role.arn}, and {wanted} is asked for", remedy)
            return None
        else:
            judge.ok("it is there")
        return role

    # A workload account.

    def _account(self, account: WorkloadAccount) -> None:
        if not self._enter("account", account.account_id, account.home_region):
            if account.account_id in self._members:
                self._metrics_alone(account)
            return
        self._check_task_roles(account)
        for region in account.regions:
            self._region(account, region)

    def _metrics_alone(self, account: WorkloadAccount) -> None:
        """What the workspace tells of an account that nobody can look into."""
        for region in account.regions:
            for service in account.services:
                ServiceWalk(self, (account.account_id, region, service.name), service).metrics()

    def _check_task_roles(self, account: WorkloadAccount) -> None:
        """The role of all services, or one by one where task definitions came with roles of their own."""
        roles = {service.name: self.task_role(account.account_id, service) for service in account.services}
        if len(set(roles.values())) == 1:
            roles = {"": next(iter(roles.values()))}
        for service, wanted in roles.items():
            self._check_task_role(account.account_id, wanted, service)

    def task_role(self, account_id: str, service: Service) -> str:
        """The ARN of the role that a service's tasks should have."""
        own = own_task_role(service, account_id).removeprefix("role/")
        return role_arn(
            account_id,
            own or f"{self.fleet.iam_path}{self.fleet.names.task_role}",
            self.fleet.monitoring.region,
        )

    def _check_task_role(self, account_id: str, wanted: str, service: str) -> None:
        central = self._arn(self.fleet.monitoring.account_id, self.fleet.names.central_role)
        context = _context(self.fleet)
        with self.link("task role", account_id, "", service) as judge:
            own = "create it, or name another role in the service's task definition"
            role = self._role(judge, wanted, own if service and self._is_own(wanted) else DEPLOY)
            if role:
                reason = may_not(role, "sts:AssumeRole", central, context)
                judge.holds_unless(
                    reason, "it may ask for the central role", "it may not ask for the central role"
                )
        # The trust is judged for the role as it should be, so that a missing role does not hide a missing trust.
        with self.link("trust", account_id, "", service) as judge:
            self._judge_trust(judge, Role(wanted), context)

    def _is_own(self, wanted: str) -> bool:
        """Whether it is none of the fleet's, but a task definition came with it."""
        return not wanted.endswith(f":role{self.fleet.iam_path}{self.fleet.names.task_role}")

    def _judge_trust(self, judge: Judge, asker: Role, context: Mapping[str, str]) -> None:
        central = self._central
        if central is None:
            judge.not_checked("there is no central role to trust anybody")
            return
        reason = does_not_trust(central, asker, context)
        stranger = replace(asker, arn=f"{asker.arn.rpartition('/')[0]}/trunkline-stranger")
        if not reason and not does_not_trust(central, stranger, context):
            judge.weak(
                "the central role takes other roles of this account too",
                f"the trust policy of {central.arn} is not narrowed to {asker.arn}",
                DEPLOY,
            )
            return
        judge.holds_unless(
            reason, "the central role takes exactly this task role", "the central role does not take it"
        )

    # A region and its services.

    def _region(self, account: WorkloadAccount, region: str) -> None:
        cluster, account_id = self.fleet.names.cluster, account.account_id
        known: dict[str, Mapping[str, Any]] | None = None
        with self.link("cluster", account_id, region) as judge:
            ecs = self.client(account_id, region, "ecs")
            found = ecs.describe_clusters(clusters=[cluster])["clusters"]
            if any(each["status"] == "ACTIVE" for each in found):
                judge.ok(f"{cluster} is ACTIVE")
                known = self._described(ecs, account)
            else:
                judge.broken("it is not there", f"there is no cluster {cluster} in {region}", DEPLOY)
        for service in account.services:
            walk = ServiceWalk(self, (account_id, region, service.name), service)
            if known is not None:
                walk.running(known.get(service.name))
            walk.metrics()

    def _described(self, ecs: Any, account: WorkloadAccount) -> dict[str, Mapping[str, Any]]:
        names = [service.name for service in account.services]
        known: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(names), _SERVICES_A_CALL):
            chunk = names[start : start + _SERVICES_A_CALL]
            answer = ecs.describe_services(cluster=self.fleet.names.cluster, services=chunk)
            known.update({each["serviceName"]: each for each in answer["services"]})
        return known


def _context(fleet: Fleet) -> dict[str, str]:
    """The condition keys of the tasks' request."""
    keys = {
        "sts:ExternalId": fleet.external_id,
        "aws:PrincipalOrgID": fleet.organization.id_ if fleet.organization else "",
    }
    return {name: value for name, value in keys.items() if value}


def _workspaces(amp: Any, fleet: Fleet) -> dict[str, Any]:
    """The fleet's workspace: the one that was named, or the one with its alias and tag; empty if there is none."""
    wanted = fleet.monitoring.workspace.id_
    if not wanted:
        own = [
            each
            for each in pages(amp, "list_workspaces", "workspaces", alias=fleet.names.workspace_alias)
            if each.get("alias") == fleet.names.workspace_alias
            and each.get("tags", {}).get(TAG, fleet.name) == fleet.name
            and each["status"]["statusCode"] != "DELETING"
        ]
        if not own:
            return {}
        wanted = own[0]["workspaceId"]
    try:
        return dict(amp.describe_workspace(workspaceId=wanted)["workspace"])
    except amp.exceptions.ResourceNotFoundException:
        return {}
