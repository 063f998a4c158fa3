"""Texts of real language models as candidates: what each kind earns, beside controls, and whether picking pays.

Command: ``python -m tests.bench.bench_real_candidates --data DIR`` (the directory ml100k-llm-profiles; 5 to 8 minutes)

MovieLens 100K in its split u1, which is random: a user's history is u1.base, the targets are what the user liked in
u1.test, before or after it. Time order cannot be kept, because the texts were written from u1.base as a whole. So the
figures compare texts with each other; none says how well the future is ranked. summary_v2 and structured_v3 have seen
nothing of u1.test by their authors' code. Where lusifer_v1 comes from is not recorded: the first table looks at the
titles that it names.

Only users of u1.test have targets that no text has seen; the others' liked items are what their texts were written
from. So judges are not fitted on the others: each half of the users is judged by a ranker fitted on the other half. It
is fitted with the four kinds of known origin, dealt out to the users in turn, so that it learns the habits of none, and
nothing from a text that may have seen its targets.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c
from lettingo_features.alignment.candidate_table import CandidateTable, differences_text, means_text
from lettingo_features.alignment.cross_fitting import CrossFittedReward, halves
from lettingo_features.alignment.evaluator import Evaluator, EvaluatorConfig
from lettingo_features.alignment.explore import Asked, ask, candidates_of, prompts_of, recorded
from lettingo_features.alignment.pairs import PairConfig, preference_pairs
from lettingo_features.alignment.picks import PICKED, RANDOM, SEEN, SHRUNK, SINGLE, picks
from lettingo_features.alignment.ranking_reward import RankingRewardConfig, item_vectors
from lettingo_features.alignment.rating_scrub import scrubbed
from lettingo_features.alignment.scene import Scene, build_random_split_scene
from lettingo_features.alignment.shared_wording import beside_mean
from lettingo_features.alignment.shelves import Shelves
from lettingo_features.alignment.shrinkage import shrunk
from lettingo_features.alignment.target_naming import target_naming
from lettingo_features.alignment.title_sources import title_sources
from lettingo_features.data.ingest import latest_items_sql
from lettingo_features.encoding import EncoderConfig, SentenceEncoder
from lettingo_features.evaluation.controls import foreign_rows
from lettingo_features.evaluation.full_ranking import FullRanking
from lettingo_features.home import Home
from lettingo_features.profiles.imported import read_profiles
from lettingo_features.profiles.local_model import EMBEDDED_NAME, LanguageModelConfig, local_generator
from lettingo_features.profiles.statistical import StatisticalGenerator
from lettingo_features.sql import connect, literal
from lettingo_features.text_table import aligned
from lettingo_features.windows import WindowConfig
from pipelines.ingest import run_ingest

RECORDED = ("lusifer_v1", "summary_v2", "structured_v3")
OWN = ("statistical", EMBEDDED_NAME)
KINDS = (*RECORDED, *OWN)
FITTED = KINDS[1:]  # not lusifer_v1: see above
RATING_MAX, LIKED = 5.0, 4.0
MATCHED = 100  # of some 1,600 items; the default would compare a target with most of the catalogue
OTHERS_TARGETS = 1_000  # with 200 the draw alone moves the mean of a kind by 0.01 to 0.02
RINGS = 3  # other users whose text stands in for one's own
SPLITS = 10
OTHERS = "{}, of another user"
POPULARITY = "popularity"


@dataclass(frozen=True)
class Bench:
    """What is judged: U users in the order of both scenes, with one text of each of ``KINDS``."""

    scenes: tuple[Scene, Scene]
    candidates: pa.Table
    """All texts of the first kind by user, then those of the next; as the judges may read them."""
    prompts: pa.Table
    vectors: Mapping[str, np.ndarray]
    items: np.ndarray
    categories: list[list[str]]
    """Of each item."""
    seed: int

    @property
    def user_ids(self) -> pa.Array:
        return pa.concat_arrays([scene.user_ids for scene in self.scenes])

    def texts(self, kind: str) -> list[str]:
        return self.candidates.filter(pc.equal(self.candidates[c.GENERATOR], kind))["text"].to_pylist()

    def rings(self) -> list[np.ndarray]:
        """For each user the row of another one, several times."""
        users = self.user_ids
        none, everyone = np.zeros(len(users), np.int64), np.ones(len(users), bool)
        return [foreign_rows(users, none, everyone, self.seed + ring) for ring in range(RINGS)]


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option(
    "--home", "home_dir", type=click.Path(path_type=Path), help="Kept from run to run: vectors are not redone."
)
@click.option("--seed", default=0, show_default=True)
def main(data: Path, home_dir: Path | None, seed: int) -> None:
    """Print the tables."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        home = Home(home_dir or Path(directory) / "home").create()
        bench = _prepared(home, data, seed)
        for utility in ("matched", "log_likelihood"):
            _ranking_reward(bench, RankingRewardConfig(utility=utility, n_matched=MATCHED, n_others=OTHERS_TARGETS))
        _second_opinions(bench)
    print(f"\n{time.perf_counter() - started:.0f} s")


