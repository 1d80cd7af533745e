"""A worker's web pages: `/health`, `/livez`, `/readyz`, `/startupz`, `/metrics`.

The one rule: a page only looks. It answers from the event loop while a handler or a broker keeps the stage's thread busy.
"""

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from streams.standing import Standing
from streams.telemetry import MEDIA_TYPE, Sample, exposition


def add_pages(app: Any, stages: Sequence[Standing], own: Callable[[], Iterable[Sample]]) -> None:
    """Put the pages on a Faust app. `own` are the metrics of the worker itself, beside its stages'."""

    @app.page("/health")  # type: ignore[untyped-decorator]  # Faust has no types
    async def health(view: Any, request: Any) -> Any:  # noqa: ARG001  # Faust's signature
        pages = [stage.health() for stage in stages]
        healthy = all(page["healthy"] for page in pages)
        return view.json({"healthy": healthy, "stages": pages}, status=200 if healthy else 503)

    @app.page("/livez")  # type: ignore[untyped-decorator]  # Faust has no types
    async def live(view: Any, request: Any) -> Any:  # noqa: ARG001  # Faust's signature
        reasons = {stage.name: broken for stage in stages if (broken := stage.stuck or stage.failure)}
        return view.json({"alive": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    @app.page("/startupz")  # type: ignore[untyped-decorator]  # Faust has no types
    async def started(view: Any, request: Any) -> Any:  # noqa: ARG001  # Faust's signature
        states = {stage.name: stage.started for stage in stages}
        return view.json({"started": all(states.values()), "stages": states}, status=200 if all(states.values()) else 503)

    async def ready(view: Any, request: Any) -> Any:  # noqa: ARG001  # Faust's signature
        reasons = {stage.name: why for stage in stages if (why := stage.unready())}
        page = {"ready": not reasons, "stages": {stage.name: stage.name not in reasons for stage in stages}}
        return view.json(page | ({"reasons": reasons} if reasons else {}), status=503 if reasons else 200)

    app.page("/ready")(ready)
    app.page("/readyz")(ready)

    @app.page("/metrics")  # type: ignore[untyped-decorator]  # Faust has no types
    async def metrics(view: Any, request: Any) -> Any:  # noqa: ARG001  # Faust's signature
        samples = [*own(), *(sample for stage in stages for sample in stage.samples())]
        return view.bytes(exposition(samples, process=True), headers={"Content-Type": MEDIA_TYPE})


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
