"""Two middlewares. Run a node with them from the directory that holds this file:

PYTHONPATH=. hotswap-proxy run --middleware timing=middleware:timing --middleware greeting=middleware:greeting
"""

from __future__ import annotations

import json
import time

from hotswap_proxy.middleware import CallNext, Request, Response


async def timing(request: Request, call_next: CallNext) -> Response:
    """Tells how long the rest took."""
    started = time.monotonic()
    response = await call_next(request)
    response.headers["Server-Timing"] = f"next;dur={(time.monotonic() - started) * 1000:.1f}"
    return response


async def greeting(request: Request, call_next: CallNext) -> Response:
    """Answers /hello itself; gives JSON bodies the name of the route that they came by."""
    if request.path == "/hello":
        return Response(200, {"Content-Type": "text/plain"}, f"Hello, {request.client_ip}!\n")
    if request.headers.get("content-type") == "application/json":
        document = json.loads(request.body)
        document["via"] = request.route
        request = request.replace(body=json.dumps(document).encode())
    return await call_next(request)
