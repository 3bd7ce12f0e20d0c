"""Whom a TLS client trusts and who it says it is."""

from __future__ import annotations

import os
import ssl
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from os import PathLike

from trunkline.errors import ConnectError
from trunkline.net.files import Fingerprint, fingerprint

VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}
"""Versions by the names Prometheus has for them."""


@dataclass(slots=True)
class _Kept:
    context: ssl.SSLContext | None = None
    seen: tuple[Fingerprint, ...] = ()


@dataclass(frozen=True)
class Tls:
    """TLS settings of a client, and the context made of them when the first https URL is used.

    `ca_file`, or the PEM text `ca`, takes the place of the system's certificate store. `cert` and `key` are PEM texts
    too. `server_name` takes the place of the URL's host, as the name asked for (SNI) and checked. `min_version` and
    `max_version` are names of `VERSIONS`; at least TLS 1.2 is spoken unless `min_version` says otherwise. asyncio
    imports `ssl` in any case; the store is what costs memory.
    """

    ca_file: str | PathLike[str] | None = None
    insecure_skip_verify: bool = False
    server_name: str | None = None
    cert_file: str | PathLike[str] | None = None
    key_file: str | PathLike[str] | None = None
    ca: str = ""
    cert: str = ""
    key: str = field(default="", repr=False)
    min_version: str = ""
    max_version: str = ""
    _kept: _Kept = field(default_factory=_Kept, init=False, repr=False, compare=False)

    def check(self) -> Iterator[tuple[str, str]]:
        """What contradicts itself, as key and message (Prometheus' `tls_config`)."""
        for one in ("ca", "cert", "key"):
            if getattr(self, one) and getattr(self, f"{one}_file"):
                yield one, f"at most one of {one} and {one}_file must be configured"
        if self._names_cert and not self._names_key:
            yield "cert_file", "exactly one of key or key_file must be configured with a client certificate"
        if self._names_key and not self._names_cert:
            yield "key_file", "exactly one of cert or cert_file must be configured with a client key"
        for one in ("min_version", "max_version"):
            if (version := getattr(self, one)) and version not in VERSIONS:
                yield one, f"unknown TLS version {version!r}; write one of {', '.join(VERSIONS)}"
        if self.min_version and self.max_version and self.max_version < self.min_version:
            yield "max_version", "must be greater than or equal to min_version"

    @property
    def _names_cert(self) -> bool:
        return bool(self.cert or self.cert_file)

    @property
    def _names_key(self) -> bool:
        return bool(self.key or self.key_file)

    @property
    def context(self) -> ssl.SSLContext:
        """The context for a new connection, made anew when one of the files has changed.

        Raises ConnectError when a file cannot be used.
        """
        files = (self.ca_file, self.cert_file, self.key_file)
        seen = tuple(fingerprint(path) for path in files if path)
        if self._kept.context is None or seen != self._kept.seen:
            self._kept.context, self._kept.seen = self._make(), seen
        return self._kept.context

    def _make(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["http/1.1"])
        # As in Go: a common name is no host's name, and whoever is in the CA file is trusted, be it a root or not.
        context.hostname_checks_common_name = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        self._bound_versions(context)
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            self._load_trust(context)
        if self._names_cert:
            self._load_identity(context)
        return context

    def _bound_versions(self, context: ssl.SSLContext) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TLS 1.0 and 1.1, which somebody asked for
            if self.min_version:
                context.minimum_version = VERSIONS[self.min_version]
            if self.max_version:
                context.maximum_version = VERSIONS[self.max_version]
        if self.min_version in {"TLS10", "TLS11"}:
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # OpenSSL 3 has these versions at no other level

    def _load_trust(self, context: ssl.SSLContext) -> None:
        if not self.ca_file and not self.ca:
            context.load_default_certs()
            return
        name = f"the CA file {self.ca_file}" if self.ca_file else "the text of ca"
        # Between the certificates may be comments in any language, but Python wants ASCII.
        text = self.ca.encode("ascii", "replace").decode("ascii")
        try:
            context.load_verify_locations(self.ca_file or None, cadata=text or None)
        except OSError as error:  # an SSLError is one
            why = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConnectError(f"cannot read {name}: {why}; it must hold certificates in PEM") from None

    def _load_identity(self, context: ssl.SSLContext) -> None:
        names = [str(self.cert_file or "the text of cert")]
        if self._names_key:
            names.append(str(self.key_file or "the text of key"))
        try:
            with ExitStack() as stack:
                cert = self.cert_file or _as_file(self.cert, stack)
                key = self.key_file or (_as_file(self.key, stack) if self.key else None)
                # An empty password, or OpenSSL would ask for one on the terminal.
                context.load_cert_chain(cert, key, password="")
        except OSError as error:
            why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            raise ConnectError(
                f"cannot use the client certificate in {' and '.join(names)}: {why}; "
                "both must be PEM, the key without a password"
            ) from None


def _as_file(text: str, stack: ExitStack) -> str:
    """A path under which OpenSSL finds `text`, which never reaches a disk."""
    if sys.platform != "linux":
        raise ConnectError("certificates as text need Linux; name cert_file and key_file instead")
    handle = os.memfd_create("trunkline")
    stack.callback(os.close, handle)
    os.write(handle, text.encode())
    return f"/proc/self/fd/{handle}"
