"""From runs to what people read: medians, ratios, tables, JSON. Ratios are a peer's figure over Trunkline's."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from bench.collectors import TRUNKLINE, Collector
from bench.floor import Floor
from bench.measure import Run
from bench.peers import Missing
from bench.queue_cost import QueueCost, told
from bench.scenarios import Scenario

SCHEMA: Final = "trunkline-bench/1"
RATIOS: Final = (
    "cpu_ns_per_sample",
    "peak_rss_bytes",
    "steady_rss_bytes",
    "wire_bytes_per_sample",
    "first_sample_s",
)
NOT_MEASURED: Final = (
    "A receiver that is slow or away. Until it is, vmagent's queue keeps to memory: it writes nothing to disk here.",
    "The cost of the network: everything is on loopback, and remote write is plain HTTP.",
    "The signature is made by every collector and checked by nobody.",
    "Service discovery, relabelling, filters, and metrics of other kinds than counters, gauges and classic histograms.",
    "Forcing data to the disk: nobody is made to call fsync (what that costs Trunkline is measured by itself).",
)
_TELLING: Final = 0.1
"""Below this share of delivered samples a cost of each says nothing."""
_COLUMNS: Final = (
    "collector",
    "CPU, ns per sample",
    "over Trunkline's",
    "CPU, % of a core",
    "peak RSS, MB",
    "steady RSS, MB",
    "bytes per sample",
    "first sample, s",
    "scrapes served",
    "samples delivered",
)


@dataclass
class Results:
    """Everything a benchmark found, to be shown in any form."""

    about: dict[str, Any]
    collectors: list[Collector]
    missing: list[Missing]
    scenarios: list[Scenario]
    runs: dict[str, list[Run]]
    """By name of the scenario, in the order they were made."""
    failures: list[str]
    floors: list[Floor] = field(default_factory=list)
    queues: list[QueueCost] = field(default_factory=list)

    def medians(self, scenario: str) -> dict[str, dict[str, float]]:
        """By collector: the median of every figure over its runs."""
        return {
            collector.name: median(mine)
            for collector in self.collectors
            if (mine := [run for run in self.runs.get(scenario, []) if run.collector == collector.name])
        }


def median(runs: Sequence[Run]) -> dict[str, float]:
    """The median of every figure of `runs`, except those that only tell runs apart."""
    names = [field.name for field in fields(Run) if field.name not in ("collector", "round", "exit_code")]
    return {name: statistics.median(getattr(run, name) for run in runs) for name in names}


def tells(figures: Mapping[str, float]) -> bool:
    """Whether enough was delivered for a cost of each sample to say anything."""
    return figures["samples_delivered"] >= _TELLING * figures["samples_served"]


def ratios(medians: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """By peer: its figures over Trunkline's, where Trunkline has one that is not 0."""
    ours = medians.get(TRUNKLINE)
    if ours is None:
        return {}
    return {
        peer: {name: round(theirs[name] / ours[name], 3) for name in RATIOS if ours[name]}
        for peer, theirs in medians.items()
        if peer != TRUNKLINE
    }


def document(results: Results) -> dict[str, Any]:
    """The results as JSON; docs/performance.md says what each key means."""
    return {
        "schema": SCHEMA,
        **results.about,
        "collectors": {one.name: {"title": one.title, "version": one.version} for one in results.collectors},
        "missing": {one.name: one.why for one in results.missing},
        "failures": results.failures,
        "not_measured": list(NOT_MEASURED),
        "floors": [asdict(floor) for floor in results.floors],
        "queues": [asdict(cost) for cost in results.queues],
        "scenarios": [_scenario(results, scenario) for scenario in results.scenarios],
    }


def _scenario(results: Results, scenario: Scenario) -> dict[str, Any]:
    medians = results.medians(scenario.name)
    return {
        **asdict(scenario),
        "runs": [asdict(run) for run in results.runs.get(scenario.name, [])],
        "medians": medians,
        "ratios": ratios(medians),
    }


def text(results: Results) -> str:
    """For a terminal."""
    parts = []
    for scenario in results.scenarios:
        rows = [_COLUMNS, *_rows(results, scenario)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
        lines = (_aligned(row, widths) for row in rows)
        parts.append("\n".join((f"\n{scenario.title}", *lines)))
    return "\n".join((*parts, "", *notes(results)))


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)
    )
    return "  ".join((first, *others))


