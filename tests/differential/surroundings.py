"""What scrapers need around the targets: certificates, ports that speak TLS, files, and a resolver of names."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import struct
import subprocess
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tests.differential.scenario import CIRCLE, Scenario, filled
from tests.differential.targets import Page, Targets
from tests.net.loopback import Authority
from tests.receivers.dns_server import Server, address, encoded, record, srv

HOSTS: Final = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
"""Where the targets listen; all but the first are known from DNS only."""
NAMES: Final = ("127.0.0.1", "*.target.example")
"""Whom the certificates of the targets are for."""
_NOBODY: Final = "127.0.0.1:1"


def _no_resolver() -> str:
    """Why the scrapers cannot be shown another resolver than the machine's, if they cannot."""
    if os.geteuid() != 0:
        return "port 53 and a resolv.conf of its own need root"
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--mount", "true"], check=False).returncode:
        return "a resolv.conf of its own needs a mount namespace"
    return ""


NO_RESOLVER: Final = _no_resolver()


class Names(Server):
    """A resolver that says nothing but the answer."""

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(self.answer(data, "udp"), addr)


@dataclass
class Surroundings:
    """All that is around the targets. `places` are what scenarios call `<address>`, `<tls>` and so on:

    `address` and `port` of the targets, which are a proxy, too; `tls` and `tls_port`, the same with TLS; `mutual`,
    `stranger`, `tls_11`, `tls_12`, `tls_13`, `changing`: TLS that asks for a certificate, has one that nobody knows,
    speaks one version, gets another certificate; `nobody`, where nobody listens; `folder` with files.
    """

    folder: Path
    places: dict[str, str] = field(default_factory=dict)
    names: Names = field(default_factory=lambda: Names({}))
    changing: ssl.SSLContext | None = None

    def places_of(self, name: str) -> dict[str, str]:
        """All places, with those that a scenario of this name has for itself."""
        path = f"aside/{name}"
        return {**self.places, "path": path, "aside": f"{self.places['address']}/{path}"}

    def around(self, command: list[str]) -> list[str]:
        """`command` with the resolver of ours, where that can be had."""
        if NO_RESOLVER:
            return command
        bound = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", bound, str(self.folder / "resolv.conf"), *command]

    @property
    def environment(self) -> Mapping[str, str]:
        """Proxies for those who ask the environment."""
        return {"PATH": os.environ["PATH"], "HTTP_PROXY": f"http://{self.places['address']}"}

    def change_certificate(self) -> None:
        """Let `changing` show another certificate from now on, and trust it."""
        assert self.changing is not None
        fresh = _authority(self.folder / "fresh")
        self.changing.load_cert_chain(fresh.issue(*NAMES))
        fresh.pem.rename(self.folder / "changing.pem")


def pages_of(scenarios: Mapping[str, Scenario]) -> dict[str, list[Page]]:
    """The pages of all targets, and of the circle that some of them lead into."""
    circle = Page(status=302, headers={"Location": CIRCLE})
    return {**{name: list(one.pages) for name, one in scenarios.items()}, CIRCLE.strip("/"): [circle]}


@asynccontextmanager
async def surrounded(
    targets: Targets, scenarios: Mapping[str, Scenario], folder: Path
) -> AsyncIterator[Surroundings]:
    """The targets listening, with everything around them; fills their places into their pages."""
    found = Surroundings(folder)
    authority, stranger = _authority(folder), _authority(folder / "stranger")
    async with AsyncExitStack() as exits:
        where = await exits.enter_async_context(targets.listening(hosts=HOSTS))
        found.places |= {"address": where, "port": where.rpartition(":")[2], "nobody": _NOBODY}
        for name, context in _contexts(found, authority, stranger).items():
            found.places[name] = await exits.enter_async_context(targets.listening(tls=context))
            found.places[f"{name}_port"] = found.places[name].rpartition(":")[2]
        found.places["folder"] = str(folder)
        targets.tls_port = int(found.places["tls_port"])
        _write_files(found)
        _fill(targets, scenarios, found)
        if not NO_RESOLVER:
            await exits.enter_async_context(_resolving(found))
        yield found


def _authority(folder: Path) -> Authority:
    return Authority(_folder(folder))


def _folder(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _contexts(found: Surroundings, authority: Authority, stranger: Authority) -> dict[str, ssl.SSLContext]:
    authority.issue("me")
    stranger.issue("me")
    (found.folder / "changing.pem").write_bytes(authority.pem.read_bytes())
    found.changing = authority.server_context(*NAMES)
    middle = Authority(_folder(found.folder / "middle"), authority)
    mutual = authority.server_context(*NAMES)
    mutual.load_verify_locations(authority.pem)
    mutual.verify_mode = ssl.CERT_REQUIRED
    contexts = {
        "tls": authority.server_context(*NAMES),
        "mutual": mutual,
        "stranger": stranger.server_context("somebody.example"),
        "changing": found.changing,
        "pinned": authority.server_context("pinned", *NAMES),
        "below": middle.server_context(*NAMES),
        "nameless": authority.server_context("localhost", alternative=False),
    }
    for name, version in (
        ("tls_11", ssl.TLSVersion.TLSv1_1),
        ("tls_12", ssl.TLSVersion.TLSv1_2),
        ("tls_13", ssl.TLSVersion.TLSv1_3),
    ):
        contexts[name] = authority.server_context(*NAMES)
        contexts[name].set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TLS 1.1, which is here to be refused
            contexts[name].minimum_version = contexts[name].maximum_version = version
    return contexts


def _write_files(found: Surroundings) -> None:
    (found.folder / "secret").write_text(" from a file\n")
    (found.folder / "targets.yaml.yml").write_text(
        f"- targets: [{found.places['address']}]\n"
        "  labels: {number: 1, text: '1', real: 1.50, hex: 0x10, yes: yes, date: 2020-01-01, nothing: ~}\n"
    )


def _fill(targets: Targets, scenarios: Mapping[str, Scenario], found: Surroundings) -> None:
    for name, one in scenarios.items():
        places = found.places_of(name)
        targets.pages[name] = [
            replace(page, headers=filled(page.headers, places)) for page in targets.pages[name]
        ]
        if one.aside is not None:
            targets.aside[name] = replace(one.aside, body=filled(one.aside.body, places))


@asynccontextmanager
async def _resolving(found: Surroundings) -> AsyncIterator[None]:
    """A resolver at an address of its own, which no other run has."""
    where = f"127.53.{os.getpid() >> 8 & 0xFF}.{os.getpid() & 0xFF | 1}"
    here = [address(HOSTS[0])]
    found.names.zone = {
        ("names.example.", "A"): here,
        ("a.names.example.", "A"): here,
        ("_metrics._tcp.names.example.", "SRV"): [srv("a.names.example", int(found.places["port"]))],
        ("names.example.", "MX"): [record("MX", struct.pack(">H", 5) + encoded("a.names.example"))],
    }
    (found.folder / "resolv.conf").write_text(f"nameserver {where}\n")
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: found.names, local_addr=(where, 53))
    try:
        yield
    finally:
        transport.close()
