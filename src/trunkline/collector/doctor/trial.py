"""One harmless sample there and back: the test write, the test query, and the mark that the series has ended."""

from __future__ import annotations

import os
import time
from typing import Final

from trunkline.aws import explain
from trunkline.aws.clock import REPORT_FROM_S
from trunkline.aws.workspace import Workspace
from trunkline.collector.doctor.findings import Finding, Outcome
from trunkline.collector.doctor.hops import SET_CLOCK
from trunkline.collector.doctor.visit import Visit, shown
from trunkline.component.signing import Signer
from trunkline.errors import CredentialsError, FetchError, QueryError
from trunkline.exporters.prometheusremotewrite.delivery import HEADERS, MAX_ANSWER_BYTES, outcome
from trunkline.model import STALE, Labels, make_labels
from trunkline.net.message import Request, Response
from trunkline.wire import naming, snappy
from trunkline.wire.remote_write import encode_labels, encode_series, encode_write_request

NAME: Final = "trunkline_doctor"
_SUFFIXES: Final = ("/api/v1/remote_write", "/api/v1/write")


async def write(visit: Visit) -> Finding:
    """Whether the receiver takes a sample from us."""
    hop, at_ms = "test write", int(time.time() * 1000)
    try:
        response = await _send(visit, 1.0, at_ms)
        if response.status == 403 and explain.is_clock(explain.message_of(response)):
            response = await _send(visit, 1.0, at_ms)
    except CredentialsError as error:
        return Finding.of(hop, error)
    except FetchError as error:
        return Finding(hop, Outcome.WRONG, f"the sample could not be sent: {error}")
    problem = outcome(response, shown(visit.endpoint))
    if problem is None:
        visit.written_ms = at_ms
        return Finding(hop, Outcome.OK, f"a sample of {NAME} was taken ({response.status_line})")
    text = str(problem).removesuffix(f". {explain.KEPT}")
    return Finding(
        hop, Outcome.WRONG, text, f"«{explain.message_of(response)}»", _to_be_taken(visit, response)
    )


def _to_be_taken(visit: Visit, response: Response) -> tuple[str, ...]:
    if visit.workspace.region and response.status in {401, 403, 404}:
        return visit.workspace.explain(response.status, explain.message_of(response)).change
    return SET_CLOCK if response.status == 400 and abs(visit.clock.offset_s) >= REPORT_FROM_S else ()


async def query(visit: Visit) -> Finding:
    """Whether the sample can be read by who wrote it, which no collector needs."""
    hop = "test query"
    base = next((visit.endpoint[: -len(end)] for end in _SUFFIXES if visit.endpoint.endswith(end)), "")
    if not base:
        text = f"not asked: nobody knows where {shown(visit.endpoint)} would be queried"
        return Finding(hop, Outcome.NOTE, text)
    signer = visit.authenticator if isinstance(visit.authenticator, Signer) else None
    workspace = Workspace(
        visit.client,
        base,
        signer.region_for(visit.endpoint) if signer else "",
        signer.credentials if signer else None,
    )
    try:
        found = await workspace.query(_selector(_labels(visit)), visit.written_ms / 1000)
    except (QueryError, CredentialsError) as error:
        return _unread(hop, error)
    if not found:
        return Finding(hop, Outcome.NOTE, "the query was answered, but the sample is not there yet")
    return Finding(hop, Outcome.OK, f"the sample is in the workspace: {NAME} {found[0].value:g}")


def _unread(hop: str, error: QueryError | CredentialsError) -> Finding:
    if isinstance(error, QueryError) and error.status in {401, 403}:
        text = (
            "who writes may not query, which a collector does not need: "
            f"{str(error).partition('. To do:')[0]}"
        )
        change = (f"only if it shall: arn:aws:iam::aws:policy/{explain.QUERY_POLICY}",)
        return Finding(hop, Outcome.NOTE, text, change=change)
    return Finding(hop, Outcome.NOTE, f"the sample was taken, but a query failed: {error}")


async def mark_ended(visit: Visit) -> Finding | None:
    """End the series of the test sample; None when that went well."""
    hop = "end of the test"
    at_ms = max(int(time.time() * 1000), visit.written_ms + 1)
    try:
        response = await _send(visit, STALE, at_ms)
    except (CredentialsError, FetchError) as error:
        text = (
            f"the series {NAME} could not be marked as ended; it ends by itself within five minutes: {error}"
        )
        return Finding(hop, Outcome.NOTE, text)
    if response.status < 300:
        return None
    text = (
        f"the series {NAME} could not be marked as ended ({response.status_line}); it ends by itself within five "
        "minutes"
    )
    return Finding(hop, Outcome.NOTE, text)


async def _send(visit: Visit, value: float, at_ms: int) -> Response:
    series = encode_series(encode_labels(_labels(visit)), [(value, at_ms)])
    body = snappy.compress(encode_write_request([series]))
    request = Request("POST", visit.endpoint, {**HEADERS, **visit.config.headers}, body)
    if visit.authenticator is not None:
        request = visit.authenticator.authorize(request)
    exchange = visit.client.exchange(request, timeout_s=visit.config.timeout, max_body_bytes=MAX_ANSWER_BYTES)
    signs = isinstance(visit.authenticator, Signer)
    return await (visit.clock.timed(exchange) if signs else exchange)


def _labels(visit: Visit) -> Labels:
    """Where the sample comes from, in the labels that other samples of this exporter have."""
    config = visit.config
    external = {naming.label_name(label): value for label, value in config.external_labels.items()}
    identity = visit.context.identity.identity if config.identity_labels else {}
    own = {"__name__": NAME, "exporter": str(visit.context.id), "instance": os.uname().nodename}
    return make_labels({**external, **identity, **own})


def _selector(labels: Labels) -> str:
    def quote(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    pairs = ", ".join(f'{name}="{quote(value)}"' for name, value in labels if name != "__name__")
    return f"{NAME}{{{pairs}}}"
