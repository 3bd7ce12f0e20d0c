"""`dns_sd_configs`: targets from A, AAAA, SRV, MX and NS records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from trunkline.component.schedule import Clock
from trunkline.component.settings import setting
from trunkline.errors import FetchError
from trunkline.quantities import PrometheusDuration
from trunkline.receivers.prometheus.discovery.groups import ADDRESS, LabelSet, TargetGroup, Trouble
from trunkline.receivers.prometheus.discovery.resolver import TYPES, Record, Resolver

_NEED_PORT: Final = ("A", "AAAA", "MX", "NS")


@dataclass(frozen=True, kw_only=True)
class DnsSdConfig:
    """Targets named by DNS records."""

    names: list[str] = setting(default_factory=list, doc="Names that are asked for.")
    type: str = setting(default="SRV", doc="Kind of records: `A`, `AAAA`, `MX`, `NS` or `SRV`.")
    port: int = setting(default=0, doc="Port of the targets, where records have none.")
    refresh_interval: PrometheusDuration = setting(default=30.0, doc="How often they are asked for.")

    def check(self) -> Iterator[tuple[str, str]]:
        kind = self.type.upper()
        if not self.names:
            yield "names", "DNS-SD config must contain at least one SRV record name"
        if kind not in TYPES:
            yield "type", f"invalid DNS-SD records type {self.type}; write one of {', '.join(sorted(TYPES))}"
        elif kind in _NEED_PORT and self.port == 0:
            yield "port", "a port is required in DNS-SD configs for all record types except SRV"
        if not 0 <= self.port < 65536:
            yield "port", "must be a port, from 1 to 65535"
        if self.refresh_interval <= 0:
            yield "refresh_interval", "must be greater than zero, such as 30s"


class DnsDiscovery:
    """Asks for the names of one section; one that cannot be resolved keeps the targets it had."""

    def __init__(self, config: DnsSdConfig, resolver: Resolver | None = None) -> None:
        self._config = config
        self._resolver = resolver or Resolver()
        self._known: dict[str, TargetGroup] = {}
        self._troubles = {name: Trouble(f"no targets for {name} from DNS") for name in config.names}

    async def updates(self, clock: Clock) -> AsyncIterator[Sequence[TargetGroup]]:
        while True:
            for name in self._config.names:
                await self._ask(name)
            yield list(self._known.values())
            await clock.sleep(self._config.refresh_interval)

    async def aclose(self) -> None:
        """Nothing is open between two questions."""

    async def _ask(self, name: str) -> None:
        trouble = self._troubles[name]
        try:
            records = await self._resolver.lookup(name, self._config.type.upper())
        except (FetchError, OSError, ValueError) as error:
            trouble.began(error)
        else:
            trouble.ended()
            self._known[name] = TargetGroup([self._target(name, record) for record in records])

    def _target(self, name: str, record: Record) -> LabelSet:
        host = record.target.rstrip(".")
        port = record.port if record.type == "SRV" else self._config.port
        labels = {
            ADDRESS: f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "__meta_dns_name": name,
        }
        if record.type == "SRV":
            labels["__meta_dns_srv_record_target"] = record.target
            labels["__meta_dns_srv_record_port"] = str(record.port)
        elif record.type in ("MX", "NS"):
            labels[f"__meta_dns_{record.type.lower()}_record_target"] = record.target
        return labels
