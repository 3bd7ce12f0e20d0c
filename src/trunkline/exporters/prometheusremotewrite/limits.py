"""How many labels a receiver takes, and how long: checked once in the life of a series, before any of it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from trunkline.wire import varint

AMP_LABELS: Final = 150
AMP_LABEL_BYTES: Final = 7 * 1024
"""Quotas of Amazon Managed Prometheus (aws.md B.2): the higher where its pages differ, as it says no by itself."""

_SHORTEST_LABEL: Final = 8
"""Bytes that a label takes on the wire at least."""


class TooManyLabelsError(ValueError):
    """A series that its receiver would refuse."""


@dataclass(frozen=True, slots=True)
class LabelLimits:
    """None stands for no limit."""

    max_labels: int | None = None
    max_bytes: int | None = None

    def check(self, encoded: bytes) -> None:
        """Raises TooManyLabelsError for labels, as they are on the wire, that are too many or too long."""
        if self.max_bytes is not None and len(encoded) > self.max_bytes:
            size = sum(_text_bytes(encoded))
            if size > self.max_bytes:
                raise TooManyLabelsError(f"its labels have {size} bytes, and {self.max_bytes} are allowed")
        if self.max_labels is not None and len(encoded) > _SHORTEST_LABEL * self.max_labels:
            count = sum(1 for _ in _text_bytes(encoded))
            if count > self.max_labels:
                raise TooManyLabelsError(f"it has {count} labels, and {self.max_labels} are allowed")


def _text_bytes(encoded: bytes) -> Iterator[int]:
    """The bytes of name and value of each label."""
    position = 0
    while position < len(encoded):
        length, start = varint.decode(encoded, position + 1)
        position = start + length
        name, value = varint.decode(encoded, start + 1)
        size, _ = varint.decode(encoded, value + name + 1)
        yield name + size
