"""`trunkline query` against servers on loopback that answer as AMP does."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest

from trunkline.aws.workspace import Found, found_in
from trunkline.cli.main import main
from trunkline.cli.query import render
from trunkline.simulator.certificates import Certificates, create_certificates
from trunkline.simulator.frontdoor import signature

AMP = "https://aps-workspaces.eu-west-1.amazonaws.com"
WORKSPACE = "ws-11111111-2222-3333-4444-555555555555"
KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
VECTOR = {
    "resultType": "vector",
    "result": [
        {"metric": {"__name__": "up", "job": "shop", "task": "a"}, "value": [1700000000, "1"]},
        {"metric": {"__name__": "up", "job": "shop", "task": "b"}, "value": [1700000000, "0.25"]},
    ],
}
MATRIX = {
    "resultType": "matrix",
    "result": [{"metric": {"task": "a"}, "values": [[0, "NaN"], [15, "4"], [30, "1"], [45, "3"]]}],
}


@dataclass
class Asked:
    """What came in, and what is answered to all of it."""

    status: int = 200
    answer: Any = field(default_factory=lambda: {"status": "success", "data": VECTOR})
    requests: list[tuple[str, str, list[tuple[str, str]], bytes]] = field(default_factory=list)

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.requests[-1][3].decode()).items()}

    def header(self, name: str) -> str:
        return signature.header(self.requests[-1][2], name) or ""


@contextmanager
def server(asked: Asked, certificates: Certificates | None = None) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.requests.append((self.command, self.path, list(self.headers.items()), body))
            text = json.dumps(asked.answer).encode()
            self.send_response(asked.status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as listening:
        if certificates:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(certificates.server, certificates.server_key)
            listening.socket = tls.wrap_socket(listening.socket, server_side=True)
        thread = Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield listening.server_port
        finally:
            listening.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return create_certificates(tmp_path_factory.mktemp("certificates"))


@dataclass
class Amp:
    """AMP's own name, led to a server of ours."""

    asked: Asked
    options: list[str]


@pytest.fixture
def amp(certificates: Certificates) -> Iterator[Amp]:
    asked = Asked()
    with server(asked, certificates) as port:
        way = ["--resolve", f"*:443=127.0.0.1:{port}", "--ca-bundle", str(certificates.ca)]
        yield Amp(asked, way)


def test_a_workspace_in_aws_is_asked_signed(amp: Amp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["query", "up", "--workspace", WORKSPACE, "--region", "eu-west-1", *amp.options]) == 0
    method, path, headers, body = amp.asked.requests[0]
    assert (method, path) == ("POST", f"/workspaces/{WORKSPACE}/api/v1/query")
    assert amp.asked.form == {"query": "up"}
    verified = signature.verify(
        method,
        path,
        "",
        headers,
        sha256(body).hexdigest(),
        {KEY: signature.Key(SECRET, "somebody")}.get,
        time.time(),
        service="aps",
        region="eu-west-1",
    )
    assert verified.key.principal == "somebody"
    assert capsys.readouterr().out.splitlines() == [
        'all: up{job="shop"}',
        "",
        "task  value         at",
        "a         1  22:13:20Z",
        "b      0.25  22:13:20Z",
    ]


