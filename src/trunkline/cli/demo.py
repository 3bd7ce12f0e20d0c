"""`trunkline demo`: two workload accounts, one workspace, all on this computer."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trunkline.cli.main import EXIT_FAILED, EXIT_INTERRUPTED
from trunkline.errors import SimulatorError, UsageError

if TYPE_CHECKING:
    from trunkline.simulator.demo.run import Demo, Deploy, Deployed, Report
    from trunkline.simulator.demo.screen import Screen
    from trunkline.simulator.folder import StateFolder
    from trunkline.simulator.world import World

MONITORING: Final = ("111111111111", "eu-west-1")
WORKLOADS: Final = (("222222222222", "eu-west-1"), ("333333333333", "us-east-1"))
SERVICE: Final = "web-shop"
TASKS: Final = 2
_TROUBLE_LINES: Final = 15
_POLL_S: Final = 0.25


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--for",
        dest="for_s",
        type=_duration,
        metavar="DURATION",
        help="end this long after the first metrics (60s, 5m) with all checks made: exit code 0 if they hold",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there; needs --for")
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="the simulator's folder (default: the usual one, or a temporary one while that is in use)",
    )
    page = parser.add_mutually_exclusive_group()
    page.add_argument(
        "--page-address",
        metavar="HOST:PORT",
        help="serve the page there, on the loopback (default: a free port; with --for only when this is given)",
    )
    page.add_argument("--no-page", action="store_true", help="serve no page")
    parser.set_defaults(run=run)


def _duration(text: str) -> float:
    from trunkline.quantities import parse_go_duration

    try:
        return parse_go_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; write it as 60s or 5m") from None


def run(options: argparse.Namespace) -> int:
    """The whole demo; 0 when all checks hold, or when it ran without end until Ctrl-C."""
    from trunkline.cli.simulator import keep_log
    from trunkline.simulator.folder import StateFolder
    from trunkline.simulator.prometheus import find_prometheus

    if options.json and options.for_s is None:
        raise UsageError("--json needs an end to report about: say how long with --for 60s")
    find_prometheus()  # says what to do when it is missing, before anything is started
    page = _page(options)
    folder = StateFolder.open(options.state_dir) if options.state_dir else _free_folder()
    keep_log(folder.path)
    report, interrupted = asyncio.run(_run(options, folder, page))
    if interrupted:
        # A deployment that was interrupted is still in its threads, trying again to reach what has ended.
        sys.stdout.flush()
        os._exit(EXIT_INTERRUPTED if options.for_s else 0)
    if report and options.json:
        options.json.write_text(json.dumps(report.document(), indent=2) + "\n", encoding="utf-8")
    return 0 if report and report.ok else EXIT_FAILED


def _page(options: argparse.Namespace) -> socket.socket | None:
    """Where the page will be, if there is to be one; raises UsageError."""
    from trunkline.page import process

    wanted = options.page_address or (process.LOOPBACK if options.for_s is None else None)
    if options.no_page or not wanted:
        return None
    if missing := process.missing():
        said = f"the page needs {' and '.join(missing)}: pip install 'trunkline[dashboards,simulator]'"
        if options.page_address:
            raise UsageError(said)
        print(f"no page: {said}")
        return None
    return process.listen(wanted)


def _free_folder() -> StateFolder:
    """The folder where `trunkline query` and `simulator logs` look by themselves, unless a simulator is in it."""
    from trunkline.errors import SimulatorError
    from trunkline.simulator.control import default_state_dir
    from trunkline.simulator.folder import StateFolder

    try:
        return StateFolder.open(default_state_dir())
    except SimulatorError:
        return StateFolder.temporary()


async def _run(
    options: argparse.Namespace, folder: StateFolder, page: socket.socket | None
) -> tuple[Report | None, bool]:
    """The report, if it came so far, and whether somebody ended it."""
    import psutil

    from trunkline.simulator.demo.screen import open_screen

    started_at = psutil.Process().create_time()
    screen = open_screen(started_at)
    screen.say("starting the simulator: emulator of AWS's resources, front door, workspace gateway")
    # From here on it takes a moment, and something has been said.
    from trunkline.cli.simulator import end_on_signals
    from trunkline.simulator.demo.run import Demo, Plan
    from trunkline.simulator.world import World

    # The SDK takes a while to load; the simulator's processes are starting anyway.
    asyncio.get_running_loop().run_in_executor(None, import_module, "trunkline.fleet.deploy")
    world = World(folder)
    end_on_signals(world)
    async with world:
        screen.say(f"the simulator is up in {folder.path}")
        central_role: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        demo = Demo(world, Plan(MONITORING, WORKLOADS, _telling(_deploy, central_role)), screen, started_at)
        serving = asyncio.ensure_future(_serve(page, demo, world, central_role, screen)) if page else None
        try:
            report = await demo.run(options.for_s, _how_to_look(world) if options.for_s is None else ())
        finally:
            if serving:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
            screen.close()
        for line in _result(demo, report, world):
            print(line)
        print("ending", flush=True)
    return report, world.stopping.is_set()


def _telling(deploy: Deploy, central_role: asyncio.Future[str]) -> Deploy:
    """`deploy`, which tells the role's ARN when it is done; it runs in a thread of its own."""
    loop = asyncio.get_running_loop()

    def told(world: World, say: Callable[[str], None]) -> Deployed:
        deployed = deploy(world, say)
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(central_role.set_result, deployed.central_role_arn)
        return deployed

    return told


