"""Every reason that is counted is explained."""

from __future__ import annotations

import re
from pathlib import Path

from trunkline.collector.sender import LOSSES
from trunkline.exporters.prometheusremotewrite.delivery import REASONS

TROUBLESHOOTING = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
OTHERS = {"bad_request", "failed", "name_invalid", "too_large", "unknown"}


def test_the_documentation_explains_every_reason_and_no_other() -> None:
    table = TROUBLESHOOTING.read_text().partition("| reason |")[2].partition("\n\n")[0]
    explained = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert explained == {*LOSSES, *OTHERS, *(name for name, _ in REASONS)}
