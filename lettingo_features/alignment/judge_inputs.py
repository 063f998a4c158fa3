"""Candidates, targets and histories -> the prompts of a sentiment judge, those of its controls included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lettingo_features import columns as c
from lettingo_features.alignment import sentiment_prompt as asked
from lettingo_features.errors import DataError, LeakageError
from lettingo_features.profiles.history import ROWS

NTokens = Callable[[Sequence[str]], Sequence[int]]
"""Tokens of each text as data (`generation.engine.Engine.n_tokens`)."""


@dataclass(frozen=True, slots=True)
class JudgeInputs:
    """What is asked about C candidates of U users.

    The users with a target and recent interactions, in the order of their ids.
    """

    candidates: pa.Table
    """Those of the users, schema `tables.CANDIDATES`."""
    user: np.ndarray
    """Row in ``users`` of each candidate, int64 (C,)."""
    users: pa.Table
    """user_id, cutoff (end of the history that the judge sees), rating (of the target)."""
    prompts: list[str]
    of_candidates: np.ndarray
    """Each candidate's place in ``prompts``, int64 (C,)."""
    of_users: np.ndarray
    """Each user's prompt without a profile, int64 (U,)."""
    of_shuffled: np.ndarray
    """Each user's prompt with a candidate of another user, int64 (U,); for one user alone it is their own."""
    counts: dict[str, int]
    """Users left out, by reason, profiles that were cut, and rows of the users' recent interactions left out."""


def judge_inputs(
    candidates: pa.Table, targets: pa.Table, histories: pa.Table, seed: int, n_tokens: NTokens, budget: int
) -> JudgeInputs:
    """Put the prompts together; see `sentiment_judge.SentimentJudge.score` for the tables and what is raised.

    Where a prompt exceeds ``budget`` tokens, its user's oldest interactions are left out, down to one, as the
    generator's prompts do it: out of all candidates' prompts of the user alike, since texts are compared that were
    judged beside the same interactions. What exceeds it even so stays as long as it is, and costs no interactions.
    """
    _check(targets, histories)
    recent = asked.recent_only(histories)
    with_candidates = pc.unique(candidates[c.USER_ID]).sort()
    reasons, users = _judged_users(with_candidates, targets, recent)
    recent = recent.take(pc.index_in(users, recent[c.USER_ID].combine_chunks()))
    targets = targets.take(pc.index_in(users, targets[c.USER_ID].combine_chunks()))
    user = pc.index_in(candidates[c.USER_ID], users)
    candidates, user = candidates.filter(pc.is_valid(user)), user.filter(pc.is_valid(user)).to_numpy()
    _check_time(candidates, user, recent, targets)

    heads = asked.history_lines(recent)
    tails = [
        asked.item_line(*item)
        for item in zip(targets[c.TITLE].to_pylist(), targets[c.CATEGORIES].to_pylist(), strict=True)
    ]
    texts = candidates["text"].to_pylist()
    first = _first_of_each(candidates["candidate_id"].to_pylist(), user, len(users))
    other = first[_someone_else(len(users), seed)] if len(users) else first
    ends = [f"{asked.profile_line(text)}\n{tails[of]}" for text, of in zip(texts, user.tolist(), strict=True)]
    ends += tails
    ends += [f"{asked.profile_line(texts[row])}\n{tail}" for row, tail in zip(other.tolist(), tails, strict=True)]
    everyone = np.arange(len(users))
    group = np.r_[user, everyone, len(users) + everyone]  # another user's text costs no row of the user's own prompts
    prompts, n_left_out = _fitted([*heads, *heads], ends, group.tolist(), n_tokens, budget)
    places = np.split(np.arange(len(prompts)), [len(texts), len(texts) + len(users)])
    counts = reasons | {
        "profiles_cut": sum(len(text) > asked.PROFILE_CHARS for text in texts),
        "rows_trimmed": sum(n_left_out[: len(users)]),
    }
    who = pa.table({c.USER_ID: users, c.CUTOFF: recent[c.CUTOFF], c.RATING: targets[c.RATING].cast(pa.float64())})
    return JudgeInputs(candidates, user, who, prompts, *places, counts)


