"""The settings of `prometheusremotewrite` and of its removed sibling `awsprometheusremotewrite` (components.md, 3)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from trunkline.component.contract import Limits, QueueSettings
from trunkline.component.settings import Text, setting
from trunkline.component.translation import Strategy, Translation
from trunkline.exporters.prometheusremotewrite.http import HttpClientConfig
from trunkline.exporters.prometheusremotewrite.limits import AMP_LABEL_BYTES, AMP_LABELS, LabelLimits
from trunkline.quantities import Duration, Size
from trunkline.wire import naming

if TYPE_CHECKING:
    from trunkline.component.contract import Authenticator, Context, Delivery

AMP_HOST: Final = re.compile(
    r"aps-workspaces(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)"
)
MESSAGE: Final = "prometheus.WriteRequest"
LEAST_QUEUE_BYTES: Final = 16 * 1024 * 1024
_QUEUE_DECIDES: Final = "the queue on disk has no use for it"


@dataclass(frozen=True, kw_only=True)
class AuthConfig:
    """Which extension signs the requests."""

    authenticator: str = setting(
        doc="Id of an extension listed under service::extensions, such as sigv4auth."
    )


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """How long to wait between tries. Nothing is dropped when retrying takes long: it waits in the queue."""

    enabled: bool = setting(default=True, doc="Whether to retry.", ignored="what is queued is always retried")
    initial_interval: Duration = setting(default=0.05, doc="First pause.")
    randomization_factor: float = setting(default=0.5, doc="Share of a pause that is left to chance.")
    multiplier: float = setting(default=1.5, doc="How much longer each pause is than the one before.")
    max_interval: Duration = setting(default=30.0, doc="Longest pause.")
    max_elapsed_time: Duration = setting(
        default=300.0,
        doc="When to give up.",
        ignored="samples are kept until they are too old for the receiver",
    )

    def check(self, path: str) -> Iterator[tuple[str, str]]:
        if not self.enabled:
            return
        for key in ("initial_interval", "multiplier", "max_interval", "max_elapsed_time"):
            if getattr(self, key) < 0:
                yield f"{path}::{key}", f"'{key}' must be non-negative"
        if not 0 <= self.randomization_factor <= 1:
            yield f"{path}::randomization_factor", "'randomization_factor' must be within [0, 1]"
        for key in ("initial_interval", "max_interval"):
            if 0 < self.max_elapsed_time < getattr(self, key):
                yield f"{path}::max_elapsed_time", f"'max_elapsed_time' must not be less than '{key}'"


@dataclass(frozen=True, kw_only=True)
class QueueConfig:
    """Upstream's queue in memory; here every sample is written to disk before it is sent."""

    enabled: bool = setting(default=True, doc="Whether to queue.", ignored="the queue is always on")
    queue_size: int = setting(
        default=10000, doc="Batches kept.", ignored="the queue is bounded by bytes and age"
    )
    num_consumers: int = setting(default=5, doc="Requests at a time, at most.")

    def check(self, path: str) -> Iterator[tuple[str, str]]:
        if self.queue_size < 0:
            yield f"{path}::queue_size", "remote write queue size can't be negative"
        if self.enabled and self.queue_size == 0:
            yield f"{path}::queue_size", "a 0 size queue will drop all the data"
        if self.num_consumers < 0:
            yield f"{path}::num_consumers", "remote write consumer number can't be negative"


@dataclass(frozen=True, kw_only=True)
class WalConfig:
    """Upstream's log of what is not yet sent. Every sample is in the queue on disk before it is sent, with or without."""

    directory: str = setting(default="", doc="Where the queue lies, instead of the data directory.")
    buffer_size: int = setting(default=300, doc="Entries read at once.", ignored=_QUEUE_DECIDES)
    truncate_frequency: Duration = setting(
        default=60.0, doc="How often what is delivered is removed.", ignored=_QUEUE_DECIDES
    )
    lag_record_frequency: Duration = setting(
        default=15.0, doc="How often the lag is measured.", ignored="the queue's age is always a metric"
    )


@dataclass(frozen=True, kw_only=True)
class DiskQueueConfig:
    """Where samples wait until they are delivered."""

    max_size: Size = setting(
        default=4 * 1024**3,
        doc="How large it may become on the disk; the oldest samples are given up then. Half an hour of 20,000 samples "
        "a second takes about 1.3 GB.",
    )
    fsync: bool = setting(
        default=False,
        doc="Whether samples are on the device before they count as accepted, and so survive a loss of power.",
    )

    def check(self, path: str) -> Iterator[tuple[str, str]]:
        if self.max_size < LEAST_QUEUE_BYTES:
            yield f"{path}::max_size", f"must be at least {LEAST_QUEUE_BYTES // 2**20}MiB"


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """What the receiver takes. What is not given is Amazon Managed Prometheus' quota where samples go there, else no limit."""

    max_sample_age: Duration = setting(
        default=3600.0, doc="Samples older than this are given up: Amazon Managed Prometheus takes an hour."
    )
    max_request_bytes: Size = setting(
        default=900_000, doc="Largest request, compressed: Amazon Managed Prometheus takes 1 MB."
    )
    max_labels: int | None = setting(
        default=None, doc="How many labels a series may have, its name included."
    )
    max_label_bytes: Size | None = setting(
        default=None, doc="How long the names and values of a series' labels may be together."
    )

    def check(self, path: str) -> Iterator[tuple[str, str]]:
        for key in ("max_sample_age", "max_request_bytes", "max_labels", "max_label_bytes"):
            value = getattr(self, key)
            if value is not None and value <= 0:
                yield f"{path}::{key}", "must be greater than zero"


