"""What the two scrapers are shown: a job's settings and the pages of its target, by name.

Every scenario begins with a page that can be scraped, so that its scrapes can be counted from there.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import prometheus_client
from prometheus_client import openmetrics
from tests.differential.connections import connections
from tests.differential.scenario import ORDINARY, SCRAPES, Scenario, rules, shown, target_rules
from tests.differential.targets import OPENMETRICS, TEXT, Page


def scenarios() -> dict[str, Scenario]:
    """All but those whose pages come from running programs."""
    parts = (
        _lives(),
        _formats(),
        _openmetrics(),
        _times(),
        _limits(),
        _relabelling(),
        _requests(),
        connections(),
        _mischief(),
    )
    found = {name: one for part in parts for name, one in part.items()}
    return found | {f"chance_{seed}": Scenario(list(_by_chance(seed))) for seed in range(1, 7)}


def _lives() -> dict[str, Scenario]:
    """Series and families that come, go and change."""
    return {
        "churn": Scenario(
            shown(
                '# TYPE a counter\na{n="1"} 1\na{n="2"} 1\nb 1\n',
                'a{n="1"} 2\na{n="3"} NaN\nb +Inf\n',
                'a{n="2"} 3\n',
                "",
                'a{n="1"} 4\na{n="2"} 4\na{n="3"} 1e-300\n',
                'a{n="3"} 1\na{n="2"} 1\na{n="1"} 1\n',
                'a{n="1"} 1\nx 1\na{n="2"} 1\n',
            )
        ),
        "generations": Scenario(shown(*(f'a{{generation="{number}"}} 1\nb 1\n' for number in range(8)))),
        "types": Scenario(
            shown(
                "# TYPE a counter\na 1\n",
                "# TYPE a gauge\n# HELP a Other.\na 2\n",
                "a 3\n# TYPE a counter\n",
                '# TYPE a histogram\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\na 4\n',
                "# TYPE a summary\n# TYPE a untyped\na 5\na_sum 1\n",
            )
        ),
        "down": Scenario(
            [
                Page(ORDINARY),
                Page(status=500),
                Page(ORDINARY),
                Page(ORDINARY, status=404),
                Page(status=503),
                Page(ORDINARY, status=204),
                Page(ORDINARY),
            ]
        ),
        "labels": Scenario(
            shown(
                'a{job="x"} 1\nb{job="x",exported_job="y"} 1\nc{instance="",job=""} 1\nd{scenario="z"} 1\n'
                'e{exported_job="1",exported_exported_job="2",job="3"} 1\nf{x=""} 1\n'
            )
        ),
        "external_labels": Scenario(shown('a{replica="x"} 1\nb{replica=""} 1\nc 1\n')),
        "honor_labels": Scenario(
            shown('a{job="x"} 1\nb{instance="x",exported_job="y"} 1\nc{instance=""} 1\nd{scenario=""} 2\n'),
            {"honor_labels": True},
        ),
    }


def _formats() -> dict[str, Scenario]:
    """What the text format allows and what it does not."""
    return {
        "bounds": Scenario(
            shown(
                '# TYPE h histogram\nh_bucket{le="1.0"} 1\nh_bucket{le="2.50"} 1\nh_bucket{le="1e1"} 1\n'
                'h_bucket{le="+Inf"} 2\nh_sum 3\nh_count 2\n'
                '# TYPE s summary\ns{quantile="0.5"} 1\ns{quantile="0.990"} 1\ns{quantile="1"} 1\ns_sum 1\ns_count 1\n'
            )
        ),
        "bounds_untyped": Scenario(
            shown(
                '# TYPE g gauge\ng{le="1"} 1\ng{quantile="0.50"} 1\nn_bucket{le="3"} 1\n'
                '# TYPE h histogram\nother{le="1"} 1\nh{le="x"} 1\nh{quantile="1"} 1\n# TYPE s summary\ns{le="1"} 1\n'
            ),
            since=(3, 0),
        ),
        "numbers": Scenario(
            shown(
                "a 1e309\n",
                "a -Inf\nb -0\nc 0x1F\n",
                "a nan\nb +NaN\nc inf\nd INFINITY\n",
                "a 1_000\n",
                "a 1.7976931348623157e308\nb 5e-324\nc 9007199254740993\nd 0.1\ne 1e-400\n",
                "a .5\nb 5.\nc +1\nd 1E5\n",
                "a 1\n",
            )
        ),
        "spaces": Scenario(
            shown(
                "a 1\n\n\n#\n# a comment\n",
                'b{x="1"} 2\nc\t3\n',
                "  \na 1\n",
                "a 1\n#HELP d\n",
                "a 1\r\nb 2\r\n",
                'a{x="1",} 1\nb{} 2\nc {y="1"} 3\n',
                "a 1",
                "a 1 \nb 1\n",
            )
        ),
        "indented": Scenario(shown("a 1\n", '\tb{x="1"} 2\n', "a 2\n")),
        "null_byte": Scenario(shown("a 1\n", "\0\0\0\n", "a 2\n")),
        "spaces_within": Scenario(
            shown(
                "a 1\n",
                "  # TYPE a gauge\na 1\n",
                'a{ x="1" } 1\n',
                'a{x = "1"} 1\n',
                'a{x="1" , y="2"} 1\n',
                'a{x="1", } 1\n',
                'a{x="1",,} 1\n',
                "#TYPE a gauge\n# TYPE  a  gauge\na\t 1\t \n",
            )
        ),
        "escapes": Scenario(
            shown(
                'a{x="\\"\\\\\\n"} 1\na{x="é☃𝄞"} 2\na{x="\\t\\q"} 3\n# HELP a \\n \\\\ \\" é\n',
                'a{x="line\nbreak"} 1\n',
                'a{x="}"} 1\na{x=",y="} 2\na{x="#"} 3\n',
                "a 1\n",
            )
        ),
        "repeated_label": Scenario(shown("a 1\n", 'a{x="1",x="2"} 1\nb 1\n', "a 1\n")),
        "duplicates": Scenario(
            shown("a 1\na 2\nb 1\nb 1\n", 'c{x="1",y="2"} 1\nc{y="2",x="1"} 7\n', ORDINARY, "a 1\na 1\na 1\n")
        ),
        "broken": Scenario(
            shown("a 1\nb 1\n", "a 2\nc 1\nb x\n", "a 3\nb 3\n", 'a 4\nb{x="\n', "a 5\nb 5\n")
        ),
        "not_utf8": Scenario(
            shown(
                b"a 1\n", b'a{x="\xff"} 1\nb 1\n', b"a 1\n", b"# HELP a \xff\na 2\n", b"a\xff 2\n", b"a 1\n"
            )
        ),
        "not_metrics": Scenario(shown("a 1\n", "<html>\n", '{"status": "ok"}\n', "a 2\n")),
        "content_types": Scenario(
            [
                Page(ORDINARY, content_type=kind)
                for kind in (
                    "",
                    "text/plain",
                    "application/json",
                    "text/html; charset=utf-8",
                    "nonsense",
                    ";",
                    TEXT,
                )
            ]
        ),
        "fallback_none": Scenario(
            [Page(ORDINARY, content_type=kind) for kind in (TEXT, "", TEXT, "application/json", TEXT)],
            {"fallback_scrape_protocol": ""},
            since=(3, 0),
        ),
        "fallback_openmetrics": Scenario(
            [
                Page(ORDINARY),
                Page("a 1\n# EOF\n", content_type=""),
                Page(ORDINARY),
                Page(ORDINARY, content_type="nonsense"),
                Page(ORDINARY),
            ],
            {"fallback_scrape_protocol": "OpenMetricsText1.0.0"},
            since=(3, 0),
        ),
        "names": Scenario(
            shown(
                "a:b 1\n_x 1\n__y__ 1\n",
                "1a 1\n",
                "a-b 1\n",
                "a.b 1\n",
                'a{1="x"} 1\n',
                'a{b.c="x"} 1\n',
                "a:b 2\n",
            )
        ),
        "utf8_names": Scenario(
            shown(
                '{"a.b"} 1\n{"é",x="1"} 2\n', 'a{"x.y"="1","é"="2"} 1\n', '# TYPE "a.b" counter\n{"a.b"} 3\n'
            ),
            since=(3, 0),
        ),
        "legacy_names": Scenario(
            shown("a 1\n", '{"a.b"} 1\n', 'a{"b.c"="1"} 1\n', "a 2\n"),
            {"metric_name_validation_scheme": "legacy", "metric_name_escaping_scheme": "underscores"},
            since=(3, 4),
        ),
        "legacy_relabelled": Scenario(
            shown("a 1\n", 'a{x="b.c"} 1\n', "a 2\n"),
            {
                "metric_name_validation_scheme": "legacy",
                "metric_name_escaping_scheme": "underscores",
                **rules({"source_labels": ["x"], "regex": "(.+)", "target_label": "__name__"}),
            },
            since=(3, 4),
        ),
        "protocols": Scenario(shown(ORDINARY), {"scrape_protocols": ["PrometheusText0.0.4"]}, since=(3, 0)),
        "client_library": Scenario(
            [_library(number, prometheus_client.generate_latest, TEXT) for number in range(4)]
        ),
    }


def _openmetrics() -> dict[str, Scenario]:
    def pages(*bodies: str) -> list[Page]:
        return shown(*bodies, content_type=OPENMETRICS)

    return {
        "openmetrics": Scenario(
            pages(
                '# TYPE r counter\n# UNIT r_s s\nr_total 5 # {trace="x"} 1 1.5\nr_created 123.5\n# EOF\n',
                "# TYPE r counter\nr_total 6\n",
                '# TYPE h histogram\nh_bucket{le="1.0"} 1\nh_bucket{le="+Inf"} 1 # {t="y"} 0.5\nh_count 1\nh_sum 1\n# EOF\n',
                "# TYPE r counter\nr_total 7\n# EOF\nr_total 8\n",
                "# TYPE r counter\nr_total 9\n# EOF\n",
            )
        ),
        "openmetrics_kinds": Scenario(
            pages(
                '# TYPE i info\ni_info{version="1"} 1\n# TYPE s stateset\ns{s="on"} 1\ns{s="off"} 0\n'
                '# TYPE g gaugehistogram\ng_bucket{le="1.0"} 1\ng_bucket{le="+Inf"} 2\ng_gcount 2\ng_gsum 1\n'
                "# TYPE u unknown\nu 1\n# TYPE w_seconds gauge\n# UNIT w_seconds seconds\nw_seconds 1e3\n# EOF\n"
            )
        ),
        "openmetrics_gauge_histogram": Scenario(
            pages('# TYPE g gaugehistogram\ng_bucket{le="1"} 1\ng_bucket{le="+Inf"} 2\n# EOF\n'), since=(3, 0)
        ),
        "openmetrics_strict": Scenario(
            pages(
                "a 1\n# EOF\n",
                "a  1\n# EOF\n",
                "\na 1\n# EOF\n",
                "a 1\n# EOF",
                "a 1\n# EOF\n\n",
                "# comment\na 1\n# EOF\n",
                "a 1\n# EOF\n",
            )
        ),
        "openmetrics_times": Scenario(
            pages("a 1 @@0\nb 1\n# EOF\n", "a 2 @@1\nb 2\n# EOF\n", "a 3 @@2\nb 3\n# EOF\n", "b 3\n# EOF\n")
        ),
        "openmetrics_empty": Scenario(
            pages("a 1\n# EOF\n", "", "a 2\n# EOF\n", "# EOF\n", "a 3\n# EOF\n"), since=(3, 0)
        ),
        "client_library_openmetrics": Scenario(
            [_library(number, openmetrics.exposition.generate_latest, OPENMETRICS) for number in range(4)]
        ),
    }


def _times() -> dict[str, Scenario]:
    """Samples with timestamps of their own."""
    return {
        "timestamps": Scenario(
            shown(
                "a 1 @0\nb 1 @0\nc 1 @0\nd 1\n",
                "a 2 @1\nb 2 @1\nd 2\n",
                "a 3 @2\nb 3\n",
                "a 4 @3\nb 4 @120000\n",
                "a 5\n",
            )
        ),
        "timestamps_down": Scenario(
            [Page("a 1 @0\nb 1\n"), Page(status=500), Page("a 2 @2\nb 2\n"), Page("b 3\n")]
        ),
        "timestamps_tracked": Scenario(
            shown("a 1 @0\nb 1 @0\n", "a 2 @1\n", "a 3 @2\n", "c 1\n"),
            {"track_timestamps_staleness": True},
            since=(2, 48),
        ),
        "timestamps_several": Scenario(shown("a 1 @0\na 2 @1\na 3 @2\na 3 @2\n", "a 4 @3\n")),
        "timestamps_not_honored": Scenario(
            shown("a 1 @0\na 2 @1\nb 1 @0\n", "b 2\n"), {"honor_timestamps": False}
        ),
        "timestamps_ahead": Scenario(shown("a 1 @3600000\nb 1\n", "b 2\n")),
    }


def _limits() -> dict[str, Scenario]:
    dropped = {"source_labels": ["__name__"], "regex": "go_.*", "action": "drop"}
    return {
        "sample_limit": Scenario(
            shown("a 1\nb 1\n", "a 2\nb 2\nc 2\nd 2\ne 2\n", "a 3\nb 3\nc 3\nd 3\n", "a 5\n"),
            {"sample_limit": 3},
        ),
        "sample_limit_relabelled": Scenario(
            shown("a 1\nb 1\ngo_x 1\ngo_y 1\n", "a 1\nb 1\nc 1\ngo_x 1\n", "a 2\n"),
            {"sample_limit": 2, **rules(dropped)},
        ),
        "sample_limit_duplicates": Scenario(
            shown("a 1\na 1\na 1\nb 1\n", "a 1\nb 1\nc 1\n", "a 1\n"), {"sample_limit": 2}, since=(3, 0)
        ),
        "label_limit": Scenario(
            shown("a 1\n", 'a{x="1",y="2",z="3"} 1\n', 'a{x="1"} 1\n'), {"label_limit": 5}
        ),
        "label_name_length_limit": Scenario(
            shown("a 1\n", 'a{thirteenchars="1"} 1\n', "a 1\n"), {"label_name_length_limit": 12}
        ),
        "label_value_length_limit": Scenario(
            shown(
                "a 1\n",
                f'a{{x="{"v" * 41}"}} 1\n',
                "a 1\n",
                f'a{{x="{"é" * 21}"}} 1\n',
                f'a{{x="{"v" * 40}"}} 1\n',
            ),
            {"label_value_length_limit": 40},
        ),
        "body_size_limit": Scenario(
            [
                *shown("a 1\n", "a 1\n# " + "x" * 93 + "\n", "a 1\n# " + "x" * 94 + "\n", "a 2\n"),
                Page("a 1\n# " + "x" * 94 + "\n", manner="gzip"),
                Page("a 1\n# " + "x" * 200_000 + "\n", manner="gzip"),
                Page("a 3\n# " + "x" * 80 + "\n", manner="gzip"),
            ],
            {"body_size_limit": "100B"},
        ),
    }


def _relabelling() -> dict[str, Scenario]:
    """Every action on samples and on targets."""
    sources = ["__name__"]
    return {
        "relabel_replace": Scenario(
            shown('x{code="404"} 1\nx{code="4"} 2\nold_total{path="ß"} 6\n', 'x{code="500"} 2\ny 1\n'),
            rules(
                {
                    "source_labels": ["code"],
                    "regex": "(.)..",
                    "replacement": "${1}xx",
                    "target_label": "class",
                },
                {
                    "source_labels": sources,
                    "regex": "old_(.*)",
                    "replacement": "new_$1",
                    "target_label": "__name__",
                },
                {
                    "source_labels": ["code", "class"],
                    "separator": "",
                    "regex": "(?P<c>.*)",
                    "replacement": "$c-$$",
                    "target_label": "both",
                },
                {"target_label": "never", "replacement": "$1_x"},
                {"source_labels": ["gone"], "target_label": "kept", "replacement": "yes", "regex": ""},
                {
                    "source_labels": ["code"],
                    "regex": "(4)(.*)",
                    "target_label": "code_$1",
                    "replacement": "$2",
                },
                {"source_labels": ["class"], "regex": "5xx", "target_label": "class", "replacement": ""},
            ),
        ),
        "relabel_newline": Scenario(
            shown('a{x="l\\nb"} 1\n'),
            rules({"source_labels": ["x"], "regex": "l.b", "target_label": "matched", "replacement": "yes"}),
            since=(3, 0),
        ),
        "relabel_keep": Scenario(
            shown("a 1\nb 1\n", "a 1\n", "b 2\n"),
            rules({"source_labels": sources, "regex": "b", "action": "keep"}),
        ),
        "relabel_drop": Scenario(
            shown("drop_this 1\nx_drop_this 1\n", "drop_more 1\n", "b 2\n"),
            rules({"source_labels": sources, "regex": "drop_(.*)", "action": "drop"}),
        ),
        "relabel_keepequal": Scenario(
            shown('a{x="1",y="1"} 1\na{x="1",y="2"} 2\na 3\n'),
            rules({"source_labels": ["x"], "target_label": "y", "action": "keepequal"}),
        ),
        "relabel_dropequal": Scenario(
            shown('a{x="1",y="1"} 1\na{x="1",y="2"} 2\na{x="1"} 3\n'),
            rules({"source_labels": ["x"], "target_label": "y", "action": "dropequal"}),
        ),
        "relabel_hashmod": Scenario(
            shown("".join(f'x{{path="/{number}"}} {number}\n' for number in range(20))),
            rules(
                {"source_labels": ["path", "job"], "target_label": "shard", "modulus": 7, "action": "hashmod"}
            ),
        ),
        "relabel_labelmap": Scenario(
            shown('x{meta_a="1",meta_b="2",path="/p"} 3\n'),
            rules({"regex": "meta_(.+)", "replacement": "m_$1", "action": "labelmap"}),
        ),
        "relabel_labeldrop": Scenario(
            shown('y{instance="1",meta_a="1"} 1\ny{instance="2",meta_b="1"} 2\n'),
            rules({"regex": "meta_.+|instance", "action": "labeldrop"}),
        ),
        "relabel_labelkeep": Scenario(
            shown('y{a="1",b="1"} 1\ny{a="2"} 2\n'),
            rules({"regex": "__name__|a|job|scenario", "action": "labelkeep"}),
        ),
        "relabel_case": Scenario(
            shown('x{Mixed="AéSS",path="/Q"} 4\nx{Mixed="ıİ"} 1\n'),
            rules(
                {
                    "source_labels": ["Mixed", "path"],
                    "separator": "-",
                    "target_label": "low",
                    "action": "lowercase",
                },
                {"source_labels": ["Mixed"], "target_label": "HIGH", "action": "UPPERCASE"},
            ),
        ),
        "relabel_collision": Scenario(
            shown('a{x="1"} 1\na{x="2"} 2\n', 'a{x="2"} 3\n'), rules({"regex": "x", "action": "labeldrop"})
        ),
        "relabel_nameless": Scenario(
            shown("a 1\n", 'a 2\na{n="1"} 2\n', "a 3\n"),
            rules({"source_labels": ["n"], "regex": "1", "target_label": "__name__", "replacement": ""}),
        ),
        "relabel_histogram": Scenario(
            shown('# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 3\nh_count 2\n'),
            rules(
                {"source_labels": ["le"], "regex": "1(\\.0)?", "action": "drop"},
                {
                    "source_labels": sources,
                    "regex": "h_(.*)",
                    "replacement": "other_$1",
                    "target_label": "__name__",
                },
            ),
        ),
        "target_relabelled": Scenario(
            shown(ORDINARY),
            target_rules(
                {"target_label": "__param_module", "replacement": "m"},
                {"source_labels": ["__address__"], "target_label": "where", "regex": "(.*):.*"},
                {"source_labels": ["__scheme__", "__metrics_path__"], "target_label": "how"},
                {"source_labels": ["__scrape_interval__", "__scrape_timeout__"], "target_label": "when"},
                {"source_labels": ["job"], "target_label": "instance", "action": "uppercase"},
                {"regex": "__scrape_(.*)__", "replacement": "scrape_$1", "action": "labelmap"},
                {"target_label": "__tmp", "replacement": "hidden"},
                {"source_labels": ["where"], "target_label": "part", "modulus": 100, "action": "hashmod"},
            ),
        ),
        "target_kept": Scenario(
            shown(ORDINARY),
            target_rules({"source_labels": ["__scheme__"], "regex": "http", "action": "keep"}),
        ),
    }


def _requests() -> dict[str, Scenario]:
    """How the target is asked."""
    return {
        "params": Scenario(shown(ORDINARY), {"params": {"module": ["a b", "c"], "x": ["&="], "empty": [""]}}),
        "params_relabelled": Scenario(
            shown(ORDINARY),
            {
                "params": {"module": ["a", "c"]},
                **target_rules({"target_label": "__param_module", "replacement": "new"}),
            },
        ),
        "params_labelled": Scenario(
            shown(ORDINARY),
            {"params": {"module": ["a", "c"]}},
            since=(3, 0),
            labels={"__param_module": "own"},
        ),
        "path": Scenario(shown(ORDINARY), {"metrics_path": "/path/é x?y=%2f;a+b#c"}),
        "path_relabelled": Scenario(
            shown(ORDINARY),
            target_rules({"target_label": "__metrics_path__", "replacement": "/path_relabelled//a/../%zz?"}),
        ),
        "timeout": Scenario(shown(ORDINARY), {"scrape_timeout": "750ms"}),
        "framings": Scenario(
            [Page(ORDINARY, manner=manner) for manner in ("gzip", "chunked", "unframed", "gzip", "whole")]
        ),
        "no_host": Scenario(shown(ORDINARY), address=":<port>"),
        "no_port": Scenario([], address="127.0.0.77", reached=False),
    }


def _mischief() -> dict[str, Scenario]:
    """Answers that do not end as they should.

    A page before a closed connection ends it, and the job shares none with others, so that nobody has reason to ask twice.
    """
    brief = {"scrape_timeout": "300ms"}
    last = Page(ORDINARY, manner="unframed")
    return {
        "hangs": Scenario(
            [Page(ORDINARY), Page(manner="hang"), Page(ORDINARY), Page(manner="hang"), Page(ORDINARY)], brief
        ),
        "stalls": Scenario([Page(ORDINARY), Page(ORDINARY, manner="stall"), Page(ORDINARY)], brief),
        "ends_early": Scenario([Page(ORDINARY), Page(ORDINARY, manner="short"), Page(ORDINARY)]),
        "ends_late": Scenario([Page(ORDINARY), Page("a 2\nb 1234567\n", manner="long"), Page(ORDINARY)]),
        "closes": Scenario(
            [last, Page(manner="close"), last, Page(manner="close"), Page(ORDINARY)],
            {"basic_auth": {"username": "nobody else"}},
        ),
        "not_gzip": Scenario(
            [Page(ORDINARY), Page("a 1\n", headers={"Content-Encoding": "gzip"}), Page(ORDINARY)]
        ),
    }


def _library(number: int, render: Any, content_type: str) -> Page:
    """What Python's client library shows after `number` events."""
    registry = prometheus_client.CollectorRegistry()
    counter = prometheus_client.Counter("events", "Events.", ["kind"], registry=registry)
    histogram = prometheus_client.Histogram("size_bytes", "Sizes.", buckets=(1, 2.5, 1e6), registry=registry)
    prometheus_client.Summary("took_seconds", "Times.", registry=registry).observe(0.5 * number)
    prometheus_client.Info("build", "Build.", registry=registry).info({"version": "1.2", "text": 'quo"te\\'})
    prometheus_client.Enum("state", "State.", states=["on", "off"], registry=registry).state("off")
    prometheus_client.Gauge("level", "Level.", registry=registry).set(-number)
    for event in range(number + 1):
        counter.labels(f"kind {event}").inc(event)
        histogram.observe(event * 1.7)
    return Page(render(registry), content_type=content_type)


