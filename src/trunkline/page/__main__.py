"""The page's process: `python -m trunkline.page --state-dir DIR --central-role ARN --fd N`, as `process.py` starts it."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, Final

_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; frame-ancestors 'none'"
)
"""Nothing comes from elsewhere, and a browser sees to it. Vue compiles templates, hence `unsafe-eval`."""

Message = MutableMapping[str, Any]
Application = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Any]


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(prog="trunkline.page")
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--central-role", required=True)
    parser.add_argument("--fd", type=int, required=True)
    options = parser.parse_args()
    os.environ["NICEGUI_STORAGE_PATH"] = str(options.state_dir / "page")
    listener = socket.socket(fileno=options.fd)
    asyncio.run(_serve(options.state_dir, options.central_role, listener))


async def _serve(state_dir: Path, role_arn: str, listener: socket.socket) -> None:
    import uvicorn  # noqa: PLC0415 (after the environment is set, as all below)
    from fastapi import FastAPI  # noqa: PLC0415
    from starlette.middleware.trustedhost import TrustedHostMiddleware  # noqa: PLC0415

    from trunkline.page.asking import Simulator, open_questions  # noqa: PLC0415
    from trunkline.page.site import Site  # noqa: PLC0415
    from trunkline.page.troubles import Troubles  # noqa: PLC0415

    simulator = Simulator(state_dir)
    workspace = await simulator.workspace()
    async with open_questions(workspace) as questions, Troubles(simulator, workspace, role_arn) as troubles:
        outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        Site(simulator, questions, troubles, workspace).serve(outer)
        # A page elsewhere must not reach the buttons through a name that it lets resolve to this computer.
        hosts = ["localhost", "127.0.0.1", "[::1]", listener.getsockname()[0]]
        guarded = TrustedHostMiddleware(_with_policy(outer), allowed_hosts=hosts)
        config = uvicorn.Config(
            guarded, log_level="warning", ws="websockets-sansio", timeout_graceful_shutdown=1
        )
        await uvicorn.Server(config).serve(sockets=[listener])


def _with_policy(inner: Application) -> Application:
    async def serve(scope: Message, receive: Any, send: Callable[[Message], Awaitable[None]]) -> None:
        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", _POLICY.encode()),
                    (b"referrer-policy", b"same-origin"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await inner(scope, receive, answer)

    return serve


if __name__ == "__main__":
    main()
