"""The Faust app under a worker: agents, supervision and a web server, over a channel that is pulled.

The one rule: Faust never talks to Kafka. librdkafka does, behind the session.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import faust

from streams.config import Settings
from streams.record import Record


class _App(faust.App):  # type: ignore[misc]  # Faust has no types
    """A Faust app that leaves Kafka to librdkafka."""

    class BootStrategy(faust.App.BootStrategy):  # type: ignore[misc]  # as above
        """Without it Faust would connect a consumer of its own."""

        enable_kafka = False


def app(topology: str, web: tuple[str, int], settings: Settings) -> Any:
    """The app of a topology's worker; its web server is at the host and port `web`."""
    return _App(
        f"towpath-{topology}",
        datadir=str(settings.directory / "faust"),
        web_host=web[0],
        web_bind=web[0],
        web_port=web[1],
        topic_disable_leader=True,
        autodiscover=False,
    )


class Channel(faust.Channel):  # type: ignore[misc]  # Faust has no types
    """A channel that is pulled: each item is what one poll brought."""

    def __init__(self, app: Any, pull: Callable[[], Awaitable[list[Record]]]) -> None:
        super().__init__(app)
        self._pull = pull

    async def __anext__(self) -> list[Record]:
        return await self._pull()

    def clone(self, **_: Any) -> "Channel":
        """Itself: Faust makes one per agent instance, and ours holds no state."""
        return self

    def derive(self, **_: Any) -> "Channel":
        """Itself, as above."""
        return self
