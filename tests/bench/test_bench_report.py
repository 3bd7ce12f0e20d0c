"""Medians, ratios and the forms they are shown in."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest
from bench.chart import svg
from bench.collectors import Collector, Launch
from bench.measure import Run
from bench.peers import Missing
from bench.queue_cost import QueueCost
from bench.report import Results, document, markdown, notes, ratios, text
from bench.scenarios import Scenario

SCENARIO = Scenario(name="big", title="a big load")


def made(collector: str, number: int, cpu_ns: float, **others: float) -> Run:
    figures = {
        "window_s": 10.0,
        "cpu_s": 1.0,
        "user_s": 0.8,
        "system_s": 0.2,
        "cpu_share": 0.1,
        "peak_rss_bytes": 50_000_000,
        "steady_rss_bytes": 40_000_000,
        "wire_bytes_per_sample": 30.0,
        "requests": 10,
        "first_sample_s": 1.0,
        "scrapes_expected": 500,
        "scrapes_served": 500,
        "scrapes_delivered": 500,
        "samples_served": 1_000_000,
        "samples_delivered": 1_000_000,
        "unlabelled_series": 0,
        "own_cpu_share": 0.03,
        "others_cpu_share": 0.01,
        **others,
    }
    return Run(collector=collector, round=number, cpu_ns_per_sample=cpu_ns, exit_code=0, **figures)  # type: ignore[arg-type]


def results(*runs: Run) -> Results:
    collectors = [
        Collector(name, name.title(), "1.0", lambda _: Launch([], {})) for name in ("trunkline", "vmagent")
    ]
    machine = {"cpu": "a CPU", "cores": 2, "memory_gb": 8, "system": "Linux 6", "python": "3.11"}
    about = {"date": "2030-01-01", "command": "make bench", "rounds": 3, "machine": machine}
    return Results(about, collectors, [Missing("otel", "no Go")], [SCENARIO], {"big": list(runs)}, [])


def three_rounds() -> Results:
    ours = [made("trunkline", n, cpu) for n, cpu in ((1, 300.0), (2, 900.0), (3, 310.0))]
    theirs = [made("vmagent", n, cpu, peak_rss_bytes=100_000_000) for n, cpu in ((1, 1400.0), (2, 1550.0))]
    return results(*ours, *theirs)


def test_a_round_on_a_busy_machine_does_not_move_the_median() -> None:
    medians = three_rounds().medians("big")
    assert medians["trunkline"]["cpu_ns_per_sample"] == 310.0
    assert medians["vmagent"]["cpu_ns_per_sample"] == 1475.0


def test_ratios_are_the_peer_over_ours() -> None:
    assert ratios(three_rounds().medians("big")) == {
        "vmagent": {
            "cpu_ns_per_sample": 4.758,
            "peak_rss_bytes": 2.0,
            "steady_rss_bytes": 1.0,
            "wire_bytes_per_sample": 1.0,
            "first_sample_s": 1.0,
        }
    }
    assert ratios(results(made("vmagent", 1, 5.0)).medians("big")) == {}


def test_the_json_holds_runs_medians_and_ratios() -> None:
    shown = json.loads(json.dumps(document(three_rounds())))
    assert shown["schema"] == "trunkline-bench/1"
    assert shown["missing"] == {"otel": "no Go"}
    (scenario,) = shown["scenarios"]
    assert [run["round"] for run in scenario["runs"]] == [1, 2, 3, 1, 2]
    assert scenario["ratios"]["vmagent"]["cpu_ns_per_sample"] == 4.758


def test_tables_show_the_ratio_and_who_is_missing() -> None:
    for shown in (text(three_rounds()), markdown(three_rounds())):
        assert "4.76" in shown
        assert "not measured: otel (no Go)" in shown


def test_what_disturbs_a_figure_is_said() -> None:
    shown = text(
        results(
            made("trunkline", 1, 300.0, scrapes_served=450, scrapes_delivered=440),
            made("vmagent", 1, 300.0, unlabelled_series=3, others_cpu_share=0.8),
        )
    )
    assert "big, trunkline, round 1: 50 of 500 scrapes were missed" in shown
    assert "big, trunkline, round 1: 10 of 450 scrapes did not arrive whole" in shown
    assert "big, vmagent, round 1: 3 series lacked identity labels" in shown
    assert "more than a quarter of a core in 1 of 2 runs, at most 80%" in shown


def test_the_chart_is_a_picture_with_every_collector() -> None:
    drawn = svg(three_rounds())
    root = ET.fromstring(drawn)
    assert root.tag.endswith("svg")
    assert drawn.count("Vmagent") == drawn.count("Trunkline") == 2
    widths = [float(bar.attrib["width"]) for bar in root if bar.tag.endswith("rect")]
    assert widths[0] / widths[1] == pytest.approx(310 / 1475, rel=0.01)


def test_what_the_queue_takes_is_noted() -> None:
    found = results(made("trunkline", 1, 300.0))
    found.queues.append(
        QueueCost(
            "big", in_memory=250.4, on_disk=264.0, flushed=290.0, alone_on_disk=22.1, alone_flushed=32.4
        )
    )
    [note] = [note for note in notes(found) if "queue" in note]
    assert "+14 ns per sample on disk, +40 with fsync; 250 with all in memory" in note
    assert note.endswith("by itself 22 and 32")
    assert document(found)["queues"][0]["on_disk"] == 264.0
