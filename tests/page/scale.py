"""How quick the page is, alone and with 200 tasks more: `python -m tests.page.scale`.

A real task's series are read from the workspace, given the identities of tasks that do not exist, and written every
15 s with the values they have by then, by one signed writer. So every panel finds as much of each as of a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from tests.page.conftest import Site, running, wait_for_rates

from trunkline.aws import sigv4
from trunkline.aws.keys import Credentials
from trunkline.aws.workspace import found_in
from trunkline.net.client import ClientFactory
from trunkline.net.message import Request
from trunkline.net.resolve import Resolve
from trunkline.page.asking import Simulator
from trunkline.page.browser import browser
from trunkline.wire import remote_write, snappy

TASKS = 200
EVERY_S = 15.0
Template = list[tuple[dict[str, str], float]]
PLACES = (("222222222222", "eu-west-1"), ("333333333333", "us-east-1"), ("444444444444", "eu-central-1"))
HEADERS = {
    "content-type": "application/x-protobuf",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "0.1.0",
}
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
DRAWN = """document.querySelectorAll('.panel, .map').length > 0 && document.querySelectorAll('.loading').length === 0
  && [...document.querySelectorAll('.chart')].every(chart => { const place = chart.getBoundingClientRect();
    const svg = chart.querySelector('svg'); return place.top > innerHeight ||
      (svg && svg.getAttribute('height') > 100 && svg.querySelectorAll('path').length > 2); })"""
"""In JavaScript: every panel has its data, and every chart in the window is drawn."""

FRAMES = """new Promise(done => {
  const gaps = []; let before = performance.now(); const end = before + 12000;
  const frame = now => { gaps.push(now - before); before = now; if (now < end) requestAnimationFrame(frame);
    else { gaps.sort((a, b) => a - b); done([gaps[Math.floor(gaps.length * .99)], gaps[gaps.length - 1]]); } };
  requestAnimationFrame(frame);
})"""


@dataclass(frozen=True)
class Writer:
    """Writes synthetic tasks into the workspace `place`."""

    place: Mapping[str, Any]

    async def write(self, stop: threading.Event) -> None:
        clients = ClientFactory(Resolve.parse(self.place["resolve"]), self.place["ca_bundle"])
        async with contextlib.aclosing(clients.client()) as client:
            while not stop.is_set():
                began = time.monotonic()
                template = await self._template(client)
                for number in range(TASKS):  # at their own moments, as tasks do
                    await asyncio.sleep(began + EVERY_S * number / TASKS - time.monotonic())
                    await self.send(client, _request(template, number))

    @property
    def _key(self) -> Credentials:
        return Credentials(self.place["key"]["access_key_id"], self.place["key"]["secret_access_key"], "")

    async def _template(self, client: Any) -> Template:
        """The series of one real task."""
        url = f"{self.place['url']}/api/v1/query"
        promql = 'query={aws_ecs_service_name="web-shop",cloud_account_id="222222222222"}'
        form = {"content-type": "application/x-www-form-urlencoded"}
        answer = await self._exchange(client, Request("POST", url, form, promql.encode()))

        found = found_in(json.loads(answer.body)["data"])
        task = min(each.labels["aws_ecs_task_id"] for each in found)
        return [(dict(each.labels), each.value) for each in found if each.labels["aws_ecs_task_id"] == task]

    async def send(self, client: Any, body: bytes) -> None:
        url = f"{self.place['url']}/api/v1/remote_write"
        answer = await self._exchange(client, Request("POST", url, HEADERS, body))
        assert answer.status == 200, answer.body

    async def _exchange(self, client: Any, request: Request) -> Any:
        region = self.place["region"]
        signed = sigv4.sign(request, self._key, region=region, service="aps", at=datetime.now(UTC))
        return await client.exchange(signed, timeout_s=30, max_body_bytes=64 * 2**20)


def _encoded(series: Template) -> bytes:
    now_ms = int(time.time() * 1000)
    found = [
        remote_write.encode_series(remote_write.encode_labels(sorted(labels.items())), [(value, now_ms)])
        for labels, value in series
    ]
    return snappy.compress(remote_write.encode_write_request(found))


async def write_once(state_dir: Path, series: Template) -> None:
    """Write these into the workspace of a demo, as they are."""
    place = await Simulator(state_dir).workspace()
    clients = ClientFactory(Resolve.parse(place["resolve"]), place["ca_bundle"])
    async with contextlib.aclosing(clients.client()) as client:
        await Writer(place).send(client, _encoded(series))


def _request(template: Template, number: int) -> bytes:
    """What the collector of this task would send."""
    account, region = PLACES[number % len(PLACES)]
    identity = {
        "aws_ecs_task_id": f"{number:08x}{'0' * 24}",
        "aws_ecs_service_name": f"synthetic-{number % 5}",
        "cloud_account_id": account,
        "cloud_region": region,
    }
    return _encoded([({**labels, **identity}, value) for labels, value in template])


@contextlib.contextmanager
def synthetic_tasks(state_dir: Path) -> Iterator[None]:
    """Keep writing while this is entered."""
    place = asyncio.run(Simulator(state_dir).workspace())
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(Writer(place).write(stop)))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def measure(site: Site, what: str) -> None:
    """The first visit of a browser that knows nothing, then of one that has what does not change."""
    print(f"\n{what}: shell painted, data drawn (s), received (kB)")
    paths = (
        "/",
        "/d/trunkline-fleet",
        "/d/trunkline-ecs-tasks",
        "/d/trunkline-collectors",
        "/d/trunkline-service",
    )
    with browser() as fresh:
        for path in ("/d/trunkline-fleet", *paths):
            with fresh.tab() as tab:
                began = time.monotonic()
                tab.call("Page.navigate", url=site.url.rstrip("/") + path)
                tab.wait_for(DRAWN, 30)
                drawn = time.monotonic() - began
                painted = tab.evaluate(PAINTED) / 1000
                print(f"  {path:26} {painted:5.2f} {drawn:5.2f} {tab.received_bytes // 1000:6}")
        with fresh.tab() as tab:
            tab.open(f"{site.url}d/trunkline-fleet")
            tab.wait_for(DRAWN, 30)
            page = served(site)
            before, began = page.cpu_times(), time.monotonic()
            usual, worst = tab.evaluate(FRAMES)
            after, took = page.cpu_times(), time.monotonic() - began
            share = (after.user + after.system - before.user - before.system) / took
            print(
                f"  Fleet open: 99 of 100 frames within {usual:.0f} ms, the worst {worst:.0f} ms; the page's process {share:.0%} of a core, {page.memory_info().rss / 2**20:.0f} MiB"
            )


def served(site: Site) -> psutil.Process:
    return next(
        each
        for each in psutil.Process(site.process.pid).children(recursive=True)
        if "trunkline.page" in each.cmdline()
    )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="tp-") as folder:
        state_dir = Path(folder, "demo")
        with running(state_dir) as (process, url), browser() as chromium:
            site = Site(url, process, state_dir, chromium)
            wait_for_rates(site)
            measure(site, "4 tasks")
            with synthetic_tasks(state_dir):
                time.sleep(75)
                measure(site, f"{TASKS} tasks more")
                with site.tab() as tab:
                    tab.wait_for(f"document.querySelectorAll('a.task').length >= {TASKS}")
                    tab.picture(Path(tempfile.gettempdir()) / "map-200.png")


if __name__ == "__main__":
    main()
