"""The simulator's certificates: believed for AWS's names, and by nobody who was not told to."""

from __future__ import annotations

import socket
import ssl
import threading

import pytest

from trunkline.simulator.certificates import Certificates, create_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return create_certificates(tmp_path_factory.mktemp("certificates"))


def shake_hands(certificates: Certificates, name: str, *, trusting: bool = True) -> None:
    """Raises SSLCertVerificationError when the client does not believe it."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificates.server, certificates.server_key)
    client_side = ssl.create_default_context(cafile=str(certificates.ca) if trusting else None)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        try:
            server_side.wrap_socket(theirs, server_side=True).close()
        except OSError:
            theirs.close()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        client_side.wrap_socket(ours, server_hostname=name).close()
    finally:
        ours.close()
        serving.join()


@pytest.mark.parametrize(
    "name",
    [
        "aps-workspaces.eu-west-1.amazonaws.com",
        "aps-workspaces.us-east-1.amazonaws.com",
        "sts.ap-southeast-4.amazonaws.com",
        "sts.amazonaws.com",
        "iam.amazonaws.com",
        "localhost",
        "127.0.0.1",
    ],
)
def test_awss_names_are_believed(certificates: Certificates, name: str) -> None:
    shake_hands(certificates, name)


@pytest.mark.parametrize("name", ["amazonaws.com.example.org", "a.b.eu-west-1.amazonaws.com", "example.org"])
def test_other_names_are_not(certificates: Certificates, name: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(certificates, name)


def test_nobody_else_trusts_them(certificates: Certificates) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"self-signed|unable to get local issuer"):
        shake_hands(certificates, "sts.amazonaws.com", trusting=False)


def test_only_their_owner_reads_them(certificates: Certificates) -> None:
    for path in (certificates.ca, certificates.server, certificates.server_key):
        assert path.stat().st_mode & 0o777 == 0o600
