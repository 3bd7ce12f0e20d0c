"""`trunkline fleet`: what does not ask AWS, and the way of a fleet through a front door before an emulator."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.simulator.frontdoor_live import Live, running

from trunkline.cli.main import main
from trunkline.fleet.file import read_fleet
from trunkline.fleet.schema import schema_text

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fleet.yaml"
ACCOUNTS = ("111111111111", "222222222222", "333333333333")
TEXT = """
name: cli
monitoring: {account: "111111111111", region: eu-west-1}
credentials: {profile: "{account}"}
services: [{name: shop}]
workloads: [{account: "222222222222"}, {account: "333333333333"}]
"""

SMALL = TEXT.replace(', {account: "333333333333"}', "")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.fixture(scope="module")
def profiles(live: Live, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A credentials file in which each account is a profile."""
    lines = []
    for account in ACCOUNTS:
        key = live.door.add_account(account)
        lines += [f"[{account}]", f"aws_access_key_id = {key.access_key_id}"]
        lines += [f"aws_secret_access_key = {key.secret_access_key}"]
    path = tmp_path_factory.mktemp("aws") / "credentials"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def cloud(live: Live, profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the endpoint and the profiles is changed, and nobody is there to be asked."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", live.door.url)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profiles))


def fleet(*arguments: object) -> int:
    return main(["fleet", *map(str, arguments)])


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_check_counts_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    assert fleet("check", "-f", EXAMPLE) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{EXAMPLE} is a fleet: 2 workload accounts, 2 services, 7 stacks"
    assert all(line.startswith("note: ") for line in lines[:-1])
    assert fleet("check", "-f", EXAMPLE, "--json") == 0
    found = document(capsys)
    assert (found["ok"], found["accounts"], found["stacks"]) == (True, 2, 7)
    assert {note["path"] for note in found["notes"]} >= {"services::prometheus-demo-app::logging"}


def test_check_says_all_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(TEXT.replace("eu-west-1", "eu-west-9").replace("22222222", "2222222a"))
    assert fleet("check", "-f", path) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "invalid configuration: 2 problems"
    assert said[1].startswith(f"  {path}:3:47: monitoring::region: there is no region 'eu-west-9'")
    assert fleet("check", "-f", path, "--json") == 2
    assert [problem["path"] for problem in document(capsys)["problems"]] == [
        "monitoring::region",
        "workloads::0::account",
    ]


def test_check_writes_the_templates_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = "\n".join(f'  - {{account: "{number:012}"}}' for number in range(200))
    path = tmp_path / "fleet.yaml"
    path.write_text(TEXT.partition("workloads:")[0] + f"workloads:\n{many}\n")
    assert fleet("check", "-f", path) == 2
    assert "200" in capsys.readouterr().err


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert fleet("schema") == 0
    assert capsys.readouterr().out == schema_text()


def test_init_from_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fleet.yaml"
    flags = ("--monitoring", "111111111111", "--region", "eu-west-1", "--workload", "222222222222:us-east-1")
    assert fleet("init", "--out", path, *flags) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(path)
    assert fleet("check", "-f", path) == 0
    assert fleet("init", "--out", path, *flags) == 2
    assert "--force" in capsys.readouterr().err
    assert fleet("init", "--out", path, "--force", *flags) == 0


