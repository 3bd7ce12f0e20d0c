"""What every HTTP client of the collector can do, whatever it is made of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeAlias, runtime_checkable

from trunkline.errors import FetchError
from trunkline.net.client import Client, Prepared, Waiter
from trunkline.net.message import Request, Response

log = logging.getLogger(__name__)

Begin: TypeAlias = Callable[[Waiter], object]
"""Makes one and the same exchange once more; the waiter is told how it ended."""


class Fetcher(Protocol):
    """Makes exchanges: the plain client, the full one, and what stands in front of them."""

    async def exchange(
        self, request: Request, *, timeout_s: float, max_body_bytes: int | None = None
    ) -> Response:
        """Send `request`, return the answer whatever its status.

        `timeout_s` covers everything up to the last byte; `max_body_bytes` bounds the body as sent and as
        decompressed. Raises FetchError or one of its kinds, naming host and port.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection; exchanges under way fail."""
        ...


@runtime_checkable
class _Repeating(Protocol):
    """A fetcher that knows of a cheaper way to repeat a request than a task for each."""

    def repeatedly(self, request: Request, timeout_s: float, max_body_bytes: int | None) -> Begin: ...


def repeatedly(
    fetcher: Fetcher, request: Request, *, timeout_s: float, max_body_bytes: int | None = None
) -> Begin:
    """`exchange`, made ready to be begun again and again, at the plain client's speed as far as it is one.

    Raises ConnectError or ProtocolError for a request that cannot be sent. The body of an answer may lie in a buffer
    that is used again as soon as `answered` returns.
    """
    if isinstance(fetcher, Client):
        prepared = Prepared.of(request, timeout_s=timeout_s, max_body_bytes=max_body_bytes)
        return lambda waiter: fetcher.begin(prepared, waiter)
    if isinstance(fetcher, _Repeating):
        return fetcher.repeatedly(request, timeout_s, max_body_bytes)

    async def exchange() -> Response:
        return await fetcher.exchange(request, timeout_s=timeout_s, max_body_bytes=max_body_bytes)

    tasks = Tasks()
    return lambda waiter: tasks.begin(exchange, waiter)


class Tasks:
    """Carries what has to be awaited for waiters, who do not."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, exchange: Callable[[], Coroutine[Any, Any, Response]], waiter: Waiter) -> None:
        """Await `exchange` in a task and tell `waiter` of its end."""
        task = asyncio.get_running_loop().create_task(_tell(exchange, waiter))
        self._running.add(task)
        task.add_done_callback(self._running.discard)


async def _tell(exchange: Callable[[], Coroutine[Any, Any, Response]], waiter: Waiter) -> None:
    try:
        response = await exchange()
    except FetchError as error:
        waiter.failed(error)
    except Exception as error:
        log.exception("an exchange failed in a way nobody foresaw")
        waiter.failed(FetchError(f"it failed in a way nobody foresaw: {error!r}"))
    else:
        waiter.answered(response)
