"""The endpoints. A handler calls what knows the rules and answers; it decides nothing."""

from . import (
    anomalies,
    api_keys,
    audit,
    authentication,
    backends,
    config,
    deployments,
    gateway,
    routes,
    simulation,
    traces,
    users,
    versions,
)

ENDPOINTS = (
    *authentication.ENDPOINTS,
    *api_keys.ENDPOINTS,
    *users.ENDPOINTS,
    *routes.ENDPOINTS,
    *versions.ENDPOINTS,
    *simulation.ENDPOINTS,
    *deployments.ENDPOINTS,
    *backends.ENDPOINTS,
    *config.ENDPOINTS,
    *gateway.ENDPOINTS,
    *anomalies.ENDPOINTS,
    *traces.ENDPOINTS,
    *audit.ENDPOINTS,
)
