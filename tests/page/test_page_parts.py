"""Numbers, variables, queries, charts and HTML, without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import time
from pathlib import Path
from typing import Any, Final

import pytest

from trunkline.aws.workspace import Found, Workspace
from trunkline.dashboards.queries import variables
from trunkline.dashboards.rendering import dashboards
from trunkline.errors import SimulatorError, UsageError
from trunkline.net.client import Client
from trunkline.page import charts, fleet_map, markup, process
from trunkline.page.asking import Questions
from trunkline.page.charts import Line
from trunkline.page.filling import EVERYTHING, Choices, Span, all_or_some, differing, legend
from trunkline.page.pictures import pictures
from trunkline.page.reading import Panel, Steps, panels
from trunkline.page.troubles import SESSION_S, State, next_renewal, trusted_roles
from trunkline.page.units import scale, text

DASHBOARDS = {each["uid"]: each for each in dashboards()}


def panel(uid: str, title: str, kind: str) -> Panel:
    found = [each for each in panels(DASHBOARDS[uid]) if (each.title, each.kind) == (title, kind)]
    return found[0]


def series(value: float, **labels: str) -> Found:
    return Found(labels, ((1000.0, value),))


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        ("short", 0, "0"),
        ("short", 3.0, "3"),
        ("short", 0.00012345, "0.000123"),
        ("short", 1_234_567, "1.23 Mil"),
        ("short", math.nan, "NaN"),
        ("s", 0.0042, "4.2 ms"),
        ("s", 75, "1.25 mins"),
        ("s", 7200, "2 hours"),
        ("bytes", 123_456_789, "118 MiB"),
        ("mbytes", 2048, "2 GiB"),
        ("binBps", 1536, "1.5 KiB/s"),
        ("cps", 33.64, "33.6 c/s"),
        ("reqps", 0.1333, "0.13 req/s"),
        ("percentunit", 0.1234, "12.3%"),
    ],
)
def test_units(unit: str, value: float, shown: str) -> None:
    assert text(unit, value) == shown


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="furlong is no unit"):
        scale("furlong", 1)


def test_the_rate_interval_holds_four_scrapes_and_a_step() -> None:
    assert Span("now-5m").step_s == 15
    assert Span("now-15m").rate_interval == "60s"
    assert Span("now-3h").step_s == 120
    assert Span("now-3h").rate_interval == "135s"


def chosen(*query: tuple[str, str]) -> Choices:
    return Choices.of(DASHBOARDS["trunkline-fleet"], query)


def test_variables_are_filled_in_as_regular_expressions() -> None:
    assert chosen().filled('up{a=~"$account"}') == 'up{a=~".*"}'
    two = chosen(("var-account", "1"), ("var-account", "2"), ("var-region", 'a.b"c'))
    assert two.filled('up{a=~"$account", r=~"${region}"}') == 'up{a=~"1|2", r=~"a\\\\.b\\"c"}'
    assert chosen(("var-nonsense", "1"), ("from", "now-9y")).query().endswith("from=now-5m&to=now")


def test_a_url_may_say_what_there_is_not() -> None:
    assert chosen(("var-account", "All")).chosen["account"] == [EVERYTHING]
    assert chosen(("var-account", "1"), ("var-account", EVERYTHING)).chosen["account"] == [EVERYTHING]
    assert chosen(("var-task", "a\nb\\")).filled('"$task"') == '"a\\\\\\nb\\\\\\\\"'
    service = DASHBOARDS["trunkline-service"]
    assert Choices.of(service, [("var-status", "foo")]).chosen["status"] == ["status"]
    assert Choices.of(service, [("var-status", "code")]).chosen["status"] == ["code"]
    assert Choices.of(service, [("var-metric", 'a"\n')]).filled('"$metric"') == '"a\\"\\n"'


def test_a_variable_without_all_takes_the_first_of_what_is_offered() -> None:
    choices = Choices.of(DASHBOARDS["trunkline-service"], ())
    requests = next(each for each in variables(choices.dashboard) if each.name == "requests")
    choices.settle(requests, ["a_requests_total", "b_requests_total"])
    assert choices.chosen["requests"] == ["a_requests_total"]
    choices.settle(requests, ["b_requests_total", "c_requests_total"])
    assert choices.chosen["requests"] == ["b_requests_total"]
    assert choices.chosen["status"] == ["status"]


def test_a_link_keeps_what_is_chosen_and_narrows_by_the_row() -> None:
    choices = chosen(("var-task", "t1"), ("from", "now-1h"))
    column = next(
        each
        for each in panel("trunkline-fleet", "Services", "table").columns
        if each.heading == "Service" and each.links
    )
    url = choices.link(
        column.links[0][1], {"Account": "1", "Region": "r", "Cluster": "c d", "Service": "a&b"}
    )
    assert url == (
        "/d/trunkline-service?var-account=1&var-region=r&var-cluster=c%20d&var-service=a%26b&var-task=t1"
        "&from=now-1h&to=now"
    )


def test_legends() -> None:
    assert legend("{{a}} {{ b }}", {"a": "1", "b": "2"}, "A") == "1 2"
    assert legend("", {"a": "1"}, "A") == "a=1"
    assert legend("", {}, "A") == "A"


def test_a_legend_of_its_own_tells_series_apart() -> None:
    same = {"__name__": "m", "job": "j"}
    found = [{**same, "le": le, "aws_ecs_task_id": task} for le in ("1", "2") for task in ("a", "b")]
    apart = differing(found)
    assert [legend("__auto", labels, "A", apart) for labels in found] == [
        "le=1, aws_ecs_task_id=a",
        "le=1, aws_ecs_task_id=b",
        "le=2, aws_ecs_task_id=a",
        "le=2, aws_ecs_task_id=b",
    ]
    assert legend("__auto", same, "A", differing([same])) == "__name__=m, job=j"


def test_a_chart_has_gaps_thresholds_and_one_scale() -> None:
    found = panel("trunkline-fleet", "Age of the newest sample", "timeseries")
    line = Line("web", ((0, 60.0), (10, 120.0), (40, 240.0)))
    options: dict[str, Any] = charts.options(found, [line], 0, 60, 10)
    assert options["series"][0]["data"] == [[0, 1.0], [10_000, 2.0], [20_000, None], [40_000, 4.0]]
    assert options["yAxis"]["axisLabel"]["formatter"] == "{value} mins"
    assert [each["yAxis"] for each in options["series"][0]["markLine"]["data"]] == [1.0, 2.0]
    assert options["yAxis"]["min"] == 0


def test_a_chart_of_many_lines_shows_the_largest() -> None:
    lines = [Line(str(number), ((0, float(number)),)) for number in range(200)]
    shown = charts.largest(lines)
    assert [line.name for line in shown] == [str(number) for number in range(200 - charts.MOST_LINES, 200)]
    found = panel("trunkline-fleet", "Tasks", "timeseries")
    assert f"the {charts.MOST_LINES} largest of 200" in markup.key(found, shown, 200)


def test_a_number_says_what_its_colour_says() -> None:
    found = panel("trunkline-fleet", "Targets down", "stat")
    assert markup.stat(found, [series(0.0)]) == '<p class="number green">0</p>'
    assert 'red">2 <span class="word">bad</span>' in markup.stat(found, [series(2.0)])
    assert markup.stat(found, []) == markup.NOTHING
    assert Steps().colour(5) == ""


def test_a_table_merges_its_queries_and_escapes_what_it_shows() -> None:
    found = panel("trunkline-fleet", "Services", "table")
    labels = {
        "cloud_account_id": "1",
        "cloud_region": "r",
        "aws_ecs_cluster_name": "c",
        "aws_ecs_service_name": "<script>",
    }
    drawn = markup.table(
        found, {"A": [series(2.0, **labels)], "C": [series(300.0, **labels)]}, lambda url, _: url
    )
    assert drawn.count("<tr") == 2
    assert "&lt;script&gt;" in drawn
    assert "<script>" not in drawn
    assert '<td class="red" data-number="">5 mins <span class="word">bad</span></td>' in drawn
    assert [each.heading for each in found.columns][:5] == [
        "Account",
        "Region",
        "Cluster",
        "Service",
        "Tasks",
    ]


def test_a_band_has_a_piece_for_each_time_a_value_lasts() -> None:
    found = panel("trunkline-fleet", "Up", "state-timeline")
    line = Line("web", ((0, 1.0), (10, 1.0), (20, 0.0), (50, 1.0)))
    drawn = markup.bands(found, [line], 0, 100, 10)
    places = [each.partition('"')[0] for each in drawn.split('style="')[1:]]
    assert places == ["left:0.00%;width:20.00%", "left:20.00%;width:10.00%", "left:50.00%;width:10.00%"]
    assert drawn.count('class="piece red"') == 1


def test_how_a_task_is() -> None:
    labels = {"cloud_account_id": "1", "cloud_region": "r", "aws_ecs_service_name": "s"}
    ages = {"well": (1.0, 10), "broken": (0.0, 10), "silent": (1.0, 90), "ended": (None, 20)}
    newest = [series(1000.0 - age, aws_ecs_task_id=task, **labels) for task, (_, age) in ages.items()]
    up = [series(up, aws_ecs_task_id=task, **labels) for task, (up, _) in ages.items() if up is not None]
    ecs = [{"id": "well"}, {"id": "new", "account": "1", "region": "r", "service": "s"}]
    found = {each.id: each.state for each in fleet_map._tasks(newest, up, ecs, 1000.0)}
    assert found == {
        "well": "healthy",
        "broken": "down",
        "silent": "stale",
        "ended": "stale",
        "new": "no metrics yet",
    }


NOW: Final = 1_000_000.0
WORKSPACE: Final = {"id": "ws-1", "account": "<1>", "region": "<r>"}
ROLE: Final = "arn:aws:iam::<2>:role/<central>"


def plan(fleet: fleet_map.Fleet, state: State | None = None) -> str:
    return fleet_map.drawn(fleet, state or State(), WORKSPACE, ROLE, NOW)


def fleet(age_s: float, **labels: str) -> fleet_map.Fleet:
    told = {"account": "1", "region": "r", "cluster": "c", "service": "s", "id": "t", **labels}
    task = fleet_map.Task(**told, state="healthy", age_s=age_s)
    return fleet_map.Fleet([task], per_second=48.8, at_s=NOW - 3)


def test_the_map_escapes_what_it_shows() -> None:
    drawn = plan(fleet(2, **dict.fromkeys(("account", "region", "service", "id"), "<img>")))
    for name in ("<img", "<1>", "<r>", "<2>", "<central>"):
        assert name not in drawn


def test_the_map_claims_nothing_while_the_workspace_cannot_be_asked() -> None:
    known = fleet(2)
    assert "takes samples" in plan(known)
    assert "48.8 samples/s" in plan(known)
    lost = known.unknown("it <failed>")
    drawn = plan(lost)
    for word in ("healthy", "takes samples", "samples/s", "<failed>"):
        assert f">{word}" not in drawn.replace("role healthy", "")
    for word in ("cannot be asked", "last answer 3 s ago", '<span class="age"> 5 s', "it &lt;failed&gt;"):
        assert word in drawn
    assert fleet_map.summary(lost) == "1 task: 1 unknown"
    assert "no answer yet" in plan(fleet_map.Fleet().unknown("why"))


@pytest.mark.parametrize(
    ("age_s", "state", "is_taken"),
    [
        (2, State(), True),
        (40, State(), False),
        (2, State(throttled=True), False),
        (2, State(revoked=True), True),
        (2, State(revoked=True, withdrawn=True), True),
        (2, State(revoked=True, withdrawn=True, shut=True), False),
    ],
)
def test_figures_are_no_older_than_the_newest_sample(age_s: float, state: State, *, is_taken: bool) -> None:
    drawn = plan(fleet(age_s), state)
    assert ("48.8 samples/s" in drawn) == is_taken
    assert (f"nothing taken for {age_s + 3} s" in drawn) == (not is_taken)


async def test_a_silent_workspace_is_asked_once_by_all_who_wait() -> None:
    """Each waits for its own time-out at most, however many there are."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with contextlib.aclosing(Client()) as client:
            questions = Questions(Workspace(client, url, timeout_s=0.3))
            began = time.monotonic()
            answers = await asyncio.gather(*(questions.now("up") for _ in range(40)), return_exceptions=True)
    assert time.monotonic() - began < 2
    assert all("gave no answer" in str(each) for each in answers)


