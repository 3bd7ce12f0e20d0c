"""How the time of AWS is told from the `Date` of its answers."""

import logging
from email.utils import formatdate

import pytest

from trunkline.aws.clock import ServerClock, amount

BEGAN_S = 1_800_000_000.0


class Machine:
    """A machine whose clock shows `wrong_s` more than it should, and the answers it gets."""

    def __init__(self, wrong_s: float = 0.0) -> None:
        self.true_s = BEGAN_S
        self.wrong_s = wrong_s
        self.clock = ServerClock(lambda: self.true_s + self.wrong_s, lambda: self.true_s - BEGAN_S + 50)

    def ask(
        self, status: int = 200, *, there_s: float = 0.05, back_s: float = 0.05, lie_s: float = 0
    ) -> None:
        began_s = self.true_s - BEGAN_S + 50
        self.true_s += there_s
        date = formatdate(self.true_s + lie_s, usegmt=True)
        self.true_s += back_s
        self.clock.heard(status, {"date": date}, began_s)

    @property
    def error_s(self) -> float:
        """How far what is signed with is from the truth."""
        return self.clock.now() - self.true_s


def test_unheard_it_is_this_machines() -> None:
    machine = Machine(600)
    assert machine.error_s == 600
    assert (machine.clock.offset_s, machine.clock.heard_anything) == (0, False)


def test_a_clock_that_is_right_is_used_as_it_is() -> None:
    machine = Machine(wrong_s=1.5)
    for _ in range(5):
        machine.ask()
        machine.true_s += 0.3
    assert machine.error_s == 1.5  # finer than a Date
    assert abs(machine.clock.offset_s + 1.5) < 1
    assert machine.clock.heard_anything


@pytest.mark.parametrize("wrong_s", [600, -600, 86_400, -3])
def test_a_refusal_is_believed_at_once(wrong_s: float) -> None:
    machine = Machine(wrong_s)
    machine.ask(403)
    assert abs(machine.clock.offset_s + wrong_s) < 1
    assert abs(machine.error_s) < 1 or machine.error_s == wrong_s == -3


def test_good_answers_are_believed_when_two_agree() -> None:
    machine = Machine(600)
    machine.ask()
    assert machine.error_s == 600
    machine.ask()
    assert abs(machine.error_s) < 1


def test_one_mad_server_changes_nothing() -> None:
    machine = Machine()
    machine.ask()
    machine.ask(lie_s=5000)
    assert machine.error_s == 0
    machine.ask()
    machine.ask(lie_s=-5000)
    machine.ask(lie_s=5000)
    assert machine.error_s == 0


def test_slow_answers_are_taken_in_their_middle_and_very_slow_ones_not_at_all() -> None:
    machine = Machine(600)
    machine.ask(403, there_s=4, back_s=4)
    assert abs(machine.error_s) < 1
    machine.ask(403, there_s=0.1, back_s=8)
    assert abs(machine.error_s) < 5
    before = machine.clock.offset_s
    machine.ask(403, there_s=0.1, back_s=30)
    assert machine.clock.offset_s == pytest.approx(before)


def test_a_clock_that_is_put_right_is_noticed_without_an_answer() -> None:
    machine = Machine(600)
    machine.ask(403)
    machine.wrong_s = 0
    assert machine.error_s == 0
    assert abs(machine.clock.offset_s) < 1
    machine.wrong_s = -7200
    assert abs(machine.error_s) < 1


def test_answers_without_a_date_say_nothing() -> None:
    machine = Machine(600)
    machine.clock.heard(403, {}, 0)
    machine.clock.heard(403, {"date": "yesterday"}, 0)
    assert not machine.clock.heard_anything


def test_it_is_reported_from_a_minute_on_once_for_each_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trunkline.aws.clock")

    def check(wrong_s: float, *expected: str) -> None:
        caplog.clear()
        machine.wrong_s = wrong_s
        for _ in range(3):
            machine.ask()
            machine.true_s += 60
        assert [record.getMessage().partition(" AWS's")[0] for record in caplog.records] == list(expected)

    machine = Machine()
    check(0)
    check(50)
    check(-600, "the clock of this machine is 10m0s behind")
    check(-620)
    check(3 * 3600, "the clock of this machine is 3h0m0s ahead of")
    check(0, "the clock of this machine is right again")


def test_lengths_of_time_for_people() -> None:
    assert [amount(each) for each in (0, 59, -60, 61, 3600, 7325)] == [
        *("0s", "59s", "1m0s", "1m1s", "1h0m0s", "2h2m5s"),
    ]
