"""Signatures made by botocore, verified by the front door's pure function."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from trunkline.simulator.frontdoor import signature
from trunkline.simulator.frontdoor.signature import Headers, Key, verify

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
KEYS = {
    "AKIDLONG": Key(SECRET, "admin"),
    "ASIASESSION": Key(SECRET, "session", token="tok/en==", expires_at=2_000_000_000.0),
}


class Parts(NamedTuple):
    """A request as it would be received."""

    method: str
    raw_path: str
    raw_query: str
    headers: Headers
    body_sha256: str


def signed(
    *,
    url: str = "https://sts.eu-west-1.amazonaws.com/",
    method: str = "POST",
    body: bytes = b"Action=GetCallerIdentity",
    service: str = "sts",
    region: str = "eu-west-1",
    key: str = "AKIDLONG",
    secret: str = SECRET,
    token: str | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Parts, float]:
    """A request signed by botocore, and the second at which it was signed."""
    request = AWSRequest(method=method, url=url, data=body, headers=dict(headers))
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    signer(Credentials(key, secret, token), service, region).add_auth(request)
    prepared = request.prepare()
    host, _, target = prepared.url.partition("://")[2].partition("/")
    path, _, query = f"/{target}".partition("?")
    pairs = [("Host", host), *((name, as_text(value)) for name, value in prepared.headers.items())]
    stamp = signature.header(pairs, "x-amz-date") or ""
    now = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    return Parts(method, path, query, pairs, hashlib.sha256(body).hexdigest()), now


def as_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def check(
    expected: str = "admin",
    *,
    now_offset: float = 0.0,
    expect_service: str | None = None,
    expect_region: str | None = None,
    **request: Any,
) -> None:
    parts, now = signed(**request)
    verified = verify(*parts, KEYS.get, now + now_offset, service=expect_service, region=expect_region)
    assert verified.key.principal == expected


def refused(error: type[Exception], sentence: str, **request: Any) -> None:
    with pytest.raises(error, match=sentence):
        check(**request)


def without(headers: Headers, name: str) -> Headers:
    return [pair for pair in headers if pair[0] != name]


def rewritten(headers: Headers, name: str, old: str, new: str) -> Headers:
    return [(key, value.replace(old, new) if key == name else value) for key, value in headers]


def test_every_style_of_request_that_botocore_signs_is_accepted() -> None:
    check()
    check(url="http://127.0.0.1:4566/", method="GET", body=b"")
    check(
        url="https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1/api/v1/remote_write",
        service="aps",
    )
    check(
        url="https://aps.eu-west-1.amazonaws.com/tags/arn%3Aaws%3Aaps%3Aeu-west-1%3A1%3Aworkspace%2Fws",
        service="aps",
    )
    check(
        url="https://aps-workspaces.eu-west-1.amazonaws.com/w/api/v1/query?query=sum%28up%7Ba%3D%22b%20c%22%7D%29&time=1",
        service="aps",
        method="GET",
        body=b"",
    )
    check(url="https://x.amazonaws.com/?b=2&a=3&a=1&empty=&c", service="ec2", method="GET", body=b"")
    check(url="https://bucket.s3.eu-west-1.amazonaws.com//twice//a%20b%2Fc/../d", service="s3", method="PUT")
    check(
        url="https://ecs.eu-west-1.amazonaws.com/",
        service="ecs",
        body=b"{}",
        headers={"X-Amz-Target": "T.ListTasks", "Content-Type": "application/x-amz-json-1.1"},
    )
    check("session", key="ASIASESSION", token="tok/en==")
    check("session", key="ASIASESSION", token="tok/en==", expect_service="sts", expect_region="eu-west-1")


def test_a_request_without_a_whole_signature_is_refused() -> None:
    parts, now = signed()

    def refused_with(headers: Headers, error: type[Exception]) -> None:
        with pytest.raises(error):
            verify(*parts._replace(headers=headers), KEYS.get, now)

    auth = "Authorization"
    refused_with(without(parts.headers, auth), signature.MissingAuthenticationError)
    refused_with(
        rewritten(parts.headers, auth, "AWS4-HMAC-SHA256", "Bearer"), signature.IncompleteSignatureError
    )
    refused_with(rewritten(parts.headers, auth, "Signature=", "Sign="), signature.IncompleteSignatureError)
    refused_with(rewritten(parts.headers, auth, "/aws4_request", ""), signature.IncompleteSignatureError)
    refused_with(rewritten(parts.headers, "X-Amz-Date", "T", " "), signature.IncompleteSignatureError)
    refused_with(without(parts.headers, "X-Amz-Date"), signature.IncompleteSignatureError)


def test_keys_and_tokens() -> None:
    invalid = "The security token included in the request is invalid."
    refused(signature.UnknownTokenError, invalid, key="AKIDNOBODY")
    refused(signature.UnknownTokenError, invalid, key="ASIASESSION")
    refused(signature.UnknownTokenError, invalid, key="ASIASESSION", token="other")
    refused(signature.UnknownTokenError, invalid, key="AKIDLONG", token="tok/en==")
    refused(signature.SignatureMismatchError, "does not match the signature you provided", secret="other")


def test_a_session_ends_at_its_second() -> None:
    parts, now = signed(key="ASIASESSION", token="tok/en==")
    keys = {"ASIASESSION": Key(SECRET, "session", token="tok/en==", expires_at=now + 1)}
    assert verify(*parts, keys.get, now + 0.5).key.principal == "session"
    with pytest.raises(signature.ExpiredTokenError, match="token included in the request is expired"):
        verify(*parts, keys.get, now + 1)


def test_the_clock_may_be_fifteen_minutes_off() -> None:
    check(now_offset=900)
    check(now_offset=-900)
    refused(
        signature.ClockSkewError,
        r"Signature expired: \d{8}T\d{6}Z is now earlier than \d{8}T\d{6}Z \(\d{8}T\d{6}Z - 15 min\.\)",
        now_offset=901,
    )
    refused(
        signature.ClockSkewError,
        r"Signature not yet current: .* is still later than .* \+ 15 min",
        now_offset=-901,
    )


def test_the_scope_has_to_be_that_of_the_address() -> None:
    refused(signature.ScopeError, "valid region", expect_region="us-east-1")
    refused(signature.ScopeError, "valid region", region="nowhere")
    refused(signature.ScopeError, "correct service: 'sts'", service="iam", expect_service="sts")


def test_whatever_is_changed_after_signing_is_noticed() -> None:
    parts, now = signed(
        url="https://aps.eu-west-1.amazonaws.com/a/b?q=1", service="aps", headers={"X-Amz-Meta": "x"}
    )
    pairs = list(parts.headers)

    def noticed(**changes: Any) -> None:
        with pytest.raises(signature.SignatureMismatchError):
            verify(*parts._replace(**changes), KEYS.get, now)

    noticed(method="GET")
    noticed(raw_path="/a/c")
    noticed(raw_query="q=2")
    noticed(headers=rewritten(pairs, "Host", "aps", "aqs"))
    noticed(body_sha256=hashlib.sha256(b"other").hexdigest())
    noticed(headers=[*pairs, ("X-Amz-Added", "later")])
    noticed(headers=[*pairs, ("X-Amz-Content-SHA256", "UNSIGNED-PAYLOAD")])
    noticed(headers=without(pairs, "X-Amz-Meta"))
    assert verify(*parts, KEYS.get, now).service == "aps"


def test_only_s3_may_leave_the_body_out() -> None:
    unsigned = {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}
    parts, now = signed(service="aps", headers=unsigned)
    with pytest.raises(signature.SignatureMismatchError):
        verify(*parts, KEYS.get, now)
