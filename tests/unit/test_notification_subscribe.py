"""Subscribers by command: added, told apart, rotated and ended, and no secret shown but to whoever made it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from streams import migrate
from topologies.orders.subscribe import main
from topologies.orders.subscribers import Subscribers, opened, subscribers


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    found = f"sqlite:///{tmp_path / 'store.db'}"
    monkeypatch.setenv("TOWPATH_STORE", found)
    monkeypatch.delenv("TOWPATH_WEBHOOK_ALLOW", raising=False)
    return found


@pytest.fixture
def store(url: str) -> str:
    migrate.upgrade(url, [subscribers])
    return url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def said(*arguments: str) -> list[dict[str, Any]]:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def secrets(store: str, subscriber_id: str) -> tuple[str, ...]:
    with opened(store) as engine, engine.begin() as connection:
        found = Subscribers(connection).find(subscriber_id)
    assert found is not None
    return found.secrets


def test_a_secret_is_rotated_while_the_old_one_is_still_good(store: str) -> None:
    (added,) = said("add", "--customer", "c1", "https://8.8.8.8/hooks")
    (first,) = added["secrets"]
    ((second,),) = (told["secrets"] for told in said("rotate", added["id"]))
    assert secrets(store, added["id"]) == (second, first)
    ((third,),) = (told["secrets"] for told in said("rotate", added["id"]))
    assert secrets(store, added["id"]) == (third, second)
    said("rotate", added["id"], "--finish")
    assert secrets(store, added["id"]) == (third,)
    assert len({first, second, third}) == 3


@pytest.mark.usefixtures("store")
def test_the_list_says_who_is_told_of_what_and_no_secret() -> None:
    (own,) = said("add", "--customer", "c1", "https://8.8.8.8/hooks")
    (every,) = said("add", "--everybody", "mailto:orders@shop.example")
    said("end", own["id"], "--reason", "moved")
    listed = {one["id"]: one for one in said("list")}
    assert listed[own["id"]] == {
        "id": own["id"],
        "orders_of": "c1",
        "url": "https://8.8.8.8/hooks",
        "secrets": 1,
        "ended": "moved",
    }
    assert (listed[every["id"]]["orders_of"], listed[every["id"]]["secrets"]) == ("everybody", 0)
    assert "whsec" not in json.dumps(listed)
    said("resume", own["id"])
    assert all(one["ended"] is None for one in said("list"))


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "--customer", "c1", "https://127.0.0.1/"], "no public address"),
        (["add", "--customer", "c1", "https://localhost/"], "no public address"),
        (["add", "--customer", "c1", "http://8.8.8.8/"], "only https"),
        (["add", "--customer", "c1", "https://2130706433/"], "disguise"),
        (["add", "--customer", "c1", "ftp://shop.example/"], "https://"),
        (["add", "--customer", "c1", "mailto:nobody"], "no e-mail address"),
        (["add", "--customer", "c1", "mailto:a@b.example?bcc=all@b.example"], "no e-mail address"),
        (["add", "--customer", "c1", "mailto:a@b.example,c@d.example"], "no e-mail address"),
        (["add", "--customer", "c1", "mailto:a@b.example\nBcc: c"], "no e-mail address"),
        (["add", "https://8.8.8.8/"], "whose orders"),
        (["add", "--everybody", "--customer", "c1", "https://8.8.8.8/"], "whose orders"),
        (["end", "sub_nobody"], "no subscriber"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_and_changes_nothing(arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert says in result.stderr.replace("\\n", "")
    assert said("list") == []


def test_a_database_without_the_table_says_what_to_do(url: str) -> None:
    result = run("list")
    assert (result.exit_code, "towpath db upgrade" in result.stderr) == (2, True), url
