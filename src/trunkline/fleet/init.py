"""A first `fleet.yaml`: commented, made of a few answers, and read back before it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trunkline.errors import ConfigError, UsageError
from trunkline.fleet.file import read_fleet
from trunkline.fleet.schema import schema_text

SCHEMA_FILE: Final = "fleet.schema.json"


@dataclass(frozen=True, slots=True)
class Workload:
    """An account's id, and its regions; none mean that of the workspace."""

    account_id: str
    regions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What has to be known; `role` or `profile` say how the accounts are entered, and may be empty."""

    monitoring: str
    region: str
    workloads: tuple[Workload, ...]
    service: str = "web-shop"
    compose: str = ""
    ecs_params: str = ""
    role: str = ""
    profile: str = ""
    grafana: bool = False


def parse_workload(text: str) -> Workload:
    """`ID` or `ID:region,region`. Raises UsageError for what is neither."""
    account_id, colon, regions = (part.strip() for part in text.partition(":"))
    names = tuple(name.strip() for name in regions.split(",") if name.strip())
    if not account_id or (colon and not names):
        raise UsageError(f"{text!r} is no account: write 222222222222 or 222222222222:eu-west-1,us-east-1")
    return Workload(account_id, names)


def write_fleet(answers: Answers, path: Path, *, force: bool = False) -> list[Path]:
    """Write the file, and the schema for editors beside it; returns both.

    Raises UsageError where there is a file already and not `force`, ConfigError if the answers make no fleet; then
    nothing has been changed.
    """
    refuse_existing(path, force=force)
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(fleet_text(answers), encoding="utf-8")
        _check(draft, path)
        draft.replace(path)
        schema = path.with_name(SCHEMA_FILE)
        schema.write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)
    return [path, schema]


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raises UsageError where there is a file already and not `force`."""
    if path.exists() and not force:
        raise UsageError(f"{path} is there already; say --force to write over it, or --out for another name")


def _check(draft: Path, path: Path) -> None:
    """What is wrong with the answers, told of the file as it would be called."""
    try:
        read_fleet(draft)
    except ConfigError as error:
        said = "\n".join(str(problem).replace(str(draft), str(path), 1) for problem in error.problems)
        raise UsageError(f"these answers make no fleet:\n{said}") from None


def fleet_text(answers: Answers) -> str:
    """The file as text."""
    parts = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        "# What Trunkline sets up: one monitoring account, and the accounts whose tasks are measured.",
        "# Every key is in docs/fleet.md. Look before you leap: trunkline fleet check, then trunkline fleet plan.",
        "",
        "monitoring:                       # the account that owns the workspace",
        f'  account: "{answers.monitoring}"',
        f"  region: {answers.region}",
        *(
            ["  grafana: {}                     # log-ins are given to: admins: [ids of IAM Identity Center]"]
            if answers.grafana
            else []
        ),
        "  # workspace:",
        "  #   retention: 150d",
        "  #   max_series_per_account: 100000   # so that a noisy account cannot starve the others",
        "",
        *_credentials(answers),
        "# Where tasks run. Without this it is the default VPC of each region.",
        "# network:",
        "#   vpc: new                      # or vpc-…, with subnets: [subnet-…, subnet-…]",
        "#   nat: true",
        "",
        "services:                         # in every account that gives none of its own",
        *_service(answers),
        "",
        "workloads:                        # the accounts whose tasks are measured",
        *(line for workload in answers.workloads for line in _workload(workload)),
        "",
        "# What organisations demand of roles and resources:",
        "# iam_path: /metrics/",
        "# permissions_boundary: arn:aws:iam::aws:policy/…",
        "# tags: {owner: platform}",
    ]
    return "\n".join(parts) + "\n"


def _credentials(answers: Answers) -> list[str]:
    lines = [
        "# How the accounts are entered. Without this it is by whatever credentials the environment has."
    ]
    given = {"profile": answers.profile, "role": answers.role}
    if not any(given.values()):
        return [*lines, "# credentials:", "#   role: OrganizationAccountAccessRole", ""]
    return [*lines, "credentials:", *(f'  {key}: "{value}"' for key, value in given.items() if value), ""]


def _service(answers: Answers) -> list[str]:
    lines = [f"  - name: {answers.service}"]
    if answers.compose:
        lines.append(f"    compose: {answers.compose}")
    if answers.ecs_params:
        lines.append(f"    ecs_params: {answers.ecs_params}")
    if not answers.compose:
        lines += [
            "    # Without anything else it is the demo application. Yours is one of:",
            "    # compose: docker-compose.yml",
            "    # task_definition: task.json   # an existing one, to which the collector is added",
            "    # containers:",
            "    #   - name: app",
            "    #     image: 222222222222.dkr.ecr.eu-west-1.amazonaws.com/app:1.0",
            "    #     ports: [8000]",
        ]
    return lines


def _workload(workload: Workload) -> list[str]:
    lines = [f'  - account: "{workload.account_id}"']
    return [*lines, f"    regions: [{', '.join(workload.regions)}]"] if workload.regions else lines


QUESTIONS: Final[Sequence[tuple[str, str, str]]] = (
    ("monitoring", "Account that owns the workspace (12 digits)", ""),
    ("region", "Region of the workspace", "eu-west-1"),
    (
        "workloads",
        "Accounts to measure (222222222222, or 222222222222:eu-west-1,us-east-1; several with spaces)",
        "",
    ),
    ("role", "Role to assume in them (empty for none), such as OrganizationAccountAccessRole", ""),
    ("service", "Name of the first service", "web-shop"),
    ("compose", "Its compose file (empty for the demo application)", ""),
    ("ecs_params", "The ECS parameters beside it (empty for none)", ""),
)
"""What is asked: the field of `Answers`, the question, the answer that Enter gives."""
