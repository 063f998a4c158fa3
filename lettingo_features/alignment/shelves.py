"""Shelves: which categories a text names first, against those that its user liked next.

A recommender's home page ranks rows of categories before it ranks items. Read as a ranking of categories by first
mention, a text can be judged without any encoder or trained ranker: an evaluator of another family than either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import ir_measures
import numpy as np
from ir_measures import nDCG


class Shelves:
    """nDCG of categories by first mention; graded relevance = later liked items of the category.

    Parameters
    ----------
    categories
        The catalogue's names; matched as whole words in exact case, longer names first.
    relevant
        Of each of U users: categories of later liked items, one entry per (item, category).
    """

    def __init__(self, categories: Sequence[str], relevant: Sequence[Sequence[str]]) -> None:
        longest_first = sorted(set(filter(None, categories)), key=lambda name: (-len(name), name))
        self._named = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")
        qrels = [
            ir_measures.Qrel(str(user), name, int(count))
            for user, names in enumerate(relevant)
            for name, count in zip(*np.unique(list(names), return_counts=True), strict=True)
        ]
        self._evaluator = ir_measures.evaluator([nDCG @ 5], qrels)
        self._n_users = len(relevant)

    def ndcg(self, texts: Sequence[str]) -> np.ndarray:
        """float64 (U,): nDCG@5 of each user's text; 0 where it names no category."""
        run = []
        for user, text in enumerate(texts):
            order = dict.fromkeys(self._named.findall(text))
            run += [ir_measures.ScoredDoc(str(user), name, -place) for place, name in enumerate(order)]
        values = np.zeros(self._n_users)
        for metric in self._evaluator.iter_calc(run):
            values[int(metric.query_id)] = metric.value
        return values
