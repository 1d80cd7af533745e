"""`towpath order` on a real Kafka, as a user runs it."""

import json
from pathlib import Path

from streams.local import LocalKafka
from tests.support.ward import MODULE, Ward
from tests.support.workers import wait_for


def test_the_story_of_a_key_is_told_and_nobody_elses(tmp_path: Path, kafka: LocalKafka) -> None:
    with Ward(tmp_path, kafka.bootstrap) as ward:
        ward.worker("keeper", "holder")
        ward.send(("a", 13), ("b", 1), ("a", 2))
        (case,) = ward.wait_for_cases(1)
        wait_for(lambda: len(ward.items("kept")) == 3, 30, "the keeper is not through", ward.logs)
        wait_for(lambda: ward.items("held") == [("b", 1)], 30, "the holder is not through", ward.logs)
        told = ward.towpath("order", MODULE, "a")
        nobody = ward.towpath("order", MODULE, "nobody")
        late = ward.towpath("order", MODULE, "a", "--since", "2100-01-01")
    assert told.returncode == 0, told.stderr
    story = json.loads(told.stdout)
    events = [(step["event"], step["value"], step["stage"], step["parent"]) for step in story["events"]]
    assert story["key"] == "a"
    assert events == [
        ("Sent", {"key": "a", "size": 13}, "", None),
        ("Kept", {"key": "a", "size": 13}, "keeper", 0),
        ("Sent", {"key": "a", "size": 2}, "", None),
        ("Kept", {"key": "a", "size": 2}, "keeper", 2),
    ]
    unlucky, behind = (
        {handled["stage"]: handled for handled in step["handled"]} for step in (story["events"][0], story["events"][2])
    )
    assert (unlucky["keeper"]["state"], unlucky["holder"]["state"]) == ("done", "held")
    assert unlucky["holder"]["case"]["case_id"] == case["case_id"]
    assert (behind["holder"]["state"], behind["holder"]["attempts"]) == ("parked", 0)
    assert (nobody.returncode, late.returncode) == (1, 1)
    assert "no event of 'nobody'" in nobody.stderr
