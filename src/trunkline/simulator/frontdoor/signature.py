"""Verifying Signature Version 4: a pure function, used by the front door and by the workspace gateway.

The rules are those of AWS's "Signature Version 4 signing process" (IAM user guide, reference_sigv4-create).
Errors are typed and carry AWS's own sentence; which code and status a service makes of them is the concern
of `errors.answer_for`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from posixpath import normpath
from typing import Final, Generic, TypeAlias, TypeVar
from urllib.parse import quote, unquote

from trunkline.errors import SimulatorError

ALGORITHM: Final = "AWS4-HMAC-SHA256"
MAX_SKEW_S: Final = 15 * 60
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()

Headers: TypeAlias = Sequence[tuple[str, str]]
P = TypeVar("P")

_REGION: Final = re.compile(r"[a-z]{2,3}(-[a-z]+)+-\d")
_UNHASHED: Final = ("UNSIGNED-PAYLOAD", "STREAMING-")
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
    "Access Key and signing method. Consult the service documentation for details."
)


class SignatureError(SimulatorError):
    """A request that is not authenticated; the text is AWS's."""


class MissingAuthenticationError(SignatureError):
    """There is no signature at all."""


class IncompleteSignatureError(SignatureError):
    """The `Authorization` header does not have the parts it needs."""


class UnknownTokenError(SignatureError):
    """The access key is unknown, or the session token is missing or not the key's."""


class ExpiredTokenError(SignatureError):
    """The session is over."""


class ClockSkewError(SignatureError):
    """The request was signed more than 15 minutes before or after `now`."""


class ScopeError(SignatureError):
    """The credential scope names another region, service or day than the request is for."""


class SignatureMismatchError(SignatureError):
    """The signature is not the one this key gives this request."""


@dataclass(frozen=True, slots=True)
class Key(Generic[P]):
    """What is known of an access key: its secret, and for sessions the token and the end of life.

    `expires_at` is seconds since the epoch, None for keys that live for ever. `principal` is whatever the
    owner of the keys wants back.
    """

    secret: str
    principal: P
    token: str | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Verified(Generic[P]):
    """An authenticated request: whose key it was, and the scope it was signed for."""

    access_key_id: str
    key: Key[P]
    region: str
    service: str
    signed_at: float


@dataclass(frozen=True, slots=True)
class Scope:
    """The `Authorization` header taken apart."""

    access_key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str


KeyLookup: TypeAlias = Callable[[str], Key[P] | None]
"""Finds an access key id's key; None when there is none. The token is compared by `verify`."""


def header(headers: Headers, name: str) -> str | None:
    """The first value of header `name`, a lower-case name, or None."""
    return next((value for key, value in headers if key.lower() == name), None)


def parse_authorization(headers: Headers) -> Scope:
    """Take the `Authorization` header apart; raises Missing- or IncompleteSignatureError."""
    value = header(headers, "authorization")
    if not value:
        raise MissingAuthenticationError("Missing Authentication Token")
    algorithm, _, rest = value.strip().partition(" ")
    if algorithm != ALGORITHM:
        raise IncompleteSignatureError(f"Unsupported AWS 'algorithm': '{algorithm}'.")
    parts = dict(_pair(piece) for piece in rest.split(","))
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not parts.get(name)]
    if missing:
        needs = " ".join(f"Authorization header requires '{name}' parameter." for name in missing)
        raise IncompleteSignatureError(f"{needs} Authorization={value}")
    # An access key id never holds a slash, so whatever else is wrong shows in the count.
    scope = parts["Credential"].split("/")
    if len(scope) != 5 or scope[4] != "aws4_request":
        raise IncompleteSignatureError(
            f"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{parts['Credential']}'"
        )
    key_id, date, region, service, _ = scope
    signed_headers = tuple(parts["SignedHeaders"].lower().split(";"))
    return Scope(key_id, date, region, service, signed_headers, parts["Signature"])


def _pair(piece: str) -> tuple[str, str]:
    name, _, value = piece.strip().partition("=")
    return name, value


def verify(
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Headers,
    body_sha256: str,
    key_lookup: KeyLookup[P],
    now: float,
    *,
    service: str | None = None,
    region: str | None = None,
) -> Verified[P]:
    """Authenticate one request exactly as it was received.

    `raw_path` and `raw_query` (without `?`) are still percent-encoded as on the wire, `headers` are pairs as
    received, `body_sha256` is the lower-case hexadecimal hash of the body's bytes as received, `now` seconds
    since the epoch. `service` and `region` are what the address stands for, where it tells.

    Raises a SignatureError in the order in which AWS finds fault: form, key, token, expiry, clock, scope,
    signature.
    """
    scope = parse_authorization(headers)
    stamp, signed_at = _signed_at(headers)
    key = _find_key(scope.access_key_id, header(headers, "x-amz-security-token"), key_lookup, now)
    _check_clock(stamp, signed_at, now)
    _check_scope(scope, stamp, service, region)
    payload = _payload_hash(headers, body_sha256, scope.service)
    request = canonical_request(
        method, raw_path, raw_query, headers, scope.signed_headers, payload, plain_path=scope.service == "s3"
    )
    if not hmac.compare_digest(sign(key.secret, stamp, scope, request), scope.signature):
        raise SignatureMismatchError(_MISMATCH)
    return Verified(scope.access_key_id, key, scope.region, scope.service, signed_at)


