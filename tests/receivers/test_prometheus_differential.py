"""The receiver and a real Prometheus scrape the same misbehaving targets: the same series, values and markers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.receivers.judge import (
    OPENMETRICS,
    PROMETHEUS,
    Page,
    Seen,
    Targets,
    by_scrape,
    listening,
    prometheus,
    recorded,
    stored,
)

from trunkline import components
from trunkline.collector.config import read
from trunkline.component.contract import ComponentId
from trunkline.model import STALE_BITS, Batch, Labels
from trunkline.receivers.prometheus.config import PrometheusConfig
from trunkline.testing import Recorder, context_for
from trunkline.wire.numbers import format_bound

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="Prometheus is not installed")

SCRAPES = 6
NOW_MS = int(time.time() * 1000)
PAST = [NOW_MS - 40_000 + 1000 * number for number in range(20)]
ORDINARY = "# TYPE a counter\na 1\n"

COUNTS = {
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
}


def pages(*bodies: str, **settings: Any) -> list[Page]:
    return [Page(body, **settings) for body in bodies]


SCENARIOS: Mapping[str, tuple[Mapping[str, Any], Sequence[Page]]] = {
    "churn": (
        {},
        pages(
            '# TYPE a counter\na{n="1"} 1\na{n="2"} 1\nb 1\n',
            'a{n="1"} 2\na{n="3"} NaN\nb +Inf\n',
            'a{n="2"} 3\n',
            "",
            'a{n="1"} 4\na{n="2"} 4\na{n="3"} 1e-300\n',
        ),
    ),
    "bounds": (
        {},
        pages(
            '# TYPE h histogram\nh_bucket{le="1.0"} 1\nh_bucket{le="+Inf"} 2\nh_sum 3\nh_count 2\n'
            '# TYPE s summary\ns{quantile="0.5"} 1\ns_sum 1\ns_count 1\n'
        ),
    ),
    "down": ({}, [Page(ORDINARY), Page(status=500), Page(ORDINARY), Page(status=404), Page(ORDINARY)]),
    "broken": ({}, pages("a 1\nb 1\n", "a 2\nc 1\nb x\n", "a 3\nb 3\n", 'a 4\nb{x="\n', "a 5\nb 5\n")),
    "duplicates": ({}, pages("a 1\na 2\nb 1\nb 1\n", 'c{x="1",y="2"} 1\nc{y="2",x="1"} 7\n', ORDINARY)),
    "sample_limit": (
        {"sample_limit": 3},
        pages("a 1\nb 1\n", "a 2\nb 2\nc 2\nd 2\ne 2\n", "a 3\nb 3\nc 3\nd 3\n", "a 5\n"),
    ),
    "sample_limit_at_once": (
        {"sample_limit": 2},
        pages("a 1\nb 1\nc 1\nd 1\n", "a 1\nb 1\nc 1\n", "a 1\nb 1\n"),
    ),
    "sample_limit_relabelled": (
        {
            "sample_limit": 2,
            "metric_relabel_configs": [{"source_labels": ["__name__"], "regex": "go_.*", "action": "drop"}],
        },
        pages("a 1\nb 1\ngo_x 1\ngo_y 1\n", "a 1\nb 1\nc 1\ngo_x 1\n", "a 2\n"),
    ),
    "label_limit": ({"label_limit": 5}, pages('a{x="1",y="2",z="3"} 1\n', "a 1\n", 'a{x="1"} 1\n')),
    "label_name": ({"label_name_length_limit": 12}, pages("a 1\n", 'a{thirteenchars="1"} 1\n', "a 1\n")),
    "label_value": ({"label_value_length_limit": 20}, pages("a 1\n", f'a{{x="{"v" * 21}"}} 1\n', "a 1\n")),
    "body_limit": (
        {"body_size_limit": "20B"},
        pages("a 1\n", "a 1\n" + "# " + "x" * 30 + "\n", "a 1\n# 45678901234\n", "a 2\n"),
    ),
    "conflicts": (
        {},
        pages('a{job="x"} 1\nb{job="x",exported_job="y"} 1\nc{instance="",job=""} 1\nd{job_name="z"} 1\n'),
    ),
    "honor_labels": (
        {"honor_labels": True},
        pages('a{job="x"} 1\nb{instance="x",exported_job="y"} 1\nc{instance=""} 1\n'),
    ),
    "relabelled": (
        {
            "metric_relabel_configs": [
                {"source_labels": ["__name__"], "regex": "drop_(.*)", "action": "drop"},
                {
                    "source_labels": ["code"],
                    "regex": "(.)..",
                    "replacement": "${1}xx",
                    "target_label": "class",
                },
                {"regex": "meta_(.+)", "action": "labelmap"},
                {"regex": "meta_.+|instance", "action": "labeldrop"},
                {"source_labels": ["path"], "target_label": "shard", "modulus": 7, "action": "hashmod"},
                {
                    "source_labels": ["Mixed", "path"],
                    "separator": "-",
                    "target_label": "low",
                    "action": "lowercase",
                },
                {"source_labels": ["Mixed"], "target_label": "HIGH", "action": "uppercase"},
                {"source_labels": ["same"], "target_label": "path", "action": "dropequal"},
                {
                    "source_labels": ["__name__"],
                    "regex": "old_(.*)",
                    "replacement": "new_$1",
                    "target_label": "__name__",
                },
                {"source_labels": ["gone"], "target_label": "__kept__", "replacement": "yes", "regex": ""},
                {"target_label": "never", "replacement": "$1_x"},
            ]
        },
        pages(
            'drop_this 1\nx{code="404"} 1\nx{code="4"} 2\nx{meta_a="1",meta_b="2",path="/p"} 3\n'
            'x{Mixed="Aé",path="/Q"} 4\nx{same="/p",path="/p"} 5\nold_total{path="ß"} 6\n',
            'old_total{path="ß"} 7\nnew_total{path="ß"} 8\ny{instance="1"} 1\ny{instance="2"} 2\n',
            'x{code="404"} 2\n',
        ),
    ),
    "nameless": (
        {
            "metric_relabel_configs": [
                {"source_labels": ["n"], "regex": "1", "target_label": "__name__", "replacement": ""}
            ]
        },
        pages("a 1\n", 'a 2\na{n="1"} 2\n', "a 3\n"),
    ),
    "all_dropped": (
        {"metric_relabel_configs": [{"source_labels": ["__name__"], "regex": "b", "action": "keep"}]},
        pages("a 1\nb 1\n", "a 1\n", "b 2\n"),
    ),
    "timestamps": (
        {},
        pages(
            f"a 1 {PAST[0]}\nb 1 {PAST[0]}\nc 1 {PAST[0]}\nd 1\n",
            f"a 2 {PAST[1]}\nb 2 {PAST[1]}\nd 2\n",
            f"a 3 {PAST[2]}\nb 3\n",
            f"a 4 {PAST[3]}\nb 4 {NOW_MS + 120_000}\n",
            "a 5\n",
        ),
    ),
    "tracked": (
        {"track_timestamps_staleness": True},
        pages(f"a 1 {PAST[0]}\nb 1 {PAST[0]}\n", f"a 2 {PAST[1]}\n", f"a 3 {PAST[2]}\n", "c 1\n"),
    ),
    "several": (
        {},
        pages(f"a 1 {PAST[0]}\na 2 {PAST[1]}\na 3 {PAST[2]}\na 3 {PAST[2]}\n", f"a 4 {PAST[3]}\n"),
    ),
    "not_honored": (
        {"honor_timestamps": False},
        pages(f"a 1 {PAST[0]}\na 2 {PAST[1]}\nb 1 {PAST[0]}\n", "b 2\n"),
    ),
    "future": ({}, pages(f"a 1 {NOW_MS + 3_600_000}\nb 1\n", "b 2\n")),
    "openmetrics": (
        {},
        pages(
            '# TYPE r counter\nr_total 5 # {trace="x"} 1 1.5\nr_created 123.5\n# EOF\n',
            "# TYPE r counter\nr_total 6\n",
            '# TYPE h histogram\nh_bucket{le="1.0"} 1\nh_bucket{le="+Inf"} 1 # {t="y"} 0.5\nh_count 1\nh_sum 1\n# EOF\n',
            content_type=OPENMETRICS,
        ),
    ),
    "openmetrics_empty": ({}, pages("a 1\n# EOF\n", "", "a 2\n# EOF\n", content_type=OPENMETRICS)),
    "redirect": ({}, [Page(ORDINARY), Page(status=302, headers={"Location": "/churn_elsewhere"})]),
    "redirect_refused": (
        {"follow_redirects": False},
        [Page(ORDINARY), Page(status=302, headers={"Location": "/churn_elsewhere"}), Page(ORDINARY)],
    ),
}

OF_VERSION_3 = {"tracked", "openmetrics_empty"}
"""What Debian's 2.42 does not know yet, or does in another way."""
if not os.environ.get("TRUNKLINE_JUDGE"):
    SCENARIOS = {name: made for name, made in SCENARIOS.items() if name not in OF_VERSION_3}

