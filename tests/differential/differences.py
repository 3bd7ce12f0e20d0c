"""Where the collector does not do what the judge does, and why; docs/compatibility.md shows this table.

A difference is either between versions of Prometheus, then the older judge's samples are translated before they are
compared, or on purpose, then samples it explains are not counted as different.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from urllib.parse import quote

from tests.differential.comparison import Seen
from tests.differential.targets import Asked

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


def _nothing(_: Seen) -> bool:
    return False


def _as_it_is(asked: Asked) -> Asked:
    return asked


@dataclass(frozen=True)
class Purpose:
    """What differs on purpose in some scenarios; `explains` says whether a sample of either side is such a case.

    `alike` makes a request of either side what both would have asked without the difference.
    """

    what: str
    prometheus: str
    trunkline: str
    why: str
    scenarios: Collection[str]
    explains: Callable[[Seen], bool] = _nothing
    alike: Callable[[Asked], Asked] = _as_it_is


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


_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))


def _encoded(asked: Asked) -> Asked:
    return replace(asked, url=quote(asked.url.encode("latin-1"), safe=_PRINTABLE))


def _without_default_port(asked: Asked) -> Asked:
    return replace(asked, url=asked.url.replace(":80/", "/"))


def _without_credentials(asked: Asked) -> Asked:
    return replace(asked, authorization="") if asked.url.endswith("?again") else asked


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
        scenarios=("http_headers", "http_headers_odd", "http_headers_redirected", "http_headers_secret"),
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
    Change(
        "white space around a user name or password of `basic_auth`",
        "that of the password is cut off",
        "belongs to them",
        "seen in 2.42 and 3.5",
        scenarios=("basic_auth_spaces",),
    ),
    Change(
        "`basic_auth::username_file`",
        "unknown",
        "known",
        "seen in 2.42 and 3.5",
        scenarios=("basic_auth_files",),
    ),
    Change(
        "`no_proxy`, `proxy_from_environment`, `proxy_connect_header`",
        "since 2.43",
        "known",
        "Prometheus 2.43 release notes",
        scenarios=(
            "no_proxy",
            "no_proxy_others",
            "proxy_connect_header",
            "proxy_from_environment",
            "proxy_from_environment_local",
        ),
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
    Purpose(
        "credentials of a target that redirects to another host",
        "go along",
        "stay with the first host and what is below it",
        "they were given for that host",
        ("redirect_to_another_host",),
        alike=_without_credentials,
    ),
    Purpose(
        "a redirect to a URL with spaces or other than ASCII in it",
        "is followed as it is spelled",
        "is followed in percent-encoding",
        "a URL has neither",
        ("redirect_spelled_oddly",),
        alike=_encoded,
    ),
    Purpose(
        "the default port, where a request has to name the host",
        "named if the target's address has it",
        "left out",
        "it is the same host",
        (
            "no_proxy_others",
            "proxy",
            "proxy_and_basic_auth",
            "proxy_credentials",
            "proxy_from_environment",
            "proxy_over_tls",
            "proxy_wants_credentials",
        ),
        alike=_without_default_port,
    ),
)
