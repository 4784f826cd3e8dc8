"""Stand-ins for the parts of the node that a test does not need for real."""

from __future__ import annotations

from typing import Any

import orjson

from hotswap_proxy.control.resolver import Resolution


class FakeNode:
    """A NodeView with fixed numbers."""

    def __init__(self) -> None:
        self.ready = True

    def health(self) -> dict[str, Any]:
        return {"status": "Healthy" if self.ready else "Starting", "ready": self.ready}

    def summary(self) -> dict[str, Any]:
        return {"totalRequests": 7}

    def prometheus(self) -> bytes:
        return b"gateway_routes_count 1\n"

    def route_statistics(self, route_id: str) -> dict[str, Any]:
        return {"totalRequests": 7, "failedRequests": 1, "averageLatencyMs": 2.5, "p99LatencyMs": 9.0}

    def backend_statistics(self, address: str) -> dict[str, Any]:
        assert address.startswith("http://"), "a backend is known by scheme://host:port"
        return {"activeConnections": 0, "totalRequests": 3, "failedRequests": 0, "healthStatus": "Unknown"}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"nodeId": "n1"}]


class FakeResolver:
    """Answers from a dictionary host → address; other names do not exist."""

    def __init__(self, known: dict[str, str] | None = None) -> None:
        self.known = dict(known or {})

    async def resolve(self, authorities: Any) -> Resolution:
        result = Resolution()
        for authority in authorities:
            host, _, port = authority.rpartition(":")
            if host in self.known:
                result.addresses[authority] = [f"{self.known[host]}:{port}"]
            else:
                result.errors[authority] = "the name cannot be resolved"
        return result


class ConfigError(ValueError):
    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__("refused")
        self.problems = problems


class FakeCatalog:
    """The catalog's contract without the compiler: same pattern, both enabled → conflict."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {"routes": {}, "backends": {}}
        self.addresses: dict[str, list[str]] = {}
        self.generation = 0

    @property
    def routes(self) -> int:
        return len(self.objects["routes"])

    @property
    def backends(self) -> int:
        return len(self.objects["backends"])

    def stage(self, changes: bytes) -> FakeStaged:
        given = orjson.loads(changes)
        reset = given.get("reset", False)
        new = {kind: {} if reset else dict(found) for kind, found in self.objects.items()}
        for kind, key in (("Backends", "backendId"), ("Routes", "routeId")):
            for gone in given.get(f"remove{kind}", []):
                new[kind.lower()].pop(gone, None)
            for one in given.get(f"upsert{kind}", []):
                new[kind.lower()][one[key]] = one
        seen: dict[str, dict[str, Any]] = {}
        for route in new["routes"].values():
            for backend in route["backends"]:
                assert "url" in backend or backend["backendId"] in new["backends"]
            if not route["isEnabled"]:
                continue
            other = seen.setdefault(route["pathPattern"], route)
            if other is not route:
                ids = [one["routeId"] for one in given.get("upsertRoutes", [])]
                mine, theirs = (route, other) if route["routeId"] in ids else (other, route)
                raise ConfigError(
                    [
                        {
                            "path": f"upsertRoutes[{ids.index(mine['routeId'])}].pathPattern",
                            "code": "CONFLICT",
                            "message": f"matches the same requests as route {theirs['name']}",
                            "routeId": mine["routeId"],
                            "otherRouteId": theirs["routeId"],
                            "otherRouteName": theirs["name"],
                        }
                    ]
                )
        return FakeStaged(self, new, given.get("addresses", {}))


class FakeStaged:
    def __init__(self, catalog: FakeCatalog, objects: Any, addresses: Any) -> None:
        self._catalog, self._objects, self._addresses = catalog, objects, addresses
        self.discarded = False

    def publish(self) -> int:
        assert not self.discarded
        self._catalog.objects = self._objects
        self._catalog.addresses |= self._addresses
        self._catalog.generation += 1
        return self._catalog.generation

    def discard(self) -> None:
        self.discarded = True
