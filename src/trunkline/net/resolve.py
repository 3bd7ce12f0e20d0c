"""Leading a host and port to another address, as curl's `--connect-to` does.

The URL, the `Host` header, the signature and the name checked in a certificate stay those of the real host; only
the connection goes elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trunkline.errors import UsageError

_ANY = "*"
_FORM = "host:port=address:port"


def _split(text: str, rule: str) -> tuple[str, str]:
    """Host and port of `host:port`, the brackets of an IPv6 address taken off."""
    host, colon, port = text.strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or not port:
        raise UsageError(f"--resolve {rule!r}: {text.strip()!r} is not host:port (write {_FORM})")
    if ":" in host and not bracketed:
        raise UsageError(f"--resolve {rule!r}: write the IPv6 address {host!r} in brackets, [{host}]:{port}")
    if port != _ANY and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(f"--resolve {rule!r}: {port!r} is not a port (1 to 65535, or *)")
    return host.lower(), port


@dataclass(frozen=True, slots=True)
class Resolve:
    """Rules by (host, port), either of which may be `*`; the exact host wins over the exact port."""

    rules: Mapping[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Resolve:
        """Rules from a comma-separated list of `host:port=address:port`; empty text has none.

        The host may be `*` for every host, the port `*` for every port; an address' port `*` keeps the port. IPv6
        addresses stand in brackets. Raises UsageError, naming the rule.
        """
        rules: dict[tuple[str, str], tuple[str, str]] = {}
        for rule in filter(None, (part.strip() for part in text.split(","))):
            source, equals, target = rule.partition("=")
            if not equals:
                raise UsageError(f"--resolve {rule!r}: there is no '=' in it (write {_FORM})")
            key, address = _split(source, rule), _split(target, rule)
            if address[0] == _ANY:
                raise UsageError(f"--resolve {rule!r}: the address must be one host, not * (write {_FORM})")
            if rules.setdefault(key, address) != address:
                raise UsageError(f"--resolve {rule!r}: {source.strip()} is led elsewhere by an earlier rule")
        return cls(rules)

    def lookup(self, host: str, port: int) -> tuple[str, int]:
        """Where to connect for `host` and `port`: themselves, unless a rule leads elsewhere."""
        if not self.rules:
            return host, port
        name, number = host.lower(), str(port)
        for key in ((name, number), (name, _ANY), (_ANY, number), (_ANY, _ANY)):
            if key in self.rules:
                address, wanted = self.rules[key]
                return address, port if wanted == _ANY else int(wanted)
        return host, port
