"""VPC peering in ministack's CloudFormation, and the names of the endpoints that are reached by it.

A connection becomes a record of ministack's EC2, which shows it on both sides. Nothing is routed: tasks are processes,
whose requests to AWS's names the simulator leads. Sources: `AWS::EC2::VPCPeeringConnection`, `AWS::EC2::VPCEndpoint`
(return values), and AWS's words for a connection that fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from types import ModuleType
from typing import Any, Final

Made = tuple[str, dict[str, Any]]
Handler = dict[str, Callable[..., Any]]

TYPE: Final = "AWS::EC2::VPCPeeringConnection"
_ID: Final = re.compile(r"<vpcPeeringConnectionId>([^<]+)<")
_FAILED: Final = "VpcPeeringConnection {} failed to stabilize: {}"


class PeeringConnections:
    """The resource type: asked for here, and accepted over there by the role that is named."""

    def __init__(self, ec2: ModuleType, iam: ModuleType, responses: ModuleType) -> None:
        self._ec2 = ec2
        self._iam = iam
        self._responses = responses

    def handlers(self) -> Handler:
        return {"create": self.create, "update": self.update, "delete": self.delete}

    def create(self, logical_id: str, props: dict[str, Any], _stack: str) -> Made:
        account, region = self._responses.get_account_id(), self._responses.get_region()
        owner = str(props.get("PeerOwnerId") or account)
        self._check(logical_id, props, owner, str(props.get("PeerRegion") or region))
        names = ("VpcId", "PeerVpcId", "PeerOwnerId", "PeerRegion")
        answer = self._call("_create_vpc_peering_connection", {name: [str(props[name])] for name in names})
        found = _ID.search(answer)
        assert found is not None
        self._call("_accept_vpc_peering_connection", {"VpcPeeringConnectionId": [found[1]]})
        self._tag(found[1], props)
        return found[1], {"Id": found[1]}

    def update(self, physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str, *_: Any) -> Made:
        if {**old, "Tags": None} == {**new, "Tags": None}:
            self._tag(physical_id, new)
            return physical_id, {"Id": physical_id}
        made = self.create(physical_id, new, stack)
        self.delete(physical_id, old)
        return made

    def delete(self, physical_id: str, _props: dict[str, Any]) -> None:
        if physical_id in self._ec2._vpc_peering:  # noqa: SLF001 (ministack has no public way)
            self._call("_delete_vpc_peering_connection", {"VpcPeeringConnectionId": [physical_id]})
        self._ec2._tags.pop(physical_id, None)  # noqa: SLF001 (where EC2 keeps them)

    def _check(self, logical_id: str, props: Mapping[str, Any], owner: str, region: str) -> None:
        """Raises ValueError for what AWS would let fail."""
        vpcs = self._ec2._vpcs  # noqa: SLF001
        ours = vpcs.get(props["VpcId"])
        theirs = vpcs.get_scoped(owner, region, props["PeerVpcId"])
        if ours is None or theirs is None:
            why = f"the VPC {props['VpcId'] if ours is None else props['PeerVpcId']} does not exist"
            raise ValueError(_FAILED.format(logical_id, why))
        if ip_network(ours["CidrBlock"]).overlaps(ip_network(theirs["CidrBlock"])):
            raise ValueError(_FAILED.format(logical_id, "the VPCs have overlapping CIDR blocks"))
        role = str(props.get("PeerRoleArn", "")).rpartition("/")[2]
        is_elsewhere = owner != self._responses.get_account_id()
        if is_elsewhere and self._iam._roles.get_scoped(owner, region, role) is None:  # noqa: SLF001
            why = f"{props.get('PeerRoleArn') or 'no role'} cannot be assumed to accept it"
            raise ValueError(_FAILED.format(logical_id, why))

    def _tag(self, physical_id: str, props: Mapping[str, Any]) -> None:
        tags = [{"Key": tag["Key"], "Value": tag["Value"]} for tag in props.get("Tags", [])]
        self._ec2._tags[physical_id] = tags  # noqa: SLF001

    def _call(self, name: str, parameters: Mapping[str, Any]) -> str:
        status, _, body = getattr(self._ec2, name)(dict(parameters))
        text = body.decode() if isinstance(body, bytes) else str(body)
        if status >= 300:
            raise ValueError(re.sub(r"<[^>]+>|\s+", " ", text).strip())
        return text


def name_endpoints(handler: Handler) -> None:
    """Have interface endpoints say their names; `handler` is that of `AWS::EC2::VPCEndpoint`."""

    def naming(original: Callable[..., Made], *, props_at: int) -> Callable[..., Made]:
        def named(*arguments: Any) -> Made:
            physical_id, attributes = original(*arguments)
            return physical_id, attributes | {"DnsEntries": _names(physical_id, arguments[props_at])}

        return named

    handler["create"] = naming(handler["create"], props_at=1)
    handler["update"] = naming(handler["update"], props_at=2)


def _names(endpoint_id: str, props: Mapping[str, Any]) -> list[str]:
    """The regional one, and the one AWS's own clients use; real ones have zonal names between them."""
    if props.get("VpcEndpointType") != "Interface":
        return []
    _, _, region, service = str(props["ServiceName"]).split(".", 3)
    host = ".".join(reversed(service.split(".")))
    own = f"{endpoint_id}-{endpoint_id[-8:]}.{host}.{region}.vpce.amazonaws.com"
    return [f"Z0000000000000000000:{own}", f"Z1111111111111111111:{host}.{region}.amazonaws.com"]