def test_init_says_which_flags_where_nobody_can_be_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fleet("init", "--out", tmp_path / "fleet.yaml", "--region", "eu-west-1") == 2
    assert "Say --monitoring ID" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_init_asks_whoever_is_there(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    terminal, side = pty.openpty()
    os.write(terminal, b"111111111111\n\n222222222222:us-east-1 333333333333\n\nbilling\n\n\n")
    command = [sys.executable, "-m", "trunkline", "fleet", "init", "--out", str(path)]
    try:
        done = subprocess.run(command, stdin=side, capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(terminal)
        os.close(side)
    assert done.returncode == 0, done.stderr
    assert "Region of the workspace [eu-west-1]: " in done.stdout
    fleet = read_fleet(path)
    assert [account.regions for account in fleet.workloads] == [("us-east-1",), ("eu-west-1",)]
    assert fleet.workloads[0].services[0].name == "billing"


def test_render_lists_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert fleet("render", "-f", EXAMPLE, "--out", out, "--json") == 0
    paths = [Path(name) for name in document(capsys)]
    assert out / "templates/222222222222/eu-west-1/trunkline-services.json" in paths
    assert all(path.is_file() for path in paths)
    (tmp_path / "file").write_text("")
    assert fleet("render", "-f", EXAMPLE, "--out", tmp_path / "file" / "x") == 2


@pytest.mark.usefixtures("cloud")
def test_nothing_is_changed_where_nobody_can_be_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(TEXT)
    for action in (("deploy", "--no-preflight"), ("destroy",)):
        assert fleet(*action, "-f", path) == 2
        assert "say --yes" in capsys.readouterr().err
    assert fleet("plan", "-f", path, "--json") == 0
    assert {stack["action"] for stack in document(capsys)["stacks"]} == {"create"}


@pytest.mark.usefixtures("cloud")
def test_whoever_is_asked_sees_the_plan_and_may_say_no(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(SMALL)
    terminal, side = pty.openpty()
    os.write(terminal, b"y\n")
    command = [sys.executable, "-m", "trunkline", "fleet", "deploy", "-f", str(path), "--no-preflight"]
    try:
        done = subprocess.run(command, stdin=side, capture_output=True, text=True, timeout=60, check=False)
    finally:
        os.close(terminal)
        os.close(side)
    assert done.returncode == 2
    assert "+ cli-services (create)" in done.stdout
    assert (
        "Deploy the fleet cli into 111111111111 and 1 workload account? Only `yes` is a yes: " in done.stdout
    )
    assert done.stderr == "trunkline: nothing was changed\n"


@pytest.mark.usefixtures("cloud")
def test_the_way_of_a_fleet(tmp_path: Path, capsys: pytest.CaptureFixture[str], live: Live) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(SMALL)
    quick = ("--yes", "--no-preflight", "--no-verify", "--json")
    assert fleet("plan", "-f", path, "--no-color") == 0
    assert "+ cli-monitoring (create)" in capsys.readouterr().out

    assert fleet("deploy", "-f", path, *quick) == 0
    deployed = document(capsys)
    assert deployed["changed"]
    assert {account["state"] for account in deployed["accounts"]} == {"changed"}
    assert deployed["workspace_id"].startswith("ws-")

    assert fleet("deploy", "-f", path, *quick) == 0
    assert not document(capsys)["changed"]
    assert fleet("plan", "-f", path, "--json") == 0
    assert not document(capsys)["changes"]

    iam = live.client("iam", ACCOUNTS[0], credentials=live.door.add_account(ACCOUNTS[0]))
    iam.delete_role_policy(RoleName="ECS-AMP-Central-Role", PolicyName="remote-write")
    assert fleet("plan", "-f", path, "--json") == 0
    assert not document(capsys)["changes"]
    assert fleet("plan", "-f", path, "--repair", "--json") == 0
    changes = [each for stack in document(capsys)["stacks"] for each in stack["resources"]]
    assert [(each["logical_id"], each["drift"]) for each in changes] == [("CentralRole", "changed")]
    assert fleet("deploy", "-f", path, *quick, "--repair") == 0
    assert document(capsys)["changed"]

    fleet("status", "-f", path, "--json")
    stacks = document(capsys)["stacks"]
    assert [stack["status"] for stack in stacks] == ["UPDATE_COMPLETE", *["CREATE_COMPLETE"] * 3]
    assert not any(stack["drift"] for stack in stacks)

    assert (
        fleet("verify", "-f", path, "--json") == 1
    )  # there is no workspace gateway here that could be asked
    links = document(capsys)["links"]
    assert {link["state"] for link in links if link["name"] in {"trust", "task role", "central role"}} == {
        "ok"
    }

    assert fleet("destroy", "-f", path, "--yes", "--json", "--images", "--logs", "--data") == 0
    gone = document(capsys)
    assert (gone["proof"]["clean"], gone["proof"]["left"], gone["proof"]["kept"]) == (True, [], [])
    assert fleet("destroy", "-f", path, "--yes") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ["nothing had to be removed", "nothing of the fleet is left in any account or region"]


@pytest.mark.usefixtures("cloud")
def test_some_accounts_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(
        TEXT.replace("name: cli", "name: some").replace(
            '"333333333333"}', '"444444444444", credentials: {profile: nobody}}'
        )
    )
    assert fleet("deploy", "-f", path, "--yes", "--no-preflight", "--no-verify") == 3
    said = capsys.readouterr().out
    assert "222222222222  changed" in said
    assert "444444444444  failed" in said
    assert fleet("plan", "-f", path) == 3


def test_without_a_simulator_the_option_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(TEXT)
    assert fleet("plan", "-f", path, "--state-dir", tmp_path / "none") == 1
    assert "simulator" in capsys.readouterr().err
