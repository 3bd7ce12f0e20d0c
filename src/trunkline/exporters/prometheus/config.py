"""The settings of the `prometheus` exporter, as the OpenTelemetry Collector has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from trunkline.component.settings import Text, setting
from trunkline.component.translation import Strategy, Translation
from trunkline.quantities import Duration
from trunkline.wire import naming

if TYPE_CHECKING:
    from trunkline.component.contract import Consumer, Context

_NO_BODIES: Final = "requests with a body are refused"
_FIXED: Final = "a connection is closed after a minute without a request"
_VERSIONS: Final = ("", "1.0", "1.1", "1.2", "1.3")


@dataclass(frozen=True, kw_only=True)
class ServerTlsConfig:
    """Our certificate, and whose certificates we take."""

    cert_file: str | None = setting(default=None, doc="PEM file of our certificate.")
    key_file: str | None = setting(default=None, doc="PEM file of its key.")
    client_ca_file: str | None = setting(
        default=None, doc="PEM file of authorities; every client has to show a certificate of one of them."
    )
    min_version: str = setting(default="", doc="Oldest TLS version spoken; `1.2` when empty.")
    max_version: str = setting(default="", doc="Newest TLS version spoken.")
    ca_file: str | None = setting(
        default=None, doc="Authorities of servers.", ignored="a server has no use for it; see client_ca_file"
    )
    reload_interval: Duration | None = setting(
        default=None,
        doc="When files are read again.",
        ignored="files are read again as soon as they have changed",
    )
    client_ca_file_reload: bool = setting(
        default=False,
        doc="Whether client_ca_file is read again.",
        ignored="files are read again as soon as they have changed",
    )
    cert_pem: str | None = setting(default=None, doc="Our certificate as text; not supported.")
    key_pem: str | None = setting(default=None, doc="Its key as text; not supported.")
    cipher_suites: Any = setting(default=None, doc="Ciphers allowed; not supported.")
    curve_preferences: Any = setting(default=None, doc="Curves preferred; not supported.")

    def check(self) -> Iterator[tuple[str, str]]:
        """What contradicts itself or is not supported: the key and what is wrong with it."""
        if not self.cert_file or not self.key_file:
            yield "cert_file", "for TLS provide both cert_file and key_file"
        for name in ("min_version", "max_version"):
            if getattr(self, name) not in _VERSIONS:
                yield name, f"unsupported TLS version: {getattr(self, name)!r}; write 1.0, 1.1, 1.2 or 1.3"
        for name in ("cert_pem", "key_pem"):
            if getattr(self, name):
                yield name, f"is not supported: write it to a file and name that in {name[:-4]}_file"
        for name in ("cipher_suites", "curve_preferences"):
            if getattr(self, name):
                yield name, "is not supported: OpenSSL's own choice is used; take the key out"


@dataclass(frozen=True, kw_only=True)
class ConversionConfig:
    """Whether the attributes of a resource become labels of its series."""

    enabled: bool = setting(default=False, doc="Whether every resource attribute becomes a label.")
    exclude_service_attributes: bool = setting(
        default=False, doc="Leaves out `service.name`, `service.namespace` and `service.instance.id`."
    )


@dataclass(frozen=True, kw_only=True)
class PrometheusExporterConfig:
    """Shows the latest samples under `/metrics` to whoever fetches them."""

    endpoint: str = setting(doc="`host:port` to listen on; without host on every address.")
    tls: ServerTlsConfig | None = setting(default=None, doc="Our certificate; plain HTTP when left out.")
    namespace: str = setting(default="", doc="Put before every name, with an underscore.")
    const_labels: dict[str, Text] = setting(
        default_factory=dict, doc="Labels added to series that lack them."
    )
    send_timestamps: bool = setting(default=False, doc="Whether samples are shown with their timestamps.")
    metric_expiration: Duration = setting(
        default=300.0, doc="How long a series is shown after its last sample."
    )
    enable_open_metrics: bool = setting(
        default=False, doc="Whether OpenMetrics is spoken with clients that ask for it."
    )
    add_metric_suffixes: bool = setting(
        default=True, doc="Whether OpenTelemetry names get unit and type suffixes."
    )
    translation_strategy: Strategy = setting(
        default="",
        doc="How OpenTelemetry names are translated; overrides add_metric_suffixes. One of "
        "`UnderscoreEscapingWithSuffixes`, `UnderscoreEscapingWithoutSuffixes` and `NoTranslation`.",
    )
    translate_scraped_names: bool = setting(
        default=False,
        doc="Whether scraped series, too, get the names, labels and target_info that the AWS distribution gives them.",
    )
    resource_to_telemetry_conversion: ConversionConfig = setting(
        default_factory=ConversionConfig, doc="Resource attributes as labels."
    )
    without_scope_info: bool = setting(
        default=False, doc="Leaves out the `otel_scope_*` labels that translate_scraped_names adds."
    )
    identity_labels: bool = setting(
        default=True,
        doc="Whether series carry the account, region, cluster, service and task they come from.",
    )
    response_headers: dict[str, Text] = setting(default_factory=dict, doc="Further headers of every answer.")
    max_request_body_size: int = setting(default=20971520, doc="Largest request.", ignored=_NO_BODIES)
    compression_algorithms: tuple[str, ...] = setting(
        default=(), doc="Compressions of requests that are taken.", ignored=_NO_BODIES
    )
    include_metadata: bool = setting(
        default=False, doc="Passes headers of requests on.", ignored="there is nobody to pass them on to"
    )
    read_timeout: Duration = setting(default=0.0, doc="Time to read a request.", ignored=_FIXED)
    read_header_timeout: Duration = setting(default=60.0, doc="Time to read its head.", ignored=_FIXED)
    write_timeout: Duration = setting(default=30.0, doc="Time to write an answer.", ignored=_FIXED)
    idle_timeout: Duration = setting(default=60.0, doc="Time until the next request.", ignored=_FIXED)
    keep_alives_enabled: bool = setting(
        default=True, doc="Whether connections are kept.", ignored="they are kept if the client wants it"
    )
    sending_queue: Any = setting(
        default=None, doc="Upstream's queue in memory.", ignored="samples are shown as they come"
    )
    auth: Any = setting(default=None, doc="Who may fetch; not supported.")
    cors: Any = setting(default=None, doc="Access from other web pages; not supported.")
    middlewares: Any = setting(default=None, doc="Extensions that change requests; not supported.")
    resource_constant_labels: Any = setting(default=None, doc="Attributes that become labels; not supported.")

    def check(self) -> Iterator[tuple[str, str]]:
        yield from self._check_address()
        yield from self._check_names()
        if self.tls is not None:
            yield from ((f"tls::{path}", message) for path, message in self.tls.check())
        if self.metric_expiration <= 0:
            yield "metric_expiration", "must be greater than zero, such as 5m"
        refused = {
            "auth": "is not supported: use tls::client_ca_file to say who may fetch",
            "cors": "is not supported: metrics are not fetched by web pages",
            "middlewares": "is not supported: there are no such extensions",
            "resource_constant_labels": "is not supported: use resource_to_telemetry_conversion",
        }
        yield from ((name, message) for name, message in refused.items() if getattr(self, name))

    def _check_address(self) -> Iterator[tuple[str, str]]:
        _, separator, port = self.endpoint.strip().rpartition(":")
        if not self.endpoint.strip():
            yield "endpoint", "expecting a non-blank address to run the Prometheus metrics handler"
        elif not separator or not port.isdecimal() or int(port) > 65535:
            yield "endpoint", f"{self.endpoint!r} is not host:port, such as localhost:8889"

    def _check_names(self) -> Iterator[tuple[str, str]]:
        if self.translation_strategy == "NoUTF8EscapingWithSuffixes":
            yield (
                "translation_strategy",
                "NoUTF8EscapingWithSuffixes is not supported; write NoTranslation to keep names as they are",
            )
        for name in self.const_labels:
            try:
                naming.label_name(name)
            except ValueError as error:
                yield f"const_labels::{name}", str(error)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to listen on; an empty host is every address."""
        host, _, port = self.endpoint.strip().rpartition(":")
        # One address, whatever the name means here.
        return ("127.0.0.1" if host == "localhost" else host.strip("[]")), int(port)

    @cached_property
    def translation(self) -> Translation:
        """How series are called outside."""
        conversion = self.resource_to_telemetry_conversion
        return Translation(
            scraped=self.translate_scraped_names,
            suffixes=self.add_metric_suffixes,
            namespace=self.namespace,
            resource_attributes=conversion.enabled,
            service_attributes=not conversion.exclude_service_attributes,
            identity=self.identity_labels,
            scope=not self.without_scope_info,
            constant=self.const_labels,
        ).by(self.translation_strategy)

    def build(self, context: Context) -> Consumer:
        from trunkline.exporters.prometheus.exporter import PrometheusExporter  # noqa: PLC0415

        return PrometheusExporter(self, context)