def test_the_region_is_that_of_the_url_or_the_environment_or_the_profile(
    amp: Amp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def check(options: list[str], scope: str) -> None:
        assert main(["query", "up", *options, *amp.options]) == 0
        assert f"/{scope}/aps/aws4_request" in amp.asked.header("authorization")

    check(["--url", f"{AMP}/workspaces/{WORKSPACE}/api/v1/"], "eu-west-1")
    assert amp.asked.requests[-1][1] == f"/workspaces/{WORKSPACE}/api/v1/query"
    monkeypatch.setenv("AWS_REGION", "us-east-2")
    check(["--workspace", WORKSPACE], "us-east-2")
    check(["--workspace", WORKSPACE, "--region", "eu-west-3"], "eu-west-3")
    monkeypatch.delenv("AWS_REGION")
    (tmp_path / ".aws").mkdir()
    profile = (
        "[profile work]\nregion = ca-central-1\naws_access_key_id = AKIAWORK\naws_secret_access_key = x\n"
    )
    (tmp_path / ".aws" / "config").write_text(profile)
    check(["--workspace", WORKSPACE, "--profile", "work"], "ca-central-1")
    assert "Credential=AKIAWORK/" in amp.asked.header("authorization")


def test_times_and_ranges(amp: Amp, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--workspace", WORKSPACE, "--region", "eu-west-1", *amp.options]
    assert main(["query", "up", "--time", "2026-01-01T00:00:00Z", *options]) == 0
    assert amp.asked.form["time"] == "2026-01-01T00:00:00Z"
    amp.asked.answer["data"] = MATRIX
    capsys.readouterr()
    assert main(["query", "up", "--range", "5m", "--step", "15s", *options]) == 0
    form = amp.asked.form
    assert (float(form["end"]) - float(form["start"]), form["step"]) == (300.0, "15")
    assert amp.asked.requests[-1][1].endswith("/api/v1/query_range")
    assert capsys.readouterr().out.splitlines() == [
        "task  points  first  last  min  max",
        "a          4    nan     3    1    4",
    ]
    assert main(["query", "up", "--range", "1h", *options]) == 0
    assert amp.asked.form["step"] == "60"


def test_json_is_the_data_as_it_came(amp: Amp, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["query", "up", "--json", "--workspace", WORKSPACE, "--region", "eu-west-1", *amp.options]) == 0
    )
    assert json.loads(capsys.readouterr().out) == VECTOR


def test_any_prometheus_is_asked_unsigned(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked()
    with server(asked) as port:
        assert main(["query", "up", "--url", f"http://127.0.0.1:{port}"]) == 0
        assert asked.requests[0][1] == "/api/v1/query"
        assert asked.header("authorization") == ""
    assert main(["query", "up", "--url", f"http://127.0.0.1:{port}"]) == 1
    assert "the workspace gave no answer: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (
            403,
            {"message": "Missing Authentication Token"},
            r"answered 403 Forbidden: «Missing Authentication Token»\. To do: .*--region",
        ),
        (
            403,
            {
                "Message": "User: arn:x is not authorized to perform: aps:QueryMetrics on resource: arn:y because"
            },
            r"«User: arn:x is not authorized .*AmazonPrometheusQueryAccess.*--role",
        ),
        (
            403,
            {"message": "The security token included in the request is expired"},
            r"the session is over: sign in again",
        ),
        (
            404,
            {"Message": "Workspace not found"},
            r"404 Not Found: «Workspace not found»\. To do: .*id and region",
        ),
        (
            400,
            {
                "status": "error",
                "errorType": "bad_data",
                "error": "1:4: parse error: unclosed left parenthesis",
            },
            r"400 Bad Request: «1:4: parse error: unclosed left parenthesis»\. To do: check the PromQL",
        ),
        (502, "not JSON one expects", r"502 Bad Gateway: «\"not JSON one expects\"»$"),
    ],
)
def test_a_refusal_is_told_with_what_to_do(
    amp: Amp, capsys: pytest.CaptureFixture[str], status: int, answer: Any, words: str
) -> None:
    amp.asked.status, amp.asked.answer = status, answer
    assert main(["query", "up", "--workspace", WORKSPACE, "--region", "eu-west-1", *amp.options]) == 1
    told = capsys.readouterr().err
    assert told.startswith("trunkline: the workspace in eu-west-1 answered ")
    assert re.search(words, told.strip())


def test_credentials_that_are_not_there(
    amp: Amp, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert main(["query", "up", "--workspace", WORKSPACE, "--region", "eu-west-1", *amp.options]) == 1
    assert "no AWS credentials found" in capsys.readouterr().err
    assert amp.asked.requests == []


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    def check(words: str, *options: str) -> None:
        assert main(["query", "up", *options]) == 2
        assert words in capsys.readouterr().err

    check("no simulator runs here that could be asked instead")
    check("Name it with --region, or set AWS_REGION", "--workspace", WORKSPACE)
    check("which workspace? Name it with --workspace", "--region", "eu-west-1")
    check("--step goes with --range", "--step", "15s", "--url", "http://127.0.0.1:9")
    check("write it as 30s, 5m or 1h30m", "--range", "five", "--url", "http://127.0.0.1:9")
    check("longer than nothing", "--range", "0s", "--url", "http://127.0.0.1:9")


def test_a_simulator_that_does_not_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["query", "up", "--simulator"]) == 1
    assert f"no simulator runs in {tmp_path / 'trunkline'}" in capsys.readouterr().err


def test_what_is_shown() -> None:
    def check(found: list[Found], *expected: str) -> None:
        assert render(found) == list(expected)

    check([], "no series")
    check(found_in({"resultType": "scalar", "result": [0, "12"]}), "value         at", "   12  00:00:00Z")
    check([], *render(found_in({"resultType": "string", "result": [0, "text"]})))
    single = Found({"__name__": "up", "job": "shop"}, ((0.0, 1.5),))
    check([single], "metric  job   value         at", "up      shop    1.5  00:00:00Z")
    check(
        [
            Found({"__name__": name}, ((0.0, value),))
            for name, value in (("a", float("inf")), ("b", float("nan")))
        ],
        "metric  value         at",
        "a         inf  00:00:00Z",
        "b         nan  00:00:00Z",
    )
