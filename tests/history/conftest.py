from tests.gateway import anyio_backend, gateway, store

__all__ = ["anyio_backend", "gateway", "store"]
