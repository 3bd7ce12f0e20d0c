"""How a series looks to the receiver, how a request is sent, and what its answer means (aws.md B.3)."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from time import time
from typing import TYPE_CHECKING, Final

from trunkline import __version__
from trunkline.aws import explain
from trunkline.component.contract import Authenticator, Backoff, Context, Encoder, Fragment
from trunkline.component.signing import Signer
from trunkline.errors import (
    CredentialsError,
    DeliveryError,
    FetchError,
    Hold,
    NotNow,
    Rejected,
    RetryLater,
    TooLarge,
)
from trunkline.exporters.prometheusremotewrite.encoder import RefusedSeriesError, SourceEncoder
from trunkline.exporters.prometheusremotewrite.labels import final_labels
from trunkline.exporters.prometheusremotewrite.limits import TooManyLabelsError
from trunkline.exporters.prometheusremotewrite.metadata import Announcements, WithMetadata
from trunkline.exporters.prometheusremotewrite.splitting import apart, described, halves, singles
from trunkline.exporters.prometheusremotewrite.target_info import WithTargetInfo
from trunkline.model import Resource, Series, Table, make_labels
from trunkline.net.message import Request, Response, parse_http_date
from trunkline.wire import template
from trunkline.wire.kernel import encode_labels, merge_labels

if TYPE_CHECKING:
    from trunkline.exporters.prometheusremotewrite.config import RemoteWriteConfig

log = logging.getLogger(__name__)

LONGEST_WISH_S: Final = 300.0
MAX_ANSWER_BYTES: Final = 1024 * 1024
HEADERS: Final = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
    "User-Agent": f"trunkline/{__version__}",
}


class RemoteWrite:
    """One endpoint that takes remote write."""

    def __init__(
        self, config: RemoteWriteConfig, context: Context, authenticator: Authenticator | None
    ) -> None:
        self.destination = config.endpoint
        self.limits = config.request_limits
        self.queue = config.queue_settings
        self._label_limits = config.label_limits
        retry = config.retry_on_failure
        self.backoff = Backoff(
            retry.initial_interval, retry.multiplier, retry.max_interval, retry.randomization_factor
        )
        self._name = str(context.id)
        self._metrics = context.metrics
        self._config = config
        self._authenticator = authenticator
        self._clock = authenticator.clock if isinstance(authenticator, Signer) else None
        self._client = config.client(context)
        self._headers = _headers(config.headers)
        self._added: tuple[Resource, bytes] | None = None  # sources lend one resource to all of their series
        self._announcements = Announcements(config.translation)
        self._last_lanes: dict[str, int] = {}  # of sources that have sent more than one

    def encoder(self, table: Table) -> Encoder:
        made: Encoder = self._samples(table)
        if self._config.translate_scraped_names and self._config.target_info.enabled:
            made = WithTargetInfo(table, self._config.translation, self._samples)
        return WithMetadata(table, self._announcements, made) if self._config.send_metadata else made

    def _samples(self, table: Table) -> Encoder:
        return SourceEncoder(table, self._encode, self._last_lanes, self._lose)

    def _lose(self, samples: int, reason: str) -> None:
        self._metrics.refused.add(samples, self._name, reason)

    def join(self, fragments: Sequence[Fragment]) -> bytes:
        return template.join((fragment.data, fragment.raw_bytes) for fragment in fragments)

    def halves(self, fragment: Fragment) -> Sequence[Fragment]:
        return halves(fragment)

    def singles(self, fragment: Fragment) -> Sequence[tuple[bytes, Fragment]]:
        return singles(fragment)

    def apart(
        self, fragment: Fragment, keys: Collection[bytes]
    ) -> tuple[Sequence[Fragment], Sequence[Fragment]]:
        return apart(fragment, keys)

    def describe(self, fragment: Fragment) -> str:
        return described(fragment)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self._client.aclose()

    async def send(self, body: bytes) -> None:
        """Send one request. Raises a DeliveryError that says what the host does next."""
        request = Request("POST", self._config.endpoint, self._headers, body)
        try:
            if self._authenticator is not None:
                request = self._authenticator.authorize(request)
            exchange = self._client.exchange(
                request, timeout_s=self._config.timeout, max_body_bytes=MAX_ANSWER_BYTES
            )
            response = await (exchange if self._clock is None else self._clock.timed(exchange))
        except CredentialsError as error:
            raise Hold(str(error), reason="credentials") from error
        except FetchError as error:
            raise RetryLater(
                f"{self.destination} cannot be reached: {error}", reason="unreachable"
            ) from error
        problem = outcome(response, self.destination)
        if problem is not None:
            if self._authenticator is not None and new_credentials_may_help(response):
                self._authenticator.refused()
            raise problem

    def _encode(self, series: Series) -> bytes | None:
        try:
            final = self._final(series)
            if final is not None:
                self._label_limits.check(final)
        except ValueError as error:
            log.warning("%s: series %s is left out: %s", self._name, series.labels, error)
            reason = "labels" if isinstance(error, TooManyLabelsError) else "name_invalid"
            raise RefusedSeriesError(reason) from error
        return final

    def _final(self, series: Series) -> bytes | None:
        """The labels as they are sent; None for a series that is not."""
        encoded = series.encoded if self._config.translation.keeps(series) else None
        if encoded is not None:
            return merge_labels(self._added_labels(series.resource), encoded)
        labels = final_labels(series, self._config)
        return None if labels is None else encode_labels(labels)

    def _added_labels(self, resource: Resource) -> bytes:
        """What series of this resource get that lack it, encoded."""
        if self._added is None or self._added[0] is not resource:
            self._added = resource, encode_labels(make_labels(self._config.translation.added(resource)))
        return self._added[1]


def _headers(own: Mapping[str, str]) -> dict[str, str]:
    """Those of every request; the user's own win, in whatever case they are written."""
    given = {name.lower() for name in own}
    return {**{name: value for name, value in HEADERS.items() if name.lower() not in given}, **own}


