"""The control process dies under load: workers go on, the next one takes their sockets over."""

from __future__ import annotations

from chaos.conftest import kill_control
from chaos.load import Load

from tests.processes import alive, eventually

CLIENTS = {"get": 6, "post": 3, "once": 6, "slow": 2}


def test_no_request_is_lost_from_one_control_process_to_the_next(nodes, victims, write_routes, rounds):
    config = write_routes(*(victim.url for victim in victims))
    node = nodes.start("--config", str(config))
    with Load(nodes.port, CLIENTS) as load:
        for _ in rounds(1):
            workers = kill_control(node)
            load.run_on()  # without a control process
            node = nodes.start("--config", str(config))
            eventually(lambda pids=workers: not any(map(alive, pids)), "the orphans end")
            load.run_on()
            assert node.health()["status"] == "Healthy"
    assert load.failed() == []
