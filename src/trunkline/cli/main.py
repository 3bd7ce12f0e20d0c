"""The command tree. A command's module is imported only when that command runs: the collector stays small."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from trunkline import __version__
from trunkline.errors import ConfigError, TrunklineError, UsageError

COMMANDS: Final = {
    "demo": ("trunkline.cli.demo", "two workload accounts, one workspace, all on this computer"),
    "collector": ("trunkline.cli.collector", "run the agent that scrapes and delivers"),
    "fleet": ("trunkline.cli.fleet", "plan, deploy, verify and remove the accounts of a fleet.yaml"),
    "images": ("trunkline.cli.images", "build and push the images of the collector and the demo application"),
    "simulator": ("trunkline.cli.simulator", "AWS accounts, ECS tasks and a workspace on this computer"),
    "query": ("trunkline.cli.query", "ask a workspace with PromQL, in the simulator or in AWS"),
    "dashboards": ("trunkline.cli.dashboards", "dashboards and alerting rules, as files or into a Grafana"),
}

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_SOME_FAILED: Final = 3
EXIT_INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 wrong usage or configuration, 3 some accounts."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser(arguments).parse_args(arguments)
    try:
        code: int = options.run(options)
    except ConfigError as error:
        from trunkline.collector.config import render

        print(render(error), file=sys.stderr)
        return EXIT_USAGE
    except UsageError as error:
        _complain(error)
        return EXIT_USAGE
    except TrunklineError as error:
        _complain(error)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return code


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="trunkline", description="Metrics of every ECS task, in every account, in one workspace."
    )
    parser.add_argument("--version", action="version", version=f"trunkline {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            import_module(module).configure(command)
    return parser


def _complain(error: TrunklineError) -> None:
    print(f"trunkline: {error}", file=sys.stderr)
