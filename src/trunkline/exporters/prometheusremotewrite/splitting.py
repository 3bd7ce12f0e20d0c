"""Taking a fragment apart, to find the one series that a receiver refuses. Rare, so it need not be quick."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import Final

from trunkline.component.contract import Fragment
from trunkline.wire import snappy, varint
from trunkline.wire.remote_write import decode_write_request

_TIMESERIES: Final = 0x0A
_LABEL: Final = 0x0A
"""Field 1 of a WriteRequest, and of a TimeSeries, in its bytes."""


def halves(fragment: Fragment) -> Sequence[Fragment]:
    """Two fragments with the series of one, in order; nothing when it holds only one."""
    raw = _raw(fragment)
    messages = list(_messages(raw))
    if len(messages) < 2:
        return ()
    middle = messages[len(messages) // 2]
    return _compressed(raw[:middle], fragment), _compressed(raw[middle:], fragment)


def singles(fragment: Fragment) -> Sequence[tuple[bytes, Fragment]]:
    """Every series by itself, named by its labels as they are on the wire; metadata is left out."""
    raw = _raw(fragment)
    return [(key, _compressed(message, fragment)) for key, message in _series(raw)]


def apart(fragment: Fragment, keys: Collection[bytes]) -> tuple[Sequence[Fragment], Sequence[Fragment]]:
    """The series with one of these names, each by itself, and all others in one fragment, if there are any."""
    raw = _raw(fragment)
    found = {message: _compressed(message, fragment) for key, message in _series(raw) if key in keys}
    if not found:
        return (), (fragment,)
    others = b"".join(message for message in _pieces(raw) if message not in found)
    return list(found.values()), [_compressed(others, fragment)] if others else []


def described(fragment: Fragment) -> str:
    """The first series of `fragment`, and how many more there are."""
    series = decode_write_request(_raw(fragment)).series
    if not series:
        return "metadata"
    labels = dict(series[0].labels)
    name = labels.pop("__name__", "")
    text = name + "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"
    return text if len(series) == 1 else f"{text} and {len(series) - 1} more"


def _raw(fragment: Fragment) -> bytes:
    return snappy.decompress(varint.encode(fragment.raw_bytes) + fragment.data, fragment.raw_bytes)


def _messages(raw: bytes) -> Iterator[int]:
    """Where each `timeseries` or `metadata` field begins."""
    position = 0
    while position < len(raw):
        yield position
        length, start = varint.decode(raw, position + 1)
        position = start + length


def _pieces(raw: bytes) -> Iterator[bytes]:
    """The messages themselves."""
    starts = [*_messages(raw), len(raw)]
    return (raw[start:end] for start, end in pairwise(starts))


def _series(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The labels of each series, and its message."""
    for message in _pieces(raw):
        if message[0] == _TIMESERIES:
            yield _labels(message), message


def _labels(message: bytes) -> bytes:
    """What stands before the samples: `labels` fields come first in every series that we write."""
    _, position = varint.decode(message, 1)
    start = position
    while position < len(message) and message[position] == _LABEL:
        length, position = varint.decode(message, position + 1)
        position += length
    return message[start:position]


def _compressed(raw: bytes, origin: Fragment) -> Fragment:
    block = snappy.compress(raw)
    _, start = varint.decode(block, 0)
    return Fragment(origin.lane, block[start:], len(raw), *_span(raw, origin))


def _span(raw: bytes, origin: Fragment) -> tuple[int, int, int]:
    """How many samples there are, the time of the first, and of the last."""
    if origin.oldest_ms == origin.newest_ms:  # as usual: one sample of each series, all of one time
        series = sum(1 for start in _messages(raw) if raw[start] == _TIMESERIES)
        return series, origin.oldest_ms, origin.newest_ms
    stamps = [sample.timestamp_ms for one in decode_write_request(raw).series for sample in one.samples]
    return (len(stamps), min(stamps), max(stamps)) if stamps else (0, origin.oldest_ms, origin.newest_ms)
