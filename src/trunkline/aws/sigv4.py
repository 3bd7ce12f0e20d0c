"""AWS Signature Version 4, carried in headers.

Source: AWS General Reference, "Create a signed AWS API request". The headers that proxies may change are left out
of the signature, as AWS's own SDKs leave them out.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote, unquote_to_bytes

from trunkline.aws.keys import Credentials
from trunkline.net.message import Request
from trunkline.net.target import parse_target

_ALGORITHM = "AWS4-HMAC-SHA256"
_UNSIGNED = frozenset(
    {
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    }
)
_REPLACED = frozenset({"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"})
_WITH_PAYLOAD_HEADER = frozenset({"s3", "s3-outposts", "s3express", "aoss"})
_PLAIN_PATH = frozenset({"s3", "s3-outposts", "s3express"})


@lru_cache(maxsize=16)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _canonical_path(path: str, service: str) -> str:
    """The path without dot and empty segments and encoded once more, except for S3, which takes it as it is."""
    if service in _PLAIN_PATH:
        return path or "/"
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in {"", "."}:
            segments.append(segment)
    ended = "/" if segments and path.endswith("/") else ""
    return quote(f"/{'/'.join(segments)}{ended}", safe="/-_.~")


def _canonical_query(query: str) -> str:
    """Names and values encoded as RFC 3986 has it, however they were, and sorted; a `+` is a plus sign."""
    pairs = []
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        pairs.append(tuple(quote(unquote_to_bytes(part), safe="-_.~") for part in (name, value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _canonical_headers(headers: Iterable[tuple[str, str]], host: str) -> dict[str, str]:
    signed = {"host": host}
    for name, value in headers:
        if name.lower() not in _UNSIGNED:
            signed[name.lower()] = " ".join(value.split())
    return dict(sorted(signed.items()))


def sign(request: Request, credentials: Credentials, *, region: str, service: str, at: datetime) -> Request:
    """`request` with the headers that sign it for `service` in `region` at the time `at` (aware).

    Added are `x-amz-date`, `authorization`, for temporary credentials `x-amz-security-token`, and for S3 and
    OpenSearch Serverless `x-amz-content-sha256`; a signature the request already had is replaced. `host` is signed
    as the client sends it. The query of the URL must not use `+` for a space. Raises ConnectError for a URL that
    is none.
    """
    stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    payload_hash = sha256(request.body).hexdigest()
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _REPLACED}
    headers["x-amz-date"] = stamp
    if credentials.session_token:
        headers["x-amz-security-token"] = credentials.session_token
    if service in _WITH_PAYLOAD_HEADER:
        headers["x-amz-content-sha256"] = payload_hash
    target = parse_target(request.url)
    path, _, query = target.path.partition("?")
    signed = _canonical_headers(headers.items(), target.authority)
    names = ";".join(signed)
    canonical = "\n".join(
        (
            request.method,
            _canonical_path(path, service),
            _canonical_query(query),
            *(f"{name}:{value}" for name, value in signed.items()),
            "",
            names,
            payload_hash,
        )
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    to_sign = f"{_ALGORITHM}\n{stamp}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    key = _signing_key(credentials.secret_access_key, stamp[:8], region, service)
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return replace(request, headers=headers)
