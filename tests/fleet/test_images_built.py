"""Images built with buildah on a base made here, pushed to a registry on this machine, pulled back and run.

The container is what a runtime makes of it: its own mounts, the root file system read-only, the user and the entry
point of the image, and a volume that takes over the owner of its folder.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3
import pytest
from tests.fleet.base_image import make_base
from tests.fleet.conftest import APART, MONITORING

from trunkline.cli import images as cli
from trunkline.errors import FleetError
from trunkline.fleet.deploy import deploy_fleet, destroy_fleet
from trunkline.fleet.images.build import Built, Recipe, build_images
from trunkline.fleet.images.context import make_wheel
from trunkline.fleet.images.named import TITLES, ImageKind
from trunkline.fleet.images.registry import Pushed, Registry, ecr_registry, find_digest, push_built
from trunkline.fleet.images.tools import Tool, find_tool
from trunkline.fleet.model import Fleet, MonitoringAccount, Service, WorkloadAccount
from trunkline.fleet.own_images import OwnImages
from trunkline.fleet.preflight import preflight
from trunkline.fleet.sessions import Sessions
from trunkline.simulator.agent import PROGRAMS, _program

NOT_THERE = [name for name in ("buildah", "docker-registry", "unshare") if shutil.which(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(NOT_THERE), reason=f"not installed: {', '.join(NOT_THERE)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount and to change the user"),
]

PASSWORD = "password-for-tests"
HTPASSWD = "AWS:$2b$04$aAR8IJBFdcFa3ymtRUd1kewU/etHtYQ5Ux3AsBOd8OYJbpAIXfTba\n"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIGURATION = """\
receivers:
  prometheus:
    config:
      scrape_configs:
        - job_name: trunkline
          scrape_interval: 1s
          static_configs: [{targets: ["${env:TRUNKLINE_METRICS_ADDRESS}"]}]
exporters:
  prometheusremotewrite: {endpoint: "http://127.0.0.1:9/nobody-is-there"}
service:
  pipelines:
    metrics: {receivers: [prometheus], exporters: [prometheusremotewrite]}
"""


@dataclass(frozen=True)
class Shop:
    """What the images are built with, and the two of them."""

    tool: Tool
    recipe: Recipe
    built: Mapping[str, Built]

    def again(self, **changes: Any) -> Recipe:
        return replace(self.recipe, **changes)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A store of its own, and a pip that finds only what is installed here."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "wheels")}.items():
            patch.setenv(name, value)
        yield {**os.environ, **a_store(folder)}


def a_store(folder: Path) -> dict[str, str]:
    """An empty store of images that needs no kernel module, and builds that need no runtime."""
    conf = folder / "storage.conf"
    conf.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n')
    return {"CONTAINERS_STORAGE_CONF": str(conf), "BUILDAH_ISOLATION": "chroot"}


@pytest.fixture(scope="module")
def shop(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("shop")
    recipe = Recipe(
        base=make_base(folder / "base", environment),
        wheel=make_wheel(folder / "wheel").path,
        configuration=CONFIGURATION,
        requirements=wheels_of_what_is_installed(
            Path(environment["PIP_FIND_LINKS"]), "pyyaml", "google-re2", "zlib-ng", "prometheus-client"
        ),
    )
    tool = find_tool("buildah", environment)
    return Shop(
        tool, recipe, {each.kind: each for each in build_images(["collector", "application"], tool, recipe)}
    )


def wheels_of_what_is_installed(folder: Path, *names: str) -> str:
    """Wheels of installed packages in `folder`, and a requirements file for them, hashes included."""
    folder.mkdir()
    for name in names:
        found = distribution(name)
        tags = [
            line[5:].split("-")
            for line in (found.read_text("WHEEL") or "").splitlines()
            if line[:5] == "Tag: "
        ]
        tag = "-".join(".".join(dict.fromkeys(part)) for part in zip(*tags, strict=True))
        with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{found.version}-{tag}.whl", "w") as archive:
            for file in found.files or ():
                if "__pycache__" not in file.parts and ".." not in file.parts:
                    archive.write(str(file.locate()), str(file))
    command = [sys.executable, "-m", "pip", "hash", *map(str, sorted(folder.iterdir()))]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    hashes = [line for line in printed if line.startswith("--hash")]
    return "".join(
        f"{path.name.split('-')[0]}=={path.name.split('-')[1]} {line}\n"
        for path, line in zip(sorted(folder.iterdir()), hashes, strict=True)
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def eventually(look: Callable[[], object], within_s: float = 15) -> None:
    """Wait until it is true; whatever is not there yet is not."""
    end = time.monotonic() + within_s
    while True:
        with suppress(OSError):
            if look():
                return
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def registry_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry that takes one user and one password."""
    folder = tmp_path_factory.mktemp("registry")
    address = f"127.0.0.1:{free_port()}"
    (folder / "htpasswd").write_text(HTPASSWD)
    settings = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
        "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.yml").write_text(json.dumps(settings))
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            eventually(lambda: listens(address))
            yield f"http://{address}"
        finally:
            process.terminate()


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=1):
        return True


