"""The one writer of a kind: whoever opens it later fences whoever had it before.

The one rule: when `take_over` returns, nothing that an earlier writer had under way can still be committed. What one writes
goes by what was read after that. So it never registers again by itself: meanwhile another may have taken over, and written.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaException

from streams import topics
from streams.errors import Fenced, SetupError
from streams.kafka.writer import Silent, Undecided, Writer
from streams.record import Output


class SoleWriter:
    """Writes until another takes over. `who` it is, in the errors: "operator"."""

    def __init__(self, writer: Writer, who: str) -> None:
        self._writer = writer
        self._who = who

    def write(self, outputs: Sequence[Output]) -> None:
        """One transaction. Raises `Aborted` when nothing of it happened, and `Fenced` when this writer is at its end.

        After `Aborted` it writes no more until `renew`.
        """
        if not self._writer.opened:
            raise Fenced(_ENDED)
        try:
            self._writer.write(outputs)
        except Undecided as error:
            raise Fenced(f"whether the last transaction has happened is not known ({error}): {_ENDED}") from error
        except Silent as error:  # who asks wants to hear of it, and not wait for as long as the brokers are away
            raise Fenced(f"the last transaction did not happen ({error}): {_ENDED}") from error
        except Fenced as error:
            raise Fenced(f"another {self._who} has taken over ({error})") from error

    def renew(self) -> None:
        """Take over again after `Aborted`. Read anew what you go by: another may have taken over meanwhile, and written."""
        self._writer.open()

    def stop(self) -> None:
        """Wait no longer for a broker that is away; from any thread."""
        self._writer.stopping = True

    def close(self) -> None:
        """Let go of the producer; an open transaction is left to the next of its kind."""
        self._writer.close()


_ENDED = "begin again, what has happened is found"


def take_over(properties: Mapping[str, Any], transactional_id: str, who: str) -> SoleWriter:
    """An open writer. Raises `SetupError` for a cluster that refuses."""
    try:
        writer = Writer(properties, transactional_id, topics.QUIET)
    except KafkaException as error:
        raise SetupError(error.args[0].str(), where="TOWPATH_KAFKA", fix="see librdkafka's CONFIGURATION.md") from None
    writer.open()
    return SoleWriter(writer, who)
