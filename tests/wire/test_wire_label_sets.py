"""Label sets as bytes: merged, encoded, kept by slot; the compiled kernel does what its twin does."""

import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.wire.conftest import BOTH, kernel

from trunkline.errors import WireError
from trunkline.model import Labels, make_labels
from trunkline.wire import label_sets
from trunkline.wire.remote_write import decode_labels, encode_labels

NAMES = st.sampled_from(["a", "b", "aa", "zone", "ä", "\U0001f600", "\uffff", "__name__", "x" * 200, ""])
VALUES = st.sampled_from(["", "1", "eu-west-1a", "ü" * 100, "v" * 20_000])
SETS = st.dictionaries(NAMES, VALUES, max_size=6).map(lambda pairs: tuple(sorted(pairs.items())))


@pytest.fixture(scope="module", params=BOTH)
def taken(request: pytest.FixtureRequest) -> Any:
    return label_sets if request.param == "python" else kernel()


def test_own_labels_win_and_empty_ones_take_away(taken: Any) -> None:
    def check(others: dict[str, str], own: dict[str, str], expected: dict[str, str]) -> None:
        encoded = [encode_labels(tuple(sorted(labels.items()))) for labels in (others, own, expected)]
        assert taken.merge_labels(encoded[0], encoded[1]) == encoded[2]

    check({}, {}, {})
    check({"a": "1"}, {}, {"a": "1"})
    check({}, {"a": "1"}, {"a": "1"})
    check({"a": "1", "c": "3"}, {"b": "2"}, {"a": "1", "b": "2", "c": "3"})
    check({"a": "1", "b": "1"}, {"b": "2"}, {"a": "1", "b": "2"})
    check({"a": "1", "b": "1"}, {"a": "", "z": ""}, {"b": "1"})
    check({"aa": "1"}, {"a": "2"}, {"a": "2", "aa": "1"})
    check({"\U0001f600": "1"}, {"\uffff": "2"}, {"\uffff": "2", "\U0001f600": "1"})


@pytest.mark.parametrize(
    "spoilt", [b"x", b"\x0a", b"\x0a\x05a", b"\x0a\x80\x80\x80\x80\x80\x80", b"\x0a\x03\x0a\x05a"]
)
def test_what_is_no_list_of_labels_is_refused(taken: Any, spoilt: bytes) -> None:
    good = encode_labels((("a", "1"),))
    for others, own in ((spoilt, good), (good, spoilt), (good + spoilt, b""), (b"", good + spoilt)):
        with pytest.raises(WireError):
            taken.merge_labels(others, own)


@settings(deadline=None)
@given(SETS, SETS)
def test_both_merge_the_same(others: Labels, own: Labels) -> None:
    encoded = encode_labels(others), encode_labels(own)
    merged = label_sets.merge_labels(*encoded)
    assert kernel().merge_labels(*encoded) == merged
    without = {name: value for name, value in others if name not in dict(own)}
    assert dict(decode_labels(merged)) == without | {name: value for name, value in own if value}


@settings(deadline=None)
@given(
    st.text(min_size=1, max_size=3),
    st.dictionaries(NAMES.filter(lambda name: name != "__name__"), VALUES, max_size=6),
    st.integers(0, 1).map(lambda times: times * 100),
)
def test_both_encode_scraped_labels_the_same(name: str, pairs: dict[str, str], more: int) -> None:
    """More labels than the kernel takes at once, too."""
    labels = (*pairs.items(), *((f"more{number}", "x") for number in range(more)))
    for reserved in (frozenset[str](), frozenset(("zone", "other"))):
        expected = label_sets.encode_scraped(name, labels, reserved)
        assert kernel().encode_scraped(name, labels, reserved) == expected
        if expected is None:
            assert not all(pairs.values()) or "zone" in pairs
        else:
            assert decode_labels(expected) == make_labels({**dict(labels), "__name__": name})


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 12), SETS), max_size=60))
def test_both_keep_the_same_sets(steps: list[tuple[int, Labels]]) -> None:
    twin, fast = label_sets.LabelSets(), kernel().LabelSets()
    for slot, labels in steps:
        encoded = encode_labels(labels)
        assert fast.find(encoded) == twin.find(encoded)
        if twin.get(slot) is not None:
            twin.drop(slot)
            fast.drop(slot)
        elif twin.find(encoded) < 0:
            twin.put(slot, encoded)
            fast.put(slot, encoded)
        else:
            for one in (twin, fast):
                with pytest.raises(ValueError, match="taken"):
                    one.put(slot, encoded)
        assert len(fast) == len(twin)
        assert [fast.get(number) for number in range(14)] == [twin.get(number) for number in range(14)]
    with pytest.raises(KeyError):
        fast.drop(13)


def _labels(number: int) -> bytes:
    return encode_labels((("__name__", "requests_total"), ("path", f"/{number}"), ("zone", "eu-west-1a")))


def test_many_sets_come_and_go(taken: Any) -> None:
    sets = taken.LabelSets()
    for slot in range(1000):
        sets.put(slot, _labels(slot))
    for turn in range(100):
        for slot in range(turn * 7 % 900, turn * 7 % 900 + 100):
            old = sets.get(slot)
            sets.drop(slot)
            assert sets.find(old) == -1
            sets.put(slot, _labels(1000 * (turn + 1) + slot))
    assert len(sets) == 1000
    for slot in range(1000):
        assert sets.find(sets.get(slot)) == slot


def test_sets_give_their_memory_back() -> None:
    sets = kernel().LabelSets()
    for slot in range(5000):
        sets.put(slot, _labels(slot))
    full = sys.getsizeof(sets)
    assert full < 5000 * 150
    for turn in range(200):
        for slot in range(100):
            sets.drop(slot)
            sets.put(slot, _labels(5000 + 100 * turn + slot))
    assert sys.getsizeof(sets) < 1.3 * full
    for slot in range(4950):
        sets.drop(slot)
    assert len(sets) == 50
    assert all(sets.find(_labels(slot)) == slot for slot in range(4950, 5000))
    assert sys.getsizeof(sets) < full / 4


def test_what_is_kept_must_be_labels() -> None:
    sets = kernel().LabelSets()
    for spoilt in (b"x", b"\x0a\x05a", b"\x0a\x00", encode_labels((("a", "b"),)) + b"\x0a\x03\x0a\x01a"):
        with pytest.raises(WireError, match="is not a list of labels"):
            sets.put(0, spoilt)
    assert len(sets) == 0
    sets.put(0, b"")
    assert sets.get(0) == b""
    assert sets.find(b"") == 0


def test_the_kernel_keeps_a_label_once() -> None:
    module: ModuleType = kernel()
    many, few = module.LabelSets(), module.LabelSets()
    for slot in range(1000):
        many.put(slot, encode_labels((("a", f"{slot}"), ("b", "x" * 1000))))
        few.put(slot, encode_labels((("a", f"{slot}"),)))
    assert sys.getsizeof(many) - sys.getsizeof(few) < 20_000
