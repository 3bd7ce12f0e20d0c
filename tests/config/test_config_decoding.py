"""Values and the types that settings declare: what fits, what is refused, and what is said about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pytest
from tests.config.config_samples import (
    MINIMAL,
    Batch,
    Debug,
    RemoteWrite,
    Scrape,
    Verbosity,
    problems,
    read_sources,
)

from trunkline.collector.config import INVALID, At, Decoder
from trunkline.collector.config.document import parse_document
from trunkline.collector.config.expansion import Expander
from trunkline.collector.config.findings import Findings
from trunkline.collector.config.nodes import Place
from trunkline.component.contract import ComponentId
from trunkline.component.settings import setting, settings_of
from trunkline.errors import ConfigError


def decoded(text: str, hint: Any, **environment: str) -> Any:
    """Raises ConfigError when something is wrong."""
    findings = Findings()
    node = parse_document(text, "a.yaml", findings)
    assert node is not None
    at = At(Place("a.yaml", 1, 1), ("exporters", "x"))
    value = Decoder(findings).decode(Expander(environment, findings).expand(node), hint, at)
    findings.raise_problems()
    assert value is not INVALID
    return value


def refusal(text: str, hint: Any, **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        decoded(text, hint, **environment)
    return [str(problem) for problem in caught.value.problems]


def test_values_that_fit() -> None:
    def check(text: str, hint: Any, expected: object, **environment: str) -> None:
        value = decoded(text, hint, **environment)
        assert (value, type(value)) == (expected, type(expected))

    check("a", str, "a")
    check("3", int, 3)
    check("3.0", int, 3)
    check("3", float, 3.0)
    check("true", bool, True)
    check("[a, b]", list[str], ["a", "b"])
    check("a,b", list[str], ["a", "b"])
    check('""', list[str], [])
    check("[1, 2]", tuple[int, ...], (1, 2))
    check("[1, a]", tuple[int, str], (1, "a"))
    check("{a: 1, b: 2}", dict[str, int], {"a": 1, "b": 2})
    check("{a: }", dict[str, str], {"a": ""})
    check("", list[int], [])
    check("", str | None, None)
    check("x", str | None, "x")
    check("{a: [1, {b: x}]}", Any, {"a": [1, {"b": "x"}]})
    check("detailed", Verbosity, Verbosity.DETAILED)
    check("sigv4auth/a", ComponentId, ComponentId("sigv4auth", "a"))
    for text, value in (("1", 1), ("1.5", 1.5), ("true", True), ("a", "a")):
        check(text, str | int | float | bool | None, value)


def test_expanded_values_adapt() -> None:
    def check(variable: str, hint: Any, expected: object) -> None:
        value = decoded("${env:X}", hint, X=variable)
        assert (value, type(value)) == (expected, type(expected))

    check("8080", str, "8080")
    check("8080", int, 8080)
    check("8080", list[str], ["8080"])
    check("[1, a]", list[str], ["1", "a"])
    check("a,b", list[str], ["a", "b"])
    check("", str, "")
    check("0123", str | None, "0123")
    check("{a: 1}", dict[str, int], {"a": 1})


def test_type_errors_have_the_collectors_words_and_a_remedy() -> None:
    def check(text: str, hint: Any, expected: str) -> None:
        assert expected in refusal(text, hint)[0]

    check(
        "'3'",
        int,
        "expected type 'int', got unconvertible type 'string' (write a whole number, without quotes)",
    )
    check("3", str, "expected type 'string', got unconvertible type 'int' (put it in quotes: \"3\")")
    check("true", str, "expected type 'string', got unconvertible type 'bool'")
    check("true", int, "expected type 'int', got unconvertible type 'bool'")
    check("1.5", int, "expected type 'int', got unconvertible type 'float64'")
    check("yes", bool, "expected type 'bool', got unconvertible type 'string' (write true or false)")
    check("[a]", str, "expected type 'string', got unconvertible type '[]interface {}'")
    check("{a: 1}", list[str], "source data must be an array or slice, got map")
    check("3", list[int], "source data must be an array or slice, got int")
    check("[1]", dict[str, int], 'expected a map or struct, got "slice"')
    check("a", Debug, 'expected a map or struct, got "string"')
    check("[1, a, b]", tuple[int, str], "expected 2 items, got 3")
    check(
        "Detailed",
        Verbosity,
        'unknown value "Detailed" (did you mean `detailed`? valid values: basic, detailed)',
    )
    check("a/", ComponentId, 'in "a/" id: the part after / should not be empty')


def test_quantities() -> None:
    def check(text: str, expected: object) -> None:
        assert asdict(decoded(f"{{endpoint: x, timeout: {text}}}", RemoteWrite))["timeout"] == expected

    check("1m30s", 90.0)
    check("0", 0.0)
    check("1000000000", 1.0)
    assert 'time: unknown unit "d" in duration "1d"' in refusal("{timeout: 1d}", Batch)[0]
    assert 'time: missing unit in duration "1.5"' in refusal("{timeout: 1.5}", Batch)[0]
    assert (
        "expected a duration, got bool (write a duration such as 15s)" in refusal("{timeout: true}", Batch)[0]
    )
    scrape = (
        "config: {global: {scrape_interval: 1d12h}, scrape_configs: [{job_name: a, body_size_limit: 10MB}]}"
    )
    config = decoded(scrape, Scrape).config
    assert (config.global_.scrape_interval, config.scrape_configs[0].body_size_limit) == (
        129_600.0,
        10 * 2**20,
    )
    bare = "config: {global: {scrape_interval: 15}, scrape_configs: [{job_name: a, body_size_limit: 10}]}"
    first, second = refusal(bare, Scrape)
    assert 'not a valid duration string: "15" (write a Prometheus duration such as 15s)' in first
    assert "units: unknown unit  in 10 (write a size such as 64MiB)" in second


def test_lenient_text_keeps_its_spelling() -> None:
    jobs = "config: {scrape_configs: [{job_name: a, labels: {version: 1.10, on: true, none: , port: '${env:P}'}}]}"
    labels = decoded(jobs, Scrape, P="08").config.scrape_configs[0].labels
    assert labels == {"version": "1.10", "on": "true", "none": "", "port": "08"}


def test_defaults_and_nulls() -> None:
    assert decoded("", Batch) == Batch()
    assert decoded("{send_batch_size: , timeout: }", Batch) == Batch()
    assert decoded("{endpoint: x, wal: }", RemoteWrite).wal is None
    assert decoded("{endpoint: x, wal: {directory: d}}", RemoteWrite).wal.buffer_size == 300
    assert decoded("endpoint: ${env:NONE}", RemoteWrite).endpoint == ""
    assert decoded("send_batch_size: ${env:NONE}", Batch).send_batch_size == 8192


def test_required_settings() -> None:
    assert refusal("", RemoteWrite) == [
        "a.yaml:1:1: exporters::x: `endpoint` is required (Where samples go.)"
    ]
    assert refusal("{endpoint: x, wal: {}}", RemoteWrite) == [
        "a.yaml:1:15: exporters::x::wal: `directory` is required (Folder.)"
    ]


def test_unknown_keys_are_told_with_the_nearest() -> None:
    [found] = refusal("{endpoint: x, aws_auth: {regoin: y}}", RemoteWrite)
    assert found == (
        "a.yaml:1:26: exporters::x::aws_auth: 'aws_auth' has invalid keys: regoin "
        "(did you mean `region`? valid keys: region, service, role_arn)"
    )


def test_everything_wrong_is_found_at_once() -> None:
    found = refusal(
        "{timeout: x, compression: zip, codes: [1, a, true], foo: 1, headers: {a: 1}}", RemoteWrite
    )
    assert len(found) == 7


def test_what_a_component_finds_is_located_at_the_nearest_value() -> None:
    text = "prometheus:\n  config:\n    scrape_configs:\n    - job_name: ''\n    - {job_name: a, scrape_interval: 0s}\n"
    found = problems(
        f"yaml:{MINIMAL}", "env:MORE", MORE="receivers:\n" + "".join(f" {x}\n" for x in text.splitlines())
    )
    assert [str(one) for one in found] == [
        "MORE:5:18: receivers::prometheus::config::scrape_configs::0::job_name: job_name is empty",
        "MORE:6:39: receivers::prometheus::config::scrape_configs::1::scrape_interval: must be greater than zero",
    ]
    [one] = problems(f"yaml:{MINIMAL}", "env:MORE", MORE="receivers:\n  prometheus:\n")
    assert str(one) == "MORE:2:3: receivers::prometheus: no scrape_configs set"


def test_warnings_do_not_refuse() -> None:
    more = (
        "receivers: {awsecscontainermetrics: {collection_interval: 20}}\n"
        "exporters: {prometheusremotewrite: {endpoint: x, old_timeout: 1s}}\n"
        "service: {telemetry: {traces: {processors: []}}}"
    )
    config = read_sources(f"yaml:{MINIMAL}", "env:MORE", MORE=more)
    assert [str(warning) for warning in config.warnings] == [
        (
            "MORE:1:59: receivers::awsecscontainermetrics::collection_interval: a duration without unit is in "
            "nanoseconds: 20 is 20ns (write a unit, such as 15s)"
        ),
        "MORE:2:50: exporters::prometheusremotewrite::old_timeout: is deprecated (use timeout)",
        "MORE:3:23: service::telemetry::traces: has no effect (Trunkline makes no traces of itself)",
    ]


def test_undeclared_fields_and_strange_types_are_mistakes_of_the_component() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Undeclared:
        x: int = 1

    @dataclass(frozen=True, kw_only=True)
    class Strange:
        x: bytes = setting(default=b"", doc="Bytes.")

    with pytest.raises(TypeError, match=r"Undeclared\.x must be declared with setting"):
        settings_of(Undeclared)
    with pytest.raises(TypeError, match="cannot be decoded"):
        decoded("x: y", Strange)
    with pytest.raises(TypeError, match="needs a doc"):
        setting(default=1, doc="")


def test_settings_describe_themselves() -> None:
    found = settings_of(RemoteWrite)
    assert (found["endpoint"].required, found["endpoint"].doc) == (True, "Where samples go.")
    assert (found["timeout"].default(), found["headers"].default()) == (5.0, {})
    assert settings_of(Scrape)["trim"].ignored == "names stay as they are"
