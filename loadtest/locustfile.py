"""What the users do. Run by ``python -m loadtest``, which starts everything and judges the result.

Every task runs through the gateway and, by ``DirectUser``, straight to the backend, in the same seconds: the
second is what the first is compared with. An answer other than the expected one is a failure, a 200 too.
"""

from __future__ import annotations

import json
import os
import random
import string
from typing import Any

from locust import FastHttpUser, between, constant_pacing, tag, task

GATEWAY = os.environ.get("LOAD_GATEWAY", "http://127.0.0.1:8000")
BACKEND = os.environ.get("LOAD_BACKEND", "http://127.0.0.1:9080")
ADMIN = os.environ.get("LOAD_ADMIN", "http://127.0.0.1:5000")
USERNAME = os.environ.get("LOAD_USERNAME", "admin")
PASSWORD = os.environ.get("LOAD_PASSWORD", "")
HEADERS = {"Accept": "application/json", "Accept-Language": "en", "Cookie": "session=0123456789abcdef"}
TEXT = "".join(random.Random(1).choices(string.ascii_letters, k=64 * 1024))


class Visitor(FastHttpUser):
    """The tasks both kinds of visitor share. ``via`` names them in the statistics."""

    abstract = True
    via = ""
    connection_timeout = 10.0
    network_timeout = 20.0
    wait_time = between(0.05, 0.3)

    def expect(self, name: str, path: str, status: int = 200, method: str = "GET", **more: Any) -> Any:
        more.setdefault("headers", HEADERS)
        with self.client.request(
            method, path, name=f"{self.via} {name}", catch_response=True, **more
        ) as answer:
            if answer.status_code == status:
                answer.success()
            else:
                reason = str(answer.error or answer.text)[:200]
                answer.failure(f"status {answer.status_code}, expected {status}: {reason}")
            return answer

    @task(30)
    def plain(self) -> None:
        self.expect("GET", f"/get?item={random.randrange(1000)}")

    @task(8)
    def small_body(self) -> None:
        sent = {"name": "item", "size": random.randrange(1000)}
        answer = self.expect("POST json", "/anything/items", method="POST", json=sent)
        if answer.status_code == 200 and answer.json()["json"] != sent:
            self.environment.events.request.fire(
                request_type="POST", name=f"{self.via} body differs", response_time=0, response_length=0,
                exception=ValueError("the backend did not receive what was sent"),
            )  # fmt: skip

    @task(3)
    def large_body(self) -> None:
        answer = self.expect("PUT 64 KB", "/anything/blob", method="PUT", data=TEXT)
        if answer.status_code == 200 and len(answer.json()["data"]) != len(TEXT):
            raise ValueError("the backend received another length")

    @task(4)
    def image(self) -> None:
        answer = self.expect("GET image", "/image/jpeg", headers={**HEADERS, "Accept": "image/jpeg"})
        if answer.status_code == 200 and len(answer.content) != int(answer.headers["Content-Length"]):
            raise ValueError("an answer of another length")

    @task(1)  # the backend makes every byte anew, which is slow
    def large_answer(self) -> None:
        answer = self.expect("GET 100 KB", "/bytes/102400")
        if answer.status_code == 200 and len(answer.content) != 102_400:
            raise ValueError("an answer of another length")

    @task(4)
    def streamed(self) -> None:
        answer = self.expect("GET stream", "/stream/20")
        if answer.status_code == 200:
            lines = [json.loads(line) for line in answer.text.splitlines()]
            if [line["id"] for line in lines] != list(range(20)):
                raise ValueError("lines of the stream are missing")

    @task(1)
    def slow(self) -> None:
        self.expect("GET slow (1 s)", "/delay/1")

    @task(3)
    def backend_error(self) -> None:
        self.expect("GET 503 of the backend", "/status/503", status=503)


class GatewayUser(Visitor):
    host = GATEWAY
    via = "gateway"
    weight = 3

    @task(3)
    def no_route(self) -> None:
        self.expect("404 of the gateway", "/nowhere/at/all", status=404)

    @task(2)
    def wrong_method(self) -> None:
        self.expect("405 of the gateway", "/get", status=405, method="DELETE")


class DirectUser(Visitor):
    host = BACKEND
    via = "direct"
    weight = 1


class Operator(FastHttpUser):
    """Changes the configuration once a second and checks that each change is live when it was accepted."""

    host = ADMIN
    fixed_count = 1
    wait_time = constant_pacing(1.0)
    connection_timeout = 10.0

    def on_start(self) -> None:
        answer = self.client.post(
            "/api/v1/authentication/login", json={"username": USERNAME, "password": PASSWORD}
        )
        self.headers = {"Authorization": f"Bearer {answer.json()['token']}"}
        self.turn = 0

    def call(self, name: str, method: str, path: str, status: int, **more: Any) -> Any:
        with self.client.request(
            method, f"/api/v1{path}", name=f"admin {name}", headers=self.headers, catch_response=True, **more
        ) as answer:
            if answer.status_code == status:
                answer.success()
            else:
                answer.failure(f"status {answer.status_code}, expected {status}: {answer.text[:200]}")
            return answer

    def live(self, method: str, path: str, status: int) -> None:
        """The very next request sees the change."""
        url = f"{GATEWAY}{path}"
        with self.client.request(method, url, name="change is live", catch_response=True) as answer:
            if answer.status_code == status:
                answer.success()
            else:
                answer.failure(f"status {answer.status_code}, expected {status} after an accepted change")

    @tag("change")
    @task
    def change(self) -> None:
        self.turn += 1
        prefix = f"/made-{self.turn}"
        document = {
            "name": f"made-{self.turn}",
            "pathPattern": f"{prefix}/**",
            "methods": ["GET"],
            "backends": [{"name": "one"}],
        }
        made = self.call("POST route", "POST", "/gateway/routes", 201, json=document)
        if made.status_code != 201:
            return
        route = made.json()["routeId"]
        # The backend's 404 for this path looks like the gateway's; the gateway's 405 tells them apart.
        self.live("DELETE", f"{prefix}/x", 405)
        self.call("PUT route", "PUT", f"/gateway/routes/{route}", 200, json={"methods": ["DELETE"]})
        self.live("GET", f"{prefix}/x", 405)
        self.call("DELETE route", "DELETE", f"/gateway/routes/{route}", 204)
        self.live("GET", f"{prefix}/x", 404)
