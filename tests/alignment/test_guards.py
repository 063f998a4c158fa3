"""Terms of the reward on hand-written candidates."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lettingo_features.alignment.guards import GuardConfig, guard_effects, guarded
from tests.alignment.rows import candidates, rewards


def test_terms_of_the_reward():
    found = candidates(("u1a", "u1", "x", "a b c d e"), ("u1b", "u1", "x", "a b"), ("u1c", "u1", "x", "a b c"))
    found = found.set_column(found.schema.get_field_index("supported"), "supported", pa.array([1.0, 0.5, None]))
    given = rewards({"u1b": 0.0, "u1a": 1.0, "u1c": 1.0})
    config = GuardConfig(faithfulness_weight=0.2, length_weight=0.01, length_norm=3)
    after = guarded(given, found, config)
    assert after["value"].to_pylist() == pytest.approx([0.1, 1.0 + 0.2 - 0.02, 1.0 + 0.15])
    assert after.drop_columns("value").equals(given.drop_columns("value"))
    assert guarded(after, found, config).equals(after)
    assert guarded(after, found, GuardConfig()).equals(given)
    effects = guard_effects(given, found, config)
    assert (effects["n_support_unknown"], effects["n_over_length_norm"]) == (1, 1)
    assert effects["mean_faithfulness_term"] == pytest.approx(0.15)
    assert effects["mean_length_penalty"] == pytest.approx(0.02 / 3)
