"""Where configuration comes from, and how several sources become one tree (components.md 7.2, 7.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Final, NamedTuple

from trunkline.collector.config.document import DEEPEST, parse_document
from trunkline.collector.config.expansion import (
    Expander,
    ExpansionError,
    read_file,
    split_uri,
    unsupported_scheme,
)
from trunkline.collector.config.findings import Findings
from trunkline.collector.config.nodes import Node, Place, empty_map, merge

CONTENT_VARIABLE: Final = "AOT_CONFIG_CONTENT"
"""When this variable exists, its content replaces every other source, even when it is empty."""

_WHOLE: Final = "a configuration is a map with the keys receivers, processors, exporters and service"


class _Source(NamedTuple):
    """Where to read: `name` is how problems call it."""

    scheme: str
    rest: str
    name: str


def load(
    sources: Sequence[str], sets: Sequence[str], environment: Mapping[str, str], findings: Findings
) -> Node:
    """One tree of all sources, merged from left to right, then expanded.

    Raises ConfigError if a source cannot be read at all; other problems stay in `findings`.
    """
    expander = Expander(environment, findings)
    trees = [_tree(source, expander, findings) for source in _chosen(sources, sets, environment, findings)]
    findings.raise_problems()
    return expander.expand(reduce(merge, trees, empty_map(Place(sources[0] if sources else ""))))


def _chosen(
    sources: Sequence[str], sets: Sequence[str], environment: Mapping[str, str], findings: Findings
) -> list[_Source]:
    if CONTENT_VARIABLE in environment:
        return [_named(f"env:{CONTENT_VARIABLE}")]
    if not sources and not sets:
        remedy = f"give --config FILE, or set {CONTENT_VARIABLE}"
        findings.problem(Place(""), "", "at least one config flag must be provided", remedy)
    return [*map(_named, sources), *_overrides(sets, findings)]


def _named(uri: str) -> _Source:
    """A URI, or the path of a file; `C:` and the like have no scheme long enough to be one."""
    scheme, rest = split_uri(uri) or ("file", uri)
    if scheme == "yaml":  # by its key alone, for the value may be secret
        return _Source(scheme, rest, f"yaml:{rest.lstrip().partition(': ')[0].partition(chr(10))[0][:60]}")
    return _Source(scheme, rest, rest if scheme in ("file", "env") else uri)


def _overrides(sets: Sequence[str], findings: Findings) -> list[_Source]:
    """`--set key.sub=value` as sources of their own; errors name the key only, for the value may be secret."""
    found = []
    for override in sets:
        key, equals, value = (part.strip() for part in override.partition("="))
        if equals and key:
            found.append(_Source("yaml", f"{key.replace('.', '::')}: {value}", f"--set {key}"))
        else:
            message = "missing key" if equals else "missing equal sign"
            findings.problem(Place(f"--set {key}"), "", message, "write --set key.sub=value")
    return found


def _tree(source: _Source, expander: Expander, findings: Findings) -> Node:
    place = Place(source.name)
    findings.source(source.name)
    try:
        node = _content(source, place, expander, findings)
    except ExpansionError as error:
        findings.problem(place, "", error.message, error.remedy)
        return empty_map(place)
    return _whole(node, place, findings)


def _content(source: _Source, place: Place, expander: Expander, findings: Findings) -> Node | None:
    if source.scheme == "file":
        return parse_document(read_file(source.rest), source.name, findings)
    if source.scheme == "env":
        return parse_document(expander.variable(source.rest, place) or "", source.name, findings)
    if source.scheme == "yaml":
        has_lines = "\n" in source.rest
        return parse_document(source.rest, source.name, findings, at=None if has_lines else place)
    raise unsupported_scheme(source.scheme, source.rest)


def _whole(node: Node | None, place: Place, findings: Findings) -> Node:
    """A source's tree as a map, with top-level keys such as `service::telemetry` unfolded."""
    if node is None or node.value is None:
        return empty_map(place)
    if not isinstance(node.value, dict):
        findings.problem(
            node.place, "", "retrieved value cannot be used as a configuration: it is not a map", _WHOLE
        )
        return empty_map(place)
    if not any("::" in key for key in node.value):
        return node
    unfolded = [_unfold(key, node, findings) for key in node.value]
    return reduce(merge, unfolded, Node({}, node.place))


def _unfold(key: str, node: Node, findings: Findings) -> Node:
    assert isinstance(node.value, dict)
    place, value = node.keys[key], node.value[key]
    parts = key.split("::")
    if len(parts) > DEEPEST:
        findings.problem(place, "", f"a key may have at most {DEEPEST} parts")
        return Node({}, place)
    for part in reversed(parts):
        value = Node({part: value}, place, keys={part: place})
    return value
