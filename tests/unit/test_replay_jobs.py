"""The jobs of a replay: each partition in one of them, and all of them gone when one fails."""

import multiprocessing
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.config import Settings
from streams.errors import SetupError
from streams.ops.replay.jobs import Jobs, Task, shares
from streams.ops.replay.repair import Plan
from streams.ops.replay.verb import Options
from streams.ops.replay.window import Window
from streams.record import ID, Output

ONE_FAILS = """
import os, signal, threading
try:
    os.mkdir({marker!r})
except FileExistsError:
    threading.Event().wait()  # the other one: it never ends by itself
{failing}
"""


@given(st.dictionaries(st.integers(0, 30), st.tuples(st.integers(0, 9), st.integers(0, 9))), st.integers(1, 8))
def test_each_partition_is_replayed_by_one_job_and_no_job_has_nothing(ranges: dict[int, tuple[int, int]], jobs: int) -> None:
    first = {("t", partition): start for partition, (start, _) in ranges.items()}
    end = {("t", partition): stop for partition, (_, stop) in ranges.items()}
    parts = shares(Window(first, end, 7), jobs)
    seen = [(place, start, part.end[place]) for part in parts for place, start in part.first.items()]
    assert sorted(seen) == sorted((place, start, end[place]) for place, start in first.items() if start < end[place])
    assert len(parts) == min(jobs, len(seen))
    assert all(part.first and part.since == 7 for part in parts)


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ("raise RuntimeError('no such luck')", "RuntimeError: no such luck"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "died (exit code -9); it may be memory: try fewer --jobs"),
    ],
)
def test_a_job_that_fails_ends_all_with_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, said: str
) -> None:
    module = f"failing_{uuid.uuid4().hex}"
    text = ONE_FAILS.format(marker=str(tmp_path / "marker"), failing=failing)
    (tmp_path / f"{module}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    parts = [Window({("t", partition): 0}, {("t", partition): 1}, 0) for partition in range(2)]
    with closing(Plan(tmp_path)) as plan, pytest.raises(SetupError) as error:
        list(Jobs(Task(Settings(), module, "any", Options()), parts, tmp_path, plan).findings())
    assert said in str(error.value)
    assert multiprocessing.active_children() == []


def test_plans_of_jobs_become_one_with_each_id_once(tmp_path: Path) -> None:
    outputs = [Output("t", b"k", b"v", ((ID, name.encode()),)) for name in "abc"]
    (tmp_path / "job").mkdir()
    with closing(Plan(tmp_path)) as plan:
        plan.add(outputs[1:2])
        with closing(Plan(tmp_path / "job")) as other:
            other.add(outputs)
        plan.join(tmp_path / "job")
        assert [dict(one.headers)[ID] for chunk in plan.chunks() for one in chunk] == [b"b", b"a", b"c"]
