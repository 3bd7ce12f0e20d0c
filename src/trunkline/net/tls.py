"""Whom a TLS client trusts and who it says it is."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cached_property
from os import PathLike

from trunkline.errors import ConnectError


@dataclass(frozen=True)
class Tls:
    """TLS settings of a client, and the context made of them when the first https URL is used.

    `ca_file` takes the place of the system's certificate store. `server_name` takes the place of the URL's host,
    as the name asked for (SNI) and checked. asyncio imports `ssl` in any case; the store is what costs memory.
    """

    ca_file: str | PathLike[str] | None = None
    insecure_skip_verify: bool = False
    server_name: str | None = None
    cert_file: str | PathLike[str] | None = None
    key_file: str | PathLike[str] | None = None

    @cached_property
    def context(self) -> ssl.SSLContext:
        """The context; raises ConnectError when a file cannot be used."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.set_alpn_protocols(["http/1.1"])
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            self._load_trust(context)
        if self.cert_file is not None:
            self._load_identity(context)
        return context

    def _load_trust(self, context: ssl.SSLContext) -> None:
        if self.ca_file is None:
            context.load_default_certs()
            return
        try:
            context.load_verify_locations(self.ca_file)
        except OSError as error:  # an SSLError is one
            why = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConnectError(
                f"cannot read the CA file {self.ca_file}: {why}; it must hold certificates in PEM"
            ) from None

    def _load_identity(self, context: ssl.SSLContext) -> None:
        assert self.cert_file is not None
        try:
            context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as error:
            why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            files = f"{self.cert_file} and {self.key_file}" if self.key_file else f"{self.cert_file}"
            raise ConnectError(f"cannot use the client certificate in {files}: {why}") from None
