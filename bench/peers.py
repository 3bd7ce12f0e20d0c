"""Where the peers come from: the PATH, Debian's packages, or their Go modules. Nothing of theirs stays in the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.collectors import Collector, otel, prometheus, version_of, vmagent

BUILD_TIMEOUT_S: Final = 600.0

_OTEL_MAIN: Final = """\
package main

import (
	"log"

	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusremotewriteexporter"
	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/sigv4authextension"
	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/prometheusreceiver"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/confmap/provider/envprovider"
	"go.opentelemetry.io/collector/confmap/provider/fileprovider"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/otelcol"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/service/telemetry/otelconftelemetry"
)

func components() (otelcol.Factories, error) {
	extensions, receivers, exporters := sigv4authextension.NewFactory(), prometheusreceiver.NewFactory(), prometheusremotewriteexporter.NewFactory()
	return otelcol.Factories{
		Extensions: map[component.Type]extension.Factory{extensions.Type(): extensions},
		Receivers:  map[component.Type]receiver.Factory{receivers.Type(): receivers},
		Exporters:  map[component.Type]exporter.Factory{exporters.Type(): exporters},
		Telemetry:  otelconftelemetry.NewFactory(),
	}, nil
}

func main() {
	command := otelcol.NewCommand(otelcol.CollectorSettings{
		BuildInfo: component.BuildInfo{Command: "otelcol", Version: "VERSION"},
		Factories: components,
		ConfigProviderSettings: otelcol.ConfigProviderSettings{
			ResolverSettings: confmap.ResolverSettings{
				ProviderFactories: []confmap.ProviderFactory{fileprovider.NewFactory(), envprovider.NewFactory()},
				DefaultScheme:     "env",
			},
		},
	})
	if err := command.Execute(); err != nil {
		log.Fatal(err)
	}
}
"""


@dataclass(frozen=True)
class Missing:
    """A peer that is not measured, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class _Source:
    """A peer built from Go modules: what is fetched, and what is compiled."""

    name: str
    module: str
    package: str
    make: Callable[[Path, str], Collector]
    fallback: str = ""
    """A version to take where the module proxy lacks the newest one, or something that it needs."""
    main: str = ""
    """Text of a program of our own that puts its parts together, instead of one it brings."""


_SOURCES: Final = (
    _Source(
        "vmagent-new",
        "github.com/VictoriaMetrics/VictoriaMetrics",
        "github.com/VictoriaMetrics/VictoriaMetrics/app/vmagent",
        lambda program, version: vmagent(program, version, "vmagent-new"),
        fallback="v1.122.0",
    ),
    _Source(
        "prometheus-new",
        "github.com/prometheus/prometheus",
        "github.com/prometheus/prometheus/cmd/prometheus",
        lambda program, version: prometheus(program, _prometheus_version(version), "prometheus-new"),
        fallback="v0.305.0",
    ),
    _Source(
        "otel",
        "github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusremotewriteexporter",
        ".",
        otel,
        main=_OTEL_MAIN,
    ),
)
BUILT: Final = tuple(source.name for source in _SOURCES)


def cache() -> Path:
    """Where programs are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trunkline-bench"


def debian() -> Iterator[Collector | Missing]:
    """Peers as Debian has them, or as they are on the PATH."""
    makers: tuple[tuple[str, str, Callable[[Path, str], Collector]], ...] = (
        ("vmagent", "victoria-metrics", vmagent),
        ("prometheus", "prometheus", prometheus),
    )
    for name, package, make in makers:
        program = _installed(name, package)
        if program is None:
            yield Missing(name, f"not on the PATH and not installed; on Debian: apt-get install {package}")
        else:
            yield make(program, version_of(program, package))


def _installed(name: str, package: str) -> Path | None:
    """A program on the PATH, after installing its package when we are root on Debian."""
    found = shutil.which(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        # RUNLEVEL=1: a service that a package brings is not started.
        surroundings = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", package]
        sys.stderr.write(f"bench: installing {package} with apt\n")
        subprocess.run(command, env=surroundings, capture_output=True, check=False)  # noqa: S603
        found = shutil.which(name)
    return Path(found) if found else None


def built(*, build: bool) -> Iterator[Collector | Missing]:
    """The newest peers, built from their Go modules when `build`, else those that are in the cache."""
    for source in _SOURCES:
        program, note = cache() / source.name / source.name, cache() / source.name / "version"
        why = _build(source) if build and not note.exists() else ""
        if note.exists():
            yield source.make(program, note.read_text().strip())
        else:
            yield Missing(
                source.name, why or "not built: give --build-peers, with a Go toolchain on the PATH"
            )


def _build(source: _Source) -> str:
    """Build a peer into the cache; returns why that was not possible, or nothing."""
    go = shutil.which("go")
    if go is None:
        return "there is no Go toolchain on the PATH"
    why = ""
    for version in filter(None, ("latest", source.fallback)):
        sys.stderr.write(f"bench: building {source.name} from {source.module}@{version} (minutes)\n")
        try:
            _build_version(source, version, go)
        except subprocess.TimeoutExpired:
            return f"building took longer than {BUILD_TIMEOUT_S:.0f} s"
        except subprocess.CalledProcessError as error:
            why = f"go {' '.join(error.cmd[1:3])} failed: {error.stderr.strip()[-300:]}"
        except LookupError as error:
            why = str(error)
        else:
            return ""
    return why


def _build_version(source: _Source, version: str, go: str) -> None:
    folder = cache() / source.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    started = time.monotonic()
    _go(go, folder, started, "mod", "init", "bench")
    _go(go, folder, started, "get", f"{source.module}@{version}")
    exact = _go(go, folder, started, "list", "-m", "-f", "{{.Version}}", source.module).strip()
    if exact.startswith("v0.0.0-"):
        raise LookupError(f"the module proxy knows no released version of {source.module}")
    if source.main:
        (folder / "main.go").write_text(source.main.replace("VERSION", exact))
        _go(go, folder, started, "mod", "tidy")
    else:
        _go(go, folder, started, "get", f"{source.package}@{version}")
    _go(go, folder, started, "build", "-trimpath", "-ldflags=-s -w", "-o", source.name, source.package)
    (folder / "version").write_text(exact)


def _go(go: str, folder: Path, started: float, *arguments: str) -> str:
    left_s = max(BUILD_TIMEOUT_S - (time.monotonic() - started), 1.0)
    surroundings = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"}
    done = subprocess.run(  # noqa: S603
        [go, *arguments],
        cwd=folder,
        env=surroundings,
        capture_output=True,
        text=True,
        check=True,
        timeout=left_s,
        preexec_fn=lambda: os.nice(19),
    )
    return done.stdout


def _prometheus_version(module: str) -> str:
    """Prometheus 3.5.0 is the module's v0.305.0."""
    major, minor, patch = module.lstrip("v").split(".", 2)
    number = int(minor)
    return (
        f"{number // 100}.{number % 100}.{patch}"
        if major == "0" and number >= 300
        else f"{major}.{minor}.{patch}"
    )
