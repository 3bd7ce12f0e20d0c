"""A process of its own that deploys, plans or removes a fleet, for tests that measure or interrupt one.

    python -m tests.fleet.fleet_process deploy|plan|destroy ENDPOINT < description

The description, in JSON, has `name`, `monitoring`, `workloads`, `regions` and `keys` by account. What happens is
printed line by line, and at the end one line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

from trunkline.errors import FleetError
from trunkline.fleet.deploy import Event, deploy_fleet
from trunkline.fleet.destroy import destroy_fleet
from trunkline.fleet.model import Fleet, MonitoringAccount, Organization, Service, WorkloadAccount
from trunkline.fleet.plan import plan_fleet
from trunkline.fleet.run import InterruptedRunError
from trunkline.fleet.sessions import AccessKey, key_sessions


def described(document: dict[str, Any]) -> Fleet:
    regions = tuple(document["regions"])
    return Fleet(
        name=document["name"],
        monitoring=MonitoringAccount(account_id=document["monitoring"], region=regions[0]),
        workloads=tuple(
            WorkloadAccount(account_id=account, regions=regions, services=(Service(name="shop"),))
            for account in document["workloads"]
        ),
        organization=Organization(id_="o-trunkline01"),
    )


def main(command: str, endpoint: str) -> int:
    document = json.load(sys.stdin)
    keys = {account: AccessKey(*key) for account, key in document["keys"].items()}
    fleet, sessions = described(document), key_sessions(keys, endpoint)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, code = time.monotonic(), 0
    result: dict[str, Any]
    try:
        if command == "plan":
            result = {"actions": [stack.action for stack in plan_fleet(fleet, sessions).stacks]}
        elif command == "deploy":
            result = {"changed": deploy_fleet(fleet, sessions, tell).changed}
        else:
            removal = destroy_fleet(fleet, sessions, tell, images=True, logs=True, data=True)
            result = {"kept": len(removal.kept)}
    except InterruptedRunError as error:
        code, result = 130, {"error": str(error), "in_progress": error.in_progress}
    except FleetError as error:
        code, result = 1, {"error": str(error)}
    after_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {"took_s": time.monotonic() - began, "before_kib": before_kib, "after_kib": after_kib}
    sys.stdout.write(json.dumps({**result, **figures}) + "\n")
    return code


def tell(event: Event) -> None:
    sys.stdout.write(f"{event.account_id} {event.region} {event.stack} {event.text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
