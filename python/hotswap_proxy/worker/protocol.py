"""The words between the control process and a worker: single bytes on their socket pair.

A resource is something that the control process has and workers need: a byte for its kind, with a descriptor
(SCM_RIGHTS). A new worker gets all there are before ``BEGIN``, and begins to accept only then; afterwards a
resource comes again whenever it has changed.
"""

from __future__ import annotations

# Control process → worker. HOLD, before BEGIN: say HELD when all resources that came until now are in use.
DRAIN, STOP, BEGIN, HOLD = b"D", b"S", b"B", b"H"
# Kinds of resources, each with its descriptor. It may be shared with other workers: read it by position.
TLS = b"T"  # a sealed memfd: certificates and keys, as control.tls.bundle writes them
GEOIP = b"G"  # a sealed memfd: a database of regions
RESOURCES = frozenset({TLS, GEOIP})
# Worker → control process.
READY, DRAINING, HELD = b"R", b"D", b"H"
# In the data directory: where a control process is found. A worker that has lost its own says LISTENING, with
# duplicates of its listening sockets (SCM_RIGHTS), and hears DRAIN when there are workers to go on with them.
# Whoever wants the node upgraded says UPGRADE; see control.handover.asking for what follows.
SUCCESSOR_SOCKET = "node.sock"
LISTENING, UPGRADE = b"L", b"U"
