"""Vectors by the sha256 of their text, kept on disk so that no text is ever encoded twice by one encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lettingo_features.home import write_parquet

_DIGEST = pa.binary(32)
_ROWS_PER_READ = 8192


def digests(texts: Iterable[str]) -> pa.Array:
    """sha256 of each text in UTF-8, as 32 bytes."""
    encoded = (text.encode("utf-8", "surrogatepass") for text in texts)
    return pa.array([hashlib.sha256(content).digest() for content in encoded], _DIGEST)


class EncodingCache:
    """Append-only parquet parts under ``directory/encoder_id``.

    A part is named by what it holds and appears whole or not at all, so runs may be killed and may overlap. Text itself
    is not stored. Reading streams through the parts: memory is the answer plus one read of 8192 rows.
    """

    def __init__(self, directory: Path | str, encoder_id: str, dim: int) -> None:
        self.directory = Path(directory) / encoder_id
        self.dim = dim
        self._schema = pa.schema([("text_sha256", _DIGEST), ("vector", pa.list_(pa.float32(), dim))])

    def lookup(self, keys: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Which of the distinct ``keys`` are known, and their vectors.

        Returns
        -------
        positions : int64 ``(n_found,)``
            Ascending positions in ``keys``.
        vectors : float32 ``(n_found, dim)``
        """
        known: dict[int, np.ndarray] = {}
        for part in sorted(self.directory.glob("*.parquet")) if len(keys) else ():
            for batch in pq.ParquetFile(part).iter_batches(_ROWS_PER_READ):
                positions = pc.index_in(batch["text_sha256"], value_set=keys)
                hits = np.flatnonzero(positions.is_valid().to_numpy(zero_copy_only=False))
                if len(hits):
                    rows = batch["vector"].flatten().to_numpy().reshape(-1, self.dim)
                    known.update(zip(positions.take(pa.array(hits)).to_pylist(), rows[hits], strict=True))
        found = np.array(sorted(known), dtype=np.int64)
        vectors = np.stack([known[position] for position in found.tolist()]) if known else np.empty((0, self.dim))
        return found, vectors.astype(np.float32)

    def add(self, keys: pa.Array, vectors: np.ndarray) -> Path:
        """Append ``vectors``, float32 ``(len(keys), dim)``, as one part."""
        values = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
        rows = pa.table([keys, pa.FixedSizeListArray.from_arrays(values, self.dim)], schema=self._schema)
        name = hashlib.sha256(b"".join(keys.to_pylist())).hexdigest()[:32]
        return write_parquet(self.directory / f"{name}.parquet", rows.to_batches(), self._schema)
