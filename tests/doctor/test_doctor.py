"""Each hop broken for real, and what the doctor says of it."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from tests.doctor.stage import (
    EXTERNAL_ID,
    MONITORING,
    REGION,
    WORKLOAD,
    Doctor,
    Stage,
    arn,
    stage_in,
    trunkline,
)

from trunkline.net.message import Response
from trunkline.net.server import serve
from trunkline.simulator.certificates import create_certificates
from trunkline.simulator.frontdoor.faults import Fault

pytestmark = pytest.mark.asyncio(loop_scope="module")

CENTRAL = arn(MONITORING, "central")
NO_WORKSPACE = "ws-00000000-0000-0000-0000-000000000000"
REVEALING = ("AWS4-HMAC-SHA256", "Signature=", "Canonical String")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with stage_in(tmp_path_factory.mktemp("state")) as made:
        yield made


async def examine(
    stage: Stage,
    environment: Mapping[str, str] | str = "trusted",
    *,
    configuration: str = "",
    resolve: str = "",
    ca: Path | None = None,
    more: Mapping[str, str] | None = None,
    as_json: bool = True,
) -> Doctor:
    """Run the doctor as a task with that role, or with that environment; nothing it prints is secret."""
    own = await stage.session(environment) if isinstance(environment, str) else environment
    config = stage.state / "collector.yaml"
    config.write_text(configuration or stage.configuration())
    arguments = ["collector", "doctor", "--config", str(config), "--ca-bundle", str(ca or stage.ca)]
    rules = resolve or stage.resolve
    arguments += ["--resolve", rules, *(["--json"] if as_json else [])]
    made = Doctor(*await trunkline(*arguments, environment={**own, **(more or {})}))
    for secret in (*stage.everything_secret(), *own.get("AWS_SECRET_ACCESS_KEY", "").split(), *REVEALING):
        assert secret not in made.output
        assert secret not in made.errors
    return made


async def test_a_whole_chain_is_walked_to_its_end(stage: Stage) -> None:
    found = await examine(stage, configuration=stage.configuration(role=arn(MONITORING, "reader")))
    assert (found.code, found.errors) == (0, "")
    assert [(hop["hop"], hop["outcome"]) for hop in found.hops] == [
        ("task metadata", "note"),
        ("credentials", "ok"),
        ("STS", "ok"),
        ("role", "ok"),
        ("name", "ok"),
        ("connection", "ok"),
        ("clock", "ok"),
        ("test write", "ok"),
        ("test query", "ok"),
    ]
    texts = {hop["hop"]: hop["text"] for hop in found.hops}
    assert re.search(r"from environment: key ASIA\S+, with no end", texts["credentials"])
    assert f"knows us as arn:aws:sts::{WORKLOAD}:assumed-role/trusted/task-1" in texts["STS"]
    assert texts["role"].startswith(f"{arn(MONITORING, 'reader')} assumed, account {MONITORING}, until 20")
    assert texts["test query"] == "the sample is in the workspace: trunkline_doctor 1"


async def test_the_test_series_has_ended_and_says_where_it_came_from(stage: Stage) -> None:
    document = {
        "Cluster": "shop",
        "TaskARN": f"arn:aws:ecs:{REGION}:{WORKLOAD}:task/shop/0123456789abcdef0123456789abcdef",
        "Family": "shop",
        "ServiceName": "web",
    }
    answer = Response(200, "OK", {"content-type": "application/json"}, json.dumps(document).encode())
    configuration = stage.configuration(role=arn(MONITORING, "reader"))
    async with serve("127.0.0.1", 0, {"/v4/task": lambda: answer}) as server:
        metadata = {"ECS_CONTAINER_METADATA_URI_V4": f"http://127.0.0.1:{server.address[1]}/v4"}
        found = await examine(stage, configuration=configuration, more=metadata)
    assert found.code == 0
    assert "task 0123456789abcdef0123456789abcdef of service web in cluster shop" in found.hops[0]["text"]
    key = stage.keys[MONITORING]
    environment = {
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
        "AWS_CA_BUNDLE": str(stage.ca),
        "TRUNKLINE_RESOLVE": stage.resolve,
    }
    url = ("--url", stage.endpoint().removesuffix("/remote_write"))
    selector = 'trunkline_doctor{aws_ecs_service_name="web"}'
    code, output, errors = await trunkline(
        "query", "--json", *url, f"{selector}[5m]", environment=environment
    )
    assert code == 0, errors
    [series] = json.loads(output)["result"]
    assert (series["metric"]["exporter"], series["values"][0][1]) == ("prometheusremotewrite", "1")
    _, output, _ = await trunkline("query", "--json", *url, selector, environment=environment)
    assert json.loads(output)["result"] == []


@dataclass(frozen=True)
class Broken:
    """One broken hop: how it is broken, where the way ends, in whose words, and what to change."""

    hop: str
    said: str
    change: str
    role: str = "trusted"
    changes: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, str] = field(default_factory=dict)
    text: str = ""


DENIED = (
    rf"«User: arn:aws:sts::{WORKLOAD}:assumed-role/{{}}/task-1 is not authorized to perform: sts:AssumeRole on "
    rf"resource: {{}}» \(AccessDenied\)"
)
TRUST = r'in the trust policy of {}: \{{"Effect": "Allow", "Principal": \{{"AWS": "{}"\}}, "Action": "sts:AssumeRole"'
OWN = r'in the identity policy of {}: \{{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "{}"\}}'

BROKEN = {
    "own policy lacks it": Broken(
        "role",
        DENIED.format("powerless", CENTRAL),
        OWN.format(arn(WORKLOAD, "powerless"), CENTRAL),
        role="powerless",
        text="the identity policy of .*/powerless/task-1 lacks sts:AssumeRole",
    ),
    "trust missing": Broken(
        "role",
        DENIED.format("untrusted", CENTRAL),
        TRUST.format(CENTRAL, arn(WORKLOAD, "untrusted")),
        role="untrusted",
        text="the trust policy of .*/central does not name .*/untrusted/task-1",
    ),
    "external id not sent": Broken(
        "role",
        DENIED.format("trusted", arn(MONITORING, "secretive")),
        "none was sent: if the trust has a condition sts:ExternalId, set assume_role::external_id",
        changes={"role": arn(MONITORING, "secretive")},
        text="asks for an external id and none was sent",
    ),
    "external id wrong": Broken(
        "role",
        DENIED.format("trusted", arn(MONITORING, "secretive")),
        "its value must be the one of the condition sts:ExternalId",
        changes={"role": arn(MONITORING, "secretive"), "external_id": "not-the-word"},
        text="asks for another external id than the one sent",
    ),
    "role missing": Broken(
        "role",
        DENIED.format("trusted", arn(MONITORING, "forgotten")),
        rf"if there is no such role: the name or account \({MONITORING}\)",
        changes={"role": arn(MONITORING, "forgotten")},
    ),
    "role of a wrong account": Broken(
        "role",
        DENIED.format("trusted", arn("999999999999", "central")),
        r"if there is no such role: the name or account \(999999999999\)",
        changes={"role": arn("999999999999", "central")},
    ),
    "not the workspace's id": Broken(
        "test write",
        "«Workspace not found»",
        rf"looked for {NO_WORKSPACE} in account {MONITORING}, region {REGION}",
        changes={
            "endpoint": f"https://aps-workspaces.{REGION}.amazonaws.com/workspaces/{NO_WORKSPACE}/api/v1/remote_write"
        },
        text="answered 404: Workspace not found. There is no such workspace there",
    ),
    "the wrong region in the URL": Broken(
        "test write",
        "«Workspace not found»",
        rf"in account {MONITORING}, region us-east-1; .*list-workspaces --region us-east-1",
        changes={"region": "us-east-1", "signed_for": "us-east-1"},
    ),
    "credentials of another account than the workspace's of another account": Broken(
        "test write",
        "«Workspace not found»",
        rf"in account {WORKLOAD}, region {REGION}",
        role="local",
        changes={"role": ""},
    ),
    "signed for a wrong region": Broken(
        "test write",
        r"«Credential should be scoped to a valid region\.»",
        f"sign for {REGION}, the region in the endpoint, not for us-east-1",
        changes={"signed_for": "us-east-1"},
    ),
    "not allowed to write": Broken(
        "test write",
        rf"«User: arn:aws:sts::{MONITORING}:assumed-role/useless/\S+ is not authorized to perform: aps:RemoteWrite",
        r'policy of \S+:role/useless: \{"Effect": "Allow", "Action": "aps:RemoteWrite", "Resource": "arn:aws:aps:'
        rf"{REGION}:{MONITORING}:workspace/ws-",
        changes={"role": arn(MONITORING, "useless")},
    ),
    "an STS of another region": Broken(
        "STS",
        "Credential should be scoped to a valid region",
        "AWS_ENDPOINT_URL_STS",
        more={"AWS_ENDPOINT_URL_STS": "https://sts.us-east-1.amazonaws.com"},
    ),
    "metadata silent": Broken(
        "task metadata",
        "",
        "ECS_CONTAINER_METADATA_URI_V4",
        more={"ECS_CONTAINER_METADATA_URI_V4": "http://127.0.0.1:9/v4"},
        text="connection refused",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_hop_is_named_in_the_answers_own_words(stage: Stage, name: str) -> None:
    broken = BROKEN[name]
    found = await examine(
        stage, broken.role, configuration=changed(stage, **broken.changes), more=broken.more
    )
    assert found.code == 1, found.output
    expect(found, broken.hop, broken.said, broken.change, broken.text)


def changed(stage: Stage, region: str = REGION, **changes: str) -> str:
    return stage.configuration(**{"endpoint": stage.endpoint(region), **changes})


def expect(found: Doctor, hop: str, said: str, change: str, text: str = "") -> None:
    last = found.last
    assert (last["hop"], last["outcome"]) == (hop, "wrong")
    assert re.search(said, last["said"]), last
    assert any(re.search(change, one) for one in last["change"]), last
    assert re.search(text, last["text"]), last
    assert not any(one["outcome"] == "wrong" for one in found.hops[:-1])


async def test_no_credentials(stage: Stage) -> None:
    found = await examine(stage, {})
    assert found.code == 1
    expect(
        found,
        "credentials",
        "",
        "taskRoleArn",
        "no AWS credentials found. Tried in this order: environment: ",
    )
    assert any("ecs-tasks.amazonaws.com" in one for one in found.last["change"])


async def test_credentials_that_aws_does_not_know(stage: Stage) -> None:
    nobody = {"AWS_ACCESS_KEY_ID": "AKIANOBODYNOBODY", "AWS_SECRET_ACCESS_KEY": "a-secret-of-nobody"}
    found = await examine(stage, nobody)
    words = r"«The security token included in the request is invalid\.» \(InvalidClientTokenId\)"
    expect(found, "STS", words, "replace the access key AKIANOBODYNOBODY", "AWS does not know the access key")


async def test_a_mistyped_secret(stage: Stage) -> None:
    own = {**await stage.session("trusted"), "AWS_SECRET_ACCESS_KEY": "mistyped-secret"}
    found = await examine(stage, own)
    expect(
        found,
        "STS",
        "SignatureDoesNotMatch",
        "the secret of the access key ASIA",
        "check it for typing errors",
    )
    found = await examine(stage, own, configuration=stage.configuration(role=""))
    expect(found, "STS", "SignatureDoesNotMatch", "the secret of the access key ASIA")


async def test_sts_switched_off_in_the_region(stage: Stage) -> None:
    message = "STS is not activated in this region for account:222222222222."
    code = "RegionDisabledException"
    fault = stage.door.faults.add(Fault(service="sts", code=code, message=message, status=403))
    try:
        found = await examine(stage)
    finally:
        stage.door.faults.remove(fault)
    expect(found, "STS", rf"«{message}» \({code}\)", "activate eu-west-1", "set sts_region to a region where")


async def test_nobody_at_sts(stage: Stage) -> None:
    elsewhere = stage.resolve.replace(f"*:443=127.0.0.1:{stage.door_port}", f"*:443=127.0.0.1:{free_port()}")
    found = await examine(stage, resolve=elsewhere)
    expect(found, "STS", "connection refused", r"com\.amazonaws\.eu-west-1\.sts", "STS gave no answer")
    assert "https://sts.eu-west-1.amazonaws.com:443" in found.last["said"]
    # Who assumes no role needs no STS.
    found = await examine(stage, "local", resolve=elsewhere, configuration=stage.configuration(role=""))
    assert [hop["outcome"] for hop in found.hops if hop["hop"] == "STS"] == ["note"]
    assert found.last["hop"] == "test write"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def led_to(stage: Stage, address: str) -> str:
    rules = [rule for rule in stage.resolve.split(",") if not rule.startswith(f"aps-workspaces.{REGION}")]
    return ",".join([f"aps-workspaces.{REGION}.amazonaws.com:443={address}", *rules])


async def test_what_aws_would_have_signed_is_not_repeated(stage: Stage) -> None:
    """It has the session token in it."""
    elsewhere = stage.resolve.replace(f"*:443=127.0.0.1:{stage.door_port}", f"*:443=127.0.0.1:{free_port()}")
    own = {**await stage.session("local"), "AWS_SECRET_ACCESS_KEY": "mistyped-secret"}
    found = await examine(stage, own, resolve=elsewhere, configuration=stage.configuration(role=""))
    words = r"^«The request signature we calculated does not match .* for details\.»$"
    expect(found, "test write", words, "its own secret, and the session token if it is temporary")


async def test_nobody_at_the_workspace(stage: Stage) -> None:
    found = await examine(stage, resolve=led_to(stage, f"127.0.0.1:{free_port()}"))
    expect(found, "connection", "", r"com\.amazonaws\.eu-west-1\.aps-workspaces", "connection refused")


async def test_a_name_that_does_not_resolve(stage: Stage) -> None:
    found = await examine(stage, resolve=led_to(stage, "[fe80::1%nowhere]:443"))  # asks no name server
    expect(
        found, "name", "", "region in the exporter's endpoint, if eu-west-1 is not one", "does not resolve"
    )


async def test_a_certificate_of_an_authority_nobody_knows(stage: Stage, tmp_path: Path) -> None:
    others = create_certificates(tmp_path, (REGION,)).ca
    strict = stage.configuration().replace("timeout: 3s", f"tls: {{ca_file: {others}}}")
    found = await examine(stage, configuration=strict)
    expect(
        found,
        "connection",
        "",
        "--ca-bundle or AWS_CA_BUNDLE, for an exporter tls::ca_file",
        "its certificate is not accepted",
    )
    found = await examine(stage, ca=others)
    expect(found, "STS", "its certificate is not accepted", "--ca-bundle or AWS_CA_BUNDLE")


async def test_who_may_not_query_is_told_so_and_all_is_well(stage: Stage) -> None:
    found = await examine(stage)
    assert found.code == 0
    assert (found.last["hop"], found.last["outcome"]) == ("test query", "note")
    assert found.last["text"].startswith("who writes may not query, which a collector does not need: ")
    assert "is not authorized to perform: aps:QueryMetrics" in found.last["text"]


async def test_the_right_external_id_is_sent_and_never_shown(stage: Stage) -> None:
    changes = {"role": arn(MONITORING, "secretive"), "external_id": EXTERNAL_ID}
    assert (await examine(stage, configuration=stage.configuration(**changes))).code == 0


async def test_an_unsigned_exporter_has_fewer_hops(stage: Stage) -> None:
    configuration = f"""
