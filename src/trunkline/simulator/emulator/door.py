"""The front door as the emulator reaches it."""

from __future__ import annotations

import http.client
import json
import logging
import socket
from collections.abc import Mapping
from typing import Any, Final

from trunkline.simulator.frontdoor import events

_log = logging.getLogger(__name__)

TIMEOUT_S: Final = 30.0


class InternalDoor:
    """Blocking calls over the internal socket.

    Blocking is right here: CloudFormation has to know that a role's change has been noticed before it goes on,
    and the front door answers these calls without asking the emulator anything.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def call(
        self, method: str, path: str, document: Mapping[str, Any] | None, headers: Mapping[str, str]
    ) -> Any:
        """The JSON answer to a request; raises ValueError with the front door's text for a refusal."""
        connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT_S)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(TIMEOUT_S)
        connection.sock.connect(self._path)
        try:
            body = None if document is None else json.dumps(document)
            connection.request(method, path, body, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise ValueError(f"{response.status}: {text.decode(errors='replace')}")
        return json.loads(text) if text else {}

    def tell(self, event: Mapping[str, str]) -> None:
        """Hand an event over; a front door that is not there misses it."""
        try:
            self.call("POST", events.EVENTS_PATH, event, {})
        except OSError as error:
            _log.warning("the front door was not told of %s: %s", event, error)