HALF_WAY = {"broken", "label_limit", "label_name", "label_value", "nameless", "openmetrics"}
"""Prometheus counts what it read of a body up to the error in it, the receiver nothing."""
LIMITED = {"sample_limit", "sample_limit_at_once", "sample_limit_relabelled"}
RESPELLED = {"duplicates", "relabelled"}
"""Two texts that are one series are two new series for Prometheus."""


def is_known(job: str, one: Seen) -> bool:
    """Whether a difference is one of those listed in docs/compatibility.md.

    When a body fails half-way, Prometheus leaves the series it had read already without marker, and marks them, or
    some that never were, later; with the receiver everything is stale at once.
    """
    name = dict(one.labels)["__name__"]
    if job in HALF_WAY:
        return name in COUNTS or one.bits == STALE_BITS
    if job in LIMITED:
        return name == "scrape_series_added" or one.bits == STALE_BITS
    return job in RESPELLED and name == "scrape_series_added"


def jobs(address: str) -> list[dict[str, Any]]:
    made = [
        {
            "job_name": name,
            "metrics_path": f"/{name}",
            "static_configs": [{"targets": [address], "labels": {"job_name": name}}],
            **settings,
        }
        for name, (settings, _) in SCENARIOS.items()
    ]
    labels = {"job_name": "target_limit"}
    made.append(
        {
            "job_name": "target_limit",
            "metrics_path": "/target_limit",
            "target_limit": 1,
            "static_configs": [
                {"targets": [address], "labels": labels},
                {"targets": [address], "labels": {**labels, "target_number": "2"}},
            ],
        }
    )
    return made


