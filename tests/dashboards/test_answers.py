"""What queries of dashboards answer in cases that a workspace where all is well does not have, tried with promtool."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from trunkline.dashboards.queries import filled, panel_queries
from trunkline.dashboards.rendering import dashboards
from trunkline.dashboards.scope import VARIABLES

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus"
)

CHOSEN = {
    **dict.fromkeys(VARIABLES, ".*"),
    "requests": "shop_requests_total",
    "status": "status",
    "__rate_interval": "1m",
}
TASK = 'cloud_account_id="1", aws_ecs_service_name="shop", aws_ecs_task_id="a"'


def query(uid: str, panel: str) -> str:
    """The one of this panel, with everything chosen."""
    [dashboard] = [each for each in dashboards() if each["uid"] == uid]
    [found] = [each.expr for each in panel_queries(dashboard) if each.panel == panel]
    return filled(found, CHOSEN)


def answers(folder: Path, series: dict[str, str], expr: str, expected: dict[str, dict[str, float]]) -> None:
    """`expected`: time → labels → value."""
    tests: list[dict[str, Any]] = [
        {
            "expr": expr,
            "eval_time": at,
            "exp_samples": [{"labels": labels, "value": value} for labels, value in found.items()],
        }
        for at, found in expected.items()
    ]
    given = [{"series": name, "values": values} for name, values in series.items()]
    document = {
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": given, "promql_expr_test": tests}],
    }
    (folder / "answers.yaml").write_text(yaml.safe_dump(document))
    ended = subprocess.run(
        ["promtool", "test", "rules", "answers.yaml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("uid", "panel"),
    [("trunkline-fleet", "Refused in the last hour"), ("trunkline-collectors", "Refused in 1 h")],
)
def test_what_was_refused_counts_from_the_first_sample_on(tmp_path: Path, uid: str, panel: str) -> None:
    """A collector has no series of a reason before its first refusal, and one of a task that ended is gone."""
    refused = f"trunkline_refused_samples_total{{{TASK}, reason="
    series = {f'{refused}"too_old"}}': "_x20 7x400", f'{refused}"queue_full"}}': "_x20 3x20 stale"}
    expected = {"4m": {"{}": 0.0}, "6m": {"{}": 10.0}, "50m": {"{}": 10.0}, "70m": {"{}": 0.0}}
    answers(tmp_path, series, query(uid, panel), expected)


def test_growth_of_what_was_refused_before_counts_alone(tmp_path: Path) -> None:
    series = {f'trunkline_refused_samples_total{{{TASK}, reason="too_old"}}': "100x280 100+1x40"}
    expected = {"75m": {"{}": 19.0}}
    expr = f"round({query('trunkline-fleet', 'Refused in the last hour')})"
    answers(tmp_path, series, expr, expected)


def test_no_share_of_failures_is_made_up_where_the_status_has_another_name(tmp_path: Path) -> None:
    told = f"shop_requests_total{{{TASK}, status="
    series = {
        f'{told}"200"}}': "0+30x40",
        f'{told}"500"}}': "0+10x40",
        'shop_requests_total{cloud_account_id="2", aws_ecs_service_name="shop", code="500"}': "0+10x40",
        'shop_requests_total{cloud_account_id="3", aws_ecs_service_name="fine", status="200"}': "0+10x40",
    }
    shares = {
        '{cloud_account_id="1", aws_ecs_service_name="shop"}': 0.25,
        '{cloud_account_id="3", aws_ecs_service_name="fine"}': 0.0,
    }
    answers(tmp_path, series, query("trunkline-service", "Failed requests"), {"5m": shares})
