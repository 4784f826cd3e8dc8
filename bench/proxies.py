"""The peers under test, one small adapter each: start, which processes to charge, reload, stop."""

from __future__ import annotations

import signal
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from . import machine
from .certificate import Certificate

ROUTES = 10_000


@dataclass(frozen=True)
class Backends:
    """Ports of the two backends; ``a`` takes all traffic until a reload moves the routes to ``b``."""

    a: int
    b: int

    def port(self, label: str) -> int:
        return self.a if label == "a" else self.b


class Proxy(ABC):
    """A proxy under test. ``routes`` is 1 (a catch-all) or ROUTES (``/r0/…`` to ``/r9999/…``)."""

    name: str

    def __init__(
        self, backends: Backends, directory: Path, routes: int, tls: Certificate | None = None
    ) -> None:
        self.tls = tls
        self.backends = backends
        self.routes = routes
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "log"
        self.port = machine.free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def label(self) -> str:
        return self.name if self.routes == 1 else f"{self.name}, {self.routes:,} routes"

    @property
    def main(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise machine.BenchError(f"{self.name} is not running")
        return self.process

    @abstractmethod
    def configure(self, label: str) -> None:
        """Write the configuration that sends every route to the backend of this label."""

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def reload(self) -> None:
        """Ask for the configuration on disk to be taken; returns at once."""

    def start(self) -> None:
        self.log.unlink(missing_ok=True)
        self.configure("a")
        self.process = machine.start(self.command(), machine.PROXY_CORE, self.log)
        machine.wait_for(self.port, self.process, self.log)

    def charged(self) -> list[int]:
        """The processes whose CPU a request is charged with."""
        return self.all()

    def uncharged(self) -> list[int]:
        """Processes of the proxy that do no proxying; reported beside, never hidden."""
        return []

    def all(self) -> list[int]:
        return [self.main.pid, *machine.descendants(self.main.pid)]

    def stop(self) -> None:
        if self.process is not None:
            machine.stop(self.process)
            self.process = None


class Nginx(Proxy):
    name = "nginx"

    def configure(self, label: str) -> None:
        place = "location {} {{ proxy_pass http://backend; }}"
        if self.routes == 1:
            locations = place.format("/")
        else:
            locations = "\n".join(place.format(f"/r{i}/") for i in range(self.routes))
        (self.directory / "nginx.conf").write_text(
            f"""
            user root;
            daemon off;
            worker_processes 1;
            worker_rlimit_nofile 8192;
            pid {self.directory}/pid;
            error_log {self.log} error;
            events {{ worker_connections 4096; }}
            http {{
                access_log {self.access_log()};
                client_body_temp_path {self.directory}/body;
                proxy_temp_path {self.directory}/proxy;
                fastcgi_temp_path {self.directory}/fastcgi;
                uwsgi_temp_path {self.directory}/uwsgi;
                scgi_temp_path {self.directory}/scgi;
                keepalive_requests 1000000000;
                upstream backend {{
                    server 127.0.0.1:{self.backends.port(label)};
                    keepalive 128;
                    keepalive_requests 1000000000;
                }}
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header Host $host;
                proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                # Without these a 100 KB answer goes through a file on the disk.
                proxy_buffer_size 16k;
                proxy_buffers 8 16k;
                proxy_max_temp_file_size 0;
                server {{
                    listen 127.0.0.1:{self.port} {"ssl" if self.tls else ""} backlog=4096;
                    {self.tls_settings()}
                    {locations}
                }}
            }}
            """
        )

    def access_log(self) -> str:
        return "off"

    def tls_settings(self) -> str:
        if self.tls is None:
            return ""
        # Without a cipher of its own choice: each takes what wrk prefers, AES-256-GCM.
        return f"""
            ssl_certificate {self.tls.chain};
            ssl_certificate_key {self.tls.key};
            ssl_protocols TLSv1.3;
            """

    def command(self) -> list[str]:
        return [machine.program("nginx"), "-p", str(self.directory), "-c", str(self.directory / "nginx.conf")]

    def reload(self) -> None:
        self.main.send_signal(signal.SIGHUP)  # what `nginx -s reload` does, without its own second parse


class HAProxy(Proxy):
    name = "HAProxy"

    def configure(self, label: str) -> None:
        tls = f"ssl crt {self.tls.together} ssl-min-ver TLSv1.3 alpn http/1.1" if self.tls else ""
        if self.routes == 1:
            rule = "default_backend pool"
        else:
            rule = f"use_backend %[path,map_beg({self.directory}/routes.map)]"
            lines = "".join(f"/r{i}/ pool\n" for i in range(self.routes))
            (self.directory / "routes.map").write_text(lines)
        target, option = self.logging()
        (self.directory / "haproxy.cfg").write_text(
            f"""
global
    {target}
    nbthread 1
    maxconn 4096
    stats socket {self.directory}/socket mode 600 level admin expose-fd listeners
defaults
    mode http
    {option}
    option http-keep-alive
    option forwardfor
    # Its best behaviour at a reload: an idle connection gets one more answer before it is closed.
    option idle-close-on-response
    http-reuse always
    timeout connect 5s
    timeout client 75s
    timeout server 30s
frontend front
    bind 127.0.0.1:{self.port} backlog 4096 {tls}
    {rule}
backend pool
    server one 127.0.0.1:{self.backends.port(label)}
"""
        )

    def logging(self) -> tuple[str, str]:
        """Lines for the global section and for the defaults."""
        return "", ""

    def command(self) -> list[str]:
        return [machine.program("haproxy"), "-W", "-q", "-f", str(self.directory / "haproxy.cfg")]

    def reload(self) -> None:
        # The master starts a new worker with -sf (and -x: sockets handed over) when it gets this signal.
        self.main.send_signal(signal.SIGUSR2)
