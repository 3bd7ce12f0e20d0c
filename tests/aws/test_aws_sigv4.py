import datetime as dt
import string
from urllib.parse import quote

import botocore.auth
import botocore.credentials
import pytest
from botocore.awsrequest import AWSRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.aws import sigv4
from trunkline.aws.keys import Credentials
from trunkline.errors import ConnectError
from trunkline.net.message import Request

EXAMPLE = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
AT = dt.datetime(2015, 8, 30, 12, 36, tzinfo=dt.UTC)


def signature(request: Request, service: str = "service", credentials: Credentials = EXAMPLE) -> str:
    signed = sigv4.sign(request, credentials, region="us-east-1", service=service, at=AT)
    return signed.headers["authorization"].rpartition("Signature=")[2]


def test_the_vectors_aws_publishes() -> None:
    """From AWS's Signature Version 4 test suite, and the worked example of the General Reference."""
    host = "https://example.amazonaws.com"
    form = "application/x-www-form-urlencoded"

    def check(expected: str, method: str, url: str, headers: dict[str, str], body: bytes = b"") -> None:
        service = "iam" if "iam." in url else "service"
        assert signature(Request(method, url, headers, body), service) == expected

    check("5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", "GET", f"{host}/", {})
    check("5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", "POST", f"{host}/", {})
    check(
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        "GET",
        f"{host}/?Param2=value2&Param1=value1",
        {},
    )
    check("2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04", "GET", f"{host}/?ሴ=bar", {})
    check(
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        "GET",
        f"{host}/",
        {"My-Header1": " value1", "My-Header2": ' "a   b   c"'},
    )
    check(
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        "POST",
        f"{host}/",
        {"Content-Type": form},
        b"Param1=value1",
    )
    check(
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        "GET",
        "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
        {"Content-Type": f"{form}; charset=utf-8"},
    )


def test_what_is_added_and_what_is_replaced() -> None:
    temporary = Credentials("AKID", "secret", "token")
    request = Request("POST", "https://h/p", {"Authorization": "old", "X-Amz-Date": "old", "A": "b"}, b"x")
    signed = sigv4.sign(request, temporary, region="eu-west-1", service="aps", at=AT)
    authorization = signed.headers["authorization"]
    assert dict(signed.headers) == {
        "A": "b",
        "x-amz-date": "20150830T123600Z",
        "x-amz-security-token": "token",
        "authorization": authorization,
    }
    assert authorization.startswith(
        "AWS4-HMAC-SHA256 Credential=AKID/20150830/eu-west-1/aps/aws4_request, "
        "SignedHeaders=a;host;x-amz-date;x-amz-security-token, Signature="
    )
    assert (signed.method, signed.url, signed.body) == (request.method, request.url, request.body)
    again = sigv4.sign(signed, EXAMPLE, region="eu-west-1", service="aps", at=AT)
    assert set(again.headers) == {"A", "x-amz-date", "authorization"}
    s3 = sigv4.sign(Request("GET", "https://b/"), EXAMPLE, region="r", service="s3", at=AT)
    assert s3.headers["x-amz-content-sha256"].startswith("e3b0c44298fc1c14")


def test_the_time_may_be_in_any_zone() -> None:
    elsewhere = AT.astimezone(dt.timezone(dt.timedelta(hours=9)))
    request = Request("GET", "https://h/")
    assert sigv4.sign(request, EXAMPLE, region="r", service="s", at=elsewhere) == sigv4.sign(
        request, EXAMPLE, region="r", service="s", at=AT
    )


def test_a_url_that_is_none_is_refused() -> None:
    with pytest.raises(ConnectError):
        sigv4.sign(Request("GET", "/relative"), EXAMPLE, region="r", service="s", at=AT)


words = st.text(string.ascii_letters + string.digits + "-_.~ /+&=%äü*'", max_size=12)
segments = st.one_of(
    st.sampled_from(["", ".", "..", "%2F", "a%20b"]), words.map(lambda word: quote(word, safe="~"))
)
paths = st.lists(segments, max_size=6).map(lambda parts: "/" + "/".join(parts))
pairs = st.tuples(words, words).map(lambda pair: "=".join(quote(part, safe="-_.~") for part in pair))
queries = st.lists(pairs, max_size=5).map("&".join)
hosts = st.sampled_from(["h.example", "h.example:443", "h.example:80", "127.0.0.1:8000", "[::1]:9000"])
values = st.text("ab  ,;=", max_size=20)
names = st.sampled_from(
    ["Content-Type", "X-Amz-Target", "User-Agent", "Connection", "content-encoding", "TE", "X-Amzn-Trace-Id"]
)


@settings(deadline=None)
@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.sampled_from(["http", "https"]),
    hosts,
    paths,
    queries,
    st.dictionaries(names, values, max_size=5),
    st.binary(max_size=60),
    st.sampled_from([None, "token/with+signs=="]),
    st.sampled_from(["aps", "sts", "s3"]),
    st.sampled_from(["us-east-1", "cn-north-1"]),
    st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2090, 1, 1)),  # noqa: DTZ001 (hypothesis wants them naive)
)
def test_signatures_are_botocores(
    method: str,
    scheme: str,
    host: str,
    path: str,
    query: str,
    headers: dict[str, str],
    body: bytes,
    token: str | None,
    service: str,
    region: str,
    moment: dt.datetime,
) -> None:
    url = f"{scheme}://{host}{path}" + (f"?{query}" if query else "")
    at = moment.replace(tzinfo=dt.UTC)
    mine = sigv4.sign(
        Request(method, url, headers, body),
        Credentials("AKID", "secret", token),
        region=region,
        service=service,
        at=at,
    )
    signer = botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth
    theirs = AWSRequest(method, url, dict(headers), body)
    theirs.context["client_config"] = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: at)
        signer(botocore.credentials.Credentials("AKID", "secret", token), service, region).add_auth(theirs)
    assert mine.headers["authorization"] == theirs.headers["Authorization"]
    assert mine.headers["x-amz-date"] == theirs.headers["X-Amz-Date"]


def test_the_signing_key_is_made_once_a_day() -> None:
    sigv4._signing_key.cache_clear()
    for _ in range(5):
        signature(Request("GET", "https://h/"))
    assert sigv4._signing_key.cache_info().misses == 1
