"""YAML as the collector reads it: types of plain scalars, places, anchors, and what is refused."""

from __future__ import annotations

import math
import time
from typing import Any

from trunkline.collector.config.document import DEEPEST, parse_document
from trunkline.collector.config.findings import Findings
from trunkline.collector.config.nodes import Node, Place, plain
from trunkline.errors import ConfigError


def parsed(text: str) -> Node:
    findings = Findings()
    node = parse_document(text, "a.yaml", findings)
    findings.raise_problems()
    assert node is not None
    return node


def refused(text: str) -> str:
    try:
        parsed(text)
    except ConfigError as error:
        return str(error)
    return ""


def test_plain_scalars() -> None:
    def check(text: str, expected: object) -> None:
        value = plain(parsed(f"x: {text}"))["x"]
        assert (value, type(value)) == (expected, type(expected))

    for word in (
        "yes",
        "no",
        "on",
        "off",
        "y",
        "N",
        "1:30",
        "2024-01-02",
        "1.2.3",
        "0.0.0.0:8000",
        "0x",
        "+",
        ".",
        "_1",
    ):
        check(word, word)
    for word in ("true", "True", "TRUE"):
        check(word, True)
    check("false", False)
    for word in ("", "~", "null", "Null"):
        check(word, None)
    check("0", 0)
    check("-12", -12)
    check("+12", 12)
    check("1_000", 1000)
    check("0x1F", 31)
    check("0o17", 15)
    check("017", 15)
    check("0b101", 5)
    check("089", 89.0)
    check("18446744073709551615", 2**64 - 1)
    check("18446744073709551616", 2.0**64)
    check("1.5", 1.5)
    check(".5e1", 5.0)
    check("1e3", 1000.0)
    check("-.inf", -math.inf)
    check('"8080"', "8080")
    check("'true'", "true")
    check("!!str 12", "12")
    check('!!int "12"', 12)
    check("!custom text", "text")
    assert math.isnan(plain(parsed(".nan")))


def test_every_value_has_its_place() -> None:
    root = parsed("a:\n  - x\n  - {b: 1}\n")
    assert root.keys["a"] == Place("a.yaml", 1, 1)
    assert isinstance(root.value, dict)
    items = root.value["a"].value
    assert isinstance(items, list)
    assert [item.place for item in items] == [Place("a.yaml", 2, 5), Place("a.yaml", 3, 5)]
    assert items[1].keys["b"] == Place("a.yaml", 3, 6)


def test_anchors_and_merge_keys() -> None:
    def check(text: str, expected: dict[str, Any]) -> None:
        assert plain(parsed(text)) == expected

    base = "base: &b {x: 1, y: 2}\n"
    check(f"{base}a: *b\n", {"base": {"x": 1, "y": 2}, "a": {"x": 1, "y": 2}})
    check(f"{base}a: {{y: 3, <<: *b}}\n", {"base": {"x": 1, "y": 2}, "a": {"x": 1, "y": 3}})
    check(f"{base}a: {{<<: [{{x: 0}}, *b]}}\n", {"base": {"x": 1, "y": 2}, "a": {"x": 0, "y": 2}})
    check('a: {"<<": 1}', {"a": {"<<": 1}})
    check("a: <<", {"a": "<<"})


def test_keys_are_text() -> None:
    assert plain(parsed("{1: a, true: b, on: c}")) == {"1": "a", "true": "b", "on": "c"}


def test_refused_documents() -> None:
    def check(text: str, expected: str) -> None:
        assert expected in refused(text)

    check("a: 1\nb: 2\na: 3", 'a.yaml:3:1: mapping key "a" already defined at line 1')
    check("a:\n\t- b", "a.yaml:2:1: not valid YAML: while scanning for the next token")
    check("a:\n\t- b", "indent with spaces")
    check("a: @b", "put the value in quotes")
    check("a: b: c", "a.yaml:1:5: not valid YAML: mapping values are not allowed")
    check("a: *none", "unknown anchor 'none' referenced")
    check("a: &a [*a]", "anchor 'a' value contains itself")
    check("? [a]\n: b", "invalid map key")
    check("<<: 1", "map merge requires map or sequence of maps")
    check("a: \x01", "control characters are not allowed")
    check("a: \ud800", "not valid Unicode")


def test_billion_laughs_are_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    start = time.monotonic()
    assert "excessive aliasing" in refused("\n".join(lines))
    assert time.monotonic() - start < 2


def test_nesting_is_bounded() -> None:
    assert refused("[" * DEEPEST + "]" * DEEPEST) == ""
    start = time.monotonic()
    assert "levels deep" in refused("[" * 50_000)
    assert time.monotonic() - start < 2


def test_only_the_first_document_is_read() -> None:
    findings = Findings()
    node = parse_document("a: 1\n---\nb: 2\n", "a.yaml", findings)
    assert node is not None
    assert plain(node) == {"a": 1}
    assert [str(warning) for warning in findings.warnings()] == [
        "a.yaml:2:1: only the first YAML document is read"
    ]
