"""Label sets as bytes: what the parts of a series' labels become, and where they are kept.

All are the Label fields of remote write (`remote_write.encode_labels`), sorted by name. The bytes of UTF-8 sort as
its code points do, and so as Python sorts texts.
"""

from __future__ import annotations

from collections.abc import Container

from trunkline.model import Labels
from trunkline.wire.remote_write import decode_labels, encode_labels


def encode_scraped(name: str, labels: Labels, reserved: Container[str]) -> bytes | None:
    """The labels of a scraped series and its name; None if one is empty or has a reserved name.

    `labels` are in any order, each name once and none of them `__name__`.
    """
    if not all(value and label not in reserved for label, value in labels):
        return None
    return encode_labels(sorted((*labels, ("__name__", name))))


def merge_labels(others: bytes, own: bytes) -> bytes:
    """Both sets as one: a label of `own` replaces that of the same name, an empty one takes it away.

    Raises WireError if one is not a list of labels.
    """
    mine = dict(decode_labels(own))
    kept = [(name, value) for name, value in decode_labels(others) if name not in mine]
    return encode_labels(sorted(kept + [(name, value) for name, value in mine.items() if value]))


class LabelSets:
    """Label sets and their slots, each known by the other."""

    def __init__(self) -> None:
        self._slots: dict[bytes, int] = {}
        self._labels: dict[int, bytes] = {}

    def __len__(self) -> int:
        """How many slots have labels."""
        return len(self._labels)

    def find(self, labels: bytes) -> int:
        """The slot of these labels, or -1."""
        return self._slots.get(labels, -1)

    def get(self, slot: int) -> bytes | None:
        """The labels of a slot, if it has any."""
        return self._labels.get(slot)

    def put(self, slot: int, labels: bytes) -> None:
        """Give a slot its labels. Raises ValueError if it has some, or they another slot."""
        if slot in self._labels or labels in self._slots:
            raise ValueError(f"slot {slot} or its labels are taken")
        self._slots[labels] = slot
        self._labels[slot] = labels

    def drop(self, slot: int) -> None:
        """Take the labels of a slot away. Raises KeyError if it has none."""
        del self._slots[self._labels.pop(slot)]
