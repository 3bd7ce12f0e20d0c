"""What can be known to fail before anything is touched, account by account; nothing is changed.

A check that may not be made, or that AWS does not answer, is "not checked" with the reason, never "ok".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network, ip_network
from typing import Any, Final, Literal

from botocore.exceptions import BotoCoreError, ClientError

from trunkline import __version__
from trunkline.errors import FleetError
from trunkline.fleet.members import member_ids, with_members
from trunkline.fleet.model import TAG, Fleet, Network, Service
from trunkline.fleet.networks import MAX_PEERS, peer_role, peers, reached_by_peering, workspace_network
from trunkline.fleet.order import peering_stack
from trunkline.fleet.own_images import OwnImages
from trunkline.fleet.sessions import Sessions, role_arn
from trunkline.fleet.stacks import is_ours
from trunkline.fleet.templates import pushed_images, trust_size
from trunkline.fleet.watch import token_of

MAX_ACCOUNTS_AT_ONCE: Final = 16

Severity = Literal["error", "warning", "note", "not checked", "ok"]

NEEDED_ENDPOINTS: Final = ("aps-workspaces", "sts", "ecr.api", "ecr.dkr", "logs", "s3")
"""Without another way out tasks need an endpoint of each of these in their VPC."""

_ANYWHERE: Final = "0.0.0.0/0"
_MONITORING_ACTIONS: Final = (
    "cloudformation:CreateChangeSet",
    "cloudformation:ExecuteChangeSet",
    "iam:CreateRole",
    "iam:PutRolePolicy",
    "aps:CreateWorkspace",
)
_WORKLOAD_ACTIONS: Final = (
    "cloudformation:CreateChangeSet",
    "cloudformation:ExecuteChangeSet",
    "iam:CreateRole",
    "iam:PutRolePolicy",
    "iam:PassRole",
    "logs:CreateLogGroup",
    "ecr:CreateRepository",
    "ecr:PutImage",
    "ecs:CreateCluster",
    "ecs:RegisterTaskDefinition",
    "ecs:CreateService",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at in an account; `region` is empty for what all regions share.

    An `error` will make the deployment fail, a `warning` may; a `note` is good to know.
    """

    severity: Severity
    account_id: str
    region: str
    what: str
    why: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        where = " ".join(part for part in (self.account_id, self.region) if part)
        text = f"{where}: {self.what}" + (f": {self.why}" if self.why else "")
        return text + (f". To do: {self.remedy}" if self.remedy else "")

    def document(self) -> dict[str, str]:
        """As it is written for machines."""
        return asdict(self)


def preflight(fleet: Fleet, sessions: Sessions, images: OwnImages | None = None) -> list[Finding]:
    """Everything that was looked at, the monitoring account first; accounts are looked at side by side.

    With `images` it is looked at whether those that are missing can be built.
    """
    monitoring = _MonitoringLook(fleet, sessions, fleet.monitoring.account_id, (fleet.monitoring.region,))
    whole = fleet
    with monitoring.listing():
        whole = with_members(fleet, sessions)
    members = member_ids(fleet, whole)
    monitoring.images = images
    looks: list[_Look] = [monitoring]
    for account in whole.workloads:
        look = _MemberLook if account.account_id in members else _WorkloadLook
        looks.append(look(whole, sessions, account.account_id, account.regions))
        looks[-1].images = None if account.account_id in members else images
    with ThreadPoolExecutor(MAX_ACCOUNTS_AT_ONCE, thread_name_prefix="preflight") as pool:
        return [finding for findings in pool.map(lambda look: look.all(), looks) for finding in findings]


