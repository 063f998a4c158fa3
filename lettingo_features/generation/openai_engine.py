"""Text generation on any server with the OpenAI HTTP API: `vllm serve`, hosted APIs, closed models.

One call, one connection, one answer: a call is taken from the list by one of ``concurrency`` tasks, asked over a
connection that closes with its answer, and reported once by that task. So no answer can reach another call, late and
doubled ones included.

NOTE: a server may have counted an answer that never arrived whole (a hang, a reset, truncated JSON). It is asked for
again, and `Completion.cost` counts what arrived; `OpenAIEngine.retries` has how many such calls a bill may add.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from queue import SimpleQueue
from threading import Event, Thread
from time import monotonic
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from lettingo_features.errors import MissingExtraError, ModelError
from lettingo_features.generation.engine import Completion, EngineConfig, diagnose
from lettingo_features.generation.frame import Frame, load_frame
from lettingo_features.generation.model_files import model_hash
from lettingo_features.generation.server_failure import BadAnswer, Failure, failure_of
from lettingo_features.generation.untrusted import remove_markers

_BYTES_PER_TOKEN = 3  # English has about four, other scripts fewer: an estimate on the safe side
_TEMPLATE_TOKENS = 32  # room for a chat template that only the server knows
_MASK = "***"
_END_S = 5.0  # in which cancelled calls are over; it takes milliseconds


class OpenAIConfig(EngineConfig):
    """Which server, and how hard to ask it."""

    base_url: str = "http://127.0.0.1:8000/v1"
    """Root of the API. Not part of the identity: replicas of one model answer alike."""
    api_key: SecretStr = SecretStr("")
    """Masked in every message; the caller reads it from the environment."""
    revision: str = ""
    """Part of the identity: what tells today's model of this name from tomorrow's, such as a dated name or a hash."""
    tokenizer: str | None = None
    """Local directory with tokenizer and config of the served model: prompts then go as token ids to /completions,
    where data cannot form a control token (`vllm serve` takes them). None sends text to /chat/completions, without
    anything in it that looks like a control token."""
    max_model_len: int = Field(default=8192, ge=1)
    """Positions that the server serves, prompt and answer together."""
    concurrency: int = Field(default=32, ge=1, le=1000)
    """Calls open at once."""
    timeout_s: float = Field(default=120.0, gt=0)
    """Of one try, from connecting to the last byte."""
    max_retries: int = Field(default=6, ge=0)
    """Further tries of a call after 429, 5xx, a timeout, a lost connection or an unreadable answer."""
    max_wait_s: float = Field(default=300.0, gt=0)
    """Longest pause that a server may ask for with Retry-After, to which jitter is added: more fails the call."""
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    """What the server can hold an answer to where there is a schema; short of json_schema, the prompt states it."""
    limit_name: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    """Older chat servers know only max_tokens, which OpenAI's newer models refuse."""
    extra_body: dict[str, Any] = {}
    """Further fields of each request, such as {"top_p": 0.9}."""


