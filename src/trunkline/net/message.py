"""What goes over the wire: one request, one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request; `url` is absolute and already percent-encoded, its target is sent as given.

    `Host`, `Content-Length` and, unless given, `User-Agent` are added when it is sent.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer with its whole body.

    `headers` have lower-case names; the values of a repeated header are joined with `, `. A body that came with
    `Content-Encoding: gzip` is decoded here, while the headers stay as they were received.
    """

    status: int
    reason: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def status_line(self) -> str:
        """The status as people write it: `404 Not Found`."""
        return f"{self.status} {self.reason}".rstrip()


def parse_http_date(text: str) -> float | None:
    """Seconds since the epoch of an HTTP date (RFC 9110, 5.6.7, the preferred form), None if it is not one."""
    parts = text.split()
    if len(parts) != 6 or parts[5] != "GMT" or parts[2] not in _MONTHS:
        return None
    try:
        hour, minute, second = (int(part) for part in parts[4].split(":"))
        day, month, year = int(parts[1]), _MONTHS.index(parts[2]) + 1, int(parts[3])
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC).timestamp()
    except ValueError:
        return None
