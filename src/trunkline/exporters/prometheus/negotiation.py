"""What a client wants: the format from its `Accept`, compression from its `Accept-Encoding` (RFC 9110, 12.5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trunkline.exporters.prometheus.text import Format


def format_for(accept: str, *, openmetrics: bool) -> Format:
    """The first format of `accept`, by its weights, that we speak; text format 0.0.4 when there is none."""
    for kind, parameters in _by_weight(accept):
        version, utf8 = parameters.get("version", ""), parameters.get("escaping") == "allow-utf-8"
        if kind == "application/openmetrics-text" and openmetrics and version in ("", "1.0.0"):
            return Format(openmetrics=True, utf8=utf8)
        if kind == "text/plain" and version in ("", "0.0.4", "1.0.0"):
            return Format(utf8=utf8 and version == "1.0.0")
        if kind in ("*/*", "text/*"):
            return Format()
    return Format()


def wants_gzip(accept_encoding: str) -> bool:
    """Whether the client takes a compressed body."""
    return any(coding in ("gzip", "*") for coding, _ in _by_weight(accept_encoding))


def _by_weight(header: str) -> list[tuple[str, Mapping[str, str]]]:
    """The entries of the header, the wanted ones first; those with weight 0 left out."""
    weighted = [(weight, entry) for weight, entry in map(_entry, header.split(",")) if weight > 0]
    return [entry for _, entry in sorted(weighted, key=lambda one: -one[0])]


def _entry(text: str) -> tuple[float, tuple[str, Mapping[str, str]]]:
    name, *rest = text.split(";")
    parameters = dict(_parameters(rest))
    try:
        weight = float(parameters.pop("q", "1"))
    except ValueError:
        weight = 0.0
    return weight, (name.strip().lower(), parameters)


def _parameters(parts: list[str]) -> Iterator[tuple[str, str]]:
    for part in parts:
        name, _, value = part.partition("=")
        yield name.strip().lower(), value.strip().strip('"').lower()
