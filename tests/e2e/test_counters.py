"""Counters while workers die and routes come and go: no series goes down, none is there twice."""

from __future__ import annotations

import os
import signal
import threading
import urllib.request
from collections.abc import Callable
from typing import Any

from e2e.conftest import Api
from harness.backend import Backend
from prometheus_client.parser import text_string_to_metric_families

from tests.node import Node
from tests.processes import eventually

Series = tuple[str, tuple[tuple[str, str], ...]]
COUNTERS = {"counter", "histogram"}


class Scraper(threading.Thread):
    """Scrapes as fast as it can, and holds each scrape against the one before."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self.url = f"{node.admin_url}/metrics"
        self.scrapes = 0
        self.wrong: list[str] = []
        self.last: dict[Series, float] = {}
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.is_set():
            with urllib.request.urlopen(self.url, timeout=30) as answer:
                self.compare(answer.read().decode())

    def compare(self, text: str) -> None:
        counters: dict[Series, float] = {}
        seen: set[Series] = set()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = sample.name, tuple(sample.labels.items())
                if key in seen:
                    self.wrong.append(f"twice: {key}")
                seen.add(key)
                if family.type in COUNTERS:
                    counters[key] = sample.value
        before = self.last
        for key, value in counters.items():
            if value < before.get(key, 0.0):
                self.wrong.append(f"{key} went from {before[key]} to {value}")
        if [key for key in before if key in counters] != [key for key in counters if key in before]:
            self.wrong.append("the order has changed")
        self.last = counters
        self.scrapes += 1

    def more(self, scrapes: int = 3) -> None:
        """Wait for so many whole scrapes from now on."""
        wanted = self.scrapes + scrapes + 1
        eventually(lambda: self.scrapes >= wanted or not self.is_alive(), "more scrapes")

    def has(self, route: str) -> bool:
        return any(("route", route) in labels for _, labels in self.last)


def asks(port: int, ending: threading.Event) -> Callable[[], None]:
    def ask() -> None:
        number = 0
        while not ending.is_set():
            number += 1
            path = ("a", "b", "passing", "nowhere")[number % 4]
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}/1", timeout=10) as answer:
                    answer.read()
            except OSError:  # also of answers that are errors: a worker was killed, a route is away
                pass

    return ask


def test_counters_never_go_down(node: Node, backends: list[Backend]) -> None:
    api = Api(node)

    def add(name: str) -> str:
        route: dict[str, Any] = {"name": name, "pathPattern": f"/{name}/**"}
        route["backends"] = [{"name": name, "url": backends[0].url}]
        made: str = api.call("POST", "/gateway/routes", route)["routeId"]
        return made

    add("a"), add("b")
    scraper = Scraper(node)
    threads = [threading.Thread(target=asks(node.proxy_port, scraper.ending)) for _ in range(3)]
    for thread in (scraper, *threads):
        thread.start()
    try:
        scraper.more()
        for number, sent in enumerate((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL), 1):
            passing = add("passing")
            eventually(lambda route=passing: scraper.has(route), "the route has a series")
            os.kill(node.workers()[number % 2], sent)
            eventually(
                lambda wanted=number: api.metric("gateway_workers_replaced_total") == wanted, "it is replaced"
            )
            scraper.more()
            api.call("DELETE", f"/gateway/routes/{passing}")
            eventually(lambda route=passing: not scraper.has(route), "the route's series have ended")
            scraper.more()
    finally:
        scraper.ending.set()
        for thread in (scraper, *threads):
            thread.join(30)
    assert scraper.wrong == []
    assert scraper.scrapes > 20
    total = sum(value for (name, _), value in scraper.last.items() if name == "gateway_requests_total")
    assert total > 100
    assert api.metric("gateway_requests_accepted_total") > total, "those of the routes that are gone too"
