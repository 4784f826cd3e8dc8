from e2e.conftest import stable, start_node

__all__ = ["stable", "start_node"]
