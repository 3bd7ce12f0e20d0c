"""What goes into an image, which program builds it, and how it is told; no image is built here."""

from __future__ import annotations

import argparse
import platform
import re
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import pytest

from trunkline.cli import images as command
from trunkline.errors import FleetError, UsageError
from trunkline.fleet.images.build import Recipe, build_images
from trunkline.fleet.images.context import Wheel, fingerprint, lay_out
from trunkline.fleet.images.registry import Registry, ecr_registry, push_built
from trunkline.fleet.images.tools import Tool, find_tool

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
ROOT = Path(__file__).parents[2]
PINS = resources.files("trunkline.fleet.images")


def programs(folder: Path, **scripts: str) -> Mapping[str, str]:
    """An environment in which only these shell scripts are on the PATH."""
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


def a_wheel(folder: Path, tags: str = "py3-none-any") -> Path:
    path = folder / f"trunkline-0.1.0-{tags}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("trunkline/__init__.py", "")
    return path


def test_the_first_program_that_answers_is_taken(tmp_path: Path) -> None:
    environment = programs(tmp_path, docker="echo no daemon >&2; exit 1", buildah="", finch="")
    assert find_tool(environment=environment).kind.name == "buildah"
    assert find_tool("finch", environment).kind.name == "finch"


def test_why_no_program_can_be_used(tmp_path: Path) -> None:
    def check(wanted: str, kind: type[Exception], *said: str) -> None:
        with pytest.raises(kind) as caught:
            find_tool(wanted, programs(tmp_path, docker="echo no daemon >&2; exit 1"))
        for text in said:
            assert text in str(caught.value)

    check("", FleetError, "docker: no daemon (start its daemon", "podman: not on the PATH", "apt-get install")
    check("docker", FleetError, "docker: no daemon")
    check("kaniko", UsageError, "--with kaniko: Trunkline knows docker, podman, buildah, finch")


def test_a_failed_command_is_told_with_its_last_lines_and_a_remedy(tmp_path: Path) -> None:
    script = 'test "$1" = info || { seq 20; echo disk full >&2; exit 7; }'
    tool = find_tool("podman", programs(tmp_path, podman=script, seq="exec /usr/bin/seq $1"))
    with pytest.raises(FleetError) as caught:
        tool.run("push", "here", remedy="make room")
    lines = str(caught.value).splitlines()
    assert lines[0] == "`podman push here` ended with exit code 7:"
    assert lines[-2:] == ["  disk full", "make room"]
    assert len(lines) == 14


def recorded(tmp_path: Path, name: str) -> tuple[Tool, Path]:
    """A program that only writes down how it was called."""
    log = tmp_path / "calls"
    return find_tool(name, programs(tmp_path / "bin", **{name: f'echo "$@" >>{log}'})), log


def test_programs_are_called_in_their_own_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    def check(name: str, expected: set[str], unexpected: set[str]) -> None:
        folder = tmp_path / name
        folder.mkdir()
        tool, log = recorded(folder, name)
        recipe = Recipe(base="mine:1", wheel=a_wheel(folder), requirements="# nothing\n")
        [built] = build_images(["application"], tool, recipe)
        assert re.fullmatch(r"localhost/trunkline-demo-application:0\.1\.0-[0-9a-f]{12}", built.name)
        [line] = [line for line in log.read_text().splitlines() if line.startswith("build")]
        assert line.startswith("build --build-arg BASE=mine:1 ")
        assert expected <= set(line.split())
        assert not unexpected & set(line.split())

    oci = {"--timestamp", "--annotation", "org.opencontainers.image.title=trunkline-demo-application"}
    check("docker", set(), oci)
    check("podman", oci, set())


def test_a_wheel_of_another_processor_is_built_for_its_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    other, name = ("aarch64", "arm64") if platform.machine() == "x86_64" else ("x86_64", "amd64")
    tool, log = recorded(tmp_path, "docker")
    wheel = a_wheel(tmp_path, f"cp313-cp313-manylinux_2_28_{other}")
    [built] = build_images(["application"], tool, Recipe(wheel=wheel, requirements="# nothing\n"))
    assert f"--platform linux/{name}" in log.read_text()
    assert built.base == "docker.io/library/python:3.13-slim"


