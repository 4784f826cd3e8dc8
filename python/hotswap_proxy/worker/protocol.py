"""The words between the control process and a worker: single bytes on their socket pair."""

from __future__ import annotations

# Control process → worker.
DRAIN, STOP = b"D", b"S"
# Worker → control process.
READY, DRAINING = b"R", b"D"
# In the data directory: where a worker whose control process died finds the next one. It says LISTENING, with
# duplicates of its listening sockets (SCM_RIGHTS), and is answered DRAIN when there are workers to go on with them.
SUCCESSOR_SOCKET = "node.sock"
LISTENING = b"L"
