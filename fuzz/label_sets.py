"""The table of label sets: whatever is put in and taken out, both kernels know the same.

An input is one act per line: `+3 a=b,c=` gives slot 3 two labels, `-3` takes them away; `+3*40 a=@` is meant for 40 slots
from 3 on, with `@` replaced by 0 to 39.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from typing import Any, Final

from fuzz.kernels import TWIN, Kernel
from trunkline.wire.label_sets import LabelSets
from trunkline.wire.remote_write import encode_labels

_ACT: Final = re.compile(rb"([+-])([0-9]{1,5})(?:\*([0-9]{1,3}))?(?: (.*))?", re.DOTALL)
_MAX_ACTS: Final = 2000
_TEXTS: Final = rb"|a=1|a=@|a=1,b=@|a=@,b=1|b=@,a=1,c=@|job=,a=@|path=/usr/share/@/usr/share/@".split(b"|")


def check(data: bytes, kernel: Kernel) -> None:
    fast, twin = kernel.label_sets(), TWIN.label_sets()
    slots, sets = {0}, {b""}
    for _, (put, slot, labels) in zip(range(_MAX_ACTS), _acts(data), strict=False):
        slots.add(slot)
        sets.add(labels)
        assert _outcome(fast, put, slot, labels) == _outcome(twin, put, slot, labels)
        assert fast.get(slot) == twin.get(slot)
    assert len(fast) == len(twin)
    assert [fast.get(slot) for slot in slots] == [twin.get(slot) for slot in slots]
    assert [fast.find(labels) for labels in sets] == [twin.find(labels) for labels in sets]


def _acts(data: bytes) -> Iterator[tuple[bool, int, bytes]]:
    for line in data.split(b"\n"):
        if match := _ACT.fullmatch(line):
            for index in range(int(match[3] or 1)):
                text = (match[4] or b"").replace(b"@", b"%d" % index)
                yield match[1] == b"+", int(match[2]) + index, _labels(text.decode("utf-8", "replace"))


def _labels(text: str) -> bytes:
    pairs = (one.partition("=") for one in text.split(",") if one)
    return encode_labels([(name, value) for name, _, value in pairs])


def _outcome(table: LabelSets, put: bool, slot: int, labels: bytes) -> Any:
    try:
        return table.put(slot, labels) if put else table.drop(slot)
    except (KeyError, ValueError) as error:
        return type(error)


def mutate(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    place = random.randrange(len(lines) + 1)
    slot, times = random.choice((0, 1, 2, 7, 40, 99)), random.choice((b"", b"", b"*3", b"*40", b"*120"))
    match random.randrange(4):
        case 0:
            lines.insert(place, lines[place - 1])
        case 1:
            lines.insert(place, b"-%d%b" % (slot, times))
        case 2 if len(lines) > 1:
            lines.pop(place - 1)
        case _:
            lines.insert(place, b"+%d%b %b" % (slot, times, random.choice(_TEXTS)))
    return b"\n".join(lines)
