"""Every metric that is exported: its name, its type, its labels, what it says. docs/metrics.md has the same with more words.

The one rule: what is not here cannot be exported, and no label here is an id, a key, a message or an address.
"""

from typing import Final, Literal

import msgspec

Kind = Literal["counter", "gauge", "histogram"]

_STAGE: Final = ("topology", "stage")
_CLIENT: Final = (*_STAGE, "client")
_PLACE: Final = ("topology", "topic", "partition")
_INPUT: Final = (*_STAGE, "topic", "partition")
_MESSAGES: Final = (*_STAGE, "messaging_system", "messaging_destination_name")


class Family(msgspec.Struct, frozen=True):
    """A metric as it is exposed; a counter's name ends in `_total`."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    what: str


def _families(kind: Kind, labels: tuple[str, ...], whats: dict[str, str]) -> tuple[Family, ...]:
    return tuple(Family(name, kind, labels, what) for name, what in whats.items())


_GAUGES: Final = {
    "towpath_parked_oldest_seconds": "Age of the oldest record that waits to be tried",
    "towpath_paused_partitions": "Partitions not read on, since too much of them is parked",
    "towpath_owned_partitions": "Partitions of the lead topic",
    "towpath_hold_since_seconds": "When the stage began to wait for a dependency, as a Unix time",
    "towpath_stage_healthy": "1, or 0 for a stage that cannot go on",
}
_COUNTERS: Final = {
    "towpath_retries_total": "Attempts beyond a record's first",
    "towpath_transactions_aborted_total": "Transactions that came to nothing and were done again",
    "towpath_store_inbox_hits_total": "Events that came again and were answered from the inbox",
    "towpath_kafka_rebalances_total": "Rebalances that the member has seen",
}
_HISTOGRAMS: Final = {
    "towpath_stage_wait_seconds": "From a record's timestamp until it was taken up",
    "towpath_stage_duration_seconds": "From a record's timestamp until the transaction that handled it was committed",
    "towpath_transaction_duration_seconds": "Kafka transactions, from begin to the commit's answer",
    "towpath_transaction_records": "Records written in one transaction",
    "towpath_restore_duration_seconds": "From a partition's assignment until its parking table was restored",
    "towpath_store_batch_duration_seconds": "The database transaction of a batch, handlers included",
}

WORKER: Final = (
    Family(
        "messaging_process_duration_seconds",
        "histogram",
        (*_STAGE, "messaging_system", "messaging_operation_name"),
        "Handlers and database of one transaction, from the first record to the last verdict",
    ),
    Family("messaging_client_consumed_messages_total", "counter", _MESSAGES, "New records of committed transactions"),
    Family("messaging_client_sent_messages_total", "counter", _MESSAGES, "Records written by committed transactions"),
    Family("towpath_outcomes_total", "counter", (*_STAGE, "verdict"), "Attempts by their verdict"),
    Family("towpath_dead_total", "counter", (*_STAGE, "error"), "Dead letters by the kind of error"),
    Family("towpath_parked_records", "gauge", (*_STAGE, "kind"), "Records on the parking table, by what they wait for"),
    Family("towpath_e2e_duration_seconds", "histogram", (*_STAGE, "outcome"), "From a source's record to its end's commit"),
    Family("towpath_dependency_away", "gauge", (*_STAGE, "dependency"), "1 while the stage takes nothing in and waits for it"),
    Family("towpath_holds_total", "counter", (*_STAGE, "dependency"), "Times that the stage began to wait for it"),
    Family("towpath_dependency_state", "gauge", (*_STAGE, "dependency", "state"), "1 for the state that a dependency is in"),
    *_families("gauge", _STAGE, _GAUGES),
    *_families("counter", _STAGE, _COUNTERS),
    *_families("histogram", _STAGE, _HISTOGRAMS),
    Family("towpath_kafka_rtt_seconds", "gauge", _CLIENT, "p99 of round trips in the last interval, slowest broker"),
    Family("towpath_kafka_queue_records", "gauge", _CLIENT, "Fetched and not yet taken, or produced and not yet answered"),
    Family("towpath_kafka_request_errors_total", "counter", _CLIENT, "Requests that failed or timed out"),
    Family("towpath_kafka_brokers_up", "gauge", _CLIENT, "Brokers that this client is connected to"),
    Family("towpath_event_loop_lag_seconds", "histogram", ("topology",), "How much later than asked for the event loop wakes"),
    Family("towpath_build_info", "gauge", ("topology", "version"), "1, for the code that runs"),
    Family("towpath_spans_sent_total", "counter", ("topology",), "Spans that the endpoint for traces has taken"),
    Family("towpath_spans_dropped_total", "counter", ("topology",), "Spans lost: the queue was full, or nobody took them"),
)
PROCESS: Final = (
    Family("process_cpu_seconds_total", "counter", (), ""),
    Family("process_max_fds", "gauge", (), ""),
    Family("process_open_fds", "gauge", (), ""),
    Family("process_resident_memory_bytes", "gauge", (), ""),
    Family("process_start_time_seconds", "gauge", (), ""),
    Family("process_virtual_memory_bytes", "gauge", (), ""),
)
"""What prometheus-client itself says of a process on Linux."""
EXPORTER: Final = (
    Family("towpath_group_lag_records", "gauge", _INPUT, "Committed records that the stage has not read"),
    Family("towpath_group_lag_seconds", "gauge", _INPUT, "Age of the first of them"),
    Family("towpath_group_committed_offset", "gauge", _INPUT, "The next offset that the stage reads"),
    Family("towpath_group_members", "gauge", _STAGE, "Members of the stage's group; 0: no worker lives"),
    Family("towpath_topic_end_offset", "gauge", _PLACE, "The last stable offset"),
    Family("towpath_lso_gap_records", "gauge", _PLACE, "Offsets behind an open transaction"),
    Family("towpath_lso_stalled_seconds", "gauge", _PLACE, "For how long the last stable offset has stood still with a gap"),
    Family("towpath_cases_open", "gauge", _STAGE, "Open cases"),
    Family("towpath_cases_oldest_seconds", "gauge", _STAGE, "Since the oldest open case last failed"),
    Family("towpath_brokers", "gauge", ("topology",), "Brokers that the cluster's metadata names"),
    Family("towpath_partitions_offline", "gauge", ("topology", "topic"), "Partitions without a leader"),
    Family("towpath_partitions_under_replicated", "gauge", ("topology", "topic"), "Partitions that lack a replica in sync"),
    Family("towpath_lag_up", "gauge", ("topology",), "1 if the last look at the cluster succeeded"),
    Family("towpath_lag_look_duration_seconds", "gauge", ("topology",), "How long the last look took"),
)
RECONCILE: Final = (
    Family("towpath_reconcile_last_run_timestamp_seconds", "gauge", ("topology",), "When the last run that could judge ended"),
    Family("towpath_reconcile_differences", "gauge", ("topology", "kind"), "Differences by kind, and all of them"),
    Family("towpath_reconcile_unknown", "gauge", ("topology",), "What could not be checked"),
    Family("towpath_reconcile_events", "gauge", ("topology",), "Events read"),
    Family("towpath_reconcile_receipts", "gauge", ("topology",), "Receipts read"),
    Family("towpath_reconcile_duration_seconds", "gauge", ("topology",), "How long the run took"),
)
FAMILIES: Final = {family.name: family for family in (*WORKER, *EXPORTER, *RECONCILE)}