class _Look:
    """A look at one account: every check is a method that calls `ok`, `error`, `warning` or `note`."""

    actions: tuple[str, ...] = ()
    images: OwnImages | None = None

    def __init__(self, fleet: Fleet, sessions: Sessions, account_id: str, regions: Sequence[str]) -> None:
        self.fleet = fleet
        self.account_id = account_id
        self.regions = regions
        self.findings: list[Finding] = []
        self._sessions = sessions
        self._clients: dict[tuple[str, str], Any] = {}

    def all(self) -> list[Finding]:
        if self._can_enter():
            self.account()
            for region in self.regions:
                if self._is_enabled(region):
                    self.region(region)
                self._clients.clear()  # a client has megabytes, and a fleet hundreds of accounts
        return self.findings

    def account(self) -> None:
        """What all regions share."""

    def region(self, region: str) -> None:
        """One region."""

    def client(self, service: str, region: str = "") -> Any:
        key = (service, region or self.regions[0])
        if key not in self._clients:
            self._clients[key] = self._sessions(self.account_id, key[1]).client(service)
        return self._clients[key]

    def say(self, severity: Severity, region: str, what: str, why: str = "", remedy: str = "") -> None:
        self.findings.append(Finding(severity, self.account_id, region, what, why, remedy))

    @contextmanager
    def checking(self, what: str, region: str = "") -> Iterator[None]:
        """A check that fails to be made is said to be so."""
        try:
            yield
        except (ClientError, BotoCoreError) as error:
            self.say("not checked", region, what, str(error))

    def _can_enter(self) -> bool:
        try:
            self._sessions(self.account_id, self.regions[0])
        except (FleetError, ClientError, BotoCoreError) as error:
            self.cannot_enter(str(error))
            return False
        self.say("ok", "", "credentials")
        return True

    def cannot_enter(self, why: str) -> None:
        self.say("error", "", "credentials", why, "correct the account's credentials")

    def _is_enabled(self, region: str) -> bool:
        with self.checking("region", region):
            answer = self.client("account").get_region_opt_status(RegionName=region)
            status = answer["RegionOptStatus"]
            if status in {"DISABLED", "DISABLING"}:
                remedy = f"aws account enable-region --region-name {region}, then wait until it is"
                self.say("error", region, "region", f"it is {status} in this account", remedy)
                return False
            self.say("ok", region, "region")
        return True

    def check_boundary(self) -> None:
        boundary = self.fleet.permissions_boundary
        if not boundary:
            return
        what, region = "permissions boundary", self.regions[0]
        arn = boundary if boundary.startswith("arn:") else _policy_arn(self.account_id, boundary, region)
        with self.checking(what):
            iam = self.client("iam")
            try:
                iam.get_policy(PolicyArn=arn)
                self.say("ok", "", what)
            except iam.exceptions.NoSuchEntityException:
                self.say(
                    "error",
                    "",
                    what,
                    f"there is no policy {arn}",
                    "create it, or correct permissions_boundary",
                )

    def check_roles(self, *names: str) -> None:
        iam = self.client("iam")
        for name in names:
            with self.checking(f"role {name}"):
                try:
                    found = iam.get_role(RoleName=name)["Role"]
                except iam.exceptions.NoSuchEntityException:
                    self.say("ok", "", f"role {name}")
                    continue
                self.owned(f"role {name}", "", _tags(found.get("Tags", ())), found["Arn"])

    def owned(
        self,
        what: str,
        region: str,
        tags: Mapping[str, str],
        arn: str,
        remedy: str = "remove it, or choose another name under names",
    ) -> None:
        """Something of this name exists: the fleet's own is as good as none."""
        if tags.get(TAG) == self.fleet.name:
            self.say("ok", region, what)
        else:
            whose = f"of fleet {tags[TAG]}" if TAG in tags else "not of this fleet"
            self.say(
                "error",
                region,
                what,
                f"{arn} exists and is {whose}",
                remedy,
            )

    def check_stacks(self, region: str, *names: str) -> None:
        cloudformation = self.client("cloudformation", region)
        for name in names:
            what = f"stack {name}"
            with self.checking(what, region):
                try:
                    [found] = cloudformation.describe_stacks(StackName=name)["Stacks"]
                except ClientError as error:
                    if "does not exist" not in str(error):
                        raise
                    self.say("ok", region, what)
                    continue
                self._judge_stack(cloudformation, what, region, found)

    def _judge_stack(self, cloudformation: Any, what: str, region: str, found: Mapping[str, Any]) -> None:
        status, tags = found["StackStatus"], _tags(found.get("Tags", ()))
        if status == "REVIEW_IN_PROGRESS":
            self.say("note", region, what, "it was left in review; deploying takes it up")
        elif status.endswith("_IN_PROGRESS") and is_ours(token_of(cloudformation, found["StackId"])):
            self.say(
                "note", region, what, f"an earlier run left it in {status}; deploying waits for it first"
            )
        elif status.endswith("_IN_PROGRESS"):
            self.say("error", region, what, f"somebody is changing it ({status})", "wait until that is done")
        else:
            self.owned(what, region, tags, found["StackId"], "choose another name for this fleet: name")

    def check_permissions(self) -> None:
        """By IAM's own simulation, which knows no service control policies of other kinds than it is told of."""
        what = "permissions"
        with self.checking(what):
            caller = self.client("sts").get_caller_identity()["Arn"]
            if caller.endswith(":root"):
                self.say("ok", "", what)
                return
            pages = (
                self.client("iam")
                .get_paginator("simulate_principal_policy")
                .paginate(PolicySourceArn=self._source(caller), ActionNames=list(self.actions))
            )
            results = [each for page in pages for each in page["EvaluationResults"]]
            denied = [each["EvalActionName"] for each in results if each["EvalDecision"] != "allowed"]
            if denied:
                why = f"{caller} may not do {', '.join(denied)}"
                self.say("warning", "", what, why, "allow it, unless conditions of its policies do")
            else:
                self.say("ok", "", what)

    def _source(self, caller: str) -> str:
        """Sessions are not simulated, their roles are."""
        if ":assumed-role/" not in caller:
            return caller
        return str(self.client("iam").get_role(RoleName=caller.split("/")[1])["Role"]["Arn"])

    def quota(self, region: str, service: str, code: str) -> float:
        """The quota in effect. Raises `ClientError`."""
        quotas = self.client("service-quotas", region)
        return float(quotas.get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"])

    def check_addresses(self, region: str, network: Network, vpc_id: str) -> None:
        """Whether a VPC that exists has the addresses the file says: overlaps are judged by those."""
        if not network.cidr:
            return
        with self.checking("addresses", region):
            [vpc] = _found(self.client("ec2", region).describe_vpcs, "vpc-id", (vpc_id,), "Vpcs")
            real = [each["CidrBlock"] for each in vpc["CidrBlockAssociationSet"]]
            if network.cidr in real:
                self.say("ok", region, "addresses")
            else:
                why = f"{vpc_id} has {', '.join(real)}, and the file says {network.cidr}"
                self.say("error", region, "addresses", why, f"write cidr: {real[0]}")

    def check_images(self, region: str, services: Sequence[Service]) -> None:
        """Whether the fleet's own images are in the region, or can be built and pushed."""
        names = self.fleet.names
        repositories = {"collector": names.collector_repository, "application": names.application_repository}
        ecr = self.client("ecr", region)
        if not self.images or not self.images.is_real(ecr):
            return
        for kind in pushed_images(self.fleet, services):
            with self.checking(f"image of the {kind}", region):
                if self.images.there(ecr, repositories[kind], __version__) or not (
                    why := self.images.problem()
                ):
                    self.say("ok", region, f"image of the {kind}")
                else:
                    why = f"{repositories[kind]} has none with the tag {__version__}, and none can be built: {why}"
                    how = f"{kind} --repository {repositories[kind]} --region {region} --tag {__version__}"
                    remedy = f"that, or from a computer that can: trunkline images push {how}"
                    self.say("error", region, f"image of the {kind}", why, remedy)

    def check_new_vpc(self, region: str, network: Network) -> None:
        """Whether there is room for one more, and whether its addresses are free."""
        ec2 = self.client("ec2", region)
        with self.checking("VPCs", region):
            vpcs = [each for page in ec2.get_paginator("describe_vpcs").paginate() for each in page["Vpcs"]]
            others = [each for each in vpcs if _tags(each.get("Tags", ())).get(TAG) != self.fleet.name]
            if len(vpcs) == len(others):
                self._check_vpc_quota(region, len(vpcs))
            taken = [each for each in others if _overlap(network.cidr, each["CidrBlock"])]
            if taken:
                names = ", ".join(f"{each['VpcId']} ({each['CidrBlock']})" for each in taken)
                why = f"{network.cidr} overlaps with {names}: they can never be peered"
                self.say("warning", region, "addresses", why, "choose another cidr")
            else:
                self.say("ok", region, "addresses")

    def _check_vpc_quota(self, region: str, count: int) -> None:
        with self.checking("quota of VPCs", region):
            limit = self.quota(region, "vpc", "L-F678F1CE")
            if count >= limit:
                why = f"there are {count} VPCs, and the quota is {limit:g}"
                self.say(
                    "error", region, "quota of VPCs", why, "have it raised, or use a network that exists"
                )
            else:
                self.say("ok", region, "quota of VPCs")


class _MonitoringLook(_Look):
    actions = _MONITORING_ACTIONS

    @contextmanager
    def listing(self) -> Iterator[None]:
        """Of the organisation's accounts; that the account cannot be entered is said elsewhere."""
        with self.checking("accounts of the units"), suppress(FleetError):
            yield

    def account(self) -> None:
        names = self.fleet.names
        self.check_boundary()
        roles = [names.central_role, names.query_role]
        if peers(self.fleet):
            roles.append(peer_role(self.fleet))
        self.check_roles(*roles, *([names.grafana_role] if self.fleet.monitoring.grafana else []))
        self._check_trust()
        self.registries()
        self.check_permissions()

    def region(self, region: str) -> None:
        found = peers(self.fleet)
        self.check_stacks(
            region, self.fleet.monitoring_stack, *([peering_stack(self.fleet).name] if found else [])
        )
        self._check_workspace(region)
        if found:
            self._check_peers(region, len(found))
        network = workspace_network(self.fleet) or self.fleet.monitoring.network
        if network and network.kind == "new":
            self.check_new_vpc(region, network)
        elif network and network.vpc_id:
            self.check_addresses(region, network, network.vpc_id)

    def _check_peers(self, region: str, count: int) -> None:
        what = "quota of peering connections"
        with self.checking(what, region):
            limit = self.quota(region, "vpc", "L-7E9ECCDB")
            if count > limit:
                why = f"{count} VPCs are peered with one, and the quota is {limit:g}"
                self.say("error", region, what, why, f"have it raised ({MAX_PEERS} at most)")
            else:
                self.say("ok", region, what)

    def registries(self) -> None:
        """Of the organisation's units, one in each of their regions."""
        organization = self.fleet.organization
        for region in organization.regions if organization and organization.units else ():
            self.check_images(region, organization.services if organization else ())

    def _check_trust(self) -> None:
        what = "trust of the central role"
        try:
            size = trust_size(self.fleet)
        except FleetError as error:
            self.say("error", "", what, str(error))
            return
        with self.checking(what):
            limit = self.quota(_global_region(self.regions[0]), "iam", "L-C07B4B0D")
            if size.characters > limit:
                why = (
                    f"it would have {size.characters} characters, and the quota of this account is {limit:g}"
                )
                self.say("error", "", what, why, "have 'Role trust policy length' raised")
            else:
                self.say("ok", "", what)

    def _check_workspace(self, region: str) -> None:
        amp, wanted = self.client("amp", region), self.fleet.monitoring.workspace.id_
        with self.checking("workspace", region):
            pages = amp.get_paginator("list_workspaces").paginate()
            found = [each for page in pages for each in page["workspaces"]]
            if wanted:
                self._check_named_workspace(region, wanted, found)
                return
            alias = self.fleet.names.workspace_alias
            others = [each for each in found if each.get("alias") == alias and not self._is_own(each)]
            if others:
                why = f"{others[0]['workspaceId']} has the alias {alias} too"
                remedy = (
                    "choose another monitoring.workspace.alias, or use that one as monitoring.workspace.id"
                )
                self.say("warning", region, "workspace", why, remedy)
            else:
                self.say("ok", region, "workspace")
            if not any(map(self._is_own, found)):
                self._check_workspace_quota(region, len(found))

    def _is_own(self, workspace: Mapping[str, Any]) -> bool:
        return bool(workspace.get("tags", {}).get(TAG) == self.fleet.name)

    def _check_named_workspace(self, region: str, wanted: str, found: Iterable[Mapping[str, Any]]) -> None:
        statuses = {each["workspaceId"]: each["status"]["statusCode"] for each in found}
        status = statuses.get(wanted, "")
        if status in {"ACTIVE", "UPDATING"}:
            self.say("ok", region, "workspace")
        else:
            why = f"{wanted} is {status}" if status else f"there is no workspace {wanted} here"
            self.say("error", region, "workspace", why, "correct the id of the workspace, or leave it out")

    def _check_workspace_quota(self, region: str, count: int) -> None:
        what = "quota of workspaces"
        with self.checking(what, region):
            quotas = self.client("service-quotas", region)
            pages = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="aps")
            limits = [
                each["Value"]
                for page in pages
                for each in page["Quotas"]
                if each["QuotaName"].lower().startswith("workspaces per")
            ]
            if not limits:
                self.say("not checked", region, what, "Service Quotas does not list it")
            elif count >= limits[0]:
                why = f"there are {count} workspaces, and the quota is {limits[0]:g}"
                self.say("error", region, what, why, "have it raised, or use a workspace that exists")
            else:
                self.say("ok", region, what)