def _prepared(home: Home, data: Path, seed: int) -> Bench:
    targets, held_out, cutoff = _ingested(home, data)
    users = pc.unique(targets[c.USER_ID].combine_chunks())
    asked = ask(home, cutoff, users, WindowConfig(), RATING_MAX, reads_history=False)
    candidates, prompts = _written(asked, data)
    complete = _with_all_kinds(candidates)
    scenes = tuple(build_random_split_scene(home, cutoff, half, targets) for half in halves(complete, seed))
    print(
        f"u1 is a random split: no time order. History u1.base, targets: liked (>= {LIKED:g}) in u1.test.\n"
        f"{len(users)} users with a target, {len(complete)} with a text of each of {len(KINDS)} kinds; texts by kind: "
        + ", ".join(f"{kind} {pc.sum(pc.equal(candidates[c.GENERATOR], kind)).as_py()}" for kind in KINDS)
        + "; in two halves:"
    )
    for scene in scenes:
        print("  " + ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in scene.counts.items()))
    order = pa.concat_arrays([scene.user_ids for scene in scenes])
    candidates = _in_order(candidates, order)
    titles, categories = _catalogue(home, scenes[0].item_ids)
    _provenance(candidates, scenes, titles, targets, held_out, seed)
    readable, _ = scrubbed(candidates)
    encoder = SentenceEncoder(EncoderConfig(threads=1), cache_dir=home.cache)
    vectors = encoder.encode(readable["text"].to_pylist()).reshape(len(KINDS), len(order), -1)
    items = item_vectors(scenes[0], encoder)
    by_kind = dict(zip(KINDS, map(beside_mean, vectors), strict=True))
    return Bench(scenes, readable, prompts, by_kind, items, categories, seed)


def _ingested(home: Home, data: Path) -> tuple[pa.Table, pa.Table, datetime]:
    """u1.base into the home; liked targets and all of u1.test beside it, and an instant after all of u1.base."""
    connection = connect()
    ratings = f"read_csv({literal(str(data / 'ratings.csv.gz'))})"
    base = home.root / "source" / "ratings.csv"
    base.parent.mkdir(exist_ok=True)
    connection.execute(
        f"""COPY (SELECT user_id, movie_id, rating, timestamp FROM {ratings} WHERE u1_split = 'base')
            TO {literal(str(base))} (HEADER)"""
    )
    run_ingest(home, [str(base), str(data / "movies.csv.gz")])
    held_out = connection.sql(
        f"""SELECT user_id::VARCHAR AS user_id, movie_id::VARCHAR AS item_id, rating FROM {ratings}
            WHERE u1_split = 'test' ORDER BY user_id, timestamp, movie_id"""
    ).to_arrow_table()
    [(newest,)] = connection.execute(f"SELECT max(event_timestamp) FROM {home.scan('interactions')}").fetchall()
    return held_out.filter(pc.greater_equal(held_out["rating"], LIKED)), held_out, newest + timedelta(seconds=1)


def _catalogue(home: Home, item_ids: pa.Array) -> tuple[list[str], list[list[str]]]:
    """Title and categories of each item."""
    items = connect().sql(f"SELECT item_id, title, categories FROM {latest_items_sql(home)}").to_arrow_table()
    items = items.take(pc.index_in(item_ids, value_set=items[c.ITEM_ID].combine_chunks()))
    return items[c.TITLE].to_pylist(), [categories or [] for categories in items["categories"].to_pylist()]


