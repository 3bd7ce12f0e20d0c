"""Stacks that have the names of the fleet's: whose they are, and whether somebody is busy with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from trunkline.fleet.lists import tags_of
from trunkline.fleet.preflight.look import Look
from trunkline.fleet.stacks import is_ours
from trunkline.fleet.watch import token_of


def check_stacks(look: Look, region: str, *names: str) -> None:
    """Whether the names are free, or of stacks that a deployment may take up."""
    cloudformation = look.client("cloudformation", region)
    for name in names:
        what = f"stack {name}"
        with look.checking(what, region):
            try:
                [found] = cloudformation.describe_stacks(StackName=name)["Stacks"]
            except ClientError as error:
                if "does not exist" not in str(error):
                    raise
                look.say("ok", region, what)
                continue
            _judge(look, cloudformation, what, region, found)


def _judge(look: Look, cloudformation: Any, what: str, region: str, found: Mapping[str, Any]) -> None:
    status = found["StackStatus"]
    if status == "REVIEW_IN_PROGRESS":
        look.say("note", region, what, "it was left in review; deploying takes it up")
    elif status.endswith("_IN_PROGRESS") and is_ours(token_of(cloudformation, found["StackId"])):
        look.say("note", region, what, f"an earlier run left it in {status}; deploying waits for it first")
    elif status.endswith("_IN_PROGRESS"):
        look.say("error", region, what, f"somebody is changing it ({status})", "wait until that is done")
    else:
        remedy = "choose another name for this fleet: name"
        look.owned(what, region, tags_of(found), found["StackId"], remedy)
