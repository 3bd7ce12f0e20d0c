"""The proof that nothing of a fleet is left, from everything AWS can be asked about it.

    CloudFormation    stacks of the fleet's tag or names, those in review and their change sets too; stack sets
    tags              the Tagging API in every region that is enabled, and EC2's own tags
    IAM               roles by path, name and tag
    ECS               task definitions of the services' families, deregistered ones too
    names             log groups, image repositories, workspaces, Grafana

In regions that the fleet's file does not name, CloudFormation and the Tagging API have to do. Such lists lag behind what they
list: each hit is read again, for a while, before it counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from trunkline.errors import FleetError
from trunkline.fleet.members import member_ids, with_members
from trunkline.fleet.model import TAG, Fleet
from trunkline.fleet.order import fleet_stacks, peering_stack
from trunkline.fleet.sessions import Session, Sessions
from trunkline.fleet.templates import COLLECTOR_CONTAINER

MAX_PLACES_AT_ONCE: Final = 16
PATIENCE_S: Final = 20.0
"""So long may something take to go, or a list to notice that it has gone."""

_FIRST_PAUSE_S: Final = 0.1
_DELETED_A_CALL: Final = 10
_SERVICE_LINKED: Final = ("/aws-service-role/", "/aws-reserved/")
_NOT_THERE: Final = (
    "NotFound",
    "NoSuchEntity",
    "not found",
    "does not exist",
    "Unable to describe task definition",
)

Read = Callable[[], bool]
"""Whether it is still there."""


@dataclass(frozen=True, slots=True, order=True)
class Leftover:
    """Something of the fleet that exists; `found_by` says which list it was in."""

    account_id: str
    region: str
    kind: str
    name: str
    arn: str
    found_by: str

    def __str__(self) -> str:
        where = " ".join(part for part in (self.account_id, self.region) if part)
        return f"{where}: {self.kind} {self.name} (found by {self.found_by}; {self.arn})"


@dataclass(frozen=True, slots=True)
class Proof:
    """What is left, what was kept on purpose, and where nobody could look, as sentences.

    `is_complete` says that all accounts and regions that the fleet's file names could be looked into. Others may be
    closed by policy, and then have nothing of the fleet either; accounts of an organisation's units need not let
    anybody in.
    """

    left: tuple[Leftover, ...]
    kept: tuple[Leftover, ...] = ()
    not_looked: tuple[str, ...] = ()
    is_complete: bool = True

    @property
    def is_clean(self) -> bool:
        """Nothing is left; where nobody could look, nothing is proved."""
        return not self.left and self.is_complete

    def document(self) -> dict[str, Any]:
        """As it is written for machines."""
        return {
            "clean": self.is_clean,
            "complete": self.is_complete,
            "left": [asdict(each) for each in self.left],
            "kept": [asdict(each) for each in self.kept],
            "not_looked": list(self.not_looked),
        }

    def text(self) -> list[str]:
        """For people, the outcome last."""
        lines = [f"left: {each}" for each in self.left]
        lines += [f"kept on purpose: {each}" for each in self.kept]
        lines += [f"not looked: {each}" for each in self.not_looked]
        if self.left:
            return [*lines, f"{len(self.left)} things of the fleet are left"]
        end = "nothing of the fleet is left in any account or region"
        return [*lines, f"{end} that could be looked into" if self.not_looked else end]


def leftovers(
    fleet: Fleet,
    sessions: Sessions,
    kept: Collection[str] = (),
    *,
    other_regions: bool = True,
    patience_s: float = PATIENCE_S,
) -> Proof:
    """What is left of the fleet in its accounts. `kept` has ARNs, or names, of what was left on purpose.

    `other_regions` looks into the accounts' other enabled regions too, with two calls in each. What is on its way
    out is waited for, `patience_s` at most. Changes nothing; raises nothing for what it may not look at.
    """
    given, unlisted = fleet, ""
    try:
        fleet = with_members(given, sessions)
    except (ClientError, BotoCoreError, FleetError) as error:
        unlisted = f"{given.monitoring.account_id}: accounts of the organisation's units: {error}"
    members = member_ids(given, fleet)
    searches = [_Search(fleet, sessions, account, region) for account, region in _places(fleet)]
    if other_regions:
        searches += _elsewhere(fleet, sessions, searches)
    deadline = time.monotonic() + patience_s
    with ThreadPoolExecutor(MAX_PLACES_AT_ONCE, thread_name_prefix="proof") as pool:
        found = [each for hits in pool.map(lambda search: search.all(deadline), searches) for each in hits]
    unique = sorted({(each.account_id, each.arn): each for each in sorted(found, reverse=True)}.values())
    on_purpose = tuple(each for each in unique if each.arn in kept or each.name in kept)
    left = tuple(each for each in unique if each not in on_purpose)
    not_looked = sorted({text for search in searches for text in search.not_looked} | {unlisted} - {""})
    needed = [search for search in searches if search.is_named and search.account_id not in members]
    complete = not any(search.not_looked for search in needed)
    return Proof(left, on_purpose, tuple(not_looked), complete)


def elsewhere(fleet: Fleet, sessions: Sessions) -> tuple[Leftover, ...]:
    """What carries the fleet's tag in regions of its accounts that its file does not name, by one call in each region.

    Raises nothing for a region that may not be looked at; `leftovers` says of those, too.
    """
    searches = [_Search(fleet, sessions, account, region) for account, region in _places(fleet)]
    with_stacks = {(stack.account_id, stack.region) for stack in fleet_stacks(fleet)}
    others = [
        each
        for each in _elsewhere(fleet, sessions, searches)
        if (each.account_id, each.region) not in with_stacks
    ]
    with ThreadPoolExecutor(MAX_PLACES_AT_ONCE, thread_name_prefix="elsewhere") as pool:
        found = pool.map(lambda search: search.tagged(), others)
        return tuple(sorted(each for hits in found for each in hits))


def clear_task_definitions(fleet: Fleet, session: Session) -> list[str]:
    """Deregister and delete the fleet's task definitions in a session's account and region; returns their ARNs.

    Deleting a stack only deregisters those it made last: they, and all revisions before, stay as INACTIVE for ever.
    Raises `ClientError`, and `FleetError` for those that ECS does not delete, as a task of theirs still runs.
    """
    ecs, account = session.client("ecs"), session.client("sts").get_caller_identity()["Account"]
    arns = [each["taskDefinitionArn"] for each in _definitions(fleet, ecs, account)]
    for arn in arns:
        if ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]["status"] == "ACTIVE":
            ecs.deregister_task_definition(taskDefinition=arn)
    failures = []
    for start in range(0, len(arns), _DELETED_A_CALL):
        answer = ecs.delete_task_definitions(taskDefinitions=arns[start : start + _DELETED_A_CALL])
        failures += [f"{each.get('arn')}: {each.get('reason')}" for each in answer.get("failures", ())]
    if failures:
        raise FleetError(f"task definitions could not be deleted: {'; '.join(failures)}")
    return arns


def _places(fleet: Fleet) -> list[tuple[str, str]]:
    """The accounts and regions of the fleet, the monitoring account first."""
    monitoring = (fleet.monitoring.account_id, fleet.monitoring.region)
    others = [(account.account_id, region) for account in fleet.workloads for region in account.regions]
    return list(dict.fromkeys([monitoring, *others]))


def _elsewhere(fleet: Fleet, sessions: Sessions, searches: Sequence[_Search]) -> list[_Search]:
    """Searches in the enabled regions of the fleet's accounts that its file does not name."""
    known = {(search.account_id, search.region) for search in searches}
    firsts = {search.account_id: search for search in reversed(searches)}

    def search(first: _Search) -> list[_Search]:
        regions = first.enabled_regions()
        return [
            _Search(fleet, sessions, first.account_id, region, is_named=False)
            for region in regions
            if (first.account_id, region) not in known
        ]

    with ThreadPoolExecutor(MAX_PLACES_AT_ONCE, thread_name_prefix="regions") as pool:
        return [each for found in pool.map(search, firsts.values()) for each in found]


