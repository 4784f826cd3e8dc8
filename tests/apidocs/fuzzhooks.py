"""What ``schemathesis`` has to know of the admin API beyond its document; loaded by SCHEMATHESIS_HOOKS.

FUZZ_OWN names what the fuzzer lives on (its user, its API key): no document says that deleting these, or
changing one's own password, ends what comes after.
"""

from __future__ import annotations

import os
from typing import Any
from zlib import crc32

import schemathesis
from schemathesis.openapi import checks

OWN = set(os.environ.get("FUZZ_OWN", "").split())
# A body may fit its schema and break one of these all the same, for JSON Schema cannot say it: fields that
# have to fit each other, lists whose items do, names that must or must not exist, what a parser of ours
# accepts. Whatever is said by type, range, length, pattern or enumeration is not among them.
STRUCTURAL = {
    "unknown_field",
    "literal_error",
    "string_pattern_mismatch",
    "string_too_long",
    "string_too_short",
    "string_type",
    "int_type",
    "int_parsing",
    "bool_type",
    "bool_parsing",
    "float_type",
    "list_type",
    "dict_type",
    "model_type",
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "too_long",
    "too_short",
}
MISSING = "this field is required"


EVERY = int(os.environ.get("FUZZ_EVERY", "1"))  # of so many cases of coverage one is run
COSTLY = ("/config/apply", "/config/validate", "/deployments/simulate")
COSTLY_EVERY = 60 * EVERY


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    path = case.path_parameters or {}
    if case.operation.method.upper() in ("PUT", "DELETE") and OWN & {str(value) for value in path.values()}:
        return False
    costly = case.operation.label.endswith(COSTLY)
    if case.meta is not None and case.meta.phase.name.value == "coverage" and case.body:
        drawn = crc32(repr((case.method, case.path_parameters, case.query, case.body)).encode())
        if drawn % (COSTLY_EVERY if costly else EVERY):
            return False
    if case.operation.label.endswith("/deployments/simulate") and isinstance(case.body, dict):
        runs = case.body.get("runs", 200)
        return not isinstance(runs, int | float) or runs <= 20
    return True


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    if context.operation.label.endswith("/deployments/simulate") and isinstance(body, dict):
        body.setdefault("runs", 20)
    return whole(body)


def whole(value: Any) -> Any:
    """JSON Schema calls 32.0 an integer; the API wants it written as 32."""
    if isinstance(value, dict):
        return {key: whole(each) for key, each in value.items()}
    if isinstance(value, list):
        return [whole(each) for each in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


@schemathesis.hook
def filter_failure(context: Any, failure: Any, case: Any, response: Any) -> bool:
    """False for a 400 to a body that fits its schema, if each detail is a rule that no schema can say."""
    if not isinstance(failure, checks.RejectedPositiveData) or response.status_code != 400:
        return True
    details = response.json()["error"]["details"]
    return not details or any(
        detail["rule"] in STRUCTURAL or detail["message"] == MISSING for detail in details
    )
