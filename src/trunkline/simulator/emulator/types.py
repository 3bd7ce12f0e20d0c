"""Resource types that ministack's CloudFormation does not have, in the form of its table of types.

The rules of a workspace and a Grafana workspace are only kept: nobody evaluates the one or logs in to the other (grafana.py has its API).
What is of EC2 becomes a record of ministack's EC2, so that its API shows it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

Made = tuple[str, dict[str, Any]]
Handler = dict[str, Callable[..., Any]]

_ID: Final = re.compile(r"<(allocationId|natGatewayId|publicIp)>([^<]+)<")


class Kept:
    """A type whose resources are only remembered, by account and region, under a name of which there is one."""

    def __init__(
        self, responses: ModuleType, make: Callable[[str, str, dict[str, Any]], Made], name: str
    ) -> None:
        self.known: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._responses = responses
        self._make = make
        self._name = name

    def handlers(self) -> Handler:
        return {"create": self.create, "update": self.update, "delete": self.delete}

    def create(self, _logical_id: str, props: dict[str, Any], _stack: str) -> Made:
        account, region = self._place()
        physical_id, attributes = self._make(account, region, props)
        if self._name and (account, region, physical_id) in self.known:
            raise ValueError(f"{props[self._name]} already exists")
        self.known[account, region, physical_id] = props
        return physical_id, attributes

    def update(self, physical_id: str, old: dict[str, Any], new: dict[str, Any], *_: Any) -> Made:
        account, region = self._place()
        made, attributes = self._make(account, region, new)
        if self._name and made != physical_id:
            self.delete(physical_id, old)
            physical_id = made
        self.known[account, region, physical_id] = new
        return physical_id, attributes

    def delete(self, physical_id: str, _props: dict[str, Any]) -> None:
        self.known.pop((*self._place(), physical_id), None)

    def read(self, physical_id: str, _props: Mapping[str, Any]) -> dict[str, Any] | None:
        return self.known.get((*self._place(), physical_id))

    def _place(self) -> tuple[str, str]:
        return self._responses.get_account_id(), self._responses.get_region()


def _rules(account: str, region: str, props: dict[str, Any]) -> Made:
    workspace = str(props["Workspace"]).rpartition("/")[2]
    arn = f"arn:aws:aps:{region}:{account}:rulegroupsnamespace/{workspace}/{props['Name']}"
    return arn, {"Arn": arn}


def _grafana(account: str, region: str, props: dict[str, Any]) -> Made:
    seed = f"{account} {region} {props.get('Name', '')}"
    name = f"g-{uuid.uuid5(uuid.NAMESPACE_URL, seed).hex[:10]}"
    return name, {
        "Id": name,
        "Endpoint": f"{name}.grafana-workspace.{region}.amazonaws.com",
        "GrafanaVersion": str(props.get("GrafanaVersion", "10.4")),
        "Status": "ACTIVE",
    }


class OfEc2:
    """A type of EC2, made and deleted through ministack's functions for the API."""

    def __init__(self, ec2: ModuleType, kind: str, create: str, delete: str, id_name: str) -> None:
        self._ec2 = ec2
        self._kind = kind
        self._create = create
        self._delete = delete
        self._id_name = id_name

    def handlers(self) -> Handler:
        return {"create": self.create, "update": self.update, "delete": self.delete}

    def create(self, _logical_id: str, props: dict[str, Any], _stack: str) -> Made:
        parameters = {
            name: [str(value)] for name, value in props.items() if not isinstance(value, list | dict)
        }
        found: dict[str, str] = dict(_ID.findall(self._call(self._create, parameters)))
        tags = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in props.get("Tags", [])]
        physical_id = found[self._id_name[:1].lower() + self._id_name[1:]]
        self._ec2._tags[physical_id] = tags  # noqa: SLF001 (where EC2 keeps them)
        attributes: dict[str, Any] = {name[:1].upper() + name[1:]: value for name, value in found.items()}
        # Ref of an address is its public one (AWS::EC2::EIP, "Return values").
        return str(found.get("publicIp", physical_id)), attributes

    def update(self, physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str, *_: Any) -> Made:
        made = self.create("", new, stack)
        self.delete(physical_id, old)
        return made

    def delete(self, physical_id: str, _props: dict[str, Any]) -> None:
        if self._kind == "EIP":
            records = self._ec2._addresses.items()  # noqa: SLF001
            physical_id = next(
                (name for name, each in records if each["PublicIp"] == physical_id), physical_id
            )
        self._call(self._delete, {self._id_name: [physical_id]})
        self._ec2._tags.pop(physical_id, None)  # noqa: SLF001

    def _call(self, name: str, parameters: Mapping[str, Any]) -> str:
        status, _, body = getattr(self._ec2, name)(dict(parameters))
        text = body.decode() if isinstance(body, bytes) else str(body)
        if status >= 300 and "NotFound" not in text:
            raise ValueError(re.sub(r"<[^>]+>|\s+", " ", text).strip())
        return text


def more_types(ec2: ModuleType, responses: ModuleType) -> tuple[dict[str, Handler], dict[str, Kept]]:
    """The types by their names, and those among them that are only kept."""
    kept = {
        "AWS::APS::RuleGroupsNamespace": Kept(responses, _rules, "Name"),
        "AWS::Grafana::Workspace": Kept(responses, _grafana, "Name"),
    }
    of_ec2 = {
        "EIP": OfEc2(ec2, "EIP", "_allocate_address", "_release_address", "AllocationId"),
        "NatGateway": OfEc2(ec2, "NatGateway", "_create_nat_gateway", "_delete_nat_gateway", "NatGatewayId"),
    }
    types = {name: each.handlers() for name, each in kept.items()}
    types |= {f"AWS::EC2::{name}": each.handlers() for name, each in of_ec2.items()}
    return types, kept
