"""The uplift table: what text profiles add to a ranker, beside every control that could explain it away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from lettingo_features.columns import ITEM_ID, USER_ID
from lettingo_features.config import Config
from lettingo_features.errors import DataError
from lettingo_features.evaluation.controls import ItemKnn, random_scores
from lettingo_features.evaluation.full_ranking import FullRanking, Outcome
from lettingo_features.evaluation.metrics import MEASURES
from lettingo_features.evaluation.ranker import RankerConfig, train_ranker
from lettingo_features.evaluation.ranking_data import RankingData, Texts
from lettingo_features.evaluation.splits import Split
from lettingo_features.evaluation.statistics import Bootstrap, holm, paired_p_value
from lettingo_features.evaluation.tree_scoring import TreeScorer
from lettingo_features.evaluation.uplift_report import (
    COMPARISONS,
    HISTORY,
    ITEM_KNN,
    LANGUAGE_MODEL,
    NO_PROFILE,
    POPULARITY,
    RANDOM,
    SHUFFLED,
    STATISTICAL,
    Bucket,
    Comparison,
    Row,
    UpliftReport,
)

HISTORY_BUCKETS = ((1, 5), (5, 10), (10, 20), (20, None))
"Items seen before the test, half-open; the first is the cold start, where a profile has least to say."


@dataclass(frozen=True)
class ProfileRows:
    """Profiles of one generator, joined as of the instants of the training rows and of the test.

    Attributes
    ----------
    train : pa.Table
        Row by row aligned with ``UpliftInputs.train``.
    test : pa.Table
        Row by row aligned with ``UpliftInputs.test_users``.

    Both need ``profile_embedding`` (list<float32>, as long as the item text embeddings, null = no profile) and
    ``profile_embedding_cutoff_at`` (timestamp, null = no profile); other columns are ignored, so a whole training set
    of ``ranker_profile_v1`` may be passed.
    """

    train: pa.Table
    test: pa.Table


@dataclass(frozen=True)
class UpliftInputs:
    """Everything that the uplift table is computed from; no store is read behind it.

    Attributes
    ----------
    split : Split
        The global time split.
    train : pa.Table
        The point-in-time joined training set, one row per (query, item): ``query_id`` int64, ``user_id``, ``item_id``,
        ``event_timestamp`` (the label's instant), ``label`` (int, 1 = the positive), the columns of
        ``columns.USER_BEHAVIOUR`` and ``columns.ITEM_BEHAVIOUR`` (without their time columns), and
        ``item_text_embedding`` (list<float32>, null = none). Rows in any order; extra columns are ignored.
    test_users : pa.Table
        One row per test user at ``split.test_start``: ``user_id`` and the columns of ``columns.USER_BEHAVIOUR``.
    items : pa.Table
        One row per item available at ``split.test_start``, the candidates: ``item_id``, ``categories``
        (list<string>), the columns of ``columns.ITEM_BEHAVIOUR`` and ``item_text_embedding``.
    history : pa.Table
        ``user_id, item_id, event_timestamp`` of all interactions before ``split.test_start`` (``splits.history``).
    relevant : pa.Table
        ``user_id, item_id``: ``TestLabels.relevant``.
    statistical, language_model : ProfileRows
        The two generators under comparison.
    counts : mapping of str to int
        ``TestLabels.counts`` and the like: printed under the table, so that nobody is dropped silently.
    """

    split: Split
    train: pa.Table
    test_users: pa.Table
    items: pa.Table
    history: pa.Table
    relevant: pa.Table
    statistical: ProfileRows
    language_model: ProfileRows
    counts: Mapping[str, int] = field(default_factory=dict)


class UpliftConfig(Config):
    """How the table is computed; the same for every arm."""

    ranker: RankerConfig = RankerConfig()
    "The reference ranker."
    seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), min_length=3)
    """One ranker, and one shuffle of the profiles, per seed; per-user tests average over them.
    Five, because seeds move nDCG@10 of one arm by 0.002 to 0.006 (MovieTweetings), as much as a profile may add."""
    popularity_days: int = Field(30, ge=1)
    "Window of the popularity control, days before ``test_start``."
    history_days: int = Field(365, ge=1)
    "Window of the raw-history control, days; as the profile's window, so that both may know the same."
    history_newest: int = Field(60, ge=1)
    "Interactions in that window, newest first; as the profile's recent and long history together."
    reduced_dims: int = Field(8, ge=1)
    "Principal components of each embedding; trees split on single numbers, so a few are enough."
    workers: int = Field(2, ge=1)
    "Seeds of an arm trained and scored side by side, one thread each; results do not depend on it."
    block_rows: int = Field(200_000, ge=1)
    "(user, item) pairs scored at once: a few MB per array, so that the scorer works in the processor's cache."
    resamples: int = Field(10_000, ge=1)
    "Bootstrap resamples of the users."
    permutations: int = Field(9_999, ge=1)
    "Sign patterns of the paired test; with 7 comparisons under Holm the smallest adjusted p is 0.0014."
    confidence: float = Field(0.95, gt=0, lt=1)
    "Of the intervals, which resample users and seeds."
    seed: int = 0
    "Of tie-breaking, of the random row, of the bootstrap and of the permutations."


def uplift_table(
    inputs: UpliftInputs, config: UpliftConfig | None = None, progress: Callable[[str], None] | None = None
) -> UpliftReport:
    """Train and test every arm on the same labels and candidates, and compare them user by user.

    Parameters
    ----------
    inputs : UpliftInputs
    config : UpliftConfig, optional
    progress : callable, optional
        Told the name of each step, once per arm and seed, before it starts.

    Raises
    ------
    DataError
        If too few users have a profile, or embeddings differ in length.
    """
    config = config or UpliftConfig()
    progress = progress or (lambda step: None)
    data = RankingData(inputs, config)
    ranking = _full_ranking(inputs, data, config)
    outcomes: dict[str, list[Outcome]] = {}
    for name, scores in _controls(inputs, data, ranking, config).items():
        progress(name)
        outcomes[name] = ranking.judge(scores)
    coverage: dict[str, float] = {}
    for name, variants in _arms(inputs, data, config).items():
        outcomes[name] = []
        for texts, seeds in variants():
            progress(f"{name}, seeds {', '.join(map(str, seeds))}")
            outcomes[name] += _train_and_judge(data, ranking, texts, seeds, config)
            if texts is not None:
                coverage[name] = float(texts.test.present.mean())
    return _report(inputs, data, ranking, outcomes, coverage, config)


def _full_ranking(inputs: UpliftInputs, data: RankingData, config: UpliftConfig) -> FullRanking:
    user_ids = inputs.test_users[USER_ID]
    numbers = pc.index_in(user_ids, value_set=data.history.user_ids)
    user = pc.index_in(inputs.relevant[USER_ID], value_set=user_ids.combine_chunks())
    item = pc.index_in(inputs.relevant[ITEM_ID], value_set=data.item_ids)
    unknown = numbers.null_count + user.null_count + item.null_count
    if unknown:
        raise DataError(
            f"{numbers.null_count} test users without history, {user.null_count} relevant rows of unknown users and "
            f"{item.null_count} of unknown items. Take test users, items and relevant rows from one test_labels call."
        )
    seen = data.history.matrix()[numbers.to_numpy()]
    relevant = (user.to_numpy(), item.to_numpy())
    return FullRanking(user_ids.to_pylist(), seen, relevant, config.block_rows, config.seed)


def _controls(
    inputs: UpliftInputs, data: RankingData, ranking: FullRanking, config: UpliftConfig
) -> dict[str, Callable[[slice], list[np.ndarray]]]:
    popularity = data.history.popularity(inputs.split.test_start, config.popularity_days)
    neighbours = ItemKnn(data.history)

    def popular(users: slice) -> list[np.ndarray]:
        return [np.broadcast_to(popularity, (len(ranking.user_ids[users]), len(popularity)))]

    def similar(users: slice) -> list[np.ndarray]:
        return [neighbours.scores(ranking.seen[users])]

    def chance(users: slice) -> list[np.ndarray]:
        # Not the seed of tie-breaking: the same stream would break every tie by the score itself.
        return [random_scores(ranking.user_ids[users], len(popularity), config.seed + 1)]

    return {POPULARITY: popular, ITEM_KNN: similar, RANDOM: chance}


def _arms(
    inputs: UpliftInputs, data: RankingData, config: UpliftConfig
) -> dict[str, Callable[[], Iterator[tuple[Texts | None, tuple[int, ...]]]]]:
    """Each arm as (texts, seeds that share them), made when its turn comes so that only one arm's are held."""

    def no_profile():
        yield None, config.seeds

    def history():
        yield data.history_texts(), config.seeds

    def statistical():
        yield data.profile_texts(inputs.statistical, STATISTICAL), config.seeds

    def language_model():
        yield data.profile_texts(inputs.language_model, LANGUAGE_MODEL), config.seeds

    def shuffled():
        own = data.profile_texts(inputs.language_model, LANGUAGE_MODEL)
        for seed in config.seeds:
            yield data.shuffled_texts(own, seed), (seed,)

    return {
        NO_PROFILE: no_profile,
        HISTORY: history,
        STATISTICAL: statistical,
        LANGUAGE_MODEL: language_model,
        SHUFFLED: shuffled,
    }


def _train_and_judge(
    data: RankingData, ranking: FullRanking, texts: Texts | None, seeds: tuple[int, ...], config: UpliftConfig
) -> list[Outcome]:
    matrix = data.train_matrix(texts)

    def train(seed: int) -> TreeScorer:
        return TreeScorer(train_ranker(matrix, data.labels, data.group_sizes, config.ranker, seed))

    with ThreadPoolExecutor(config.workers) as pool:
        scorers = list(pool.map(train, seeds))

        def scores(users: slice) -> list[np.ndarray]:
            features = data.test_features(texts, users)
            return list(pool.map(lambda scorer: scorer.scores(features), scorers))

        return ranking.judge(scores)


def _report(
    inputs: UpliftInputs,
    data: RankingData,
    ranking: FullRanking,
    outcomes: dict[str, list[Outcome]],
    coverage: dict[str, float],
    config: UpliftConfig,
) -> UpliftReport:
    values = {name: np.stack([each.values for each in found]) for name, found in outcomes.items()}  # (S, U, M)
    bootstrap = Bootstrap(len(ranking.user_ids), config.resamples, config.confidence, config.seed)
    n_seen = np.diff(ranking.seen.indptr)
    return UpliftReport(
        rows=tuple(_row(name, values[name], found, bootstrap) for name, found in outcomes.items()),
        comparisons=_comparisons(values, bootstrap, config),
        buckets=_buckets({name: each.mean(axis=0) for name, each in values.items()}, n_seen),
        n_users=len(ranking.user_ids),
        n_items=len(data.item_ids),
        mean_candidates=float(len(data.item_ids) - n_seen.mean()),
        n_train_queries=len(data.group_sizes),
        n_seeds=len(config.seeds),
        confidence=config.confidence,
        coverage=coverage,
        counts=dict(inputs.counts),
    )


def _row(name: str, values: np.ndarray, outcomes: list[Outcome], bootstrap: Bootstrap) -> Row:
    return Row(
        name=name,
        means=tuple(values.mean(axis=(0, 1)).tolist()),
        intervals=tuple(bootstrap.interval(values[:, :, measure]) for measure in range(len(MEASURES))),
        seed_spread=float(values[:, :, 0].mean(axis=1).std()),
        tie_rate=float(np.mean([each.tied.mean() for each in outcomes])),
    )


def _comparisons(values: dict[str, np.ndarray], bootstrap: Bootstrap, config: UpliftConfig) -> tuple[Comparison, ...]:
    differences = [values[arm][:, :, 0] - values[base][:, :, 0] for arm, base in COMPARISONS]  # (S, U) each
    p_values = [paired_p_value(each.mean(axis=0), config.permutations, config.seed) for each in differences]
    adjusted = holm(np.array(p_values)).tolist()
    return tuple(
        Comparison(arm, base, float(each.mean()), bootstrap.interval(each), p_value, p_holm)
        for (arm, base), each, p_value, p_holm in zip(COMPARISONS, differences, p_values, adjusted, strict=True)
    )


def _buckets(per_user: dict[str, np.ndarray], n_seen: np.ndarray) -> tuple[Bucket, ...]:
    buckets = []
    for low, high in HISTORY_BUCKETS:
        inside = (n_seen >= low) & (n_seen < (high or np.inf))
        if inside.any():
            name = f"{low}-{high - 1}" if high else f"{low}+"
            ndcg = {arm: float(values[inside, 0].mean()) for arm, values in per_user.items()}
            buckets.append(Bucket(name, int(inside.sum()), ndcg))
    return tuple(buckets)
