"""The settings of `prometheusremotewrite` and of its removed sibling `awsprometheusremotewrite`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from trunkline.component.settings import Text, setting
from trunkline.quantities import Duration
from trunkline.wire import naming

if TYPE_CHECKING:
    from trunkline.component.contract import Authenticator, Context, Delivery

AMP_HOST: Final = re.compile(
    r"aps-workspaces(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws)"
)


@dataclass(frozen=True, kw_only=True)
class AuthConfig:
    """Which extension signs the requests."""

    authenticator: str = setting(
        doc="Id of an extension listed under service::extensions, such as sigv4auth."
    )


@dataclass(frozen=True, kw_only=True)
class TlsConfig:
    """How the receiver's certificate is checked and ours presented."""

    insecure: bool = setting(default=False, doc="Plain HTTP.", ignored="the URL's scheme decides")
    insecure_skip_verify: bool = setting(default=False, doc="Whether any certificate is taken.")
    ca_file: str | None = setting(
        default=None, doc="PEM file of the authorities trusted, instead of the system's."
    )
    cert_file: str | None = setting(default=None, doc="PEM file of our certificate.")
    key_file: str | None = setting(default=None, doc="PEM file of its key.")
    server_name_override: str | None = setting(
        default=None, doc="Name expected in the receiver's certificate."
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
        if self.initial_interval <= 0:
            yield f"{path}::initial_interval", "must be greater than zero, such as 50ms"
        if self.max_interval < self.initial_interval:
            yield f"{path}::max_interval", "must not be less than initial_interval"
        if not 0 <= self.randomization_factor <= 1:
            yield f"{path}::randomization_factor", "must be from 0 to 1"
        if not 1 <= self.multiplier <= 10:
            yield f"{path}::multiplier", "must be from 1 to 10"


@dataclass(frozen=True, kw_only=True)
class QueueConfig:
    """Upstream's queue in memory; here every sample is written to disk before it is sent."""

    enabled: bool = setting(default=True, doc="Whether to queue.", ignored="the queue is always on")
    queue_size: int = setting(
        default=10000, doc="Batches kept.", ignored="the queue is bounded by bytes and age"
    )
    num_consumers: int = setting(
        default=5, doc="Requests at a time.", ignored="they are sent one after the other"
    )


@dataclass(frozen=True, kw_only=True)
class ConversionConfig:
    """Whether the attributes of a resource become labels of its series."""

    enabled: bool = setting(default=False, doc="Whether every resource attribute becomes a label.")


@dataclass(frozen=True, kw_only=True)
class TargetInfoConfig:
    """Whether `target_info` series are made."""

    enabled: bool = setting(
        default=True, doc="Whether target_info is sent.", ignored="scraped series are sent as scraped"
    )


@dataclass(frozen=True, kw_only=True)
class RemoteWriteConfig:
    """Sends samples by Prometheus remote write 1.0."""

    endpoint: str = setting(doc="URL that takes remote write, path included.")
    timeout: Duration = setting(default=5.0, doc="How long one request may take.")
    namespace: str = setting(default="", doc="Put before every name, with an underscore.")
    external_labels: dict[str, Text] = setting(
        default_factory=dict, doc="Labels added to series that lack them."
    )
    headers: dict[str, Text] = setting(default_factory=dict, doc="Further headers of every request.")
    auth: AuthConfig | None = setting(default=None, doc="Who signs the requests.")
    tls: TlsConfig = setting(default_factory=TlsConfig, doc="TLS settings.")
    compression: str = setting(default="", doc="Only `snappy`, which is also the default.")
    retry_on_failure: RetryConfig = setting(default_factory=RetryConfig, doc="Pauses between tries.")
    remote_write_queue: QueueConfig = setting(default_factory=QueueConfig, doc="Upstream's queue in memory.")
    max_batch_size_bytes: int = setting(default=3_000_000, doc="Largest request, before compression.")
    add_metric_suffixes: bool = setting(
        default=True, doc="Whether OpenTelemetry names get unit and type suffixes."
    )
    resource_to_telemetry_conversion: ConversionConfig = setting(
        default_factory=ConversionConfig, doc="Resource attributes as labels."
    )
    target_info: TargetInfoConfig = setting(default_factory=TargetInfoConfig, doc="Upstream's extra series.")
    disable_scope_info: bool = setting(
        default=False, doc="Whether scope labels are left out.", ignored="they are never added"
    )
    identity_labels: bool = setting(
        default=True,
        doc="Whether series carry the account, region, cluster, service and task they come from.",
    )

    def check(self) -> Iterator[tuple[str, str]]:
        url = urlsplit(self.endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            yield "endpoint", "invalid endpoint: expected http(s)://host/path"
        if "@" in url.netloc:
            yield "endpoint", "user and password in the URL are not sent; use headers or an authenticator"
        if self.compression not in ("", "snappy"):
            yield "compression", "compression type must be snappy"
        if not all(name and value for name, value in self.external_labels.items()):
            yield (
                "external_labels",
                "prometheus remote write: external labels configuration contains an empty key or value",
            )
        if self.max_batch_size_bytes < 0:
            yield "max_batch_size_bytes", "max_batch_byte_size must be greater than 0"
        if self.timeout <= 0:
            yield "timeout", "must be greater than zero, such as 5s"
        yield from self.retry_on_failure.check("retry_on_failure")
        for name in self.external_labels:
            try:
                naming.label_name(name)
            except ValueError as error:
                yield f"external_labels::{name}", str(error)

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