class OpenAIEngine:
    """Asks a server, many calls at once, results as they come.

    ::

        engine = OpenAIEngine(OpenAIConfig(model="adapter-1f0c", base_url="http://127.0.0.1:8000/v1"))
        completions = engine.generate(["history: ..."], streams=[17])

    A schema is enforced by the server (``structured="json_schema"``) or only stated: parse the answers. Tokens are
    those of the server's ``usage``; a count that it keeps to itself is estimated, one per three bytes.

    Raises
    ------
    MissingExtraError
        openai is not installed.
    ModelError
        The tokenizer cannot be loaded.
    """

    def __init__(self, config: OpenAIConfig) -> None:
        try:
            import openai
        except ImportError:
            raise MissingExtraError("The engine for OpenAI-compatible servers", "openai") from None
        self.config = config
        self.retries: Counter[str] = Counter()
        """Tries that failed and were made again, by class."""
        self._told = config.model_copy(update={"instruction": _instruction(config)})
        self._frame: Frame | None = None
        if config.tokenizer is not None:
            self._frame = load_frame(config.tokenizer, self._told, extra="train")
            self._frame.context = min(self._frame.context, config.max_model_len)
        self._key = config.api_key.get_secret_value()
        self._failed_in_a_row = 0
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none",  # the client insists on one
            base_url=config.base_url,
            max_retries=0,  # ours count
            timeout=config.timeout_s,
            default_headers={"Connection": "close"},
        )
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="openai", daemon=True)  # never holds up an exit
        self._thread.start()

    @property
    def name(self) -> str:
        return self.config.model

    @cached_property
    def identity(self) -> str:
        c = self.config
        tokenizer = model_hash(c.tokenizer) if c.tokenizer is not None else ""
        extra = json.dumps(c.extra_body, sort_keys=True)
        return c.identity("openai", c.model, c.revision, tokenizer, c.structured if c.json_schema else "", extra)

    @property
    def samples(self) -> bool:
        return self.config.temperature > 0

    @property
    def prompt_budget(self) -> int:
        """Tokens that the data of one prompt may take; by estimate where there is no local tokenizer."""
        if self._frame is not None:
            return self._frame.budget
        frame = _estimate(self._told.instruction) + _TEMPLATE_TOKENS
        return self.config.max_model_len - frame - self.config.max_new_tokens

    def n_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text as data; without a local tokenizer an estimate, one per three bytes."""
        return self._frame.n_tokens(texts) if self._frame is not None else list(map(_estimate, texts))

    def generate(self, prompts: Sequence[str], streams: Sequence[int]) -> Iterator[tuple[int, Completion]]:
        """Answer each prompt (see `engine.Engine.generate`); closing the iterator ends the open calls.

        Told to stop, it ends them as well, and yields the answers that had come: they are paid for.

        Raises
        ------
        ModelError
            The server refuses the key, does not know the model, has no money left for it, or failed twice as many
            calls in a row as are open at once.
        """
        self._failed_in_a_row = 0
        contents = self._frame.prompts(prompts) if self._frame is not None else prompts
        calls = iter(list(zip(range(len(prompts)), contents, streams, strict=True)))
        ends, n_taken, work = _Ends(), 0, None
        n_tasks = min(self.config.concurrency, len(prompts))
        try:
            work = asyncio.run_coroutine_threadsafe(self._answer_all(calls, n_tasks, ends), self._loop)
            for _ in prompts:
                ends.arrived.get()
                if isinstance(ends.come[n_taken], BaseException):
                    raise ends.come[n_taken] from None  # its cause holds the request, and that the key
                n_taken += 1  # from here to the yield nothing is called: a signal would be heard there, and lose it
                yield ends.come[n_taken - 1]
        except (KeyboardInterrupt, SystemExit):
            if work is not None and work.cancel():
                ends.over.wait(_END_S)  # cancelled before it began, the work does not tell its end
            yield from [end for end in ends.come[n_taken:] if isinstance(end, tuple)]
            raise
        finally:
            if work is not None:
                work.cancel()

    def close(self) -> None:
        """Close connections and stop the thread; closing twice is closing once."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _answer_all(self, calls: Iterator[tuple[int, Any, int]], n_tasks: int, ends: _Ends) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(n_tasks):
                    group.create_task(self._work(calls, ends))
        except* Exception as failed:  # whatever it is, who waits for answers must not wait for ever
            ends.put(failed.exceptions[0])
        finally:
            ends.over.set()

    async def _work(self, calls: Iterator[tuple[int, Any, int]], ends: _Ends) -> None:
        for index, content, stream in calls:
            ends.put((index, await self._call(content, stream)))

    async def _call(self, content: str | list[int], stream: int) -> Completion:
        start = monotonic()
        for attempt in range(self.config.max_retries + 1):
            try:
                async with asyncio.timeout(self.config.timeout_s):
                    answer = await self._ask(content, stream)
                completion = self._completion(answer, content, monotonic() - start)
            except Exception as error:
                failure = failure_of(error)
            else:
                self._failed_in_a_row = 0
                return completion
            pause = self._pause(failure, attempt)
            if pause is None:
                break
            self.retries[failure.error] += 1
            await asyncio.sleep(pause)
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= max(16, 2 * self.config.concurrency):
            raise ModelError(
                f"{self._failed_in_a_row} calls in a row failed on {self._server}, the last with {failure.error}: "
                f"{self._masked(failure.message)} Look at the server, then run again; answers so far are kept."
            )
        return Completion("", 0, error=failure.error, seconds=monotonic() - start)

    def _pause(self, failure: Failure, attempt: int) -> float | None:
        """Seconds to wait before the next try, or None where there is none."""
        if failure.stops_all:
            raise ModelError(
                f"{self._server} refuses model '{self.config.model}' with {failure.error}: "
                f"{self._masked(failure.message)} {failure.next_step}"
            )
        return failure.pause(attempt, self.config.max_wait_s) if attempt < self.config.max_retries else None

    async def _ask(self, content: str | list[int], stream: int) -> Any:
        c = self.config
        body: dict[str, Any] = {"model": c.model, "temperature": c.temperature}
        if self.samples:
            body["seed"] = stream
        response_format = _response_format(c)
        if isinstance(content, str):
            text, _ = remove_markers(content)
            extra = {c.limit_name: c.max_new_tokens, **response_format, **c.extra_body}
            messages = [{"role": "user", "content": self._told.user_turn(text)}]
            return await self._client.chat.completions.create(messages=messages, **body, extra_body=extra)
        extra = {**response_format, **c.extra_body}
        return await self._client.completions.create(
            prompt=content, max_tokens=c.max_new_tokens, **body, extra_body=extra
        )

    def _completion(self, answer: Any, content: str | list[int], seconds: float) -> Completion:
        """Read an answer, which the client does not validate; token counts that are missing are estimated."""
        try:
            choice = answer.choices[0]
            text, refusal = (choice.text, None) if answer.object == "text_completion" else _message(choice)
            finish = choice.finish_reason
        except (AttributeError, LookupError, TypeError) as error:
            raise BadAnswer(f"The answer lacks a part ({error}).") from None
        if not isinstance(finish, str) or not isinstance(text, str):
            raise BadAnswer("The answer has no text or no finish_reason.")
        text = text.strip()
        asked = len(content) if isinstance(content, list) else _estimate(self._told.user_turn(content))
        usage = getattr(answer, "usage", None)
        n_prompt_tokens = _count(usage, "prompt_tokens", asked)
        n_tokens = _count(usage, "completion_tokens", _estimate(text))
        problem = "refused"
        if refusal is None and finish != "content_filter":
            words = text.split()
            problem = diagnose(text, words, finished=finish != "length", schema=self.config.json_schema)
        cost = self.config.cost(n_prompt_tokens, n_tokens)
        return Completion(text, n_tokens, problem, "", n_prompt_tokens, seconds, cost)

    @property
    def _server(self) -> str:
        """Host and port: a URL may carry a password."""
        url = urlsplit(self.config.base_url)
        return f"{url.hostname}:{url.port}" if url.port else str(url.hostname)

    def _masked(self, message: str) -> str:
        message = message.replace(self._key, _MASK) if self._key else message
        return " ".join(message.split())[:300]


