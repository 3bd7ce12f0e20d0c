"""The documents that are generated are up to date."""

from __future__ import annotations

from tests.differential.documented import COMPATIBILITY, REFERENCE, between_markers, section

from trunkline import components
from trunkline.collector.config.reference import render
from trunkline.component.settings import settings_of

AGAIN = "python -m tests.differential.documented"


def test_the_reference_of_settings_is_what_the_declarations_say() -> None:
    assert REFERENCE.read_text() == render(), f"stale: {AGAIN}"


def test_every_component_and_key_is_in_the_reference() -> None:
    text = render()
    for kind in components.KINDS:
        for name in components.names(kind):
            config = components.config_type(kind, name)
            assert config is not None
            assert f"`{name}`" in text
            assert [key for key in settings_of(config) if f"`{key}" not in text] == []


def test_what_is_said_about_the_comparison_is_what_is_compared() -> None:
    _, found, _ = between_markers(COMPATIBILITY.read_text())
    assert found == section(), f"stale: {AGAIN}"