@dataclass(frozen=True, kw_only=True)
class ConversionConfig:
    """Whether the attributes of a resource become labels of its series."""

    enabled: bool = setting(default=False, doc="Whether every resource attribute becomes a label.")
    exclude_service_attributes: bool = setting(
        default=False, doc="Leaves out `service.name`, `service.namespace` and `service.instance.id`."
    )


@dataclass(frozen=True, kw_only=True)
class TargetInfoConfig:
    """Whether a series `target_info` carries the attributes of each resource."""

    enabled: bool = setting(
        default=True,
        doc="Whether target_info is sent where translate_scraped_names asks for upstream's names.",
    )


@dataclass(frozen=True, kw_only=True)
class CreatedMetricConfig:
    """Upstream's switch for `_created` series, removed there in March 2025."""

    enabled: bool = setting(
        default=False,
        doc="Whether `_created` series are sent with translate_scraped_names; without, they are sent as scraped.",
    )


@dataclass(frozen=True, kw_only=True)
class RemoteWriteConfig(HttpClientConfig):
    """Sends samples by Prometheus remote write 1.0."""

    namespace: str = setting(default="", doc="Put before every name, with an underscore.")
    external_labels: dict[str, Text] = setting(
        default_factory=dict, doc="Labels added to series that lack them."
    )
    auth: AuthConfig | None = setting(default=None, doc="Who signs the requests.")
    retry_on_failure: RetryConfig = setting(default_factory=RetryConfig, doc="Pauses between tries.")
    remote_write_queue: QueueConfig = setting(default_factory=QueueConfig, doc="Upstream's queue in memory.")
    max_batch_size_bytes: int = setting(default=3_000_000, doc="Largest request, before compression.")
    max_batch_request_parallelism: int | None = setting(
        default=None, doc="Requests at a time, at most; goes before remote_write_queue::num_consumers."
    )
    add_metric_suffixes: bool = setting(
        default=True, doc="Whether OpenTelemetry names get unit and type suffixes."
    )
    translation_strategy: Strategy = setting(
        default="",
        doc="How OpenTelemetry names are translated; overrides add_metric_suffixes. One of "
        "`UnderscoreEscapingWithSuffixes` and `UnderscoreEscapingWithoutSuffixes`.",
    )
    translate_scraped_names: bool = setting(
        default=False,
        doc="Whether scraped series, too, get the names, labels and target_info that the AWS distribution gives them.",
    )
    send_metadata: bool = setting(default=False, doc="Whether type, help and unit of families are sent, too.")
    resource_to_telemetry_conversion: ConversionConfig = setting(
        default_factory=ConversionConfig, doc="Resource attributes as labels."
    )
    target_info: TargetInfoConfig = setting(
        default_factory=TargetInfoConfig, doc="Resource attributes as a series of their own."
    )
    export_created_metric: CreatedMetricConfig = setting(
        default_factory=CreatedMetricConfig, doc="When counters and histograms began, as series."
    )
    disable_scope_info: bool = setting(
        default=False, doc="Leaves out the `otel_scope_*` labels that translate_scraped_names adds."
    )
    identity_labels: bool = setting(
        default=True,
        doc="Whether series carry the account, region, cluster, service and task they come from.",
    )
    wal: WalConfig | None = setting(default=None, doc="Upstream's log of what is not yet sent.")
    queue: DiskQueueConfig = setting(
        default_factory=DiskQueueConfig, doc="Where samples wait until they are delivered."
    )
    limits: LimitsConfig = setting(
        default_factory=LimitsConfig, doc="What the receiver takes, checked before anything is sent."
    )
    protobuf_message: str = setting(default=MESSAGE, doc=f"Only `{MESSAGE}`, remote write 1.0.")

    def check(self) -> Iterator[tuple[str, str]]:
        yield from self.check_client()
        yield from self._check_labels()
        yield from self._check_names()
        if self.max_batch_size_bytes < 0:
            yield "max_batch_size_bytes", "max_batch_byte_size must be greater than 0"
        if self.max_batch_request_parallelism is not None and self.max_batch_request_parallelism < 1:
            yield "max_batch_request_parallelism", "max_batch_request_parallelism can't be set to below 1"
        if self.protobuf_message != MESSAGE:
            yield "protobuf_message", f"{self.protobuf_message!r} is not supported; only {MESSAGE} is"
        yield from self.retry_on_failure.check("retry_on_failure")
        yield from self.remote_write_queue.check("remote_write_queue")
        yield from self.queue.check("queue")
        yield from self.limits.check("limits")

    def _check_labels(self) -> Iterator[tuple[str, str]]:
        if not all(name and value for name, value in self.external_labels.items()):
            yield (
                "external_labels",
                "prometheus remote write: external labels configuration contains an empty key or value",
            )
            return
        for name in self.external_labels:
            try:
                naming.label_name(name)
            except ValueError as error:
                yield f"external_labels::{name}", str(error)

    def _check_names(self) -> Iterator[tuple[str, str]]:
        if self.translation_strategy in ("NoUTF8EscapingWithSuffixes", "NoTranslation"):
            message = (
                f"{self.translation_strategy} needs remote write 2, which is not supported; write "
                "UnderscoreEscapingWithSuffixes or UnderscoreEscapingWithoutSuffixes"
            )
            yield "translation_strategy", message

    @property
    def request_limits(self) -> Limits:
        """How full requests may be, and how many at once."""
        return Limits(
            max_request_bytes=self.limits.max_request_bytes,
            max_raw_bytes=self.max_batch_size_bytes or Limits().max_raw_bytes,
            max_age_s=self.limits.max_sample_age,
            max_requests=self.max_batch_request_parallelism or self.remote_write_queue.num_consumers or 1,
        )

    @property
    def label_limits(self) -> LabelLimits:
        """Which series the receiver takes."""
        is_amp = AMP_HOST.fullmatch(urlsplit(self.endpoint).hostname or "")
        most = LabelLimits(AMP_LABELS, AMP_LABEL_BYTES) if is_amp else LabelLimits()
        return LabelLimits(
            self.limits.max_labels or most.max_labels, self.limits.max_label_bytes or most.max_bytes
        )

    @property
    def queue_settings(self) -> QueueSettings:
        """How samples are kept until they are delivered."""
        return QueueSettings(self.queue.max_size, self.wal.directory if self.wal else "", self.queue.fsync)

    @cached_property
    def translation(self) -> Translation:
        """How series are called for the receiver."""
        conversion = self.resource_to_telemetry_conversion
        return Translation(
            scraped=self.translate_scraped_names,
            suffixes=self.add_metric_suffixes,
            namespace=self.namespace,
            resource_attributes=conversion.enabled,
            service_attributes=not conversion.exclude_service_attributes,
            identity=self.identity_labels,
            scope=not self.disable_scope_info,
            constant=self.external_labels,
        ).by(self.translation_strategy)

    def build(self, context: Context) -> Delivery:
        from trunkline.exporters.prometheusremotewrite.delivery import RemoteWrite  # noqa: PLC0415

        return RemoteWrite(self, context, self.authenticator(context))

    def authenticator(self, context: Context) -> Authenticator | None:
        """The extension this exporter names; raises ConfigError when it does not run or cannot sign."""
        if self.auth is None:
            return None
        from trunkline.component.signing import named_authenticator  # noqa: PLC0415

        return named_authenticator(self.auth.authenticator, context)


