"""Deterministic simulation: a whole topology on virtual time, from one seed, with everything going wrong that can.

The one rule: the same workload and the same schedule give the same run, to the last offset.

After FoundationDB's simulation (https://apple.github.io/foundationdb/testing.html): the product's own code, on doubles of what
is outside, and one scheduler that decides who goes on. docs/simulation.md says how to use it for your own topology.
"""

from streams.simulator.judge import Finding
from streams.simulator.kit import Kit
from streams.simulator.run import Report, play
from streams.simulator.schedule import Action, Schedule, generate
from streams.simulator.workload import Clock, Ending, Judgement, Workload, World

__all__ = [
    "Action",
    "Clock",
    "Ending",
    "Finding",
    "Judgement",
    "Kit",
    "Report",
    "Schedule",
    "Workload",
    "World",
    "generate",
    "play",
]
