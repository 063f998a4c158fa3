"""What a run costs at scale, from measured sizes, public throughput figures and named assumptions.

Commands::

    python -m tests.bench.plan_scale --users 100000000 --gpus 64          the plan (seconds, no model)
    python -m tests.bench.plan_scale --measure                            the sizes it starts from

Every default of an option is a measurement, a public source's or an assumption: docs/scale.md says which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

H100_FP8_8B = {  # (tokens in, tokens out): output tokens/s of one H100, Llama 3.1 8B, FP8; NVIDIA, TensorRT-LLM 1.0
    (128, 128): 28_312,
    (128, 2048): 22_714,
    (500, 2000): 17_660,
    (1000, 1000): 15_220,
    (1000, 2000): 13_899,
    (2048, 128): 3_450,
    (2048, 2048): 9_305,
    (5000, 500): 3_459,
}
TOKENS_IN, TOKENS_OUT = 2_923, 260
LEDGER_BYTES, ANSWER_BYTES, TABLE_BYTES, ONLINE_BYTES = 549, 393, 2_174, 3_592
NEAR = [(1000, 1000), (2048, 128), (5000, 500)]  # the shapes that a profile prompt lies between


def gpu_seconds_per_token(table: dict[tuple[int, int], int], shapes: list[tuple[int, int]]) -> tuple[float, float]:
    """(per token in, per token out) of the model ``seconds = in * a + out * b``, least squares on relative errors.

    >>> a, b = gpu_seconds_per_token({(100, 10): 5, (100, 20): 20 / 3}, [(100, 10), (100, 20)])  # 2 s and 3 s
    >>> round(a, 9), round(b, 9)
    (0.01, 0.1)
    """
    seconds = np.array([out / table[tokens_in, out] for tokens_in, out in shapes])
    (a, b), *_ = np.linalg.lstsq(np.array(shapes) / seconds[:, None], np.ones(len(shapes)), rcond=None)
    return float(a), float(b)


@dataclass(frozen=True, slots=True)
class Plan:
    """One run over ``users`` and the days that follow; all fields are the command's options."""

    users: int
    gpus: int
    tokens_in: float
    tokens_out: float
    efficiency: float
    gpu_hour_usd: float
    load_s: float
    claim: int
    price_in: float
    price_out: float
    api_discount: float
    api_tokens_per_minute: float
    changed_per_day: float
    texts_per_core_s: float
    ledger_bytes: float
    answer_bytes: float
    table_bytes: float
    online_bytes: float

    @property
    def gpu_s_per_user(self) -> float:
        """Seconds of one GPU; ``efficiency`` is our share of the published rate."""
        a, b = gpu_seconds_per_token(H100_FP8_8B, NEAR)
        return (self.tokens_in * a + self.tokens_out * b) / self.efficiency

    @property
    def load_share(self) -> float:
        """Share of a run in which actors load the model: once per claim."""
        busy = self.claim * self.gpu_s_per_user / self.gpus
        return self.load_s / (self.load_s + busy)

    def gpu_hours(self, users: float) -> float:
        return users * self.gpu_s_per_user / 3600 / (1 - self.load_share)

    def api_usd(self, users: float) -> float:
        per_user = (self.tokens_in * self.price_in + self.tokens_out * self.price_out) / 1e6
        return users * per_user * (1 - self.api_discount)

    def api_days(self, users: float) -> float:
        return users * (self.tokens_in + self.tokens_out) / self.api_tokens_per_minute / 1440

    def rows(self) -> list[tuple[str, str, str]]:
        """(what, first run, each day after)."""
        first, daily = float(self.users), self.users * self.changed_per_day

        def both(what: str, value: Any) -> tuple[str, str, str]:
            return what, value(first), value(daily)

        return [
            both("users generated", lambda n: f"{n:,.0f}"),
            both("tokens in", lambda n: si(n * self.tokens_in)),
            both("tokens out", lambda n: si(n * self.tokens_out)),
            both("GPU-hours", lambda n: f"{self.gpu_hours(n):,.0f}"),
            both(f"hours on {self.gpus} GPUs", lambda n: f"{self.gpu_hours(n) / self.gpus:,.1f}"),
            both("GPUs for 24 h", lambda n: f"{math.ceil(self.gpu_hours(n) / 24):,}"),
            both("USD, own GPUs", lambda n: f"{self.gpu_hours(n) * self.gpu_hour_usd:,.0f}"),
            both("USD per 1,000 users, own GPUs", lambda n: f"{self.gpu_hours(1000) * self.gpu_hour_usd:.3f}"),
            both("USD, hosted API", lambda n: f"{self.api_usd(n):,.0f}"),
            both("USD per 1,000 users, hosted API", lambda n: f"{self.api_usd(1000):.3f}"),
            both("days at the API's rate limit", lambda n: f"{self.api_days(n):,.1f}"),
            both("core-hours of encoding", lambda n: f"{n / self.texts_per_core_s / 3600:,.0f}"),
            both("ledger, bytes", lambda n: si(n * self.ledger_bytes)),
            both("answers in parquet, bytes", lambda n: si(n * self.answer_bytes)),
            both("feature tables in parquet, bytes", lambda n: si(n * self.table_bytes)),
            ("online store, bytes", si(first * self.online_bytes), "replaces"),
        ]


