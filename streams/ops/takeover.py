"""The one writer of a kind: whoever opens it later fences whoever had it before.

The one rule: when `take_over` returns, nothing that an earlier writer had under way can still be committed. And since what it
writes goes by what it read after that, it never registers again: meanwhile another may have taken over, and written.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaException

from streams import topics
from streams.errors import Aborted, Fenced, SetupError
from streams.kafka_writer import Undecided, Writer
from streams.record import Output


class SoleWriter:
    """Writes until another takes over. `who` it is, in the errors: "operator"."""

    def __init__(self, writer: Writer, who: str) -> None:
        self._writer = writer
        self._who = who

    def write(self, outputs: Sequence[Output]) -> None:
        """One transaction. Raises `Aborted` when nothing of it happened, and `Fenced` when this writer is at its end."""
        if not self._writer.opened:
            raise Fenced(_ENDED)
        try:
            self._writer.write(outputs)
        except Undecided as error:
            raise Fenced(f"whether the last transaction has happened is not known ({error}): {_ENDED}") from error
        except Aborted as error:
            if self._writer.opened:
                raise
            raise Fenced(f"the last transaction did not happen ({error}): {_ENDED}") from error
        except Fenced as error:
            raise Fenced(f"another {self._who} has taken over ({error})") from error

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
