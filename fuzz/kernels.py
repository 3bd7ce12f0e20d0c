"""The two kernels as the targets see them: whatever `check` is given is held against the twin."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Final, NamedTuple

from trunkline.model import Labels
from trunkline.wire import exposition, label_sets, remote_write, template
from trunkline.wire.numbers import parse_value


class Kernel(NamedTuple):
    """`read_decimal` may return None for what it leaves to somebody exact."""

    parser: type[exposition.ExpositionParser]
    template: type[template.Template]
    label_sets: type[label_sets.LabelSets]
    encode_labels: Callable[[Iterable[tuple[str, str]]], bytes]
    encode_scraped: Callable[[str, Labels, Container[str]], bytes | None]
    merge_labels: Callable[[bytes, bytes], bytes]
    read_decimal: Callable[[bytes], float | None]


def _read_decimal(text: bytes) -> float | None:
    try:
        return parse_value(text)
    except ValueError:
        return None


TWIN: Final = Kernel(
    exposition.ExpositionParser,
    template.Template,
    label_sets.LabelSets,
    remote_write.encode_labels,
    label_sets.encode_scraped,
    label_sets.merge_labels,
    _read_decimal,
)


def compiled() -> Kernel:
    """The compiled kernel. Raises ImportError where it was not built."""
    from trunkline.wire import _kernel  # noqa: PLC0415

    return Kernel(
        _kernel.ExpositionParser,
        _kernel.Template,
        _kernel.LabelSets,
        _kernel.encode_labels,
        _kernel.encode_scraped,
        _kernel.merge_labels,
        _kernel.read_decimal,
    )
