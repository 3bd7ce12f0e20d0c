"""The event loop of a process that must end in time."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any


class PromptLoop(asyncio.SelectorEventLoop):
    """An event loop whose end does not wait for a silent name server.

    asyncio asks for names in threads that it joins at the end, however long that takes; ECS kills a container 30 s
    after asking it to stop. Names are asked for in daemon threads instead.
    """

    async def getaddrinfo(self, *args: Any, **kwargs: Any) -> Any:
        answer: asyncio.Future[Any] = self.create_future()

        def settle(found: Any, error: Exception | None) -> None:
            if answer.done():
                return
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)

        def ask() -> None:
            found, failure = None, None
            try:
                found = socket.getaddrinfo(*args, **kwargs)
            except (OSError, ValueError) as error:
                failure = error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self.call_soon_threadsafe(settle, found, failure)

        threading.Thread(target=ask, name=f"resolve {args[0]}", daemon=True).start()
        return await answer
