"""Labels of any text: both kernels encode, sort and merge them the same, and they can be read again.

An input is a label per line, `name=value`; those after an empty line are merged into those before it. Bytes that are
not UTF-8 become the lone surrogates that no UTF-8 has, or a question mark where a text has been read before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from fuzz.kernels import TWIN, Kernel
from trunkline.errors import WireError
from trunkline.model import Labels
from trunkline.wire.remote_write import decode_labels, encode_labels, split_labels

_RESERVED: Final = frozenset({"job", "instance"})


def check(data: bytes, kernel: Kernel) -> None:
    _check_encoding(_labels(data.decode("utf-8", "surrogateescape")), kernel)
    text, _, others = data.decode("utf-8", "replace").partition("\n\n")
    scraped = tuple((name, value) for name, value in dict(_labels(text)).items() if name != "__name__")
    for name in ("foo", ""):
        assert kernel.encode_scraped(name, scraped, _RESERVED) == TWIN.encode_scraped(
            name, scraped, _RESERVED
        )
    one, other = _set(_labels(text)), _set(_labels(others))
    assert kernel.merge_labels(one, other) == TWIN.merge_labels(one, other)
    for broken in ((data, other), (one, data), (one, other[:-1])):
        _outcome(kernel.merge_labels, *broken)  # neither is a sorted set: all that is asked for is an end


def _labels(text: str) -> Labels:
    return tuple((name, value) for name, _, value in (line.partition("=") for line in text.split("\n")))


def _set(labels: Sequence[tuple[str, str]]) -> bytes:
    return encode_labels(sorted(dict(labels).items()))


def _check_encoding(labels: Labels, kernel: Kernel) -> None:
    encoded = _outcome(kernel.encode_labels, labels)
    assert encoded == _outcome(TWIN.encode_labels, labels)
    if isinstance(encoded, bytes):
        assert len(split_labels(encoded)) == len(labels)
        assert decode_labels(encoded) == labels


def _outcome(act: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return act(*arguments)
    except (UnicodeEncodeError, WireError) as error:
        return str(error)
