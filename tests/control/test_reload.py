"""A reload of the configuration file that is given up in the middle is done again by whoever goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hotswap_proxy.control.filewatch import signature
from hotswap_proxy.control.reload import ConfigFileReloader


class Applying:
    """A configuration whose changes take as long as the test wants."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self.generation = self.routes = self.backends = 0

    async def apply(self, *_given: object, **_more: object) -> Any:
        self.begun.set()
        await self.may_end.wait()
        return SimpleNamespace(added=1, changed=0, removed=0)


def test_a_reload_that_was_given_up_is_done_again(tmp_path: Path) -> None:
    file = tmp_path / "gateway.json"
    file.write_text("{}")

    async def scenario() -> None:
        reloader, configuration = ConfigFileReloader(file), Applying()
        told: list[str | None] = []
        reloader.ask()
        running = asyncio.create_task(reloader.run(configuration, told.append))  # type: ignore[arg-type]
        await configuration.begun.wait()
        assert reloader.applied is None, "under way"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert reloader.applied is None and told == [], "not applied"
        configuration.may_end.set()
        running = asyncio.create_task(reloader.run(configuration, told.append))  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            while not told:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert told == [None]
        await asyncio.sleep(0)
        assert reloader.applied == signature(file)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
