"""The commands of `trunkline fleet` that speak to AWS: plan, deploy, status, verify, destroy."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from trunkline.cli.fleet import output
from trunkline.cli.fleet.way import Way, find_way
from trunkline.cli.main import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_SOME_FAILED

if TYPE_CHECKING:
    from trunkline.fleet.model import Fleet
    from trunkline.fleet.own_images import OwnImages
    from trunkline.fleet.retained import Kept
    from trunkline.fleet.run import RunError
    from trunkline.fleet.sessions import Sessions

ARRIVE_WITHIN_S: Final = 180.0
"""How long after a deployment metrics may take to be in the workspace: a task's start, a scrape, a request."""
_PAUSE_S: Final = 5.0


def plan(options: argparse.Namespace) -> int:
    from trunkline.fleet.plan import plan_fleet, render

    fleet, way = _open(options)
    found = plan_fleet(fleet, way.sessions, repair=options.repair)
    print(found.to_json() if options.json else render(found, output.has_colours(options)))
    if not found.blocked:
        return 0
    blocked = {stack.account_id for stack in found.blocked}
    return _exit_code(len(blocked), len({stack.account_id for stack in found.stacks}))


def deploy(options: argparse.Namespace) -> int:
    from trunkline.fleet.images.build import Recipe
    from trunkline.fleet.own_images import OwnImages

    fleet, way = _open(options)
    recipe = Recipe(base=options.base, wheel=options.wheel)
    with OwnImages(output.sayer(options), recipe, options.tool) as images:
        return _deploy(fleet, way, images, options)