def _written(asked: Asked, data: Path) -> tuple[pa.Table, pa.Table]:
    """Candidates of every kind, and what the embedded model was asked."""
    embedded = local_generator(LanguageModelConfig())
    written = [candidates_of(asked, generator, 1_000) for generator in (StatisticalGenerator(), embedded)]
    for variant in RECORDED:
        users, texts = read_profiles(data / "profiles.csv.gz", "user_id", "profile", [f"variant={variant}"])
        written.append(recorded(asked, users, texts, variant))
    return pa.concat_tables(written), prompts_of(asked, embedded, asked.requests[0].style)


def _with_all_kinds(candidates: pa.Table) -> pa.Array:
    kinds = candidates.group_by(c.USER_ID).aggregate([(c.GENERATOR, "count_distinct")])
    return kinds.filter(pc.equal(kinds[f"{c.GENERATOR}_count_distinct"], len(KINDS)))[c.USER_ID].combine_chunks()


def _in_order(candidates: pa.Table, users: pa.Array) -> pa.Table:
    """One row per kind and user, as `Bench.candidates` has them."""
    tables = []
    for kind in KINDS:
        of_kind = candidates.filter(pc.equal(candidates[c.GENERATOR], kind)).combine_chunks()
        tables.append(of_kind.take(pc.index_in(users, value_set=of_kind[c.USER_ID].combine_chunks())))
    return pa.concat_tables(tables).combine_chunks()


def _provenance(
    candidates: pa.Table,
    scenes: tuple[Scene, Scene],
    titles: list[str],
    targets: pa.Table,
    held_out: pa.Table,
    seed: int,
) -> None:
    users = pa.concat_arrays([scene.user_ids for scene in scenes])
    history = np.concatenate([scene.seen.toarray() for scene in scenes]) != 0
    row, item = (
        pc.fill_null(pc.index_in(held_out[name], value_set=ids), -1).to_numpy()
        for name, ids in ((c.USER_ID, users), (c.ITEM_ID, scenes[0].item_ids))
    )
    held = np.zeros_like(history)
    held[row[(row >= 0) & (item >= 0)], item[(row >= 0) & (item >= 0)]] = True
    print("\nWhat the texts name, and where it comes from (all of u1.test counts as held out)")
    share = held.sum() / (held.sum() + history.sum())
    print(f"  {share:.1%} of these users' ratings are held out: of a writer who saw all, so many titles would be")
    drawn = _one_target_each(targets, titles, scenes[0].item_ids, seed)
    for kind in KINDS:
        of_kind = candidates.filter(pc.equal(candidates[c.GENERATOR], kind))
        words = np.mean(of_kind["n_words"].to_numpy())
        _, n_scrubbed = scrubbed(of_kind)
        print(
            f"{kind}: {words:.0f} words, {pc.sum(of_kind['n_lint']).as_py():,} lint findings, "
            f"ratings in numbers scrubbed from {n_scrubbed} of {len(of_kind)} texts before judging"
        )
        print(f"  {title_sources(of_kind['text'].to_pylist(), titles, history, held).to_text()}")
        print(f"  one liked target each: {target_naming(of_kind, drawn, seed).to_text()}")


def _one_target_each(targets: pa.Table, titles: list[str], item_ids: pa.Array, seed: int) -> pa.Table:
    """user_id and title of a random target of each user."""
    row = pc.index_in(targets[c.ITEM_ID], value_set=item_ids)
    named = pa.table({c.USER_ID: targets[c.USER_ID], c.TITLE: pa.array(titles).take(row)}).filter(row.is_valid())
    mixed = named.take(pa.array(np.random.default_rng(seed).permutation(len(named))))
    return (
        mixed.group_by(c.USER_ID, use_threads=False)
        .aggregate([(c.TITLE, "first")])
        .rename_columns([c.USER_ID, c.TITLE])
    )