class _Search:
    """The search in one account and region. What is global to an account is looked for in one region of it."""

    def __init__(
        self, fleet: Fleet, sessions: Sessions, account_id: str, region: str, *, is_named: bool = True
    ) -> None:
        self.account_id = account_id
        self.region = region
        self.not_looked: list[str] = []
        self._fleet = fleet
        self._sessions = sessions
        self.is_named = is_named
        self._clients: dict[str, Any] = {}

    def enabled_regions(self) -> list[str]:
        """The regions the account may use, by what EC2 says."""
        found: list[str] = []
        with self._looking("regions"):
            found += [each["RegionName"] for each in self._client("ec2").describe_regions()["Regions"]]
        return found

    def all(self, deadline: float) -> list[Leftover]:
        """Everything that is there, and stays."""
        hits: list[tuple[Leftover, Read]] = []
        for title, look in self._looks():
            with self._looking(title):
                hits += look()
        left = [hit for hit, read in hits if self._stays(hit, read, deadline)]
        self._clients.clear()  # a client has megabytes, and a fleet hundreds of accounts
        return left

    def tagged(self) -> list[Leftover]:
        """What carries the tag and is there now."""
        found: list[Leftover] = []
        with self._looking("the Tagging API"):
            found += [hit for hit, read in self._tagged() if self._stays(hit, read, 0.0)]
        self._clients.clear()
        return found

    def _looks(self) -> Iterator[tuple[str, Callable[[], Iterable[tuple[Leftover, Read]]]]]:
        yield "stacks", self._stacks
        yield "the Tagging API", self._tagged
        if not self.is_named:
            return
        yield "EC2's tags", self._ec2
        yield "task definitions", self._task_definitions
        yield "log groups", self._log_groups
        yield "repositories", self._repositories
        if self._is_home():
            yield "roles", self._roles
        if (self.account_id, self.region) == (
            self._fleet.monitoring.account_id,
            self._fleet.monitoring.region,
        ):
            yield "workspaces", self._workspaces
            if self._fleet.monitoring.grafana:
                yield "Grafana", self._grafanas
            if self._fleet.organization:
                yield "stack sets", self._stack_sets

    def _is_home(self) -> bool:
        return (self.account_id, self.region) == next(
            place for place in _places(self._fleet) if place[0] == self.account_id
        )

    @contextmanager
    def _looking(self, title: str) -> Iterator[None]:
        """Once; what AWS does not let see is said."""
        try:
            yield
        except (ClientError, BotoCoreError, FleetError) as error:
            self._blind(title, error)

    def _blind(self, title: str, error: Exception) -> None:
        self.not_looked.append(f"{self.account_id} {self.region}: {title}: {error}")

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._sessions(self.account_id, self.region).client(service)
        return self._clients[service]

    def _hit(self, kind: str, name: str, arn: str, found_by: str) -> Leftover:
        region = "" if kind == "role" else self.region
        return Leftover(self.account_id, region, kind, name, arn, found_by)

    def _stays(self, hit: Leftover, read: Read, deadline: float) -> bool:
        pause_s = _FIRST_PAUSE_S
        try:
            while read():
                if time.monotonic() + pause_s > deadline:
                    return True
                if not self._is_passing(hit):
                    return True
                time.sleep(pause_s)
                pause_s *= 2
        except (ClientError, BotoCoreError) as error:
            if any(words in str(error) for words in _NOT_THERE):
                return False
            self._blind(f"{hit.kind} {hit.name}", error)
            return True
        return False

    def _is_passing(self, hit: Leftover) -> bool:
        """Whether reading once more may make a difference: what only a list of tags knows, or is being deleted."""
        return (
            hit.found_by == "tag"
            or self._status(hit).endswith("DELETING")
            or "DELETE_IN" in self._status(hit)
        )

    def _status(self, hit: Leftover) -> str:
        if hit.kind == "stack":
            return str(self._stack(hit.arn)["StackStatus"])
        if hit.kind == "workspace":
            found = self._client("amp").describe_workspace(workspaceId=hit.arn.rpartition("/")[2])
            return str(found["workspace"]["status"]["statusCode"])
        return ""

    def _stacks(self) -> Iterator[tuple[Leftover, Read]]:
        fleet = self._fleet
        names = {fleet.monitoring_stack, fleet.global_stack, fleet.base_stack, fleet.services_stack}
        names.add(peering_stack(fleet).name)
        for stack in _pages(self._client("cloudformation"), "describe_stacks", "Stacks"):
            tags = _tags(stack.get("Tags", ()))
            if stack["StackStatus"] == "DELETE_COMPLETE":
                continue
            if tags.get(TAG) == fleet.name or (stack["StackName"] in names and TAG not in tags):
                by = "name" if TAG not in tags else "tag of CloudFormation"
                name, arn = stack["StackName"], stack["StackId"]
                yield self._hit("stack", f"{name} ({stack['StackStatus']})", arn, by), self._reads_stack(arn)
                yield from self._change_sets(name)

    def _stack(self, arn: str) -> dict[str, Any]:
        return dict(self._client("cloudformation").describe_stacks(StackName=arn)["Stacks"][0])

    def _reads_stack(self, arn: str) -> Read:
        return lambda: self._stack(arn)["StackStatus"] != "DELETE_COMPLETE"

    def _change_sets(self, stack: str) -> Iterator[tuple[Leftover, Read]]:
        """Those not executed; one that was is gone with what it did."""
        cloudformation = self._client("cloudformation")
        for each in _pages(cloudformation, "list_change_sets", "Summaries", StackName=stack):
            if each["ExecutionStatus"] in {"AVAILABLE", "UNAVAILABLE"}:
                arn = each["ChangeSetId"]

                def read(arn: str = arn) -> bool:
                    return bool(cloudformation.describe_change_set(ChangeSetName=arn))

                yield self._hit("change set", f"{each['ChangeSetName']} of {stack}", arn, "stack"), read

    def _stack_sets(self) -> Iterator[tuple[Leftover, Read]]:
        cloudformation, organization = self._client("cloudformation"), self._fleet.organization
        caller = "DELEGATED_ADMIN" if organization and organization.delegated else "SELF"
        for each in _pages(cloudformation, "list_stack_sets", "Summaries", Status="ACTIVE", CallAs=caller):
            name = each["StackSetName"]

            def read(name: str = name) -> bool:
                found = cloudformation.describe_stack_set(StackSetName=name, CallAs=caller)["StackSet"]
                mine = _tags(found.get("Tags", ())).get(TAG) == self._fleet.name
                return mine and found["Status"] == "ACTIVE"

            if read():
                yield self._hit("stack set", name, each["StackSetId"], "tag of CloudFormation"), read

    def _tagged(self) -> Iterator[tuple[Leftover, Read]]:
        tagging = self._client("resourcegroupstaggingapi")
        for arn in _tagged_arns(tagging, self._fleet.name):
            service, resource = arn.split(":")[2], arn.split(":", 5)[5]
            kind, _, name = resource.replace(":", "/", 1).lstrip("/").partition("/")
            yield self._hit(f"{service} {kind}", name or kind, arn, "tag"), self._reader(arn)

    def _reader(self, arn: str) -> Read:
        """Asks the service itself where it is one of those a fleet has, else the list of tags once more."""
        service, resource = arn.split(":")[2], arn.split(":", 5)[5]
        if service == "ecs" and resource.startswith("task-definition/"):
            return lambda: _is_listed_definition(self._client("ecs"), arn)
        if service == "ecs" and resource.startswith("cluster/"):
            return lambda: _any_active(self._client("ecs").describe_clusters(clusters=[arn])["clusters"])
        if service == "ecs" and resource.startswith("service/"):
            cluster = resource.split("/")[1]
            return lambda: _any_active(
                self._client("ecs").describe_services(cluster=cluster, services=[arn])["services"]
            )
        if service == "cloudformation" and resource.startswith("stack/"):
            return self._reads_stack(arn)
        tagging = self._client("resourcegroupstaggingapi")
        return lambda: arn in set(_tagged_arns(tagging, self._fleet.name))

    def _ec2(self) -> Iterator[tuple[Leftover, Read]]:
        """VPCs and what is in them: EC2's own list of tags, which shows what ended for a while too."""
        ec2 = self._client("ec2")
        partition = ec2.meta.partition
        filters = [{"Name": "key", "Values": [TAG]}, {"Name": "value", "Values": [self._fleet.name]}]
        for each in _pages(ec2, "describe_tags", "Tags", Filters=filters):
            id_, kind = each["ResourceId"], each["ResourceType"]
            arn = f"arn:{partition}:ec2:{self.region}:{self.account_id}:{kind}/{id_}"

            def read(kind: str = kind, id_: str = id_) -> bool:
                return _is_in_ec2(ec2, kind, id_)

            yield self._hit(kind, id_, arn, "tag"), read

    def _roles(self) -> Iterator[tuple[Leftover, Read]]:
        fleet, iam = self._fleet, self._client("iam")
        names = {
            fleet.names.task_role,
            fleet.names.execution_role,
            fleet.names.central_role,
            fleet.names.query_role,
            fleet.names.grafana_role,
        }
        for each in _pages(iam, "list_roles", "Roles", PathPrefix="/"):
            name, arn = each["RoleName"], each["Arn"]
            if each["Path"].startswith(_SERVICE_LINKED):
                continue
            tags = _tags(iam.list_role_tags(RoleName=name).get("Tags", ()))
            at_path = each["Path"] == fleet.iam_path and (fleet.iam_path != "/" or name in names)
            if tags.get(TAG, fleet.name if at_path else "") == fleet.name:

                def read(name: str = name) -> bool:
                    return bool(iam.get_role(RoleName=name))

                by = "tag of IAM" if TAG in tags else f"path {fleet.iam_path}"
                yield self._hit("role", name, arn, by), read

    def _task_definitions(self) -> Iterator[tuple[Leftover, Read]]:
        ecs = self._client("ecs")
        for each in _definitions(self._fleet, ecs, self.account_id):
            arn = each["taskDefinitionArn"]
            name = f"{each['family']}:{each['revision']} ({each['status']})"

            def read(arn: str = arn) -> bool:
                return _is_listed_definition(ecs, arn)

            yield self._hit("task definition", name, arn, "family"), read

    def _log_groups(self) -> Iterator[tuple[Leftover, Read]]:
        names, logs = self._fleet.names, self._client("logs")
        for prefix in (names.log_group, f"/aws/ecs/containerinsights/{names.cluster}/"):
            for each in _pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=prefix):
                name, arn = each["logGroupName"], each["arn"].removesuffix(":*")
                if not _lies_under(name, prefix) or not self._owns(
                    logs.list_tags_for_resource(resourceArn=arn).get("tags", {})
                ):
                    continue

                def read(name: str = name) -> bool:
                    found = _pages(logs, "describe_log_groups", "logGroups", logGroupNamePrefix=name)
                    return any(group["logGroupName"] == name for group in found)

                yield self._hit("log group", name, arn, "prefix"), read

    def _repositories(self) -> Iterator[tuple[Leftover, Read]]:
        names, ecr = self._fleet.names, self._client("ecr")
        for each in _pages(ecr, "describe_repositories", "repositories"):
            name, arn = each["repositoryName"], each["repositoryArn"]
            wanted = (names.collector_repository, names.application_repository)
            if not any(_lies_under(name, prefix) for prefix in wanted):
                continue
            if self._owns(_tags(ecr.list_tags_for_resource(resourceArn=arn)["tags"])):

                def read(name: str = name) -> bool:
                    return bool(ecr.describe_repositories(repositoryNames=[name])["repositories"])

                yield self._hit("repository", name, arn, "prefix"), read

    def _workspaces(self) -> Iterator[tuple[Leftover, Read]]:
        fleet, amp = self._fleet, self._client("amp")
        for each in _pages(amp, "list_workspaces", "workspaces"):
            id_, tags = each["workspaceId"], each.get("tags", {})
            if id_ == fleet.monitoring.workspace.id_:
                continue  # it was there before, and is never removed
            named = each.get("alias") == fleet.names.workspace_alias
            if tags.get(TAG, fleet.name if named else "") == fleet.name:

                def read(id_: str = id_) -> bool:
                    return bool(amp.describe_workspace(workspaceId=id_))

                by = "tag of AMP" if TAG in tags else "alias"
                yield self._hit("workspace", f"{each.get('alias', '')} {id_}".strip(), each["arn"], by), read

    def _grafanas(self) -> Iterator[tuple[Leftover, Read]]:
        grafana = self._client("grafana")
        for each in _pages(grafana, "list_workspaces", "workspaces"):
            id_, tags = each["id"], each.get("tags", {})
            named = each.get("name") == self._fleet.names.grafana
            if tags.get(TAG, self._fleet.name if named else "") == self._fleet.name:
                arn = (
                    f"arn:{grafana.meta.partition}:grafana:{self.region}:{self.account_id}:/workspaces/{id_}"
                )

                def read(id_: str = id_) -> bool:
                    return bool(grafana.describe_workspace(workspaceId=id_))

                yield self._hit("Grafana workspace", each.get("name", id_), arn, "name"), read

    def _owns(self, tags: Mapping[str, str]) -> bool:
        """What has the fleet's name counts as the fleet's unless it is marked as another fleet's."""
        return tags.get(TAG, self._fleet.name) == self._fleet.name


