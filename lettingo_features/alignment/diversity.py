"""How different the candidates are: words, meanings, lengths, by generator and style."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from lettingo_features import columns as c
from lettingo_features.text_table import aligned


def diversity(candidates: pa.Table, vectors: np.ndarray) -> list[dict[str, Any]]:
    """One row per (generator, style), and a last one over all: ``generator`` is "all" there.

    ``distinct_1`` and ``distinct_2`` are distinct words and pairs of words over all of them (Li et al. 2016,
    arXiv 1510.03055); ``texts_per_user`` counts different texts; ``spread`` is the mean cosine distance between two
    candidates of one user, 0 where there is one; ``words`` has the 10th, 50th and 90th percentile.

    Parameters
    ----------
    candidates
        Schema ``CANDIDATES``, C rows.
    vectors
        float32 (C, d), unit length: the encoded texts.
    """
    kinds = list(zip(candidates[c.GENERATOR].to_pylist(), candidates["style"].to_pylist(), strict=True))
    rows = []
    for kind in sorted(set(kinds)):
        mine = np.array([each == kind for each in kinds])
        rows.append(
            {"generator": kind[0], "style": kind[1], **_measured(candidates.filter(pa.array(mine)), vectors[mine])}
        )
    return [*rows, {"generator": "all", "style": "", **_measured(candidates, vectors)}]


def diversity_text(rows: Sequence[dict[str, Any]]) -> str:
    """The table for a terminal."""
    lines = [
        ("generator", "style", "texts", "different a user", "distinct-1", "distinct-2", "spread", "words p10 p50 p90")
    ]
    for row in rows:
        words = " ".join(f"{n:.0f}" for n in row["words"])
        shares = [f"{row[name]:.3f}" for name in ("distinct_1", "distinct_2", "spread")]
        lines.append((row["generator"], row["style"], str(row["n"]), f"{row['texts_per_user']:.2f}", *shares, words))
    return aligned(lines)


def _measured(candidates: pa.Table, vectors: np.ndarray) -> dict[str, Any]:
    words = [text.split() for text in candidates["text"].to_pylist()]
    n_words = sum(map(len, words))
    n_pairs = sum(max(len(each) - 1, 0) for each in words)
    user = candidates[c.USER_ID].combine_chunks().dictionary_encode().indices.to_numpy()
    different = set(zip(user.tolist(), candidates["text"].to_pylist(), strict=True))
    return {
        "n": candidates.num_rows,
        "texts_per_user": len(different) / len(np.unique(user)),
        "distinct_1": len({word for each in words for word in each}) / max(n_words, 1),
        "distinct_2": len({pair for each in words for pair in pairwise(each)}) / max(n_pairs, 1),
        "spread": _spread(user, vectors),
        "words": np.percentile([len(each) for each in words], [10, 50, 90]).tolist(),
    }


def _spread(user: np.ndarray, vectors: np.ndarray) -> float:
    """Mean over users of 1 - cosine over pairs of their candidates: from the length of the sum of unit vectors."""
    counts = np.bincount(user)
    sums = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(sums, user, vectors)
    several = counts > 1
    if not several.any():
        return 0.0
    n = counts[several]
    cosine = ((sums[several] ** 2).sum(axis=1) - n) / (n * (n - 1))
    return float(1 - cosine.mean())
