"""What a member's statistics say of its place in the group."""

import json
from typing import Any

import pytest

from streams.kafka.stats import Statistics


def told(state: str = "up", join_state: str = "steady", **coordinator: Any) -> str:
    return json.dumps({"cgrp": {"state": state, "join_state": join_state}, "brokers": {"GroupCoordinator": coordinator}})


@pytest.mark.parametrize(
    ("text", "astray"),
    [
        (told(rxidle=900_000), ""),
        (told(join_state="init", rxidle=900_000), ""),  # a member without a partition
        (told(), ""),  # nothing has been received yet
        ('{"cgrp": {"state": "up", "join_state": "steady"}}', ""),
        (told(join_state="wait-join", rxidle=90_000_000), ""),  # the others may take their time
        (told(state="wait-broker-transport", join_state="init"), "its coordinator is not there: wait-broker-transport"),
        (told(join_state="wait-unassign-to-complete"), "it gives up partitions: wait-unassign-to-complete"),
        (told(rxidle=31_000_000), "the coordinator has said nothing for 31 s"),
    ],
)
def test_a_member_is_astray_without_a_coordinator_that_answers(text: str, astray: str) -> None:
    statistics = Statistics()
    statistics.take("member", text)
    assert statistics.astray == astray
    statistics.take("member", told(rxidle=1))
    assert not statistics.astray


def test_statistics_of_another_form_say_nothing() -> None:
    statistics = Statistics()
    statistics.take("member", '{"cgrp": 7}')
    assert (statistics.astray, statistics.clients) == ("", {})
