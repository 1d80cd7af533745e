"""Python's garbage collector, told to look less often.

The one rule: what a record leaves behind is freed by its reference count; the collector is for cycles, and these are rare.

By default it looks after every 700 objects more than before, and through all modules now and then. A stage makes some 30
objects of a record and holds thousands of records at once, none of them in a cycle: looking through them takes 5 to 10 % of
its time.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_THRESHOLDS: Final = (100_000, 50, 1000)  # about 10 MiB of objects until it looks at the young ones


@contextmanager
def collected_seldom() -> Iterator[None]:
    """Within this, what is there already is not looked at again, and what comes only by the hundred thousand."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
