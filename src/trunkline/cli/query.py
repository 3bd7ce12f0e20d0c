"""`trunkline query`: PromQL against a workspace in AWS, or in the simulator, signed either way."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from trunkline.errors import UsageError

if TYPE_CHECKING:
    from trunkline.aws.workspace import Found

STEPS: Final = 60
"""Points of a range when no step is given."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A workspace, and how to get there: with which environment for AWS's credentials, over which way."""

    url: str
    region: str
    environment: Mapping[str, str] = field(repr=False)
    role: str = ""
    resolve: str = ""
    ca_bundle: str | None = None
    signed: bool = True


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("promql", metavar="PROMQL", help="the expression, such as 'up'")
    parser.add_argument("--json", action="store_true", help="the data of the answer as it came")
    _configure_time(parser)
    _configure_aws(parser)
    simulator = parser.add_argument_group("the simulator")
    simulator.add_argument(
        "--simulator",
        action="store_true",
        help="ask the running simulator (done anyway when no AWS option is given)",
    )
    add_state_dir(simulator)
    parser.set_defaults(run=run)


def add_state_dir(parser: Any) -> None:
    """The option that says which simulator."""
    parser.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="the simulator's folder (default: where `up` puts it)"
    )


def _configure_time(parser: argparse.ArgumentParser) -> None:
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--time", metavar="T", help="evaluate then: RFC 3339 or Unix seconds (default: now)")
    when.add_argument(
        "--range", metavar="DURATION", help="the time up to now, such as 5m, instead of one moment"
    )
    parser.add_argument(
        "--step", metavar="DURATION", help=f"between the points of a range (default: {STEPS} points)"
    )


def _configure_aws(parser: argparse.ArgumentParser) -> None:
    aws = parser.add_argument_group("a workspace in AWS", "credentials come from AWS's standard chain")
    aws.add_argument("--workspace", metavar="ID", help="the workspace's id, ws-…")
    aws.add_argument("--url", help="the workspace's URL (prometheusEndpoint), or that of any Prometheus API")
    aws.add_argument(
        "--region", help="the workspace's region (default: from the URL, AWS_REGION or the profile)"
    )
    aws.add_argument("--role", metavar="ARN", help="assume this role first")
    aws.add_argument("--profile", metavar="NAME", help="of AWS's shared files (AWS_PROFILE)")
    aws.add_argument(
        "--resolve",
        action="append",
        default=[],
        metavar="HOST:PORT=ADDRESS:PORT",
        help="connect there instead, keeping name, certificate check and signature (TRUNKLINE_RESOLVE)",
    )
    aws.add_argument("--ca-bundle", metavar="FILE", help="authorities to trust (AWS_CA_BUNDLE)")


def run(options: argparse.Namespace) -> int:
    """Ask and print; raises TrunklineError when there is no answer."""
    operation, form = request_of(options, time.time())
    data = asyncio.run(_ask(destination(options), operation, form))
    if options.json:
        print(json.dumps(data, indent=2))
        return 0
    from trunkline.aws.workspace import found_in

    for line in render(found_in(data)):
        print(line)
    return 0


def request_of(options: argparse.Namespace, now_s: float) -> tuple[str, dict[str, str]]:
    """The operation and its form; raises UsageError."""
    if options.range is None:
        if options.step:
            raise UsageError("--step goes with --range; leave it out, or say how long with --range 5m")
        return "query", {"query": options.promql} | ({"time": options.time} if options.time else {})
    length_s = _duration("--range", options.range)
    step_s = _duration("--step", options.step) if options.step else max(1.0, length_s / STEPS)
    form = {"start": f"{now_s - length_s:.3f}", "end": f"{now_s:.3f}", "step": f"{step_s:g}"}
    return "query_range", {"query": options.promql, **form}


def _duration(option: str, text: str) -> float:
    from trunkline.quantities import parse_prometheus_duration

    try:
        seconds = parse_prometheus_duration(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}; write it as 30s, 5m or 1h30m") from None
    if seconds <= 0:
        raise UsageError(f"{option} {text}: it must be longer than nothing")
    return seconds


def destination(options: argparse.Namespace) -> Destination:
    """Where the question goes: what the options say, else the simulator when one runs."""
    aws_options = (options.workspace, options.url, options.profile, options.region)
    if options.simulator or options.state_dir or not any(aws_options):
        return _in_simulator(options)
    return _in_aws(options, os.environ)


def _in_aws(options: argparse.Namespace, inherited: Mapping[str, str]) -> Destination:
    from trunkline.aws.workspace import region_of, workspace_url

    environment = dict(inherited) | ({"AWS_PROFILE": options.profile} if options.profile else {})
    if options.profile:  # named here, so it comes before keys that happen to be in the environment
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            environment.pop(name, None)
    if not (options.url or options.workspace):
        raise UsageError("which workspace? Name it with --workspace ws-…, or its URL with --url")
    named = options.region or (region_of(options.url) if options.url else "")
    region = named or _usual_region(environment)
    if not region and not options.url:
        raise UsageError(f"in which region is {options.workspace}? Name it with --region, or set AWS_REGION")
    return Destination(
        url=options.url or workspace_url(options.workspace, region),
        region=region,
        environment=environment,
        role=options.role or "",
        resolve=",".join(options.resolve) or environment.get("TRUNKLINE_RESOLVE", ""),
        ca_bundle=options.ca_bundle or environment.get("AWS_CA_BUNDLE"),
        signed=not options.url or bool(named or options.role or options.profile),
    )


