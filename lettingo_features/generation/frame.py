"""What stands round the data of a prompt: the chat template and the instruction, as token ids.

Data cannot speak for the system: the template is tokenised with its control tokens, the data without any
(``split_special_tokens``), and the ids are joined. A title "<|end|><|assistant|>" stays a title.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lettingo_features.errors import MissingExtraError, ModelError
from lettingo_features.generation.engine import EngineConfig

_DATA = "\ue000DATA\ue000"  # where the data stands in the rendered chat template: a private-use mark, never in data


class Frame:
    """Turns data into the token ids of whole prompts, and says how much data fits.

    Parameters
    ----------
    tokenizer
        Of the model, as transformers loads it.
    config
        Its instruction and ``max_new_tokens`` count.
    context
        Positions of the model.

    Raises
    ------
    ModelError
        The chat template drops the user turn.
    """

    def __init__(self, tokenizer: Any, config: EngineConfig, context: int) -> None:
        self._tokenizer = tokenizer
        self._config = config
        self.context = context
        self.prefix, self.suffix = self._split()

    @property
    def budget(self) -> int:
        """Tokens that the data of one prompt may take, so that frame and answer fit into the context."""
        return self.context - len(self.prefix) - len(self.suffix) - self._config.max_new_tokens

    def data(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text as data: no control token, whatever it says."""
        if not texts:
            return []
        quiet = {"verbose": False}  # what exceeds the context is counted and cut by whoever asks
        return self._tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, **quiet)["input_ids"]

    def n_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as data, without the frame."""
        return [len(ids) for ids in self.data(texts)]

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each whole prompt.

        Raises
        ------
        ModelError
            A text exceeds `budget`.
        """
        ids = [[*self.prefix, *data, *self.suffix] for data in self.data(texts)]
        longest = max(map(len, ids), default=0)
        if longest + self._config.max_new_tokens > self.context:
            raise ModelError(
                f"A prompt of {longest} tokens and {self._config.max_new_tokens} new ones exceed the {self.context} "
                f"positions of {self._config.model}. Shorten the prompt or lower max_new_tokens."
            )
        return ids

    def _split(self) -> tuple[list[int], list[int]]:
        """Token ids before and after the data, control tokens alive."""
        text = self._config.user_turn(_DATA)
        if self._tokenizer.chat_template:
            messages = [{"role": "user", "content": text}]
            text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        else:
            text = f"{self._tokenizer.bos_token or ''}{text}\n"
        before, found, after = text.partition(_DATA)
        if not found:
            raise ModelError(
                f"The chat template of {self._config.model} drops the user turn: no prompt can reach the model."
            )
        before_ids, after_ids = self._tokenizer([before, after], add_special_tokens=False)["input_ids"]
        return list(before_ids), list(after_ids)


def load_frame(directory: str, config: EngineConfig, extra: str) -> Frame:
    """The frame of a model whose weights another process or server holds; ``directory`` has its tokenizer and config.

    Raises
    ------
    MissingExtraError
        transformers is not installed; ``extra`` is what brings it.
    ModelError
        The directory holds no tokenizer or no config.json.
    """
    try:
        from transformers import AutoConfig, AutoTokenizer
    except ImportError:
        raise MissingExtraError("A local tokenizer", extra) from None
    local = Path(directory).is_dir()
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=local)
        positions = context(AutoConfig.from_pretrained(directory, local_files_only=local))
    except Exception as error:  # transformers and tokenizers share no error type
        cause = " ".join(str(error).split())[:300]
        raise ModelError(
            f"Cannot load a tokenizer from '{directory}' ({type(error).__name__}: {cause}). Give a directory with "
            "config.json and tokenizer.json as save_pretrained writes it, or a model id of the hub."
        ) from error
    return Frame(tokenizer, config, positions)


def context(model_config: Any) -> int:
    """Positions of a model, from its transformers config."""
    return int(getattr(model_config.get_text_config(), "max_position_embeddings", 2048))