async def _serve(
    listener: socket.socket, demo: Demo, world: World, central_role: asyncio.Future[str], screen: Screen
) -> None:
    """Serve the page once there is something to see: until then, the demo needs the processor itself."""
    from trunkline.page import process

    role_arn = await central_role
    while demo.first_metrics_s is None:  # noqa: ASYNC110 (a figure of the demo, not an event)
        await asyncio.sleep(_POLL_S)
    try:
        async with process.served(world.state_dir, role_arn, listener):
            screen.say(f"the page: {process.url(listener)}")
            await asyncio.Event().wait()
    except SimulatorError as error:
        screen.say(f"no page: {error}")


def _deploy(world: World, say: Callable[[str], None]) -> Deployed:
    """The ready-made fleet, created through CloudFormation by the administrators of its accounts."""
    from trunkline.fleet.deploy import Event, deploy_fleet
    from trunkline.fleet.model import Fleet, MonitoringAccount, Service, WorkloadAccount
    from trunkline.fleet.sessions import AccessKey, key_sessions

    def on_progress(event: Event) -> None:
        say(f"{event.account_id} {event.region}: {event.stack}: {event.text}")

    account, region = MONITORING
    services = (Service(name=SERVICE, desired_count=TASKS),)
    fleet = Fleet(
        monitoring=MonitoringAccount(account_id=account, region=region),
        workloads=tuple(
            WorkloadAccount(account_id=account, regions=(region,), services=services)
            for account, region in WORKLOADS
        ),
    )
    keys = {
        account: AccessKey(key.access_key_id, key.secret_access_key) for account, key in world.keys.items()
    }
    return deploy_fleet(fleet, key_sessions(keys, world.endpoint), on_progress)


def _how_to_look(world: World) -> list[str]:
    from trunkline.cli.simulator import program
    from trunkline.simulator.control import default_state_dir

    at = "" if world.state_dir == default_state_dir() else f" --state-dir {world.state_dir}"
    trunkline = program()
    return [
        "",
        "It runs until Ctrl-C. To look further, in another terminal:",
        f"  {trunkline} query{at} 'rate(shop_orders_total[1m])'",
        f"  {trunkline} query{at} --range 5m ecs_task_memory_utilized_MiB",
        f"  {trunkline} simulator logs{at} --follow --container aws-otel-collector",
        f"  {trunkline} simulator status{at}",
        f"  export AWS_ENDPOINT_URL={world.endpoint} AWS_SHARED_CREDENTIALS_FILE={world.state_dir}/credentials",
        "  aws --profile 222222222222 --region eu-west-1 ecs list-tasks --cluster ecs-xaccount-metrics-demo",
        "",
    ]


def _result(demo: Demo, report: Report | None, world: World) -> list[str]:
    """What is printed at the end, the failures' circumstances included."""
    checks = report.checks if report else []
    lines = [
        "",
        *(f"{'ok    ' if check.ok else 'FAILED'}  {check.name}: {check.detail}" for check in checks),
        "",
    ]
    for account, figures in (report.accounts if report else {}).items():
        lines.append(
            f"{account} {figures['region']}: {figures['tasks']} tasks, {figures['series']} series, "
            f"{figures['samples']} samples stored"
        )
    if demo.first_metrics_s is not None:
        lines.append(f"first metrics of every account: {demo.first_metrics_s:.1f} s after the start")
    lines.append(f"memory of the whole demo: {demo.figures.peak_bytes / 2**20:.0f} MiB at most (PSS)")
    for task, process in demo.figures.collectors.items():
        resident, own = process.resident_bytes / 2**20, process.memory_bytes / 2**20
        lines.append(
            f"memory of the collector in task {task[:8]}: {resident:.1f} MiB resident, {own:.1f} MiB PSS"
        )
    return lines + (_trouble(world) if report and not report.ok else [])


def _mark(ok: bool) -> str:
    text = "ok    " if ok else "FAILED"
    return f"\x1b[{32 if ok else 31}m{text}\x1b[0m" if sys.stdout.isatty() else text


def _trouble(world: World) -> list[str]:
    """The last complaints in the logs, which end with the simulator."""
    log = (world.state_dir / "simulator.log").read_text(encoding="utf-8", errors="replace").splitlines()
    own = [line for line in log if " WARNING " in line or " ERROR " in line]
    tasks = [
        f"{file.stem[:8]}: {line}"
        for file in sorted((world.state_dir / "logs").rglob("*.log"))
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines()
        if " WARNING " in line or " ERROR " in line or " WARN " in line
    ]
    return [
        "",
        "last complaints of the simulator and of the tasks:",
        *own[-_TROUBLE_LINES:],
        *tasks[-_TROUBLE_LINES:],
    ]
