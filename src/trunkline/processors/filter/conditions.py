"""The conditions of the filter processor: the part of OpenTelemetry's transformation language that it needs.

    condition  = both { "or" both }
    both       = negatable { "and" negatable }
    negatable  = [ "not" ] ( "(" condition ")" | value [ comparison value ] )
    value      = string | number | "true" | "false" | "nil" | ENUM | path | Function "(" value { "," value } ")"

A value without comparison must be true or false. Everything a condition looks at belongs to the series, so it is
evaluated once for each; what it could only say of single samples is refused. Values compare as upstream's: of
different types they are unequal and in no order, whole numbers and fractions are one type, `nil` equals only `nil`.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from trunkline.component.patterns import problem_of, searcher
from trunkline.component.points import HISTOGRAMS, attributes_of, text_of
from trunkline.model import AttributeValue, Kind, Series

Scope: TypeAlias = Literal["resource", "metric", "datapoint"]
Get: TypeAlias = "Callable[[Subject], AttributeValue | None]"
Test: TypeAlias = "Callable[[Subject], bool]"

SCOPES: Final[tuple[Scope, ...]] = ("resource", "metric", "datapoint")

ENUMS: Final = {
    "METRIC_DATA_TYPE_NONE": 0,
    "METRIC_DATA_TYPE_GAUGE": 1,
    "METRIC_DATA_TYPE_SUM": 2,
    "METRIC_DATA_TYPE_HISTOGRAM": 3,
    "METRIC_DATA_TYPE_EXPONENTIAL_HISTOGRAM": 4,
    "METRIC_DATA_TYPE_SUMMARY": 5,
    "AGGREGATION_TEMPORALITY_UNSPECIFIED": 0,
    "AGGREGATION_TEMPORALITY_DELTA": 1,
    "AGGREGATION_TEMPORALITY_CUMULATIVE": 2,
}
_GAUGE, _SUM, _HISTOGRAM, _SUMMARY, _CUMULATIVE = 1, 2, 3, 5, 2

_SUMS: Final = frozenset({Kind.COUNTER, Kind.INFO, Kind.STATE_SET})
"""What the receiver makes sums of: components.md 5.10."""


class ConditionError(ValueError):
    """A condition that cannot be used: what is wrong, at which column, and what to write instead."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A series and, where a condition asks for them, the attributes of all data points of its metric."""

    series: Series
    attributes: Mapping[str, str]
    siblings: Sequence[Mapping[str, str]] = ()

    @classmethod
    def of(cls, series: Series) -> Subject:
        return cls(series, attributes_of(series))


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition ready to be asked. `needs_siblings` if it looks at other data points of the metric."""

    scope: Scope
    holds: Test
    needs_siblings: bool


def parse(text: str, scope: Scope | None) -> Condition:
    """The condition in `text`, about what `scope` says; None if its paths say it. Raises ConditionError."""
    return _Parser(text, scope).parse()


def type_of(series: Series) -> int:
    """The number of OpenTelemetry's data type that the metric of `series` has."""
    kind = series.family.kind
    if kind in HISTOGRAMS:
        return _HISTOGRAM
    if kind is Kind.SUMMARY:
        return _SUMMARY
    return _SUM if kind in _SUMS else _GAUGE


def _temporality(series: Series) -> int | None:
    return _CUMULATIVE if type_of(series) in (_SUM, _HISTOGRAM) else None


def _monotonic(series: Series) -> bool | None:
    return series.family.kind is Kind.COUNTER if type_of(series) == _SUM else None


_METRIC_FIELDS: Final[Mapping[str, Get]] = {
    "name": lambda subject: subject.series.family.name,
    "description": lambda subject: subject.series.family.help,
    "unit": lambda subject: subject.series.family.unit,
    "type": lambda subject: type_of(subject.series),
    "aggregation_temporality": lambda subject: _temporality(subject.series),
    "is_monotonic": lambda subject: _monotonic(subject.series),
}
_OF_SAMPLES: Final = re.compile(
    "start_time_unix_nano|time_unix_nano|start_time|time|value_double|value_int|value|exemplars|flags|count|sum|"
    "bucket_counts|explicit_bounds|scale|zero_count|positive|negative|quantile_values|data_points"
)
_KNOWN: Final[Mapping[Scope, tuple[str, ...]]] = {
    "resource": ('attributes["…"]',),
    "metric": (*_METRIC_FIELDS, 'resource.attributes["…"]'),
    "datapoint": (
        'attributes["…"]',
        *(f"metric.{name}" for name in _METRIC_FIELDS),
        'resource.attributes["…"]',
    ),
}

