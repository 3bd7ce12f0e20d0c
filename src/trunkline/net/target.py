"""The parts of a URL that a connection and a request line need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, urlsplit

from trunkline.errors import ConnectError

LOCAL = "127.0.0.1"
_PORTS = {"http": 80, "https": 443}
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL points: `host` without brackets, `authority` as in a `Host` header, `path` with its query."""

    scheme: str
    host: str
    port: int
    authority: str
    path: str

    @property
    def key(self) -> tuple[str, str, int]:
        """Equal for targets that can share a connection."""
        return self.scheme, "" if self.nameless else self.host, self.port

    @property
    def nameless(self) -> bool:
        """Whether the URL has no host, only a port: the local host is meant, and no certificate is for it."""
        return self.authority.startswith(":")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


@lru_cache(maxsize=1024)
def parse_target(url: str) -> Target:
    """`url` taken apart; its path and query stay as they are, but for characters no request line can hold.

    With nothing but a port the local host is meant, as where Go dials.
    Raises ConnectError for anything but an absolute http or https URL without user name and password.
    """
    try:
        parts = urlsplit(url)
        name, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConnectError(f"cannot use the URL {url!r}: {error}") from None
    host = LOCAL if not name and port is not None else name
    if "@" in parts.netloc:
        raise ConnectError(f"cannot use the URL of {host}: put user name and password under basic_auth")
    if parts.scheme not in _PORTS or not host or not host.isprintable() or " " in host:
        raise ConnectError(f"cannot use the URL {url!r}: it must start with http:// or https:// and a host")
    name = f"[{name}]" if ":" in name else name
    default = _PORTS[parts.scheme]
    authority = name if name and port in {None, default} else f"{name}:{port}"
    path = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_PRINTABLE)
    return Target(parts.scheme, host, default if port is None else port, authority, path)
