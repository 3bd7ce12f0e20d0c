"""Whatever is written in a configuration, the only exception is ConfigError."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from tests.config.config_samples import MINIMAL, SampleComponents

from trunkline.collector.config import read
from trunkline.collector.config.expansion import Expander
from trunkline.collector.config.findings import Findings
from trunkline.collector.config.nodes import Node, Place, merge, plain
from trunkline.errors import ConfigError

PLACE = Place("any.yaml", 1, 1)

pieces = st.sampled_from(
    [
        "$",
        "$$",
        "${",
        "}",
        "${A}",
        "${env:",
        "env:",
        "yaml:",
        "file:",
        ":-",
        ":",
        "A",
        "B",
        "[",
        "]",
        "{",
        " ",
        "x",
        "1",
    ]
)
referring = st.lists(pieces | st.text(max_size=3), max_size=12).map("".join)
environments = st.dictionaries(st.sampled_from(["A", "B", "C"]), referring, max_size=3)


@given(referring, environments)
@example("${A}", {"A": "${A}${A}"})
@example("${A}", {"A": "{a: '${A}'}"})
def test_expansion_raises_nothing(text: str, environment: dict[str, str]) -> None:
    findings = Findings()
    Expander(environment, findings).expand(Node(text, PLACE, text))
    try:
        findings.raise_problems()
    except ConfigError as error:
        assert error.problems  # noqa: PT017 (both outcomes are fine)


@given(st.text(alphabet=st.characters(exclude_characters="$")))
def test_text_without_dollars_is_left_alone(text: str) -> None:
    node = Node(text, PLACE, text)
    assert Expander({}, Findings()).expand(node) is node


yamlish = st.lists(
    st.sampled_from(
        ["a", ": ", "- ", "\n", "\n  ", "{", "}", "[", "]", ",", "&a ", "*a", "<<: ", "'", '"', "|", ">", "!!int ", "#",
         "---\n", "? ", "\t", "%", "0x1", "1.5", "~", "receivers", "service", "prometheus", "${A}", "::", "exporters:\n"]
    )
    | st.text(max_size=2),
    max_size=25,
).map("".join)  # fmt: skip


def read_or_refuse(text: str) -> None:
    try:
        read([f"yaml:{MINIMAL}"], {"AOT_CONFIG_CONTENT": text, "A": "x: y"}, SampleComponents())
    except ConfigError as error:
        assert error.problems  # noqa: PT017 (both outcomes are fine)


@given(yamlish)
@example("receivers: {::: }")
@example('"\\UFFFFFFFF"')
@example("a: \ud800")
def test_text_raises_nothing(text: str) -> None:
    read_or_refuse(text)


words = st.sampled_from(
    ["receivers", "exporters", "processors", "extensions", "service", "pipelines", "telemetry", "metrics", "logs", "level",
     "prometheus", "prometheusremotewrite", "config", "scrape_configs", "job_name", "debug", "debug/ 1", "/", "timeout",
     "connectors", "readers", "pull", "address", "attribute", "codes", "wal", "${A}"]
)  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=4)
trees = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(words, below, max_size=4),
    max_leaves=25,
)


@given(st.dictionaries(words, trees, max_size=6))
def test_trees_raise_nothing(tree: dict[str, Any]) -> None:
    read_or_refuse(yaml.safe_dump(tree))


leaves = st.integers() | st.none() | st.lists(st.integers(), max_size=2)
maps = st.recursive(
    st.dictionaries(st.sampled_from("abc"), leaves, max_size=3),
    lambda below: st.dictionaries(st.sampled_from("abc"), leaves, max_size=3).flatmap(
        lambda flat: st.dictionaries(st.sampled_from("xyz"), below, max_size=3).map(
            lambda deep: {**flat, **deep}
        )
    ),
    max_leaves=6,
)


def as_node(value: Any) -> Node:
    if isinstance(value, dict):
        return Node(
            {key: as_node(one) for key, one in value.items()}, PLACE, keys=dict.fromkeys(value, PLACE)
        )
    return Node([as_node(one) for one in value], PLACE) if isinstance(value, list) else Node(value, PLACE)


@given(maps, maps, maps)
def test_merging_maps_is_associative(first: Any, second: Any, third: Any) -> None:
    one, two, three = map(as_node, (first, second, third))
    assert plain(merge(merge(one, two), three)) == plain(merge(one, merge(two, three)))


@given(maps, maps)
def test_the_right_side_wins(left: Any, right: Any) -> None:
    merged = plain(merge(as_node(left), as_node(right)))
    assert plain(merge(as_node(merged), as_node(right))) == merged
    assert {key: merged[key] for key in right if key in "abc"} == {
        key: right[key] for key in right if key in "abc"
    }
    assert set(merged) == set(left) | set(right)