def _definitions(fleet: Fleet, ecs: Any, account_id: str) -> Iterator[dict[str, Any]]:
    """The fleet's task definitions, ACTIVE and INACTIVE; those being deleted are ended by AWS itself."""
    accounts = [account for account in fleet.workloads if account.account_id == account_id]
    families = dict.fromkeys(service.name for account in accounts for service in account.services)
    for family, status in product(families, ("ACTIVE", "INACTIVE")):
        for arn in _pages(
            ecs, "list_task_definitions", "taskDefinitionArns", familyPrefix=family, status=status
        ):
            found = ecs.describe_task_definition(taskDefinition=arn, include=["TAGS"])
            definition = dict(found["taskDefinition"])
            tags = {each["key"]: each["value"] for each in found.get("tags", ())}
            if definition["family"] == family and _is_fleets(fleet, definition, tags):
                yield definition


def _is_fleets(fleet: Fleet, definition: Mapping[str, Any], tags: Mapping[str, str]) -> bool:
    """By its tag or, without one, because its tasks are the fleet's role, or its collector knows the central account.

    The family alone does not tell: whoever adds the collector to a task definition may have had it before.
    """
    if TAG in tags:
        return tags[TAG] == fleet.name
    role = f":role{fleet.iam_path}{fleet.names.task_role}"
    if str(definition.get("taskRoleArn") or "").endswith(role):
        return True
    central = {"name": "CENTRAL_ACCOUNT_ID", "value": fleet.monitoring.account_id}
    return any(
        central in container.get("environment", ())
        for container in definition["containerDefinitions"]
        if container["name"] == COLLECTOR_CONTAINER
    )


