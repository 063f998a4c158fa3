"""How well a text tells its user's own past from that of others: what it may be expected to earn, before any target.

A user has one to three targets, which say little of a single text, but tens of items in the window. A text that ranks
those above the items that others met should rank the targets so as well; by how much is learnt from the rewards
(`shrinkage`), so this shapes no reward by itself. Ours. It is known before the targets are: no later item goes in.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.stats import rankdata

from lettingo_features.alignment.scene import Scene

_BLOCK = 256  # texts at once: their ranks of all items take some ten MB


def window_fit(scene: Scene, user_rows: np.ndarray, vectors: np.ndarray, item_vectors: np.ndarray) -> np.ndarray:
    """float64 (C,): mean share of all items that a text puts below those of its user's past, less that of the others.

    Every other user of the scene counts alike. 0 where a user has no past, or is the only one.

    Parameters
    ----------
    user_rows
        int64 (C,): the scene's row of each text's user.
    vectors, item_vectors
        float32 (C, d), beside their mean (`shared_wording`), and (I, d), unit length, by one reader.
    """
    lengths = np.asarray(scene.seen.sum(axis=1)).ravel()
    past = sparse.csr_array(scene.seen.multiply(1 / np.maximum(lengths, 1)[:, None]))
    every = np.asarray(past.sum(axis=0)).ravel()
    n_others = int((lengths > 0).sum()) - 1
    fit = np.zeros(len(user_rows))
    if n_others < 1:
        return fit
    for start in range(0, len(user_rows), _BLOCK):
        rows = user_rows[start : start + _BLOCK]
        cosines = vectors[start : start + _BLOCK] @ item_vectors.T
        ranks = (rankdata(cosines, axis=1) - 0.5) / cosines.shape[1]  # ties share their mean
        own = np.asarray(past[rows].multiply(ranks).sum(axis=1)).ravel()
        others = (ranks @ every - own) / n_others
        fit[start : start + _BLOCK] = np.where(lengths[rows] > 0, own - others, 0.0)
    return fit
