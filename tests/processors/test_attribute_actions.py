from __future__ import annotations

import hashlib
from typing import Any

from tests.processors.scrapes import Run, Source, Values, problems

from trunkline.model import AttributeValue, Kind, Origin, Resource


def resource(attributes: dict[str, AttributeValue], *actions: dict[str, Any]) -> dict[str, AttributeValue]:
    """What becomes of a resource's attributes."""
    run = Run("resource", {"attributes": list(actions)}, Source(resource=Resource(attributes)))
    run.give({"a": 1})
    return dict(run.series[0].resource.attributes)


def labels(given: Values, *actions: dict[str, Any], **more: Any) -> Values:
    kinds = {"h": Kind.HISTOGRAM}
    return Run("attributes", {"actions": list(actions), **more}, Source(kinds)).give(given)  # type: ignore[arg-type]


def act(action: str, key: str = "k", **more: Any) -> dict[str, Any]:
    return {"action": action, "key": key, **more}


def test_insert_update_upsert() -> None:
    assert resource({}, act("insert", value="v")) == {"k": "v"}
    assert resource({"k": 1}, act("insert", value="v")) == {"k": 1}
    assert resource({}, act("update", value="v")) == {}
    assert resource({"k": 1}, act("UPDATE", value=2.5)) == {"k": 2.5}
    assert resource({}, act("upsert", value=True)) == {"k": True}
    assert resource({"k": 1}, act("upsert", value=2)) == {"k": 2}
    assert resource({"o": 1}, act("insert", from_attribute="o")) == {"o": 1, "k": 1}
    assert resource({}, act("insert", from_attribute="o")) == {}
    assert resource({}, act("insert", from_attribute="o", default_value="d")) == {"k": "d"}
    assert resource({}, act("insert", from_context="metadata.tenant", default_value="d")) == {"k": "d"}


def test_delete_and_hash_take_a_key_a_pattern_or_both() -> None:
    given: dict[str, AttributeValue] = {"k": "v", "x.a": 1, "x.b": 2, "y": 3}
    assert resource(given, act("delete")) == {"x.a": 1, "x.b": 2, "y": 3}
    assert resource(given, act("delete", pattern="^x")) == {"y": 3}
    assert resource(given, {"action": "delete", "pattern": "^x|k"}) == {"y": 3}
    hashed = hashlib.sha256(b"v").hexdigest()
    assert resource({"k": "v", "l": "v", "e": ""}, act("hash", pattern="^[le]$")) == {
        "k": hashed,
        "l": hashed,
        "e": "",
    }
    number = hashlib.sha256((7).to_bytes(8, "little")).hexdigest()
    assert resource({"k": 7, "b": True}, act("hash"), act("hash", "b"))["k"] == number


def test_extract_makes_attributes_of_named_groups() -> None:
    extract = act("extract", pattern=r"^(?P<proto>\w+)://(?P<host>[^/:]+)(?P<port>:\d+)?")
    assert resource({"k": "http://a/b", "host": 1}, extract) == {
        "k": "http://a/b",
        "proto": "http",
        "host": "a",
        "port": "",
    }
    assert resource({"k": "none"}, extract) == {"k": "none"}
    assert resource({"k": 1}, extract) == {"k": 1}


def test_convert() -> None:
    def to(kind: str, value: AttributeValue) -> AttributeValue:
        return resource({"k": value}, act("convert", converted_type=kind))["k"]

    assert to("int", "12") == 12
    assert to("int", "1_2") == "1_2"
    assert to("int", "x") == "x"
    assert to("int", 2.9) == 2
    assert to("int", True) == 1
    assert to("double", "1.5") == 1.5
    assert to("double", "nothing") == "nothing"
    assert to("string", 2.0) == "2"
    assert to("string", 0.5) == "0.5"
    assert to("string", False) == "false"


def test_actions_run_in_order() -> None:
    rename = [act("insert", "new", from_attribute="old"), act("delete", "old")]
    assert resource({"old": "v"}, *rename) == {"new": "v"}
    assert resource({"old": "v"}, *reversed(rename)) == {}


def test_series_of_one_resource_share_the_changed_one() -> None:
    run = Run("resource", {"attributes": [act("insert", value="v")]}, Source(resource=Resource({"a": 1})))
    run.give({"a": 1, "b": 2})
    assert run.series[0].resource is run.series[1].resource


