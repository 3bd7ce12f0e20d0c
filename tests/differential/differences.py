"""Where the collector does not do what the judge does, and why; docs/compatibility.md shows this table.

A difference is either between versions of Prometheus, then the older judge's samples are translated before they are
compared, or on purpose, then samples it explains are not counted as different.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from tests.differential.comparison import Seen

from trunkline.model import STALE_BITS, Labels

GUIDE = "[migration guide](https://prometheus.io/docs/prometheus/latest/migration/)"
COUNTS = frozenset(("scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "scrape_series_added"))


@dataclass(frozen=True)
class Change:
    """What Prometheus does otherwise since version 3, and the collector with it; `translate` makes old labels new."""

    what: str
    before: str
    now: str
    source: str
    translate: Callable[[Labels], Labels] | None = None
    scenarios: Collection[str] = ()
    """Where it is seen: only there labels are translated; none means everywhere."""
    examples: Collection[str] = ()
    """Some of the scenarios, where it is seen everywhere."""

    @property
    def recorded(self) -> Sequence[str]:
        """Scenarios of which golden files hold what Prometheus 3 does."""
        return [*self.scenarios, *self.examples]


@dataclass(frozen=True)
class Purpose:
    """What differs on purpose in some scenarios; `explains` says whether a sample of either side is such a case."""

    what: str
    prometheus: str
    trunkline: str
    why: str
    scenarios: Collection[str]
    explains: Callable[[Seen], bool]


def name_of(one: Seen) -> str:
    return dict(one.labels)["__name__"]


def _normal_bounds(labels: Labels) -> Labels:
    """`le` of buckets and `quantile` of summaries as Go formats a float for OpenMetrics."""
    found = dict(labels)
    if found["__name__"].endswith("_bucket") and "le" in found:
        found["le"] = _normal(found["le"])
    if "quantile" in found:
        found["quantile"] = _normal(found["quantile"])
    return tuple(sorted(found.items()))


def _normal(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return text
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(exponent, int)
    first = len(digits) + exponent - 1
    if first < -4 or first >= 6:  # when Go's shortest form has an exponent
        fraction = "".join(map(str, digits[1:]))
        return f"{'-' * sign}{digits[0]}{'.' * bool(fraction)}{fraction}e{first:+03d}"
    return repr(number)


def _without_port(labels: Labels) -> Labels:
    return tuple((name, value.removesuffix(":80") if name == "instance" else value) for name, value in labels)


CHANGES = (
    Change(
        "`le` of classic histograms and `quantile` of summaries",
        "as exposed: `1`, `2.50`",
        "as Go writes floats: `1.0`, `2.5`, so that both formats of a target give the same series",
        f"{GUIDE}: le and quantile label values",
        _normal_bounds,
        examples=("bounds", "bounds_untyped", "relabel_histogram", "openmetrics_gauge_histogram"),
    ),
    Change(
        "`instance` of a target without port",
        "`:80` or `:443` is added",
        "as written; only the request uses the default port",
        f"{GUIDE}: scrape configuration, ports",
        _without_port,
        ("no_port",),
    ),
    Change(
        "`.` in the patterns of rules",
        "does not match a line break",
        "matches it",
        f"{GUIDE}: regular expressions",
        scenarios=("relabel_newline",),
    ),
    Change(
        "names of metrics and labels",
        "letters, digits, `_` (and `:`)",
        "any UTF-8, in quotes where it needs to be",
        f"{GUIDE}: UTF-8 names",
        scenarios=("utf8_names",),
    ),
    Change(
        "an empty OpenMetrics body",
        "fails, `# EOF` is missing",
        "a scrape without samples",
        "seen in 2.42 and 3.5",
        scenarios=("openmetrics_empty",),
    ),
    Change(
        "a body without a usable `Content-Type`",
        "read as text",
        "fails unless `fallback_scrape_protocol` says how it is read, as the OpenTelemetry Collector's receiver does: as text",
        f"{GUIDE}: scrape protocols",
        scenarios=("content_types", "fallback_none", "fallback_openmetrics"),
    ),
    Change(
        "`track_timestamps_staleness`",
        "since 2.48",
        "known",
        "Prometheus 2.48 release notes",
        scenarios=("timestamps_tracked",),
    ),
    Change(
        "`http_headers`",
        "since 2.55",
        "known; several values stand in one line",
        "Prometheus 2.55 release notes",
        scenarios=("http_headers",),
    ),
    Change(
        "`Accept`",
        "OpenMetrics and text 0.0.4",
        "text 1.0.0, too, each with the escaping of names; what `scrape_protocols` lists",
        "seen in 2.42 and 3.5",
        examples=("protocols",),
    ),
    Change(
        "`metric_name_validation_scheme`, `metric_name_escaping_scheme`",
        "unknown",
        "known",
        f"{GUIDE}: UTF-8 names; Prometheus 3.4 release notes",
        scenarios=("legacy_names", "legacy_relabelled"),
    ),
    Change(
        "a sample of a series that the scrape has had already, under `sample_limit`",
        "counts",
        "does not count",
        "seen in 2.42 and 3.5",
        scenarios=("sample_limit_duplicates",),
    ),
    Change(
        "a label `__param_…` of a target whose job has such a `params`",
        "is overwritten",
        "wins",
        "seen in 2.42 and 3.5",
        scenarios=("params_labelled",),
    ),
)

_HALF_WAY = frozenset(
    (
        "broken",
        "fallback_openmetrics",
        "label_limit",
        "label_name_length_limit",
        "label_value_length_limit",
        "legacy_names",
        "legacy_relabelled",
        "numbers",
        "openmetrics",
        "openmetrics_strict",
        "relabel_nameless",
        "repeated_label",
    )
)

PURPOSES = (
    Purpose(
        "white space before a series",
        "2 refuses the body, 3 makes it a part of the name",
        "ignored",
        "the format says so",
        ("indented",),
        lambda one: one.when[0] == "scrape" and one.when[1] in (1, 2),
    ),
    Purpose(
        "a null byte",
        "ends the body without an error",
        "an error",
        "it is not an exposition",
        ("null_byte",),
        lambda one: name_of(one) in ("up", "scrape_series_added"),
    ),
    Purpose(
        "a series with `le` that follows the `# TYPE` line of a histogram of another name",
        "`le` is normalised as if it belonged to that",
        "`le` stays as exposed",
        "it does not belong to that",
        ("bounds_untyped",),
        lambda one: name_of(one) == "other",
    ),
    Purpose(
        "a body that fails half-way",
        "counts what it read up to the error; series read before the error get their stale marker later, or none",
        "counts nothing, and everything is stale at once",
        "a failed scrape has one meaning, wherever the error stands",
        _HALF_WAY,
        lambda one: name_of(one) in COUNTS or one.bits == STALE_BITS,
    ),
    Purpose(
        "more samples than `sample_limit`",
        "series within the limit get their stale marker later, or none",
        "everything is stale at once",
        "as above",
        ("sample_limit", "sample_limit_duplicates", "sample_limit_relabelled"),
        lambda one: name_of(one) == "scrape_series_added" or one.bits == STALE_BITS,
    ),
    Purpose(
        "two texts that are one series, in `scrape_series_added`",
        "two new series",
        "one",
        "it is one",
        ("duplicates", "relabel_collision", "spaces_within"),
        lambda one: name_of(one) == "scrape_series_added",
    ),
    Purpose(
        "`external_labels` and a series that has such a label",
        "the series' own label stays",
        "the external one is put over it",
        "the OpenTelemetry Collector's receiver does so",
        ("external_labels",),
        lambda one: name_of(one) == "a",
    ),
)