def _check(targets: pa.Table, histories: pa.Table) -> None:
    for table, what in ((targets, "targets"), (histories, "histories")):
        n_twice = len(table) - pc.count_distinct(table[c.USER_ID]).as_py()
        if n_twice:
            raise DataError(f"{n_twice:,} of {len(table):,} {what} are a user's second: the judge takes one a user.")
    n_unrated = len(targets) - (pc.sum(pc.is_finite(targets[c.RATING])).as_py() or 0)
    if n_unrated:
        raise DataError(f"{n_unrated:,} of {len(targets):,} targets have no rating: hold out rated interactions.")


def _judged_users(users: pa.Array, targets: pa.Table, recent: pa.Table) -> tuple[dict[str, int], pa.Array]:
    """Why users are left out, and the rest."""
    has_text = pc.or_(
        pc.not_equal(pc.fill_null(targets[c.TITLE], ""), ""),
        pc.greater(pc.fill_null(pc.list_value_length(targets[c.CATEGORIES]), 0), 0),
    )
    shown = recent.combine_chunks()[ROWS].combine_chunks()
    met = pa.table(
        {
            c.USER_ID: recent[c.USER_ID].combine_chunks().take(pc.list_parent_indices(shown)),
            c.ITEM_ID: shown.flatten().field(c.ITEM_ID),
        }
    )
    met_again = targets.select([c.USER_ID, c.ITEM_ID]).join(met, [c.USER_ID, c.ITEM_ID], join_type="left semi")
    steps = [
        ("users_without_target", pc.is_in(users, targets[c.USER_ID].combine_chunks())),
        ("users_without_recent_items", pc.is_in(users, recent[c.USER_ID].combine_chunks())),
        ("users_whose_target_has_no_text", pc.is_in(users, targets.filter(has_text)[c.USER_ID].combine_chunks())),
        # Its sentiment would be among the rows that the judge sees.
        ("users_whose_target_is_recent", pc.invert(pc.is_in(users, met_again[c.USER_ID].combine_chunks()))),
    ]
    reasons, kept = {}, pa.array(np.ones(len(users), bool))
    for reason, passes in steps:
        after = pc.and_(kept, passes)
        reasons[reason] = (pc.sum(kept).as_py() or 0) - (pc.sum(after).as_py() or 0)
        kept = after
    return reasons, users.filter(kept)


def _check_time(candidates: pa.Table, user: np.ndarray, recent: pa.Table, targets: pa.Table) -> None:
    at = targets[c.EVENT_TIMESTAMP]
    for cutoffs, instants, what in (
        (candidates[c.CUTOFF], at.take(pa.array(user)), "candidates were written from a window"),
        (recent[c.CUTOFF], at, "histories end"),
    ):
        n_late = pc.sum(pc.greater(cutoffs, instants)).as_py() or 0
        if n_late:
            raise LeakageError(
                f"{n_late:,} of {len(cutoffs):,} {what} after the target: the judge would see the future. Hold out "
                "interactions at or after the cutoff."
            )


def _fitted(
    heads: Sequence[str], ends: Sequence[str], group: Sequence[int], n_tokens: NTokens, budget: int
) -> tuple[list[str], list[int]]:
    """Prompts of the lines of ``heads[group]``, newest first, and an end each; and how many lines each head lost."""
    rows = [head.split("\n") for head in heads]
    n_shown = [len(lines) for lines in rows]

    def prompt(place: int, most: int | None = None) -> str:
        of = group[place]
        return "\n".join([*rows[of][: most or n_shown[of]], ends[place]])

    def too_long(places: Sequence[int], most: int | None = None) -> list[int]:
        sizes = n_tokens([prompt(place, most) for place in places])
        return [place for place, size in zip(places, sizes, strict=True) if size > budget]

    long = too_long(range(len(ends)))
    hopeless = set(too_long(long, most=1))
    while long := [place for place in long if place not in hopeless]:
        for of in {group[place] for place in long}:
            n_shown[of] -= 1
        long = too_long(long)
    return [prompt(place) for place in range(len(ends))], [len(own) - n for own, n in zip(rows, n_shown, strict=True)]


def _first_of_each(ids: Sequence[str], user: np.ndarray, n_users: int) -> np.ndarray:
    """Row of each user's candidate with the smallest id, int64 (U,)."""
    order = np.lexsort((np.array(ids, str), user))
    return order[np.searchsorted(user[order], np.arange(n_users))]


def _someone_else(n_users: int, seed: int) -> np.ndarray:
    """Another user for each, int64 (U,): the next in a random circle."""
    circle = np.random.default_rng(seed).permutation(n_users)
    others = np.empty(n_users, int)
    others[circle] = np.roll(circle, -1)
    return others
