"""What every judge of one cutoff knows besides the texts: users, available items, behaviour, masks and targets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from lettingo_features.behaviour import build_item_behaviour, build_user_behaviour
from lettingo_features.columns import EVENT_TIMESTAMP, ITEM_ID, USER_ID
from lettingo_features.data.ingest import latest_items_sql
from lettingo_features.errors import DataError
from lettingo_features.evaluation.controls import History
from lettingo_features.evaluation.features import UserSide, item_numbers, user_side
from lettingo_features.evaluation.splits import history
from lettingo_features.home import Home
from lettingo_features.item_text import item_text
from lettingo_features.sql import connect

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Scene:
    """One cutoff, U users who have targets after it, and I items that were available before it.

    Attributes
    ----------
    cutoff : datetime
        Everything but the targets lies strictly before it; the targets after it, but in a random split.
    user_ids : pa.Array
        Length U, in order of id.
    users : UserSide
        Behaviour as of the cutoff; U rows.
    item_ids : pa.Array
        Length I, in order of id.
    item_numbers : numpy.ndarray
        float32 (I, F), the columns ``features.ITEM_NUMBERS``, NaN = unknown.
    item_categories : scipy.sparse.csr_array
        float32 (I, C) of ones.
    category_names : list of str
        Length C.
    item_texts : list of str
        Title and categories, cleaned; '' where an item has neither.
    history : History
        Interactions before the cutoff of all users with the I items.
    seen : scipy.sparse.csr_array
        float32 (U, I), 1 where the user met the item before the cutoff: no candidate of a ranking.
    target_user, target_item : numpy.ndarray
        int64 (N,): row of the user and of the item of each target, by user and then time.
    counts : dict of str to int
        What could not become a target, by reason.
    """

    cutoff: datetime
    user_ids: pa.Array
    users: UserSide
    item_ids: pa.Array
    item_numbers: np.ndarray
    item_categories: sparse.csr_array
    category_names: list[str]
    item_texts: list[str]
    history: History
    seen: sparse.csr_array
    target_user: np.ndarray
    target_item: np.ndarray
    counts: dict[str, int]

    def categories_of(self, item: int) -> list[str]:
        """Names of the categories of one item, by its row."""
        start, end = self.item_categories.indptr[item : item + 2]
        return [self.category_names[place] for place in self.item_categories.indices[start:end]]

    def rows_of(self, user_ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """int64: the row of each user; DataError for one who is not in the scene."""
        rows = pc.index_in(user_ids, value_set=self.user_ids)
        if rows.null_count:
            raise DataError(
                f"{rows.null_count} of {len(rows)} users have no target after {self.cutoff}: judge only users of the "
                f"scene, which has {len(self.user_ids)}."
            )
        return rows.to_numpy().astype(np.int64)


def build_scene(home: Home, cutoff: datetime, users: pa.Array, targets: pa.Table, publish_lag_s: int) -> Scene:
    """Read the interactions before ``cutoff`` and set the scene for ``users``.

    Parameters
    ----------
    users
        Ids; those without a target that can be ranked are left out and counted.
    targets
        ``user_id, item_id, event_timestamp`` (see `frame.targets`), all at or after ``cutoff + publish_lag_s``.

    Raises
    ------
    DataError
        A target lies before the text could have been served, or no target can be ranked.
    """
    earliest = cutoff + timedelta(seconds=publish_lag_s)
    early = pc.sum(pc.less(targets["event_timestamp"], pa.scalar(earliest, targets["event_timestamp"].type))).as_py()
    if early:
        raise DataError(f"{early} of {targets.num_rows} targets lie before {earliest}, when a text could be served.")
    return _scene(home, cutoff, users, targets, publish_lag_s)


def build_random_split_scene(home: Home, cutoff: datetime, users: pa.Array, targets: pa.Table) -> Scene:
    """As `build_scene`, for data that was split at random: targets, which the home does not hold, may be of any time.

    What the judges know is then partly younger than the targets. Compare texts with each other and with the controls of
    the same scene; its level says nothing about a ranking of the future.

    Parameters
    ----------
    cutoff
        After every interaction of the home.
    targets
        ``user_id, item_id``; those that the home holds are left out and counted as met before.
    """
    return _scene(home, cutoff, users, targets, publish_lag_s=0)


def _scene(home: Home, cutoff: datetime, users: pa.Array, targets: pa.Table, publish_lag_s: int) -> Scene:
    connection = connect(home.spill)
    interactions = home.scan("interactions")
    past = history(connection, interactions, cutoff)
    item_ids = pc.unique(past[ITEM_ID].combine_chunks()).sort()
    known = History.of(past, item_ids)
    user, item, user_ids, seen, counts = _rankable(known, item_ids, users, targets)
    items_sql = latest_items_sql(home)
    catalogue = _catalogue(connection, items_sql, item_ids)
    vocabulary = pc.unique(pc.list_flatten(catalogue["categories"])).sort()
    behaviour = build_user_behaviour(connection, interactions, items_sql, [cutoff], publish_lag_s).read_all()
    behaviour = behaviour.take(pc.index_in(user_ids, value_set=behaviour[USER_ID].combine_chunks()))
    item_rows = build_item_behaviour(connection, interactions, [cutoff], publish_lag_s).read_all()
    item_rows = item_rows.take(pc.index_in(item_ids, value_set=item_rows[ITEM_ID].combine_chunks()))
    numbers, categories = item_numbers(item_rows, catalogue["categories"], vocabulary)
    texts = zip(catalogue["title"].to_pylist(), catalogue["categories"].to_pylist(), strict=True)
    return Scene(
        cutoff=cutoff,
        user_ids=user_ids,
        users=user_side(behaviour, vocabulary),
        item_ids=item_ids,
        item_numbers=numbers,
        item_categories=categories,
        category_names=vocabulary.to_pylist(),
        item_texts=[item_text(*pair) for pair in texts],
        history=known,
        seen=seen,
        target_user=user,
        target_item=item,
        counts=counts,
    )


def _rankable(known: History, item_ids: pa.Array, users: pa.Array, targets: pa.Table):
    """Targets as numbers: of ``users`` with a history, on items that were available and that the user had not met."""
    asked = pc.unique(users).sort()
    order = [(name, "ascending") for name in (USER_ID, EVENT_TIMESTAMP, ITEM_ID) if name in targets.column_names]
    mine = targets.filter(pc.is_in(targets[USER_ID], value_set=asked)).sort_by(order)
    row = pc.fill_null(pc.index_in(mine[USER_ID], value_set=known.user_ids), -1).to_numpy().astype(np.int64)
    item = pc.fill_null(pc.index_in(mine[ITEM_ID], value_set=item_ids), -1).to_numpy().astype(np.int64)
    both = (row >= 0) & (item >= 0)
    met = both & np.isin(row * known.n_items + item, known.user * known.n_items + known.item)
    kept = both & ~met
    if not kept.any():
        raise DataError(
            f"None of {mine.num_rows} targets of {len(asked)} users can be ranked: their items are new or were met "
            "before. Bring a longer history, or more users."
        )
    user_ids = pc.unique(mine[USER_ID].filter(pa.array(kept)).combine_chunks()).sort()
    user = pc.index_in(mine[USER_ID].filter(pa.array(kept)), value_set=user_ids).to_numpy().astype(np.int64)
    seen = known.matrix()[pc.index_in(user_ids, value_set=known.user_ids).to_numpy()]
    counts = {
        "users_asked": len(asked),
        "users": len(user_ids),
        "targets": int(kept.sum()),
        "targets_of_cold_users": int((row < 0).sum()),
        "targets_on_new_items": int(((row >= 0) & (item < 0)).sum()),
        "targets_met_before": int(met.sum()),
    }
    return user, item[kept], user_ids, seen, counts


def _catalogue(connection: duckdb.DuckDBPyConnection, items_sql: str, item_ids: pa.Array) -> pa.Table:
    """``title`` and ``categories`` (never null) of each item, in the order of ``item_ids``."""
    connection.register("scene_items", pa.table({ITEM_ID: item_ids}))
    return connection.sql(
        f"""SELECT title, coalesce(categories, []::VARCHAR[]) AS categories
            FROM scene_items LEFT JOIN {items_sql} USING (item_id) ORDER BY item_id"""
    ).to_arrow_table()
