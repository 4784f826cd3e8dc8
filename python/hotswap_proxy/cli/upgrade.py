"""``upgrade``: the running node goes on with the program that this command belongs to."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from hotswap_proxy import __version__
from hotswap_proxy.cli.options import CommandError, command
from hotswap_proxy.cli.run import DataDir, settings_of

Timeout = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=1,
        max=3600,
        help="For the new process to be ready.",
    ),
]


@command
def upgrade(data_dir: DataDir = None, timeout: Timeout = 60.0) -> None:
    """Replace the program of the node that runs on this machine, without losing a connection.

    The node starts this installation's program, hands its sockets over, drains and ends.

    If the new program does not come up, the node goes on as before: exit code 1.

    Options and environment of the node stay as they are.
    """
    environ = {**os.environ, **({"HOTSWAP_DATA_DIR": data_dir} if data_dir else {})}
    directory = settings_of(environ).data_dir
    from hotswap_proxy.control.handover.asking import Asking
    from hotswap_proxy.control.handover.words import UpgradeError

    try:
        asking = Asking(directory)
        old = asking.begin(sys.executable, timeout)
        print(f"process {old['pid']} ({old['version']}) starts {__version__} …", flush=True)
        new = asking.outcome()
    except UpgradeError as error:
        raise CommandError([f"not upgraded: {error}"]) from error
    print(
        f"process {new['pid']} ({new['version']}) is in charge; process {old['pid']} ends when its "
        f"connections do, in {new['drainTimeout']:g} s at the latest"
    )
