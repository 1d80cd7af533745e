"""What is outside the flow in the demo: a payment provider and a subscriber, processes of their own, and our door for webhooks.

The one rule: what money moved the provider's own statement says, and what was told the subscriber; both are held against the
events that the flow has published.
"""

import csv
import json
import secrets
import tempfile
import urllib.request
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from streams.codec import Codec
from streams.config import Settings
from streams.errors import TowpathError
from streams.ops.reader import Reader
from streams.record import event_info
from streams.registry import FolderRegistry
from streams.topology import Topology
from topologies.orders.demo.crew import Crew, free_port
from topologies.orders.events import Ending, PaymentCaptured, PaymentRefunded
from topologies.orders.money import amount
from topologies.orders.subscribe import new_secret
from topologies.orders.subscribers import Subscriber, Subscribers, opened
from topologies.orders.webhooks import PATH

_SETTLE: Final = 5  # seconds from capture to settlement: days, elsewhere
_CAPTURE: Final = "capture"
_REFUND: Final = "refund"

Moves = Counter[tuple[str, str, int, str]]
"""Capture or refund, order, amount in minor units, currency; how often each happened."""


class Outside:
    """The provider and the door, with keys that are made for this demo."""

    def __init__(self) -> None:
        self._began = datetime.now(UTC).date()
        self._port = free_port()
        self._door = free_port()
        self._url = f"http://127.0.0.1:{self._port}"
        self._subscriber = f"http://127.0.0.1:{free_port()}/"
        self._secret = new_secret()
        self._key = secrets.token_hex(24)
        self.variables = {
            "TOWPATH_PSP_URL": self._url,
            "TOWPATH_PSP_API_KEY": self._key,
            "TOWPATH_PSP_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(16)}",  # hex is base64 too
            "TOWPATH_RECEIVER_SECRET": self._secret,
            "TOWPATH_WEBHOOK_ALLOW": "127.0.0.1",
        }

    def start(self, crew: Crew, settings: Settings) -> None:
        """Start them, and subscribe to all orders; `crew.wait_until_ready` waits for them too."""
        with opened(settings.store) as engine, engine.begin() as connection:
            Subscribers(connection).add(Subscriber("sub_demo", None, self._subscriber, (self._secret,)))
        door = f"http://127.0.0.1:{self._door}"
        provider = ("--port", str(self._port), "--db", str(settings.directory / "psp.db"), "--settle-after", str(_SETTLE))
        hooks = ("--webhook-url", door + PATH, "--dispute-share", "0.005")
        crew.start_server("psp", f"{self._url}/health", "topologies.orders.psp", *provider, *hooks)
        crew.start_server("webhooks", f"{door}/health", "topologies.orders.webhooks", "--port", str(self._door))
        port = self._subscriber.rpartition(":")[2].rstrip("/")
        crew.start_server("subscriber", f"{self._subscriber}health", "topologies.orders.demo.receiver", "--port", port)

    def balance(self, settings: Settings, topology: Topology) -> str:
        """The money in a line. Raises `TowpathError` if the provider has moved other money than the flow says."""
        ours, theirs = self._published(settings, topology), self._stated()
        if ours != theirs:
            wrong = sorted((ours - theirs) + (theirs - ours))
            raise TowpathError(
                f"{len(wrong)} moves of money differ between the flow and the provider's statement, first {wrong[0]}"
            )
        count: Counter[str] = Counter()
        sums: Counter[str] = Counter()
        for (kind, _, minor, currency), times in ours.items():
            count[kind] += times
            sums[currency] += minor * times * (1 if kind == _CAPTURE else -1)
        money = " and ".join(amount(total, currency) for currency, total in sorted(sums.items())) or "nothing"
        return (
            f"money: {count[_CAPTURE]:,} charges less {count[_REFUND]:,} refunds, {money}; "
            "the provider's statement says the same, order by order\n"
        )

    def told(self, told: int) -> str:
        """The webhooks in a line. Raises `TowpathError` if the subscriber has not heard of each end that was `told`, once."""
        with urllib.request.urlopen(f"{self._subscriber}health", timeout=10) as reply:  # noqa: S310  # our own
            page = json.load(reply)
        counts, types = page["webhooks"], Counter(page["types"])
        ends = sum(types.pop(f"towpath.order.{ending.value}", 0) for ending in Ending)
        if ends != told or counts["refused"]:
            raise TowpathError(f"there were {told} ends, and a subscriber was told of {ends}: {counts}")
        return (
            f"webhooks: a subscriber was told of {ends:,} ends and {types.total():,} disputes and refunds, each signed and "
            f"told once ({counts['repeated']} were sent again)\n"
        )

    def _published(self, settings: Settings, topology: Topology) -> Moves:
        codec = Codec([PaymentCaptured, PaymentRefunded], FolderRegistry(topology.schemas))
        said: dict[str, tuple[str, Callable[[bytes], PaymentCaptured | PaymentRefunded]]] = {
            event_info(PaymentCaptured).topic: (_CAPTURE, codec.decoder(PaymentCaptured)),
            event_info(PaymentRefunded).topic: (_REFUND, codec.decoder(PaymentRefunded)),
        }
        moves: Moves = Counter()
        with Reader(settings, list(said), from_beginning=True) as reader:
            while not reader.at_end:
                for record in reader.read(2000):
                    kind, decode = said[record.topic]
                    paid = decode(record.value or b"")
                    moves[kind, paid.order_id, paid.total_minor, paid.currency] += 1
        return moves

    def statements(self, folder: Path) -> list[Path]:
        """The provider's statements of the days that the demo has seen, as files."""
        files = []
        for day in sorted({self._began, datetime.now(UTC).date()}):
            address = f"{self._url}/v1/statements/{day.isoformat()}"
            request = urllib.request.Request(address, headers={"Authorization": f"Bearer {self._key}"})  # noqa: S310  # our own
            with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310  # as above
                files.append(folder / f"{day.isoformat()}.csv")
                files[-1].write_bytes(reply.read())
        return files

    def _stated(self) -> Moves:
        moves: Moves = Counter()
        with tempfile.TemporaryDirectory() as folder:
            for path in self.statements(Path(folder)):
                with path.open(newline="", encoding="utf-8") as file:
                    moves.update(
                        (row["kind"], row["order_id"], int(row["amount_minor"]), row["currency"])
                        for row in csv.DictReader(file)
                        if row["kind"] in (_CAPTURE, _REFUND)
                    )
        return moves
