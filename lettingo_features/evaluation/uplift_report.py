"""The uplift table as a result: rows, paired comparisons, history buckets, and the one sentence that follows."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from lettingo_features.evaluation.metrics import DEPTH, MEASURES
from lettingo_features.text_table import aligned

SIGNIFICANT = 0.05
"Level of the Holm-adjusted p-values, over all comparisons of a report together."

POPULARITY = "popularity"
ITEM_KNN = "item-kNN"
RANDOM = "random"
NO_PROFILE = "no profile"
HISTORY = "history embedding"
STATISTICAL = "statistical profile"
LANGUAGE_MODEL = "LM profile"
SHUFFLED = "shuffled LM profile"

COMPARISONS = (
    (LANGUAGE_MODEL, NO_PROFILE),  # is there a gain
    (LANGUAGE_MODEL, SHUFFLED),  # does it come from what the profile says
    (LANGUAGE_MODEL, STATISTICAL),  # does it need a language model
    (LANGUAGE_MODEL, HISTORY),  # does it need a text
    (STATISTICAL, NO_PROFILE),
    (HISTORY, NO_PROFILE),
    (SHUFFLED, NO_PROFILE),  # must not gain
)
"Fixed before any result is seen: Holm corrects over exactly these."


@dataclass(frozen=True)
class Row:
    """One scorer: means over users (seeds averaged first), in the order of ``MEASURES``.

    ``intervals`` are bootstrap intervals over users and seeds, ``seed_spread`` the standard deviation of nDCG@10 over
    seeds, ``tie_rate`` the share of ranked places whose score was not unique.
    """

    name: str
    means: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    seed_spread: float
    tie_rate: float


@dataclass(frozen=True)
class Comparison:
    """Paired difference of nDCG@10 per user, ``arm`` minus ``baseline``.

    ``p_holm`` is the adjusted p-value of a permutation test over users, for the rankers as they were trained;
    ``interval`` resamples users and training seeds. A difference counts when both agree, so that neither a lucky
    sample of users nor a lucky seed makes a gain.
    """

    arm: str
    baseline: str
    difference: float
    interval: tuple[float, float]
    p_value: float
    p_holm: float

    @property
    def sign(self) -> int:
        """1 or -1 for a significant difference, 0 for none."""
        low, high = self.interval
        if self.p_holm > SIGNIFICANT or low <= 0 <= high:
            return 0
        return 1 if self.difference > 0 else -1

    def figures(self) -> str:
        low, high = self.interval
        return f"{self.difference:+.4f} [{low:+.4f}, {high:+.4f}], p {self.p_holm:.3g}"


@dataclass(frozen=True)
class Bucket:
    """Test users by the number of items they had seen: ``ndcg`` by row name, means over the bucket's users."""

    name: str
    n_users: int
    ndcg: dict[str, float]


