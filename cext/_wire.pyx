# cython: language_level=3
"""The data plane of one worker: sockets, buffers and the life of a connection."""
