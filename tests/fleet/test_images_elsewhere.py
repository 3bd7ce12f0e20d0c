"""The files of deploy/, for the same collector on EC2, EKS and on-premises, and the pages about them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from trunkline.aws.iam.evaluator import AccessRequest, Policies, Principal, evaluate
from trunkline.aws.iam.policy import Policy, parse_policy
from trunkline.aws.profile import ProfileProvider
from trunkline.net.client import Client

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("ec2", "eks", "on-premises")}
UNIT = DEPLOY / "ec2" / "trunkline.service"
NO_SYSTEMD = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
CENTRAL = "arn:aws:iam::111111111111:role/trunkline-central-elsewhere"
COLLECTOR = "arn:aws:iam::222222222222:role/trunkline-collector"
# A stand-in for AWS's program, with the options of its own.
HELPER = """\
#!{python}
import argparse
parser = argparse.ArgumentParser()
credential_process = parser.add_subparsers(required=True).add_parser("credential-process")
for name in ("certificate", "private-key", "trust-anchor-arn", "profile-arn", "role-arn"):
    credential_process.add_argument("--" + name, required=True)
role = parser.parse_args().role_arn
print('{{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "' + role + '", "SessionToken": "t"}}')
"""


def environment_file(place: str) -> dict[str, str]:
    lines = (DEPLOY / place / "environment").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def manifest() -> dict[str, Any]:
    with (DEPLOY / "eks" / "collector.yaml").open() as file:
        return {document["kind"]: document for document in yaml.safe_load_all(file)}


def container() -> dict[str, Any]:
    [found] = manifest()["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_the_configurations_are_valid_with_the_variables_that_go_with_them(tmp_path: Path) -> None:
    def check(text: str, environment: dict[str, str]) -> None:
        file = tmp_path / "collector.yaml"
        file.write_text(text)
        command = [sys.executable, "-m", "trunkline", "collector", "validate", "--config", str(file)]
        own = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **environment}
        done = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
        # A variable that is not set would be a warning.
        assert (done.returncode, done.stdout) == (0, "the configuration is valid: pipelines metrics\n")

    for place in ("ec2", "on-premises"):
        check((DEPLOY / place / "collector.yaml").read_text(), environment_file(place))
    variables = {each["name"]: each["value"] for each in container()["env"]}
    check(manifest()["ConfigMap"]["data"]["collector.yaml"], variables)


def test_the_manifest_is_valid() -> None:
    validator = pytest.importorskip("kubernetes_validate")
    for document in manifest().values():
        validator.validate(document, "1.31", strict=True)


def test_the_manifest_fits_the_image() -> None:
    recipe = (ROOT / "src/trunkline/fleet/images/collector.Dockerfile").read_text()
    pod, found = manifest()["StatefulSet"]["spec"]["template"]["spec"], container()
    security = pod["securityContext"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}" in recipe
    mounts = {each["name"]: each["mountPath"] for each in found["volumeMounts"]}
    assert f'VOLUME ["{mounts["data"]}"]' in recipe
    assert f'CMD ["--config", "{mounts["configuration"]}/collector.yaml"]' in recipe
    [address] = [each["value"] for each in found["env"] if each["name"] == "TRUNKLINE_HEALTH_ADDRESS"]
    assert address.endswith(f":{found['ports'][0]['containerPort']}")
    assert found["securityContext"]["readOnlyRootFilesystem"]


@NO_SYSTEMD
def test_the_unit_is_valid_and_shut_in(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    # What is installed later is not there now; everything else of the unit is checked as it stands.
    unit.write_text(UNIT.read_text().replace("/opt/trunkline/bin/trunkline ", f"{shutil.which('true')} "))
    drop_in = tmp_path / "trunkline.service.d" / "roles-anywhere.conf"
    drop_in.parent.mkdir()
    shutil.copy(DEPLOY / "on-premises" / drop_in.name, drop_in)
    verified = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    threshold = ["security", "--offline=true", "--threshold=20", str(unit)]  # of 100
    shut_in = subprocess.run(["systemd-analyze", *threshold], capture_output=True, text=True, check=False)
    assert shut_in.returncode == 0, shut_in.stdout


async def test_the_profile_runs_the_helper_of_roles_anywhere(tmp_path: Path) -> None:
    helper, config = tmp_path / "aws_signing_helper", tmp_path / "aws-config"
    helper.write_text(HELPER.format(python=sys.executable))
    helper.chmod(0o755)
    text = (DEPLOY / "on-premises" / "aws-config").read_text()
    config.write_text(text.replace("/usr/local/bin/aws_signing_helper", str(helper)))
    environment = {
        **environment_file("on-premises"),
        "AWS_CONFIG_FILE": str(config),
        "PATH": os.environ["PATH"],
    }
    client = Client()
    try:
        provider = ProfileProvider(environment, client, "eu-west-1", {})
        assert provider.absent() is None
        assert (await provider.fetch()).secret_access_key == COLLECTOR
    finally:
        await client.aclose()


def policy(name: str) -> Policy:
    return parse_policy((DEPLOY / "iam" / f"{name}.json").read_text())


def ask(action: str, resource: str, principal: Principal, policies: Policies, **context: str) -> bool:
    keys = {name.replace("__", ":"): value for name, value in context.items()}
    account = resource.split(":")[4]
    return evaluate(AccessRequest(principal, action, resource, account, keys), policies).allowed


def test_the_collector_may_assume_the_central_role_and_nobody_else() -> None:
    def check(role: str, expected: bool) -> None:
        session = role.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/") + "/session"
        principal = Principal(role.split(":")[4], session, role)
        for action in ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"):
            policies = Policies(
                identity=[policy("collector-policy")],
                resource=policy("central-trust"),
                resource_required=True,
            )
            assert ask(action, CENTRAL, principal, policies) is expected

    check(COLLECTOR, expected=True)
    check(COLLECTOR + "-other", expected=False)
    check(COLLECTOR.replace("2222", "3333"), expected=False)


def test_the_central_role_may_write_and_nothing_else() -> None:
    session = CENTRAL.replace(":iam:", ":sts:").replace(":role/", ":assumed-role/") + "/session"
    principal, policies = (
        Principal("111111111111", session, CENTRAL),
        Policies(identity=[policy("central-policy")]),
    )
    workspace = environment_file("ec2")["WORKSPACE_ID"]
    arn = f"arn:aws:aps:eu-west-1:111111111111:workspace/{workspace}"
    assert ask("aps:RemoteWrite", arn, principal, policies)
    assert not ask("aps:QueryMetrics", arn, principal, policies)
    assert not ask("aps:RemoteWrite", arn + "1", principal, policies)


def test_whom_the_role_of_the_collector_trusts() -> None:
    def check(name: str, service: str, expected: bool, **context: str) -> None:
        principal = Principal("", "", "", service)
        policies = Policies(resource=policy(f"collector-trust-{name}"), resource_required=True)
        assert ask("sts:AssumeRole", COLLECTOR, principal, policies, **context) is expected

    check("ec2", "ec2.amazonaws.com", expected=True)
    check("ec2", "ecs-tasks.amazonaws.com", expected=False)
    tags = {"aws__RequestTag/kubernetes-namespace": "trunkline"}
    account = "aws__RequestTag/kubernetes-service-account"
    check("pod-identity", "pods.eks.amazonaws.com", expected=True, **tags, **{account: "collector"})
    check("pod-identity", "pods.eks.amazonaws.com", expected=False, **tags, **{account: "default"})
    anchor = "arn:aws:rolesanywhere:eu-west-1:222222222222:trust-anchor/00000000-0000-0000-0000-000000000000"
    check("roles-anywhere", "rolesanywhere.amazonaws.com", expected=True, aws__SourceArn=anchor)
    check("roles-anywhere", "rolesanywhere.amazonaws.com", expected=False, aws__SourceArn=anchor[:-1] + "1")


def test_irsa_trusts_the_service_account_of_the_manifest() -> None:
    found = manifest()["ServiceAccount"]["metadata"]
    [statement] = json.loads((DEPLOY / "iam" / "collector-trust-irsa.json").read_text())["Statement"]
    provider = statement["Principal"]["Federated"].partition("oidc-provider/")[2]
    subject = f"system:serviceaccount:{found['namespace']}:{found['name']}"
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"]["StringEquals"] == {
        f"{provider}:aud": "sts.amazonaws.com",
        f"{provider}:sub": subject,
    }
    assert found["annotations"]["eks.amazonaws.com/role-arn"] == COLLECTOR


def test_every_variable_that_is_named_exists() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "src" / "trunkline").rglob("*.py"))
    files = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file()]
    named = set(re.findall(r"\b(?:AWS|TRUNKLINE)_[A-Z_]+\b", "".join([*PAGES.values(), *files])))
    assert {"AWS_PROFILE", "TRUNKLINE_HEALTH_ADDRESS"} <= named
    # One of them is put together where it is read.
    assert {
        name for name in named if name.removesuffix("_FILE") not in sources and name not in sources
    } == set()


def test_the_pages_name_every_file_and_no_other() -> None:
    linked = set(re.findall(r"\]\(\.\./(deploy/[^)]*)\)", "".join(PAGES.values())))
    named = linked | set(re.findall(r"deploy/[\w./-]*[\w]", "".join(PAGES.values())))
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    files = {str(path.relative_to(ROOT)) for path in DEPLOY.rglob("*") if path.is_file()}
    assert files - named == set()
