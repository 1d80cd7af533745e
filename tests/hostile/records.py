"""All hostile records, in the order in which they are sent."""

from typing import Final

from tests.hostile import headers, inside, values, wire

RECORDS: Final = (*wire.RECORDS, *values.RECORDS, *headers.RECORDS, *inside.RECORDS)
