"""`${…}` in values, by the cases of the collector and by what surrounds them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from trunkline.collector.config import At, Decoder
from trunkline.collector.config.expansion import Expander
from trunkline.collector.config.findings import Findings
from trunkline.collector.config.nodes import Node, Place, plain
from trunkline.component.settings import setting
from trunkline.errors import ConfigError

CASES = json.loads(Path(__file__).with_name("config_expansion_cases.json").read_text())
PLACE = Place("case.yaml", 1, 1)
WORDS = {
    "invalid env var name": 'environment variable "1" has invalid name',
    "scheme nosuch not supported": 'scheme "nosuch" is not supported for uri "nosuch:foo"',
}


@dataclass(frozen=True, kw_only=True)
class OneString:
    value: str = setting(default="unset", doc="A string.")


def expanded(text: str, **environment: str) -> Node:
    """Raises ConfigError when something is wrong with `text`."""
    findings = Findings()
    node = Expander(environment, findings).expand(Node(text, PLACE, text))
    findings.raise_problems()
    return node


def as_string(text: str, **environment: str) -> Any:
    """What a field of type string gets."""
    node = Node({"value": expanded(text, **environment)}, PLACE, keys={"value": PLACE})
    findings = Findings()
    decoded = Decoder(findings).decode(node, OneString, At(PLACE, ("test",)))
    findings.raise_problems()
    return decoded.value


@pytest.mark.parametrize("case", CASES["cases"], ids=lambda case: case["in"])
def test_collector_case(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(ConfigError) as caught:
            expanded(case["in"], **CASES["env"])
        assert WORDS[case["error"]] in str(caught.value)
        return
    value = plain(expanded(case["in"], **CASES["env"]))
    assert (value, type(value)) == (case["value"], type(case["value"]))
    assert as_string(case["in"], **CASES["env"]) == case["as_string_field"]


def refused(text: str, **environment: str) -> str:
    with pytest.raises(ConfigError) as caught:
        expanded(text, **environment)
    return str(caught.value)


def test_numbers_keep_their_spelling_for_strings() -> None:
    def check(text: str, value: object) -> None:
        assert plain(expanded("${X}", X=text)) == value
        assert as_string("${X}", X=text) == text

    check("0123", 0o123)
    check("1e3", 1000.0)
    check("1_000", 1000)
    check("true", True)
    check('"quoted"', '"quoted"')
    check("yes", "yes")


def test_nested_references() -> None:
    assert plain(expanded("${env:A${env:B}}", B="X", AX="7")) == 7
    assert plain(expanded("${env:A}", A="['${env:B}', $$x]", B="1")) == [1, "$x"]
    assert as_string("${env:A}", A="['${env:B}', $$x]", B="1") == "['1', $x]"


def test_yaml_and_file_schemes(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("p@ss: word\n")
    (tmp_path / "map.yaml").write_text("a: ${env:A}\nb: [1]\n")
    assert plain(expanded("${yaml:[1, x]}")) == [1, "x"]
    assert plain(expanded(f"${{file:{tmp_path}/map.yaml}}", A="5")) == {"a": 5, "b": [1]}
    (tmp_path / "token").write_text("@abc\n")
    assert plain(expanded(f"Bearer ${{file:{tmp_path}/token}}")) == "Bearer @abc"
    assert as_string(f"${{file:{tmp_path}/secret}}") == "p@ss: word\n"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "unable to read the file" in refused(f"${{file:{tmp_path}/none}}")


def test_remote_schemes_are_refused_by_name() -> None:
    for scheme in ("http", "https", "s3"):
        text = refused(f"${{{scheme}://host/x}}")
        assert f'scheme "{scheme}" is not supported' in text
        assert "over the network" in text


def test_lists_do_not_fit_into_text() -> None:
    assert "does not have unambiguous string representation" in refused("x${A}", A="[a]")


def test_a_cycle_ends() -> None:
    assert "too many recursive expansions" in refused("${A}", A="${B}", B="${A}")
    assert "too many recursive expansions" in refused("${A}", A="['${A}', '${A}']")
    assert "too many recursive expansions" in refused("${A}", A="{x: '${A}'}")


def test_growth_is_bounded() -> None:
    variables = {f"V{n}": f"x${{V{n + 1}}}y${{V{n + 1}}}" for n in range(60)}
    assert "grows past" in refused("${V0}!", **variables)


def test_dollars_in_references_are_refused() -> None:
    assert "unsupported characters ('$')" in refused("${env:A$B}")


def test_a_default_needs_the_scheme() -> None:
    assert "write ${env:PORT:-8080}" in refused("${PORT:-8080}")


def test_remedy_for_a_relabel_group() -> None:
    assert "write `$${1}` for a literal `${1}`" in refused("${1}")


def test_unset_variables_are_warned_about_once_per_place() -> None:
    findings = Findings()
    tree = Node({"a": Node("x${NONE}${env:NONE:-}", PLACE), "b": Node("${SET}", PLACE)}, PLACE)
    expanded_tree = Expander({"SET": ""}, findings).expand(tree)
    assert plain(expanded_tree) == {"a": "x", "b": None}
    assert [warning.message for warning in findings.warnings()] == [
        'configuration references unset environment variable "NONE"'
    ]


def test_keys_and_untouched_values_stay_as_they_are() -> None:
    tree = Node({"${A}": Node([Node("plain", PLACE)], PLACE)}, PLACE)
    assert Expander({"A": "x"}, Findings()).expand(tree) is tree
