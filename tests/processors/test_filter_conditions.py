from __future__ import annotations

from contextlib import suppress

import pytest
from tests.processors.scrapes import Run, Source, problems

from trunkline.model import Family, Kind, Origin, Resource, Series, make_labels
from trunkline.processors.filter.conditions import ConditionError, Scope, Subject, parse

SERIES = Series(
    make_labels(
        {"__name__": "http_requests_total", "code": "404", "path": "/a.b", "job": "shop", "le": "1", "n": "7"}
    ),
    Family("http_requests_total", Kind.COUNTER, "1", "All requests."),
    Resource({"service.name": "shop", "replicas": 3, "share": 0.5, "spot": True}),
)


def holds(text: str, scope: Scope | None = "datapoint", series: Series = SERIES) -> bool:
    return parse(text, scope).holds(Subject.of(series))


def check(
    text: str, *, expected: bool = True, scope: Scope | None = "datapoint", series: Series = SERIES
) -> None:
    assert holds(text, scope, series) is expected, text


def wrong(text: str, scope: Scope | None = "datapoint") -> str:
    with pytest.raises(ConditionError) as raised:
        parse(text, scope)
    return str(raised.value)


def test_paths_of_each_scope() -> None:
    check('name == "http_requests_total"', scope="metric")
    check('metric.name == "http_requests_total"', scope="metric")
    check('metric.unit == "1" and metric.description == "All requests."')
    check('attributes["code"] == "404" and datapoint.attributes["code"] == "404"')
    check('resource.attributes["service.name"] == "shop"', scope="metric")
    check('attributes["service.name"] == "shop"', scope="resource")


def test_labels_that_are_no_attributes_are_nil() -> None:
    check('attributes["job"] == nil and attributes["missing"] == nil')
    check('attributes["le"] == "1"')  # of a counter, it is a label like others
    histogram = Series(
        make_labels({"__name__": "h_bucket", "le": "1"}), Family("h", Kind.HISTOGRAM), Resource()
    )
    check('attributes["le"] == nil', series=histogram)


def test_types_are_opentelemetrys() -> None:
    def of(kind: Kind, text: str, *, expected: bool = True) -> None:
        check(text, expected=expected, scope="metric", series=Series((), Family("x", kind), Resource()))

    of(Kind.COUNTER, "type == METRIC_DATA_TYPE_SUM and is_monotonic == true")
    of(Kind.COUNTER, "aggregation_temporality == AGGREGATION_TEMPORALITY_CUMULATIVE")
    of(
        Kind.GAUGE,
        "type == METRIC_DATA_TYPE_GAUGE and is_monotonic == nil and aggregation_temporality == nil",
    )
    of(Kind.UNKNOWN, "type == METRIC_DATA_TYPE_GAUGE")
    of(Kind.INFO, "type == METRIC_DATA_TYPE_SUM and is_monotonic == false")
    of(Kind.HISTOGRAM, "type == METRIC_DATA_TYPE_HISTOGRAM and type != METRIC_DATA_TYPE_SUMMARY")
    of(Kind.SUMMARY, "type == 5")


def test_precedence_is_not_then_and_then_or() -> None:
    check("true or false and false")
    check("(true or false) and false", expected=False)
    check("not false or true")
    check("not (false or true)", expected=False)
    check("not true == false")  # not (true == false)
    check("not false and not false")
    check("true and false or not true", expected=False)


def test_comparisons_follow_types() -> None:
    check('resource.attributes["replicas"] == 3')
    check('resource.attributes["replicas"] == 3.0')
    check('resource.attributes["replicas"] == "3"', expected=False)
    check('resource.attributes["replicas"] != "3"')
    check('resource.attributes["replicas"] > 2.5 and resource.attributes["replicas"] <= 3')
    check('resource.attributes["share"] < 1 and resource.attributes["share"] > -.5')
    check('resource.attributes["spot"] == true')
    check('resource.attributes["spot"] == 1', expected=False)
    check('attributes["n"] > 5', expected=False)  # labels are texts, in no order with numbers
    check('attributes["n"] > "5"')
    check('attributes["code"] < "5" and "3" < attributes["code"]')
    check("nil == nil and nil <= nil")
    check("nil < nil", expected=False)
    check('attributes["missing"] != "x"')
    check('attributes["missing"] < "x"', expected=False)


def test_is_match_searches_and_takes_numbers() -> None:
    check('IsMatch(metric.name, "requests")')
    check('IsMatch(metric.name, "^requests")', expected=False)
    check(r'IsMatch(attributes["path"], "^/a\\.b$")')
    check('IsMatch(resource.attributes["replicas"], "^3$") and IsMatch(resource.attributes["spot"], "true")')
    check('IsMatch(attributes["missing"], ".*")', expected=False)
    check('IsMatch(attributes["code"], "4..") == true')