def _ranking_reward(bench: Bench, config: RankingRewardConfig) -> None:
    dealt = np.arange(len(bench.user_ids)) % len(FITTED)
    fit_vectors = np.stack([bench.vectors[kind] for kind in FITTED])[dealt, np.arange(len(dealt))]
    judge = CrossFittedReward(bench.scenes, bench.items, fit_vectors, config)
    gains = {kind: judge.gains(vectors) for kind, vectors in bench.vectors.items()}
    arms = {kind: judge.user_means(gains[kind]) for kind in KINDS}
    for kind, vectors in bench.vectors.items():
        others = [judge.user_means(judge.gains(vectors[ring])) for ring in bench.rings()]
        arms[OTHERS.format(kind)] = np.mean(others, axis=0)
    arms[POPULARITY] = judge.user_means(judge.gains_of_scores(np.log(_popularity(bench.scenes[0]))))
    vectors = np.concatenate([bench.vectors[kind] for kind in KINDS])
    rewards = judge.rewards(bench.candidates, vectors)
    print(f"\n=== Ranking reward, {config.utility}: over no profile, raw; mean over users")
    print(
        f"no profile: {pc.mean(rewards['no_profile']).as_py():.4f}; weights of the cosine in both rankers: "
        + ", ".join(f"{weight:+.2f}" for weight in judge.text_weights())
    )
    _compared(arms, bench.seed)
    _pair_counts(bench, rewards)
    _picked(bench, judge.target_user, gains, config)


def _compared(arms: Mapping[str, np.ndarray], seed: int) -> None:
    table = CandidateTable(arms, seed=seed)
    print(means_text(table.means()))
    families = {
        "Own text against another user's of the same kind": [(kind, OTHERS.format(kind)) for kind in KINDS],
        "Kinds against each other": [(one, other) for n, one in enumerate(KINDS) for other in KINDS[n + 1 :]],
    }
    for title, pairs in families.items():
        if all(other in arms for _, other in pairs):
            print(f"\n{title} (Holm over these {len(pairs)})\n{differences_text(table.differences(pairs))}")


def _pair_counts(bench: Bench, rewards: pa.Table) -> None:
    print("\nComparisons and pairs above the noise of the margin (raw, by luck alone: 32 % at noise x 1, 5 % at x 2)")
    learnt, found = shrunk(rewards, bench.candidates)
    lines = [["", "noise x", "comparisons", "above noise", "of like length", "pairs", "users with pairs"]]
    for name, kinds in (("recorded", RECORDED), ("all five", KINDS)):
        wanted = bench.candidates.filter(pc.is_in(bench.candidates[c.GENERATOR], value_set=pa.array(kinds)))
        for what, values in (("raw", rewards), ("shrunk", learnt)):
            mine = values.filter(pc.is_in(values["candidate_id"], value_set=wanted["candidate_id"].combine_chunks()))
            for factor in (1.0, 2.0):
                made = preference_pairs(wanted, mine, bench.prompts, PairConfig(noise_factor=factor)).statistics
                cells = (made.n_comparisons, made.n_above_noise, made.n_length_matched, made.n_pairs)
                users = f"{made.n_users_with_pairs:,} of {made.n_users:,}"
                lines.append([f"{name}, {what}", f"{factor:g}", *(f"{cell:,}" for cell in cells), users])
    print(aligned(lines))
    for what, values in (("raw", rewards), ("shrunk", learnt)):
        wins = preference_pairs(bench.candidates, values, bench.prompts).statistics.wins
        print(f"\nShare of users for whom the row beats the column, {what}\n{_wins(wins)}")
    print(f"\nWhat of a text moves the reward within a user (shrinkage learns it)\n{found.to_text()}")


def _wins(wins: Mapping[str, Mapping[str, int]]) -> str:
    lines = [["", *KINDS]]
    for one in KINDS:
        cells = []
        for other in KINDS:
            won, lost = wins.get(one, {}).get(other, 0), wins.get(other, {}).get(one, 0)
            cells.append("" if one == other else f"{won / max(won + lost, 1):.0%}")
        lines.append([one, *cells])
    return aligned(lines)


