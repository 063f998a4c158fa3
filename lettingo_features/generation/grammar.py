"""Decoding that can only write JSON of a schema: one matcher per row forbids the tokens that would leave it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lettingo_features.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    import torch


class Grammar:
    """A JSON schema compiled for one tokenizer (xgrammar).

    No free white space: a grammar that allows it lets a weak model write blanks until it is cut off.

    Raises
    ------
    MissingExtraError
        xgrammar is not installed.
    ConfigError
        The schema is no JSON schema, or uses what cannot be compiled.
    """

    def __init__(self, tokenizer: Any, n_logits: int, ends: Sequence[int], schema: str) -> None:
        try:
            import xgrammar
        except ImportError:
            raise MissingExtraError("Constrained decoding in the transformers engine", "structured") from None
        self._xgrammar = xgrammar
        info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=n_logits, stop_token_ids=list(ends))
        try:
            self._compiled = xgrammar.GrammarCompiler(info).compile_json_schema(
                schema, any_whitespace=False, separators=(",", ":")
            )
        except (RuntimeError, ValueError) as error:  # xgrammar's own types derive from both
            cause = " ".join(str(error).split())[:200]
            raise ConfigError(f"json_schema cannot be compiled: {cause}. Give the text of a JSON schema.") from error
        self._n_logits = n_logits

    def rows(self, n_rows: int) -> list[Any]:
        """A fresh matcher for each row."""
        return [self._xgrammar.GrammarMatcher(self._compiled) for _ in range(n_rows)]

    def forbid(self, scores: torch.Tensor, matchers: Sequence[Any]) -> None:
        """Set the scores (B, V) of tokens that would leave the schema to -inf; a row that ended is left alone."""
        mask = self._xgrammar.allocate_token_bitmask(len(matchers), self._n_logits)  # all allowed
        for row, matcher in enumerate(matchers):
            if not matcher.is_terminated():
                matcher.fill_next_token_bitmask(mask, row)
        self._xgrammar.apply_token_bitmask_inplace(scores, mask.to(scores.device))


def accept(tokens: Sequence[int], matchers: Sequence[Any]) -> None:
    """Tell each row's matcher the token that was chosen for it."""
    for token, matcher in zip(tokens, matchers, strict=True):
        if not matcher.is_terminated():
            matcher.accept_token(token)