def test_job_and_instance_follow_the_resource_of_scraped_series() -> None:
    attributes: dict[str, AttributeValue] = {"service.name": "app", "service.instance.id": "i:1"}
    change = {
        "attributes": [
            act("upsert", "service.name", value="shop"),
            act("insert", "service.namespace", value="eu"),
        ]
    }
    scraped = Run("resource", change, Source(resource=Resource(attributes)))
    given = {"a{instance=i:1,job=app}": 1, "b{instance=i:1,job=other}": 2}
    assert scraped.give(given) == {"a{instance=i:1,job=eu/shop}": 1, "b{instance=i:1,job=other}": 2}
    native = Run("resource", change, Source(resource=Resource(attributes), origin=Origin.OPENTELEMETRY))
    assert native.give({"a{job=app}": 1}) == {
        "a{job=app}": 1
    }  # an attribute of its own; the exporter adds job


def test_attributes_of_data_points_are_labels() -> None:
    assert labels({"a{x=1}": 1}, act("insert", value=5)) == {"a{k=5,x=1}": 1}
    assert labels({"a{x=1,y=2}": 1}, act("delete", "x")) == {"a{y=2}": 1}
    assert labels({"a{x=1}": 1}, act("update", "x", value="")) == {"a": 1}
    given: Values = {"h_bucket{instance=i,job=j,le=1.0}": 1, "a{job=j,le=1}": 2}
    deleted = labels(given, act("delete", "le"), act("delete", "job"), act("upsert", "instance", value="x"))
    assert deleted == {"h_bucket{instance=i,job=j,le=1.0}": 1, "a{job=j}": 2}


def test_include_and_exclude() -> None:
    insert = act("insert", value="v")
    given: Values = {"a": 1, "ab": 2, "c": 3}
    strict = {"match_type": "strict", "metric_names": ["a", "c"]}
    assert labels(given, insert, include=strict) == {"a{k=v}": 1, "ab": 2, "c{k=v}": 3}
    regexp = {"match_type": "regexp", "metric_names": ["^a"]}
    assert labels(given, insert, exclude=regexp) == {"a": 1, "ab": 2, "c{k=v}": 3}
    assert labels(given, insert, include=strict, exclude=regexp) == {"a": 1, "ab": 2, "c{k=v}": 3}
    resources = {"match_type": "strict", "resources": [{"key": "service.name", "value": "x"}]}
    assert labels(given, insert, include=resources) == given


def test_settings_are_checked_in_upstreams_words() -> None:
    def check(action: dict[str, Any], path: str, *words: str) -> None:
        [found] = problems("resource", {"attributes": [action]})
        assert found.startswith(f"attributes::0{path}: "), found
        for word in words:
            assert word in found, found

    assert problems("resource", {}) == ['attributes: missing required field "attributes"']
    assert problems("attributes", {"actions": []}) == ['actions: missing required field "actions"']
    check(act("replace", value=1), "::action", 'unsupported action "replace" at the 0-th actions')
    check({"action": "insert", "value": 1}, "", 'missing required field "key" at the 0-th actions')
    check(
        act("insert"),
        "",
        'Either field "value", "from_attribute" or "from_context" setting must be specified',
    )
    check(act("insert", value=1, from_attribute="x"), "::from_attribute", "Multiple value sources")
    check(
        act("insert", value=1, pattern="x"), "::pattern", 'Action "insert" does not use the "pattern" field'
    )
    check(act("delete", value=1), "::value", 'does not use the "value" field')
    check(act("extract"), "::pattern", "needs the field")
    check(act("extract", pattern="x"), "::pattern", "contains no named matcher groups")
    check(act("extract", pattern="(?P<a>x)(y)"), "::pattern", "at least one unnamed matcher group")
    check(act("delete", pattern="("), "::pattern", "error parsing regexp: missing )")
    check(act("convert", converted_type="bool"), "::converted_type", "int, double, string")
    [empty] = problems("attributes", {"actions": [act("delete")], "include": {"match_type": "strict"}})
    assert empty == 'include: at least one of "metric_names" or "resources" must be specified'