def test_strings_are_escaped_as_in_go() -> None:
    series = Series(make_labels({"__name__": "x", "a": 'say "hi"\tü\\'}), Family("x"), Resource())
    check(r'attributes["a"] == "say \"hi\"\t\u00fc\\"', series=series)
    check(r'attributes["a"] == "say \x22hi\"\tü\134"', series=series)
    check('attributes["a"] == "x\ny"', expected=False, series=series)


def test_other_points_of_the_metric() -> None:
    subject = Subject(SERIES, {}, [{"a": "1"}, {"b": "2"}])

    def of(text: str) -> bool:
        condition = parse(text, "metric")
        assert condition.needs_siblings
        return condition.holds(subject)

    assert of('HasAttrKeyOnDatapoint("b")')
    assert not of('HasAttrKeyOnDatapoint("c")')
    assert of('HasAttrOnDatapoint("b", "2")')
    assert not of('HasAttrOnDatapoint("b", "1")')


def test_without_a_scope_the_paths_say_it() -> None:
    assert parse('metric.name == "x"', None).scope == "metric"
    assert parse('metric.name == "x" and datapoint.attributes["a"] == "b"', None).scope == "datapoint"
    assert parse('resource.attributes["a"] == nil', None).scope == "resource"
    assert parse('HasAttrKeyOnDatapoint("a")', None).scope == "metric"
    assert wrong('name == "x"', None) == (
        "column 1 of the condition, at 'name == \"x\"': name does not say whose it is; write metric.name"
    )
    assert wrong('metric.name == "x" and attributes["a"] == nil', None).endswith(
        "write resource.attributes or datapoint.attributes"
    )
    both = 'HasAttrKeyOnDatapoint("a") and datapoint.attributes["b"] == nil'
    assert "make two conditions of it" in wrong(both, None)


def test_what_is_wrong_is_pointed_at() -> None:
    def says(text: str, column: int, *words: str, scope: Scope = "datapoint") -> None:
        message = wrong(text, scope)
        assert message.startswith(f"column {column} of the condition"), message
        for word in words:
            assert word in message, message

    says('nam == "x"', 1, "unknown path nam", "did you mean name?", scope="metric")
    says('attributes["a"] == "x"', 1, "a metric has no attributes; its data points have", scope="metric")
    says('name == "x"', 1, "unknown path name", "a datapoint knows attributes[")
    says('attribute["a"] == "x"', 1, "unknown path attribute", "did you mean attributes?")
    says('name["a"] == "x"', 1, "cannot be indexed", scope="metric")
    says("attributes == nil", 1, "all attributes at once", 'attributes["key"]')
    says('attributes["a"]["b"] == nil', 1, "lists and maps are not supported")
    says("attributes[0] == nil", 12, "key in double quotes")
    says('name = "x"', 6, "expected a comparison", "write ==", scope="metric")
    says('name == "x" && true', 13, "unexpected '&'", "write and", scope="metric")
    says('name == "x" an true', 13, "unexpected 'an'", "did you mean and?", scope="metric")
    says('name == "x', 9, "a string that does not end", scope="metric")
    says('name == "a\\.b"', 11, r"\. means nothing", r"write \\.", scope="metric")
    says('(name == "x"', 13, "expected ')'", "the condition ends", scope="metric")
    says("name", 5, "expected a comparison", scope="metric")
    says("", 1, "expected a value")
    says("value_double > 5", 1, "value_double is not supported", "decided once")
    says("1 + 1 == 2", 3, "expected a comparison", "calculating is not supported")
    says('name == ["x"]', 9, "lists and maps", scope="metric")
    says("name == 0x1f", 9, "bytes are not supported", scope="metric")
    says('isMatch(name, "x")', 1, "isMatch is not supported", "did you mean IsMatch?", scope="metric")
    says(
        'IsMtch(name, "x")',
        1,
        "the function IsMtch is not supported",
        "did you mean IsMatch?",
        scope="metric",
    )
    says("Len(name) > 3", 1, "Len is not supported", "IsMatch, HasAttrKeyOnDatapoint", scope="metric")
    says('HasAttrKeyOnDatapoint("a")', 1, "not supported", "IsMatch")
    says('HasAttrOnDatapoint("a")', 1, "takes 2 arguments, not 1", scope="metric")
    says('IsMatch(name, "(")', 15, "missing )", scope="metric")
    says("IsMatch(name, name)", 15, "expected a string", scope="metric")
    says('IsMatch(target=name, "x")', 9, "cannot be named")
    says("type == METRIC_DATA_TYPE_GAUG", 9, "did you mean METRIC_DATA_TYPE_GAUGE?", scope="metric")
    says('scope.name == "x"', 1, "scope is not supported")
    says('datapoint.attributes["a"] == nil', 1, "a metric has no datapoint", scope="metric")
    says('metric.name == "x"', 1, "a resource has no metric", scope="resource")


