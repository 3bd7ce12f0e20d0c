"""Puts dashboards into a Grafana that is there already, through its HTTP API.

Source: Grafana's documentation of the folder API (`/api/folders`) and the dashboard API (`/api/dashboards`), which
every version from 9 on has, Amazon Managed Grafana included.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from trunkline.errors import GrafanaError, UsageError

FOLDER_UID: Final = "trunkline"
FOLDER_TITLE: Final = "Trunkline"
TIMEOUT_S: Final = 30.0
_SHOWN_CHARACTERS: Final = 300
_OWN: Final = ("id", "version")
"""Numbers that Grafana gives to what it stores."""

_REMEDIES: Final = {
    401: "the token is wrong or has expired: make a new one for a service account",
    403: "the token's service account may not do this: give it the role Editor, or folders:create and dashboards:write",
    404: "is this Grafana's own address, with the path it is served under?",
    409: "somebody has another dashboard or folder of that name: rename it, or delete it",
    412: "somebody has another dashboard or folder of that name: rename it, or delete it",
}


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of one dashboard: `created`, `updated` or `unchanged`, and where to see it."""

    title: str
    outcome: str
    url: str


@dataclass(frozen=True, slots=True)
class Grafana:
    """A Grafana at `url`, reached with the token of a service account."""

    url: str
    token: str = field(repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"--url {self.url}: write Grafana's address as https://host, with a path if it has one"
            )

    def push(self, dashboards: Sequence[Mapping[str, Any]]) -> Iterator[Pushed]:
        """Put each dashboard into the folder, which is made if it is missing; what is the same already stays.

        Raises GrafanaError.
        """
        self._have_folder()
        for dashboard in dashboards:
            yield self._put(dashboard)

    def have_data_source(self, wanted: Mapping[str, Any]) -> str:
        """Make the data source of this `uid`, or bring it to what is wanted; `created`, `updated` or `unchanged`.

        Raises GrafanaError.
        """
        found = self._ask("GET", f"/api/datasources/uid/{quote(wanted['uid'], safe='')}")
        if found is None:
            self._ask("POST", "/api/datasources", wanted)
            return "created"
        if all(found.get(name) == value for name, value in wanted.items()):
            return "unchanged"
        self._ask("PUT", f"/api/datasources/uid/{quote(wanted['uid'], safe='')}", wanted)
        return "updated"

    def _have_folder(self) -> None:
        found = self._ask("GET", f"/api/folders/{FOLDER_UID}")
        if found is None:
            found = self._ask("POST", "/api/folders", {"uid": FOLDER_UID, "title": FOLDER_TITLE})
        if not found or found.get("uid") != FOLDER_UID:
            raise self._not_grafana(self.url)

    def _put(self, dashboard: Mapping[str, Any]) -> Pushed:
        stored = self._ask("GET", f"/api/dashboards/uid/{quote(dashboard['uid'], safe='')}")
        if stored and _is(stored, dashboard):
            return Pushed(dashboard["title"], "unchanged", self._place(stored["meta"].get("url", "")))
        body = {
            "dashboard": {**dashboard, "id": None},
            "folderUid": FOLDER_UID,
            "overwrite": True,
            "message": "trunkline dashboards push",
        }
        answer = self._ask("POST", "/api/dashboards/db", body) or {}
        return Pushed(
            dashboard["title"], "updated" if stored else "created", self._place(answer.get("url", ""))
        )

    def _place(self, path: str) -> str:
        """The path Grafana names is from the root of its host."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{path}"

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """The answer; None when a GET finds nothing."""
        request = Request(  # noqa: S310 (its scheme was checked)
            self.url.rstrip("/") + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.token}",
                "Accept": "application/json",
                "Content-Type": "application/json",
            },
        )
        try:
            with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
                return self._read(answer, request)
        except HTTPError as error:
            with error:
                if error.code == 404 and method == "GET":
                    return None
                raise self._refused(request, error) from None
        except (URLError, OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise GrafanaError(f"{self.url} cannot be reached: {reason}; is it the right address?") from None

    def _read(self, answer: HTTPResponse, request: Request) -> dict[str, Any]:
        try:
            found = json.loads(answer.read())
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._not_grafana(request.full_url)
        return found

    def _not_grafana(self, url: str) -> GrafanaError:
        return GrafanaError(f"{url} did not answer as Grafana does; is it the right address?")

    def _refused(self, request: Request, error: HTTPError) -> GrafanaError:
        if error.code in (301, 302, 303, 307, 308):
            # Not followed: the token would go wherever the answer points.
            return GrafanaError(
                f"{request.full_url} moved to {error.headers.get('Location')}: give that as --url"
            )
        said = _words(error.read()).replace(self.token, "…")
        remedy = _REMEDIES.get(error.code)
        text = f"{request.get_method()} {request.full_url} was answered {error.code} {said}".strip()
        return GrafanaError(f"{text}; {remedy}" if remedy else text)


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER: Final = build_opener(_NoRedirects)


def _is(stored: Mapping[str, Any], rendered: Mapping[str, Any]) -> bool:
    """Whether what is stored is the rendered dashboard in our folder, but for Grafana's own numbers."""
    content = stored.get("dashboard", {})
    return stored.get("meta", {}).get("folderUid") == FOLDER_UID and _bare(content) == _bare(rendered)


def _bare(dashboard: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in dashboard.items() if name not in _OWN}


def _words(body: bytes) -> str:
    """Grafana's `message`, or the beginning of whatever was answered."""
    try:
        found = json.loads(body)
        return str(found["message"])[:_SHOWN_CHARACTERS]
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:_SHOWN_CHARACTERS]
