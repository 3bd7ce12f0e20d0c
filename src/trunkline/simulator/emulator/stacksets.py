"""StackSets, which ministack lacks: service-managed ones that make real stacks in the accounts of an organisation's units.

The units and their accounts are those of ministack's Organizations, in the account that asks. An operation is over
once all its stacks have settled; that is looked up when somebody asks. Left out: administration by roles of one's own
(SELF_MANAGED), automatic deployment to accounts that join later, drift, and more than one operation at a time.
"""

from __future__ import annotations

import contextvars
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final
from xml.sax.saxutils import escape

Params = Mapping[str, list[str]]
Answer = tuple[int, dict[str, str], bytes]

_SETTLED: Final = "_IN_PROGRESS"


@dataclass(slots=True)
class _Operation:
    action: str
    targets: list[tuple[str, str]]
    """Accounts and regions."""
    result: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why a target failed before it had a stack."""


@dataclass(slots=True)
class _StackSet:
    name: str
    id_: str
    arn: str
    parameters: dict[str, str]
    template: str
    tags: dict[str, str]
    instances: dict[tuple[str, str], str] = field(default_factory=dict)
    """Unit by account and region."""
    operations: dict[str, _Operation] = field(default_factory=dict)


class StackSets:
    """Answers the actions of CloudFormation that are about StackSets; `handlers` are ministack's of the others."""

    def __init__(
        self, responses: ModuleType, organizations: ModuleType, handlers: Mapping[str, Any], stacks: Any
    ) -> None:
        self._responses = responses
        self._organizations = organizations
        self._handlers = handlers
        self._stacks = stacks
        self._known: dict[tuple[str, str], dict[str, _StackSet]] = {}

    def actions(self) -> dict[str, Callable[[Params], Answer]]:
        return {
            name: self._guarded(name, getattr(self, f"_{_snake(name)}"))
            for name in (
                *("CreateStackSet", "DescribeStackSet", "UpdateStackSet", "DeleteStackSet", "ListStackSets"),
                *("CreateStackInstances", "DeleteStackInstances", "ListStackInstances"),
                *("DescribeStackSetOperation", "ListStackSetOperationResults"),
            )
        }

    def _guarded(self, name: str, work: Callable[[Params], str]) -> Callable[[Params], Answer]:
        def answer(params: Params) -> Answer:
            try:
                inner, status, root = f"<{name}Result>{work(params)}</{name}Result>", 200, f"{name}Response"
            except _Refused as refused:
                code, message = refused.args
                inner = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
                status, root = (404 if code.endswith("NotFoundException") else 400), "ErrorResponse"
            space = "http://cloudformation.amazonaws.com/doc/2010-05-15/"
            metadata = f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
            text = f'<?xml version="1.0"?><{root} xmlns="{space}">{inner}{metadata}</{root}>'
            return status, {"Content-Type": "application/xml"}, text.encode()

        return answer

    def _create_stack_set(self, params: Params) -> str:
        name = _one(params, "StackSetName")
        if name in self._mine():
            raise _Refused("NameAlreadyExistsException", f"StackSet {name} already exists")
        if _one(params, "PermissionModel") != "SERVICE_MANAGED":
            raise _Refused("ValidationError", "only SERVICE_MANAGED stack sets are simulated")
        account, region = self._place()
        id_ = f"{name}:{uuid.uuid4()}"
        arn = f"arn:aws:cloudformation:{region}:{account}:stackset/{id_}"
        template, pairs = _one(params, "TemplateBody"), dict(_pairs(params, "Parameters", "Parameter"))
        self._mine()[name] = _StackSet(name, id_, arn, pairs, template, dict(_pairs(params, "Tags", "")))
        return f"<StackSetId>{id_}</StackSetId>"

    def _describe_stack_set(self, params: Params) -> str:
        found = self._named(params)
        pairs = "".join(
            f"<member><ParameterKey>{key}</ParameterKey><ParameterValue>{escape(value)}</ParameterValue></member>"
            for key, value in found.parameters.items()
        )
        tags = "".join(
            f"<member><Key>{escape(key)}</Key><Value>{escape(value)}</Value></member>"
            for key, value in found.tags.items()
        )
        units = "".join(f"<member>{unit}</member>" for unit in sorted(set(found.instances.values())))
        return (
            f"<StackSet><StackSetName>{found.name}</StackSetName><StackSetId>{found.id_}</StackSetId>"
            f"<Status>ACTIVE</Status><TemplateBody>{escape(found.template)}</TemplateBody>"
            f"<Parameters>{pairs}</Parameters><Tags>{tags}</Tags><StackSetARN>{found.arn}</StackSetARN>"
            f"<PermissionModel>SERVICE_MANAGED</PermissionModel>"
            f"<OrganizationalUnitIds>{units}</OrganizationalUnitIds></StackSet>"
        )

    def _list_stack_sets(self, _: Params) -> str:
        members = "".join(
            f"<member><StackSetName>{each.name}</StackSetName><StackSetId>{each.id_}</StackSetId>"
            "<Status>ACTIVE</Status><PermissionModel>SERVICE_MANAGED</PermissionModel></member>"
            for each in self._mine().values()
        )
        return f"<Summaries>{members}</Summaries>"

    def _update_stack_set(self, params: Params) -> str:
        found = self._named(params)
        self._refuse_busy(found)
        found.template = _one(params, "TemplateBody") or found.template
        found.parameters = dict(_pairs(params, "Parameters", "Parameter"))
        found.tags = dict(_pairs(params, "Tags", ""))
        return self._operate(found, "UPDATE", list(found.instances), "UpdateStack")

    def _delete_stack_set(self, params: Params) -> str:
        found = self._named(params)
        if found.instances:
            raise _Refused("StackSetNotEmptyException", "StackSet is not empty")
        del self._mine()[found.name]
        return ""

    def _create_stack_instances(self, params: Params) -> str:
        found = self._named(params)
        self._refuse_busy(found)
        new = {}
        for unit in _list(params, "DeploymentTargets.OrganizationalUnitIds"):
            for account in self._accounts_of(unit):
                for region in _list(params, "Regions"):
                    new[account, region] = unit
        targets = [target for target in new if target not in found.instances]
        found.instances |= new
        return self._operate(found, "CREATE", targets, "CreateStack")

    def _delete_stack_instances(self, params: Params) -> str:
        found = self._named(params)
        self._refuse_busy(found)
        units, regions = _list(params, "DeploymentTargets.OrganizationalUnitIds"), _list(params, "Regions")
        targets = [
            target for target, unit in found.instances.items() if unit in units and target[1] in regions
        ]
        return self._operate(found, "DELETE", targets, "DeleteStack")

    def _list_stack_instances(self, params: Params) -> str:
        found = self._named(params)
        self._settle(found)
        members = "".join(
            f"<member><StackSetId>{found.id_}</StackSetId><Account>{account}</Account><Region>{region}</Region>"
            f"<OrganizationalUnitId>{unit}</OrganizationalUnitId><Status>{self._instance_status(found, (account, region))}"
            "</Status></member>"
            for (account, region), unit in sorted(found.instances.items())
        )
        return f"<Summaries>{members}</Summaries>"

    def _instance_status(self, found: _StackSet, target: tuple[str, str]) -> str:
        status, _ = self._stack(found, target)
        return "CURRENT" if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE") else "OUTDATED"

    def _describe_stack_set_operation(self, params: Params) -> str:
        found = self._named(params)
        id_ = _one(params, "OperationId")
        if id_ not in found.operations:
            raise _Refused("OperationNotFoundException", f"Operation {id_} not found")
        operation = found.operations[id_]
        states = {state for _, state, _ in self._results(found, operation)}
        status = "RUNNING" if "RUNNING" in states else "FAILED" if "FAILED" in states else "SUCCEEDED"
        if status != "RUNNING":
            self._settle(found)
        return (
            f"<StackSetOperation><OperationId>{id_}</OperationId><StackSetId>{found.id_}</StackSetId>"
            f"<Action>{operation.action}</Action><Status>{status}</Status></StackSetOperation>"
        )

    def _list_stack_set_operation_results(self, params: Params) -> str:
        found = self._named(params)
        operation = found.operations[_one(params, "OperationId")]
        members = "".join(
            f"<member><Account>{account}</Account><Region>{region}</Region><Status>{state}</Status>"
            f"<StatusReason>{escape(reason)}</StatusReason></member>"
            for (account, region), state, reason in self._results(found, operation)
        )
        return f"<Summaries>{members}</Summaries>"

    def _results(self, found: _StackSet, operation: _Operation) -> Iterator[tuple[tuple[str, str], str, str]]:
        good = {"DELETE": ("", "DELETE_COMPLETE")}.get(
            operation.action, ("CREATE_COMPLETE", "UPDATE_COMPLETE")
        )
        for target in operation.targets:
            status, reason = self._stack(found, target)
            if status.endswith(_SETTLED):
                yield target, "RUNNING", ""
            elif target in operation.result or status not in good:
                yield target, "FAILED", operation.result.get(target) or reason or status
            else:
                yield target, "SUCCEEDED", ""

    def _settle(self, found: _StackSet) -> None:
        """Forget the instances whose stacks are gone."""
        deleted = {
            target for each in found.operations.values() if each.action == "DELETE" for target in each.targets
        }
        for target in deleted & found.instances.keys():
            if self._stack(found, target)[0] in ("", "DELETE_COMPLETE"):
                del found.instances[target]

    def _refuse_busy(self, found: _StackSet) -> None:
        for operation in found.operations.values():
            if any(state == "RUNNING" for _, state, _ in self._results(found, operation)):
                raise _Refused("OperationInProgressException", "Another Operation on StackSet is in progress")

    def _operate(self, found: _StackSet, action: str, targets: list[tuple[str, str]], handler: str) -> str:
        operation = _Operation(action, targets)
        id_ = str(uuid.uuid4())
        found.operations[id_] = operation
        for target in targets:
            problem = self._in_place(target, lambda: self._change(found, handler))
            if problem:
                operation.result[target] = problem
        return f"<OperationId>{id_}</OperationId>"

    def _change(self, found: _StackSet, handler: str) -> str:
        params: dict[str, list[str]] = {"StackName": [self._stack_name(found)]}
        if handler != "DeleteStack":
            params |= {"TemplateBody": [found.template], "Capabilities.member.1": ["CAPABILITY_NAMED_IAM"]}
            for number, (key, value) in enumerate(found.parameters.items(), 1):
                params[f"Parameters.member.{number}.ParameterKey"] = [key]
                params[f"Parameters.member.{number}.ParameterValue"] = [value]
            for number, (key, value) in enumerate(found.tags.items(), 1):
                params[f"Tags.member.{number}.Key"], params[f"Tags.member.{number}.Value"] = [key], [value]
        status, _, body = self._handlers[handler](params)
        text = body.decode()
        if status < 300 or "No updates are to be performed" in text:
            return ""
        message: str = text.partition("<Message>")[2].partition("</Message>")[0]
        return message or str(text)

    def _stack(self, found: _StackSet, target: tuple[str, str]) -> tuple[str, str]:
        def look() -> tuple[str, str]:
            stack = self._stacks.get(self._stack_name(found))
            return (stack["StackStatus"], stack.get("StackStatusReason", "")) if stack else ("", "")

        found_there: tuple[str, str] = self._in_place(target, look)
        return found_there

    @staticmethod
    def _stack_name(found: _StackSet) -> str:
        return f"StackSet-{found.name}-{found.id_.rpartition(':')[2]}"

    def _in_place(self, target: tuple[str, str], work: Callable[[], Any]) -> Any:
        """Do the work as the account in the region; what it schedules stays there."""

        def do() -> Any:
            self._responses.set_request_account_id(target[0])
            self._responses.set_request_region(target[1])
            return work()

        return contextvars.copy_context().run(do)

    def _accounts_of(self, unit: str) -> list[str]:
        """The accounts in a unit and the units below it."""
        organizations = self._organizations
        below = [each["Id"] for each in organizations._ous.values() if each.get("_ParentId") == unit]  # noqa: SLF001
        own = [each["Id"] for each in organizations._accounts.values() if each.get("_ParentId") == unit]  # noqa: SLF001
        return [*own, *(account for each in below for account in self._accounts_of(each))]

    def _named(self, params: Params) -> _StackSet:
        name = _one(params, "StackSetName")
        found = self._mine().get(name.partition(":")[0])
        if found is None:
            raise _Refused("StackSetNotFoundException", f"StackSet {name} not found")
        return found

    def _mine(self) -> dict[str, _StackSet]:
        return self._known.setdefault(self._place(), {})

    def _place(self) -> tuple[str, str]:
        return self._responses.get_account_id(), self._responses.get_region()


class _Refused(Exception):  # noqa: N818 (it only carries code and message to where they are answered)
    pass


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _one(params: Params, name: str) -> str:
    return str((params.get(name) or [""])[0])


def _list(params: Params, name: str) -> list[str]:
    found, number = [], 1
    while value := _one(params, f"{name}.member.{number}"):
        found.append(value)
        number += 1
    return found


def _pairs(params: Params, name: str, prefix: str) -> Iterator[tuple[str, str]]:
    number = 1
    while key := _one(params, f"{name}.member.{number}.{prefix}Key"):
        yield key, _one(params, f"{name}.member.{number}.{prefix}Value")
        number += 1
