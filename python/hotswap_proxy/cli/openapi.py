"""``openapi``: the document of the admin API, without a gateway."""

from __future__ import annotations

import json

from hotswap_proxy.cli.options import command


@command
def openapi() -> None:
    """Print the OpenAPI 3.1 document of the admin API; needs no gateway."""
    from hotswap_proxy.admin.openapi import build

    print(json.dumps(build(), indent=2, ensure_ascii=False))
