"""Targets that hang, lie, flood or circle, beside good ones: the truth in `up`, bounded memory, and nobody else notices."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.differential.processes import SCENARIO, Arrived, Inbox, collector
from tests.differential.targets import Page, Targets

from trunkline.model import is_stale

INTERVAL_S = 2
TIMEOUT_S = 1.9
SCRAPES = 4
ATTEMPTS = 3
MIB = 1024 * 1024
MOST_MEMORY_BYTES = 150 * MIB
"""Of everything here together. Idle it is about 40 MiB; one body of 100 MB kept would already be too much."""
GOOD = ("good_1", "good_2", "good_3")
SMALL = {"body_size_limit": "10MB"}
BRIEF = {"scrape_timeout": "500ms"}


def bomb(size: int) -> bytes:
    """Gzip that claims to be `size` bytes of zeros, for a thousandth of the effort."""
    piece = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = piece.compress(bytes(MIB)) + piece.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08" + bytes(7) + block * (size // MIB) + b"\x03\x00" + bytes(8)


@dataclass(frozen=True)
class Bad:
    """A page that is shown again and again, what `up` says then, and the one line of the log about it."""

    page: Page
    up: float
    says: str
    job: Mapping[str, Any] = field(default_factory=dict)


GZIP = {"Content-Encoding": "gzip"}
CASES = {
    "hangs": Bad(Page(manner="hang"), 0, "no complete answer from .* within 0.5s, nothing had come", BRIEF),
    "stalls": Bad(Page("a 1\n" * 1000, manner="stall"), 0, "within 0.5s, [0-9]+ bytes of it had come", BRIEF),
    "too_short": Bad(Page("a 1\nb 1\n", manner="short"), 0, "closed after 4 of 8 bytes"),
    "half_a_line": Bad(Page('a 1\nb{x="'), 0, "line 2"),
    "not_utf8": Bad(Page(b'a{x="\xff\xfe"} 1\n'), 0, "UTF-8"),
    "one_long_line": Bad(Page(b'a{x="' + b"x" * 100_000_000 + b'"} 1\n'), 0, "larger than the limit", SMALL),
    "one_long_line_unannounced": Bad(
        Page(b'a{x="' + b"x" * 100_000_000 + b'"} 1\n', manner="unframed"), 0, "larger than the limit", SMALL
    ),
    "bomb": Bad(Page(bomb(1024 * MIB), headers=GZIP), 0, "larger than the limit", SMALL),
    "long_head": Bad(Page("a 1\n", headers={"X": "x" * MIB}), 0, "head of the answer is larger"),
    "many_labels": Bad(
        Page("a{" + ",".join(f'l{number}="1"' for number in range(10_000)) + "} 1\n"),
        0,
        "label_limit exceeded",
        {"label_limit": 100},
    ),
    "duplicates": Bad(Page("a 1\na 2\na 3\n"), 1, "shows 2 samples of series"),
    "ahead": Bad(Page("a 1 @3600000\nb 1\n"), 1, "10 minutes in the future"),
    "circle": Bad(Page(status=302, headers={"Location": "/circle"}), 0, "redirect"),
}


def good_pages() -> Sequence[Page]:
    return [Page(f"count {number}\n") for number in range(1000)]


@dataclass(frozen=True)
class Seen:
    """What arrived by scenario, and what the collector said and took."""

    arrived: Mapping[str, Arrived]
    log: Sequence[str]
    most_memory_bytes: int

    def values(self, scenario: str, name: str) -> list[tuple[int, float]]:
        """Times in milliseconds and values of one series, in their order."""
        return sorted(
            (stamp, value) for labels, value, stamp in self.arrived[scenario] if ("__name__", name) in labels
        )


async def run(folder: Path) -> Seen:
    targets = Targets(
        {**{name: [bad.page] for name, bad in CASES.items()}, **dict.fromkeys(GOOD, good_pages())}
    )
    targets.open(int(time.time() * 1000))
    inbox = Inbox()
    async with targets.listening() as address, inbox.listening():
        jobs = [
            {
                "job_name": name,
                "metrics_path": f"/{name}",
                "static_configs": [{"targets": [address], "labels": {SCENARIO: name}}],
                **(CASES[name].job if name in CASES else {}),
            }
            for name in (*CASES, *GOOD)
        ]
        scraping = {
            "global": {"scrape_interval": f"{INTERVAL_S}s", "scrape_timeout": f"{TIMEOUT_S * 1000:.0f}ms"},
            "scrape_configs": jobs,
        }
        async with collector(folder / "trunkline", scraping, inbox) as running:
            await until_scraped(inbox)
            return Seen(inbox.arrived["trunkline"], list(running.log), running.most_memory_bytes())


async def until_scraped(inbox: Inbox) -> None:
    """Wait until every target has been scraped often enough."""
    async with asyncio.timeout(60):
        while True:
            ups = {
                name: sum(("__name__", "up") in labels for labels, _, _ in inbox.arrived["trunkline"][name])
                for name in (*CASES, *GOOD)
            }
            if min(ups.values()) >= SCRAPES:
                return
            await inbox.news()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What came of it; repeated where the machine was too busy for good targets to be scraped in time."""
    for _ in range(ATTEMPTS):
        found = asyncio.run(run(tmp_path_factory.mktemp("bad")))
        took = [value for name in GOOD for _, value in found.values(name, "scrape_duration_seconds")]
        if max(took) < TIMEOUT_S / 2:
            break
    return found


@pytest.mark.parametrize("name", CASES)
def test_up_tells_the_truth(seen: Seen, name: str) -> None:
    assert {value for _, value in seen.values(name, "up")} == {CASES[name].up}


@pytest.mark.parametrize("name", CASES)
def test_the_log_says_it_once(seen: Seen, name: str) -> None:
    lines = [line for line in seen.log if re.search(rf"/{name}\b", line)]
    assert len(lines) == bool(CASES[name].says), lines
    assert all(re.search(CASES[name].says, line) for line in lines), lines
    assert all(len(line) < 1000 for line in lines)


@pytest.mark.parametrize("name", GOOD)
def test_others_do_not_notice(seen: Seen, name: str) -> None:
    found = seen.values(name, "count")
    assert [value for _, value in found] == list(range(len(found)))
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(found)]
    assert max(gaps) < 1.5 * 1000 * INTERVAL_S
    assert {value for _, value in seen.values(name, "up")} == {1.0}


def test_memory_is_bounded(seen: Seen) -> None:
    assert seen.most_memory_bytes < MOST_MEMORY_BYTES


def test_nothing_of_a_bad_body_is_kept(seen: Seen) -> None:
    kept = defaultdict(set)
    for name in CASES:
        for labels, value, _ in seen.arrived[name]:
            if dict(labels)["__name__"] in ("a", "b") and not is_stale(value):
                kept[name].add((dict(labels)["__name__"], value))
    assert kept == {"duplicates": {("a", 1.0)}, "ahead": {("b", 1.0)}}