# Comparing: upstream's rules (OTTL's LANGUAGE.md, "Comparison Rules").

_ORDERS: Final[Mapping[str, Callable[[str | float, str | float], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,  # of one type, which is seen to
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compare(left: AttributeValue | None, order: str, right: AttributeValue | None) -> bool:
    """Whether `left` stands in this order to `right`; of different types they are unequal and nothing else."""
    if left is None and right is None:
        return order in ("==", "<=", ">=")
    if left is None or right is None or _type(left) is not _type(right):
        return order == "!="
    return _ORDERS[order](left, right)


def _type(value: AttributeValue) -> type:
    return float if type(value) is int else type(value)


# Parsing

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<bytes>0x[0-9a-fA-F]+)
    | (?P<number>[-+]?(?:\d*\.\d+(?:[eE][-+]?\d+)?|\d+))
    | (?P<string>"(?:\\.|[^\\"])*")
    | (?P<word>[A-Za-z][A-Za-z0-9_]*)
    | (?P<order>==|!=|>=|<=|>|<)
    | (?P<sign>[][().,+\-*/=:{}])
    | (?P<end>$)
    )""",
    re.VERBOSE | re.ASCII,
)
_GO_ESCAPES: Final = re.compile(
    r"""\\(?:[abfnrtv\\"]|[0-7]{3}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})""", re.ASCII
)


_ATTRIBUTES_OF_POINTS: Final = "its data points have: write the condition under datapoint:, or HasAttrOnDatapoint, or resource.attributes"
_INSTEAD: Final = {"&": "write and", "|": "write or", "!": "write not"}


class _Token(NamedTuple):
    kind: str
    text: str
    start: int


@dataclass(slots=True)
class _Operand:
    """A value, and the pattern or key it is if it was written as a string."""

    get: Get
    start: int
    literal: AttributeValue | None = None
    known_bool: bool = False


@dataclass(slots=True)
class _Parser:
    text: str
    scope: Scope | None
    position: int = 0
    used: set[Scope] = field(default_factory=set)
    needs_siblings: bool = False
    token: _Token = field(default_factory=lambda: _Token("end", "", 0))

    def parse(self) -> Condition:
        self._next()
        test = self._condition()
        if self.token.kind != "end":
            raise self._error(f"unexpected {self.token.text!r}", self._advice())
        used: Scope = max(self.used, key=SCOPES.index, default="resource")
        scope = self.scope or used
        if self.needs_siblings and scope == "datapoint":
            advice = "make two conditions of it"
            raise self._error("HasAttr… looks at whole metrics, datapoint.… at single data points", advice, 0)
        return Condition(scope, test, self.needs_siblings)

    # Words

    def _next(self) -> _Token:
        """Go on to the next token; returns the one left behind."""
        left = self.token
        match = _TOKEN.match(self.text, self.position)
        if match is None:
            rest = self.text[self.position :].lstrip()
            what = "a string that does not end" if rest[0] == '"' else repr(rest[0])
            advice = _INSTEAD.get(rest[0], 'strings are written in "double quotes"')
            raise self._error(f"unexpected {what}", advice, len(self.text) - len(rest))
        kind = str(match.lastgroup)
        self.token = _Token(kind, match[kind], match.start(kind))
        self.position = match.end()
        return left

    def _met(self, text: str) -> bool:
        """Go past `text` if that is next."""
        met = self.token.text == text and self.token.kind != "string"
        if met:
            self._next()
        return met

    def _expect(self, text: str, why: str) -> None:
        if not self._met(text):
            found = f"found {self.token.text!r}" if self.token.text else "the condition ends"
            raise self._error(f"expected {text!r} {why}, but {found}")

    def _error(self, what: str, advice: str = "", start: int | None = None) -> ConditionError:
        start = self.token.start if start is None else start
        rest = self.text[start : start + 24]
        near = f", at {rest!r}" if rest else ""
        message = f"column {start + 1} of the condition{near}: {what}"
        return ConditionError(f"{message}; {advice}" if advice else message)

    def _advice(self) -> str:
        text = self.token.text
        if text in ("+", "-", "*", "/"):
            return "calculating is not supported"
        if text == "=":
            return "write == to compare"
        return _nearest(text, ("and", "or")) or "join comparisons with and, or"

    # Conditions

    def _condition(self) -> Test:
        tests = [self._both()]
        while self._met("or"):
            tests.append(self._both())
        return tests[0] if len(tests) == 1 else lambda subject: any(test(subject) for test in tests)

    def _both(self) -> Test:
        tests = [self._negatable()]
        while self._met("and"):
            tests.append(self._negatable())
        return tests[0] if len(tests) == 1 else lambda subject: all(test(subject) for test in tests)

    def _negatable(self) -> Test:
        if self._met("not"):
            test = self._negatable()
            return lambda subject: not test(subject)
        if self._met("("):
            test = self._condition()
            self._expect(")", "after the condition in parentheses")
            return test
        return self._comparison()

    def _comparison(self) -> Test:
        left = self._value()
        if self.token.kind != "order":
            if not left.known_bool:
                raise self._error(
                    "expected a comparison such as == here", self._advice() if self.token.text else ""
                )
            return lambda subject: bool(left.get(subject))
        order = self._next().text
        right = self._value()
        return lambda subject: compare(left.get(subject), order, right.get(subject))

    # Values

    def _value(self) -> _Operand:
        token = self.token
        if token.kind == "word":
            return self._word()
        if token.kind == "string":
            self._next()
            return _constant(self._unquoted(token), token.start)
        if token.kind == "number":
            self._next()
            number = float(token.text) if "." in token.text else int(token.text)
            return _constant(number, token.start)
        if token.kind == "bytes" or token.text in ("{", "["):
            raise self._error(f"{'bytes' if token.kind == 'bytes' else 'lists and maps'} are not supported")
        raise self._error("expected a value", 'such as name, attributes["key"] or "text"')

    def _word(self) -> _Operand:
        word = self._next()
        if word.text in ("true", "false"):
            return _constant(word.text == "true", word.start)
        if word.text == "nil":
            return _constant(None, word.start)
        if word.text[0].islower():
            return self._path(word)
        if self.token.text == "(":
            return self._function(word)
        if word.text in ENUMS:
            return _constant(ENUMS[word.text], word.start)
        raise self._error(
            f"unknown word {word.text}", _nearest(word.text, (*ENUMS, *self._functions())), word.start
        )

    def _unquoted(self, token: _Token) -> str:
        wrong = re.search(r"\\.", _GO_ESCAPES.sub(lambda match: "_" * len(match[0]), token.text))
        if wrong is not None:
            advice = f"write \\{wrong[0]} for a backslash that a pattern is to have"
            raise self._error(f"{wrong[0]} means nothing in a string", advice, token.start + wrong.start())
        return str(ast.literal_eval(token.text.replace("\n", "\\n")))

    # Paths

    def _path(self, word: _Token) -> _Operand:
        if self.token.text == "(":
            advice = _nearest(word.text[0].upper() + word.text[1:], self._functions())
            raise self._error(f"the function {word.text} is not supported", advice, word.start)
        names = [word.text]
        while self._met("."):
            if self.token.kind != "word":
                raise self._error("expected a name after the dot")
            names.append(self._next().text)
        keys = []
        while self._met("["):
            keys.append(self._key())
        scope, fields = self._owner(names, word)
        self.used.add(scope)
        return _Operand(self._field(scope, fields, keys, word), word.start)

    def _key(self) -> str:
        if self.token.kind != "string":
            raise self._error('expected a key in double quotes, such as attributes["key"]')
        key = self._unquoted(self._next())
        self._expect("]", "after the key")
        return key

    def _owner(self, names: list[str], word: _Token) -> tuple[Scope, list[str]]:
        """Whose field a path names, with what is left of it."""
        first = names[0]
        if first in ("scope", "instrumentation_scope"):
            raise self._error(f"{first} is not supported", "collected metrics have no scope", word.start)
        for scope in SCOPES:
            if first == scope and len(names) > 1:
                if self.scope is not None and SCOPES.index(scope) > SCOPES.index(self.scope):
                    raise self._error(
                        f"a {self.scope} has no {scope}", f"it knows {self._known()}", word.start
                    )
                return scope, names[1:]
        if self.scope is None:
            owners = [scope for scope in SCOPES if any(known.startswith(first) for known in _KNOWN[scope])]
            advice = "write " + " or ".join(f"{scope}.{first}" for scope in owners) if owners else ""
            raise self._error(f"{first} does not say whose it is", advice, word.start)
        return self.scope, names

    def _field(self, scope: Scope, fields: list[str], keys: list[str], word: _Token) -> Get:
        name = ".".join(fields)
        if name == "attributes" and scope != "metric":
            return self._attribute(scope, keys, word)
        if keys and name in _METRIC_FIELDS:
            raise self._error(f"{name} cannot be indexed", start=word.start)
        if scope == "metric" and name in _METRIC_FIELDS:
            return _METRIC_FIELDS[name]
        if _OF_SAMPLES.fullmatch(name):
            advice = (
                "series are decided once, not sample by sample; drop by value where the metric is queried"
            )
            raise self._error(f"{name} is not supported", advice, word.start)
        if name == "attributes":
            raise self._error(f"a metric has no {name}", _ATTRIBUTES_OF_POINTS, word.start)
        advice = _nearest(name, self._fields(scope)) or f"a {scope} knows {self._known(scope)}"
        raise self._error(f"unknown path {self._shown(scope, name)}", advice, word.start)

    def _fields(self, scope: Scope) -> Sequence[str]:
        return tuple(_METRIC_FIELDS) if scope == "metric" else ("attributes",)

    def _shown(self, scope: Scope, name: str) -> str:
        return name if scope == self.scope else f"{scope}.{name}"

    def _known(self, scope: Scope | None = None) -> str:
        return ", ".join(_KNOWN[scope or self.scope or "datapoint"])

    def _attribute(self, scope: Scope, keys: list[str], word: _Token) -> Get:
        if len(keys) != 1:
            what = "lists and maps are not supported" if keys else "all attributes at once cannot be compared"
            raise self._error(what, 'write attributes["key"]', word.start)
        key = keys[0]
        if scope == "resource":
            return lambda subject: subject.series.resource.attributes.get(key)
        return lambda subject: subject.attributes.get(key)

    # Functions

    def _functions(self) -> Sequence[str]:
        of_metric = ("HasAttrKeyOnDatapoint", "HasAttrOnDatapoint") if self.scope in (None, "metric") else ()
        return ("IsMatch", *of_metric)

    def _function(self, word: _Token) -> _Operand:
        if word.text not in self._functions():
            known = ", ".join(self._functions())
            advice = _nearest(word.text, self._functions()) or f"functions known here: {known}"
            raise self._error(f"the function {word.text} is not supported", advice, word.start)
        self._expect("(", "")
        arguments = [self._argument()]
        while self._met(","):
            arguments.append(self._argument())
        self._expect(")", f"after the arguments of {word.text}")
        wanted = 1 if word.text == "HasAttrKeyOnDatapoint" else 2
        if len(arguments) != wanted:
            raise self._error(f"{word.text} takes {wanted} arguments, not {len(arguments)}", start=word.start)
        if word.text == "IsMatch":
            get = self._is_match(*arguments)
        else:
            get = self._has_attribute([self._text(argument) for argument in arguments])
        return _Operand(get, word.start, known_bool=True)

    def _argument(self) -> _Operand:
        if self.token.kind == "word" and re.match(r"\s*=[^=]", self.text[self.position :]):
            raise self._error("arguments cannot be named", "write them in their order")
        return self._value()

    def _text(self, argument: _Operand) -> str:
        if not isinstance(argument.literal, str):
            raise self._error("expected a string in double quotes", start=argument.start)
        return argument.literal

    def _is_match(self, target: _Operand, pattern: _Operand) -> Get:
        text = self._text(pattern)
        if wrong := problem_of(text):
            raise self._error(wrong, start=pattern.start)
        found = searcher(text)

        def get(subject: Subject) -> bool:
            value = target.get(subject)
            return value is not None and found(text_of(value))

        return get

    def _has_attribute(self, arguments: list[str]) -> Get:
        self.used.add("metric")
        self.needs_siblings = True
        key, wanted = arguments[0], arguments[1] if len(arguments) > 1 else None
        if wanted is None:
            return lambda subject: any(key in attributes for attributes in subject.siblings)
        return lambda subject: any(attributes.get(key) == wanted for attributes in subject.siblings)


def _constant(value: AttributeValue | None, start: int) -> _Operand:
    return _Operand(lambda _: value, start, value, isinstance(value, bool))


def _nearest(word: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415 (only needed when something is wrong)

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else ""