class _WorkloadLook(_Look):
    actions = _WORKLOAD_ACTIONS

    def account(self) -> None:
        names = self.fleet.names
        self.check_boundary()
        self.check_roles(names.task_role, names.execution_role)
        self._check_service_linked_role()
        self.check_stacks(self.regions[0], self.fleet.global_stack)
        self.check_permissions()

    def region(self, region: str) -> None:
        self.check_stacks(region, self.fleet.base_stack, self.fleet.services_stack)
        self.check_images(region, self._services())
        self._check_names(region)
        self._check_fargate(region)
        network = self._network(region)
        check: Mapping[str, Callable[[str, Network], None]] = {
            "default": self._check_default_vpc,
            "existing": self._check_existing_vpc,
            "new": self.check_new_vpc,
        }
        with self.checking("network", region):
            check[network.kind](region, network)

    def _network(self, region: str) -> Network:
        own = next(each for each in self.fleet.workloads if each.account_id == self.account_id)
        return own.network(region)

    def _services(self) -> tuple[Service, ...]:
        return next(each for each in self.fleet.workloads if each.account_id == self.account_id).services

    def _check_service_linked_role(self) -> None:
        what = "service-linked role of ECS"
        with self.checking(what):
            path = "/aws-service-role/ecs.amazonaws.com/"
            if self.client("iam").list_roles(PathPrefix=path)["Roles"]:
                self.say("ok", "", what)
            else:
                why = "there is none yet; ECS makes it with the first cluster, if iam:CreateServiceLinkedRole is allowed"
                remedy = (
                    "where it is not: aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com"
                )
                self.say("note", "", what, why, remedy)

    def _check_names(self, region: str) -> None:
        names = self.fleet.names
        with self.checking(f"cluster {names.cluster}", region):
            ecs = self.client("ecs", region)
            found = ecs.describe_clusters(clusters=[names.cluster], include=["TAGS"])["clusters"]
            active = [each for each in found if each["status"] == "ACTIVE"]
            tags = {each["key"]: each["value"] for each in active[0].get("tags", ())} if active else {}
            self._name(f"cluster {names.cluster}", region, active[0]["clusterArn"] if active else "", tags)
        with self.checking(f"log group {names.log_group}", region):
            logs = self.client("logs", region)
            groups = logs.describe_log_groups(logGroupNamePrefix=names.log_group)["logGroups"]
            arns = [
                each["arn"].removesuffix(":*") for each in groups if each["logGroupName"] == names.log_group
            ]
            tags = logs.list_tags_for_resource(resourceArn=arns[0]).get("tags", {}) if arns else {}
            self._name(f"log group {names.log_group}", region, arns[0] if arns else "", tags)
        for name in (names.collector_repository, names.application_repository):
            with self.checking(f"repository {name}", region):
                arn = _repository(self.client("ecr", region), name)
                ecr = self.client("ecr", region)
                given = ecr.list_tags_for_resource(resourceArn=arn)["tags"] if arn else ()
                self._name(f"repository {name}", region, arn, _tags(given))

    def _name(self, what: str, region: str, arn: str, tags: Mapping[str, str]) -> None:
        if arn:
            self.owned(what, region, tags, arn)
        else:
            self.say("ok", region, what)

    def _check_fargate(self, region: str) -> None:
        needed = sum(each.desired_count * each.cpu_units for each in self._services()) / 1024
        what = "quota of Fargate"
        with self.checking(what, region):
            limit = self.quota(region, "fargate", "L-3032A538")
            if needed > limit:
                why = f"the services take {needed:g} vCPU, and the quota is {limit:g}"
                self.say("error", region, what, why, "have 'Fargate On-Demand vCPU resource count' raised")
            else:
                self.say("ok", region, what)

    def _check_default_vpc(self, region: str, network: Network) -> None:
        ec2 = self.client("ec2", region)
        vpcs = ec2.describe_vpcs(Filters=[_filter("is-default", "true")])["Vpcs"]
        remedy = f"aws ec2 create-default-vpc --region {region}, or give the region a network of its own"
        if not vpcs:
            self.say("error", region, "network", "there is no default VPC", remedy)
            return
        vpc_id = vpcs[0]["VpcId"]
        filters = [_filter("vpc-id", vpc_id), _filter("default-for-az", "true")]
        subnets = ec2.describe_subnets(Filters=filters)["Subnets"]
        if not subnets:
            self.say("error", region, "network", f"the default VPC {vpc_id} has no default subnet", remedy)
            return
        self.say("ok", region, "network")
        self._check_way_out(region, network, vpc_id, [each["SubnetId"] for each in subnets])

    def _check_existing_vpc(self, region: str, network: Network) -> None:
        ec2 = self.client("ec2", region)
        subnets = _found(ec2.describe_subnets, "subnet-id", network.subnets, "Subnets")
        groups = _found(ec2.describe_security_groups, "group-id", network.security_groups, "SecurityGroups")
        known = {each["SubnetId"] for each in subnets} | {each["GroupId"] for each in groups}
        if missing := [each for each in (*network.subnets, *network.security_groups) if each not in known]:
            why = f"there is no {' and no '.join(missing)} in this region"
            self.say("error", region, "network", why, "correct the subnets and security groups")
            return
        vpcs = {each["VpcId"] for each in subnets} | ({network.vpc_id} if network.vpc_id else set())
        strangers = [each["GroupId"] for each in groups if each["VpcId"] not in vpcs]
        if len(vpcs) > 1:
            why = f"the subnets and the VPC are of {', '.join(sorted(vpcs))}"
            self.say("error", region, "network", why, "name subnets of one VPC")
            return
        [vpc_id] = vpcs
        if strangers:
            why = f"{', '.join(strangers)} is not in {vpc_id}, where the subnets are"
            self.say("error", region, "network", why, "name security groups of that VPC")
            return
        self.say("ok", region, "network")
        self.check_addresses(region, network, vpc_id)
        if len({each["AvailabilityZone"] for each in subnets}) == 1:
            self.say("note", region, "availability", "all subnets are in one Availability Zone")
        self._check_way_out(region, network, vpc_id, network.subnets)

    def _check_way_out(self, region: str, network: Network, vpc_id: str, subnets: Sequence[str]) -> None:
        """Every subnet needs one, as a task may start in any."""
        ec2 = self.client("ec2", region)
        with self.checking("way out", region):
            in_vpc = [_filter("vpc-id", vpc_id)]
            tables = ec2.describe_route_tables(Filters=in_vpc)["RouteTables"]
            ways = {subnet: _way_out(tables, subnet) for subnet in subnets}
            there = ec2.describe_vpc_endpoints(Filters=in_vpc)["VpcEndpoints"]
            lacking = self._lacking(region, network, [each["ServiceName"] for each in there])
            closed = sorted(subnet for subnet, way in ways.items() if not _leads_out(way, network))
            if not closed or not lacking:
                self.say("ok", region, "way out")
            elif any(ways[subnet].startswith("igw-") for subnet in closed):
                why = (
                    f"{', '.join(closed)} lead to the internet for public addresses only, and tasks get none"
                )
                self.say(
                    "error", region, "way out", why, "set public_ip: true, or name subnets with a NAT gateway"
                )
            else:
                self._no_way_out(region, lacking, closed)

    def _lacking(self, region: str, network: Network, there: Sequence[str]) -> list[str]:
        """The endpoints that are needed and neither there nor to be made.

        One of workspaces is of use in the workspace's own region only; where VPCs are peered it is in the other one.
        """
        known = {*network.endpoints, *(name.split(".", 3)[-1] for name in there)}
        if network.peering:
            known.update(reached_by_peering(self.fleet.monitoring))
        elif region != self.fleet.monitoring.region:
            known.discard("aps-workspaces")
        return [name for name in NEEDED_ENDPOINTS if name not in known]

    def _no_way_out(self, region: str, lacking: Sequence[str], subnets: Sequence[str]) -> None:
        without = f"there are no VPC endpoints of {', '.join(lacking)}"
        why = f"no route to the internet leads from {', '.join(subnets)}, and {without}"
        self.say(
            "error", region, "way out", why, "give it a NAT gateway, public addresses, or these endpoints"
        )


