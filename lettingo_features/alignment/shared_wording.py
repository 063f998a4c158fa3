"""What all texts of one writer share, taken out of their vectors: a judge of users should not pay for wording.

Sentence vectors have a large common part (Mu and Viswanath 2018, "All-but-the-Top"); of one generator's texts it is how
they are worded. It says nothing of any one user, and yet decides which items are near. Beside their mean, texts tell
users apart better, and texts of different styles can be compared.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def beside_mean(vectors: np.ndarray) -> np.ndarray:
    """float32 (C, d): the vectors of one writer's texts less their mean; for each user a text is of, or for all.

    A text that everybody is given becomes exactly zeros, which rank nothing. With few texts, each is a part of the mean
    that it is compared with: of n texts that differ, one keeps (n - 1) / n of what is its own. Zeros, no text, stay.
    """
    is_text = vectors.any(axis=1, keepdims=True)
    mean = vectors.sum(axis=0, dtype=np.float64) / max(int(is_text.sum()), 1)
    return np.where(is_text, vectors - mean.astype(np.float32), np.float32(0))


def beside_writers(vectors: np.ndarray, candidates: pa.Table) -> np.ndarray:
    """`beside_mean` within each generator and style of ``candidates`` (schema ``CANDIDATES``), row by row (C, d)."""
    groups = zip(candidates["generator"].to_pylist(), candidates["style"].to_pylist(), strict=True)
    rows: dict[tuple[str, str], list[int]] = {}
    for row, writer in enumerate(groups):
        rows.setdefault(writer, []).append(row)
    found = np.empty_like(vectors)
    for mine in rows.values():
        found[mine] = beside_mean(vectors[mine])
    return found
