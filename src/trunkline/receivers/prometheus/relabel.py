"""Relabelling: rules that keep, drop and rewrite label sets, exactly as Prometheus 3 does (components.md 5.5).

A rule is compiled once to a function over a dictionary of labels. Rules on metrics run once per series, rules on
targets once per discovered target. Patterns are RE2, match the whole value, and a dot matches a line end too; the
commonest patterns (`(.*)`, plain words) need no RE2, which is loaded by the first pattern that does (3 MB).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import Final, Literal, TypeAlias

from trunkline.component.patterns import compiled, problem_of
from trunkline.component.settings import Text, setting

Scheme: TypeAlias = Literal["utf8", "legacy"]
Rule: TypeAlias = Callable[[dict[str, str]], bool]
"""Changes labels in place; false drops their owner."""

_Groups: TypeAlias = Sequence[str | None]
_Matcher: TypeAlias = Callable[[str], _Groups | None]
"""The groups of a match of the whole text, which itself is the first; None if there is none."""
_Template: TypeAlias = Callable[[_Groups], str]

_LEGACY_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*+")
_LEGACY_METRIC: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*+")
_REFERENCE: Final = r"\$(?:\{\w++\}|\w++)"
_LEGACY_TEMPLATE: Final = re.compile(rf"(?:[a-zA-Z_]|{_REFERENCE})(?:\w|{_REFERENCE})*+", re.ASCII)
_PLAIN_WORDS: Final = re.compile(r"[\w /:;,=@%&~<>\"'!-]*(?:\|[\w /:;,=@%&~<>\"'!-]*)*")
_ANYTHING: Final = "(.*)"
_CHOOSING: Final = frozenset(("keep", "drop", "keepequal", "dropequal"))
_WITH_TARGET: Final = frozenset(("replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal"))


def is_label_name(name: str, scheme: Scheme) -> bool:
    """Whether a label may have this name: any text that is not empty, or the letters of old."""
    return bool(name) if scheme == "utf8" else _LEGACY_NAME.fullmatch(name) is not None


def is_metric_name(name: str, scheme: Scheme) -> bool:
    """The same for the name of a metric."""
    return bool(name) if scheme == "utf8" else _LEGACY_METRIC.fullmatch(name) is not None


@dataclass(frozen=True, kw_only=True)
class RelabelConfig:
    """One rule of `relabel_configs` or `metric_relabel_configs`."""

    source_labels: list[Text] = setting(
        default_factory=list, doc="Labels whose values, joined, are looked at."
    )
    separator: Text = setting(default=";", doc="What stands between the joined values.")
    regex: Text = setting(default=_ANYTHING, doc="RE2 pattern that has to match all of the joined values.")
    modulus: int = setting(default=0, doc="What `hashmod` divides the hash by.")
    target_label: Text = setting(default="", doc="The label that is written, or compared with.")
    replacement: Text = setting(default="$1", doc="The new value; `$1` or `${1}` are groups of the pattern.")
    action: Text = setting(default="replace", doc="What is done: `replace`, `keep`, `drop`, `labelmap`, ….")

    @property
    def kind(self) -> str:
        """The action in lower case, as Prometheus takes it in any."""
        return self.action.lower()

    @property
    def chooses_by_name(self) -> bool:
        """Whether it keeps or drops series by their name."""
        return self.kind in _CHOOSING and "__name__" in self.source_labels

    def check(self, scheme: Scheme = "utf8") -> Iterator[tuple[str, str]]:
        """What is wrong with the rule: the key and, in Prometheus' words, the reason."""
        kind = self.kind
        if kind not in _ACTIONS:
            yield "action", f'unknown relabel action "{self.action}"; valid actions: {", ".join(_ACTIONS)}'
            return
        if problem := problem_of(f"^(?s:{self.regex})$"):
            yield "regex", problem
        if kind == "hashmod" and self.modulus == 0:
            yield "modulus", "relabel configuration for hashmod requires non-zero modulus"
        if self.modulus < 0:
            yield "modulus", "must be a whole number greater than zero"
        if kind in _WITH_TARGET:
            yield from self._check_target(kind, scheme)
        if kind == "labelmap" and not _is_template(self.replacement, scheme):
            yield "replacement", f"\"{self.replacement}\" is invalid 'replacement' for labelmap action"
        yield from self._check_others(kind)

    def _check_target(self, kind: str, scheme: Scheme) -> Iterator[tuple[str, str]]:
        if not self.target_label:
            yield (
                "target_label",
                f"relabel configuration for {kind} action requires 'target_label' value",
            )
            return
        expands = kind == "replace" and "$" in self.target_label
        valid = _is_template if expands else is_label_name
        if not valid(self.target_label, scheme):
            yield "target_label", f"\"{self.target_label}\" is invalid 'target_label' for {kind} action"

    def _check_others(self, kind: str) -> Iterator[tuple[str, str]]:
        """Keys that mean nothing with this action."""
        plain = RelabelConfig()
        differing = {
            key
            for key in ("source_labels", "separator", "regex", "modulus", "target_label", "replacement")
            if getattr(self, key) != getattr(plain, key)
        }
        if kind in ("keepequal", "dropequal") and differing - {"source_labels", "target_label"}:
            yield "", f"{kind} action requires only 'source_labels' and `target_label`, and no other fields"
        elif kind in ("labeldrop", "labelkeep") and differing - {"regex"}:
            yield "", f"{kind} action requires only 'regex', and no other fields"
        elif kind in ("lowercase", "uppercase") and "replacement" in differing:
            yield "replacement", f"'replacement' can not be set for {kind} action"


