"""`trunkline collector`: run the agent, check a configuration or its way to the workspace, list components, probe health."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trunkline import components
from trunkline.errors import UsageError

if TYPE_CHECKING:
    from trunkline.collector.config import CollectorConfig
    from trunkline.collector.doctor import Chain
    from trunkline.collector.host import Host
    from trunkline.net.client import ClientFactory

DEFAULT_DATA_DIR: Final = "/var/lib/trunkline"
MARKS: Final = {"ok": "✓ ok", "note": "• note", "wrong": "✗ WRONG"}
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    **dict.fromkeys(("dpanic", "panic", "fatal"), logging.CRITICAL),
}


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="ACTION", required=True)
    _configure_run(commands.add_parser("run", help="run until SIGTERM; SIGHUP reads the configuration anew"))
    validate = commands.add_parser("validate", help="check a configuration and say everything that is wrong")
    _configure_run(validate)
    validate.set_defaults(run=_validate)
    doctor = commands.add_parser(
        "doctor", help="walk the way to each workspace and say where and why it ends"
    )
    _add_sources(doctor)
    _add_network(doctor)
    doctor.add_argument("--json", action="store_true", help="as JSON")
    doctor.set_defaults(run=_doctor)
    backlog = commands.add_parser("backlog", help="list what waits on disk, for which exporter and endpoint")
    backlog.add_argument(
        "data_dirs", nargs="*", type=Path, metavar="DIR", help="data directories, or folders of them"
    )
    backlog.add_argument("--json", action="store_true", help="as JSON")
    backlog.set_defaults(run=_backlog)
    listing = commands.add_parser("components", help="list the components a configuration can use")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(run=_components)
    health = commands.add_parser("healthcheck", help="exit with 0 if a collector is healthy, else 1")
    health.add_argument("--address", default=None, metavar="HOST:PORT", help="default: 127.0.0.1:13133")
    health.set_defaults(run=_healthcheck)


def _configure_run(parser: argparse.ArgumentParser) -> None:
    _add_sources(parser)
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help=f"where the queue is kept (TRUNKLINE_DATA_DIR; default {DEFAULT_DATA_DIR})",
    )
    parser.add_argument(
        "--take-over",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="deliver what collectors that are gone have left in their data directories, which are DIR or in it "
        "(TRUNKLINE_TAKE_OVER)",
    )
    _add_network(parser)
    parser.add_argument(
        "--metrics-address", metavar="HOST:PORT", help="own metrics (TRUNKLINE_METRICS_ADDRESS)"
    )
    parser.add_argument("--health-address", metavar="HOST:PORT", help="health (TRUNKLINE_HEALTH_ADDRESS)")
    parser.add_argument(
        "--shutdown-timeout", type=float, default=25.0, metavar="SECONDS", help="time to drain (25)"
    )
    parser.set_defaults(run=_run)


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resolve",
        action="append",
        default=[],
        metavar="HOST:PORT=ADDRESS:PORT",
        help="connect there instead, keeping name, certificate check and signature (TRUNKLINE_RESOLVE)",
    )
    parser.add_argument("--ca-bundle", metavar="FILE", help="authorities to trust (AWS_CA_BUNDLE)")


def _add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="FILE",
        help="configuration file, or env:NAME or yaml:TEXT; several are merged; AOT_CONFIG_CONTENT replaces all",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY.SUB=VALUE", help="a value over the files'"
    )


def _run(options: argparse.Namespace) -> int:
    from trunkline.net.loop import PromptLoop

    config = _read(options)
    _start_log(config)
    with asyncio.Runner(loop_factory=PromptLoop) as runner:
        runner.run(_host(options, os.environ).run(config))
    return 0


def _paths(listed: str) -> tuple[Path, ...]:
    return tuple(Path(one) for one in listed.split(os.pathsep) if one)


def _host(options: argparse.Namespace, environment: Mapping[str, str]) -> Host:
    from trunkline.collector.host import Host, HostSettings

    settings = HostSettings(
        data_dir=options.data_dir or Path(environment.get("TRUNKLINE_DATA_DIR") or DEFAULT_DATA_DIR),
        take_over=tuple(options.take_over) or _paths(environment.get("TRUNKLINE_TAKE_OVER", "")),
        metrics_address=options.metrics_address or environment.get("TRUNKLINE_METRICS_ADDRESS"),
        health_address=options.health_address or environment.get("TRUNKLINE_HEALTH_ADDRESS"),
        shutdown_timeout_s=options.shutdown_timeout,
    )
    return Host(lambda: _read(options), settings, _clients(options), environment)


def _clients(options: argparse.Namespace) -> ClientFactory:
    from trunkline.net.client import ClientFactory
    from trunkline.net.resolve import Resolve

    rules = ",".join(options.resolve) or os.environ.get("TRUNKLINE_RESOLVE", "")
    return ClientFactory(Resolve.parse(rules), options.ca_bundle or os.environ.get("AWS_CA_BUNDLE"))


def _read(options: argparse.Namespace) -> CollectorConfig:
    from trunkline.collector.config import read

    if not options.config and "AOT_CONFIG_CONTENT" not in os.environ:
        raise UsageError("no configuration: give --config FILE, or set AOT_CONFIG_CONTENT to its text")
    return read(options.config, os.environ, components, sets=options.set)


def _start_log(config: CollectorConfig) -> None:
    logs = config.service.telemetry.logs
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if logs.encoding == "json" else _LineFormatter())
    logging.basicConfig(level=LEVELS.get(logs.level.lower(), logging.INFO), handlers=[handler])


class _LineFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
        self.converter = time.gmtime


class _JsonFormatter(_LineFormatter):
    def format(self, record: logging.LogRecord) -> str:
        document = {
            "ts": self.formatTime(record, self.datefmt) + f".{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        if record.exc_info:
            document["stacktrace"] = self.formatException(record.exc_info)
        return json.dumps(document)


def _validate(options: argparse.Namespace) -> int:
    config = _read(options)
    # Whether this machine is an ECS task says nothing about the configuration.
    environment = {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/any", **os.environ}
    _host(options, environment).check(config)
    for warning in config.warnings:
        print(f"warning: {warning}")
    pipelines = ", ".join(str(name) for name in config.service.pipelines)
    print(f"the configuration is valid: pipelines {pipelines}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from trunkline.collector.doctor import examine

    config = _read(options)
    logging.getLogger("trunkline").addHandler(logging.NullHandler())  # what it would log is in the findings
    chains = asyncio.run(examine(config, _clients(options), os.environ))
    healthy = not any(chain.broken for chain in chains)
    if options.json:
        document = {"ok": healthy, "exporters": [chain.as_data() for chain in chains]}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # marks a terminal may not have; the words say the same
        print("\n".join(line for chain in chains for line in _render(chain)))
    return 0 if healthy else 1


def _render(chain: Chain) -> Iterator[str]:
    """A heading, a line for each hop, and under one that needs it what was said and what to change."""
    yield f"{chain.exporter} → {chain.destination}" if chain.destination else chain.exporter
    for finding in chain.findings:
        yield f"  {MARKS[finding.outcome]:7}  {finding.hop:13}  {finding.text}"
        if finding.outcome == "ok":
            continue
        if finding.said.strip("«»") not in finding.text:
            yield f"{'said:':>31}   {finding.said}"
        for number, change in enumerate(finding.change):
            yield f"{'' if number else 'change:':>33} {change}"
    broken = chain.broken
    yield f"  the way ends at: {broken.hop}" if broken else "  all well"


def _components(options: argparse.Namespace) -> int:
    listing = {
        kind: {name: _summary(kind, name) for name in components.names(kind)} for kind in components.KINDS
    }
    if options.json:
        print(json.dumps(listing, indent=2))
        return 0
    for kind, members in listing.items():
        print(kind)
        width = max(map(len, members))
        for name, summary in members.items():
            print(f"  {name:<{width}}  {summary}")
    return 0


def _summary(kind: str, name: str) -> str:
    config_type = components.config_type(kind, name)
    return (config_type.__doc__ or "").strip().partition("\n")[0]


def _backlog(options: argparse.Namespace) -> int:
    from trunkline.collector.backlog import backlogs

    given = options.data_dirs or [Path(os.environ.get("TRUNKLINE_DATA_DIR") or DEFAULT_DATA_DIR)]
    found = backlogs({place for data_dir in given for place in (data_dir, *data_dir.glob("*/"))})
    if options.json:
        print(json.dumps([{**asdict(one), "folder": str(one.folder)} for one in found], indent=2))
        return 0
    for one in found:
        state = "in use" if one.in_use else "nobody delivers it"
        print(f"{one.folder}\n  {one.exporter or '?'} → {one.destination or '?'} ({state})")
        oldest = "" if one.oldest_ms is None else f", the oldest of {_moment(one.oldest_ms)}"
        damaged = f", {one.damaged_bytes} bytes cannot be read" if one.damaged_bytes else ""
        print(f"  {one.samples} samples, {one.size_bytes} bytes{oldest}{damaged}")
    if not found:
        print(f"no queue in {', '.join(map(str, given))}")
    return 0


def _moment(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="seconds")


def _healthcheck(options: argparse.Namespace) -> int:
    from trunkline.errors import FetchError
    from trunkline.net.client import Client
    from trunkline.net.message import Request

    address = options.address or os.environ.get("TRUNKLINE_HEALTH_ADDRESS") or "127.0.0.1:13133"
    host, _, port = address.rpartition(":")
    if host in ("", "0.0.0.0", "[::]"):  # noqa: S104 (where a collector listens that listens everywhere)
        address = f"127.0.0.1:{port}"

    async def status() -> int:
        client = Client()
        try:
            return (await client.exchange(Request("GET", f"http://{address}/", {}), timeout_s=3.0)).status
        except FetchError as error:
            print(f"trunkline: no health at {address}: {error}", file=sys.stderr)
            return 0
        finally:
            await client.aclose()

    return 0 if asyncio.run(status()) == 200 else 1
