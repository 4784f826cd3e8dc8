"""Active health checks: one scheduler in the control process for all backends of the node.

``spec`` reads a check, ``machine`` decides what an answer means, ``registry`` knows who is checked and writes
the status that every worker reads, ``sockets`` and ``command`` ask, ``checker`` says when, ``alerts`` tells
others.

Nothing is imported here: the command line reads checks and needs no epoll for it.
"""