def _is_template(text: str, scheme: Scheme) -> bool:
    return bool(text) if scheme == "utf8" else _LEGACY_TEMPLATE.fullmatch(text) is not None


def rules_of(configs: Sequence[RelabelConfig], scheme: Scheme = "utf8") -> tuple[Rule, ...]:
    """The rules, ready to run. Raises ValueError for a pattern that is none."""
    return tuple(_ACTIONS[config.kind](config, scheme) for config in configs)


def relabel(labels: dict[str, str], rules: Sequence[Rule]) -> bool:
    """Run `rules` over `labels`, which hold no empty values, in place; false when one of them drops their owner."""
    return all(rule(labels) for rule in rules)


def _put(labels: dict[str, str], name: str, value: str) -> None:
    if value:
        labels[name] = value
    else:
        labels.pop(name, None)


def _joined(config: RelabelConfig) -> Callable[[dict[str, str]], str]:
    names, separator = config.source_labels, config.separator
    if not names:
        return lambda _: ""
    if len(names) == 1:
        only = names[0]
        return lambda labels: labels.get(only, "")
    return lambda labels: separator.join([labels.get(name, "") for name in names])


def _replace(config: RelabelConfig, scheme: Scheme) -> Rule:
    joined, match = _joined(config), _matcher(config.regex)
    target, replacement = (
        _template(text, config.regex) for text in (config.target_label, config.replacement)
    )

    def rule(labels: dict[str, str]) -> bool:
        groups = match(joined(labels))
        if groups is not None:
            name = target(groups)
            if is_label_name(name, scheme):
                _put(labels, name, replacement(groups))
        return True

    return rule


def _keep(config: RelabelConfig, _: Scheme) -> Rule:
    joined, match = _joined(config), _matcher(config.regex)
    return lambda labels: match(joined(labels)) is not None


def _drop(config: RelabelConfig, _: Scheme) -> Rule:
    joined, match = _joined(config), _matcher(config.regex)
    return lambda labels: match(joined(labels)) is None


def _keep_equal(config: RelabelConfig, _: Scheme) -> Rule:
    joined, target = _joined(config), config.target_label
    return lambda labels: labels.get(target, "") == joined(labels)


def _drop_equal(config: RelabelConfig, _: Scheme) -> Rule:
    joined, target = _joined(config), config.target_label
    return lambda labels: labels.get(target, "") != joined(labels)


def _written(config: RelabelConfig, change: Callable[[str], str]) -> Rule:
    joined, target = _joined(config), config.target_label

    def rule(labels: dict[str, str]) -> bool:
        _put(labels, target, change(joined(labels)))
        return True

    return rule


