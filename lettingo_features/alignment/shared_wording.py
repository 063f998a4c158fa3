"""What all texts of one generator share, taken out of their vectors, so that it hides nothing of what each says.

Sentence vectors have a large common part (Mu and Viswanath 2018, "All-but-the-Top"); of one generator's texts it is how
they are worded. It says nothing of any one user, and yet decides which items are near.
"""

from __future__ import annotations

import numpy as np


def beside_mean(vectors: np.ndarray) -> np.ndarray:
    """float32 (U, d): the vectors of one generator's texts for U users, less their mean.

    A text that everybody is given becomes exactly zeros, which rank nothing. With few users, each text is a part of the
    mean that it is compared with, and keeps (U - 1) / U of what is its own.
    """
    return vectors - vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