def test_a_demo_that_was_killed_has_no_page(tmp_path: Path) -> None:
    with process.listen("127.0.0.1:0") as listener:
        (tmp_path / process.ADDRESS).write_text(process.url(listener))
    with pytest.raises(SimulatorError, match="no demo with a page runs"):
        next(pictures(tmp_path, tmp_path))


def test_when_a_withdrawn_trust_bites() -> None:
    assert next_renewal(0, 60) == (SESSION_S * 2 / 3, SESSION_S * 5 / 6)
    assert next_renewal(0, 2700) == (2700, 3000)
    assert next_renewal(0, 3100) == (4800, 6000)


def test_whom_a_trust_names() -> None:
    statement = {"Effect": "Allow", "Principal": {"AWS": ["1", "2"]}, "Action": "sts:AssumeRole"}
    assert list(trusted_roles({"Statement": [statement]})) == ["1", "2"]
    narrowed = {**statement, "Condition": {"ArnLike": {"aws:PrincipalArn": "role/x"}}}
    assert list(trusted_roles({"Statement": [narrowed]})) == ["role/x"]


def test_the_page_listens_on_the_loopback_only() -> None:
    with process.listen("127.0.0.1:0") as listener:
        assert process.url(listener).startswith("http://127.0.0.1:")
        with pytest.raises(UsageError, match="choose another port"):
            process.listen(process.url(listener).removeprefix("http://").strip("/"))
    with pytest.raises(UsageError, match="loopback only"):
        process.listen("192.0.2.1:80")
    with pytest.raises(UsageError, match="write it as"):
        process.listen("somewhere")


def test_all_stands_alone() -> None:
    assert all_or_some([EVERYTHING], [EVERYTHING, "a"]) == ["a"]
    assert all_or_some(["a"], ["a", EVERYTHING]) == [EVERYTHING]
    assert all_or_some(["a"], []) == [EVERYTHING]
