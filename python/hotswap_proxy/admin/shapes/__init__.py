"""What the admin API answers, as models: for the OpenAPI document, by which the tests check every answer.

Nothing is validated with them when a call is answered, and no process but the one that writes the document
loads them. An endpoint's row names them (``Endpoint.answers``); a new module has to be imported here.
"""

from .common import Answered, ErrorAnswer, Plan
from .deployments import Deployment, DeploymentMetrics, DeploymentPage, Ordered, Rehearsed, SimulationAnswer
from .history import AnomalyPage, RouteHistory
from .identity import (
    AuditHead,
    AuditPage,
    AuditVerified,
    KeyCreated,
    KeyPage,
    LoggedIn,
    User,
    UserPage,
)
from .node import Health, Nodes, Summary
from .objects import (
    Applied,
    BackendHealth,
    BackendPage,
    BackendShown,
    BackendWritten,
    CheckRun,
    CircuitOrdered,
    Exported,
    RoutePage,
    RouteProposed,
    RouteShown,
    RouteWritten,
    Validated,
    VersionDiff,
    VersionPage,
    VersionShown,
)
from .traces import Trace, Traces

__all__ = [
    "AnomalyPage",
    "Answered",
    "Applied",
    "AuditHead",
    "AuditPage",
    "AuditVerified",
    "BackendHealth",
    "BackendPage",
    "BackendShown",
    "BackendWritten",
    "CheckRun",
    "CircuitOrdered",
    "Deployment",
    "DeploymentMetrics",
    "DeploymentPage",
    "ErrorAnswer",
    "Exported",
    "Health",
    "KeyCreated",
    "KeyPage",
    "LoggedIn",
    "Nodes",
    "Ordered",
    "Plan",
    "Rehearsed",
    "RouteHistory",
    "RoutePage",
    "RouteProposed",
    "RouteShown",
    "RouteWritten",
    "SimulationAnswer",
    "Summary",
    "Trace",
    "Traces",
    "User",
    "UserPage",
    "Validated",
    "VersionDiff",
    "VersionPage",
    "VersionShown",
]
