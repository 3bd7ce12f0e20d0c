"""How a series looks to the receiver, how a request is sent, and what its answer means (aws.md B.3)."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Final

from trunkline import __version__
from trunkline.component.contract import Authenticator, Backoff, Context, Encoder, Fragment, Limits
from trunkline.errors import CredentialsError, DeliveryError, FetchError, Hold, Rejected, RetryLater, TooLarge
from trunkline.exporters.prometheusremotewrite.encoder import SourceEncoder
from trunkline.model import AttributeValue, Labels, Origin, Series, Table, make_labels
from trunkline.net.message import Request, Response
from trunkline.wire import naming, template
from trunkline.wire.kernel import encode_labels

if TYPE_CHECKING:
    from trunkline.exporters.prometheusremotewrite.config import RemoteWriteConfig

log = logging.getLogger(__name__)

LONGEST_WISH_S: Final = 300.0
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
        self.limits = Limits(max_raw_bytes=config.max_batch_size_bytes or Limits().max_raw_bytes)
        retry = config.retry_on_failure
        self.backoff = Backoff(
            retry.initial_interval, retry.multiplier, retry.max_interval, retry.randomization_factor
        )
        self._name = str(context.id)
        self._metrics = context.metrics
        self._config = config
        self._authenticator = authenticator
        tls = config.tls
        self._client = context.clients.client(
            insecure_skip_verify=tls.insecure_skip_verify,
            ca_file=tls.ca_file,
            cert_file=tls.cert_file,
            key_file=tls.key_file,
            server_name=tls.server_name_override,
        )
        self._headers = {**HEADERS, **config.headers}

    def encoder(self, table: Table) -> Encoder:
        return SourceEncoder(table, self._encode)

    def join(self, fragments: Sequence[Fragment]) -> bytes:
        return template.join((fragment.data, fragment.raw_bytes) for fragment in fragments)

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
            response = await self._client.exchange(request, timeout_s=self._config.timeout)
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
            return encode_labels(final_labels(series, self._config))
        except ValueError as error:
            log.warning("%s: series %s is left out: %s", self._name, series.labels, error)
            self._metrics.refused.add(1, self._name, "name_invalid")
            return None


def final_labels(series: Series, config: RemoteWriteConfig) -> Labels:
    """The labels the receiver gets: scraped series as scraped, OpenTelemetry's translated.

    Raises ValueError for a name of which nothing can be used.
    """
    labels = dict(series.labels)
    if series.family.origin is Origin.OPENTELEMETRY:
        labels = _translated(series, config)
    elif config.namespace:
        labels["__name__"] = f"{config.namespace}_{labels['__name__']}"
    if config.identity_labels:
        labels = {**series.resource.identity, **labels}
    external = {naming.label_name(name): value for name, value in config.external_labels.items()}
    return make_labels({**external, **labels})


def _translated(series: Series, config: RemoteWriteConfig) -> dict[str, str]:
    attributes: dict[str, AttributeValue] = {
        name: value for name, value in series.labels if name != "__name__"
    }
    if config.resource_to_telemetry_conversion.enabled:
        attributes.update(series.resource.attributes)
    labels = {naming.label_name(name): _text(value) for name, value in attributes.items()}
    family = series.family
    labels["__name__"] = naming.metric_name(
        series.name,
        family.unit,
        family.kind,
        suffixes=config.add_metric_suffixes,
        namespace=config.namespace,
    )
    labels.update(_job_and_instance(series.resource.attributes))
    return labels


def _job_and_instance(attributes: Mapping[str, AttributeValue]) -> dict[str, str]:
    name, space = attributes.get("service.name"), attributes.get("service.namespace")
    instance = attributes.get("service.instance.id")
    labels = {"job": f"{space}/{name}" if space else str(name)} if name else {}
    return {**labels, "instance": str(instance)} if instance else labels


def _text(value: AttributeValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def outcome(response: Response, destination: str) -> DeliveryError | None:
    """None for a request that was taken, else what its answer means for the host."""
    status = response.status
    if 200 <= status < 300:
        return None
    said = f"{destination} answered {status}: {_message(response).rstrip('.')}"
    if status in (401, 403, 404):
        reason, explained = "forbidden", _explain_forbidden(response)
        if status == 404:
            reason, explained = "not_found", EXPLAIN_NOT_FOUND
        return Hold(f"{said}. {explained}", reason=reason)
    if status == 413:
        return TooLarge(said, reason="too_large")
    if status in (408, 429) or status >= 500:
        reason = "throttled" if status == 429 else "server_error"
        return RetryLater(said, reason=reason, after_s=_retry_after_s(response))
    if status in (400, 422):
        return _refusal(said, classify(_message(response)))
    return Hold(f"{said}. {_explain_misdirected(response)}", reason="misdirected")


def _refusal(said: str, reason: str) -> DeliveryError:
    if (
        reason == "series_limit"
    ):  # a quota that grows with use: worth one more try, although it comes as a 400
        return RetryLater(said, reason=reason, after_s=60.0, tries=1)
    return Rejected(said, reason=reason)


def _explain_misdirected(response: Response) -> str:
    if location := response.headers.get("location"):
        return f"It redirects to {location}: write that URL as endpoint. The samples are kept meanwhile"
    return (
        "This is not a URL that takes remote write: check the endpoint's path. The samples are kept meanwhile"
    )


EXPLAIN_NOT_FOUND: Final = (
    "There is no such workspace there: compare the workspace id, the region in the host name and the account of the "
    "role that signs. The samples are kept meanwhile"
)

_REASONS: Final = (
    ("labelset_limit", re.compile(r"per.label.?set.series|per.metric.series", re.IGNORECASE)),
    ("series_limit", re.compile(r"series limit|Capacity from|max-series", re.IGNORECASE)),
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


def classify(message: str) -> str:
    """A short reason for counting, from the words of a refusal."""
    return next((reason for reason, words in _REASONS if words.search(message)), "bad_request")


def new_credentials_may_help(response: Response) -> bool:
    """Whether a refusal is about the session; a policy that allows nothing is asked again, not renewed against."""
    missing = "no identity-based policy allows" in _message(response)
    return response.status in (401, 403) and not missing


def _explain_forbidden(response: Response) -> str:
    message = _message(response)
    if "not authorized" in message:
        return (
            "The role that signs may not write to this workspace: give it aps:RemoteWrite on the workspace's ARN, or "
            "assume the role that has it. The samples are kept meanwhile"
        )
    if "expired" in message.lower():
        return "The session has expired or the clock is wrong; new credentials are being fetched"
    return (
        "The signature was not accepted: check the region and service it is made for, the credentials and this "
        "machine's clock. The samples are kept meanwhile"
    )


def _message(response: Response) -> str:
    text = response.body[:1024].decode(errors="replace").strip()
    try:
        document = json.loads(text)
    except ValueError:
        return text or response.reason
    if isinstance(document, dict):
        return str(document.get("message") or document.get("Message") or text)
    return text


def _retry_after_s(response: Response) -> float | None:
    wish = response.headers.get("retry-after", "")
    if wish.isdecimal():
        return min(float(wish), LONGEST_WISH_S)
    try:
        wish_s = parsedate_to_datetime(wish).timestamp() - time() if wish else None
    except ValueError:
        return None
    return None if wish_s is None else min(max(wish_s, 0.0), LONGEST_WISH_S)