receivers: {{awsecscontainermetrics: }}
exporters:
  prometheusremotewrite: {{endpoint: "{stage.endpoint()}"}}
  debug:
service:
  pipelines: {{metrics: {{receivers: [awsecscontainermetrics], exporters: [debug, prometheusremotewrite]}}}}
"""
    found = await examine(stage, {}, configuration=configuration)
    assert found.code == 1
    debug, written = json.loads(found.output)["exporters"]
    assert [hop["outcome"] for hop in debug["hops"]] == ["note"]
    assert [hop["hop"] for hop in written["hops"]] == ["task metadata", "name", "connection", "test write"]
    assert written["hops"][-1]["said"] == "«Missing Authentication Token»"
    assert "and in the exporter: auth: {authenticator: sigv4auth}" in written["hops"][-1]["change"]


async def test_what_is_printed_reads_without_colour(stage: Stage) -> None:
    found = await examine(stage, "untrusted", as_json=False)
    assert (found.code, found.errors) == (1, "")
    lines = found.output.splitlines()
    assert lines[0] == f"prometheusremotewrite → {stage.endpoint()}"
    assert [line.split()[1] for line in lines[1:5]] == ["note", "ok", "ok", "WRONG"]
    assert lines[4].startswith("  ✗ WRONG  role           cannot assume ")
    assert lines[-1] == "  the way ends at: role"
    assert (await examine(stage, as_json=False)).output.splitlines()[-1] == "  all well"


async def test_a_wrong_configuration_is_a_usage_error(stage: Stage) -> None:
    found = await examine(stage, configuration=stage.configuration().replace("[sigv4auth]\n", "[]\n"))
    assert (found.code, found.output) == (2, "")
    assert "authenticator not found" in found.errors
    code, _, errors = await trunkline("collector", "doctor", environment={})
    assert (code, "no configuration" in errors) == (2, True)
