"""What the control plane needs of the compiler: ``_core.Catalog`` and ``_core.Staged``, as protocols."""

from __future__ import annotations

from typing import Protocol


class StagedLike(Protocol):
    """A compiled configuration that no request sees yet."""

    @property
    def key_sets(self) -> dict[str, tuple[int, bool]]: ...

    def publish(self) -> int:
        """Make it the node's configuration with one atomic store; its generation."""

    def discard(self) -> None:
        """Forget it; the catalog stays as it is."""


class CatalogLike(Protocol):
    @property
    def routes(self) -> int: ...
    @property
    def backends(self) -> int: ...
    @property
    def key_sets(self) -> dict[str, tuple[int, bool]]:
        """URL of keys → (how often they are wanted, ms; whether they are there)."""

    def stage(self, changes: bytes) -> StagedLike:
        """Compile the catalog with ``changes`` (JSON). ``_core.ConfigError``: nothing has changed."""
