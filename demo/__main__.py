"""Start httpbin and the gateway in front of it, say where they listen, stop both on Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent
CONFIG = HERE / "gateway.yaml"
DEFAULT_BACKEND_PORT = 9080
READY_WITHIN = 30.0
Process = subprocess.Popen[bytes]


class DemoError(RuntimeError):
    """The demo cannot start; the message is for the user."""


def script(name: str) -> str:
    return str(Path(sysconfig.get_path("scripts")) / name)


def must_be_free(address: str, option: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError as error:
            raise DemoError(
                f"{address} cannot be used ({error.strerror}); choose another with {option}"
            ) from None


def config_for(port: int, data: Path) -> Path:
    """The demo configuration; a copy where the backend does not listen on its usual port."""
    if port == DEFAULT_BACKEND_PORT:
        return CONFIG
    copy = data / "demo-gateway.yaml"
    data.mkdir(parents=True, exist_ok=True, mode=0o700)  # as the gateway would make it
    copy.write_text(CONFIG.read_text().replace(f":{DEFAULT_BACKEND_PORT}", f":{port}"))
    return copy


def access_log(data: Path) -> Path:
    return data / "access.log"


def start_backend(port: int) -> Process:
    address = f"127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "gunicorn", "--bind", address, "--worker-class", "gthread", "--workers", "1",
        "--threads", "16", "--keep-alive", "75", "--log-level", "warning", "httpbin:app",
    ]  # fmt: skip
    # In a session of its own: Ctrl-C reaches this process only, which stops the gateway first.
    return subprocess.Popen(command, start_new_session=True)  # noqa: S603  our own arguments


def start_gateway(options: argparse.Namespace, first: bool) -> Process:
    command = [
        script("hotswap-proxy"), "run", "--proxy", options.proxy, "--admin", options.admin,
        "--data-dir", str(options.data_dir), "--access-log", str(access_log(options.data_dir)),
        "--tracing", "on", "--trace-sample", "1",  # all of them: nobody is in a hurry
    ]  # fmt: skip
    if first:
        command += ["--config", str(config_for(options.backend_port, options.data_dir))]
    return subprocess.Popen(command, start_new_session=True)  # noqa: S603  our own arguments


def wait_for(url: str, process: Process, what: str, any_status: bool = False) -> None:
    """Return when ``url`` answers 2xx, or with ``any_status`` at all."""
    deadline = time.monotonic() + READY_WITHIN
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"{what} ended with status {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=2).close()  # noqa: S310  http on loopback, built above
            return
        except urllib.error.HTTPError:
            if any_status:
                return
            time.sleep(0.1)
        except OSError:
            time.sleep(0.1)
    raise DemoError(f"{what} does not answer at {url} after {READY_WITHIN:.0f} s")


def stop(process: Process | None, within: float) -> None:
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def reachable(address: str) -> str:
    """The address as a client on this machine writes it."""
    host, _, port = address.rpartition(":")
    return f"{'127.0.0.1' if host in ('0.0.0.0', '') else host}:{port}"  # noqa: S104  compared, not bound


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--proxy", default="127.0.0.1:8000", help="where clients connect")
    parser.add_argument("--admin", default="127.0.0.1:5000", help="where the admin API listens")
    parser.add_argument(
        "--backend-port", type=int, default=DEFAULT_BACKEND_PORT, help="loopback port of httpbin"
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    return parser.parse_args()


def interrupted(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, interrupted)
    backend = gateway = None
    try:
        must_be_free(options.proxy, "PROXY=host:port")
        must_be_free(options.admin, "ADMIN=host:port")
        must_be_free(f"127.0.0.1:{options.backend_port}", "DEMO_PORT=port")
        proxy, admin = reachable(options.proxy), reachable(options.admin)
        backend = start_backend(options.backend_port)
        wait_for(f"http://127.0.0.1:{options.backend_port}/get", backend, "the demo backend")
        # A gateway started with --config mirrors the file: what was changed by the API would be undone at the
        # next start. So the file only seeds the first start, and the store is the truth from then on.
        seeded = options.data_dir / ".demo-seeded"
        gateway = start_gateway(options, first=not seeded.exists())
        wait_for(f"http://{proxy}/get", gateway, "the gateway", any_status=seeded.exists())
        origin = (
            f"{options.data_dir}/ (remove it to start over)"
            if seeded.exists()
            else CONFIG.relative_to(HERE.parent)
        )
        seeded.touch()
        print(
            f"\nproxy    http://{proxy}   (httpbin on 127.0.0.1:{options.backend_port} behind it)\n"
            f"admin    http://{admin}/api/v1/gateway/health\n"
            f"config   {origin}\n"
            f"log      {access_log(options.data_dir)}   (a JSON line for each request)\n"
            f"try      curl -i http://{proxy}/get\n"
            "stop     Ctrl-C\n",
            flush=True,
        )
        while gateway.poll() is None and backend.poll() is None:
            time.sleep(0.5)
        name, process = ("gateway", gateway) if gateway.poll() is not None else ("demo backend", backend)
        raise DemoError(f"the {name} ended with status {process.returncode}")
    except KeyboardInterrupt:
        print("\nstopping …", flush=True)
        return 0
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave one of them behind
        stop(gateway, 40.0)  # it drains for up to 30 s
        stop(backend, 10.0)


if __name__ == "__main__":
    os.chdir(HERE.parent)
    sys.exit(main())
