"""The codecs of every scrape: compiled where the kernel could be built, otherwise their pure-Python twins.

The environment variable TRUNKLINE_KERNEL says what to take: `python` for the twins, `compiled` to fail without the
kernel, nothing to take what there is. See docs/decisions/0004-kernel.md.
"""

from __future__ import annotations

import os
from typing import Final

__all__ = [
    "COMPILED",
    "ExpositionParser",
    "LabelSets",
    "Template",
    "encode_labels",
    "encode_scraped",
    "join",
    "merge_labels",
]

_WANTED: Final = os.environ.get("TRUNKLINE_KERNEL", "")


def _is_built() -> bool:
    """Whether the compiled kernel is there. Raises ImportError if it has to be and is not."""
    if _WANTED not in ("", "python", "compiled"):
        raise ImportError(f"TRUNKLINE_KERNEL is {_WANTED!r}: say 'python', 'compiled', or nothing at all")
    if _WANTED == "python":
        return False
    try:
        import trunkline.wire._kernel  # noqa: F401, PLC0415
    except ImportError as error:
        if _WANTED == "compiled":
            raise ImportError(
                f"the compiled kernel cannot be loaded ({error}), and TRUNKLINE_KERNEL=compiled asks for it: "
                "install Trunkline where there are a C compiler and Python's headers, or unset the variable"
            ) from error
        return False
    return True


COMPILED: Final = _is_built()
"""Whether the kernel is the compiled one."""

if COMPILED:
    from trunkline.wire._kernel import (
        ExpositionParser,
        LabelSets,
        Template,
        encode_labels,
        encode_scraped,
        join,
        merge_labels,
    )
else:
    from trunkline.wire.exposition import ExpositionParser
    from trunkline.wire.label_sets import LabelSets, encode_scraped, merge_labels
    from trunkline.wire.remote_write import encode_labels
    from trunkline.wire.template import Template, join
