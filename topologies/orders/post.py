"""E-mail out: a message to a subscriber's address, handed to a mail server.

The one rule: what the server will never take is a case; whatever else keeps it from taking a message passes.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib
import msgspec

from streams.config import Settings
from streams.errors import Reject, Retry, SetupError
from streams.stage import Port
from topologies.orders.events import DeliveryRequested
from topologies.orders.subscribers import Subscriber

MAILTO: Final = "mailto:"
DEADLINE: Final = 8.0  # seconds for the whole of a message
_PORTS: Final = {"smtp": 25, "smtps": 465}
_URL: Final = "TOWPATH_SMTP_URL"
_FROM: Final = "TOWPATH_MAIL_FROM"


class Post(Protocol):
    """Somebody who sends e-mail."""

    async def send(self, to: Subscriber, told: DeliveryRequested) -> None:
        """Hand the message over. Raises `Retry`, or `Reject` for what will never be taken."""
        ...


class Server(msgspec.Struct, frozen=True):
    """A mail server. `tls`: from the first byte; else as soon as the server offers it. Its certificate is verified."""

    host: str
    port: int
    tls: bool
    user: str | None
    password: str | None
    sender: str


class SmtpPost:
    """See `Post`."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def send(self, to: Subscriber, told: DeliveryRequested) -> None:
        """See `Post`."""
        server = self._server
        letter = email(told, server.sender, to.url.removeprefix(MAILTO))
        try:
            async with asyncio.timeout(DEADLINE):
                await aiosmtplib.send(
                    letter,
                    hostname=server.host,
                    port=server.port,
                    use_tls=server.tls,
                    username=server.user,
                    password=server.password,
                    timeout=DEADLINE,
                )
        except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
            raise _verdict(error, to.subscriber_id) from None


class NoPost:
    """See `Post`: no mail server is known."""

    async def send(self, to: Subscriber, told: DeliveryRequested) -> None:  # noqa: ARG002  # a `Post`
        """See `Post`."""
        raise Retry(f"no mail server is known: set {_URL}")


def email(told: DeliveryRequested, sender: str, to: str) -> EmailMessage:
    """The message; the same each time, its Message-ID too. Ids come from outside: a line break in one makes no header."""
    letter = EmailMessage()
    letter["From"] = sender
    letter["To"] = to
    letter["Subject"] = " ".join(told.subject.split())
    letter["Date"] = told.at
    letter["Message-ID"] = f"<{told.delivery_id}@{sender.rpartition('@')[2].rstrip('>')}>"
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answering machine is to answer
    letter.set_content(told.message)
    return letter


def _verdict(error: Exception, subscriber_id: str) -> Retry | Reject:
    what = f"subscriber {subscriber_id}: the mail server does not take it ({type(error).__name__})"
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):  # ours, and true of every message
        return Retry(what)
    codes = [one.code for one in error.recipients] if isinstance(error, aiosmtplib.SMTPRecipientsRefused) else []
    if isinstance(error, aiosmtplib.SMTPResponseException):
        codes = [error.code]
    for_ever = isinstance(error, ValueError | aiosmtplib.SMTPNotSupported) or (codes and all(code >= 500 for code in codes))
    return Reject(what) if for_ever else Retry(what)


@contextmanager
def _post(settings: Settings) -> Iterator[Post]:
    text = settings.variables.get("smtp_url", "")
    yield SmtpPost(server(text, settings.variables.get("mail_from", ""))) if text else NoPost()


def server(text: str, sender: str) -> Server:
    """The server at a URL, and who its messages are from. Raises `SetupError`, which does not repeat a password."""
    fix = "write it as smtp://user:password@host:587 or smtps://host"
    try:
        url = urlsplit(text)
        host, port = url.hostname, url.port
    except ValueError:
        raise SetupError("this is no mail server's URL", where=_URL, fix=fix) from None
    if url.scheme not in _PORTS or not host:
        raise SetupError("this is no mail server's URL", where=_URL, fix=fix)
    name, at, domain = sender.rpartition("@")
    if not (at and name and domain) or not sender.isascii() or not sender.isprintable():
        raise SetupError(f"{sender!r} is no sender", where=_FROM, fix="write it as shop@example.com")
    user, password = (unquote(part) if part is not None else None for part in (url.username, url.password))
    return Server(host, port or _PORTS[url.scheme], url.scheme == "smtps", user, password, sender)


post: Port[Post] = Port("post", _post)
"""E-mail out: the server at TOWPATH_SMTP_URL, with TOWPATH_MAIL_FROM as the sender."""