@dataclass(frozen=True, kw_only=True)
class AwsAuthConfig:
    """How requests are signed; the keys of the exporter that the AWS distribution shipped until 2022."""

    region: str = setting(
        default="", doc="Region of the workspace; else the one in the endpoint's host name."
    )
    service: str = setting(default="aps", doc="Service name the signature is made for.")
    role_arn: str = setting(default="", doc="Role assumed before signing, such as the monitoring account's.")


@dataclass(frozen=True, kw_only=True)
class AwsRemoteWriteConfig(RemoteWriteConfig):
    """Sends samples by Prometheus remote write 1.0, signed for Amazon Managed Prometheus."""

    aws_auth: AwsAuthConfig = setting(default_factory=AwsAuthConfig, doc="How requests are signed.")

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.auth is not None:
            yield (
                "auth",
                "is not used here: this exporter signs by aws_auth; take the key out, or aws_auth and the aws in the exporter's type",
            )
        if not self.aws_auth.region and not self._region_of_endpoint():
            yield "aws_auth::region", "invalid endpoint: its host names no region, so set aws_auth::region"
        if self.aws_auth.role_arn and not self.aws_auth.role_arn.startswith("arn:"):
            yield (
                "aws_auth::role_arn",
                f"{self.aws_auth.role_arn!r} is not a role's ARN (arn:aws:iam::<account>:role/…)",
            )

    def authenticator(self, context: Context) -> Authenticator:
        from trunkline.component.signing import Signer  # noqa: PLC0415

        region = self.aws_auth.region or self._region_of_endpoint()
        return Signer.of(context, region, self.aws_auth.service, role_arn=self.aws_auth.role_arn)

    def _region_of_endpoint(self) -> str:
        match = AMP_HOST.fullmatch(urlsplit(self.endpoint).hostname or "")
        return match["region"] if match else ""
