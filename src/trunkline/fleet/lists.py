"""How AWS lists things: filters to ask with, answers in pages, tags as pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def pages(client: Any, operation: str, key: str, **parameters: Any) -> Iterator[Any]:
    """What all pages of an operation's answer have under `key`. Raises `ClientError` as the client does."""
    for page in client.get_paginator(operation).paginate(**parameters):
        yield from page.get(key, [])


def filtered(name: str, *values: str) -> dict[str, Any]:
    """A filter of EC2: what has one of the values."""
    return {"Name": name, "Values": list(values)}


def tags_of(described: Mapping[str, Any]) -> dict[str, str]:
    """The `Tags` of something described, by key; empty where it has none."""
    return tag_values(described.get("Tags", ()))


def tag_values(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Tags by key."""
    return {tag["Key"]: tag["Value"] for tag in tags}