def settings_of(config: Mapping[str, Any]) -> PrometheusConfig:
    whole = {
        "receivers": {"prometheus": {"config": config}},
        "exporters": {"debug": None},
        "service": {"pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["debug"]}}},
    }
    text = json.dumps(whole).replace("$", "$$")
    declared = read([f"yaml:{text}"], {}, components).receivers[ComponentId("prometheus")]
    assert isinstance(declared.config, PrometheusConfig)
    return declared.config


class WithExtras(Recorder):
    """Remembers the labels of further samples, too."""

    def __init__(self) -> None:
        super().__init__()
        self.further: list[tuple[Labels, float, int]] = []

    def consume(self, batch: Batch) -> None:
        super().consume(batch)
        for extra in batch.extras:
            series = batch.table.series[extra.slot]
            assert series is not None
            self.further.append((series.labels, extra.value, extra.timestamp_ms))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def test_the_receiver_writes_what_prometheus_stores(tmp_path: Path) -> None:
    served = {name: made for name, (_, made) in SCENARIOS.items()}
    targets = Targets({**served, "churn_elsewhere": [Page("a 9\n")], "target_limit": [Page(ORDINARY)]})
    timing = {"scrape_interval": "1s", "scrape_timeout": "900ms"}
    async with listening(targets) as address:
        config = {"global": timing, "scrape_configs": jobs(address)}
        seen = WithExtras()
        ours = settings_of({**config, "global": {**timing, "extra_scrape_metrics": True}})
        receiver = ours.build(context_for("prometheus"), seen)
        async with prometheus(tmp_path, config, free_port()) as url:
            running = asyncio.create_task(receiver.run())
            await asyncio.wait_for(targets.wait(SCENARIOS, SCRAPES + 2), 60)
            running.cancel()
            await asyncio.wait([running])
            expected = by_scrape(await stored(url, PAST[0] - 1000, NOW_MS + 7_200_000), SCRAPES)
    found = by_scrape(recorded(seen.batches, seen.further), SCRAPES)
    differences = []
    assert expected.keys() == found.keys()
    for job in expected:
        for sign, samples in (("-", expected[job] - found[job]), ("+", found[job] - expected[job])):
            differences += [
                f"{job} {sign} {one.when} {dict(one.labels)} {one.bits:x}"
                for one in sorted(samples, key=lambda one: (one.when, one.labels))
                if not is_known(job, one)
            ]
    assert not differences, "\n".join(differences[:30])


NODE_EXPORTER = shutil.which("prometheus-node-exporter")


@pytest.mark.skipif(NODE_EXPORTER is None, reason="prometheus-node-exporter is not installed")
async def test_a_real_exporter_gives_the_same_series(tmp_path: Path) -> None:
    assert NODE_EXPORTER is not None
    exporter_port = free_port()
    process = await asyncio.create_subprocess_exec(
        NODE_EXPORTER, f"--web.listen-address=127.0.0.1:{exporter_port}", "--log.level=error"
    )
    rules = [
        {"source_labels": ["__name__"], "regex": "node_(cpu|scrape)_.*", "action": "drop"},
        {
            "source_labels": ["device", "fstype"],
            "separator": "@",
            "regex": "(.+)@(.+)",
            "target_label": "mount",
        },
        {"regex": "fstype", "action": "labeldrop"},
    ]
    job = {
        "job_name": "node",
        "static_configs": [{"targets": [f"127.0.0.1:{exporter_port}"], "labels": {"job_name": "node"}}],
        "metric_relabel_configs": rules,
    }
    timing = {"scrape_interval": "1s", "scrape_timeout": "900ms"}
    config = {"global": timing, "scrape_configs": [job]}
    seen = WithExtras()
    receiver = settings_of({**config, "global": {**timing, "extra_scrape_metrics": True}}).build(
        context_for("prometheus"), seen
    )
    start_ms = int(time.time() * 1000)
    try:
        async with prometheus(tmp_path, config, free_port()) as url:
            running = asyncio.create_task(receiver.run())
            await seen.wait_for(4)
            expected: set[Labels] = set()
            while len(expected) < 200:  # its first scrape takes some seconds to come
                await asyncio.sleep(0.5)
                expected = {labels for labels, _, _ in await stored(url, start_ms, start_ms + 60_000)}
            running.cancel()
            await asyncio.wait([running])
    finally:
        process.terminate()
        await process.wait()
    assert {labels for labels, _, _ in recorded(seen.batches, ())} == {as_in_3(labels) for labels in expected}


def as_in_3(labels: Labels) -> Labels:
    """Prometheus 3 normalises the text of bounds, Debian's 2.42 keeps it."""
    return tuple(
        (name, format_bound(value) if name in ("le", "quantile") else value) for name, value in labels
    )
