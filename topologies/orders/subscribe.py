"""`python -m topologies.orders.subscribe`: who is told of orders, for an operator.

The one rule: a secret is shown once, to whoever made it.
"""

import base64
import secrets
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
import msgspec

from streams import database
from streams.config import Settings
from streams.errors import SetupError, TowpathError
from topologies.orders.guard import Guard, Refused, allowed, webhook_url
from topologies.orders.post import MAILTO
from topologies.orders.subscribers import Subscriber, Subscribers, opened

_KEPT: Final = 2  # secrets: the new one, and the one that a receiver may still know

ID: Final = click.argument("subscriber_id", metavar="ID")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Subscribers: who is told of orders, by signed webhooks or by e-mail.

    \b
    Variables:
      TOWPATH_STORE          the stages' database; bring it up to date with `towpath db upgrade topologies.orders`
      TOWPATH_WEBHOOK_ALLOW  addresses and networks that webhooks may go to though they are not public, or by http
    """  # noqa: D301  # `\b` is click's mark for a paragraph to be left as it is


@main.command()
@click.option(
    "--customer", metavar="ID", help="Whose orders. A customer with a subscriber of their own gets no letter besides."
)
@click.option("--everybody", is_flag=True, help="All orders.")
@click.argument("url")
def add(customer: str | None, everybody: bool, url: str) -> None:
    """Tell URL (https://… or mailto:…) of a customer's orders, or of everybody's. Prints the id and the secret.

    \b
    Example:
      python -m topologies.orders.subscribe add --customer c42 https://shop.example/hooks
      python -m topologies.orders.subscribe add --everybody mailto:orders@shop.example
    """  # noqa: D301  # as above
    with _told():
        if everybody == (customer is not None):
            raise SetupError("whose orders?", where="--customer, --everybody", fix="give one of the two")
        check_target(url, Settings.load())
        subscriber = new_subscriber(customer, url)
        with _table() as table:
            table.add(subscriber)
        _say(id=subscriber.subscriber_id, secrets=subscriber.secrets)


@main.command(name="list")
def list_all() -> None:
    """List everybody, one JSON object a line, without secrets."""
    with _told(), _table() as table:
        for subscriber in table.all():
            whose = "everybody" if subscriber.customer_id is None else subscriber.customer_id
            told = {"id": subscriber.subscriber_id, "orders_of": whose, "url": subscriber.url}
            _say(**told, secrets=len(subscriber.secrets), ended=subscriber.ended)


@main.command()
@ID
@click.option("--finish", is_flag=True, help="Forget the older secret: the receiver knows the new one by now.")
def rotate(subscriber_id: str, finish: bool) -> None:
    """Make a new secret, and sign with both until --finish. Prints the secret."""

    def change(subscriber: Subscriber) -> Subscriber:
        if subscriber.url.startswith(MAILTO):
            raise SetupError("an e-mail is not signed", where=subscriber_id)
        kept = subscriber.secrets[:1] if finish else (new_secret(), *subscriber.secrets)[:_KEPT]
        return msgspec.structs.replace(subscriber, secrets=kept)

    with _told():
        changed = _change(subscriber_id, change)
        _say(id=subscriber_id, secrets=len(changed.secrets) if finish else changed.secrets[:1])


@main.command()
@ID
@click.option("--reason", default="ended by an operator", show_default=True)
def end(subscriber_id: str, reason: str) -> None:
    """Send it nothing any more."""
    with _told():
        _say(id=subscriber_id, ended=_change(subscriber_id, lambda one: msgspec.structs.replace(one, ended=reason)).ended)


@main.command()
@ID
def resume(subscriber_id: str) -> None:
    """Send to it again. What it has missed is in the cases: resume first, then `towpath cases redrive`."""
    with _told():
        _say(id=subscriber_id, ended=_change(subscriber_id, lambda one: msgspec.structs.replace(one, ended=None)).ended)


def new_secret() -> str:
    """A secret as Standard Webhooks writes it, of 32 random bytes."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def new_subscriber(customer_id: str | None, url: str) -> Subscriber:
    """A subscriber with an id and, for a webhook, a secret of its own."""
    keys = () if url.startswith(MAILTO) else (new_secret(),)
    return Subscriber(f"sub_{secrets.token_hex(12)}", customer_id, url, keys)


def check_target(url: str, settings: Settings) -> None:
    """Raise `SetupError` for what cannot be sent to: better now than with the first order. `Guard` asks again each time."""
    if url.startswith(MAILTO):
        name, at, domain = url.removeprefix(MAILTO).rpartition("@")
        if not (at and name and domain) or not url.isascii() or set(url) & set(" ,;<>?%\"'()[]\\\t\r\n"):
            raise SetupError(f"{url!r} is no e-mail address", where="URL", fix="write it as mailto:somebody@shop.example")
        return
    try:
        target = webhook_url(url)
        guard = Guard(allowed(settings.variables.get("webhook_allow", "")), public=target.scheme == "https")
        for *_, address in socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM):
            guard.check(str(address[0]))
    except Refused as error:
        raise SetupError(str(error), where="URL", fix="give one that the world can reach by https") from None
    except OSError as error:
        raise SetupError(
            f"{target.host} is not found: {error.strerror}", where="URL", fix="give a host that there is"
        ) from None


def _change(subscriber_id: str, change: Callable[[Subscriber], Subscriber]) -> Subscriber:
    with _table() as table:
        found = table.find(subscriber_id)
        if found is None:
            raise SetupError(f"there is no subscriber {subscriber_id!r}", where="ID", fix="see `list`")
        changed = change(found)
        table.change(changed)
        return changed


@contextmanager
def _table() -> Iterator[Subscribers]:
    with opened(Settings.load().store) as engine, database.available(), engine.begin() as connection:
        yield Subscribers(connection)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except TowpathError as error:
        sys.stderr.write(f"subscribe: {error}\n")
        sys.exit(2)


def _say(**what: Any) -> None:
    sys.stdout.write(f"{msgspec.json.encode(what).decode()}\n")


if __name__ == "__main__":
    main()