def markdown(results: Results) -> str:
    """For docs/performance.md: what stands between its markers."""
    parts = [_about(results)]
    for scenario in results.scenarios:
        head = "| " + " | ".join(_COLUMNS) + " |"
        rule = "| --- |" + " ---: |" * (len(_COLUMNS) - 1)
        rows = ["| " + " | ".join(row) + " |" for row in _rows(results, scenario)]
        parts.append("\n".join((f"### {scenario.title}", "", head, rule, *rows)))
    parts.append("\n".join(f"- {note}" for note in notes(results)))
    return "\n\n".join(part for part in parts if part)


def _about(results: Results) -> str:
    about, machine = results.about, results.about["machine"]
    cores = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    lines = [
        f"- measured {about['date']} with `{about['command']}`, {about['rounds']} round(s) in turn, medians",
        f"- machine: {cores}, {machine['system']}, Python {machine['python']}",
        *(f"- {one.title}: version {one.version}" for one in results.collectors),
    ]
    return "\n".join(lines)


def notes(results: Results) -> Iterator[str]:
    """What a reader must know to trust the tables: what nobody can go below, what the queue takes, what is missing, failed, or was disturbed."""
    for floor in results.floors:
        ours = results.medians(floor.scenario).get(TRUNKLINE, {}).get("cpu_ns_per_sample", 0.0)
        times = f"; Trunkline takes {ours / floor.cpu_ns_per_sample:.1f} times that" if ours else ""
        yield f"the floor at {floor.scenario} targets (see bench/floor.py): {floor.cpu_ns_per_sample:.0f} ns per sample{times}"
    yield from map(told, results.queues)
    for missing in results.missing:
        yield f"not measured: {missing.name} ({missing.why})"
    yield from results.failures
    for scenario in results.scenarios:
        for run in results.runs.get(scenario.name, []):
            yield from _run_notes(scenario, run)
    yield from _surroundings(results)


def _surroundings(results: Results) -> Iterator[str]:
    """What else ran on the machine."""
    shares = [run.own_cpu_share for runs in results.runs.values() for run in runs]
    if shares:
        yield f"load and receiver together took {min(shares):.1%} to {max(shares):.1%} of a core"
    apart = [scenario.name for scenario in results.scenarios if not scenario.together]
    alone = [run.others_cpu_share for name in apart for run in results.runs.get(name, [])]
    disturbed = [share for share in alone if share > 0.25]
    if disturbed:
        yield (
            f"the machine was not quiet: other processes took more than a quarter of a core in {len(disturbed)} of "
            f"{len(alone)} runs, at most {max(disturbed):.0%}"
        )


def _run_notes(scenario: Scenario, run: Run) -> Iterator[str]:
    where = f"{scenario.name}, {run.collector}, round {run.round}"
    late = run.scrapes_expected - run.scrapes_served
    if late > max(1, run.scrapes_expected // 100):
        yield f"{where}: {late} of {run.scrapes_expected} scrapes were missed"
    if run.scrapes_delivered < run.scrapes_served:
        yield f"{where}: {run.scrapes_served - run.scrapes_delivered} of {run.scrapes_served} scrapes did not arrive whole, or were given up half read"
    if run.unlabelled_series:
        yield f"{where}: {run.unlabelled_series} series lacked identity labels"


def _rows(results: Results, scenario: Scenario) -> Iterator[tuple[str, ...]]:
    medians = results.medians(scenario.name)
    ours = medians.get(TRUNKLINE, {}).get("cpu_ns_per_sample")
    titles = {collector.name: collector.title for collector in results.collectors}
    for name, one in medians.items():
        told = tells(one)
        yield (
            titles[name],
            f"{one['cpu_ns_per_sample']:,.0f}" if told else "-",
            f"{one['cpu_ns_per_sample'] / ours:.2f}" if ours and told else "-",
            f"{one['cpu_share'] * 100:.2f}",
            f"{one['peak_rss_bytes'] / 1e6:.0f}",
            f"{one['steady_rss_bytes'] / 1e6:.0f}",
            f"{one['wire_bytes_per_sample']:.1f}",
            f"{one['first_sample_s']:.1f}",
            f"{one['scrapes_served']:,.0f} of {one['scrapes_expected']:,.0f}",
            f"{one['samples_delivered'] / max(one['samples_served'], 1):.2%}",
        )
