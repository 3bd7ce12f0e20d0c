import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.aws.pretend import VirtualTime, settle

from trunkline.aws.clock import ServerClock
from trunkline.aws.credentials import Credentials, RefreshingCredentials
from trunkline.errors import CredentialsError


class Source:
    """Gives keys that live for `life_s`, numbered, or fails with `failure`; notes when it was asked."""

    def __init__(self, time: VirtualTime, life_s: float | None = 3600) -> None:
        self.time = time
        self.life_s = life_s
        self.failure: Exception | None = None
        self.asked_at: list[float] = []

    async def fetch(self) -> Credentials:
        self.asked_at.append(self.time.now - 1_000_000)
        if self.failure is not None:
            raise self.failure
        expires_at = None if self.life_s is None else self.time.now + self.life_s
        return Credentials(f"AKIA{len(self.asked_at)}", "secret", "token", expires_at, "a source")


@asynccontextmanager
async def running(source: Source, jitter: float = 0.0) -> AsyncIterator[RefreshingCredentials]:
    time = source.time
    credentials = RefreshingCredentials(
        source.fetch,
        name="role R",
        hop="assume role",
        clock=ServerClock(time.clock, time.clock),
        sleep=time.sleep,
        jitter=lambda: jitter,
    )
    task = asyncio.create_task(credentials.run())
    try:
        yield credentials
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await settle()


async def test_nothing_is_there_before_the_first_fetch() -> None:
    credentials = RefreshingCredentials(Source(VirtualTime()).fetch, name="role R", hop="assume role")
    with pytest.raises(CredentialsError, match="role R: nothing has been fetched yet") as caught:
        credentials.current()
    assert caught.value.hop == "assume role"


async def test_they_are_renewed_well_before_they_expire() -> None:
    async def check(jitter: float, expected: list[float]) -> None:
        source = Source(VirtualTime())
        async with running(source, jitter) as credentials:
            await credentials.ready()
            assert credentials.current().access_key_id == "AKIA1"
            await source.time.pass_s(2 * 3600)
            assert source.asked_at == expected
            assert credentials.current().access_key_id == f"AKIA{len(expected)}"

    await check(0.0, [0, 2400, 4800, 7200])
    await check(1.0, [0, 3000, 6000])


async def test_keys_without_an_end_are_fetched_once() -> None:
    source = Source(VirtualTime(), life_s=None)
    async with running(source) as credentials:
        await source.time.pass_s(1e8)
        assert source.asked_at == [0]
        assert credentials.current().expires_at is None


async def test_old_ones_serve_until_they_expire_while_renewing_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Source(VirtualTime())
    async with running(source, jitter=1.0) as credentials:
        await source.time.pass_s(1)
        source.failure = CredentialsError("the trust was taken away", hop="assume role")
        with caplog.at_level(logging.WARNING):
            await source.time.pass_s(3598)
        assert source.asked_at[:8] == [0, 3000, 3001, 3003, 3007, 3015, 3031, 3061]
        assert source.asked_at[8] == 3091
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert credentials.current().access_key_id == "AKIA1"
        await source.time.pass_s(2)
        with pytest.raises(CredentialsError) as caught:
            credentials.current()
        assert str(caught.value) == (
            "role R: the credentials expired at 1970-01-12T14:46:40Z and they could not be renewed: "
            "the trust was taken away"
        )
        source.failure = None
        await source.time.pass_s(31)
        assert credentials.current().access_key_id.startswith("AKIA")


async def test_the_first_failure_explains_itself_and_ready_goes_on_waiting() -> None:
    source = Source(VirtualTime())
    source.failure = CredentialsError("no task role", hop="container")
    async with running(source) as credentials:
        waiting = asyncio.create_task(credentials.ready())
        await credentials.attempted()
        with pytest.raises(CredentialsError, match="no task role") as caught:
            credentials.current()
        assert caught.value.hop == "container"
        await source.time.pass_s(10)
        assert not waiting.done()
        source.failure = None
        await source.time.pass_s(30)
        await asyncio.wait_for(waiting, 1)
        assert credentials.current().source == "a source"


async def test_renew_fetches_early_but_not_again_and_again() -> None:
    source = Source(VirtualTime())
    async with running(source) as credentials:
        await source.time.pass_s(5)
        credentials.renew()
        await source.time.pass_s(5)
        assert source.asked_at == [0]
        for _ in range(100):
            credentials.renew()
            await settle()
        assert source.asked_at == [0, 10]
        assert credentials.current().access_key_id == "AKIA2"
        await source.time.pass_s(2000)
        assert source.asked_at == [0, 10]
        await source.time.pass_s(500)
        assert source.asked_at == [0, 10, 2410]


async def test_renew_before_running_is_harmless() -> None:
    RefreshingCredentials(Source(VirtualTime()).fetch, name="x").renew()


async def test_expired_credentials_are_not_taken() -> None:
    source = Source(VirtualTime(), life_s=-1)
    async with running(source) as credentials:
        await source.time.pass_s(0)
        with pytest.raises(
            CredentialsError, match=r"a source gave credentials that expired at .*; check the clock"
        ):
            credentials.current()


async def test_a_source_that_hands_out_the_same_ones_for_a_while_is_asked_again_in_time() -> None:
    """As the metadata services do: new credentials are there only some minutes before the old ones end."""
    source = Source(VirtualTime())
    start = source.time.now

    async def fetch() -> Credentials:
        asked = await source.fetch()
        number = max(0, int((source.time.now - start - 3600 + 300) // 3300 + 1))
        return Credentials(asked.access_key_id, "s", "t", start + 3600 + number * 3300)

    time = source.time
    credentials = RefreshingCredentials(
        fetch, name="x", clock=ServerClock(time.clock, time.clock), sleep=time.sleep, jitter=lambda: 0.5
    )
    task = asyncio.create_task(credentials.run())
    for _ in range(24 * 60):
        await time.pass_s(60)
        credentials.current()
    assert len(source.asked_at) < 250
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_defect_in_a_source_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    source = Source(VirtualTime())
    source.failure = KeyError("oops")
    async with running(source) as credentials:
        with caplog.at_level(logging.ERROR):
            await source.time.pass_s(0)
        assert "this is a defect of Trunkline" in caplog.text
        with pytest.raises(CredentialsError, match="oops"):
            credentials.current()
        source.failure = None
        await source.time.pass_s(1)
        assert credentials.current().access_key_id == "AKIA2"


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials("AKIA1", "very secret", "token", 1.0, "environment"))
    assert shown == "Credentials(access_key_id='AKIA1', expires_at=1.0, source='environment')"


async def test_after_a_sleep_of_the_machine_expired_ones_are_renewed_when_asked_for() -> None:
    source = Source(VirtualTime())
    async with running(source) as credentials:
        await credentials.ready()
        source.time.now += 2 * 3600  # no timer has fired
        with pytest.raises(CredentialsError, match="they are being renewed"):
            credentials.current()
        await settle()
        assert credentials.current().access_key_id == "AKIA2"
