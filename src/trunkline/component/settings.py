"""How a component declares its settings: fields of a frozen dataclass, each with its description.

    @dataclass(frozen=True, kw_only=True)
    class PollConfig:
        '''Polls an endpoint.'''

        endpoint: str = setting(doc="URL that is polled.")
        collection_interval: Duration = setting(default=20.0, doc="How often.")

        def check(self) -> Iterator[tuple[str, str]]:
            if self.collection_interval <= 0:
                yield "collection_interval", "must be greater than zero, such as 20s"

A field without default is required. Unknown keys, wrong types and what `check` yields become problems with a place.
The component reference is generated from the same declarations.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, TypeAlias, TypeVar, cast, get_type_hints, overload

T = TypeVar("T")

_METADATA: Final = "trunkline.setting"


@dataclass(frozen=True, slots=True)
class Lenient:
    """Marks a string for which a bare number or boolean may be written."""


Text: TypeAlias = Annotated[str, Lenient()]
"""A string that also takes a bare number or boolean, as it was written: what Prometheus does everywhere.

For label values and the like: `labels: {version: 1.10}` is `1.10`. A plain `str` asks for quotes, as the
OpenTelemetry Collector does.
"""


@dataclass(frozen=True, slots=True)
class _Declaration:
    doc: str
    key: str
    deprecated: str
    ignored: str


@dataclass(frozen=True, slots=True)
class Setting:
    """One declared setting. `name` is Python's, `key` YAML's; `type` keeps what `Annotated` carries.

    `deprecated` and `ignored` are notes for the user: the key is accepted, and a warning with the note is given.
    An ignored key has no effect.
    """

    name: str
    key: str
    type: Any
    doc: str
    required: bool
    deprecated: str
    ignored: str
    declared: dataclasses.Field[Any]

    def default(self) -> Any:
        """The value when the key is absent; not for required settings."""
        if self.declared.default_factory is not dataclasses.MISSING:
            return self.declared.default_factory()
        return self.declared.default


@overload
def setting(*, doc: str, key: str = "", deprecated: str = "", ignored: str = "") -> Any: ...


@overload
def setting(*, default: T, doc: str, key: str = "", deprecated: str = "", ignored: str = "") -> T: ...


@overload
def setting(
    *, default_factory: Callable[[], T], doc: str, key: str = "", deprecated: str = "", ignored: str = ""
) -> T: ...


def setting(
    *,
    doc: str,
    default: Any = dataclasses.MISSING,
    default_factory: Any = dataclasses.MISSING,
    key: str = "",
    deprecated: str = "",
    ignored: str = "",
) -> Any:
    """Declare a field of a config dataclass.

    `doc` is one sentence for the reference. `key` is the YAML key where it is not the field's name. `deprecated`
    says what to use instead; `ignored` says why the key is accepted without effect.
    """
    if not doc:
        raise TypeError("a setting needs a doc: one sentence for the reference")
    metadata = {_METADATA: _Declaration(doc, key, deprecated, ignored)}
    if default is not dataclasses.MISSING:
        return field(default=default, metadata=metadata)
    if default_factory is not dataclasses.MISSING:
        return field(default_factory=default_factory, metadata=metadata)
    return field(metadata=metadata)


def settings_of(config: type) -> Mapping[str, Setting]:
    """The settings of a config dataclass by YAML key, in order.

    Raises TypeError if a field was not declared with `setting`: that is a mistake in the component.
    """
    hints = get_type_hints(config, include_extras=True)
    return {
        found.key: found for found in (_setting(config, one, hints) for one in dataclasses.fields(config))
    }


def _setting(config: type, declared: dataclasses.Field[Any], hints: Mapping[str, Any]) -> Setting:
    if _METADATA not in declared.metadata:
        raise TypeError(f"{config.__qualname__}.{declared.name} must be declared with setting()")
    declaration = cast("_Declaration", declared.metadata[_METADATA])
    return Setting(
        name=declared.name,
        key=declaration.key or declared.name,
        type=hints[declared.name],
        doc=declaration.doc,
        required=declared.default is dataclasses.MISSING and declared.default_factory is dataclasses.MISSING,
        deprecated=declaration.deprecated,
        ignored=declaration.ignored,
        declared=declared,
    )
