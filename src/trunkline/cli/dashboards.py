"""`trunkline dashboards`: dashboards and rules as files, or straight into a Grafana."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, Final

from trunkline.errors import UsageError

TOKEN: Final = "GRAFANA_TOKEN"  # noqa: S105 (the name of a variable)


def configure(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="ACTION", required=True)
    render = commands.add_parser("render", help="write dashboards (JSON) and rules (YAML) into a folder")
    render.add_argument("--out", type=Path, metavar="DIR", help="the folder; it is made if it is missing")
    render.add_argument(
        "--png", type=Path, metavar="DIR", help="write pictures there, as the running demo's page shows them"
    )
    render.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="the demo's folder, for --png (default: the usual one)"
    )
    render.set_defaults(run=_render)
    push = commands.add_parser("push", help="put the dashboards into a Grafana, in a folder of their own")
    push.add_argument(
        "--url", required=True, help="Grafana's address, such as https://g-….grafana-workspace.…"
    )
    push.add_argument(
        "--token",
        help=f"of a service account that may edit (default: {TOKEN}, which other users cannot see in the process list)",
    )
    push.set_defaults(run=_push)


def _render(options: argparse.Namespace) -> int:
    from trunkline.dashboards import rendering

    if not (options.out or options.png):
        raise UsageError("where to? Name a folder with --out for the files, or with --png for pictures")
    if options.png:
        _render_pictures(options)
    if not options.out:
        return 0
    try:
        paths = rendering.write(options.out)
    except ImportError as error:
        raise _no_extra(error) from None
    except OSError as error:
        raise UsageError(f"--out {options.out}: {error.strerror or error}") from None
    for path in paths:
        print(path)
    return 0


def _render_pictures(options: argparse.Namespace) -> None:
    from trunkline.page.pictures import pictures
    from trunkline.simulator.control import default_state_dir

    try:
        for path in pictures(options.state_dir or default_state_dir(), options.png):
            print(path)
    except ImportError as error:
        raise UsageError(
            f"{error.name or error} is missing, which pictures need: pip install 'trunkline[dashboards,simulator]'"
        ) from None
    except OSError as error:
        raise UsageError(f"--png {options.png}: {error.strerror or error}") from None


def _push(options: argparse.Namespace) -> int:
    from trunkline.dashboards.grafana import Grafana

    token = options.token or os.environ.get(TOKEN, "")
    if not token:
        raise UsageError(
            f"which token? Set {TOKEN}, or give --token; Grafana makes them under Service accounts"
        )
    for pushed in Grafana(options.url, token).push(_dashboards()):
        print(f"{pushed.outcome:9}  {pushed.title}  {pushed.url}")
    return 0


def _dashboards() -> list[dict[str, Any]]:
    from trunkline.dashboards import rendering

    try:
        return rendering.dashboards()
    except ImportError as error:
        raise _no_extra(error) from None


def _no_extra(error: ImportError) -> UsageError:
    return UsageError(
        f"{error.name or error} is missing, which the dashboards are written with: pip install 'trunkline[dashboards]'"
    )
