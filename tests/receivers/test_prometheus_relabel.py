from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Mapping, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.receivers.judge import PROMETHEUS, prometheus

from trunkline.receivers.prometheus.config import PrometheusConfig, PrometheusFile, ScrapeConfig
from trunkline.receivers.prometheus.job import jobs_of
from trunkline.receivers.prometheus.relabel import RelabelConfig, Scheme, relabel, rules_of
from trunkline.receivers.prometheus.target import make_target

CASES = json.loads((Path(__file__).parent / "data" / "relabel_cases.json").read_text())["cases"]


def relabelled(labels: Mapping[str, str], *rules: Mapping[str, Any], scheme: Scheme = "utf8") -> object:
    """The labels after the rules, None if they are dropped."""
    changed = dict(labels)
    kept = relabel(changed, rules_of([RelabelConfig(**rule) for rule in rules], scheme))
    return changed if kept else None


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_cases_of_the_reference(case: Mapping[str, Any]) -> None:
    assert relabelled(case["labels"], *case["rules"]) == case["expected"]


def test_groups_are_those_of_go() -> None:
    def check(regex: str, replacement: str, expected: str) -> None:
        rule = {"source_labels": ["a"], "regex": regex, "replacement": replacement, "target_label": "b"}
        found = relabelled({"a": "x-y"}, rule)
        assert isinstance(found, dict)
        assert found.get("b", "") == expected

    check("(.)-(.)", "$2$1", "yx")
    check("(.)-(.)", "${2}1", "y1")
    check("(?P<left>.)-.", "$left!", "x!")
    check("(.)-(.)", "$$1", "$1")
    check("(.)-(.)", "$3", "")
    check("(.)-(.)", "$01", "")
    check("(.)-(.)", "a$", "a$")
    check("(.)-(.)", "${1", "${1")
    check("(.)(z)?-.", "$1$2", "x")
    check("x-y", "$0$1", "x-y")
    check("x-y|z", "$0", "x-y")


def test_letters_change_one_for_one() -> None:
    def check(action: str, value: str, expected: str) -> None:
        rule = {"source_labels": ["a"], "target_label": "b", "action": action}
        assert relabelled({"a": value}, rule) == {"a": value, "b": expected}

    check("lowercase", "ÀÉİ", "àéi")
    check("uppercase", "straße ŉ ᾳ", "STRAßE ŉ ᾼ")


def test_the_legacy_scheme_refuses_other_label_names() -> None:
    rule = {"source_labels": ["a"], "target_label": "$1", "replacement": "v"}
    assert relabelled({"a": "é-1"}, rule) == {"a": "é-1", "é-1": "v"}
    assert relabelled({"a": "é-1"}, rule, scheme="legacy") == {"a": "é-1"}


def test_what_is_wrong_with_a_rule_is_said_in_prometheus_words() -> None:
    def check(expected: str, scheme: Scheme = "utf8", **rule: Any) -> None:
        assert [message for _, message in RelabelConfig(**rule).check(scheme)] == [expected]

    check("relabel configuration for hashmod requires non-zero modulus", action="hashmod", target_label="a")
    for action in ("replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal"):
        check(
            f"relabel configuration for {action} action requires 'target_label' value",
            action=action,
            modulus=int(action == "hashmod"),
        ) if action not in ("keepequal", "dropequal") else check(
            f"relabel configuration for {action} action requires 'target_label' value", action=action
        )
    check("\"é\" is invalid 'target_label' for replace action", scheme="legacy", target_label="é")
    check("\"$1-\" is invalid 'target_label' for replace action", scheme="legacy", target_label="$1-")
    check(
        "\"-\" is invalid 'replacement' for labelmap action",
        scheme="legacy",
        action="labelmap",
        replacement="-",
    )
    check(
        "'replacement' can not be set for lowercase action",
        action="lowercase",
        target_label="a",
        replacement="x",
    )
    check(
        "keepequal action requires only 'source_labels' and `target_label`, and no other fields",
        action="keepequal",
        target_label="a",
        regex="x",
    )
    check("labeldrop action requires only 'regex', and no other fields", action="labeldrop", target_label="a")
    [unknown] = [message for _, message in RelabelConfig(action="mangle").check()]
    assert unknown.startswith('unknown relabel action "mangle"; valid actions: replace, keep')
    [(key, message)] = RelabelConfig(regex="(", target_label="a").check()
    assert (key, message.startswith("error parsing regexp: missing )")) == ("regex", True)


NAMES = st.sampled_from(["a", "b", "c_1", "__tmp", "été"])
VALUES = st.sampled_from(["x", "y", "x;y", "X-1", "\n", "ß"])
LABELS = st.dictionaries(NAMES, VALUES)


@given(LABELS, st.lists(NAMES), st.integers(1, 1 << 64))
def test_hashmod_is_the_end_of_md5(labels: dict[str, str], names: list[str], modulus: int) -> None:
    found = relabelled(
        labels, {"source_labels": names, "target_label": "h", "action": "hashmod", "modulus": modulus}
    )
    joined = ";".join(labels.get(name, "") for name in names)
    assert found == {**labels, "h": str(int(md5(joined.encode()).hexdigest()[16:], 16) % modulus)}


@given(LABELS, NAMES, st.sampled_from(["x", "x|y", ".*", "(x|y).*", "", "X-."]))
def test_keep_and_drop_are_opposites(labels: dict[str, str], name: str, regex: str) -> None:
    kept = relabelled(labels, {"source_labels": [name], "regex": regex, "action": "keep"})
    dropped = relabelled(labels, {"source_labels": [name], "regex": regex, "action": "drop"})
    assert (kept is None) is not (dropped is None)
    assert labels in (kept, dropped)


