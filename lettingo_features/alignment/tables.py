"""Tables of the alignment loop, and where one run of it keeps them: ``alignment/<name>/`` of a home."""

from __future__ import annotations

import pyarrow as pa

from lettingo_features import columns as c

CANDIDATES = pa.schema(
    [
        pa.field("candidate_id", pa.string()),  # content hash of user, window, generator, style, draw and text
        pa.field(c.USER_ID, pa.string()),
        pa.field(c.CUTOFF, c.TIMESTAMP),  # end of the window that the text was written from
        pa.field(c.WINDOW_DIGEST, pa.string()),
        pa.field(c.GENERATOR, pa.string()),  # who wrote it, for people
        pa.field(c.GENERATOR_ID, pa.string()),  # content hash of who wrote it
        pa.field("style", pa.string()),  # '' for texts written elsewhere
        pa.field("draw", pa.int64()),  # 0, 1, ... within (user, generator, style)
        pa.field("text", pa.string()),  # after lint; never ''
        pa.field("n_words", pa.int64()),
        pa.field("n_lint", pa.int64()),
        pa.field("supported", pa.float64()),  # share of supported claims or words in [0, 1]; null where unknown
        pa.field(c.CALL_KEY, pa.string()),  # of the call in the ledger; '' without one
    ]
)

PROMPTS = pa.schema(
    [
        pa.field(c.USER_ID, pa.string()),
        pa.field(c.CUTOFF, c.TIMESTAMP),
        pa.field(c.WINDOW_DIGEST, pa.string()),
        pa.field(c.N_INTERACTIONS, pa.int64()),
        pa.field("prompt", pa.string()),  # what the generator in training is asked about this user
    ]
)

REWARDS = pa.schema(
    [
        pa.field("candidate_id", pa.string()),
        pa.field(c.USER_ID, pa.string()),
        pa.field("reward", pa.string()),  # content hash of the judge and its settings
        pa.field("value", pa.float64()),  # higher is better; after the guards
        pa.field("raw", pa.float64()),  # before the guards' terms (faithfulness, length)
        pa.field("noise", pa.float64()),  # standard error of `raw` over targets; 0 where a judge has one target
        pa.field("no_profile", pa.float64()),  # the same judge's score of this user without any profile
        pa.field("n_targets", pa.int64()),
        pa.field("correct", pa.bool_()),  # of the sentiment judge; null for a reward that ranks
        pa.field("answer", pa.string()),  # of the sentiment judge, as it came; '' for a reward that ranks
    ]
)

PAIRS = pa.schema(
    [
        pa.field("pair_id", pa.string()),  # content hash of prompt, chosen and rejected text
        pa.field(c.USER_ID, pa.string()),
        pa.field(c.CUTOFF, c.TIMESTAMP),
        pa.field(c.WINDOW_DIGEST, pa.string()),
        pa.field("reward", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("chosen", pa.string()),
        pa.field("rejected", pa.string()),
        pa.field("chosen_id", pa.string()),
        pa.field("rejected_id", pa.string()),
        pa.field("chosen_generator", pa.string()),
        pa.field("rejected_generator", pa.string()),
        pa.field("chosen_value", pa.float64()),
        pa.field("rejected_value", pa.float64()),
        pa.field("margin", pa.float64()),  # chosen_value - rejected_value, > 0
        pa.field("noise", pa.float64()),  # standard error of the margin
        pa.field("chosen_words", pa.int64()),
        pa.field("rejected_words", pa.int64()),
    ]
)
