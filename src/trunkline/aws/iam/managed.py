"""The AWS managed policies known here; one that is not grants nothing to whoever is judged by it.

Source: AWS managed policy reference guide; the query policy's actions as in the AMP user guide.
"""

from __future__ import annotations

from typing import Final

from trunkline.aws.iam.policy import Policy, parse_policy


def _allow(*actions: str) -> Policy:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return parse_policy({"Version": "2012-10-17", "Statement": [statement]})


_AWS: Final = "arn:aws:iam::aws:policy"

AWS_MANAGED_POLICIES: Final = {
    f"{_AWS}/AdministratorAccess": _allow("*"),
    f"{_AWS}/AmazonPrometheusRemoteWriteAccess": _allow("aps:RemoteWrite"),
    f"{_AWS}/AmazonPrometheusQueryAccess": _allow(
        "aps:GetLabels", "aps:GetMetricMetadata", "aps:GetSeries", "aps:QueryMetrics"
    ),
    f"{_AWS}/service-role/AmazonECSTaskExecutionRolePolicy": _allow(
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:GetDownloadUrlForLayer",
        "ecr:BatchGetImage",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    ),
}


def managed_policy(arn: str) -> Policy | None:
    """The AWS managed policy with this ARN, or None if it is not among those known here."""
    return AWS_MANAGED_POLICIES.get(arn)
