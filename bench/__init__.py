"""The macro benchmark: this gateway beside nginx and HAProxy, in one run. ``python -m bench``."""
