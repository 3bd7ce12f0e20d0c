"""`trunkline dashboards push` against a stand-in that checks what Grafana's documentation asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.dashboards.grafana_stand_in import GrafanaStandIn, running

from trunkline.cli.main import main
from trunkline.dashboards.grafana import Grafana
from trunkline.dashboards.rendering import dashboards

TOKEN = "glsa_notARealTokenButLongEnough_0123abcd"
TITLES = [each["title"] for each in dashboards()]


@pytest.fixture
def grafana() -> Iterator[GrafanaStandIn]:
    with running(GrafanaStandIn(TOKEN)) as found:
        yield found


def push(url: str, capsys: pytest.CaptureFixture[str], token: str = TOKEN) -> tuple[int, str, str]:
    code = main(["dashboards", "push", "--url", url, "--token", token])
    said = capsys.readouterr()
    assert token not in said.out + said.err
    return code, said.out, said.err


def outcomes(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()]


def test_folder_and_dashboards_are_made(grafana: GrafanaStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = push(grafana.url, capsys)
    assert (code, err) == (0, "")
    assert outcomes(out) == ["created"] * len(TITLES)
    assert f"{grafana.url}/d/trunkline-fleet/x" in out
    assert grafana.folders["trunkline"]["title"] == "Trunkline"
    assert [each["dashboard"]["title"] for each in grafana.dashboards.values()] == TITLES
    assert {each["meta"]["folderUid"] for each in grafana.dashboards.values()} == {"trunkline"}


def test_again_nothing_is_written(grafana: GrafanaStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    push(grafana.url, capsys)
    grafana.asked.clear()
    code, out, _ = push(grafana.url, capsys)
    assert (code, outcomes(out)) == (0, ["unchanged"] * len(TITLES))
    assert all(asked.startswith("GET ") for asked in grafana.asked)


def test_what_somebody_changed_is_put_right(
    grafana: GrafanaStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    push(grafana.url, capsys)
    grafana.dashboards["trunkline-service"]["dashboard"]["panels"] = []
    grafana.dashboards["trunkline-fleet"]["meta"]["folderUid"] = "elsewhere"
    code, out, _ = push(grafana.url, capsys)
    assert (code, outcomes(out)) == (0, ["updated", "updated", "unchanged", "unchanged"])
    assert grafana.dashboards["trunkline-service"]["dashboard"]["panels"]
    assert grafana.dashboards["trunkline-service"]["dashboard"]["version"] == 2
    assert grafana.dashboards["trunkline-fleet"]["meta"]["folderUid"] == "trunkline"


def test_grafana_may_be_served_under_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    with running(GrafanaStandIn(TOKEN, prefix="/grafana")) as grafana:
        code, out, _ = push(f"{grafana.url}/", capsys)
        assert code == 0
        assert f"http://127.0.0.1:{grafana.port}/grafana/d/trunkline-fleet/x" in out


def test_the_token_may_come_from_the_environment(
    grafana: GrafanaStandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)
    assert main(["dashboards", "push", "--url", grafana.url]) == 0
    monkeypatch.delenv("GRAFANA_TOKEN")
    assert main(["dashboards", "push", "--url", grafana.url]) == 2
    said = capsys.readouterr()
    assert "GRAFANA_TOKEN" in said.err
    assert TOKEN not in said.out + said.err
    assert TOKEN not in repr(Grafana(grafana.url, TOKEN))


def test_a_wrong_token_is_explained(grafana: GrafanaStandIn, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = push(grafana.url, capsys, token="glsa_wrong")
    assert code == 1
    assert (
        f"GET {grafana.url}/api/folders/trunkline was answered 401 Invalid API key; the token is wrong" in err
    )


def test_grafanas_words_are_passed_on_without_the_token(
    grafana: GrafanaStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    grafana.broken = (403, json.dumps({"message": f"no permission for {TOKEN}"}).encode(), {})
    code, _, err = push(grafana.url, capsys)
    assert code == 1
    assert "403 no permission for …; the token's service account may not do this" in err


def test_a_redirect_is_not_followed_with_the_token(
    grafana: GrafanaStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(GrafanaStandIn(TOKEN)) as other:
        grafana.broken = (302, b"", {"Location": f"{other.url}/login"})
        code, _, err = push(grafana.url, capsys)
        assert code == 1
        assert f"moved to {other.url}/login: give that as --url" in err
        assert other.asked == []


def test_something_else_than_grafana_is_named(
    grafana: GrafanaStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    for answer in (b"<html>hello</html>", b"[]", b'{"status": "ok"}'):
        grafana.broken = (200, answer, {})
        code, _, err = push(grafana.url, capsys)
        assert code == 1
        assert "did not answer as Grafana does; is it the right address?" in err


def test_nobody_there_and_no_address(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = push("http://127.0.0.1:9", capsys)
    assert code == 1
    assert "http://127.0.0.1:9 cannot be reached" in err
    code, _, err = push("grafana.example.com", capsys)
    assert code == 2
    assert "write Grafana's address as https://host" in err
