from tests.gateway import anyio_backend, gateway

__all__ = ["anyio_backend", "gateway"]
