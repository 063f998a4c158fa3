"""The uplift table: what text profiles add to a ranker, beside every control that could explain it away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from lettingo_features.evaluation.splits import Split


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