class _MemberLook(_WorkloadLook):
    """An account of the organisation's units: CloudFormation enters it, and nobody else has to."""

    def cannot_enter(self, why: str) -> None:
        self.say("not checked", "", "credentials", why)

    def check_permissions(self) -> None:
        """Those of the StackSets' own role, which may do everything."""


def _way_out(tables: Sequence[Mapping[str, Any]], subnet: str) -> str:
    """What the subnet's default route leads to (`igw-…`, `nat-…`, …); empty when there is none."""
    own = [each for each in tables if any(a.get("SubnetId") == subnet for a in each["Associations"])]
    main = [each for each in tables if any(a.get("Main") for a in each["Associations"])]
    for route in (own or main or [{"Routes": []}])[0]["Routes"]:
        if route.get("DestinationCidrBlock") == _ANYWHERE and route.get("State", "active") == "active":
            targets = (
                "GatewayId",
                "NatGatewayId",
                "TransitGatewayId",
                "NetworkInterfaceId",
                "VpcPeeringConnectionId",
            )
            return next((str(route[name]) for name in targets if route.get(name)), "")
    return ""


def _leads_out(way: str, network: Network) -> bool:
    return bool(way) and (network.public_ip or not way.startswith("igw-"))


def _global_region(region: str) -> str:
    """Where the quotas of global services are kept in the region's partition."""
    return region if region.startswith(("cn-", "us-gov-")) else "us-east-1"


def _repository(ecr: Any, name: str) -> str:
    """The ARN of a repository; empty if there is none."""
    try:
        return str(ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryArn"])
    except ecr.exceptions.RepositoryNotFoundException:
        return ""


def _policy_arn(account_id: str, name: str, region: str) -> str:
    return role_arn(account_id, name, region).replace(":role/", ":policy/", 1)


def _overlap(one: str, other: str) -> bool:
    first, second = ip_network(one), ip_network(other)
    return isinstance(first, IPv4Network) and isinstance(second, IPv4Network) and first.overlaps(second)


def _found(describe: Callable[..., Any], name: str, ids: Sequence[str], key: str) -> list[Any]:
    """Those of `ids` that exist; asked by a filter, which takes one that does not exist for no error."""
    found: list[Any] = describe(Filters=[_filter(name, *ids)])[key] if ids else []
    # The key of an id is named like its filter: SubnetId, GroupId.
    return [each for each in found if each[name.title().replace("-", "")] in ids]


def _filter(name: str, *values: str) -> dict[str, Any]:
    return {"Name": name, "Values": list(values)}


def _tags(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}