def _find_key(access_key_id: str, token: str | None, key_lookup: KeyLookup[P], now: float) -> Key[P]:
    key = key_lookup(access_key_id)
    # A long-lived key sent with a token is as invalid as a session sent without its own.
    if key is None or not hmac.compare_digest((token or "").encode(), (key.token or "").encode()):
        raise UnknownTokenError("The security token included in the request is invalid.")
    if key.expires_at is not None and now >= key.expires_at:
        raise ExpiredTokenError("The security token included in the request is expired")
    return key


def _signed_at(headers: Headers) -> tuple[str, float]:
    stamp = header(headers, "x-amz-date") or header(headers, "date")
    if not stamp:
        raise IncompleteSignatureError(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        )
    try:
        when = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise IncompleteSignatureError(
            f"Date must be in ISO-8601 'basic format'. Got '{stamp}'. See http://en.wikipedia.org/wiki/ISO_8601"
        ) from None
    return stamp, when.timestamp()


def _check_clock(stamp: str, signed_at: float, now: float) -> None:
    if abs(now - signed_at) <= MAX_SKEW_S:
        return
    here = _stamp(now)
    if signed_at < now:
        raise ClockSkewError(
            f"Signature expired: {stamp} is now earlier than {_stamp(now - MAX_SKEW_S)} ({here} - 15 min.)"
        )
    raise ClockSkewError(
        f"Signature not yet current: {stamp} is still later than {_stamp(now + MAX_SKEW_S)} ({here} + 15 min.)"
    )


def _stamp(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y%m%dT%H%M%SZ")


def _check_scope(scope: Scope, stamp: str, service: str | None, region: str | None) -> None:
    if scope.date != stamp[:8]:
        raise ScopeError(
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{scope.date}' != '{stamp[:8]}', from '{stamp}'."
        )
    if not _REGION.fullmatch(scope.region) or (region is not None and scope.region != region):
        raise ScopeError("Credential should be scoped to a valid region.")
    if service is not None and scope.service != service:
        raise ScopeError(f"Credential should be scoped to correct service: '{service}'.")


def _payload_hash(headers: Headers, body_sha256: str, service: str) -> str:
    declared = header(headers, "x-amz-content-sha256")
    if declared is None or declared == body_sha256:
        return body_sha256
    if service == "s3" and declared.startswith(_UNHASHED):
        return declared
    raise SignatureMismatchError(_MISMATCH)


def canonical_request(
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Headers,
    signed_headers: Sequence[str],
    payload_hash: str,
    *,
    plain_path: bool = False,
) -> str:
    """The text that is hashed and signed; raises when a header that must be signed is not.

    `plain_path` is S3's way: the path as sent, encoded once and not normalised.
    """
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(" ".join(value.split()))
    must = {"host", *(name for name in values if name.startswith("x-amz-"))}
    if not must <= set(signed_headers) or not set(signed_headers) <= set(values):
        raise SignatureMismatchError(_MISMATCH)
    lines = [f"{name}:{','.join(values[name])}\n" for name in sorted(signed_headers)]
    path = (raw_path or "/") if plain_path else quote(_normal_path(raw_path), safe="/~")
    return "\n".join(
        [
            method.upper(),
            path,
            canonical_query(raw_query),
            "".join(lines),
            ";".join(sorted(signed_headers)),
            payload_hash,
        ]
    )


def _normal_path(raw_path: str) -> str:
    """Without empty and dot segments; a slash at the end stays."""
    normal = normpath("/" + raw_path.lstrip("/"))
    return normal + "/" if raw_path.endswith("/") and normal != "/" else normal


def canonical_query(raw_query: str) -> str:
    """The query with every name and value encoded as AWS encodes them, sorted by their encoded bytes."""
    pairs = (piece.partition("=") for piece in raw_query.split("&") if piece)
    return "&".join(
        f"{n}={v}" for n, v in sorted((_encode(name), _encode(value)) for name, _, value in pairs)
    )


def _encode(text: str) -> str:
    return quote(unquote(text), safe="-_.~")


def sign(secret: str, stamp: str, scope: Scope, request: str) -> str:
    """The signature, lower-case hexadecimal, of a canonical request."""
    credential_scope = f"{scope.date}/{scope.region}/{scope.service}/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"{ALGORITHM}\n{stamp}\n{credential_scope}\n{digest}"
    return _hmac(_signing_key(secret, scope.date, scope.region, scope.service), text).hex()


@lru_cache(maxsize=4096)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