def outcome(response: Response, destination: str) -> DeliveryError | None:
    """None for a request that was taken, else what its answer means for the host."""
    status = response.status
    if 200 <= status < 300:
        return None
    message = explain.message_of(response)
    said = f"{destination} answered {status}: {message.rstrip('.')}"
    if status in (401, 403, 404):
        reason, explained = "forbidden", explain.forbidden(message)
        if status == 404:
            reason, explained = "not_found", explain.NOT_FOUND
        return Hold(f"{said}. {explained}", reason=reason)
    if status == 413:
        return TooLarge(said, reason="too_large")
    if (
        status in (400, 409, 422)
        or (status == 429 and classify(message) in LIMITS)  # Cortex, and AMP in older times
        or (status == 500 and _NEVER_TAKEN.search(message))
    ):
        return _refusal(said, message, response)
    if status in (408, 429) or status >= 500:
        reason = "throttled" if status == 429 else "server_error"
        return RetryLater(said, reason=reason, after_s=_retry_after_s(response))
    return Hold(f"{said}. {_explain_misdirected(response)}", reason="misdirected")


def _refusal(said: str, message: str, response: Response) -> DeliveryError:
    """What a 400 means (Thanos refuses samples with a 409): not every one is about the samples."""
    reason = classify(message)
    if reason in LIMITS:  # a quota that grows with use, or is raised
        return NotNow(said, reason=reason)
    words = f"{response.headers.get('x-amzn-errortype', '')} {_SERIES.sub('', message)}"
    if _UNSIGNED.search(words):
        return Hold(f"{said}. {explain.forbidden(message)}", reason="forbidden")
    if _MISDIRECTED.search(words):
        return Hold(f"{said}. {_explain_misdirected(response)}", reason="misdirected")
    if _THROTTLED.search(words):
        return RetryLater(said, reason="throttled", after_s=_retry_after_s(response))
    return Rejected(said, reason=reason)


_SERIES: Final = re.compile(r"\{[^}]*\}?")
"""A series in an answer, whose labels may be called anything."""
_NEVER_TAKEN: Final = re.compile(r"^too old sample\b")
"""Prometheus up to 2.44 or so says this with a 500, which would be tried until the sample is an hour old."""
_UNSIGNED: Final = re.compile(
    r"(?:IncompleteSignature|InvalidSignature|ExpiredToken|RequestExpired|AccessDenied|UnrecognizedClient|"
    r"InvalidClientTokenId|MissingAuthenticationToken)|security token|not authorized to perform"
)
_MISDIRECTED: Final = re.compile(
    r"unsupported path|HTTP request (?:was sent )?to (?:an )?HTTPS", re.IGNORECASE
)
_THROTTLED: Final = re.compile(r"Throttling|Rate exceeded|rate limit")


def _explain_misdirected(response: Response) -> str:
    if location := response.headers.get("location"):
        return f"It redirects to {location}: write that URL as endpoint. The samples are kept meanwhile"
    return (
        "This is not a URL that takes remote write: check the endpoint's path. The samples are kept meanwhile"
    )


LIMITS: Final = frozenset({"labelset_limit", "out_of_order_rate", "series_limit"})
"""How many series there may be, or samples out of order: these are refused, and others taken."""

REASONS: Final = (
    ("out_of_order_rate", re.compile(r"out.of.order.{0,40}rate.?limit", re.IGNORECASE)),
    ("labelset_limit", re.compile(r"per.label.?set.series|per.metric.series", re.IGNORECASE)),
    (
        "series_limit",
        re.compile(r"series limit|Capacity from|max-(?:active-)?series|too many HA", re.IGNORECASE),
    ),
    (
        "duplicate_timestamp",
        re.compile(r"duplicate sample|same timestamp|new-value-for-timestamp", re.IGNORECASE),
    ),
    ("out_of_order", re.compile(r"out.of.order", re.IGNORECASE)),
    ("too_old", re.compile(r"too old|max.sample.age|out of bounds", re.IGNORECASE)),
    ("too_far_in_future", re.compile(r"too far in (the )?future", re.IGNORECASE)),
    ("labels", re.compile(r"label", re.IGNORECASE)),
    ("metric_name", re.compile(r"metric.name", re.IGNORECASE)),
)
"""Counted reasons, by the words of a refusal; the first that fits."""


def classify(message: str) -> str:
    """A short reason for counting, from the words of a refusal."""
    words = _SERIES.sub("", message)
    return next((reason for reason, pattern in REASONS if pattern.search(words)), "bad_request")


def new_credentials_may_help(response: Response) -> bool:
    """Whether a refusal is about the session; a policy that allows nothing is asked again, not renewed against."""
    missing = "no identity-based policy allows" in explain.message_of(response)
    return response.status in (401, 403) and not missing


def _retry_after_s(response: Response) -> float | None:
    wish = response.headers.get("retry-after", "")
    if wish.isdecimal():
        return min(float(wish), LONGEST_WISH_S)
    moment_s = parse_http_date(wish)
    return None if moment_s is None else min(max(moment_s - time(), 0.0), LONGEST_WISH_S)
