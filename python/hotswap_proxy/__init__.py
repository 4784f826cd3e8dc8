"""hotswap-proxy: an API gateway whose configuration is changed under full load without dropping a request."""

__version__ = "0.1.0"