@pytest.fixture(scope="module")
def ecr_url(registry_url: str) -> Iterator[str]:
    """As much of ECR as signing in needs: a token that is the password of the registry above."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["x-amz-target"].endswith(".GetAuthorizationToken")
            token = base64.b64encode(f"AWS:{PASSWORD}".encode()).decode()
            data = {
                "authorizationToken": token,
                "expiresAt": time.time() + 43200,
                "proxyEndpoint": registry_url,
            }
            body = json.dumps({"authorizationData": [data]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def registry(ecr_url: str) -> Registry:
    client = boto3.client(
        "ecr", "eu-west-1", endpoint_url=ecr_url, aws_access_key_id="AKIA", aws_secret_access_key="secret"
    )
    return ecr_registry(client)


@pytest.fixture(scope="module")
def pushed(shop: Shop, registry: Registry) -> dict[str, Pushed]:
    return {kind: push_built(built, registry, f"shop/{kind}") for kind, built in shop.built.items()}


def fetch(registry: Registry, pushed: Pushed, what: str) -> Any:
    """A manifest or a blob of a pushed image, read over HTTP and not through the tool that wrote it."""
    repository = pushed.repository_uri.partition("/")[2]
    secret = base64.b64encode(f"{registry.user}:{registry.password}".encode()).decode()
    headers = {"Authorization": f"Basic {secret}", "Accept": MANIFEST}
    with urlopen(Request(f"{registry.url}/v2/{repository}/{what}", headers=headers)) as response:
        return json.load(response)


def test_what_is_pushed_has_the_digest_that_is_said(registry: Registry, pushed: dict[str, Pushed]) -> None:
    image = pushed["collector"]
    assert not image.was_there
    manifest = fetch(registry, image, f"manifests/{image.digest}")
    assert manifest["mediaType"] == MANIFEST
    assert image.uri == f"{registry.host}/shop/collector@{image.digest}"
    assert find_digest(registry, "shop/collector", image.tag) == image.digest
    assert find_digest(registry, "shop/collector", "none") == ""


def test_pushing_again_pushes_nothing(shop: Shop, registry: Registry, pushed: dict[str, Pushed]) -> None:
    again = push_built(shop.built["collector"], registry, "shop/collector")
    assert again == replace(pushed["collector"], was_there=True)


def test_the_same_contents_have_the_same_digest(
    shop: Shop, registry: Registry, pushed: dict[str, Pushed], tmp_path: Path
) -> None:
    """Built anew in an empty store, at another time."""
    environment = {**shop.tool.environment, **a_store(tmp_path)}
    tool = replace(shop.tool, environment=environment)
    make_base(tmp_path / "base", environment)
    [built] = build_images(["collector"], tool, shop.recipe)
    assert built.name == shop.built["collector"].name
    assert push_built(built, registry, "shop/anew").digest == pushed["collector"].digest


def test_how_the_images_run(registry: Registry, pushed: dict[str, Pushed]) -> None:
    def config(kind: str) -> dict[str, Any]:
        digest = fetch(registry, pushed[kind], f"manifests/{pushed[kind].digest}")["config"]["digest"]
        return dict(fetch(registry, pushed[kind], f"blobs/{digest}")["config"])

    collector = config("collector")
    assert collector["User"] == "10001:10001"
    assert collector["Entrypoint"] == ["trunkline", "collector", "run"]
    assert collector["Cmd"] == ["--config", "/etc/trunkline/collector.yaml"]
    assert collector["Volumes"] == {"/var/lib/trunkline": {}}
    application = config("application")
    assert application["User"] == "10001:10001"
    assert application["ExposedPorts"] == {"8000/tcp": {}}


def test_the_simulator_runs_them_too(
    registry: Registry, pushed: dict[str, Pushed], sessions: Sessions
) -> None:
    """Their manifests, put into the ECR of the simulator, name the programs it has."""
    ecr = sessions("444444444444", "eu-west-1").client("ecr")

    def check(kind: ImageKind) -> None:
        ecr.create_repository(repositoryName=f"real/{kind}")
        manifest = fetch(registry, pushed[kind], f"manifests/{pushed[kind].digest}")
        ecr.put_image(
            repositoryName=f"real/{kind}",
            imageManifest=json.dumps(manifest),
            imageManifestMediaType=MANIFEST,
            imageTag="1",
        )
        found = ecr.batch_get_image(repositoryName=f"real/{kind}", imageIds=[{"imageTag": "1"}])["images"][0]
        assert _program("any", found) is PROGRAMS[TITLES[kind]]
        ecr.delete_repository(repositoryName=f"real/{kind}", force=True)

    check("collector")
    check("application")


@dataclass(frozen=True)
class Container:
    """A pulled image, mounted, with what its configuration says."""

    root: Path
    volume: Path
    config: Mapping[str, Any]

    @contextmanager
    def running(self, *more: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Its entry point and command in namespaces of mounts and processes of its own, ended when left."""
        argv = [*self.config["Entrypoint"], *(self.config.get("Cmd") or ()), *more]
        process = self._start(argv, environment)
        try:
            yield process
        finally:
            # Not by way of `unshare`: what is to end with a process is forgotten when that changes its user.
            for pid in children(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.communicate()

    def run(
        self, *argv: str, user: str = "10001:10001", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        process = self._start(list(argv), environment, user)
        output, errors = process.communicate(timeout=30)
        return subprocess.CompletedProcess(argv, process.returncode, output, errors)

    def _start(
        self, argv: list[str], environment: Mapping[str, str], user: str = "10001:10001"
    ) -> subprocess.Popen[str]:
        root, volume = shlex.quote(str(self.root)), shlex.quote(str(self.volume))
        script = (
            f"set -e; mount --bind {root} {root}; mount -t proc proc {root}/proc; mount --rbind /dev {root}/dev; "
            f"mount --bind {volume} {root}/var/lib/trunkline 2>/dev/null || true; "
            f"mount -o remount,bind,ro {root}; exec chroot --userspec={user} {root} {shlex.join(argv)}"
        )
        own = dict(pair.split("=", 1) for pair in self.config["Env"])
        command = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script]
        return subprocess.Popen(
            # The PATH is for finding `mount` and `chroot`, which the image has not; the image's comes first.
            command,
            env={**own, **environment, "PATH": f"{own['PATH']}:/usr/sbin:/sbin"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
        )


@pytest.fixture(scope="module")
def pulled(
    environment: dict[str, str],
    registry: Registry,
    pushed: dict[str, Pushed],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], Container]]:
    """Images pulled by digest into an empty store."""
    folder = tmp_path_factory.mktemp("pulled")
    own = {**environment, **a_store(folder)}

    def buildah(*arguments: str) -> str:
        done = subprocess.run(["buildah", *arguments], env=own, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def pull(kind: str) -> Container:
        credentials = ("--creds", f"{registry.user}:{registry.password}", "--tls-verify=false")
        name = buildah("from", *credentials, "--name", kind, f"docker://{pushed[kind].uri}")
        root = Path(buildah("mount", name))
        for point in ("proc", "dev"):  # as every runtime makes them
            (root / point).mkdir(exist_ok=True)
        volume = folder / f"volume-{kind}"
        volume.mkdir()
        take_over_owner(root / "var/lib/trunkline", volume)
        return Container(root, volume, json.loads(buildah("inspect", name))["OCIv1"]["config"])

    yield cache(pull)
    buildah("rm", "--all")


def take_over_owner(declared: Path, volume: Path) -> None:
    if declared.exists():
        found = declared.stat()
        os.chown(volume, found.st_uid, found.st_gid)
        volume.chmod(found.st_mode & 0o777)


def test_the_collector_runs_as_its_user_on_a_read_only_root(pulled: Callable[[str], Container]) -> None:
    container = pulled("collector")
    health = f"127.0.0.1:{free_port()}"
    environment = {
        "TRUNKLINE_HEALTH_ADDRESS": health,
        "TRUNKLINE_METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
    }
    assert container.run("trunkline", "collector", "healthcheck", **environment).returncode == 1
    with container.running("--shutdown-timeout", "1", **environment) as process:
        eventually(lambda: urlopen(f"http://{health}/", timeout=2).close() is None)
        assert container.run("trunkline", "collector", "healthcheck", **environment).returncode == 0
        # It has scraped itself, and what nobody takes waits in the volume.
        eventually(
            lambda: any(path.is_file() and path.stat().st_size for path in container.volume.rglob("*"))
        )
        owners = {path.stat().st_uid for path in container.volume.rglob("*")}
        [child] = children(process.pid)
        assert status(child)["Uid"].split() == ["10001"] * 4
        assert owners == {10001}
        os.kill(child, signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def test_the_application_shows_its_metrics(pulled: Callable[[str], Container]) -> None:
    container, port = pulled("application"), free_port()
    with container.running(PORT=str(port), BIND_ADDRESS="127.0.0.1"):
        eventually(
            lambda: b"shop_orders_total" in urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2).read()
        )


def test_nothing_can_be_written_and_there_is_no_shell(pulled: Callable[[str], Container]) -> None:
    container = pulled("collector")
    refused = container.run("python3", "-c", "open('/opt/trunkline/more', 'w')", user="0:0")
    assert "Read-only file system" in refused.stderr
    assert container.run("sh", "-c", "true").returncode == 127
    said = container.run("trunkline", "collector", "components")
    assert (said.returncode, said.stderr) == (0, "")


def test_the_wheel_carries_what_images_are_made_from(pulled: Callable[[str], Container]) -> None:
    folder = pulled("collector").root / "opt/trunkline/trunkline/fleet/images"
    names = {path.name for path in folder.iterdir()}
    assert {f"{kind}.{what}" for kind in TITLES for what in ("Dockerfile", "txt")} <= names


def run_cli(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    cli.configure(parser)
    options = parser.parse_args(arguments)
    return int(options.run(options))


def test_the_command_builds_signs_in_pushes_and_says_the_digest(
    shop: Shop,
    registry: Registry,
    ecr_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in shop.tool.environment.items():
        monkeypatch.setenv(name, value)
    for name, value in {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(shop.recipe.requirements)
    recipe = ["--with", "buildah", "--base", shop.recipe.base, "--wheel", str(shop.recipe.wheel)]
    place = ["--repository", "shop/said", "--region", "eu-west-1", "--endpoint-url", ecr_url]
    assert run_cli("push", "application", *place, *recipe, "--requirements", str(requirements), "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["digest"] == find_digest(registry, "shop/said", said["tag"])
    assert said["uri"] == f"{registry.host}/shop/said@{said['digest']}"
    assert (said["built_with"], said["was_there"]) == ("buildah", False)


def test_a_base_that_does_not_fit(shop: Shop, tmp_path: Path) -> None:
    def check(recipe: Recipe, *said: str) -> None:
        with pytest.raises(FleetError) as caught:
            build_images(["application"], shop.tool, recipe)
        for text in ("`buildah build ", *said, "another is named with --base"):
            assert text in str(caught.value)

    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    shop.tool.run("build", "--tag", "localhost/empty:1", str(tmp_path), remedy="")
    check(shop.again(base="localhost/empty:1"), "python3")
    assert shop.recipe.wheel
    later = f"{sys.version_info.major}.{sys.version_info.minor + 1}"
    renamed = tmp_path / f"trunkline-0.1.0-cp{later.replace('.', '')}-none-any.whl"
    shutil.copy(shop.recipe.wheel, renamed)
    check(
        shop.again(wheel=renamed, requirements="# none\n"),
        f"the packages are made for {later}: name another base",
    )


def test_a_password_that_is_refused_is_not_told(shop: Shop, registry: Registry) -> None:
    wrong = replace(registry, password="not-the-one")
    with pytest.raises(
        FleetError, match=r"answered 401 .*may read and push to the repository shop/wrong"
    ) as caught:
        push_built(shop.built["collector"], wrong, "shop/wrong")
    assert "not-the-one" not in str(caught.value)


def children(pid: int) -> list[int]:
    """Of a process that may have ended meanwhile."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def status(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


SHOP = Fleet(
    name="built",
    monitoring=MonitoringAccount(account_id=MONITORING, region="eu-west-1"),
    workloads=(
        WorkloadAccount(
            account_id=APART, regions=("eu-west-1", "eu-north-1"), services=(Service(name="shop"),)
        ),
    ),
)


def test_a_deployment_builds_once_and_pushes_everywhere(
    shop: Shop, registry: Registry, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONTAINERS_STORAGE_CONF", "BUILDAH_ISOLATION"):
        monkeypatch.setenv(name, shop.tool.environment[name])
    said: list[str] = []

    own = OwnImages(said.append, shop.recipe, "buildah", is_real=lambda _: True, registry=lambda _: registry)
    with own as images:
        assert {each.severity for each in preflight(SHOP, sessions, images) if "image" in each.what} == {"ok"}
        deploy_fleet(SHOP, sessions, lambda _: None, push=images.push)
        assert not deploy_fleet(SHOP, sessions, lambda _: None, push=images.push).changed
    assert sorted(text for text in said if text.startswith("building")) == [
        "building the image of the application with buildah",
        "building the image of the collector with buildah",
    ]
    assert len([text for text in said if text.startswith("pushing")]) == 8
    repositories = {
        "collector": SHOP.names.collector_repository,
        "application": SHOP.names.application_repository,
    }
    wanted = {kind: find_digest(registry, name, shop.built[kind].tag) for kind, name in repositories.items()}
    assert all(wanted.values())
    for region in SHOP.workloads[0].regions:
        ecs = sessions(APART, region).client("ecs")
        [found] = ecs.describe_services(cluster=SHOP.names.cluster, services=["shop"])["services"]
        task = ecs.describe_task_definition(taskDefinition=found["taskDefinition"])["taskDefinition"]
        images_used = {each["image"].rpartition("@")[2] for each in task["containerDefinitions"]}
        assert images_used == set(wanted.values())
    destroy_fleet(SHOP, sessions, lambda _: None, images=True, logs=True, data=True)


def test_without_a_program_that_builds_nothing_is_begun(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    def check(fleet: Fleet, expected: set[str]) -> None:
        with OwnImages(print, is_real=lambda _: True) as images:
            findings = [each for each in preflight(fleet, sessions, images) if "image" in each.what]
        assert {each.what for each in findings} == expected
        assert {each.severity for each in findings} == {"error"}
        assert all("docker: not on the PATH" in each.why for each in findings)
        assert all("apt-get install buildah" in each.why for each in findings)

    check(SHOP, {"image of the collector", "image of the application"})
    given = replace(SHOP, collector_image=f"registry.example/collector@sha256:{'0' * 64}")
    check(given, {"image of the application"})
