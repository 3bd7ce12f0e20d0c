"""Taking a fragment apart, to find the one series that a receiver refuses. Rare, so it need not be quick."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trunkline.component.contract import Fragment
from trunkline.wire import snappy, varint
from trunkline.wire.remote_write import decode_write_request


def halves(fragment: Fragment) -> Sequence[Fragment]:
    """Two fragments with the series of one, in order; nothing when it holds only one."""
    raw = _raw(fragment)
    messages = list(_messages(raw))
    if len(messages) < 2:
        return ()
    middle = messages[len(messages) // 2]
    return _compressed(raw[:middle], fragment), _compressed(raw[middle:], fragment)


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


def _compressed(raw: bytes, origin: Fragment) -> Fragment:
    block = snappy.compress(raw)
    _, start = varint.decode(block, 0)
    stamps = [sample.timestamp_ms for one in decode_write_request(raw).series for sample in one.samples]
    oldest_ms, newest_ms = (min(stamps), max(stamps)) if stamps else (origin.oldest_ms, origin.newest_ms)
    return Fragment(origin.lane, block[start:], len(raw), len(stamps), oldest_ms, newest_ms)
