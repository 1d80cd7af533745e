"""What panels ask Prometheus, in a few words.

The one rule: every question is about the topologies that were chosen, and about the chosen stages where a metric has them.
"""

from typing import Final

TOPOLOGY: Final = 'topology=~"$topology"'
STAGE: Final = f'{TOPOLOGY}, stage=~"$stage"'
OURS: Final = 'outcome!~"expired|cancelled|inventory.released"'
"""Ends whose time is not the customer's; as in deploy/prometheus/rules/slo.yml."""


def of(metric: str, *more: str, where: str = STAGE) -> str:
    """The chosen series of a metric; `more` are further matchers."""
    return f"{metric}{{{', '.join((where, *more))}}}"


def total(expression: str, by: str = "") -> str:
    """The sum of series, one for each value of these labels."""
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def rate(metric: str, *more: str, by: str = "stage", where: str = STAGE) -> str:
    """How much a counter grows in a second."""
    return total(f"rate({of(metric, *more, where=where)}[$__rate_interval])", by)


def grown(metric: str, *more: str, by: str = "", where: str = STAGE) -> str:
    """How much a counter has grown over the time that is shown. One that was not there before has grown by all that it says."""
    there = of(metric, *more, where=where)
    return total(f"(increase({there}[$__range]) and {there} offset $__range) or {there}", by)


def quantile(share: float, metric: str, *more: str, by: str = "stage", where: str = STAGE) -> str:
    """The value below which this share of a histogram's observations lies."""
    labels = f"le, {by}" if by else "le"
    return (
        f"histogram_quantile({share}, sum by ({labels}) (rate({of(f'{metric}_bucket', *more, where=where)}[$__rate_interval])))"
    )
