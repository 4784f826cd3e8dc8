"""The gateway in front of a service that nobody here wrote: httpbin, on one machine. ``make run``."""