def _usual_region(environment: Mapping[str, str]) -> str:
    from trunkline.aws.profile import read_profiles

    found = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    return found or read_profiles(environment).get(environment.get("AWS_PROFILE", "default"), {}).get(
        "region", ""
    )


def _in_simulator(options: argparse.Namespace) -> Destination:
    from trunkline.simulator.control import ControlClient, default_state_dir

    client = ControlClient(options.state_dir or default_state_dir())
    if not (options.simulator or options.state_dir or client.is_running()):
        raise UsageError(
            "which workspace? Name one in AWS with --workspace ws-… or --url; no simulator runs here that could "
            "be asked instead (trunkline simulator up, or trunkline demo)"
        )
    workspace = _choose(client.ask("workspaces"), options.workspace)
    key = workspace["key"]
    environment = {
        "AWS_ENDPOINT_URL": workspace["aws_endpoint"],
        "AWS_ACCESS_KEY_ID": key["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": key["secret_access_key"],
    }
    return Destination(
        url=workspace["url"],
        region=workspace["region"],
        environment=environment,
        role=options.role or workspace["query_role"],
        resolve=",".join(options.resolve) or workspace["resolve"],
        ca_bundle=options.ca_bundle or workspace["ca_bundle"],
    )


def _choose(workspaces: Sequence[Mapping[str, Any]], wanted: str | None) -> Mapping[str, Any]:
    matching = [each for each in workspaces if wanted in {None, each["id"]}]
    if len(matching) == 1:
        return matching[0]
    names = ", ".join(each["id"] for each in workspaces) or "none"
    if wanted:
        raise UsageError(f"the simulator has no workspace {wanted}; it has: {names}")
    if matching:
        raise UsageError(f"which workspace? Name it with --workspace; there are: {names}")
    raise UsageError("the simulator has no workspace yet; create one: aws amp create-workspace")


async def _ask(place: Destination, operation: str, form: Mapping[str, str]) -> Any:
    from trunkline.aws.credentials import CredentialsFactory
    from trunkline.aws.workspace import Workspace
    from trunkline.net.client import ClientFactory
    from trunkline.net.resolve import Resolve

    clients = ClientFactory(Resolve.parse(place.resolve), place.ca_bundle)
    client = clients.client()
    try:
        async with CredentialsFactory(clients, place.environment) as factory:
            credentials = None
            if place.signed:
                assume = place.role and factory.assume_role(place.role, region=place.region)
                credentials = assume or factory.default(place.region)
            return await Workspace(client, place.url, place.region, credentials).ask(operation, form)
    finally:
        await client.aclose()


def render(found: Sequence[Found]) -> list[str]:
    """A table: what all series have in common first, then a column for each label in which they differ."""
    if not found:
        return ["no series"]
    names = sorted(
        {name for each in found for name in each.labels}, key=lambda name: (name != "__name__", name)
    )
    common = {
        name: found[0].labels.get(name, "")
        for name in names
        if len(found) > 1 and len({each.labels.get(name, "") for each in found}) == 1
    }
    columns = [name for name in names if name not in common]
    ranged = any(len(each.samples) > 1 for each in found)
    heads = [*(("metric" if name == "__name__" else name) for name in columns), *_value_heads(ranged)]
    rows = [[*(each.labels.get(name, "") for name in columns), *_values(each, ranged)] for each in found]
    lines = [f"all: {_selector(common)}", ""] if common else []
    return lines + aligned([heads, *rows], right=len(columns))


def _value_heads(ranged: bool) -> list[str]:
    return ["points", "first", "last", "min", "max"] if ranged else ["value", "at"]


def _values(each: Found, ranged: bool) -> list[str]:
    if not ranged:
        at = datetime.fromtimestamp(each.samples[-1][0], UTC)
        return [_number(each.value), f"{at:%H:%M:%S}Z"]
    values = [value for _, value in each.samples]
    known = [value for value in values if not math.isnan(value)] or values
    return [str(len(values)), *map(_number, (values[0], values[-1], min(known), max(known)))]


def _number(value: float) -> str:
    return str(int(value)) if value == value // 1 and abs(value) < 1e15 else f"{value:.6g}"


def _selector(labels: Mapping[str, str]) -> str:
    rest = ", ".join(f"{name}={json.dumps(value)}" for name, value in labels.items() if name != "__name__")
    return f"{labels.get('__name__', '')}{{{rest}}}"


def aligned(rows: Sequence[Sequence[str]], right: int) -> list[str]:
    """Columns from `right` on are numbers, and stand at the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place >= right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
