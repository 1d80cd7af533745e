"""Where to look when the demo is over.

The one rule: what it names is there, or it says what makes it be there.
"""

from streams.config import Settings
from streams.viewer import LocalZipkin
from topologies.orders.demo.watch import Watch

_MODULE = "topologies.orders"


def further(settings: Settings, watch: Watch, zipkin: LocalZipkin | None, *, kept: bool) -> str:
    """Files, pages and commands, a few lines of them; `kept`: Kafka goes on running."""
    home = settings.directory
    lines = ["look further:", f"  {home / 'reconciled.html'} and what each process said: {home}/*.log"]
    if zipkin is not None:
        found = watch.trace()
        if found is not None:
            order, trace_id, ending = found
            lines.append(f"  one order's trace ({order}, {ending}): {zipkin.trace(trace_id)}")
        lines.append(f"  all traces: {zipkin.url} (`TOWPATH_DIR={home} towpath down` ends it)")
    else:
        lines.append("  each order as one trace over all stages: make demo TRACES=1")
    if not kept:
        lines.append("  Kafka as the demo leaves it: make demo KEEP=1, which then names more commands")
        return "\n".join(lines) + "\n"
    order = next(iter(watch.endings), b"").decode("utf-8", "replace")
    lines += [
        f"  export TOWPATH_DIR={home} TOWPATH_BOOTSTRAP={settings.bootstrap} TOWPATH_STORE='{settings.store}'",
        f"    towpath order {_MODULE} {order}",
        f"    towpath cases list {_MODULE}",
        f"    towpath top {_MODULE}",
        f"    towpath run {_MODULE} --web-port 8080    then http://127.0.0.1:8080/metrics and /health",
    ]
    return "\n".join(lines) + "\n"
