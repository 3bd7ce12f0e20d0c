"""Scrapes as text, through a processor, and what came out: `{"up{job=a}": 1}`."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import yaml

from trunkline import components
from trunkline.collector.config import read
from trunkline.component.contract import Consumer, Inlet
from trunkline.errors import ConfigError
from trunkline.model import (
    STALE,
    Batch,
    Extra,
    Family,
    Kind,
    Origin,
    Resource,
    Series,
    Table,
    is_stale,
    make_labels,
)
from trunkline.testing import Recorder, context_for

Values: TypeAlias = dict[str, float | str]

ENDINGS = {
    Kind.HISTOGRAM: ("_bucket", "_sum", "_count"),
    Kind.SUMMARY: ("_sum", "_count"),
}


class Source:
    """A target whose scrapes are maps from series to values; what is missing goes stale, and then goes."""

    def __init__(
        self,
        kinds: Mapping[str, Kind] | None = None,
        resource: Resource | None = None,
        units: Mapping[str, str] | None = None,
        origin: Origin = Origin.PROMETHEUS,
    ) -> None:
        self.table = Table("target")
        self.kinds = kinds or {}
        self.units = units or {}
        self.resource = resource or Resource()
        self.origin = origin
        self._slots: dict[str, int] = {}
        self._stamp = 0
        self._gone: list[str] = []

    def scrape(
        self,
        values: Mapping[str, float],
        stamps: Mapping[str, int] | None = None,
        extras: Sequence[tuple[str, float, int]] = (),
    ) -> Batch:
        self._stamp += 1000
        for text in self._gone:
            self.table.free(self._slots.pop(text))
        for text in values:
            if text not in self._slots:
                self._slots[text] = self.table.assign(self.series(text))
        column = array("d", bytes(8 * len(self.table)))
        present = bytearray(len(self.table))
        self._gone = gone = [text for text in self._slots if text not in values]
        for text, value in {**values, **dict.fromkeys(gone, STALE)}.items():
            column[self._slots[text]] = value
            present[self._slots[text]] = 1
        own = None if stamps is None else array("q", [self._stamp] * len(self.table))
        for text, stamp in (stamps or {}).items():
            assert own is not None
            own[self._slots[text]] = stamp
        more = [Extra(self._slots[text], value, stamp) for text, value, stamp in extras]
        return Batch(self.table, self._stamp, column, self.table.take_changes(), present, own, more)

    def series(self, text: str) -> Series:
        match = re.fullmatch(r"([^{]+)(?:\{(.*)\})?", text)
        assert match is not None
        name = match[1]
        labels = dict(pair.split("=", 1) for pair in match[2].split(",")) if match[2] else {}
        family = next(
            (
                base
                for base, kind in self.kinds.items()
                if name == base or (name.startswith(base) and name[len(base) :] in ENDINGS.get(kind, ()))
            ),
            name,
        )
        kind = self.kinds.get(family, Kind.GAUGE)
        return Series(
            make_labels({**labels, "__name__": name}),
            Family(family, kind, self.units.get(family, ""), origin=self.origin),
            self.resource,
        )


class Watching(Recorder):
    """Remembers, and sees to it that `changed` names every slot whose series is not the one it was."""

    def __init__(self) -> None:
        super().__init__()
        self._known: list[Series | None] = []

    def consume(self, batch: Batch) -> None:
        series = list(batch.table.series)
        assert len(batch.values) == len(series)
        assert batch.present is None or len(batch.present) == len(series)
        self._known.extend([None] * (len(series) - len(self._known)))
        for slot in batch.changed:
            self._known[slot] = series[slot]
        assert self._known == series
        super().consume(batch)


def shown(series: Series) -> str:
    labels = ",".join(f"{name}={value}" for name, value in series.labels if name != "__name__")
    return f"{series.name}{{{labels}}}" if labels else series.name


class Run:
    """A processor made of its YAML, with what came out of it last."""

    def __init__(self, kind: str, settings: str | Mapping[str, Any], source: Source | None = None) -> None:
        self.source = source or Source()
        self.seen = Watching()
        head: Consumer = configured(kind, settings).build(context_for(kind), self.seen)
        self.inlet: Inlet = head.open(self.source.table)

    def give(self, values: Mapping[str, float], **more: Any) -> Values:
        return self.give_batch(self.source.scrape(values, **more))

    def give_batch(self, batch: Batch) -> Values:
        before = batch.values.tobytes(), bytes(batch.present or b"")
        self.inlet.consume(batch)
        assert before == (batch.values.tobytes(), bytes(batch.present or b""))
        samples = self.seen.batches[-1].samples
        found: Values = {shown(one.series): as_shown(one.value) for one in samples}
        assert len(found) == len(samples), "two samples of one series"
        return found

    @property
    def series(self) -> list[Series]:
        return [sample.series for sample in self.seen.batches[-1].samples]


def as_shown(value: float) -> float | str:
    if is_stale(value):
        return "stale"
    return "nan" if math.isnan(value) else value


PIPELINE = """
receivers: {awsecscontainermetrics: }
exporters: {debug: }
service: {pipelines: {metrics: {receivers: [awsecscontainermetrics], processors: [%s], exporters: [debug]}}}
"""


def configured(kind: str, settings: str | Mapping[str, Any]) -> Any:
    """The config of a processor, read as the collector reads it. Raises ConfigError."""
    document = yaml.safe_load(settings) if isinstance(settings, str) else settings
    text = PIPELINE % kind + yaml.safe_dump({"processors": {kind: document}})
    config = read([f"yaml:{text}"], {}, components)
    [declared] = config.processors.values()
    return declared.config


def problems(kind: str, settings: str | Mapping[str, Any]) -> list[str]:
    """What the collector says about these settings, without the place."""
    try:
        configured(kind, settings)
    except ConfigError as error:
        prefix = f"processors::{kind}"
        return [
            f"{one.path.removeprefix(prefix).removeprefix('::')}: {one.message}" for one in error.problems
        ]
    return []
