"""What a run of profiles did and cost, for people, programs and monitors."""

from __future__ import annotations

from pathlib import Path

from lettingo_features.config import Config
from lettingo_features.generation.prometheus import write_textfile
from lettingo_features.generation.run_report import RunReport
from lettingo_features.profiles.build_report import ProfileBuildReport


class ProfileRunReport(Config):
    """A build, and the calls that it made; ``calls`` is None where no language model wrote."""

    build: ProfileBuildReport
    engine: str = ""
    "Name of the language model, as in ``build.written``."
    engine_identity: str = ""
    calls: RunReport | None = None
    counts: dict[str, int] = {}
    "What the generator counted: rows trimmed, prompts too long, repairs, answers that could not be used, by cause."

    @property
    def cost_per_1000_users(self) -> float:
        """USD per thousand texts that the language model wrote in the run."""
        written = self.build.written.get(self.engine, 0)
        return 1000 * self.calls.cost_usd / written if self.calls and written else 0.0

    def to_text(self) -> str:
        """A few lines for a terminal."""
        if self.calls is None:
            return self.build.to_text()
        c = self.calls
        unusable = c.failed | c.problems
        causes = ", ".join(f"{n:,} {cause}" for cause, n in sorted(unusable.items())) or "none"
        besides = dict(sorted(self.counts.items() - (unusable | {"not_made": c.not_made}).items()))
        counted = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in besides.items() if n)
        words = ", ".join(f"{name} {value:g}" for name, value in self.build.words.items()) or "none"
        stopped = f"stopped by the {c.stopped}: {c.not_made:,} prompts left, run again to go on\n" if c.stopped else ""
        return (
            f"{stopped}{self.build.to_text()}\n"
            f"calls: {c.called:,} made, {c.cached:,} answered without one, {c.not_made:,} not made; "
            f"failed or unusable: {causes}{'; besides: ' + counted if counted else ''}\n"
            f"tokens: {c.tokens_in:,} read, {c.tokens_out:,} written, {c.tokens_per_second:,.0f} written per second; "
            f"{c.cost_usd:.4f} USD, {self.cost_per_1000_users:.4f} per 1,000 users; words per text: {words}"
        )

    def to_json(self) -> dict:
        """All of it, with the figures that are computed."""
        facts = self.model_dump(mode="json")
        if self.calls is not None:
            facts["calls"]["tokens_per_second"] = self.calls.tokens_per_second
            facts["cost_per_1000_users"] = self.cost_per_1000_users
        return facts

    def write_metrics(self, directory: Path) -> Path | None:
        """Write ``generation_<release>.prom`` for a Prometheus node exporter; None where there were no calls."""
        if self.calls is None:
            return None
        path = directory / f"generation_{self.build.release}.prom"
        gauges = {
            "users_written": float(sum(self.build.written.values())),
            "users_unchanged": float(self.build.users_unchanged),
            "users_pending": float(self.build.users_pending),
            "fallbacks": float(self.build.fallbacks),
            "lint_findings": float(self.build.lint_findings),
            "claims": float(self.build.claims),
            "claims_dropped": float(self.build.claims_dropped),
            "tokens_per_second": self.calls.tokens_per_second,
            **{f"words_{name}": value for name, value in self.build.words.items()},
            "cost_per_1000_users_usd": self.cost_per_1000_users,
        }
        write_textfile(path, f"profiles_{self.build.release}", self.calls, gauges)
        return path