def _is_listed_definition(ecs: Any, arn: str) -> bool:
    found = ecs.describe_task_definition(taskDefinition=arn)["taskDefinition"]
    return found["status"] in {"ACTIVE", "INACTIVE"}


_EC2_READERS: Final = {
    "vpc": ("describe_vpcs", "VpcIds", "Vpcs"),
    "subnet": ("describe_subnets", "SubnetIds", "Subnets"),
    "security-group": ("describe_security_groups", "GroupIds", "SecurityGroups"),
    "internet-gateway": ("describe_internet_gateways", "InternetGatewayIds", "InternetGateways"),
    "route-table": ("describe_route_tables", "RouteTableIds", "RouteTables"),
    "natgateway": ("describe_nat_gateways", "NatGatewayIds", "NatGateways"),
    "elastic-ip": ("describe_addresses", "AllocationIds", "Addresses"),
    "network-interface": ("describe_network_interfaces", "NetworkInterfaceIds", "NetworkInterfaces"),
    "vpc-endpoint": ("describe_vpc_endpoints", "VpcEndpointIds", "VpcEndpoints"),
    "vpc-peering-connection": (
        "describe_vpc_peering_connections",
        "VpcPeeringConnectionIds",
        "VpcPeeringConnections",
    ),
}
"""Resource type → the operation that describes it, its parameter for ids, and where the answer has them."""


