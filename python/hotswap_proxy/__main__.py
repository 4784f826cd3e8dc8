"""``python -m hotswap_proxy`` is the ``hotswap-proxy`` command."""

from hotswap_proxy.cli import main

if __name__ == "__main__":
    main()
