"""What Prometheus or the OpenTelemetry Collector know and this receiver does not: each key is refused with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from trunkline.component.settings import setting

Refused = list[Any]

_REFUSED: Final = "Not supported: refused with a remedy."
_EXPORT: Final = "list the targets in a file (file_sd_configs) or behind a URL (http_sd_configs) that something else writes"
_REMEDIES: Final = {
    "aws_sd_configs": f"ECS and EC2 discovery is not built yet; {_EXPORT}, or use DNS of ECS Service Connect or Cloud Map (dns_sd_configs)",
    "ec2_sd_configs": f"EC2 discovery is not built yet; {_EXPORT}",
    "consul_sd_configs": "ask Consul's DNS (dns_sd_configs, type SRV)",
    "kubernetes_sd_configs": "Trunkline runs on ECS; inside Kubernetes run Prometheus or its agent",
}

_ALERTING: Final = "alerts are sent by the workspace, or a Prometheus that reads it: take out alerting"
_INSTEAD: Final = {
    "alert_config.alertmanagers": _ALERTING,
    "alert_config.relabel_configs": _ALERTING,
    "remote_read": "there is no storage to read into: take out remote_read",
    "remote_write": "samples are sent by an exporter: write prometheusremotewrite in place of remote_write",
    "rule_files": "rules are evaluated by the workspace: load them there, and take out rule_files",
}


@dataclass(frozen=True, kw_only=True)
class UnsupportedDiscovery:
    """Prometheus' further ways to find targets."""

    aws_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    azure_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    consul_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    digitalocean_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    docker_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    dockerswarm_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    ec2_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    eureka_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    gce_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    hetzner_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    ionos_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    kubernetes_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    kuma_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    lightsail_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    linode_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    marathon_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    nerve_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    nomad_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    oci_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    openstack_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    outscale_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    ovhcloud_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    puppetdb_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    scaleway_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    serverset_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    stackit_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    triton_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    uyuni_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)
    vultr_sd_configs: Refused = setting(default_factory=list, doc=_REFUSED)

    def check_unsupported(self) -> Iterator[tuple[str, str]]:
        for key in UnsupportedDiscovery.__dataclass_fields__:
            if getattr(self, key):
                yield key, f"{key} is not supported; {_REMEDIES.get(key, _EXPORT)}"


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """The parts of Prometheus' configuration that concern a server: accepted only where they are empty."""

    alerting: Any = setting(default=None, doc="Refused: alerting is Prometheus' or Alertmanager's.")
    remote_read: Refused = setting(default_factory=list, doc="Refused: there is no storage to read into.")
    remote_write: Refused = setting(default_factory=list, doc="Refused: configure an exporter instead.")
    rule_files: Refused = setting(default_factory=list, doc="Refused: rules are the workspace's.")
    storage: Any = setting(default=None, doc="No effect: there is no storage.")
    tracing: Any = setting(default=None, doc="No effect.")
    otlp: Any = setting(default=None, doc="No effect.")
    runtime: Any = setting(default=None, doc="No effect.")

    def unsupported_features(self) -> str:
        """What a server would do, as the OpenTelemetry Collector says it, and what to do instead; empty if nothing."""
        alerting = self.alerting if isinstance(self.alerting, dict) else {}
        found = {
            "alert_config.alertmanagers": alerting.get("alertmanagers"),
            "alert_config.relabel_configs": alerting.get("alert_relabel_configs"),
            "remote_read": self.remote_read,
            "remote_write": self.remote_write,
            "rule_files": self.rule_files,
        }
        names = sorted(name for name, given in found.items() if given)
        if not names:
            return ""
        remedies = "; ".join(dict.fromkeys(_INSTEAD[name] for name in names))
        return "\n\t".join(["unsupported features:", *names]) + f"\n{remedies}"
