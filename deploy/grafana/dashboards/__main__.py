"""`python -m dashboards [FOLDER]`: write all dashboards as Grafana takes them, to `json/` unless told otherwise.

The one rule: the same code writes the same bytes, so that a test can tell whether the files are those of the code.
"""

import sys
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import broker, flow, lag, reconcile, stages, worker


def text(board: Dashboard) -> str:
    """A dashboard as JSON. Its panels are numbered in their order: Grafana's addresses of single panels need that."""
    built = board.build()
    for number, panel in enumerate(built.panels or (), start=1):
        panel.id_val = number
    return JSONEncoder(sort_keys=True, indent=2).encode(built) + "\n"


def write(folder: Path) -> None:
    """Write each dashboard to a file that is named after it."""
    folder.mkdir(parents=True, exist_ok=True)
    for module in (flow, stages, lag, broker, worker, reconcile):
        board = module.board()
        (folder / f"{module.__name__.rpartition('.')[2]}.json").write_text(text(board), "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "json")