@dataclass(frozen=True)
class UpliftReport:
    """What ``uplift_table`` found; ``coverage`` is the share of test users with a profile, by arm."""

    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    buckets: tuple[Bucket, ...]
    n_users: int
    n_items: int
    mean_candidates: float
    n_train_queries: int
    n_seeds: int
    confidence: float
    coverage: dict[str, float]
    counts: dict[str, int]

    def comparison(self, arm: str, baseline: str) -> Comparison:
        """The comparison of two rows, by name."""
        return next(found for found in self.comparisons if (found.arm, found.baseline) == (arm, baseline))

    def verdict(self) -> str:
        """One sentence that follows from the adjusted tests, whichever way they came out."""
        gain = self.comparison(LANGUAGE_MODEL, NO_PROFILE)
        content = self.comparison(LANGUAGE_MODEL, SHUFFLED)
        return f"{_gain(gain, content, self.n_users)}; {_against_statistics(self)}."

    def to_dict(self) -> dict:
        """For JSON: the fields of the report, ``measures`` and ``verdict``, and the ``sign`` of each comparison."""
        comparisons = [{**asdict(each), "sign": each.sign} for each in self.comparisons]
        return {**asdict(self), "comparisons": comparisons, "measures": list(MEASURES), "verdict": self.verdict()}

    def to_text(self) -> str:
        """The table for a terminal."""
        parts = [self._scores(), self._differences(), self._by_history(), self._footer(), self.verdict()]
        return "\n\n".join(parts)

    def _scores(self) -> str:
        head = ["ranker", *(f"{measure} [{self.confidence:.0%} CI]" for measure in MEASURES), "over seeds", "ties"]
        body = [
            [
                row.name,
                *(f"{m:.4f} [{a:.4f}, {b:.4f}]" for m, (a, b) in zip(row.means, row.intervals, strict=True)),
                f"± {row.seed_spread:.4f}",
                f"{row.tie_rate:.1%}",
            ]
            for row in self.rows
        ]
        return aligned([head, *body])

    def _differences(self) -> str:
        head = ["paired difference, nDCG@10", "mean", f"{self.confidence:.0%} CI", "p", "p (Holm)", ""]
        marks = {1: "better", 0: "no difference shown", -1: "worse"}
        body = [
            [
                f"{each.arm} − {each.baseline}",
                f"{each.difference:+.4f}",
                "[{:+.4f}, {:+.4f}]".format(*each.interval),
                f"{each.p_value:.4f}",
                f"{each.p_holm:.4f}",
                marks[each.sign],
            ]
            for each in self.comparisons
        ]
        return aligned([head, *body])

    def _by_history(self) -> str:
        names = [row.name for row in self.rows]
        head = ["nDCG@10 by items seen before", *(f"{each.name} (n={each.n_users})" for each in self.buckets)]
        body = [[name, *(f"{each.ndcg[name]:.4f}" for each in self.buckets)] for name in names]
        return aligned([head, *body])

    def _footer(self) -> str:
        coverage = ", ".join(f"{name} {share:.1%}" for name, share in self.coverage.items())
        counts = ", ".join(f"{name} {count:,}" for name, count in self.counts.items())
        lines = [
            f"{self.n_users:,} test users, each ranked over all available unseen items (mean "
            f"{self.mean_candidates:,.0f} of {self.n_items:,}); {self.n_train_queries:,} training queries; "
            f"{self.n_seeds} seeds, averaged per user before testing.",
            "Intervals resample users and seeds; p is a paired permutation test over users, adjusted by Holm over the "
            f"{len(self.comparisons)} comparisons; a difference counts when both exclude zero.",
            f"Ties: share of the first {DEPTH} places whose score is not unique; broken at random.",
            f"Test users with a text: {coverage}.",
        ]
        if counts:
            lines.append(f"Left out and kept: {counts}.")
        return "\n".join(lines)


def _gain(gain: Comparison, content: Comparison, n_users: int) -> str:
    if gain.sign < 0:
        return f"LM profiles make the ranker worse than no profile (nDCG@10 {gain.figures()})"
    if gain.sign == 0:
        low, high = gain.interval
        return (
            f"No gain shown: LM profiles change nDCG@10 by {gain.figures()} against no profile, and with {n_users} "
            f"users an effect smaller than about {(high - low) / 2:.4f} would go unseen"
        )
    if content.sign > 0:
        return (
            f"LM profiles raise nDCG@10 over no profile ({gain.figures()}) and over another user's profile "
            f"({content.figures()}), so the gain comes from what they say about the user"
        )
    return (
        f"LM profiles raise nDCG@10 over no profile ({gain.figures()}) but not over another user's profile "
        f"({content.figures()}), so the gain is no evidence for what they say about the user"
    )


def _against_statistics(report: UpliftReport) -> str:
    simple = report.comparison(LANGUAGE_MODEL, STATISTICAL)
    words = {1: "they beat", 0: "they are not shown to differ from", -1: "they lose to"}
    return f"{words[simple.sign]} the statistical profile ({simple.figures()})"
