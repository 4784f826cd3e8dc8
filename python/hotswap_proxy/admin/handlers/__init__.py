"""The endpoints. A handler calls what knows the rules and answers; it decides nothing."""

from . import api_keys, audit, authentication, backends, config, gateway, routes, simulation, users

ENDPOINTS = (
    *authentication.ENDPOINTS,
    *api_keys.ENDPOINTS,
    *users.ENDPOINTS,
    *routes.ENDPOINTS,
    *backends.ENDPOINTS,
    *config.ENDPOINTS,
    *gateway.ENDPOINTS,
    *simulation.ENDPOINTS,
    *audit.ENDPOINTS,
)
