"""Who is measured: how each is found, configured and started. Everything not said here is its own default."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.scenarios import IDENTITY, Scenario

REGION: Final = "eu-west-1"
# Credentials that open nothing: the receiver does not look at signatures.
ACCESS_KEY: Final = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # noqa: S105
TRUNKLINE: Final = "trunkline"


@dataclass(frozen=True)
class Plan:
    """What a collector is to do: scrape `targets`, write to `url`, keep its files in `folder`."""

    scenario: Scenario
    targets: Sequence[str]
    url: str
    folder: Path
    ca_file: Path | None

    def scrape_config(self, *, tls_config: bool = True) -> dict[str, Any]:
        """The scrape configuration, the same for everybody (but for how an authority is trusted)."""
        interval = f"{round(self.scenario.interval_s * 1000)}ms"
        job: dict[str, Any] = {"job_name": "bench", "static_configs": [{"targets": list(self.targets)}]}
        if self.ca_file is not None:
            job["scheme"] = "https"
            if tls_config:
                job["tls_config"] = {"ca_file": str(self.ca_file)}
        common = {"scrape_interval": interval, "scrape_timeout": interval, "external_labels": IDENTITY}
        return {"global": common, "scrape_configs": [job]}

    def write(self, name: str, document: dict[str, Any]) -> str:
        """Write a configuration (JSON, which is YAML) and return its path."""
        path = self.folder / name
        path.write_text(json.dumps(document, indent=1))
        return str(path)


@dataclass(frozen=True)
class Launch:
    """A command and what its environment has besides PATH and HOME."""

    command: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Collector:
    """One of those measured."""

    name: str
    title: str
    version: str
    launch: Callable[[Plan], Launch]


def trunkline() -> Collector:
    from trunkline import __version__  # noqa: PLC0415 (what is measured need not be imported to print a report)

    return Collector(TRUNKLINE, "Trunkline", f"{__version__}, {kernel()} kernel", _launch_trunkline)


def kernel() -> str:
    """Which kernel the collector uses here, `compiled` or `pure Python`."""
    from trunkline.wire import kernel  # noqa: PLC0415

    return "compiled" if kernel.COMPILED else "pure Python"


def vmagent(program: Path, version: str, name: str = "vmagent") -> Collector:
    return Collector(name, f"vmagent {_short(version)}", version, lambda plan: _launch_vmagent(program, plan))


def prometheus(program: Path, version: str, name: str = "prometheus") -> Collector:
    return Collector(
        name,
        f"Prometheus {_short(version)} agent",
        version,
        lambda plan: _launch_prometheus(program, version, plan),
    )


def otel(program: Path, version: str) -> Collector:
    return Collector(
        "otel",
        f"OpenTelemetry Collector {_short(version)}",
        version,
        lambda plan: _launch_otel(program, plan),
    )


def version_of(program: Path, package: str) -> str:
    """What a program says of its version, else the version of its Debian package, else `unknown`."""
    said = _output([str(program), "--version"])
    found = re.search(r"v?(\d+\.\d+\.\d+\S*)", said)
    if found:
        return found[1].rstrip(",")
    return _output(["dpkg-query", "-W", "-f", "${Version}", package]).strip() or "unknown"


def _short(version: str) -> str:
    return ".".join(version.lstrip("v").split(".")[:2])


def _output(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout + done.stderr if done.returncode == 0 else ""


def _launch_trunkline(plan: Plan) -> Launch:
    document = {
        "extensions": {"sigv4auth": {"region": REGION, "service": "aps"}},
        "receivers": {"prometheus": {"config": plan.scrape_config(tls_config=False)}},
        "exporters": {
            "prometheusremotewrite": {"endpoint": plan.url, "auth": {"authenticator": "sigv4auth"}}
        },
        "service": {
            "extensions": ["sigv4auth"],
            "telemetry": {"metrics": {"address": "127.0.0.1:0"}},
            "pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["prometheusremotewrite"]}},
        },
    }
    command = [sys.executable, "-m", "trunkline", "collector", "run"]
    command += ["--config", plan.write("trunkline.yaml", document)]
    command += ["--data-dir", str(plan.folder / "data"), "--health-address", "127.0.0.1:0"]
    if plan.ca_file is not None:
        command += ["--ca-bundle", str(plan.ca_file)]
    return Launch(command, _credentials())


def _launch_vmagent(program: Path, plan: Plan) -> Launch:
    command = [
        str(program),
        f"-promscrape.config={plan.write('vmagent.yaml', plan.scrape_config())}",
        f"-remoteWrite.url={plan.url}",
        f"-remoteWrite.tmpDataPath={plan.folder / 'data'}",
        "-remoteWrite.aws.useSigv4=true",
        f"-remoteWrite.aws.region={REGION}",
        f"-remoteWrite.aws.accessKey={ACCESS_KEY}",
        f"-remoteWrite.aws.secretKey={SECRET_KEY}",
        "-remoteWrite.aws.service=aps",
        "-httpListenAddr=127.0.0.1:0",
    ]
    if "forcePromProto" in _output([str(program), "--help"]):
        command.append(
            "-remoteWrite.forcePromProto=true"
        )  # the receiver is no VictoriaMetrics, as AMP is not
    return Launch(command, {})


def _launch_prometheus(program: Path, version: str, plan: Plan) -> Launch:
    document = plan.scrape_config()
    document["remote_write"] = [
        {
            "url": plan.url,
            "sigv4": {"region": REGION, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY},
        }
    ]
    agent = "--enable-feature=agent" if version.startswith("2.") else "--agent"
    command = [
        str(program),
        agent,
        f"--config.file={plan.write('prometheus.yaml', document)}",
        f"--storage.agent.path={plan.folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    return Launch(command, {})


def _launch_otel(program: Path, plan: Plan) -> Launch:
    document = {
        "extensions": {"sigv4auth": {"region": REGION, "service": "aps"}},
        "receivers": {"prometheus": {"config": plan.scrape_config()}},
        "exporters": {
            "prometheus_remote_write": {
                "endpoint": plan.url,
                "auth": {"authenticator": "sigv4auth"},
                "add_metric_suffixes": False,
                "external_labels": IDENTITY,
            }
        },
        "service": {
            "extensions": ["sigv4auth"],
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {"metrics": {"receivers": ["prometheus"], "exporters": ["prometheus_remote_write"]}},
        },
    }
    return Launch([str(program), f"--config={plan.write('otel.yaml', document)}"], _credentials())


def _credentials() -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": REGION}


def environment(launch: Launch) -> dict[str, str]:
    """What the process gets to see of ours: nothing that could change how it runs, but for the choice of a kernel."""
    names = ("PATH", "HOME", "TMPDIR", "TRUNKLINE_KERNEL")
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return {**kept, "AWS_EC2_METADATA_DISABLED": "true", **launch.environment}