class _Ends:
    """Ends of calls as they come, or what stopped them all; an end stays here, so that no signal can lose it."""

    def __init__(self) -> None:
        self.come: list[tuple[int, Completion] | BaseException] = []
        self.arrived: SimpleQueue[None] = SimpleQueue()
        """One for each that came. NOTE: of C, since a signal can break a lock that is taken in Python."""
        self.over = Event()
        """None comes any more."""

    def put(self, end: tuple[int, Completion] | BaseException) -> None:
        self.come.append(end)
        self.arrived.put(None)


def _message(choice: Any) -> tuple[str | None, str | None]:
    """Text and refusal of a chat answer; a refusal, or a filter, may come without a text."""
    message = choice.message
    refusal = getattr(message, "refusal", None)
    silent = refusal is not None or choice.finish_reason in ("content_filter", "length")
    return (message.content or "") if silent else message.content, refusal


def _count(usage: Any, name: str, estimate: int) -> int:
    """What the server counted, or ``estimate`` where that is no number of tokens."""
    count = getattr(usage, name, None)
    return count if type(count) is int and count >= 0 else estimate


def _instruction(config: OpenAIConfig) -> str:
    """With the schema in words where the server cannot be held to it."""
    if config.json_schema is None or config.structured == "json_schema":
        return config.instruction
    stated = f"Answer with one JSON object of this schema and nothing else: {config.json_schema}"
    return f"{config.instruction}\n\n{stated}" if config.instruction else stated


def _response_format(config: OpenAIConfig) -> dict[str, Any]:
    if config.json_schema is None or config.structured == "none":
        return {}
    if config.structured == "json_object":
        return {"response_format": {"type": "json_object"}}
    schema = {"name": "answer", "schema": json.loads(config.json_schema), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


def _estimate(text: str) -> int:
    return -(-len(text.encode()) // _BYTES_PER_TOKEN)
