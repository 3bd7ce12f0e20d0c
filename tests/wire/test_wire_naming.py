"""OpenTelemetry names in Prometheus."""

import json
from pathlib import Path
from typing import Any

import pytest

from trunkline.model import Kind
from trunkline.wire.naming import label_name, metric_name

DATA = Path(__file__).parent / "data"
GENERAL: dict[str, Any] = json.loads((DATA / "remote_write_naming_cases.json").read_text())
ECS: dict[str, Any] = json.loads((DATA / "ecs_remote_write_names.json").read_text())


@pytest.mark.parametrize("case", GENERAL["cases"], ids=lambda case: f"{case['name']} {case['unit']}")
def test_general_names(case: dict[str, str]) -> None:
    name, unit, kind = case["name"], case["unit"], Kind(case["kind"])
    assert metric_name(name, unit, kind) == case["with_suffixes"]
    assert metric_name(name, unit, kind, suffixes=False) == case["without_suffixes"]
    assert metric_name(name, unit, kind, namespace="adot") == case["with_suffixes_namespace_adot"]


def test_ecs_names() -> None:
    assert len(ECS["metrics"]) > 50
    for case in ECS["metrics"]:
        kind = Kind.GAUGE if case["otlp_type"] == "gauge" else Kind.UNKNOWN
        assert metric_name(case["otlp_name"], case["unit"], kind) == case["with_suffixes"]
        assert metric_name(case["otlp_name"], case["unit"], kind, suffixes=False) == case["without_suffixes"]


def test_label_names() -> None:
    for case in GENERAL["labels"]:
        assert label_name(case["in"]) == case["out"]
    for key, label in ECS["labels_when_resource_to_telemetry_enabled"].items():
        assert label_name(key) == label


def test_further_names() -> None:
    """Checked against github.com/prometheus/otlptranslator 1.0.0."""

    def check(expected: str, name: str, unit: str = "", kind: Kind = Kind.GAUGE, **options: Any) -> None:
        assert metric_name(name, unit, kind, **options) == expected

    check("second_9_seconds_per_second", "second 9", "s/s")
    check("x_total_ratio", "ratio.x.total", "1")
    check("x_total", "total.x", "1", Kind.COUNTER)
    check("x_per_second", "x", "1/s", Kind.UNKNOWN)
    check("x_seconds", "x", " s ")
    check("x", "x", "{a}/{b}")
    check("x_a_per_b_c", "x", "a/b/c")
    check("meters_per_second", "", "m/s")
    check("n.s_x", "x", namespace="n.s")
    check("_9x_x", "x", namespace="9x")
    check("n_s_x", "x", namespace="n.s", suffixes=False)
    check("a_b", " a.b ", suffixes=False)
    assert label_name("__a b..c__") == "__a_b_c__"
    assert label_name("é") == "key_"


def test_names_of_which_nothing_is_left() -> None:
    for name, suffixes in (("é", True), ("", True), ("...", False), ("", False)):
        with pytest.raises(ValueError, match="metric"):
            metric_name(name, suffixes=suffixes)
    for key in ("", "_", "____"):
        with pytest.raises(ValueError, match="cannot be a label"):
            label_name(key)
