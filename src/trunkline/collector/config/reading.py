"""A whole configuration: sources → tree → decoded components and service, all errors at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from trunkline.collector.config.decoding import INVALID, At, Decoder
from trunkline.collector.config.findings import Findings, nearest, suggestion
from trunkline.collector.config.identifiers import SIGNALS, parse_id
from trunkline.collector.config.nodes import BROKEN, Node, Place, nearest_place
from trunkline.collector.config.service import Pipeline, Service, Telemetry
from trunkline.collector.config.sources import load
from trunkline.component.contract import Checked, ComponentId
from trunkline.errors import ConfigError, Problem

KINDS: Final = ("receivers", "processors", "exporters", "extensions")
_TOP: Final = (*KINDS, "connectors", "service")
_SERVICE: Final = ("extensions", "pipelines", "telemetry")
_START: Final = (
    "configure at least a receiver, an exporter and a pipeline; see `trunkline collector components`"
)
_PIPELINE: Final = "add one: service: {pipelines: {metrics: {receivers: […], exporters: […]}}}"


class Components(Protocol):
    """Which components there are; `kind` is one of `receivers`, `processors`, `exporters`, `extensions`."""

    def names(self, kind: str) -> Sequence[str]: ...

    def config_type(self, kind: str, type_name: str) -> type | None: ...


@dataclass(frozen=True, slots=True)
class Declared:
    """A configured component: its settings, and where its key is written (`file:line:column`)."""

    config: Any
    place: str


@dataclass(frozen=True, slots=True)
class CollectorConfig:
    """A configuration that can run. Components that no pipeline uses are declared, too."""

    receivers: dict[ComponentId, Declared] = field(default_factory=dict)
    processors: dict[ComponentId, Declared] = field(default_factory=dict)
    exporters: dict[ComponentId, Declared] = field(default_factory=dict)
    extensions: dict[ComponentId, Declared] = field(default_factory=dict)
    service: Service = field(default_factory=Service)
    warnings: tuple[Problem, ...] = ()


def read(
    sources: Sequence[str],
    environment: Mapping[str, str],
    components: Components,
    *,
    sets: Sequence[str] = (),
) -> CollectorConfig:
    """The configuration in `sources` (paths, `file:`, `env:NAME`, `yaml:…`), merged from left to right.

    `sets` are `key.sub=value` overrides, merged last. `AOT_CONFIG_CONTENT` in `environment`, even empty, replaces
    all of them. Raises ConfigError with every problem, in the order of the sources.
    """
    findings = Findings()
    tree = load(sources, sets, environment, findings)
    return _Reading(findings, components, tree).read()


def render(error: ConfigError) -> str:
    """The problems of `error` for a terminal: a heading and a line for each."""
    count = len(error.problems)
    heading = f"invalid configuration: {count} problem{'' if count == 1 else 's'}"
    return "\n".join([heading, *(f"  {problem}" for problem in error.problems)])


class _Reading:
    def __init__(self, findings: Findings, components: Components, tree: Node) -> None:
        self._findings = findings
        self._components = components
        self._decoder = Decoder(findings)
        self._tree = tree
        self._ids: dict[str, set[ComponentId]] = {kind: set() for kind in KINDS}

    def read(self) -> CollectorConfig:
        self._check_top()
        if not any(self._sections()):
            self._findings.problem(self._tree.place, "", "empty configuration file", _START)
            self._findings.raise_problems()
        declared = {kind: self._kind(kind) for kind in KINDS}
        self._check_section("receivers", "no receiver configuration specified in config")
        self._check_section("exporters", "no exporter configuration specified in config")
        service = self._service()
        self._findings.raise_problems()
        return CollectorConfig(**declared, service=service, warnings=self._findings.warnings())

    def _sections(self) -> Iterable[object]:
        for kind in (*KINDS, "connectors"):
            section = self._section(kind)
            yield section is not None and section.value

    def _section(self, key: str) -> Node | None:
        assert isinstance(self._tree.value, dict)
        return self._tree.value.get(key)

    def _check_top(self) -> None:
        assert isinstance(self._tree.value, dict)
        for key, node in self._tree.value.items():
            place = self._tree.keys[key]
            if key not in _TOP:
                self._findings.problem(
                    place, "", f"'' has invalid keys: {key}", suggestion(key, _TOP, "valid keys")
                )
            if key == "connectors" and node.value not in (None, {}, BROKEN):
                self._findings.problem(
                    place,
                    key,
                    "connectors are not supported",
                    "remove the section; a pipeline leads from receivers to exporters",
                )

    def _check_section(self, kind: str, message: str) -> None:
        section = self._section(kind)
        if section is None or section.value in (None, {}):
            place = self._tree.place if section is None else self._tree.spot(kind)
            self._findings.problem(place, "", message, f"add `{kind}:` with at least one")

    # Components

    def _kind(self, kind: str) -> dict[ComponentId, Declared]:
        section = self._section(kind)
        if section is None or section.value is None or section.value is BROKEN:
            return {}
        if not isinstance(section.value, dict):
            self._decoder.decode(section, dict[str, Any], At(self._tree.spot(kind), (), keys=(kind,)))
            return {}
        found: dict[ComponentId, Declared] = {}
        for key, node in section.value.items():
            self._component(kind, key, node, section.keys[key], found)
        return found

    def _component(
        self, kind: str, key: str, node: Node, place: Place, found: dict[ComponentId, Declared]
    ) -> None:
        component = self._id(kind, key, place, self._ids[kind])
        if component is None:
            return
        config_type = self._components.config_type(kind, component.type)
        if config_type is None:
            self._unknown_type(kind, component, place)
            return
        owner = f"'{kind}' error reading configuration for \"{component}\": decoding failed due to the following error(s): "
        at = At(place, (kind, str(component)), owner)
        config = self._decoder.decode(node, config_type, at)
        if config is not INVALID:
            found[component] = Declared(config, str(place))
            self._check(config, node, at)

    def _id(self, section: str, key: str, place: Place, known: set[ComponentId]) -> ComponentId | None:
        try:
            found = parse_id(key)
        except ValueError as error:
            self._findings.problem(place, section, str(error), "write type or type/name")
            return None
        if found in known:
            message = f'duplicate name "{found}"'
            self._findings.problem(
                place, section, message, "spaces around / do not tell ids apart; give another name"
            )
            return None
        known.add(found)
        return found

    def _unknown_type(self, kind: str, component: ComponentId, place: Place) -> None:
        names = sorted(self._components.names(kind))
        message = f'\'{kind}\' unknown type: "{component.type}" for id: "{component}" (valid values: [{" ".join(names)}])'
        elsewhere = [other for other in KINDS if component.type in self._components.names(other)]
        remedy = f"it belongs under {elsewhere[0]}" if elsewhere else nearest(component.type, names)
        self._findings.problem(place, f"{kind}::{component}", message, remedy)

    def _check(self, config: object, node: Node, at: At) -> None:
        """What the config itself finds wrong, at the nearest place of the key path it names."""
        if not isinstance(config, Checked):
            return
        for below, message in config.check():
            keys = below.split("::") if below else []
            place = nearest_place(node, keys, at.place)
            self._findings.problem(place, "::".join([at.path, *keys]), message)

    # Service

    def _service(self) -> Service:
        node, at = self._part(self._tree, At(self._tree.place, ()), "service")
        if self._decoder.decode(node, dict[str, Any], at) is INVALID:
            return Service()
        for key in node.value if isinstance(node.value, dict) else ():
            if key not in _SERVICE:
                remedy = suggestion(key, _SERVICE, "valid keys")
                self._findings.problem(node.keys[key], at.path, f"'service' has invalid keys: {key}", remedy)
        return Service(
            extensions=self._extensions(*self._part(node, at, "extensions")),
            pipelines=self._pipelines(*self._part(node, at, "pipelines")),
            telemetry=self._telemetry(*self._part(node, at, "telemetry")),
        )

    def _part(self, node: Node, at: At, key: str) -> tuple[Node, At]:
        """What is under `key`, where there may be nothing."""
        if isinstance(node.value, dict) and key in node.value:
            return node.value[key], at.down(key, node.spot(key))
        return Node(None, at.place), at.down(key, at.place)

    def _extensions(self, node: Node, at: At) -> tuple[ComponentId, ...]:
        found = self._decoder.decode(node, tuple[ComponentId, ...], at)
        if found is INVALID:
            return ()
        self._check_references("extensions", found, node, at)
        return tuple(found)

    def _telemetry(self, node: Node, at: At) -> Telemetry:
        found = self._decoder.decode(node, Telemetry, at)
        if found is INVALID:
            return Telemetry()
        assert isinstance(found, Telemetry)
        self._check(found, node, at)
        return found

    def _pipelines(self, node: Node, at: At) -> dict[ComponentId, Pipeline]:
        if node.value in (None, {}):
            self._findings.problem(at.place, at.path, "service must have at least one pipeline", _PIPELINE)
            return {}
        if self._decoder.decode(node, dict[str, Any], at) is INVALID or not isinstance(node.value, dict):
            return {}
        found: dict[ComponentId, Pipeline] = {}
        for key, child in node.value.items():
            below = at.down(key, node.keys[key])
            pipeline_id = self._id(at.path, key, below.place, set(found))
            if pipeline_id is not None and self._is_metrics(pipeline_id, below):
                found[pipeline_id] = self._pipeline(child, below)
        return found

    def _is_metrics(self, pipeline_id: ComponentId, at: At) -> bool:
        signal = pipeline_id.type
        if signal == "metrics":
            return True
        if signal in SIGNALS:
            self._findings.problem(
                at.place,
                at.path,
                f"{signal} pipelines are not supported",
                "Trunkline carries metrics; remove the pipeline",
            )
        else:
            message = f'unknown pipeline signal "{signal}"'
            self._findings.problem(at.place, at.path, message, "name it metrics or metrics/name")
        return False

    def _pipeline(self, node: Node, at: At) -> Pipeline:
        found = self._decoder.decode(node, Pipeline, at)
        if found is INVALID:
            return Pipeline()
        assert isinstance(found, Pipeline)
        if not found.receivers:
            self._findings.problem(at.place, at.path, "must have at least one receiver", "receivers: [id, …]")
        if not found.exporters:
            self._findings.problem(at.place, at.path, "must have at least one exporter", "exporters: [id, …]")
        for kind in ("receivers", "processors", "exporters"):
            below, _ = self._part(node, at, kind)
            self._check_references(kind, getattr(found, kind), below, at)
        self._check_repetition(found, node, at)
        return found

    def _check_references(self, kind: str, ids: Sequence[ComponentId], node: Node, at: At) -> None:
        section = self._section(kind)
        if section is not None and section.value is not None and not isinstance(section.value, dict):
            return  # the section itself is wrong, which has been said
        for index, component in enumerate(ids):
            if component not in self._ids[kind]:
                known = sorted(map(str, self._ids[kind]))
                self._findings.problem(
                    nearest_place(node, [str(index)], node.place),
                    at.path,
                    f'references {kind[:-1]} "{component}" which is not configured',
                    suggestion(str(component), known, f"configured {kind}"),
                )

    def _check_repetition(self, pipeline: Pipeline, node: Node, at: At) -> None:
        for component, count in Counter(pipeline.processors).items():
            if count > 1:
                last = max(index for index, one in enumerate(pipeline.processors) if one == component)
                place = nearest_place(node, ["processors", str(last)], at.place)
                message = f'references processor "{component}" multiple times'
                self._findings.problem(
                    place, at.path, message, "list it once, or configure another one as type/name"
                )
