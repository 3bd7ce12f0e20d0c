"""OpenTelemetry names to Prometheus names, as the collector's remote write exporter makes them.

Source: `translator/prometheus` of opentelemetry-collector-contrib v0.156, restated in section 3.4 of the component
reference.
"""

from __future__ import annotations

import re
from typing import Final

from trunkline.model import Kind

_MAIN_UNITS: Final = {
    "d": "days",
    "h": "hours",
    "min": "minutes",
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "GiBy": "gibibytes",
    "TiBy": "tibibytes",
    "KBy": "kilobytes",
    "MBy": "megabytes",
    "GBy": "gigabytes",
    "TBy": "terabytes",
    "m": "meters",
    "V": "volts",
    "A": "amperes",
    "J": "joules",
    "W": "watts",
    "g": "grams",
    "Cel": "celsius",
    "Hz": "hertz",
    "1": "",
    "%": "percent",
}
_PER_UNITS: Final = {
    "s": "second",
    "m": "minute",
    "h": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}
_NOT_IN_NAME: Final = re.compile(r"[^A-Za-z0-9:]+")
_NOT_IN_PLAIN_NAME: Final = re.compile(r"[^A-Za-z0-9_:]+")
_NOT_IN_LABEL: Final = re.compile(r"[^A-Za-z0-9]+")


def metric_name(
    name: str, unit: str = "", kind: Kind = Kind.GAUGE, *, suffixes: bool = True, namespace: str = ""
) -> str:
    """The Prometheus name of an OpenTelemetry metric.

    `kind` is COUNTER for a monotonic sum, GAUGE for a gauge; any other adds no suffix of its own. With `suffixes`
    the unit and `total` or `ratio` are appended. Raises ValueError if nothing is left of the name.
    """
    result = _with_suffixes(name, unit, kind, namespace) if suffixes else _without_suffixes(name, namespace)
    if result != name and not result.strip("_"):
        raise ValueError(f"nothing of the metric name {name!r} can be used in Prometheus")
    if not result:
        raise ValueError("a metric has no name")
    return result


def label_name(key: str) -> str:
    """The Prometheus name of an attribute. Raises ValueError if the key is empty or only underscores."""
    if not key.strip("_"):
        raise ValueError(f"the attribute name {key!r} cannot be a label")
    if key.startswith("__") and key.endswith("__"):
        return f"__{_NOT_IN_LABEL.sub('_', key[2:-2])}__"
    label = _NOT_IN_LABEL.sub("_", key)
    if label.startswith("_"):
        return f"key{label}"
    return f"key_{label}" if _starts_with_digit(label) else label


def _with_suffixes(name: str, unit: str, kind: Kind, namespace: str) -> str:
    words = [word for word in _NOT_IN_NAME.split(name) if word]
    main, _, per = unit.partition("/")
    main, per = _mapped(main, _MAIN_UNITS), _mapped(per, _PER_UNITS).removesuffix("_")
    if main and main not in words:
        words.append(main.removesuffix("_") if per else main)
    if per:
        words.append(f"per_{per}")
    if kind is Kind.COUNTER:
        words = [*_without(words, "total"), "total"]
    elif kind is Kind.GAUGE and unit == "1":
        words = [*_without(words, "ratio"), "ratio"]
    if namespace:
        words.insert(0, namespace)
    result = "_".join(words)
    return f"_{result}" if _starts_with_digit(result) else result


def _without_suffixes(name: str, namespace: str) -> str:
    plain = "_".join(word for word in _NOT_IN_PLAIN_NAME.split(name) if word)
    if namespace:
        return f"{'_'.join(word for word in _NOT_IN_PLAIN_NAME.split(namespace) if word)}_{plain}"
    return f"_{plain}" if _starts_with_digit(plain) else plain


def _without(words: list[str], unwanted: str) -> list[str]:
    return [word for word in words if word != unwanted]


def _mapped(unit: str, words: dict[str, str]) -> str:
    """The word of a unit; one nobody knows stays, cleaned; an annotation (`{packets}`) is no unit."""
    unit = unit.strip()
    if "{" in unit or "}" in unit:
        return ""
    return words.get(unit, _NOT_IN_NAME.sub("_", unit).removeprefix("_"))


def _starts_with_digit(name: str) -> bool:
    return "0" <= name[:1] <= "9"
