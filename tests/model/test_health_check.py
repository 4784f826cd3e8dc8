"""A backend's healthCheck: defaults and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hotswap_proxy.errors import from_pydantic
from hotswap_proxy.model import Backend, HealthCheck, UrlRules

RULES = UrlRules(allowed_commands=frozenset({"/bin/true"}))


def refused(check: dict[str, Any]) -> tuple[str, str]:
    """(field, rule) of the one problem."""
    with pytest.raises(ValidationError) as caught:
        Backend.model_validate(
            {"name": "b", "url": "http://127.0.0.1:1", "healthCheck": check}, context=RULES
        )
    (detail,) = from_pydantic(caught.value).details
    return detail.field, detail.rule


def test_defaults() -> None:
    assert "healthCheck" not in Backend.model_validate({"name": "b", "url": "http://127.0.0.1:1"}).document()
    assert HealthCheck.model_validate({}).document() == {
        "type": "Http",
        "endpoint": "/health",
        "interval": "5s",
        "timeout": "3s",
        "unhealthyThreshold": 3,
        "healthyThreshold": 2,
        "expectedStatusCode": 200,
        "headers": {},
        "initialState": "Up",
    }


@pytest.mark.parametrize(
    ("check", "field", "rule"),
    [
        ({"type": "Icmp"}, "healthCheck.type", "literal_error"),
        ({"endpoint": "health"}, "healthCheck.endpoint", "endpoint"),
        ({"endpoint": "/x HTTP/1.1\r\nEvil: 1"}, "healthCheck.endpoint", "endpoint"),
        ({"endpoint": "/x#y"}, "healthCheck.endpoint", "endpoint"),
        ({"interval": "10ms"}, "healthCheck.interval", "interval"),
        ({"timeout": "0s"}, "healthCheck.timeout", "duration"),
        ({"unhealthyThreshold": 0}, "healthCheck.unhealthyThreshold", "greater_than_equal"),
        ({"healthyThreshold": "2"}, "healthCheck.healthyThreshold", "int_type"),
        ({"expectedStatusCode": 100}, "healthCheck.expectedStatusCode", "greater_than_equal"),
        ({"expectedResponseBody": ""}, "healthCheck.expectedResponseBody", "string_too_short"),
        ({"headers": {"X-A": "b\r\nEvil: 1"}}, "healthCheck.headers", "header_value"),
        ({"headers": {"X A": "b"}}, "healthCheck.headers", "header_name"),
        ({"headers": {"content-length": "5"}}, "healthCheck.headers", "header_name"),
        ({"initialState": "Sideways"}, "healthCheck.initialState", "literal_error"),
        ({"type": "Tcp", "endpoint": "/x"}, "healthCheck", "health_check"),
        ({"type": "Tcp", "command": ["/bin/true"]}, "healthCheck.command", "health_check"),
        ({"command": ["/bin/true"]}, "healthCheck.command", "health_check"),
        ({"type": "Custom"}, "healthCheck.command", "required"),
        ({"type": "Custom", "command": []}, "healthCheck.command", "required"),
        ({"type": "Custom", "command": ["true"]}, "healthCheck.command", "command"),
        ({"type": "Custom", "command": ["/bin/true", "\0"]}, "healthCheck.command", "command"),
        ({"type": "Custom", "command": "/bin/true"}, "healthCheck.command", "list_type"),
        ({"type": "Custom", "command": ["/bin/sh", "-c", "x"]}, "healthCheck.command", "command_forbidden"),
        ({"retries": 3}, "healthCheck.retries", "unknown_field"),
    ],
)
def test_what_is_refused(check: dict[str, Any], field: str, rule: str) -> None:
    assert refused(check) == (field, rule)


def test_a_permitted_command_and_a_stored_check_are_accepted() -> None:
    custom = {"type": "Custom", "command": ["/bin/true", "x"]}
    stored = HealthCheck.model_validate(custom, context=RULES).document()
    assert HealthCheck.model_validate(stored, context=RULES).document() == stored
    tcp = HealthCheck.model_validate({"type": "Tcp"}).document()
    assert HealthCheck.model_validate(tcp).document() == tcp
    with pytest.raises(ValidationError, match="allow it with health_check_commands"):
        HealthCheck.model_validate(custom)
