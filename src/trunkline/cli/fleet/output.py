"""How the commands of `trunkline fleet` ask and answer: in lines with colours, or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from trunkline.errors import Problem, UsageError

if TYPE_CHECKING:
    from trunkline.fleet.run import AccountResult, Event

GREEN, YELLOW, RED, GREY = 32, 33, 31, 90
_STATES: Final = {"failed": RED, "interrupted": YELLOW, "not reached": YELLOW, "changed": GREEN}


def document(found: Any) -> None:
    """Print JSON."""
    print(json.dumps(found, indent=2, ensure_ascii=False))


def problems_document(problems: Iterable[Problem]) -> list[dict[str, str]]:
    keys = ("place", "path", "message", "remedy")
    return [{key: getattr(problem, key) for key in keys} for problem in problems]


def has_colours(options: argparse.Namespace) -> bool:
    """Whether standard output is a terminal, and nobody wants it plain."""
    return sys.stdout.isatty() and not options.no_color and "NO_COLOR" not in os.environ


def painted(text: str, colour: int, options: argparse.Namespace) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if has_colours(options) else text


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def confirm(question: str) -> None:
    """Go on only if somebody says so. Raises UsageError if nobody does."""
    if not sys.stdin.isatty():
        raise UsageError("there is nobody to ask; say --yes")
    if input(f"{question} Only `yes` is a yes: ").strip() != "yes":
        raise UsageError("nothing was changed")


def teller(options: argparse.Namespace) -> Callable[[Event], None]:
    """Prints progress as it comes; beside the document, where that is asked for."""
    out = sys.stderr if options.json else sys.stdout

    def tell(event: Event) -> None:
        print(f"{event.account_id} {event.region} {event.stack}: {event.text}", file=out, flush=True)

    return tell


def sayer(options: argparse.Namespace) -> Callable[[str], None]:
    """Prints what is begun, beside the document where that is asked for."""
    out = sys.stderr if options.json else sys.stdout
    return lambda text: print(text, file=out, flush=True)


def account_lines(accounts: Sequence[AccountResult], options: argparse.Namespace) -> list[str]:
    """What became of each account: those that failed with why, the others counted where they are many."""
    lines = []
    for account in accounts:
        said = painted(account.state, _STATES.get(account.state, GREY), options)
        lines += [f"{account.account_id}  {said}", *(f"    {message}" for message in account.messages)]
    return lines


def accounts_document(accounts: Sequence[AccountResult]) -> list[dict[str, Any]]:
    return [
        {
            "account": account.account_id,
            "state": account.state,
            "stacks": [
                {
                    "stack": stack.stack,
                    "region": stack.region,
                    "state": stack.state,
                    "message": stack.message,
                    "in_progress": stack.in_progress,
                }
                for stack in account.stacks
            ],
        }
        for account in accounts
    ]
