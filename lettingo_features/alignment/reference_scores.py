"""What the frozen reference model gives each pair, computed once and kept over epochs and runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lettingo_features.generation.engine import content_id
from lettingo_features.home import write_parquet

_SCORES = pa.schema(
    [
        pa.field("pair", pa.binary(32)),  # sha256 of the pair's token ids: holds no text and no user
        pa.field("chosen", pa.float32()),  # summed log-probability of the completion's tokens, nats
        pa.field("rejected", pa.float32()),
    ]
)


class ReferenceScores:
    """Log-probabilities of completions under one reference, in parquet parts below ``directory``.

    A part appears whole or not at all, and its name comes from its pairs, so that a killed run loses at most the part
    it was at and two runs may fill one cache.

    Parameters
    ----------
    directory
        Shared by all references.
    reference
        Whatever shapes a score: revision and dtype of the model.
    """

    def __init__(self, directory: Path, *reference: str) -> None:
        self._directory = directory / content_id("reference_scores", "1", *reference)[:32]

    def known(self, pairs: Sequence[bytes]) -> np.ndarray:
        """(N, 2) float32: chosen and rejected score of each pair key; NaN where there is none yet."""
        parts = sorted(self._directory.glob("*.parquet"))
        if not parts:
            return np.full((len(pairs), 2), np.nan, np.float32)
        kept = pa.concat_tables(pq.read_table(part, schema=_SCORES) for part in parts).combine_chunks()
        rows = pc.index_in(pa.array(pairs, pa.binary(32)), kept["pair"])
        return np.stack([kept[side].take(rows).to_numpy().astype(np.float32) for side in ("chosen", "rejected")], 1)

    def add(self, pairs: Sequence[bytes], scores: np.ndarray) -> None:
        """Keep ``scores``, (N, 2) float32, of ``pairs``."""
        rows = pa.table([pa.array(pairs, pa.binary(32)), scores[:, 0], scores[:, 1]], schema=_SCORES)
        part = content_id(*(pair.hex() for pair in pairs))[:32]
        write_parquet(self._directory / f"{part}.parquet", rows.to_batches(), _SCORES)