def test_what_the_name_of_a_wheel_says(tmp_path: Path) -> None:
    def check(tags: str, python: str, machine: str) -> None:
        wheel = Wheel.read(a_wheel(tmp_path, tags))
        assert (wheel.version, wheel.python, wheel.machine) == ("0.1.0", python, machine)

    check("py3-none-any", HERE, "")
    check("cp313-cp313-linux_x86_64", "3.13", "x86_64")
    check("cp312-cp312-manylinux_2_17_aarch64.manylinux2014_aarch64", "3.12", "aarch64")


def test_a_wheel_that_cannot_be_used(tmp_path: Path) -> None:
    def check(path: Path, said: str) -> None:
        with pytest.raises(UsageError, match=said):
            Wheel.read(path)

    check(
        tmp_path / "trunkline-0.1.0-py3-none-any.whl", "there is no wheel of Trunkline of that name; make one"
    )
    check(
        a_wheel(tmp_path, "cp313-cp313-macosx_11_0_arm64"),
        "it is for macosx_11_0_arm64, and images are for Linux",
    )


def test_the_folder_can_be_built_without_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    wheel = Wheel.read(a_wheel(tmp_path))
    lay_out(tmp_path / "out", "collector", wheel, "receivers: {}\n", "# nothing\n")
    recipe = (tmp_path / "out" / "Dockerfile").read_text()
    arguments = re.findall(r"^ARG (.*)$", recipe, re.MULTILINE)
    assert arguments == [
        f"BASE=docker.io/library/python:{HERE}-slim",
        f"WHEEL_PYTHON={HERE}",
        "VERSION=0.1.0",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "Dockerfile",
        "collector.yaml",
        "opt",
    ]
    assert (tmp_path / "out" / "collector.yaml").read_text() == "receivers: {}\n"


def test_the_fingerprint_changes_with_a_name_a_content_and_the_base(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    first = fingerprint(tmp_path, "base")
    assert fingerprint(tmp_path, "base") == first
    file.write_text("2")
    second = fingerprint(tmp_path, "base")
    file.rename(tmp_path / "b")
    assert len({first, second, fingerprint(tmp_path, "base"), fingerprint(tmp_path, "other")}) == 4


def pins(text: str) -> dict[str, str]:
    """Each package and everything that is said of it, hashes included."""
    blocks = re.split(r"\n(?=\S)", text.strip())
    return {block.partition("==")[0]: block.strip() for block in blocks}


def test_images_hold_what_the_collector_needs_in_the_pinned_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everything = pins((ROOT / "requirements" / "demo.txt").read_text())
    needed = {re.split(r"[=<>\[ ]", each)[0] for each in project["dependencies"]}

    def check(kind: str, names: set[str]) -> None:
        pinned = pins((PINS / f"{kind}.txt").read_text())
        assert names <= set(pinned)
        assert pinned == {name: everything[name] for name in pinned}

    check("collector", needed)
    check("application", {"prometheus-client"})


def test_wrong_words_on_the_command_line(tmp_path: Path) -> None:
    def check(arguments: list[str], said: str) -> None:
        parser = argparse.ArgumentParser()
        command.configure(parser)
        options = parser.parse_args(arguments)
        with pytest.raises(UsageError, match=said):
            options.run(options)

    check(["build", "gateway"], "there is no image 'gateway': say collector or application")
    check(
        ["build", "--config", str(tmp_path / "none.yaml")], "--config .*none.yaml: No such file or directory"
    )


class _Ecr:
    """An ECR client's answer, as far as it is used."""

    def __init__(self, **data: str) -> None:
        self._data = data

    def get_authorization_token(self) -> dict[str, object]:
        return {"authorizationData": [self._data]}


def test_a_token_that_cannot_be_read() -> None:
    def check(**data: str) -> None:
        with pytest.raises(FleetError, match="authorization token"):
            ecr_registry(_Ecr(**data))

    check(proxyEndpoint="https://registry")
    check(proxyEndpoint="https://registry", authorizationToken="%")
    check(proxyEndpoint="https://registry", authorizationToken="QVdT")


def test_a_registry_that_does_not_answer_is_told_before_anything_is_pushed(tmp_path: Path) -> None:
    tool, log = recorded(tmp_path, "podman")
    recipe = Recipe(base="b:1", wheel=a_wheel(tmp_path), requirements="# nothing\n")
    [built] = build_images(["application"], tool, recipe)
    registry = Registry("http://127.0.0.1:9", "AWS", "secret")
    assert "secret" not in repr(registry)
    with pytest.raises(
        FleetError, match=r"http://127\.0\.0\.1:9/v2/a/manifests/.* did not answer: .*refused"
    ):
        push_built(built, registry, "a")
    assert "login" not in log.read_text()
