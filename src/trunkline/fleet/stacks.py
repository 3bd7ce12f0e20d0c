"""One CloudFormation stack: brought to what its template says through a change set, or deleted.

Whoever calls waits, and is told what happens meanwhile, in a few words. What AWS answers to a request it refuses
outright (no permission, a parameter missing) is raised as it is, a botocore `ClientError`.

A stack may be found in any state: one that we left while AWS was busy with it is waited for, a rollback that
got stuck is continued, and a stack whose creation failed is deleted and made anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from trunkline.errors import FleetError
from trunkline.fleet.changes import ChangeSet, Stack, create_change_set, delete_abandoned, is_as_wanted
from trunkline.fleet.drift import find_drift
from trunkline.fleet.watch import TOKEN_PREFIX, Follower, Watch, describe, is_in_progress, new_token, token_of

# Created, rolled back and of no more use: CloudFormation only lets such a stack be deleted.
DEAD: Final = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
STUCK: Final = "UPDATE_ROLLBACK_FAILED"
_ABSENT: Final = ("", "REVIEW_IN_PROGRESS", "DELETE_COMPLETE")
_GONE: Final = ("", "DELETE_COMPLETE")
_DONE: Final = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE")

Change = Literal["created", "updated", "unchanged"]


@dataclass(frozen=True, slots=True)
class Deployed:
    """What became of a stack, and its outputs."""

    change: Change
    outputs: Mapping[str, str] = field(default_factory=dict)


def deploy_stack(cloudformation: Any, stack: Stack, follower: Follower, *, repair: bool = False) -> Deployed:
    """Create the stack, or bring it up to date; with `repair` what somebody else changed is put back, too.

    Raises `FleetError` with the first resource that failed and AWS's words about it, after the rollback.
    """
    found = _repaired(cloudformation, stack.name, follower)
    if found and found["StackStatus"] in DEAD:
        delete_stack(cloudformation, stack.name, follower)
        found = None
    if found is None or found["StackStatus"] in _ABSENT:
        return _create(cloudformation, stack, follower)
    return _update(cloudformation, stack, found, follower, repair=repair)


def _create(cloudformation: Any, stack: Stack, follower: Follower) -> Deployed:
    if stack.adopt:
        follower.on_text("taking up what exists")
        made = create_change_set(cloudformation, _only_adopted(stack), "IMPORT", follower.halt)
        if made:
            _execute(cloudformation, stack.name, made, follower)
        kind: Literal["CREATE", "UPDATE"] = "UPDATE"
    else:
        kind = "CREATE"
    change_set = create_change_set(cloudformation, stack, kind, follower.halt)
    if change_set is None:
        return Deployed("created", stack_outputs(cloudformation, stack.name))
    follower.on_text("creating")
    return Deployed("created", _execute(cloudformation, stack.name, change_set, follower))


def _only_adopted(stack: Stack) -> Stack:
    """The stack with nothing but what it takes up: an import allows for no other change, not even outputs or tags."""
    resources = json.loads(stack.template)["Resources"]
    template = {"Resources": {name: resources[name] for name in stack.adopt}}
    return replace(stack, template=json.dumps(template), parameters={}, tags={})


def _update(
    cloudformation: Any, stack: Stack, found: Mapping[str, Any], follower: Follower, *, repair: bool
) -> Deployed:
    # Looked for first, since a drift-aware change set lists changes where there are none
    # (github.com/aws-cloudformation/cloudformation-coverage-roadmap/issues/2559).
    drifted = repair and bool(find_drift(cloudformation, found, follower.halt))
    if not drifted and found["StackStatus"] in _DONE and is_as_wanted(cloudformation, found, stack):
        delete_abandoned(cloudformation, stack.name)
        follower.on_text("unchanged")
        return Deployed("unchanged", _outputs(found))
    change_set = create_change_set(cloudformation, stack, "UPDATE", follower.halt, repair=drifted)
    if change_set is None:
        delete_abandoned(cloudformation, stack.name)
        follower.on_text("unchanged")
        return Deployed("unchanged", _outputs(found))
    follower.on_text("updating")
    for change in change_set.changes:
        if change.drift:
            follower.on_text(
                f"putting back {change.logical_id} ({change.type_}), {change.drift} by somebody else"
            )
    return Deployed("updated", _execute(cloudformation, stack.name, change_set, follower))


def _execute(cloudformation: Any, name: str, change_set: ChangeSet, follower: Follower) -> Mapping[str, str]:
    """Make the changes, and return the stack's outputs."""
    token = new_token()
    cloudformation.execute_change_set(ChangeSetName=change_set.arn, ClientRequestToken=token)
    watch = Watch(cloudformation, change_set.stack_id, token, follower)
    found = watch.until_settled()
    if found is None or found["StackStatus"] not in _DONE:
        status = found["StackStatus"] if found else "deleted"
        raise FleetError(f"stack {name} was rolled back ({status}): {watch.first_failure()}")
    return _outputs(found)


