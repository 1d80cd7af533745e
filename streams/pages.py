"""A worker's web pages: `/health`, `/livez`, `/readyz`, `/startupz`, `/metrics`.

The one rule: a page only looks. It answers from the event loop while a handler or a broker keeps the stage's thread busy.
"""

import socket
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from streams.stage import Port, Telling
from streams.telemetry import MEDIA_TYPE, exposition


class Shown(Protocol):
    """A stage as the pages see it."""

    @property
    def name(self) -> str:
        """The stage's name."""
        ...

    @property
    def started(self) -> bool:
        """Whether it has come up: its ports, store and schemas are open and it has asked for partitions."""
        ...

    @property
    def ready(self) -> bool:
        """Whether it owns what it is to own."""
        ...

    def health(self) -> dict[str, Any]:
        """What it owns, what waits, and why if it does not go on."""
        ...


def add_pages(app: Any, stages: Sequence[Shown]) -> None:
    """Put the pages on a Faust app."""

    @app.page("/health")  # type: ignore[untyped-decorator]  # Faust has no types
    async def health(view: Any, request: Any) -> Any:  # noqa: ARG001  # Faust's signature
        pages = [stage.health() for stage in stages]
        healthy = all(page["healthy"] for page in pages)
        return view.json({"healthy": healthy, "stages": pages}, status=200 if healthy else 503)

    @app.page("/livez")  # type: ignore[untyped-decorator]  # Faust has no types
    async def live(view: Any, request: Any) -> Any:  # noqa: ARG001  # Faust's signature
        reasons = {page["stage"]: page["reason"] for stage in stages if not (page := stage.health())["healthy"]}
        return view.json({"alive": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    @app.page("/startupz")  # type: ignore[untyped-decorator]  # Faust has no types
    async def started(view: Any, request: Any) -> Any:  # noqa: ARG001  # Faust's signature
        states = {stage.name: stage.started for stage in stages}
        return view.json({"started": all(states.values()), "stages": states}, status=200 if all(states.values()) else 503)

    async def ready(view: Any, request: Any) -> Any:  # noqa: ARG001  # Faust's signature
        states = {stage.name: stage.ready for stage in stages}
        return view.json({"ready": all(states.values()), "stages": states}, status=200 if all(states.values()) else 503)

    app.page("/ready")(ready)
    app.page("/readyz")(ready)

    @app.page("/metrics")  # type: ignore[untyped-decorator]  # Faust has no types
    async def metrics(view: Any, request: Any) -> Any:  # noqa: ARG001  # Faust's signature
        return view.bytes(exposition(stage.health() for stage in stages), content_type=MEDIA_TYPE)


def states(opened: Mapping[Port[Any], Any]) -> dict[str, str]:
    """How the dependencies are whose open ports say so, by the port's name; see `Telling`."""
    return {port.name: found.state() for port, found in opened.items() if isinstance(found, Telling)}


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
