from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from tests.processors.scrapes import Source, Values, Watching, as_shown, shown

from trunkline.component.points import attributes_of, with_attributes
from trunkline.component.reduce import FOLDS, PerMetric, Point, Reduced, changed
from trunkline.model import Series


def unit_of(series: Series) -> str:
    return series.family.name


def plan(points: Sequence[Point]) -> Iterable[Point]:
    """`a` is summed by `g`, the sums are halved, and their mean goes beside them; `b` is doubled; `c` is dropped."""
    groups: dict[str, list[Point]] = {}
    for series, value in points:
        if series.family.name == "a":
            groups.setdefault(attributes_of(series).get("g", ""), []).append(Point(series, value))
        elif series.family.name == "b":
            yield Point(series, changed(value, lambda number: 2 * number))
        elif series.family.name != "c":
            yield Point(series, value)
    sums = []
    for group, members in groups.items():
        total = Reduced(tuple(member.value for member in members), FOLDS["sum"])
        sums.append(total)
        yield Point(
            with_attributes(members[0].series, {"g": group}), changed(total, lambda number: number / 2)
        )
    if sums:
        yield Point(with_attributes(points[0].series, {"g": "mean"}), Reduced(tuple(sums), FOLDS["mean"]))


def expected(values: Values) -> Values:
    sums: dict[str, float] = {}
    found: Values = {}
    for text, value in values.items():
        name, number = text.partition("{")[0], float(value)
        if name == "a":
            group = text.partition("g=")[2].partition(",")[0].rstrip("}")
            sums[group] = sums.get(group, 0) + number
        elif name != "c":
            found[text] = 2 * number if name == "b" else number
    found |= {f"a{{g={group}}}": total / 2 for group, total in sums.items()}
    return found | ({"a{g=mean}": sum(sums.values()) / len(sums)} if sums else {})


def test_columns_are_those_of_a_plain_calculation_whatever_comes_and_goes() -> None:
    for seed in range(30):
        chance = random.Random(seed)
        source, seen = Source(), Watching()
        inlet = PerMetric(unit_of, plan, seen).open(source.table)
        alive: Values = {}
        before: set[str] = set()
        for _ in range(30):
            for _ in range(chance.choice((0, 1, 30))):
                name = chance.choice("aaabcd")
                alive[f"{name}{{g={chance.randrange(4)},n={chance.randrange(60)}}}"] = chance.randrange(100)
            for text in chance.sample(sorted(alive), chance.randrange(len(alive) + 1) // 2):
                del alive[text]
            inlet.consume(source.scrape({text: float(value) for text, value in alive.items()}))
            samples = seen.batches[-1].samples
            found = {shown(one.series): as_shown(one.value) for one in samples}
            assert len(found) == len(samples)
            wanted = expected(alive)
            assert {text: value for text, value in found.items() if value != "stale"} == wanted
            assert {text for text, value in found.items() if value == "stale"} == before - set(wanted)
            before = set(wanted)


def test_folds() -> None:
    def check(name: str, values: list[float], result: float) -> None:
        assert FOLDS[name](values) == result

    check("", [3, 1], 3)
    check("sum", [3, 1], 4)
    check("mean", [3, 1], 2)
    check("min", [3, 1], 1)
    check("max", [3, 1], 3)
    check("count", [3, 1], 2)
    check("median", [9, 1, 3], 3)
    check("median", [9, 1, 3, 4], 3.5)