def delete_stack(cloudformation: Any, name: str, follower: Follower) -> bool:
    """Delete the stack with what it does not retain; False when there is none, which is no error.

    Raises `FleetError` with the first resource that could not be deleted.
    """
    found = _settled(cloudformation, name, follower)
    if found is None or found["StackStatus"] in _GONE:
        follower.on_text("does not exist")
        return False
    follower.on_text("deleting")
    token = new_token()
    cloudformation.delete_stack(StackName=found["StackId"], ClientRequestToken=token)
    if found["StackStatus"] != "REVIEW_IN_PROGRESS":  # an empty stack goes at once and without events
        watch = Watch(cloudformation, found["StackId"], token, follower)
        left = watch.until_settled()
        if left and left["StackStatus"] not in _GONE:
            raise FleetError(f"stack {name} could not be deleted: {watch.first_failure()}")
    follower.on_text("deleted")
    return True


def stack_status(cloudformation: Any, name: str) -> str:
    """The stack's status, such as `CREATE_COMPLETE`, or an empty string when there is no such stack."""
    found = describe(cloudformation, name)
    return str(found["StackStatus"]) if found else ""


def stack_outputs(cloudformation: Any, name: str) -> dict[str, str]:
    """The stack's outputs. Raises `FleetError` when there is no such stack."""
    found = describe(cloudformation, name)
    if found is None:
        raise FleetError(f"stack {name} does not exist; deploy the fleet first")
    return _outputs(found)


def _outputs(found: Mapping[str, Any]) -> dict[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


def is_ours(token: str) -> bool:
    """Whether a change with this client request token was begun by us."""
    return token.startswith(TOKEN_PREFIX)


def busy_text(name: str, status: str) -> str:
    return f"stack {name} is being changed by somebody else ({status}); repeat when it is done"


def _settled(cloudformation: Any, name: str, follower: Follower) -> dict[str, Any] | None:
    """The stack once nobody changes it any more. Raises `FleetError` when somebody else does."""
    found = describe(cloudformation, name)
    if found is None or not is_in_progress(found["StackStatus"]):
        return found
    stack_id, status = found["StackId"], found["StackStatus"]
    token = token_of(cloudformation, stack_id)
    if not is_ours(token):
        raise FleetError(busy_text(name, status))
    follower.on_text(f"waiting for what an earlier run began ({status.lower().replace('_', ' ')})")
    settled = Watch(cloudformation, stack_id, token, follower).until_settled()
    return None if settled is None or settled["StackStatus"] in _GONE else settled


def _repaired(cloudformation: Any, name: str, follower: Follower) -> dict[str, Any] | None:
    """The stack in a state that can be updated, or dead, or None."""
    found = _settled(cloudformation, name, follower)
    if found is None or found["StackStatus"] != STUCK:
        return found
    follower.on_text("continuing the rollback that got stuck")
    token = new_token()
    cloudformation.continue_update_rollback(StackName=found["StackId"], ClientRequestToken=token)
    watch = Watch(cloudformation, found["StackId"], token, follower)
    settled = watch.until_settled()
    if settled and settled["StackStatus"] == STUCK:
        raise FleetError(
            f"stack {name} is stuck in {STUCK}: {watch.first_failure()}; repair what that names, or give it up "
            f"with: aws cloudformation continue-update-rollback --stack-name {name} --resources-to-skip …"
        )
    return settled
