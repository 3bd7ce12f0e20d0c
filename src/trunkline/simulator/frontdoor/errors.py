"""Refusals in AWS's words, in the shape each protocol has for them.

Source: the "Common errors" pages of STS, ECS, AMP, EC2 and S3, and the error sections of the protocols.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from trunkline.errors import SimulatorError
from trunkline.simulator.frontdoor import signature
from trunkline.simulator.frontdoor.calls import Answer, Protocol, Received
from trunkline.simulator.frontdoor.signature import SignatureError


class AwsError(SimulatorError):
    """An operation's own refusal: AWS's code, sentence and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class AccessDeniedError(SimulatorError):
    """A policy refused, or none allowed; the text is AWS's sentence."""


class ThrottledError(SimulatorError):
    """Calls come too fast."""

    def __init__(self) -> None:
        super().__init__("Rate exceeded")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Any refusal, made ready for a protocol."""

    status: int
    code: str
    message: str


class _Code(NamedTuple):
    status: int
    code: str
    message: str = ""  # where the protocol has a sentence of its own


def _signature_codes(status: int, invalid: str) -> dict[type[SignatureError], _Code]:
    """The codes of JSON services; `invalid` is the one for a wrong signature, clock or scope."""
    return {
        signature.MissingAuthenticationError: _Code(status, "MissingAuthenticationTokenException"),
        signature.IncompleteSignatureError: _Code(status, "IncompleteSignatureException"),
        signature.UnknownTokenError: _Code(status, "UnrecognizedClientException"),
        signature.ExpiredTokenError: _Code(status, "ExpiredTokenException"),
        signature.ClockSkewError: _Code(status, invalid),
        signature.ScopeError: _Code(status, invalid),
        signature.SignatureMismatchError: _Code(status, invalid),
    }


_EC2_FAILURE: Final = _Code(
    401, "AuthFailure", "AWS was not able to validate the provided access credentials"
)

_SIGNATURE: Final[Mapping[Protocol, Mapping[type[SignatureError], _Code]]] = {
    Protocol.JSON: _signature_codes(400, "InvalidSignatureException"),
    Protocol.REST_JSON: _signature_codes(403, "InvalidSignatureException"),
    Protocol.QUERY: {
        signature.MissingAuthenticationError: _Code(
            403, "MissingAuthenticationToken", "Request is missing Authentication Token"
        ),
        signature.IncompleteSignatureError: _Code(400, "IncompleteSignature"),
        signature.UnknownTokenError: _Code(403, "InvalidClientTokenId"),
        signature.ExpiredTokenError: _Code(403, "ExpiredToken"),
        signature.ClockSkewError: _Code(403, "SignatureDoesNotMatch"),
        signature.ScopeError: _Code(403, "SignatureDoesNotMatch"),
        signature.SignatureMismatchError: _Code(403, "SignatureDoesNotMatch"),
    },
    Protocol.EC2: {
        signature.MissingAuthenticationError: _Code(
            400, "MissingAuthenticationToken", "Request is missing Authentication Token"
        ),
        signature.IncompleteSignatureError: _Code(400, "IncompleteSignature"),
        signature.UnknownTokenError: _EC2_FAILURE,
        signature.ExpiredTokenError: _Code(400, "RequestExpired", "Request has expired."),
        signature.ClockSkewError: _Code(400, "RequestExpired", "Request has expired."),
        signature.ScopeError: _EC2_FAILURE,
        signature.SignatureMismatchError: _EC2_FAILURE,
    },
    Protocol.S3: {
        signature.MissingAuthenticationError: _Code(403, "AccessDenied", "Access Denied"),
        signature.IncompleteSignatureError: _Code(400, "AuthorizationHeaderMalformed"),
        signature.UnknownTokenError: _Code(
            403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."
        ),
        signature.ExpiredTokenError: _Code(400, "ExpiredToken", "The provided token has expired."),
        signature.ClockSkewError: _Code(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        ),
        signature.ScopeError: _Code(400, "AuthorizationHeaderMalformed"),
        signature.SignatureMismatchError: _Code(403, "SignatureDoesNotMatch"),
    },
}

_DENIED: Final[Mapping[Protocol, _Code]] = {
    Protocol.QUERY: _Code(403, "AccessDenied"),
    Protocol.EC2: _Code(403, "UnauthorizedOperation"),
    Protocol.JSON: _Code(400, "AccessDeniedException"),
    Protocol.REST_JSON: _Code(403, "AccessDeniedException"),
    Protocol.S3: _Code(403, "AccessDenied"),
}

_THROTTLED: Final[Mapping[Protocol, _Code]] = {
    Protocol.QUERY: _Code(400, "Throttling"),
    Protocol.EC2: _Code(503, "RequestLimitExceeded", "Request limit exceeded."),
    Protocol.JSON: _Code(400, "ThrottlingException"),
    Protocol.REST_JSON: _Code(429, "ThrottlingException"),
    Protocol.S3: _Code(503, "SlowDown", "Please reduce your request rate."),
}

_UNKNOWN_OPERATION: Final[Mapping[Protocol, _Code]] = {
    Protocol.QUERY: _Code(400, "InvalidAction"),
    Protocol.EC2: _Code(400, "InvalidAction"),
    Protocol.JSON: _Code(400, "UnknownOperationException"),
    Protocol.REST_JSON: _Code(404, "UnknownOperationException"),
    Protocol.S3: _Code(405, "MethodNotAllowed"),
}


def refusal(error: SimulatorError, protocol: Protocol) -> Refusal:
    """What `error` is called in `protocol`."""
    if isinstance(error, AwsError):
        return Refusal(error.status, error.code, error.message)
    status, code, message = _code(error, protocol)
    return Refusal(status, code, message or str(error))


def _code(error: SimulatorError, protocol: Protocol) -> _Code:
    if isinstance(error, SignatureError):
        return _SIGNATURE[protocol][type(error)]
    if isinstance(error, AccessDeniedError):
        return _DENIED[protocol]
    if isinstance(error, ThrottledError):
        return _THROTTLED[protocol]
    return _Code(500, "InternalFailure")


def unknown_operation(protocol: Protocol, service: str) -> AwsError:
    """There is no such operation."""
    status, code, _ = _UNKNOWN_OPERATION[protocol]
    return AwsError(code, f"Could not find an operation of {service} in this request.", status)


_NAMESPACES: Final[Mapping[str, str]] = {
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "cloudformation": "http://cloudformation.amazonaws.com/doc/2010-05-15/",
}


def answer_for(error: SimulatorError, protocol: Protocol, service: str, received: Received) -> Answer:
    """The answer that tells `error` as `service` tells it."""
    found, request_id = refusal(error, protocol), str(uuid.uuid4())
    if protocol in {Protocol.JSON, Protocol.REST_JSON}:
        return _json(found, protocol, received, request_id)
    body = _xml(found, protocol, service, request_id).encode()
    return Answer(found.status, body, {"Content-Type": "text/xml", "x-amzn-RequestId": request_id})


def _json(found: Refusal, protocol: Protocol, received: Received, request_id: str) -> Answer:
    headers = {"x-amzn-RequestId": request_id, "x-amzn-ErrorType": found.code}
    if protocol is Protocol.REST_JSON:
        body = json.dumps({"message": found.message}, ensure_ascii=False)
        return Answer(found.status, body.encode(), {**headers, "Content-Type": "application/json"})
    # The older of these services spell the field with a capital, the SDKs read both.
    body = json.dumps({"__type": found.code, "message": found.message}, ensure_ascii=False)
    kind = received.header("content-type")
    kind = kind if kind.startswith("application/x-amz-json") else "application/x-amz-json-1.1"
    return Answer(found.status, body.encode(), {**headers, "Content-Type": kind})


def _xml(found: Refusal, protocol: Protocol, service: str, request_id: str) -> str:
    code, message = escape(found.code), escape(found.message)
    if protocol is Protocol.S3:
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{request_id}</RequestId></Error>'
    if protocol is Protocol.EC2:
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>{request_id}</RequestID></Response>'
    side = "Sender" if found.status < 500 else "Receiver"
    name = _NAMESPACES.get(service)
    namespace = f' xmlns="{name}"' if name else ""
    return f"<ErrorResponse{namespace}><Error><Type>{side}</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
