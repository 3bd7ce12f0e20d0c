"""The CloudFormation templates of a fleet, as deterministic JSON.

Four of them: the monitoring account's; an account's roles; the base of each of its regions; the services there. An
organisation's units have the last two in one, and a registry in the monitoring account; where VPCs are peered, that
account has one more, for the ways back. Each says in `Outputs` what
the stacks after it need, under the names of its class in `interface`. What is the same in the whole fleet is
written into the template; what differs from one account or region to the next is a parameter or a pseudo
parameter, so that accounts with the same services and network share one.
"""

from trunkline.fleet.templates.account import global_template
from trunkline.fleet.templates.base import base_template
from trunkline.fleet.templates.configuration import collector_configuration
from trunkline.fleet.templates.document import MAX_TEMPLATE_BYTES, parameters_of
from trunkline.fleet.templates.interface import (
    APPLICATION_CONTAINER,
    APPLICATION_PORT,
    COLLECTOR_CONTAINER,
    CONTAINER_USER,
    DATA_DIR,
    QUERY_ACTIONS,
    BaseOutput,
    BaseParameter,
    GlobalOutput,
    MonitoringOutput,
    PeeringParameter,
    ServicesParameter,
)
from trunkline.fleet.templates.monitoring import monitoring_template
from trunkline.fleet.templates.organization import organization_template
from trunkline.fleet.templates.peering import peering_template
from trunkline.fleet.templates.registry import PushedImage, pushed_images, registry_template
from trunkline.fleet.templates.services import MAX_TASK_DEFINITION_BYTES, services_template
from trunkline.fleet.templates.trust import TrustSize, trust_size

__all__ = [
    "APPLICATION_CONTAINER",
    "APPLICATION_PORT",
    "COLLECTOR_CONTAINER",
    "CONTAINER_USER",
    "DATA_DIR",
    "MAX_TASK_DEFINITION_BYTES",
    "MAX_TEMPLATE_BYTES",
    "QUERY_ACTIONS",
    "BaseOutput",
    "BaseParameter",
    "GlobalOutput",
    "MonitoringOutput",
    "PeeringParameter",
    "PushedImage",
    "ServicesParameter",
    "TrustSize",
    "base_template",
    "collector_configuration",
    "global_template",
    "monitoring_template",
    "organization_template",
    "parameters_of",
    "peering_template",
    "pushed_images",
    "registry_template",
    "services_template",
    "trust_size",
]