def _is_in_ec2(ec2: Any, kind: str, id_: str) -> bool:
    """Whether it exists and has not ended; tags outlive what they are of."""
    if kind not in _EC2_READERS:
        filters = [{"Name": "resource-id", "Values": [id_]}, {"Name": "key", "Values": [TAG]}]
        return bool(ec2.describe_tags(Filters=filters)["Tags"])
    operation, parameter, key = _EC2_READERS[kind]
    for each in getattr(ec2, operation)(**{parameter: [id_]})[key]:
        state = each.get("State") or each.get("Status") or ""
        return str(state.get("Code", "") if isinstance(state, dict) else state) != "deleted"
    return False


def _any_active(found: Iterable[Mapping[str, Any]]) -> bool:
    return any(each["status"] != "INACTIVE" for each in found)


def _tagged_arns(tagging: Any, fleet_name: str) -> Iterator[str]:
    filters = [{"Key": TAG, "Values": [fleet_name]}]
    for each in _pages(tagging, "get_resources", "ResourceTagMappingList", TagFilters=filters):
        yield each["ResourceARN"]


def _lies_under(name: str, prefix: str) -> bool:
    """The name itself or one below it: `demo` and `demo/x` lie under `demo`, `demonstration` does not."""
    return name == prefix or name.startswith(f"{prefix.rstrip('/')}/")


def _pages(client: Any, operation: str, key: str, **parameters: Any) -> Iterator[Any]:
    for page in client.get_paginator(operation).paginate(**parameters):
        yield from page.get(key, [])


def _tags(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}