def si(value: float) -> str:
    """
    >>> si(1.234e12), si(512)
    ('1.23 T', '512 ')
    """
    for scale, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.3g} "


@click.command()
@click.option("--measure", is_flag=True, help="Measure prompt, ledger and table sizes instead of printing the plan.")
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="Interactions to measure prompts on.")
@click.option("--profiles", type=click.Path(exists=True, path_type=Path), help="CSV of texts to measure answers on.")
@click.option("--postgres", help="URL of a database to measure the ledger on, besides SQLite.")
@click.option("--users", default=100_000_000, show_default=True)
@click.option("--gpus", default=64, show_default=True)
@click.option("--tokens-in", default=TOKENS_IN, show_default=True, help="Per user, instruction included.")
@click.option("--tokens-out", default=TOKENS_OUT, show_default=True)
@click.option("--efficiency", default=0.6, show_default=True, help="Our share of the published throughput.")
@click.option("--gpu-hour-usd", default=2.5, show_default=True)
@click.option("--load-s", default=120.0, show_default=True, help="Start of the actors and the model, per claim.")
@click.option("--claim", default=1_000_000, show_default=True, help="RunnerConfig.claim_size.")
@click.option("--price-in", default=0.20, show_default=True, help="Hosted, USD per million tokens.")
@click.option("--price-out", default=1.25, show_default=True, help="Hosted, USD per million tokens.")
@click.option("--api-discount", default=0.0, show_default=True, help="0.5 for a batch endpoint that halves prices.")
@click.option("--api-tokens-per-minute", default=30e6, show_default=True, help="The account's rate limit.")
@click.option("--changed-per-day", default=0.02, show_default=True, help="Share of users whom the policy renews.")
@click.option("--texts-per-core-s", default=15.8, show_default=True, help="Encoding on a CPU.")
@click.option("--ledger-bytes", default=LEDGER_BYTES, show_default=True, help="Per call.")
@click.option("--answer-bytes", default=ANSWER_BYTES, show_default=True, help="Per call.")
@click.option("--table-bytes", default=TABLE_BYTES, show_default=True, help="Per user and snapshot, vector included.")
@click.option("--online-bytes", default=ONLINE_BYTES, show_default=True, help="Per user.")
def main(measure: bool, data: Path | None, profiles: Path | None, postgres: str | None, **options: Any) -> None:
    """Print the plan for one run over all users and for each day after it."""
    if measure:
        from tests.bench.scale_sizes import measurements

        for line in measurements(data, profiles, postgres):
            print(line, flush=True)
        return
    plan = Plan(**options)
    a, b = gpu_seconds_per_token(H100_FP8_8B, NEAR)
    print(f"one H100: {1 / a:,.0f} tokens/s in, {1 / b:,.0f} tokens/s out, fitted to {len(NEAR)} published shapes")
    for (n_in, n_out), rate in H100_FP8_8B.items():
        fitted = n_out / (n_in * a + n_out * b)
        print(f"  {n_in:>5}/{n_out:<5} published {rate:>7,} tokens/s out, fitted {fitted / rate:5.2f} x")
    print(f"per user: {plan.tokens_in:,.0f} tokens in, {plan.tokens_out:,.0f} out, {plan.gpu_s_per_user:.4f} GPU-s")
    print(f"loading the model takes {plan.load_share:.1%} of a run at {plan.claim:,} calls per claim")
    print(f"{'':<34} {'first run':>14} {'each day':>14}")
    for what, first, daily in plan.rows():
        print(f"{what:<34} {first:>14} {daily:>14}")


if __name__ == "__main__":
    main()
