"""Where configuration comes from, and how sources are merged."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from tests.config.config_samples import MINIMAL, SampleComponents, as_data, problems, read_sources

from trunkline.collector.config import read, render
from trunkline.collector.config.nodes import Node
from trunkline.component.contract import ComponentId
from trunkline.errors import ConfigError

POLL = ComponentId("awsecscontainermetrics")


def test_files_by_path_and_uri(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(MINIMAL)
    expected = as_data(read_sources(f"yaml:{MINIMAL}"))
    assert as_data(read_sources(str(file))) == expected
    assert as_data(read_sources(f"file:{file}")) == expected
    assert as_data(read_sources("env:CONFIG", CONFIG=MINIMAL)) == expected
    assert read_sources(str(file)).receivers[POLL].place == f"{file}:2:13"


def test_later_sources_win(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(MINIMAL)
    (tmp_path / "b.yaml").write_text("receivers:\n  awsecscontainermetrics:\n    collection_interval: 5s\n")
    config = read_sources(str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"))
    assert config.receivers[POLL].config.collection_interval == 5.0
    assert config.receivers[POLL].place == f"{tmp_path}/b.yaml:2:3"


def test_null_replaces_a_map() -> None:
    found = problems(f"yaml:{MINIMAL}", "yaml:exporters: null")
    assert "no exporter configuration specified in config" in [problem.message for problem in found]


def test_lists_are_replaced() -> None:
    more = "yaml:service: {pipelines: {metrics: {exporters: [debug, debug/2]}}}"
    config = read_sources(f"yaml:{MINIMAL}", more, "yaml:exporters::debug/2::verbosity: detailed")
    pipeline = config.service.pipelines[ComponentId("metrics")]
    assert pipeline.exporters == (ComponentId("debug"), ComponentId("debug", "2"))
    assert pipeline.receivers == (POLL,)


def test_set_overrides_everything() -> None:
    config = read_sources(
        f"yaml:{MINIMAL}", sets=["receivers.awsecscontainermetrics.collection_interval=${env:S}s"], S="7"
    )
    assert config.receivers[POLL].config.collection_interval == 7.0


def test_set_needs_an_equal_sign() -> None:
    assert [str(one) for one in problems(f"yaml:{MINIMAL}", sets=["a.b"])] == [
        "--set a.b: missing equal sign (write --set key.sub=value)"
    ]


def test_problems_of_set_name_the_option_and_not_the_value() -> None:
    found = problems(f"yaml:{MINIMAL}", sets=["exporters.debug.token=hidden"])
    assert [one.place for one in found] == ["--set exporters.debug.token"]
    assert "hidden" not in str(found)


def test_content_of_the_environment_replaces_everything() -> None:
    config = read_sources("/nowhere.yaml", sets=["nonsense"], AOT_CONFIG_CONTENT=MINIMAL)
    assert config.receivers[POLL].place == "AOT_CONFIG_CONTENT:2:13"
    found = problems(f"yaml:{MINIMAL}", AOT_CONFIG_CONTENT="")
    assert [one.message for one in found] == ["empty configuration file"]


def test_expansion_comes_after_merging(tmp_path: Path) -> None:
    (tmp_path / "receivers.yaml").write_text("awsecscontainermetrics:\n  collection_interval: ${env:EVERY}\n")
    included = f"yaml:receivers: ${{file:{tmp_path}/receivers.yaml}}"
    config = read_sources(f"yaml:{MINIMAL}", included, EVERY="3s")
    assert config.receivers[POLL].config.collection_interval == 3.0
    assert config.receivers[POLL].place == f"{tmp_path}/receivers.yaml:1:1"


def test_sources_that_cannot_be_read(tmp_path: Path) -> None:
    def check(source: str, expected: str) -> None:
        assert expected in "\n".join(map(str, problems(source)))

    check(f"{tmp_path}/none.yaml", "No such file or directory")
    check(str(tmp_path), "Is a directory")
    check("https://example.com/a.yaml", 'scheme "https" is not supported')
    check("env:1", "has invalid name")
    check("yaml:[a]", "it is not a map")
    check("yaml:a: [", "not valid YAML")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    check(f"{tmp_path}/latin.yaml", "byte 3 is not UTF-8")


def test_a_source_is_needed() -> None:
    assert [one.message for one in problems()] == ["at least one config flag must be provided"]


def test_problems_come_in_the_order_of_sources_and_lines(tmp_path: Path) -> None:
    lines = "\n".join(f"key{n}: 1" for n in range(12))
    (tmp_path / "z.yaml").write_text(MINIMAL + lines)
    (tmp_path / "a.yaml").write_text("last: 1")
    found = problems(str(tmp_path / "z.yaml"), str(tmp_path / "a.yaml"))
    assert [one.message.rpartition(" ")[2] for one in found] == [*(f"key{n}" for n in range(12)), "last"]


def test_rendered_problems_have_a_heading() -> None:
    with pytest.raises(ConfigError) as caught:
        read([f"yaml:{MINIMAL}\nfoo: 1\nbar: 2"], {}, SampleComponents())
    lines = render(caught.value).splitlines()
    assert lines[0] == "invalid configuration: 2 problems"
    assert [line.split(": ")[0] for line in lines[1:]] == ["  yaml:receivers:6:1", "  yaml:receivers:7:1"]
    [one] = problems(f"yaml:{MINIMAL}", "yaml:exporters::debug::tokn: hidden")
    assert (one.place, "hidden" in str(one)) == ("yaml:exporters::debug::tokn", False)


def test_nothing_keeps_the_tree_alive() -> None:
    config = read_sources(f"yaml:{MINIMAL}")
    gc.collect()
    assert config.receivers
    assert not any(type(one) is Node for one in gc.get_objects())
