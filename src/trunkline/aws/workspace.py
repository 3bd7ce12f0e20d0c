"""Asking a workspace: PromQL over the query API of Prometheus, signed where it is AMP's.

Sources: AMP user guide, "Prometheus-compatible APIs"; Prometheus, "HTTP API".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from trunkline.aws import explain, sigv4
from trunkline.aws.credentials import RefreshingCredentials
from trunkline.errors import FetchError, QueryError
from trunkline.net.fetcher import Fetcher
from trunkline.net.message import Request, Response

_HOST: Final = re.compile(r"(?:[^.]+\.)?aps-workspaces(?:-fips)?\.([a-z0-9-]+)\.")
_TIMEOUT_S: Final = 65.0  # AMP ends a query after a minute
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_ACCEPT: Final = {"accept": "application/json"}
_FORM: Final = {"content-type": "application/x-www-form-urlencoded", **_ACCEPT}


def workspace_url(workspace_id: str, region: str) -> str:
    """The root of a workspace's API in AWS."""
    return f"https://aps-workspaces.{region}.amazonaws.com/workspaces/{workspace_id}"


def region_of(url: str) -> str:
    """The region in the name of AMP's host; empty for any other host."""
    found = _HOST.match(urlsplit(url).hostname or "")
    return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Found:
    """One series of an answer: its labels, and (epoch seconds, value) of each sample, oldest first."""

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]

    @property
    def value(self) -> float:
        """The newest value."""
        return self.samples[-1][1]


class Workspace:
    """The query API below `url`, which may end at the workspace or at its `api/v1/`.

    Requests are signed for `aps` in `region` with `credentials`; without credentials they go out unsigned. An answer
    is waited for as long as AMP may take, or for `timeout_s`.
    """

    def __init__(
        self,
        client: Fetcher,
        url: str,
        region: str = "",
        credentials: RefreshingCredentials | None = None,
        *,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        self.url = f"{url.rstrip('/').removesuffix('/api/v1')}/api/v1"
        self._client = client
        self._region = region
        self._credentials = credentials
        self._timeout_s = timeout_s

    async def query(self, promql: str, at_s: float | None = None) -> list[Found]:
        """The value of `promql` now, or at `at_s`; raises QueryError, CredentialsError."""
        return found_in(
            await self.ask("query", {"query": promql} | ({} if at_s is None else {"time": f"{at_s:.3f}"}))
        )

    async def query_range(self, promql: str, start_s: float, end_s: float, step_s: float) -> list[Found]:
        """The values of `promql` from `start_s` to `end_s`; raises QueryError, CredentialsError."""
        form = {"query": promql, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}", "step": f"{step_s:g}"}
        return found_in(await self.ask("query_range", form))

    async def label_values(self, label: str, selector: str, start_s: float, end_s: float) -> list[str]:
        """The values that `label` has in the series of `selector`, sorted; raises QueryError, CredentialsError.

        It reads no samples, so the times are coarse: a value may have ended before `start_s`.
        """
        form = {"match[]": selector, "start": f"{start_s:.3f}", "end": f"{end_s:.3f}"}
        url = f"{self.url}/label/{quote(label, safe='')}/values?{urlencode(form, quote_via=quote)}"
        return list(await self._answer(Request("GET", url, _ACCEPT)))

    async def ask(self, operation: str, form: Mapping[str, str]) -> Any:
        """The `data` of the answer to `query` or `query_range`; raises QueryError, CredentialsError."""
        return await self._answer(Request("POST", f"{self.url}/{operation}", _FORM, urlencode(form).encode()))

    async def _answer(self, request: Request) -> Any:
        if self._credentials is not None:
            await self._credentials.attempted()
            key = self._credentials.current()
            at = datetime.fromtimestamp(self._credentials.clock.now(), UTC)
            request = sigv4.sign(request, key, region=self._region, service="aps", at=at)
        exchange = self._client.exchange(request, timeout_s=self._timeout_s, max_body_bytes=_MAX_ANSWER_BYTES)
        try:
            response = await (self._credentials.clock.timed(exchange) if self._credentials else exchange)
        except FetchError as error:
            raise QueryError(f"the workspace gave no answer: {error}") from error
        return _data(response, self._region)


def found_in(data: Any) -> list[Found]:
    """The series in the `data` of an answer, of whatever result type."""
    kind, result = data["resultType"], data["result"]
    if kind in {"scalar", "string"}:
        return [Found({}, (_sample(result),))] if kind == "scalar" else []
    return [
        Found(each["metric"], tuple(map(_sample, each["values"] if kind == "matrix" else [each["value"]])))
        for each in result
        if "values" in each or "value" in each
    ]


def _sample(pair: Any) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


def _data(response: Response, region: str) -> Any:
    try:
        document = json.loads(response.body)
    except ValueError:
        document = {}
    document = document if isinstance(document, dict) else {}
    if response.status == 200 and document.get("status") == "success":
        return document["data"]
    said = document.get("message") or document.get("Message") or document.get("error")
    text = said or response.body[:300].decode(errors="replace").strip()
    raise QueryError(_refusal(response.status_line, text, region), status=response.status)


_REMEDIES: Final = (
    ("Missing Authentication Token", "the request was not signed: name the workspace's region with --region"),
    ("is not authorized to perform", "give that role or user the managed policy AmazonPrometheusQueryAccess, or name a role of the workspace's account that has it with --role"),
    ("security token included in the request is invalid", "this access key is not known there: check AWS_PROFILE or --profile, and that a temporary key came with its session token"),
    ("security token included in the request is expired", "the session is over: sign in again, or renew what AWS_PROFILE names"),
    ("Workspace not found", "check the workspace's id and region, and that the key belongs to the workspace's account: from another account, name a role of that one with --role"),
    ("Credential should be scoped", "the request was signed for another region: name the workspace's own with --region"),
    ("signature we calculated does not match", "check the secret access key, and the clock of this machine"),
    ("Signature expired", "set the clock of this machine"),
    ("Signature not yet current", "set the clock of this machine"),
    ("parse error", "check the PromQL expression"),
)  # fmt: skip
"""What AWS says → what to do."""


def _refusal(status_line: str, text: str, region: str) -> str:
    said = explain.quoted(text) or "nothing"
    place = f" in {region}" if region else ""
    remedy = next((remedy for words, remedy in _REMEDIES if words.lower() in text.lower()), "")
    return f"the workspace{place} answered {status_line}: «{said}»{'. To do: ' + remedy if remedy else ''}"
