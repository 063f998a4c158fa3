"""How often the gate promotes what is not better, and finds what is: a table by world, metrics and users.

Command: ``python -m tests.bench.simulate_gate`` (about 8 minutes on one core; ``--gates 100`` for half of them)

Worlds (tests/alignment/planted_gate.py): *planted*, nDCG-like values of which most do not differ; *heavy*, differences
with a t(3) distribution; *skewed*, a few users lose what the many gain; *identical*, one user in a hundred differs.
The first table has no gain: alpha is 5 %, of which half may promote. The second plants 0.5, 1 and 2 times the minimum
effect; its rows "as the gate asks" first run a gate on 200 users, and then one on the number that this one asked for.
"""

from __future__ import annotations

from collections import Counter

import click
import numpy as np
from scipy.stats import binomtest

from lettingo_features.alignment.verdict import Decision, Verdict
from lettingo_features.text_table import aligned
from tests.alignment.planted_gate import World, gates, heavy, identical, planted, skewed

NULL = [(planted, 1), (planted, 3), (heavy, 1), (skewed, 1), (identical, 1)]
NULL_USERS = (30, 100, 300)
MINIMUM = {planted: 0.03, heavy: 0.05}
POWER = [(planted, 1), (planted, 3), (heavy, 1)]
POWER_USERS = (300, 1_000)
NULL_TIMES = 5  # rates of a few percent need more gates than a power
PILOT = 200


@click.command()
@click.option("--gates", "n_gates", default=200, show_default=True, help="Simulated gates per row.")
@click.option("--seed", default=0, show_default=True)
def main(n_gates: int, seed: int) -> None:
    """Print both tables."""
    n_null = NULL_TIMES * n_gates
    print(f"No gain: verdicts of {n_null:,} gates, promotions with their 95 % Wilson interval")
    head = ["world, metrics", "users", "promoted", "95 % interval", "rejected", "held"]
    rows = [
        [_name(world, n_metrics), f"{n_users:,}", *_shares(gates(world, n_users, 0.0, 0.03, n_null, n_metrics, seed))]
        for world, n_metrics in NULL
        for n_users in NULL_USERS
    ]
    print(aligned([head, *rows]), flush=True)
    print(f"\nA gain, as a multiple of the minimum effect: share of {n_gates} gates that promote")
    rows = [row for world, n_metrics in POWER for row in _power(world, n_metrics, n_gates, seed)]
    print(aligned([["world, metrics", "users", "0.5 x", "1 x", "2 x"], *rows]))


def _power(world: World, n_metrics: int, n_gates: int, seed: int) -> list[list[str]]:
    minimum = MINIMUM[world]
    rows = []
    for n_users in POWER_USERS:
        found = [
            gates(world, n_users, times * minimum, minimum, n_gates, n_metrics, seed + 1) for times in (0.5, 1.0, 2.0)
        ]
        rows.append([_name(world, n_metrics), f"{n_users:,}", *map(_promoted, found)])
    asked = gates(world, PILOT, minimum, minimum, n_gates, n_metrics, seed + 2, pilot=True)
    users = np.median([verdict.comparisons[0].n_users for verdict in asked])
    return [*rows, [_name(world, n_metrics), f"as the gate asks (median {users:,.0f})", "", _promoted(asked), ""]]


def _name(world: World, n_metrics: int) -> str:
    return f"{world.__name__}, {n_metrics}"


def _shares(verdicts: list[Verdict]) -> list[str]:
    counts = Counter(verdict.decision for verdict in verdicts)
    low, high = binomtest(counts[Decision.PROMOTE], len(verdicts)).proportion_ci(method="wilson")
    promoted, rejected, held = (
        f"{counts[each] / len(verdicts):.1%}" for each in (Decision.PROMOTE, Decision.REJECT, Decision.HOLD)
    )
    return [promoted, f"[{low:.1%}, {high:.1%}]", rejected, held]


def _promoted(verdicts: list[Verdict]) -> str:
    return f"{np.mean([verdict.decision == Decision.PROMOTE for verdict in verdicts]):.1%}"


if __name__ == "__main__":
    main()
