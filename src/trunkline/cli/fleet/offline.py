"""The commands of `trunkline fleet` that ask nobody: init, schema, check, render."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from trunkline.cli.fleet import output
from trunkline.cli.main import EXIT_USAGE
from trunkline.errors import ConfigError, FleetError, Problem, UsageError

if TYPE_CHECKING:
    from trunkline.fleet.init import Answers
    from trunkline.fleet.model import Fleet


def init(options: argparse.Namespace) -> int:
    from trunkline.fleet.init import refuse_existing, write_fleet

    refuse_existing(options.out, force=options.force)  # before anything is asked
    for path in write_fleet(_answers(options), options.out, force=options.force):
        print(path)
    print(f"next: trunkline fleet check -f {options.out}")
    return 0


def _answers(options: argparse.Namespace) -> Answers:
    """From flags; what they do not say is asked where somebody is there, and left at its default else."""
    from trunkline.fleet.init import QUESTIONS, Answers, parse_workload

    given = {
        "monitoring": options.monitoring,
        "region": options.region,
        "workloads": " ".join(options.workload) or None,
        "role": options.role,
        "service": options.service,
        "compose": options.compose,
        "ecs_params": options.ecs_params,
    }
    complete = given["monitoring"] and given["workloads"]
    asks = sys.stdin.isatty() and not complete
    if not asks and not complete:
        raise UsageError("which accounts? Say --monitoring ID --region REGION --workload ID[:REGION,…]")
    found = {}
    for field, question, default in QUESTIONS:
        said = given[field]
        found[field] = said if said is not None else _ask(question, default) if asks else default
    workloads = tuple(parse_workload(text) for text in found.pop("workloads").split())
    return Answers(**found, workloads=workloads, profile=options.profile, grafana=options.grafana)


def _ask(question: str, default: str) -> str:
    shown = f" [{default}]" if default else ""
    return input(f"{question}{shown}: ").strip() or default


def schema(_: argparse.Namespace) -> int:
    from trunkline.fleet.schema import schema_text

    sys.stdout.write(schema_text())
    return 0


def check(options: argparse.Namespace) -> int:
    """Whether the file is a fleet whose templates can be written; what is wrong is exit code 2."""
    from trunkline.fleet.file import read_fleet_file

    try:
        found = read_fleet_file(options.file)
        stacks = _written(found.fleet)
    except ConfigError as error:
        if not options.json:
            raise
        output.document({"ok": False, "problems": output.problems_document(error.problems)})
        return EXIT_USAGE
    services = sum(len(account.services) * len(account.regions) for account in found.fleet.workloads)
    counts = {"accounts": len(found.fleet.workloads), "services": services, "stacks": stacks}
    if options.json:
        notes = output.problems_document(found.notes)
        output.document({"ok": True, "name": found.fleet.name, **counts, "notes": notes})
        return 0
    for note in found.notes:
        print(output.painted(f"note: {note}", output.GREY, options))
    said = [
        output.count(counts["accounts"], "workload account"),
        output.count(services, "service"),
        output.count(stacks, "stack"),
    ]
    print(f"{options.file} is a fleet: {', '.join(said)}")
    return 0


def _written(fleet: Fleet) -> int:
    """How many stacks it has. Raises ConfigError for a template that cannot be written."""
    from trunkline.fleet.order import Templates, fleet_stacks

    templates, problems = Templates(fleet), dict[str, Problem]()
    stacks = list(fleet_stacks(fleet))
    for stack in stacks:
        try:
            templates[stack]
        except FleetError as error:
            problems[str(error)] = Problem("", "", str(error))
    if problems:
        raise ConfigError(list(problems.values()))
    return len(stacks)


def render(options: argparse.Namespace) -> int:
    from trunkline.fleet.file import read_fleet
    from trunkline.fleet.render import write_files

    try:
        paths = write_files(read_fleet(options.file), options.out)
    except OSError as error:
        raise UsageError(f"--out {options.out}: {error.strerror or error}") from None
    if options.json:
        output.document([str(path) for path in paths])
    else:
        print("\n".join(map(str, paths)))
    return 0
