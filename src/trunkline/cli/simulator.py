"""`trunkline simulator`: AWS accounts, ECS tasks and a workspace on this computer."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trunkline.cli.query import add_state_dir, aligned
from trunkline.errors import SimulatorError, UsageError
from trunkline.simulator.control import ControlClient, default_state_dir

if TYPE_CHECKING:
    from trunkline.simulator.folder import StateFolder
    from trunkline.simulator.world import World

DOWN_WITHIN_S: Final = 60.0
LOG_LINES: Final = 200


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="ACTION", required=True)
    _configure_up(commands.add_parser("up", help="start it, and stay until Ctrl-C"))
    status = commands.add_parser("status", help="accounts, services, tasks, workspaces")
    status.add_argument("--json", action="store_true", help="as JSON")
    add_state_dir(status)
    status.set_defaults(run=_status)
    _configure_logs(commands.add_parser("logs", help="what the tasks print"))
    _configure_query(commands.add_parser("query", help="ask the workspace with PromQL"))
    down = commands.add_parser("down", help="end it; nothing of it stays")
    add_state_dir(down)
    down.set_defaults(run=_down)


def _configure_up(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--detach", action="store_true", help="go to the background once it is up")
    parser.add_argument(
        "--port", type=int, default=0, help="of AWS_ENDPOINT_URL on 127.0.0.1 (default: a free one)"
    )
    parser.add_argument(
        "--account", action="append", metavar="ID", help="an account that exists; may be repeated"
    )
    parser.add_argument(
        "--tasks-in",
        choices=("auto", "namespaces", "ports"),
        default="auto",
        help="network namespaces of their own, which needs root, or ports of this computer",
    )
    add_state_dir(parser)
    parser.set_defaults(run=_up)


def _configure_logs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--account", default="", metavar="ID")
    parser.add_argument("--service", default="", metavar="NAME")
    parser.add_argument("--container", default="", metavar="NAME")
    parser.add_argument(
        "--lines", type=int, default=LOG_LINES, metavar="N", help=f"the last N, 0 for all ({LOG_LINES})"
    )
    parser.add_argument("--follow", "-f", action="store_true", help="go on with what is printed from now on")
    add_state_dir(parser)
    parser.set_defaults(run=_logs)


def _configure_query(parser: argparse.ArgumentParser) -> None:
    from trunkline.cli import query

    query.configure(parser)
    parser.set_defaults(simulator=True)


def _client(options: argparse.Namespace) -> ControlClient:
    return ControlClient(options.state_dir or default_state_dir())


def _up(options: argparse.Namespace) -> int:
    if options.detach:
        return _detach(options)
    from trunkline.simulator.folder import StateFolder

    for account in options.account or ():
        if len(account) != 12 or not account.isdecimal():
            raise UsageError(f"--account {account}: an account's id has 12 digits")
    folder = StateFolder.open(options.state_dir or default_state_dir())
    keep_log(folder.path)
    asyncio.run(_stay_up(options, folder))
    return 0


async def _stay_up(options: argparse.Namespace, folder: StateFolder) -> None:
    from trunkline.simulator.world import ACCOUNTS, World

    began = time.monotonic()
    world = World(folder, options.account or ACCOUNTS, mode=options.tasks_in, port=options.port)
    end_on_signals(world)
    async with world:
        for line in usage(world, time.monotonic() - began):
            print(line)
        sys.stdout.flush()
        _let_go_of_terminal(world)
        await world.stopping.wait()
        print("ending", flush=True)


def end_on_signals(world: World) -> None:
    """The first Ctrl-C, SIGTERM or hang-up ends the simulator in order, the second at once (the kernel cleans up)."""

    def stop() -> None:
        if world.stopping.is_set():
            os._exit(130)
        world.stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)


def keep_log(state_dir: Path) -> None:
    """What the simulator itself has to say goes to `simulator.log`."""
    handler = logging.FileHandler(state_dir / "simulator.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def program() -> str:
    """How the user calls this program from where they are."""
    if shutil.which("trunkline"):
        return "trunkline"
    beside = Path(sys.executable).with_name("trunkline")
    if not beside.exists():
        return f"{sys.executable} -m trunkline"
    here = Path.cwd()
    return str(beside.relative_to(here)) if beside.is_relative_to(here) else str(beside)


def usage(world: World, took_s: float) -> list[str]:
    """How to use a simulator that has just come up."""
    from trunkline.simulator.world import KEYS, PROFILES

    at = "" if world.state_dir == default_state_dir() else f" --state-dir {world.state_dir}"
    where = _PLACES[world.hub.mode]
    return [
        f"The simulator is up after {took_s:.1f} s: accounts {', '.join(world.accounts)}; tasks run in {where}.",
        "To use it with the AWS command line or an SDK, where a profile is an account's administrator:",
        "",
        f"  export AWS_ENDPOINT_URL={world.endpoint} AWS_REGION=eu-west-1",
        f"  export AWS_SHARED_CREDENTIALS_FILE={world.state_dir / PROFILES} AWS_PROFILE={world.accounts[0]}",
        "  aws sts get-caller-identity",
        """  python3 -c 'import boto3; print(boto3.client("ecs").list_clusters()["clusterArns"])'""",
        "",
        f"The same keys as JSON: {world.state_dir / KEYS}. To look at it and to end it:",
        "",
        f"  {program()} simulator status{at}",
        f"  {program()} simulator logs{at} --follow",
        f"  {program()} simulator query{at} up",
        f"  {program()} simulator down{at}",
        "",
    ]


_PLACES: Final = {
    "namespaces": "network namespaces of their own",
    "ports": "ports of this computer, as there is no root",
}


def _let_go_of_terminal(world: World) -> None:
    """When started by `--detach`, print to the log from now on; whoever waits for us sees the end of the text."""
    if os.environ.pop(_DETACHED, ""):
        log = os.open(world.state_dir / "simulator.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.close(log)


_DETACHED: Final = "TRUNKLINE_DETACHED"


def _detach(options: argparse.Namespace) -> int:
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    if not arguments or arguments[0] != "simulator":  # called from Python
        arguments = [
            "simulator",
            "up",
            *(["--state-dir", str(options.state_dir)] if options.state_dir else []),
        ]
    process = subprocess.Popen(  # noqa: S603 (ourselves)
        [sys.executable, "-m", "trunkline", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env={**os.environ, _DETACHED: "1"},
    )
    assert process.stdout
    text = process.stdout.read().decode()
    if _client(options).is_running():
        print(text, end="")
        return 0
    print(text, end="", file=sys.stderr)
    return process.wait()


def _absent(options: argparse.Namespace) -> bool:
    """Whether no simulator runs there; what a dead one has left is removed."""
    from trunkline.simulator.folder import remove_stale

    client = _client(options)
    if client.is_running():
        return False
    if remove_stale(client.state_dir):
        print(f"removed what a simulator that died had left in {client.state_dir}")
    return True


def _down(options: argparse.Namespace) -> int:
    client = _client(options)
    if _absent(options):
        print(f"no simulator runs in {client.state_dir}")
        return 0
    client.ask("down")
    deadline = time.monotonic() + DOWN_WITHIN_S
    while client.state_dir.exists():
        if time.monotonic() > deadline:
            raise SimulatorError(f"the simulator in {client.state_dir} does not end; kill its process")
        time.sleep(0.1)
    print("the simulator has ended")
    return 0


def _status(options: argparse.Namespace) -> int:
    if _absent(options):
        raise SimulatorError(
            f"no simulator runs in {_client(options).state_dir}; start one with: trunkline simulator up"
        )
    status = _client(options).ask("status")
    print(json.dumps(status, indent=2) if options.json else "\n".join(describe(status)))
    return 0


def describe(status: Mapping[str, Any]) -> list[str]:
    """A status as people read it."""
    memory = f"{status['memory_bytes'] / 2**20:.0f} MiB in all"
    lines = [
        f"up since {status['started_at']} in {status['state_dir']}, process {status['pid']}, {memory}",
        f"AWS_ENDPOINT_URL={status['endpoint']}",
        f"accounts: {', '.join(status['accounts'])}",
    ]
    workspaces = [
        [
            name,
            each["account"],
            each["region"],
            str(each["active_series"]),
            str(each["accepted"]),
            _refused(each),
        ]
        for name, each in status["workspaces"].items()
    ]
    lines += _section(("workspace", "account", "region", "series", "samples", "refused"), workspaces, 3)
    services = [
        [
            each["account"],
            each["region"],
            each["service"],
            f"{each['running']}/{each['desired']}",
            each["last_event"],
        ]
        for each in status["services"]
    ]
    lines += _section(("account", "region", "service", "tasks", "last event"), services, 9)
    tasks = [
        [
            each["id"],
            each["account"],
            each["service"],
            each["status"],
            each["health"],
            f"{each['memory_bytes'] / 2**20:.0f} MiB",
            f"{each['cpu_seconds']:.1f} s",
            str(each["queue"]),
            str(each["refused"]),
        ]
        for each in status["tasks"]
    ]
    heads = ("task", "account", "service", "status", "health", "memory", "cpu", "queue", "refused")
    return lines + _section(heads, tasks, 5)


def _refused(workspace: Mapping[str, Any]) -> str:
    return str(sum(workspace["refused"].values()))


def _section(heads: Sequence[str], rows: Sequence[Sequence[str]], right: int) -> list[str]:
    return ["", *aligned([heads, *rows], right)] if rows else []


def _logs(options: argparse.Namespace) -> int:
    asked = {name: getattr(options, name) for name in ("account", "service", "container", "lines", "follow")}
    for line in _client(options).stream("logs", **asked):
        print(
            f"{line['time']} {line['account']} {line['service']}/{line['task'][:8]} {line['container']}: {line['text']}",
            flush=options.follow,
        )
    return 0
