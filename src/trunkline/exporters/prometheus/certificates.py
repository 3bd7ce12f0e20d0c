"""TLS for the page that is exposed, with certificates that may be replaced while it runs."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Final

from trunkline.errors import TrunklineError
from trunkline.net.files import Fingerprint, fingerprint

if TYPE_CHECKING:
    from trunkline.exporters.prometheus.config import ServerTlsConfig

log = logging.getLogger(__name__)

_VERSIONS: Final = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}


def context_of(tls: ServerTlsConfig) -> ssl.SSLContext:
    """The context of a TLS server whose files may be replaced while it runs. Raises TrunklineError."""
    return _ReloadingContext(tls).context


class _ReloadingContext:
    """The context of a TLS server; a handshake after its files have changed gets a new one."""

    def __init__(self, tls: ServerTlsConfig) -> None:
        self._tls = tls
        self._seen = self._look()
        self._current = self.context = self._make()
        self.context.sni_callback = self._replace

    def _look(self) -> tuple[Fingerprint, ...]:
        tls = self._tls
        return tuple(fingerprint(path) for path in (tls.cert_file, tls.key_file, tls.client_ca_file) if path)

    def _replace(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._current = self._make()
            except TrunklineError as error:
                log.warning("%s; the one before is used on", error)
        connection.context = self._current

    def _make(self) -> ssl.SSLContext:
        tls = self._tls
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if tls.min_version:
            context.minimum_version = _VERSIONS[tls.min_version]
        if tls.max_version:
            context.maximum_version = _VERSIONS[tls.max_version]
        try:
            # An empty password, or OpenSSL would ask for one on the terminal.
            context.load_cert_chain(tls.cert_file or "", tls.key_file, password="")
            if tls.client_ca_file:
                context.load_verify_locations(tls.client_ca_file)
                context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:  # an SSLError is one
            why = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            files = ", ".join(path for path in (tls.cert_file, tls.key_file, tls.client_ca_file) if path)
            raise TrunklineError(
                f"cannot use the certificates in {files}: {why}; they must be PEM, the key without a password"
            ) from error
        return context
