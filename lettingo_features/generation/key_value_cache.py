"""Keys and values of a generating model in memory taken once.

transformers' DynamicCache concatenates at every token, which copies the whole cache; its StaticCache attends over the
unfilled rest as well. At one million parameters on a CPU either costs more than the model itself.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class RoomyLayer(DynamicLayer):
    """Cache layer for a prompt and ``room`` more tokens; `keys` and `values` are views of what is filled."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._filled = 0
        self._blocks: tuple[torch.Tensor, ...] = ()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (B, H, n, D) keys and values; return all so far."""
        new = key_states.shape[-2]
        if not self.is_initialized:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self._blocks = tuple(
                state.new_empty(*state.shape[:-2], new + self._room, state.shape[-1])
                for state in (key_states, value_states)
            )
        for block, state in zip(self._blocks, (key_states, value_states), strict=True):
            block[..., self._filled : self._filled + new, :] = state
        self._filled += new
        self._view()
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep only these rows."""
        self._blocks = tuple(block[indices] for block in self._blocks)
        self._view()

    def _view(self) -> None:
        self.keys, self.values = (block[..., : self._filled, :] for block in self._blocks)


def new_cache(config: Any, room: int) -> DynamicCache:
    """Cache for a model of ``config``: its plain layers are roomy, those of a special kind stay transformers' own."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