_VALUES = ("0", "1", "-1", "NaN", "+Inf", "-Inf", "0.1", "1e100", "3.0000000001", "12345678901234567890")
_WORDS = ("", "a", "b c", "é", '\\"', "\\\\", "\\n", "x" * 40, "0", "{}", "=,")


def _by_chance(seed: int) -> Iterator[Page]:
    """Pages of families whose series come and go; some of them fail, or break off."""
    chance = random.Random(seed)
    names = [f"{word}_{number}" for number in range(6) for word in ("up_to", "m:x", "le")]
    pool = [
        (
            name,
            sorted(
                {f"l{chance.randrange(4)}": chance.choice(_WORDS) for _ in range(chance.randrange(4))}.items()
            ),
        )
        for name in names
        for _ in range(chance.randrange(1, 5))
    ]
    unique = list({(name, tuple(one for one in labels if one[1])): labels for name, labels in pool}.items())
    for number in range(SCRAPES):
        if number and chance.random() < 0.15:
            yield Page(ORDINARY, status=500)
            continue
        lines = []
        for (name, _), labels in chance.sample(unique, chance.randrange(1, len(unique))):
            if chance.random() < 0.2:
                kind = chance.choice(("counter", "gauge", "untyped", "summary", "histogram"))
                lines.append(f"# TYPE {name} {kind}")
            text = ",".join(f'{label}="{value}"' for label, value in labels)
            lines.append(f"{name}{{{text}}} {chance.choice(_VALUES)}")
        yield Page("\n".join(lines) + "\n", manner=chance.choice(("whole", "gzip", "chunked")))