def _picked(
    bench: Bench, target_user: np.ndarray, gains: Mapping[str, np.ndarray], config: RankingRewardConfig
) -> None:
    n_users = len(bench.user_ids)
    for name, kinds in (("recorded", RECORDED), ("recorded, origin known", RECORDED[1:]), ("all five", KINDS)):
        rows = np.concatenate([np.arange(n_users) + KINDS.index(kind) * n_users for kind in kinds])
        found = picks(
            np.stack([gains[kind] for kind in kinds]),
            target_user,
            bench.candidates.take(pa.array(rows)),
            SPLITS,
            config.prior_targets,
            bench.seed,
        )
        single = ", ".join(f"{kinds[kind]} {n}" for kind, n in found.single.items())
        print(
            f"\nPicked on one half of a user's targets, judged on the other: {name} ({len(found.user)} users, "
            f"{SPLITS} random halves both ways; best kind for all: {single} times)"
        )
        table = CandidateTable(found.values, seed=bench.seed)
        print(means_text(table.means()))
        rules = [(PICKED, RANDOM), (SHRUNK, RANDOM), (PICKED, SINGLE), (SHRUNK, SINGLE), (SEEN, PICKED)]
        print(differences_text(table.differences(rules)))


def _second_opinions(bench: Bench) -> None:
    texts = {kind: bench.texts(kind) for kind in KINDS}
    ring = bench.rings()[0]
    texts |= {OTHERS.format(kind): [texts[kind][row] for row in ring] for kind in KINDS}
    texts["no profile"] = [""] * len(ring)
    print("\n=== Evaluator (words and trees, each half by the other): nDCG@10 over all items not met")
    _compared(_by_trees(bench, texts), bench.seed)
    print("\n=== Shelves: nDCG@5 of categories by first mention, in any case")
    del texts["no profile"]
    _compared(_by_shelves(bench, texts), bench.seed)


def _by_trees(bench: Bench, texts: Mapping[str, list[str]]) -> dict[str, np.ndarray]:
    """nDCG@10 of each arm; the trees have met texts of every kind of known origin, and users without a text."""
    first = len(bench.scenes[0].user_ids)
    parts = (slice(0, first), slice(first, None))
    config = EvaluatorConfig(negatives=20, seed=bench.seed)
    arms: dict[str, list[np.ndarray]] = {}
    for seen, judged in ((0, 1), (1, 0)):
        fitted = [text for kind in (*FITTED, "no profile") for text in texts[kind][parts[seen]]]
        rows = np.tile(np.arange(len(bench.scenes[seen].user_ids)), len(FITTED) + 1)
        trees = Evaluator(bench.scenes[seen], rows, fitted, config)
        for arm, each in texts.items():
            arms.setdefault(arm, []).append(trees.judge(bench.scenes[judged], each[parts[judged]]).values[:, 0])
        arms.setdefault(POPULARITY, []).append(_popularity_ndcg(bench.scenes[judged], bench.seed))
    return {arm: np.concatenate([of_first, of_second]) for arm, (of_second, of_first) in arms.items()}


def _popularity(scene: Scene) -> np.ndarray:
    """float32 (I,): users who met each item."""
    return scene.history.matrix().sum(axis=0).astype(np.float32)


def _popularity_ndcg(scene: Scene, seed: int) -> np.ndarray:
    counts = _popularity(scene)
    targets = (scene.target_user, scene.target_item)
    ranking = FullRanking(scene.user_ids.to_pylist(), scene.seen, targets, 1_000_000, seed)
    n = len(scene.user_ids)
    [outcome] = ranking.judge(lambda block: [np.tile(counts, (len(range(*block.indices(n))), 1))])
    return outcome.values[:, 0]


def _by_shelves(bench: Bench, texts: Mapping[str, list[str]]) -> dict[str, np.ndarray]:
    """Lower case throughout: what models write in prose has no capitals."""
    of_item = [[name.casefold() for name in names] for names in bench.categories]
    relevant: list[list[str]] = []
    for scene in bench.scenes:
        wanted: list[list[str]] = [[] for _ in scene.user_ids]
        for user, item in zip(scene.target_user, scene.target_item, strict=True):
            wanted[user] += of_item[item]
        relevant += wanted
    counted: Counter[str] = Counter()
    for names, count in zip(of_item, _popularity(bench.scenes[0]), strict=True):
        counted.update(dict.fromkeys(names, int(count)))
    shelves = Shelves(list(counted), relevant)
    arms = {arm: shelves.ndcg([text.casefold() for text in each]) for arm, each in texts.items()}
    by_popularity = ", ".join(name for name, _ in counted.most_common())
    return arms | {POPULARITY: shelves.ndcg([by_popularity] * len(relevant))}


if __name__ == "__main__":
    main()