def _hash_mod(config: RelabelConfig, _: Scheme) -> Rule:
    def change(value: str) -> str:
        digest = md5(value.encode(), usedforsecurity=False).digest()
        return str(int.from_bytes(digest[8:], "big") % config.modulus)

    return _written(config, change)


def _lower(config: RelabelConfig, _: Scheme) -> Rule:
    return _written(config, lambda value: "".join(map(_lower_letter, value)))


def _upper(config: RelabelConfig, _: Scheme) -> Rule:
    return _written(config, lambda value: "".join(map(_upper_letter, value)))


def _lower_letter(letter: str) -> str:
    """One letter for one letter, as Go does, whatever the language makes of it."""
    return letter.lower()[0]


def _upper_letter(letter: str) -> str:
    """The same; where one letter would become several (ß), Unicode's single letter is its title case, if any."""
    upper = letter.upper()
    if len(upper) > 1:
        upper = letter.title()
    return upper if len(upper) == 1 else letter


def _label_map(config: RelabelConfig, _: Scheme) -> Rule:
    match, name_of = _matcher(config.regex), _template(config.replacement, config.regex)

    def rule(labels: dict[str, str]) -> bool:
        for name, value in list(labels.items()):
            groups = match(name)
            if groups is not None and (copy := name_of(groups)):
                labels[copy] = value
        return True

    return rule


def _label_drop(config: RelabelConfig, _: Scheme) -> Rule:
    match = _matcher(config.regex)
    return _without(lambda name: match(name) is not None)


def _label_keep(config: RelabelConfig, _: Scheme) -> Rule:
    match = _matcher(config.regex)
    return _without(lambda name: match(name) is None)


def _without(unwanted: Callable[[str], bool]) -> Rule:
    def rule(labels: dict[str, str]) -> bool:
        for name in [name for name in labels if unwanted(name)]:
            del labels[name]
        return True

    return rule


def _matcher(regex: str) -> _Matcher:
    if regex == _ANYTHING:
        return lambda value: (value, value)
    if _PLAIN_WORDS.fullmatch(regex):
        words = frozenset(regex.split("|"))
        return lambda value: (value,) if value in words else None
    pattern = compiled(f"^(?s:{regex})$")
    search, numbers = pattern.search, range(pattern.groups + 1)

    def groups(value: str) -> _Groups | None:
        found = search(value)
        return None if found is None else [found.group(number) for number in numbers]

    return groups


def _group_names(regex: str) -> dict[str, int]:
    """The groups a template may refer to, by name and number."""
    if _PLAIN_WORDS.fullmatch(regex):
        return {"0": 0}
    if regex == _ANYTHING:
        return {"0": 0, "1": 1}
    pattern = compiled(f"^(?s:{regex})$")
    return {**pattern.groupindex, **{str(number): number for number in range(pattern.groups + 1)}}


def _template(text: str, regex: str) -> _Template:
    """`text` with `$1`, `${1}`, `$name` and `${name}` replaced as Go's `Regexp.Expand` does.

    The longest word after `$` is the name, so `$1x` is the group `1x`; unknown groups are empty; `$$` is a dollar; a
    `$` that begins nothing of that stands for itself.
    """
    if "$" not in text:
        return lambda _: text
    if text == "$1" and regex == _ANYTHING:
        return lambda groups: groups[1] or ""
    numbers = _group_names(regex)
    parts: list[str | int | None] = []
    position = 0
    for found in re.finditer(r"\$(?:(\$)|\{(\w+)\}|(\w+))", text):
        parts += [text[position : found.start()], "$" if found[1] else numbers.get(found[2] or found[3])]
        position = found.end()
    parts.append(text[position:])
    known = [part for part in parts if part not in (None, "")]
    return lambda groups: "".join(
        [(groups[part] or "") if isinstance(part, int) else part or "" for part in known]
    )


_ACTIONS: Final[dict[str, Callable[[RelabelConfig, Scheme], Rule]]] = {
    "replace": _replace,
    "keep": _keep,
    "drop": _drop,
    "keepequal": _keep_equal,
    "dropequal": _drop_equal,
    "hashmod": _hash_mod,
    "labelmap": _label_map,
    "labeldrop": _label_drop,
    "labelkeep": _label_keep,
    "lowercase": _lower,
    "uppercase": _upper,
}
