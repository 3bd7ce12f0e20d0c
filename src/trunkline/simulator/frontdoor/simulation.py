"""`iam:SimulatePrincipalPolicy`, answered by the evaluator that decides for real.

Source: the IAM API reference. Resource policies and policies given with the call are not weighed.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

from trunkline.aws.iam import AWS_MANAGED_POLICIES, AccessRequest, Decision, Policies, Principal, evaluate
from trunkline.simulator.frontdoor.calls import Answer, Call
from trunkline.simulator.frontdoor.errors import AwsError
from trunkline.simulator.frontdoor.roles import Roles

_ADMINISTRATOR: Final = Policies(
    identity=(AWS_MANAGED_POLICIES["arn:aws:iam::aws:policy/AdministratorAccess"],)
)


class Simulation:
    """Answers the one operation; the rest of IAM is the emulator's."""

    def __init__(self, roles: Roles) -> None:
        self._roles = roles

    async def handle(self, call: Call) -> Answer | None:
        """Answer `call` if it is a simulation; raises AwsError for a principal that does not exist."""
        if call.operation != "SimulatePrincipalPolicy":
            return None
        source = str(call.parameters.get("PolicySourceArn", ""))
        policies = await self._policies(source)
        principal = Principal(call.account, source, source)
        results = "".join(
            _result(
                action, resource, evaluate(AccessRequest(principal, action, resource, call.account), policies)
            )
            for action in _members(call.parameters, "ActionNames")
            for resource in list(_members(call.parameters, "ResourceArns")) or ["*"]
        )
        return _answer(results)

    async def _policies(self, source: str) -> Policies:
        if source.endswith(":user/Administrator"):
            return _ADMINISTRATOR
        role = await self._roles.find(source)
        if role is None:
            raise AwsError("NoSuchEntity", f"The entity {source} cannot be found.", 404)
        return Policies(identity=role.policies, boundary=role.boundary)


def _members(parameters: Mapping[str, Any], name: str) -> Iterator[str]:
    for key, value in parameters.items():
        if re.fullmatch(rf"{name}\.member\.\d+", key):
            yield str(value)


def _result(action: str, resource: str, decision: Decision) -> str:
    outcome = "allowed" if decision.allowed else "explicitDeny" if decision.explicit else "implicitDeny"
    return (
        f"<member><EvalActionName>{escape(action)}</EvalActionName>"
        f"<EvalResourceName>{escape(resource)}</EvalResourceName><EvalDecision>{outcome}</EvalDecision></member>"
    )


def _answer(results: str) -> Answer:
    request_id = str(uuid.uuid4())
    body = (
        '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">'
        f"<SimulatePrincipalPolicyResult><EvaluationResults>{results}</EvaluationResults>"
        "<IsTruncated>false</IsTruncated></SimulatePrincipalPolicyResult>"
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>"
        "</SimulatePrincipalPolicyResponse>"
    )
    return Answer(200, body.encode(), {"Content-Type": "text/xml", "x-amzn-RequestId": request_id})
