"""The ``hotswap-proxy`` command."""

from __future__ import annotations


def main() -> None:
    """The console script. Ends the process: ``run`` by becoming the node, the others with an exit code."""
    from hotswap_proxy.cli.app import app  # here, so that importing the package stays cheap

    app(prog_name="hotswap-proxy")
