"""A process on a leash: a module, run as `python -m` does, that ends when whoever started it does, however that happens.

The one rule: its standard input is a pipe that the demo holds open and never writes to; where it ends, the demo is gone.
"""

import os
import runpy
import signal
import sys
import threading
from typing import Final

_STOP: Final = 15.0  # seconds for a tidy end


def _hold() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(_STOP)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_hold, name="leash", daemon=True).start()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