def test_every_beginning_of_a_condition_is_refused_or_accepted() -> None:
    text = 'not (IsMatch(metric.name, "a\\\\.b") or attributes["x"] >= -1.5e3) and metric.type != METRIC_DATA_TYPE_SUM'
    parse(text, "datapoint")
    for length in range(len(text)):
        with suppress(ConditionError):
            parse(text[:length], "datapoint")


def test_conditions_drop() -> None:
    run = Run("filter", {"metrics": {"metric": ['name == "a"', 'IsMatch(name, "^b")']}})
    assert run.give({"a": 1, "bc": 2, "d{x=1}": 3}) == {"d{x=1}": 3}
    run = Run("filter", {"error_mode": "propagate", "metrics": {"datapoint": ['attributes["x"] == "1"']}})
    assert run.give({"a": 1, "d{x=1}": 3, "d{x=2}": 4}) == {"a": 1, "d{x=2}": 4}
    of_shop = Source(resource=Resource({"service.name": "shop"}))
    run = Run("filter", {"metrics": {"resource": ['attributes["service.name"] == "shop"']}}, of_shop)
    assert run.give({"a": 1}) == {}


@pytest.mark.parametrize(
    "conditions",
    [
        ['metric.name == "a"', 'datapoint.attributes["x"] == "1"'],
        [
            {"context": "metric", "conditions": ['name == "a"']},
            {"context": "datapoint", "error_mode": "silent", "conditions": ['attributes["x"] == "1"']},
        ],
        [{"conditions": ['metric.name == "a" or datapoint.attributes["x"] == "1"']}],
    ],
)
def test_metric_conditions(conditions: list[object]) -> None:
    run = Run("filter", {"metric_conditions": conditions})
    assert run.give({"a": 1, "d{x=1}": 3, "d{x=2}": 4}) == {"d{x=2}": 4}


def test_a_metric_is_dropped_as_soon_as_one_of_its_points_says_so_and_ends_with_stale_markers() -> None:
    run = Run("filter", {"metrics": {"metric": ['HasAttrKeyOnDatapoint("debug")']}})
    assert run.give({"a{x=1}": 1, "b": 2}) == {"a{x=1}": 1, "b": 2}
    assert run.give({"a{x=1}": 1, "b": 2, "a{debug=1}": 3}) == {"a{x=1}": "stale", "b": 2}
    assert run.give({"a{x=1}": 1, "b": 2, "a{debug=1}": 3}) == {"b": 2}
    assert run.give({"a{x=1}": 1, "b": 2}) == {"b": 2}  # the point that said so carries its stale marker
    assert run.give({"a{x=1}": 1, "b": 2}) == {"a{x=1}": 1, "b": 2}


def test_ecs_metrics_by_resource_attribute() -> None:
    source = Source(resource=Resource({"container.name": "app"}), origin=Origin.OPENTELEMETRY)
    text = 'IsMatch(name, "^container\\\\.") and resource.attributes["container.name"] == "app"'
    run = Run("filter", {"metrics": {"metric": [text]}}, source)
    assert run.give({"container.cpu": 1, "ecs.task.cpu": 2}) == {"ecs.task.cpu": 2}


def test_wrong_settings_are_placed() -> None:
    [both] = problems("filter", {"metrics": {"include": {}, "metric": ["true"]}})
    assert both == (
        'metrics: cannot use "metrics.resource", "metrics.metric", "metrics.datapoint" and the settings '
        '"metrics.include", "metrics.exclude" at the same time'
    )
    assert problems("filter", {"metric_conditions": ["true"], "metrics": {"metric": ["true"]}}) == [
        'metric_conditions: cannot use "metric_conditions" and "metrics" at the same time'
    ]
    assert problems("filter", {"metrics": {"metric": ["true", "nam == nil"]}}) == [
        "metrics::metric::1: column 1 of the condition, at 'nam == nil': unknown path nam; did you mean name?"
    ]
    assert sorted(problems("filter", {"metric_conditions": [{"context": "span", "when": 1}, "true"]})) == [
        "metric_conditions: either every condition is a text or every one a map of context and conditions",
        "metric_conditions::0::context: unknown context span; contexts of metrics: resource, metric, datapoint",
        "metric_conditions::0::when: has invalid keys: when; valid keys: context, conditions, error_mode",
    ]
    [only] = problems("filter", {"metrics": {"include": {"match_type": "expr", "expressions": ["x"]}}})
    assert only.startswith(
        "metrics::include::match_type: match_type expr is not supported: write OTTL conditions"
    )
    [unknown] = problems("filter", {"error_mode": "loud"})
    assert unknown.startswith("error_mode: ")
    assert "unknown value" in unknown
