"""The emulator with the one resource type it lacks, run as a program: `GATEWAY_PORT` says where."""

from __future__ import annotations

import uuid
from typing import Any

from ministack.app import main  # type: ignore[import-untyped]
from ministack.core.responses import get_account_id, get_region  # type: ignore[import-untyped]
from ministack.services.cloudformation.provisioners import (  # type: ignore[import-untyped]
    _RESOURCE_HANDLERS,
)


def create_workspace(_logical_id: str, _properties: Any, _stack: str) -> tuple[str, dict[str, str]]:
    workspace_id = f"ws-{uuid.uuid4()}"
    region = get_region()
    arn = f"arn:aws:aps:{region}:{get_account_id()}:workspace/{workspace_id}"
    endpoint = f"https://aps-workspaces.{region}.amazonaws.com/workspaces/{workspace_id}/api/v1/"
    return arn, {"WorkspaceId": workspace_id, "Arn": arn, "PrometheusEndpoint": endpoint}


def delete_workspace(_physical_id: str, _properties: Any) -> None:
    """Nothing is kept."""


if __name__ == "__main__":
    _RESOURCE_HANDLERS["AWS::APS::Workspace"] = {"create": create_workspace, "delete": delete_workspace}
    main()
