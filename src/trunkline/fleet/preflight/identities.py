"""IAM of an account: the permissions of whoever deploys, the fleet's roles and their boundary."""

from __future__ import annotations

from collections.abc import Sequence

from trunkline.errors import FleetError
from trunkline.fleet.lists import pages, tags_of
from trunkline.fleet.preflight.look import Look
from trunkline.fleet.preflight.quotas import quota
from trunkline.fleet.sessions import role_arn
from trunkline.fleet.templates import trust_size


def check_permissions(look: Look, actions: Sequence[str]) -> None:
    """By IAM's own simulation, which knows no service control policies of other kinds than it is told of."""
    what = "permissions"
    with look.checking(what):
        caller = look.client("sts").get_caller_identity()["Arn"]
        if caller.endswith(":root"):
            look.say("ok", "", what)
            return
        asked = {"PolicySourceArn": _source(look, caller), "ActionNames": list(actions)}
        results = pages(look.client("iam"), "simulate_principal_policy", "EvaluationResults", **asked)
        denied = [each["EvalActionName"] for each in results if each["EvalDecision"] != "allowed"]
        if denied:
            why = f"{caller} may not do {', '.join(denied)}"
            look.say("warning", "", what, why, "allow it, unless conditions of its policies do")
        else:
            look.say("ok", "", what)


def check_boundary(look: Look) -> None:
    """Whether the policy that bounds the fleet's roles is there."""
    boundary = look.fleet.permissions_boundary
    if not boundary:
        return
    what, region = "permissions boundary", look.regions[0]
    arn = boundary if boundary.startswith("arn:") else _policy_arn(look.account_id, boundary, region)
    with look.checking(what):
        iam = look.client("iam")
        try:
            iam.get_policy(PolicyArn=arn)
            look.say("ok", "", what)
        except iam.exceptions.NoSuchEntityException:
            why = f"there is no policy {arn}"
            look.say("error", "", what, why, "create it, or correct permissions_boundary")


def check_roles(look: Look, *names: str) -> None:
    """Whether the names of roles are free, or the fleet's own."""
    iam = look.client("iam")
    for name in names:
        with look.checking(f"role {name}"):
            try:
                found = iam.get_role(RoleName=name)["Role"]
            except iam.exceptions.NoSuchEntityException:
                look.say("ok", "", f"role {name}")
                continue
            look.owned(f"role {name}", "", tags_of(found), found["Arn"])


def check_trust(look: Look) -> None:
    """Whether the central role's trust is short enough for IAM."""
    what = "trust of the central role"
    try:
        size = trust_size(look.fleet)
    except FleetError as error:
        look.say("error", "", what, str(error))
        return
    with look.checking(what):
        limit = quota(look, _global_region(look.regions[0]), "iam", "L-C07B4B0D")
        if size.characters > limit:
            why = f"it would have {size.characters} characters, and the quota of this account is {limit:g}"
            look.say("error", "", what, why, "have 'Role trust policy length' raised")
        else:
            look.say("ok", "", what)


def check_service_linked_role(look: Look) -> None:
    """Whether ECS has the role it works with."""
    what = "service-linked role of ECS"
    with look.checking(what):
        path = "/aws-service-role/ecs.amazonaws.com/"
        if look.client("iam").list_roles(PathPrefix=path)["Roles"]:
            look.say("ok", "", what)
        else:
            why = "there is none yet; ECS makes it with the first cluster, if iam:CreateServiceLinkedRole is allowed"
            remedy = (
                "where it is not: aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com"
            )
            look.say("note", "", what, why, remedy)


def _source(look: Look, caller: str) -> str:
    """Sessions are not simulated, their roles are."""
    if ":assumed-role/" not in caller:
        return caller
    return str(look.client("iam").get_role(RoleName=caller.split("/")[1])["Role"]["Arn"])


def _policy_arn(account_id: str, name: str, region: str) -> str:
    return role_arn(account_id, name, region).replace(":role/", ":policy/", 1)


def _global_region(region: str) -> str:
    """Where the quotas of global services are kept in the region's partition."""
    return region if region.startswith(("cn-", "us-gov-")) else "us-east-1"
