"""`trunkline fleet`: the accounts of a fleet.yaml, planned, deployed, verified and removed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from trunkline.cli.query import add_state_dir
from trunkline.errors import UsageError

Run = Callable[[argparse.Namespace], int]

DEFAULT_FILE: Final = "fleet.yaml"


def configure(parser: argparse.ArgumentParser) -> None:
    from trunkline.cli.fleet import offline, online

    commands = parser.add_subparsers(metavar="ACTION", required=True)
    _configure_init(commands.add_parser("init", help="write a commented fleet.yaml, from a few answers"))
    schema = commands.add_parser("schema", help="print the JSON schema of fleet.yaml, for editors")
    schema.set_defaults(run=_complete(offline.schema))
    _add(commands, "check", "read the file and everything it refers to, and ask nobody", offline.check)
    render = _add(
        commands, "render", "write templates and all other files, for a pipeline of your own", offline.render
    )
    render.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the folder; it is made if missing"
    )
    plan = "show what deploy would create, change, replace or delete"
    planning = _add_online(commands, "plan", plan, online.plan)
    _add_repair(planning)
    deploy = _add_online(commands, "deploy", "create the fleet, or bring it up to date", online.deploy)
    _ask_first(deploy)
    _add_repair(deploy)
    _add_images(deploy)
    deploy.add_argument("--no-preflight", action="store_true", help="do not look first whether it can work")
    deploy.add_argument(
        "--no-verify", action="store_true", help="do not wait until metrics are in the workspace"
    )
    _add_online(commands, "status", "show the state of every stack, drift included", online.status)
    _add_online(commands, "verify", "walk the whole chain, and name the first broken link", online.verify)
    destroy = _add_online(
        commands, "destroy", "remove the fleet, and prove that nothing is left", online.destroy
    )
    _ask_first(destroy)
    destroy.add_argument("--images", action="store_true", help="the image repositories, too")
    destroy.add_argument("--logs", action="store_true", help="the log groups, too")
    destroy.add_argument("--data", action="store_true", help="the workspace with all its metrics, too")


def _add(commands: Any, name: str, summary: str, run: Run) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary[0].upper() + summary[1:] + "."
    )
    command.add_argument(
        "-f",
        "--file",
        type=Path,
        default=Path(DEFAULT_FILE),
        metavar="FILE",
        help=f"the fleet's file (default: {DEFAULT_FILE})",
    )
    command.add_argument("--json", action="store_true", help="as JSON, for machines")
    command.add_argument("--no-color", action="store_true", help="no colours (as NO_COLOR does)")
    command.set_defaults(run=_complete(run))
    return command


def _add_online(commands: Any, name: str, summary: str, run: Run) -> argparse.ArgumentParser:
    command = _add(commands, name, summary, run)
    command.add_argument(
        "--endpoint-url",
        metavar="URL",
        help="speak to this instead of AWS, such as a simulator (AWS_ENDPOINT_URL)",
    )
    command.add_argument(
        "--simulator", action="store_true", help="in the running simulator, as its administrators"
    )
    add_state_dir(command)
    return command


def _add_repair(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--repair", action="store_true", help="put back what somebody else changed or deleted, too"
    )


def _add_images(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--with",
        dest="tool",
        default="",
        metavar="PROGRAM",
        help="build the fleet's own images with docker, podman, buildah or finch (default: the first that is there)",
    )
    command.add_argument("--base", default="", metavar="IMAGE", help="on this base image")
    command.add_argument("--wheel", type=Path, metavar="FILE", help="from this wheel of Trunkline")


def _ask_first(command: argparse.ArgumentParser) -> None:
    command.add_argument("--yes", action="store_true", help="do not ask")


def _configure_init(parser: argparse.ArgumentParser) -> None:
    from trunkline.cli.fleet import offline

    parser.add_argument(
        "--out", type=Path, default=Path(DEFAULT_FILE), metavar="FILE", help=f"default: {DEFAULT_FILE}"
    )
    parser.add_argument("--force", action="store_true", help="write over a file that is there")
    parser.add_argument("--monitoring", metavar="ID", help="the account that owns the workspace")
    parser.add_argument("--region", help="of the workspace")
    parser.add_argument(
        "--workload",
        action="append",
        default=[],
        metavar="ID[:REGION,…]",
        help="an account to measure, and its regions; may be repeated",
    )
    parser.add_argument("--service", metavar="NAME", help="name of the first service")
    parser.add_argument("--compose", metavar="FILE", help="its compose file")
    parser.add_argument("--ecs-params", metavar="FILE", help="the ECS parameters beside it")
    parser.add_argument("--role", metavar="NAME", help="role to assume in the accounts")
    parser.add_argument(
        "--profile", default="", metavar="NAME", help="profile for the accounts; {account} stands for the id"
    )
    parser.add_argument("--grafana", action="store_true", help="with a managed Grafana")
    parser.set_defaults(run=_complete(offline.init))


def _complete(run: Run) -> Run:
    """The same, which says what to install when a package is missing."""

    def run_complete(options: argparse.Namespace) -> int:
        try:
            return run(options)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("trunkline"):
                raise
            raise UsageError(
                f"{error.name} is missing, which fleets are deployed with: pip install 'trunkline[fleet,dashboards]'"
            ) from None

    return run_complete
