"""Names and labels outside, by section 3.4 of the component reference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trunkline import __version__
from trunkline.component.translation import SCRAPE_SCOPE, Translation, shortest_decimal, text_of
from trunkline.model import AttributeValue, Family, Kind, Origin, Resource, Series, Table, make_labels

TARGET = Resource(
    {"service.name": "app", "service.instance.id": "h:80", "server.port": "80"}, {"aws_ecs_task_id": "t"}
)
ADOT = Translation(scraped=True, scope=False, identity=False)
ADOT_WITH_SCOPE = Translation(scraped=True)


def scraped(name: str, family: Family, resource: Resource = TARGET, **labels: str) -> Series:
    return Series(
        make_labels({"__name__": name, "job": "app", "instance": "h:80", **labels}), family, resource
    )


def otlp(
    name: str, unit: str = "", attributes: dict[str, AttributeValue] | None = None, **labels: str
) -> Series:
    pairs = tuple(sorted({"__name__": name, **labels}.items()))
    return Series(
        pairs, Family(name, Kind.GAUGE, unit, origin=Origin.OPENTELEMETRY), Resource(attributes or {})
    )


def test_scraped_names_become_those_of_the_aws_distribution() -> None:
    def check(name: str, family: Family, expected: str) -> None:
        assert dict(ADOT.labels(scraped(name, family)))["__name__"] == expected

    check("http_requests", Family("http_requests", Kind.COUNTER), "http_requests_total")
    check("http_requests_total", Family("http_requests_total", Kind.COUNTER), "http_requests_total")
    check("foo_total_bytes", Family("foo_total_bytes", Kind.COUNTER), "foo_bytes_total")
    check("_odd__gauge_", Family("_odd__gauge_", Kind.GAUGE), "odd_gauge")
    check("up", Family("up", Kind.GAUGE), "up")
    latency = Family("latency_seconds", Kind.HISTOGRAM, "seconds")
    check("latency_seconds_bucket", latency, "latency_seconds_bucket")
    check("latency_seconds_count", latency, "latency_seconds_count")
    check("size", Family("size", Kind.SUMMARY, "bytes"), "size_bytes")
    check("size_sum", Family("size", Kind.SUMMARY, "bytes"), "size_bytes_sum")
    check("x_created", Family("x_total", Kind.COUNTER), "x_total_created")
    check("app_info", Family("app_info", Kind.INFO), "app_info")
    check("x_bucket", Family("x_bucket"), "x_bucket")


def test_scraped_labels_become_those_of_the_aws_distribution() -> None:
    series = scraped(
        "l_bucket",
        Family("l", Kind.HISTOGRAM),
        le="1.0",
        a__b="1",
        _c="2",
        exported_job="theirs",
    )
    assert dict(ADOT.labels(series)) == {
        "__name__": "l_bucket",
        "a_b": "1",
        "key_c": "2",
        "exported_job": "theirs",
        "instance": "h:80",
        "job": "app",
        "le": "1",
    }
    full = replace(ADOT_WITH_SCOPE, resource_attributes=True)
    assert dict(full.labels(scraped("up", Family("up", Kind.GAUGE)))) == {
        "__name__": "up",
        "aws_ecs_task_id": "t",
        "instance": "h:80",
        "job": "app",
        "otel_scope_name": SCRAPE_SCOPE,
        "otel_scope_version": __version__,
        "server_port": "80",
        "service_instance_id": "h:80",
        "service_name": "app",
    }


def test_labels_that_a_target_set_itself_stay_its_own() -> None:
    series = Series(make_labels({"__name__": "up", "job": "honored"}), Family("up", Kind.GAUGE), TARGET)
    assert dict(ADOT.labels(series))["job"] == "honored"


def test_a_scope_that_a_target_exposed_stays_its_own() -> None:
    labels = dict(ADOT_WITH_SCOPE.labels(scraped("up", Family("up", Kind.GAUGE), otel_scope_name="own")))
    assert (labels["otel_scope_name"], labels.get("otel_scope_version")) == ("own", None)


def test_scraped_series_stay_as_they_are_without_the_switch() -> None:
    series = scraped("a__b", Family("a__b", Kind.COUNTER), le="1.0", _c="2")
    plain = Translation()
    assert plain.labels(series) == make_labels({**dict(series.labels), "aws_ecs_task_id": "t"})
    assert plain.keeps(series)
    assert plain.added(TARGET) == {"aws_ecs_task_id": "t"}
    wide = Translation(
        resource_attributes=True, service_attributes=False, constant={"env": "test", "_c": "3"}
    )
    assert dict(wide.labels(series)) == {
        **dict(series.labels),
        "aws_ecs_task_id": "t",
        "env": "test",
        "key_c": "3",
        "server_port": "80",
    }
    assert wide.keeps(series)
    assert not Translation(namespace="n").keeps(series)


def test_attributes_that_get_one_name_are_joined() -> None:
    keys = {"a.b": "1", "a_b": "2", "a-b": "1", "c": "d"}
    family = Family("x", Kind.GAUGE, origin=Origin.OPENTELEMETRY)
    series = Series(tuple(sorted({"__name__": "x", **keys}.items())), family, Resource())
    assert dict(Translation().labels(series)) == {"__name__": "x", "a_b": "1;2", "c": "d"}


def test_precedence_is_upstreams() -> None:
    resource: dict[str, AttributeValue] = {
        "service.name": "shop",
        "service.namespace": "eu",
        "same": "resource",
    }
    series = otlp("x", "", resource, same="point", job="point", **{"empty.one": ""})
    rules = Translation(
        resource_attributes=True,
        service_attributes=False,
        constant={"job": "external", "env": "test", "empty_one": "external"},
    )
    assert dict(rules.labels(series)) == {
        "__name__": "x",
        "env": "test",
        "empty_one": "external",
        "job": "eu/shop",
        "same": "resource",
    }


def test_a_strategy_overrides_the_older_switch() -> None:
    series = otlp("io.time", "s")

    def name(rules: Translation) -> str:
        return dict(rules.labels(series))["__name__"]

    assert name(Translation().by("UnderscoreEscapingWithoutSuffixes")) == "io_time"
    assert name(Translation(suffixes=False).by("UnderscoreEscapingWithSuffixes")) == "io_time_seconds"
    assert name(Translation(suffixes=False).by("")) == "io_time"
    assert name(Translation(namespace="n").by("NoTranslation")) == "n_io.time"


def test_target_info_carries_what_the_resource_knows() -> None:
    resource = Resource({**TARGET.attributes, "a..b": 1, "_c": True, "2x": 0.5}, {})
    assert dict(Translation(namespace="n").target_info(resource) or ()) == {
        "__name__": "n_target_info",
        "a__b": "1",
        "instance": "h:80",
        "job": "app",
        "key_2x": "0.5",
        "key_c": "true",
        "server_port": "80",
    }
    assert Translation().target_info(Resource({"host.name": "h"})) is None
    assert Translation().target_info(Resource({"service.name": "app"})) is None


def test_target_info_is_made_only_where_upstreams_names_are_asked_for() -> None:
    table = Table("t")
    table.assign(scraped("up", Family("up", Kind.GAUGE)))
    assert Translation().target_infos(table) == set()
    assert len(Translation(scraped=True).target_infos(table)) == 1


def test_a_name_of_which_nothing_is_left_is_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be a label"):
        Translation().labels(otlp("x", __="1"))
    with pytest.raises(ValueError, match="can be used"):
        Translation().labels(otlp("…"))


def test_values_are_printed_as_opentelemetry_prints_them() -> None:
    def check(value: AttributeValue, expected: str) -> None:
        assert text_of(value) == expected

    check("x", "x")
    check(7, "7")
    check(True, "true")
    check(2.0, "2")
    check(0.1, "0.1")
    check(1e20, "100000000000000000000")
    check(1e21, "1e+21")
    check(1.5e-7, "1.5e-7")
    check(float("inf"), "+Inf")
    assert shortest_decimal("1e+06") == "1000000"
    assert shortest_decimal("0.005") == "0.005"
    assert shortest_decimal("+Inf") == "+Inf"
    assert shortest_decimal("odd") == "odd"
