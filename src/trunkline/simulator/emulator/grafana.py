"""As much of Amazon Managed Grafana's API as a deployment needs; nothing is served at the workspaces' endpoints.

Source: Amazon Managed Grafana API reference. The workspaces are those that CloudFormation made; permissions, service
accounts and their tokens are kept beside them.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final
from urllib.parse import unquote

from trunkline.simulator.emulator.types import Kept

Answer = tuple[int, dict[str, str], bytes]

_SCOPE: Final = re.compile(r"Credential=[^/]+/[^/]+/[^/]+/grafana/")
_PATH: Final = re.compile(
    r"/workspaces(?:/(?P<id>g-[0-9a-f]+)(?:/(?P<kind>permissions|serviceaccounts)"
    r"(?:/(?P<account>[^/]+)(?P<tokens>/tokens)?)?)?)?"
)


@dataclass(slots=True)
class _Beside:
    """What a workspace has that CloudFormation does not know of."""

    permissions: dict[tuple[str, str], str] = field(default_factory=dict)
    """Role by kind and id of user."""
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)


class Grafanas:
    """Answers requests of the service `grafana`; `kept` has the workspaces."""

    def __init__(self, kept: Kept, responses: ModuleType) -> None:
        self._kept = kept
        self._responses = responses
        self._beside: dict[tuple[str, str, str], _Beside] = {}

    def join(self, app: ModuleType) -> None:
        """Have ministack's requests that are signed for Grafana answered here."""
        detect: Callable[..., str] = app.detect_service

        def detecting(method: str, path: str, headers: Mapping[str, str], query: Any) -> str:
            return (
                "grafana"
                if _SCOPE.search(headers.get("authorization", ""))
                else detect(method, path, headers, query)
            )

        app.detect_service = detecting  # type: ignore[attr-defined]
        app.SERVICE_HANDLERS["grafana"] = self.handle

    async def handle(
        self, method: str, path: str, _headers: Mapping[str, str], body: bytes, _query: Any
    ) -> Answer:
        found = _PATH.fullmatch(unquote(path))
        asked = json.loads(body) if body else {}
        status, document = self._answer(method, found, asked) if found else _missing(path)
        headers = {"Content-Type": "application/json"}
        if status == 404:
            headers["x-amzn-errortype"] = "ResourceNotFoundException"
        return status, headers, json.dumps(document).encode()

    def _answer(self, method: str, path: re.Match[str], asked: Mapping[str, Any]) -> tuple[int, Any]:
        if path["id"] is None:
            return 200, {"workspaces": [self._described(*each) for each in self._mine()]}
        key = (self._responses.get_account_id(), self._responses.get_region(), path["id"])
        if key not in self._kept.known:
            return _missing(path["id"])
        beside = self._beside.setdefault(key, _Beside())
        if path["kind"] is None:
            return 200, {"workspace": self._described(path["id"], self._kept.known[key])}
        answers = {"permissions": self._permissions, "serviceaccounts": self._accounts}
        return answers[path["kind"]](method, path, beside, asked)

    def _mine(self) -> list[tuple[str, dict[str, Any]]]:
        place = (self._responses.get_account_id(), self._responses.get_region())
        return [(key[2], props) for key, props in self._kept.known.items() if key[:2] == place]

    def _described(self, id_: str, props: Mapping[str, Any]) -> dict[str, Any]:
        endpoint = f"{id_}.grafana-workspace.{self._responses.get_region()}.amazonaws.com"
        about = {"name": props.get("Name", ""), "grafanaVersion": str(props.get("GrafanaVersion", "10.4"))}
        moments = {"created": 0, "modified": 0}
        providers = {"authentication": {"providers": props.get("AuthenticationProviders", [])}}
        return {"id": id_, "endpoint": endpoint, "status": "ACTIVE", **about, **moments, **providers}

    def _permissions(
        self, method: str, _: re.Match[str], beside: _Beside, asked: Mapping[str, Any]
    ) -> tuple[int, Any]:
        if method == "GET":
            found = [
                {"role": role, "user": {"type": kind, "id": id_}}
                for (kind, id_), role in beside.permissions.items()
            ]
            return 200, {"permissions": found}
        for each in asked["updateInstructionBatch"]:
            for user in each["users"]:
                if each["action"] == "ADD":
                    beside.permissions[user["type"], user["id"]] = each["role"]
                else:
                    beside.permissions.pop((user["type"], user["id"]), None)
        return 200, {"errors": []}

    def _accounts(
        self, method: str, path: re.Match[str], beside: _Beside, asked: Mapping[str, Any]
    ) -> tuple[int, Any]:
        own = {"workspaceId": path["id"]}
        if path["account"] is None:
            if method == "GET":
                return 200, {**own, "serviceAccounts": list(beside.accounts.values())}
            if any(each["name"] == asked["name"] for each in beside.accounts.values()):
                return 409, {
                    "message": "service account already exists",
                    "resourceId": "",
                    "resourceType": "",
                }
            made = {**asked, "id": str(len(beside.accounts) + 2), "isDisabled": "false"}
            beside.accounts[made["id"]] = made
            return 200, {**own, **made}
        if path["account"] not in beside.accounts:
            return _missing(path["account"])
        if path["tokens"]:
            token = {"id": "1", "name": asked["name"], "key": f"glsa_{uuid.uuid4().hex}"}
            return 200, {**own, "serviceAccountId": path["account"], "serviceAccountToken": token}
        del beside.accounts[path["account"]]
        return 200, {**own, "serviceAccountId": path["account"]}


def _missing(name: str) -> tuple[int, Any]:
    return 404, {"message": f"{name} not found", "resourceId": name, "resourceType": "workspace"}
