"""AWS's policy language: who may do what. Pure functions; nothing here reads or writes anything."""

from trunkline.aws.iam.evaluator import (
    AccessRequest,
    Decision,
    Policies,
    PolicyType,
    Principal,
    evaluate,
)
from trunkline.aws.iam.managed import AWS_MANAGED_POLICIES, managed_policy
from trunkline.aws.iam.policy import Policy, PolicyError, parse_policy

__all__ = [
    "AWS_MANAGED_POLICIES",
    "AccessRequest",
    "Decision",
    "Policies",
    "Policy",
    "PolicyError",
    "PolicyType",
    "Principal",
    "evaluate",
    "managed_policy",
    "parse_policy",
]
