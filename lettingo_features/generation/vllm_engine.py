"""Text generation with vLLM in this process: for GPUs, and for CPUs where its community build is installed.

Prompts go in as token ids made by the frame of the transformers engine, so data cannot form a control token and greedy
texts are those of transformers, up to rounding. NOTE: vLLM spawns processes, so a script that makes this engine needs
``if __name__ == "__main__":``.
"""

from __future__ import annotations

import atexit
import json
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

from pydantic import Field

from lettingo_features.errors import ConfigError, MissingExtraError, ModelError
from lettingo_features.generation.engine import Completion, diagnose
from lettingo_features.generation.frame import Frame
from lettingo_features.generation.local_engine import LocalConfig, LocalEngine
from lettingo_features.generation.model_files import adapter_name, model_hash

_WAITING = 2  # requests handed to vLLM, in units of those it decodes at once: it never starves, and memory is bounded


class VllmConfig(LocalConfig):
    """What to load, and how much of the machine to take; all but dtype and adapter change no text but by rounding."""

    extra: ClassVar[str] = "vllm"

    adapter: str | None = None
    """Directory of a LoRA adapter as peft writes it, applied to every call."""
    dtype: str = "auto"
    """Of the weights; "auto" takes the model's own. NOTE: give float32 on a CPU without native bfloat16."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs that hold one copy of the model."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Positions per request; None takes the model's, which for long-context models is a lot of memory."""
    max_num_seqs: int = Field(default=256, ge=1)
    """Requests decoded at once."""
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    """Share of a GPU's memory, weights included. On a CPU the room for keys and values is set by the environment
    variable VLLM_CPU_KVCACHE_SPACE (GiB) instead."""
    enable_prefix_caching: bool = True
    """Instructions that many prompts share are read once."""
    enforce_eager: bool = False
    """No compilation and no CUDA graphs: starts faster, decodes slower on a GPU."""

    def model_name(self) -> str:
        name = super().model_name()
        return name if self.adapter is None else f"{name}+{adapter_name(self.adapter)}"

    def model_identity(self) -> str:
        adapter = model_hash(self.adapter) if self.adapter is not None else ""
        return self.identity("vllm", model_hash(self.model), adapter, self.dtype)

    def frame(self) -> Frame:
        frame = super().frame()
        if self.max_model_len is not None:
            frame.context = min(frame.context, self.max_model_len)
        return frame


