"""The text of a number: kernel and twin make the same 64 bits of it, as a value and as a timestamp."""

from __future__ import annotations

import struct
from random import Random

from fuzz import exposition
from fuzz.exposition import Step
from fuzz.kernels import Kernel
from trunkline.wire import numbers


def check(data: bytes, kernel: Kernel) -> None:
    """What the kernel does not read it leaves to Python; a bound written anew is the same number."""
    value = _value(data)
    found = kernel.read_decimal(data)
    if found is not None:
        assert value is not None
        assert struct.pack("<d", found) == struct.pack("<d", value)
    _check_bound(data.decode("latin-1"), value)
    _check_in_bodies(data, kernel)


def _check_bound(text: str, value: float | None) -> None:
    bound = numbers.format_bound(text)
    assert numbers.format_bound(bound) == bound
    if value is None:
        assert bound == text
    else:
        assert repr(_value(bound.encode())) == repr(value + 0.0)  # which makes 0 of -0


def _value(text: bytes) -> float | None:
    try:
        return numbers.parse_value(text)
    except ValueError:
        return None


def _check_in_bodies(text: bytes, kernel: Kernel) -> None:
    """After a series whose text is known, which is where the kernel reads numbers itself."""
    agree, known = exposition.agree, Step(b"a 1")
    agree([known, Step(b"a " + text), Step(b"a 1 " + text)], kernel, honor_timestamps=True)
    stamped = [Step(b"a 1\n# EOF\n", openmetrics=True), Step(b"a 1 " + text + b"\n# EOF\n", openmetrics=True)]
    agree(stamped, kernel, honor_timestamps=True)


def mutate(data: bytes, random: Random) -> bytes:
    """A number that is hard to round: near to the middle between two floats, or with an exponent on the edge."""
    match random.randrange(5):
        case 0:
            bits = random.getrandbits(64)
            return repr(struct.unpack("<d", struct.pack("<Q", bits))[0]).encode()
        case 1:
            return _between(random)
        case 2:
            digits = random.choice((1, 8, 16, 17, 18, 19, 20))
            return b"%de%d" % (random.randrange(10**digits), random.randint(-345, 310))
        case 3 if data:
            place = random.randrange(len(data) + 1)
            return data[:place] + random.choice((b".", b"0", b"e", b"-", b"9" * 9)) + data[place:]
        case _:
            return b"%d.%0*d" % (
                random.getrandbits(random.choice((1, 20, 53))),
                random.randint(1, 19),
                random.getrandbits(40),
            )


def _between(random: Random) -> bytes:
    """The 17 to 19 digits nearest to the middle between two floats."""
    mantissa = random.getrandbits(53) | 1 << 52
    power = random.randint(-120, 120)
    middle = (2 * mantissa + 1) * (2**power if power >= 0 else 1)
    divisor = 1 if power >= 0 else 2**-power
    digits = random.randint(17, 19)
    shift = digits - len(str(middle // divisor or 1))
    scaled = middle * 10**shift // divisor if shift >= 0 else middle // divisor // 10**-shift
    return b"%de%d" % (scaled + random.randint(-1, 1), -shift)
