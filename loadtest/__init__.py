"""A mixed workload through the gateway while its configuration changes. ``python -m loadtest``."""
