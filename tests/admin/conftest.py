from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from hotswap_proxy.admin.app import AdminContext, create_app
from hotswap_proxy.control.configuration import Configuration
from hotswap_proxy.settings import Settings
from hotswap_proxy.store import Store
from tests.fakes import FakeCatalog, FakeNode, FakeResolver

PASSWORD = "correct horse battery"
ROUTE = {
    "name": "users",
    "pathPattern": "/users/**",
    "backends": [{"name": "users-1", "url": "http://127.0.0.1:9001"}],
}


@dataclass
class Gateway:
    """A whole control plane without workers, and a client that is logged in as its administrator."""

    client: httpx.AsyncClient
    context: AdminContext
    catalog: Any
    node: FakeNode
    resolver: FakeResolver

    async def as_role(self, role: str) -> dict[str, str]:
        """Headers of a new user of this role."""
        name = f"{role.lower()}-user"
        await self.client.post(
            "/api/v1/users", json={"username": name, "password": PASSWORD, "role": role}
        )
        return await login(self.client, name)

    async def add_route(self, **fields: Any) -> dict[str, Any]:
        answer = await self.client.post("/api/v1/gateway/routes", json=ROUTE | fields)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


async def login(client: httpx.AsyncClient, username: str, password: str = PASSWORD) -> dict[str, str]:
    answer = await client.post(
        "/api/v1/authentication/login", json={"username": username, "password": password}
    )
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['token']}"}


@asynccontextmanager
async def gateway(data_dir: Path, **settings: Any) -> AsyncIterator[Gateway]:
    used = Settings(data_dir=data_dir, admin_password=PASSWORD, **settings)
    store = await Store.open(used)
    try:
        await store.users.ensure_first_admin(used)
        catalog, node, resolver = FakeCatalog(), FakeNode(), FakeResolver({"users.internal": "10.0.0.7"})
        configuration = Configuration(store, catalog, used, resolver=resolver)  # type: ignore[arg-type]
        await configuration.load()
        context = AdminContext(used, store, configuration, node)
        transport = httpx.ASGITransport(create_app(context), client=("192.0.2.1", 5555))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            client.headers.update(await login(client, "admin"))
            yield Gateway(client, context, catalog, node, resolver)
    finally:
        await store.close()
