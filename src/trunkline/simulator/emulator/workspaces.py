"""The resource type AWS::APS::Workspace of CloudFormation."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from trunkline.simulator.emulator.door import InternalDoor
from trunkline.simulator.frontdoor import events

_log = logging.getLogger(__name__)

_ACTIVE_S: Final = 30.0
_POLL_S: Final = 0.02


class Workspaces:
    """`AWS::APS::Workspace`: made, changed and removed through AMP's own API at the front door.

    Source: the resource's schema. Ref is the ARN; KmsKeyArn replaces; attributes are Arn, WorkspaceId and
    PrometheusEndpoint.
    """

    def __init__(self, front_door: InternalDoor, responses: ModuleType) -> None:
        self._front_door = front_door
        self._responses = responses

    def handlers(self) -> dict[str, Callable[..., Any]]:
        """As ministack's table of types wants them."""
        return {"create": self.create, "update": self.update, "delete": self.delete}

    def create(self, _logical_id: str, props: dict[str, Any], stack: str) -> tuple[str, dict[str, str]]:
        """Create the workspace; answers its ARN and attributes."""
        asked = {"alias": props.get("Alias"), "kmsKeyArn": props.get("KmsKeyArn"), "tags": _tags(props)}
        made = self._aps("POST", "/workspaces", {name: value for name, value in asked.items() if value})
        try:
            self._configure(made["workspaceId"], props)
            return self._described(made["workspaceId"])
        except ValueError:
            _log.warning("workspace %s of stack %s is removed again", made["workspaceId"], stack)
            self.delete(made["arn"], props)
            raise

    def update(
        self, physical_id: str, old: dict[str, Any], new: dict[str, Any], stack: str
    ) -> tuple[str, dict[str, str]]:
        """Bring the workspace to its new properties, or replace it when its key changes."""
        if old.get("KmsKeyArn") != new.get("KmsKeyArn"):
            made = self.create("", new, stack)
            self.delete(physical_id, old)
            return made
        workspace = _id(physical_id)
        if old.get("Alias") != new.get("Alias"):
            self._aps("POST", f"/workspaces/{workspace}/alias", {"alias": new.get("Alias") or ""})
        if old.get("WorkspaceConfiguration") != new.get("WorkspaceConfiguration"):
            self._configure(workspace, new)
        if _tags(old) != _tags(new):
            self._aps(
                "POST", f"/tags/{physical_id.replace(':', '%3A').replace('/', '%2F')}", {"tags": _tags(new)}
            )
        return self._described(workspace)

    def delete(self, physical_id: str, _props: dict[str, Any]) -> None:
        """Remove the workspace; one that is gone already is as good."""
        try:
            self._aps("DELETE", f"/workspaces/{_id(physical_id)}")
        except ValueError as error:
            if not str(error).startswith("404"):
                raise

    def take_up(self, identifier: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """A workspace that exists becomes a stack's; answers its ARN and attributes."""
        return self._described(_id(identifier["Arn"]))

    def import_problem(self, arn: str) -> str | None:
        """CloudFormation's reason for not taking up a workspace, or None."""
        try:
            self._aps("GET", f"/workspaces/{_id(arn)}")
        except ValueError:
            return f"Resource of type 'AWS::APS::Workspace' with identifier '{arn}' was not found."
        return None

    def read(self, physical_id: str, _props: Mapping[str, Any]) -> dict[str, Any] | None:
        """The properties it has now, for the detection of drift; None when it is gone."""
        try:
            found = self._aps("GET", f"/workspaces/{_id(physical_id)}")["workspace"]
        except ValueError:
            return None
        return {"Alias": found.get("alias", "")}

    def _configure(self, workspace: str, props: Mapping[str, Any]) -> None:
        if configuration := props.get("WorkspaceConfiguration"):
            self._aps("PATCH", f"/workspaces/{workspace}/configuration", configuration_fields(configuration))

    def _described(self, workspace: str) -> tuple[str, dict[str, str]]:
        deadline = time.monotonic() + _ACTIVE_S
        while True:
            found = self._aps("GET", f"/workspaces/{workspace}")["workspace"]
            status = found["status"]["statusCode"]
            if status == "ACTIVE":
                endpoint = str(found.get("prometheusEndpoint", ""))
                attributes = {"Arn": found["arn"], "WorkspaceId": workspace, "PrometheusEndpoint": endpoint}
                return str(found["arn"]), attributes
            if status == "CREATION_FAILED" or time.monotonic() > deadline:
                raise ValueError(f"workspace {workspace} is {status}")
            time.sleep(_POLL_S)

    def _aps(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        place = {
            events.ACCOUNT_HEADER: self._responses.get_account_id(),
            events.REGION_HEADER: self._responses.get_region(),
        }
        return self._front_door.call(method, path, document, place)


def configuration_fields(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """`WorkspaceConfiguration` as AMP's API has it: one name differs, and label sets are maps there."""
    numbers = ("RetentionPeriodInDays", "OutOfOrderTimeWindowInSeconds", "RuleQueryOffsetInSeconds")
    fields: dict[str, Any] = {
        name[:1].lower() + name[1:]: int(configuration[name]) for name in numbers if name in configuration
    }
    if "LimitsPerLabelSets" in configuration:
        fields["limitsPerLabelSet"] = [
            {
                "labelSet": {label["Name"]: label["Value"] for label in item["LabelSet"]},
                "limits": {"maxSeries": int(item["Limits"]["MaxSeries"])}
                if "MaxSeries" in item["Limits"]
                else {},
            }
            for item in configuration["LimitsPerLabelSets"]
        ]
    return fields


def _id(arn: str) -> str:
    return arn.rpartition("/")[2]


def _tags(props: Mapping[str, Any]) -> dict[str, str]:
    # What CloudFormation adds itself, the API refuses from others.
    tags = {tag["Key"]: tag["Value"] for tag in props.get("Tags", [])}
    return {key: value for key, value in tags.items() if not key.startswith("aws:")}