@given(LABELS, st.sampled_from(["a", "a|b", "[a-c].*", "__.*", ".+", "(?i)A"]))
def test_labelkeep_and_labeldrop_share_the_labels(labels: dict[str, str], regex: str) -> None:
    kept = relabelled(labels, {"regex": regex, "action": "labelkeep"})
    dropped = relabelled(labels, {"regex": regex, "action": "labeldrop"})
    assert isinstance(kept, dict)
    assert isinstance(dropped, dict)
    assert {**kept, **dropped} == labels
    assert not kept.keys() & dropped.keys()


@given(LABELS, st.lists(st.sampled_from([case["rules"] for case in CASES]), max_size=3))
def test_no_rule_leaves_an_empty_label(labels: dict[str, str], chosen: list[list[dict[str, Any]]]) -> None:
    found = relabelled(labels, *(rule for rules in chosen for rule in rules))
    assert found is None or (isinstance(found, dict) and all(found) and all(found.values()))


def random_rules(chance: random.Random) -> list[dict[str, Any]]:
    names = ["__address__", "job", "zone", "path", "__meta_x", "__tmp", "instance", "missing", "__scheme__"]
    regexes = [
        "(.*)",
        "(.+)",
        "([^:]+):(.*)",
        "a|b",
        "x",
        "(?i)(A|b).*",
        "",
        "__meta_(.+)",
        "z.*",
        ".*[0-9]$",
    ]
    replacements = ["$1", "${1}_x", "$2", "v", "", "$1-$2", "$$x", "$1_x"]

    def rule() -> dict[str, Any]:
        action = chance.choice(
            ["replace"] * 6
            + ["keep", "drop", "keepequal", "dropequal", "hashmod", "labelmap", "labeldrop", "labelkeep"]
            + ["lowercase", "uppercase"]
        )
        sources = {"source_labels": chance.sample(names, chance.randint(1, 2)), "action": action}
        target = chance.choice(
            ["zone", "path", "new", "instance", "__tmp", "__metrics_path__", "__param_q", "job"]
        )
        regex = chance.choice(regexes)
        if action == "replace":
            return {
                **sources,
                "regex": regex,
                "target_label": target,
                "replacement": chance.choice(replacements),
            }
        if action in ("keep", "drop"):
            return {**sources, "regex": regex}
        if action in ("keepequal", "dropequal", "lowercase", "uppercase"):
            return {**sources, "target_label": target}
        if action == "hashmod":
            return {**sources, "target_label": target, "modulus": chance.randint(1, 1000)}
        if action == "labelmap":
            return {"action": action, "regex": "(?:__meta_)?(zone|x)", "replacement": "m_$1"}
        return {
            "action": action,
            "regex": chance.choice(["zone", "__meta_.*", "m_.*"])
            if action == "labeldrop"
            else "__.*|job|zone|path",
        }

    return [rule() for _ in range(chance.randint(1, 4))]


GROUPS: Sequence[Mapping[str, Any]] = [
    {"targets": ["a:1", "b.example:2"], "labels": {"zone": "A", "path": "x", "__meta_x": "a:b"}},
    {"targets": ["c:3"], "labels": {"instance": "own", "__param_z": "1 2", "__metrics_path__": "/p/é?x"}},
]


def random_jobs(count: int) -> list[dict[str, Any]]:
    chance = random.Random(20)
    return [
        {
            "job_name": f"j{number}",
            "scrape_interval": "1h",
            "params": {"q": ["first", "second"], "r": ["&"]},
            "static_configs": GROUPS,
            "relabel_configs": random_rules(chance),
        }
        for number in range(count)
    ]


@pytest.mark.skipif(PROMETHEUS is None, reason="Prometheus is not installed")
async def test_targets_are_those_of_prometheus(tmp_path: Path) -> None:
    """Labels, URL, and which targets are dropped, of random rules; times and addresses as the API shows them."""
    jobs = random_jobs(250)
    made = {job["job_name"]: ours(job) for job in jobs}
    expected: dict[str, list[tuple[str, str]]] = {job["job_name"]: [] for job in jobs}
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    async with (
        prometheus(tmp_path, {"scrape_configs": jobs}, port) as url,
        aiohttp.ClientSession() as session,
    ):
        active: list[dict[str, Any]] = []
        for _ in range(100):
            if len(active) >= sum(map(len, made.values())):
                break
            await asyncio.sleep(0.1)
            async with session.get(f"{url}/api/v1/targets?state=active") as response:
                active = (await response.json())["data"]["activeTargets"]
    for one in active:
        expected[one["scrapePool"]].append((json.dumps(one["labels"], sort_keys=True), one["scrapeUrl"]))
    for job in jobs:
        assert sorted(made[job["job_name"]]) == sorted(set(expected[job["job_name"]])), job


def ours(settings: Mapping[str, Any]) -> set[tuple[str, str]]:
    scrape = ScrapeConfig(
        job_name=settings["job_name"],
        scrape_interval=3600.0,
        params=settings["params"],
        relabel_configs=[RelabelConfig(**rule) for rule in settings["relabel_configs"]],
    )
    [job] = jobs_of(PrometheusConfig(config=PrometheusFile(scrape_configs=[scrape])))
    found = set()
    for group in settings["static_configs"]:
        for address in group["targets"]:
            try:
                target = make_target(job, {"__address__": address}, group["labels"])
            except ValueError:
                continue
            if target is not None:
                found.add((json.dumps(dict(target.labels), sort_keys=True), target.url))
    return found
