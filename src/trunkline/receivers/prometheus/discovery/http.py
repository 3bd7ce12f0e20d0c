"""`http_sd_configs`: target groups as JSON from an HTTP server."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from trunkline.component.schedule import Clock
from trunkline.component.settings import setting
from trunkline.errors import FetchError
from trunkline.net.fetcher import Fetcher
from trunkline.net.message import Request
from trunkline.quantities import PrometheusDuration
from trunkline.receivers.prometheus.discovery.groups import TargetGroup, Trouble, groups_of, refreshed
from trunkline.receivers.prometheus.http_config import HttpClientConfig

_JSON: Final = re.compile(r'(?i:application/json(;\s*charset=("utf-8"|utf-8))?)')
_MAX_BODY_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class HttpSdConfig(HttpClientConfig):
    """Targets listed by an HTTP server."""

    url: str = setting(default="", doc="Where the list is.")
    refresh_interval: PrometheusDuration = setting(default=60.0, doc="How often it is read.")

    def check(self) -> Iterator[tuple[str, str]]:
        parts = urlsplit(self.url)
        if not self.url:
            yield "url", "URL is missing"
        elif parts.scheme not in ("http", "https"):
            yield "url", "URL scheme must be 'http' or 'https'"
        elif not parts.netloc:
            yield "url", "host is missing in URL"
        if self.refresh_interval <= 0:
            yield "refresh_interval", "must be greater than zero, such as 60s"
        yield from self.check_http()


class HttpDiscovery:
    """Asks one URL; `client` is its own."""

    def __init__(self, config: HttpSdConfig, client: Fetcher) -> None:
        self._url = config.url
        self._interval_s = config.refresh_interval
        self._client = client
        self._request = Request(
            "GET",
            config.url,
            {
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "X-Prometheus-Refresh-Interval-Seconds": f"{config.refresh_interval:g}",
            },
        )

    def updates(self, clock: Clock) -> AsyncIterator[Sequence[TargetGroup]]:
        trouble = Trouble(f"the list of targets at {self._url} cannot be had")
        return refreshed(self._read, self._interval_s, clock, trouble)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _read(self) -> list[TargetGroup]:
        answer = await self._client.exchange(
            self._request, timeout_s=self._interval_s, max_body_bytes=_MAX_BODY_BYTES
        )
        if answer.status != 200:
            raise FetchError(f"server returned HTTP status {answer.status_line}")
        kind = answer.headers.get("content-type", "").strip()
        if not _JSON.fullmatch(kind):
            raise FetchError(f'unsupported content type "{kind}"; application/json is expected')
        return groups_of(json.loads(answer.body), {"__meta_url": self._url}, any_case=True)
