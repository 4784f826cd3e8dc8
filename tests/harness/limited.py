"""A data plane in a process of its own, with few file descriptors; commands come on standard input.

    python -m harness.limited CODEC DESCRIPTORS    prints the port, then answers each line: ``cpu`` with the
    processor time used so far, ``connections`` with their number; anything else ends it, with the ledger's totals.
"""

from __future__ import annotations

import resource
import sys
import time

from harness.worker import Plane


def main() -> None:
    codec, descriptors = sys.argv[1], int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    plane = Plane(codec)
    plane.publish()
    print(plane.port, flush=True)
    for line in sys.stdin:
        match line.strip():
            case "cpu":
                print(time.process_time(), flush=True)
            case "connections":
                print(plane.server.connections, flush=True)
            case _:
                break
    print(plane.totals()["completed"], flush=True)
    plane.close()


if __name__ == "__main__":
    main()
