"""AWS's policy language: who may do what. Pure functions; nothing here reads or writes anything."""

from trunkline.simulator.iam.evaluator import (
    AccessRequest,
    Decision,
    Policies,
    PolicyType,
    Principal,
    evaluate,
)
from trunkline.simulator.iam.managed import AWS_MANAGED_POLICIES, managed_policy
from trunkline.simulator.iam.policy import Policy, PolicyError, parse_policy

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
