"""What all templates are made of: policies, roles, outputs, tags, and their form as deterministic JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from troposphere import (  # type: ignore[import-untyped]
    Output,
    Parameter,
    Sub,
    Tags,
    Template,
    iam,
)

from trunkline.errors import FleetError
from trunkline.fleet.model import Fleet

MAX_TEMPLATE_BYTES: Final = 51_200
"""What CloudFormation takes in a request; a larger template would have to be in a bucket."""

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z0-9:]+)\}")

Json = dict[str, Any]


def new_template(fleet: Fleet, purpose: str) -> Template:
    return Template(Description=f"Trunkline fleet {fleet.name}: {purpose}.")


def add_outputs(template: Template, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        template.add_output(Output(name, Value=value))


def add_parameters(template: Template, types: Mapping[str, str]) -> None:
    """Declare the parameters that the template refers to, of these types."""
    used = _referred(json.loads(template.to_json()))
    for name, kind in types.items():
        if name in used:
            template.add_parameter(Parameter(name, Type=kind))


def rendered(fleet: Fleet, template: Template, where: str, remedy: str) -> str:
    """The template as JSON, with the fleet's tags on everything that takes tags.

    Raises `FleetError` when CloudFormation would not take it; `where` and `remedy` are for that.
    """
    for resource in template.resources.values():
        _tag(fleet, resource)
    text = str(template.to_json(indent=1, sort_keys=True))
    if len(text.encode()) > MAX_TEMPLATE_BYTES:
        text = str(template.to_json(indent=None, sort_keys=True, separators=(",", ":")))
    size_bytes = len(text.encode())
    if size_bytes > MAX_TEMPLATE_BYTES:
        raise FleetError(
            f"{where}: the template would have {size_bytes} bytes, and CloudFormation takes {MAX_TEMPLATE_BYTES}; "
            f"{remedy}"
        )
    return text


def parameters_of(template: str) -> frozenset[str]:
    """The names of the parameters that a rendered template takes."""
    return frozenset(json.loads(template).get("Parameters", {}))


def document(statements: Sequence[Json]) -> Json:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(actions: Sequence[str], resource: Any) -> Json:
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource}


def inline(name: str, *statements: Json) -> Any:
    """A policy inside its role: AWS::IAM::ManagedPolicy takes no tags and would escape the proof of clean-up."""
    return iam.Policy(PolicyName=name, PolicyDocument=document(statements))


def arn(rest: str) -> Any:
    """An ARN in whatever partition the stack is; `rest` is what follows `arn:aws:`."""
    return Sub(f"arn:${{AWS::Partition}}:{rest}")


def role(
    fleet: Fleet,
    title: str,
    name: str,
    *,
    description: str,
    trust: Json,
    policies: Iterable[Any],
    **more: Any,
) -> Any:
    """A role at the fleet's path, under its permissions boundary if there is one."""
    if fleet.permissions_boundary:
        more["PermissionsBoundary"] = _boundary(fleet.permissions_boundary)
    if inlined := list(policies):
        more["Policies"] = inlined
    return iam.Role(
        title,
        RoleName=name,
        Path=fleet.iam_path,
        Description=description,
        AssumeRolePolicyDocument=trust,
        **more,
    )


def _boundary(named: str) -> Any:
    if named.startswith("arn:"):
        return named
    return arn(f"iam::${{AWS::AccountId}}:policy/{named.removeprefix('/')}")


def _tag(fleet: Fleet, resource: Any) -> None:
    if "Tags" not in resource.props:
        return
    kind = resource.props["Tags"][0]
    if isinstance(kind, list):
        resource.Tags = [kind[0](Key=key, Value=value) for key, value in sorted(fleet.tags.items())]
    else:
        resource.Tags = Tags(fleet.tags)


def _referred(value: Any) -> set[str]:
    """Every name in a `Ref` or in the text of a `Fn::Sub`."""
    if isinstance(value, list):
        return set().union(*map(_referred, value))
    if not isinstance(value, dict):
        return set()
    found = {value["Ref"]} if isinstance(value.get("Ref"), str) else set()
    if isinstance(text := value.get("Fn::Sub"), str):
        found |= set(_VARIABLE.findall(text))
    return found.union(*map(_referred, value.values()))
