"""The endpoints. A handler calls what knows the rules and answers; it decides nothing."""

from . import audit, authentication, backends, config, gateway, routes, users

ENDPOINTS = (
    *authentication.ENDPOINTS,
    *users.ENDPOINTS,
    *routes.ENDPOINTS,
    *backends.ENDPOINTS,
    *config.ENDPOINTS,
    *gateway.ENDPOINTS,
    *audit.ENDPOINTS,
)