class VllmEngine(LocalEngine):
    """Loads a model into vLLM, when it is first asked, and keeps it busy.

    ::

        engine = VllmEngine(VllmConfig(model="path/to/model", adapter="path/to/adapter"))
        completions = engine.generate(["history: ..."], streams=[17])

    """

    def __init__(self, config: VllmConfig) -> None:
        super().__init__(config)
        self._llm: Any = None
        self._adapter: Any = None
        self._requests = count()

    def generate(self, prompts: Sequence[str], streams: Sequence[int]) -> Iterator[tuple[int, Completion]]:
        """Answer each prompt (see `engine.Engine.generate`); closing the iterator ends the open requests.

        Raises
        ------
        MissingExtraError
            vLLM is not installed.
        ModelError
            Model or adapter cannot be loaded, a prompt exceeds `prompt_budget`, or vLLM died.
        ConfigError
            vLLM cannot compile the schema.
        """
        self._start()
        from vllm.exceptions import VLLMValidationError
        from vllm.v1.engine.exceptions import EngineDeadError

        waiting = iter(list(zip(range(len(prompts)), self.frame.prompts(prompts), streams, strict=True)))
        started: dict[str, tuple[int, float]] = {}
        try:
            while self._fill(started, waiting):
                for output in self._llm.llm_engine.step():
                    if output.finished:
                        row, start = started.pop(output.request_id)
                        yield row, self._completion(output, monotonic() - start)
        except EngineDeadError as error:
            started.clear()
            raise ModelError(
                f"vLLM died on {self.config.model}: {error} Its own lines above say why. Lower max_num_seqs or "
                "max_model_len if memory ran out, then run again; answers so far are kept."
            ) from error
        except VLLMValidationError as error:  # prompts fit, so it is a setting
            cause = " ".join(str(error).split())[:300]
            raise ConfigError(f"vLLM refuses the request: {cause} Look at json_schema and temperature.") from error
        finally:
            if started:  # the caller stopped early
                self._llm.llm_engine.abort_request(list(started))

    def close(self) -> None:
        """End vLLM's processes; closing twice is closing once."""
        atexit.unregister(self.close)
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None

    def _start(self) -> None:
        if self._llm is None:
            self._llm, self._adapter = _load(self.config, self.frame), _adapter(self.config.adapter)
            atexit.register(self.close)  # an exit waits for vLLM's processes, which wait for us

    def _fill(self, started: dict[str, tuple[int, float]], waiting: Iterator[tuple[int, list[int], int]]) -> int:
        """Hand out requests until enough are open; return how many are."""
        while len(started) < _WAITING * self.config.max_num_seqs:
            call = next(waiting, None)
            if call is None:
                break
            row, ids, stream = call
            name = str(next(self._requests))
            self._llm.llm_engine.add_request(
                name, {"prompt_token_ids": ids}, self._sampling(stream), lora_request=self._adapter
            )
            started[name] = row, monotonic()
        return len(started)

    def _sampling(self, stream: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        c = self.config
        schema = StructuredOutputsParams(json=c.json_schema) if c.json_schema is not None else None
        return SamplingParams(
            max_tokens=c.max_new_tokens,
            temperature=c.temperature,
            seed=stream if self.samples else None,
            structured_outputs=schema,
            skip_special_tokens=True,
        )

    def _completion(self, output: Any, seconds: float) -> Completion:
        answer = output.outputs[0]
        text, ids = answer.text.strip(), list(answer.token_ids)
        n_prompt_tokens = len(output.prompt_token_ids)
        return Completion(
            text,
            len(ids),
            diagnose(text, ids, finished=answer.finish_reason == "stop", schema=self.config.json_schema),
            n_prompt_tokens=n_prompt_tokens,
            seconds=seconds,
            cost=self.config.cost(n_prompt_tokens, len(ids)),
        )


def _load(config: VllmConfig, frame: Frame) -> Any:
    try:
        from vllm import LLM
        from vllm.platforms import current_platform
    except ImportError:
        raise MissingExtraError("The vLLM engine", "vllm") from None
    options: dict[str, Any] = {}
    if current_platform.is_cpu():  # a seeded request in a chunked prefill kills vLLM 0.32 there
        options = {"enable_chunked_prefill": False, "max_num_batched_tokens": max(8192, frame.context)}
    if config.adapter is not None:
        options |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank(config.adapter)}
    try:
        return LLM(
            model=config.model,
            dtype=config.dtype,
            tensor_parallel_size=config.tensor_parallel_size,
            max_model_len=config.max_model_len,
            max_num_seqs=config.max_num_seqs,
            gpu_memory_utilization=config.gpu_memory_utilization,
            enable_prefix_caching=config.enable_prefix_caching,
            enforce_eager=config.enforce_eager,
            # free white space lets a weak model write blanks until it is cut off
            structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
            generation_config="vllm",  # sampling is what our config says, not what lies beside the model
            seed=0,
            **options,
        )
    except Exception as error:  # pydantic's, torch's, huggingface's and vLLM's own
        cause = " ".join(str(error).split())[:300]
        raise ModelError(
            f"vLLM cannot load '{config.model}' ({type(error).__name__}: {cause}). Its own lines above say more; "
            "lower max_model_len or max_num_seqs if memory is short."
        ) from error


def _adapter(directory: str | None) -> Any:
    if directory is None:
        return None
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter_name(directory), 1, directory)


def _rank(adapter: str) -> int:
    """The least rank that vLLM can be set to and the adapter fits."""
    try:
        rank = int(json.loads((Path(adapter) / "adapter_config.json").read_text())["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{adapter} holds no LoRA adapter ({error}). Give a directory with adapter_config.json and "
            "adapter_model.safetensors as peft's save_pretrained writes it."
        ) from error
    return next((size for size in (8, 16, 32, 64, 128, 256, 320, 512) if size >= rank), rank)