def _deploy(fleet: Fleet, way: Way, images: OwnImages, options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from trunkline.fleet.deploy import RunError, deploy_fleet
    from trunkline.fleet.forgotten import forgotten

    if not options.no_preflight and not _can_begin(fleet, way.sessions, images, options):
        return EXIT_FAILED
    if not options.yes:
        from trunkline.fleet.plan import plan_fleet, render

        planned = plan_fleet(fleet, way.sessions, repair=options.repair)
        print(render(planned, output.has_colours(options)))
        output.confirm(f"Deploy the fleet {fleet.name} into {_accounts(fleet)}?")
    try:
        done = deploy_fleet(
            fleet, way.sessions, output.teller(options), push=images.push, repair=options.repair
        )
    except RunError as error:
        return _failed(error, options)
    trouble = _furnish(fleet, way, options)
    standing = forgotten(fleet, way.sessions, None)
    for line in standing.text():
        print(f"note: {line}", file=sys.stderr if options.json else sys.stdout)
    code, links = (0, []) if options.no_verify else _arrived(fleet, way, options)
    code = code or (EXIT_FAILED if trouble else 0)
    if options.json:
        head = {"ok": not code, "changed": done.changed, "workspace_id": done.workspace_id}
        output.document(
            {
                **head,
                "prometheus_endpoint": done.prometheus_endpoint,
                "accounts": output.accounts_document(done.accounts),
                "links": links,
                "grafana": trouble,
                "forgotten": [asdict(each) for each in standing.standing],
            }
        )
        return code
    if not done.changed:
        print("nothing had to be changed")
    print(f"the workspace is {done.workspace_id}: {done.prometheus_endpoint}")
    return code


def status(options: argparse.Namespace) -> int:
    from trunkline.fleet.status import fleet_status, render

    fleet, way = _open(options)
    found = fleet_status(fleet, way.sessions, look_around=True, route=way.route())
    print(found.to_json() if options.json else render(found, output.has_colours(options)))
    troubled = {stack.account_id for stack in found.stacks if not stack.is_well}
    return _exit_code(len(troubled), len({stack.account_id for stack in found.stacks})) if troubled else 0


def verify(options: argparse.Namespace) -> int:
    from trunkline.fleet.verify import links_document, links_text, verify_fleet

    fleet, way = _open(options)
    links = verify_fleet(fleet, way.sessions, lambda _: None, way.route())
    found = links_document(links)
    if options.json:
        output.document(found)
    else:
        print("\n".join(links_text(links)))
    return 0 if found["ok"] else _through_code(links)


def destroy(options: argparse.Namespace) -> int:
    from trunkline.fleet.destroy import destroy_fleet, stacks_beyond
    from trunkline.fleet.proof import leftovers
    from trunkline.fleet.run import RunError

    fleet, way = _open(options)
    too = [name for name in ("images", "logs", "data") if getattr(options, name)]
    if not options.yes:
        including = f", {', '.join(too)} included" if too else ""
        output.confirm(f"Remove the fleet {fleet.name} from {_accounts(fleet)}{including}?")
    told = {"images": options.images, "logs": options.logs, "data": options.data}
    try:
        removal = destroy_fleet(fleet, way.sessions, output.teller(options), **told)
        proof, changed = leftovers(fleet, way.sessions, [kept.arn for kept in removal.kept]), removal.changed
        # Regions that the file does not name any more are only known now.
        if beyond := stacks_beyond(fleet, proof):
            removal = destroy_fleet(fleet, way.sessions, output.teller(options), **told, beyond=beyond)
            proof = leftovers(fleet, way.sessions, [kept.arn for kept in removal.kept])
    except RunError as error:
        return _failed(error, options)
    if options.json:
        head = {"ok": proof.is_clean, "changed": changed or removal.changed}
        removed = [each.to_document() for each in removal.removed]
        output.document({**head, "removed": removed, "proof": proof.document()})
    else:
        if not (changed or removal.changed):
            print("nothing had to be removed")
        print("\n".join([*proof.text(), *_how_to_remove(removal.kept)]))
    return 0 if proof.is_clean else EXIT_FAILED


# What they share


def _open(options: argparse.Namespace) -> tuple[Fleet, Way]:
    from trunkline.fleet.file import read_fleet

    fleet = read_fleet(options.file)
    return fleet, find_way(fleet, options)


def _accounts(fleet: Fleet) -> str:
    return f"{fleet.monitoring.account_id} and {output.count(len(fleet.workloads), 'workload account')}"


def _can_begin(fleet: Fleet, sessions: Sessions, images: OwnImages, options: argparse.Namespace) -> bool:
    """Look first, and say what is in the way; a workload account's trouble is its own, the others go on without it."""
    from trunkline.fleet.preflight import preflight

    out = sys.stderr if options.json else sys.stdout
    findings = preflight(fleet, sessions, images)
    for finding in findings:
        if finding.severity != "ok":
            print(f"{finding.severity}: {finding}", file=out)
    troubled = {finding.account_id for finding in findings if finding.severity == "error"}
    accounts = {account.account_id for account in fleet.workloads}
    if fleet.monitoring.account_id not in troubled and not (accounts and accounts <= troubled):
        return True
    print("nothing was changed: this would fail (--no-preflight tries it anyway)", file=out)
    if options.json:
        found = [finding.document() for finding in findings]
        output.document({"ok": False, "changed": False, "preflight": found})
    return False


def _furnish(fleet: Fleet, way: Way, options: argparse.Namespace) -> str:
    """Why Grafana has not got what it should; empty where it has. In a simulator nobody serves it."""
    from botocore.exceptions import BotoCoreError, ClientError

    from trunkline.errors import TrunklineError
    from trunkline.fleet.grafana import furnish

    say = output.sayer(options)
    if fleet.monitoring.grafana is None:
        return ""
    if way.simulator:
        say("note: nobody serves a Grafana in the simulator; the demo's page draws the same dashboards")
        return ""
    try:
        furnish(fleet, way.sessions, lambda text: say(f"Grafana: {text}"))
    except (TrunklineError, BotoCoreError, ClientError, ImportError) as error:
        say(f"Grafana has not got all it should: {error}. To do: repair that, and repeat the command")
        return str(error)
    return ""


def _arrived(fleet: Fleet, way: Way, options: argparse.Namespace) -> tuple[int, list[Any]]:
    """Wait until every service's metrics are in the workspace; the exit code, and what was found.

    A collector that is not essential fails no deployment, so this is where its crashing is seen.
    """
    from trunkline.fleet.verify import links_document, links_text, verify_fleet

    out = sys.stderr if options.json else sys.stdout
    print("waiting for the metrics of every service", file=out, flush=True)
    end = time.monotonic() + ARRIVE_WITHIN_S
    while True:
        links = verify_fleet(fleet, way.sessions, lambda _: None, way.route())
        found = links_document(links)
        # What is only not checked, as this computer does not reach the workspace, stays so.
        hopes = any(link.state == "broken" for link in links) and time.monotonic() < end
        if found["ok"] or not hopes:
            break
        time.sleep(_PAUSE_S)
    print("\n".join(links_text(links)), file=out)
    return 0 if found["ok"] else _through_code(links), found["links"]


def _through_code(links: Any) -> int:
    """Some services get through, or none."""
    from trunkline.fleet.verify import through

    return EXIT_SOME_FAILED if through(links) else EXIT_FAILED


def _how_to_remove(kept: Sequence[Kept]) -> list[str]:
    kinds = sorted({one.kind for one in kept})
    return [f"to remove that too, say: {' '.join(f'--{kind}' for kind in kinds)}"] if kinds else []


def _exit_code(failed: int, accounts: int) -> int:
    return EXIT_SOME_FAILED if failed < accounts else EXIT_FAILED


def _failed(error: RunError, options: argparse.Namespace) -> int:
    """Say what became of the accounts."""
    from trunkline.fleet.run import InterruptedRunError

    interrupted = isinstance(error, InterruptedRunError)
    if options.json:
        head = {"ok": False, "interrupted": interrupted, "message": str(error)}
        output.document({**head, "accounts": output.accounts_document(error.accounts)})
    else:
        for line in output.account_lines(error.accounts, options):
            print(line)
        if interrupted:
            print(f"trunkline: {error}", file=sys.stderr)
    if interrupted:
        return EXIT_INTERRUPTED
    return EXIT_SOME_FAILED if error.some_succeeded else EXIT_FAILED
