"""Who writes profiles: the options of the command line -> generators on an engine, their calls through the ledger."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lettingo_features.generation.runner import Runner
    from lettingo_features.profiles.generator import Generator

STATISTICAL_RELEASE = "v0"
"Release of the statistical generator alone: the baseline that every language model must beat."
MAX_PROCESSES = 4
"Copies of the embedded model, one per core; a larger model gets one process with all cores."
STYLES = ("free", "narrative", "brief", "bullets", "analyst")
ROWS_TOKENS, LETTINGO_TOKENS = 96, 512
"New tokens by default: the embedded model's longest text has about 80, LettinGo's free texts several hundred."


@dataclass(frozen=True, slots=True)
class WriterOptions:
    """What ``profiles generate`` and ``backfill`` are told about the writer."""

    engine: str = "transformers"
    model: str | None = None
    prompt: str = "auto"
    text_style: str = "free"
    temperature: float = 0.0
    seed: int = 0
    max_new_tokens: int | None = None
    base_url: str = "http://127.0.0.1:8000/v1"
    api_key_env: str = "OPENAI_API_KEY"
    tokenizer: str | None = None
    revision: str = ""
    structured: str = "json_schema"
    max_model_len: int | None = None
    adapter: str | None = None
    tensor_parallel: int = 1
    dtype: str | None = None
    concurrency: int = 32
    price_in: float = 0.0
    price_out: float = 0.0
    budget: float | None = None
    mask: bool = False
    ledger: str | None = None
    cluster: str | None = None
    cluster_address: str | None = None
    workers: int = 2
    gpus_per_worker: int | None = None
    calls_per_claim: int = 200_000


@dataclass(slots=True)
class Writers:
    """The two generators of a build and what their calls cost; ``runner`` is None where none are made, ``engine`` where
    no language model writes."""

    cold: Generator
    warm: Generator
    runner: Runner | None = None
    engine: Any = field(default=None)

    def retries(self) -> dict[str, int]:
        """Tries that failed at a server and were made again, by cause."""
        return {f"retried {cause}": n for cause, n in getattr(self.engine, "retries", {}).items()}

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()


def make_writers(home, release: str, options: WriterOptions, *, calls: bool = True) -> Writers:
    """Statistical for both in v0; else statistical for the cold and a language model for the warm users.

    Without ``calls`` no ledger is opened: for who only counts prompts and tokens.
    """
    from lettingo_features.profiles.statistical import StatisticalGenerator

    statistical = StatisticalGenerator()
    if release == STATISTICAL_RELEASE:
        refuse_all(options)
        return Writers(statistical, statistical)
    from lettingo_features.generation.ledger import Ledger
    from lettingo_features.generation.runner import Runner, RunnerConfig
    from lettingo_features.profiles.language_model import LanguageModelGenerator
    from lettingo_features.profiles.local_model import EMBEDDED_NAME
    from lettingo_features.profiles.prompt import RowsPrompt

    prompt = _prompt(options)
    default_tokens = ROWS_TOKENS if isinstance(prompt, RowsPrompt) else LETTINGO_TOKENS
    engine = make_engine(options, prompt.instruction, prompt.json_schema, default_tokens)
    whole = {"claim_share": 1.0} if options.cluster else {}  # a cluster loads its models anew for each claim
    config = RunnerConfig(budget_usd=options.budget, claim_size=calls_at_once(options), **whole)
    runner = Runner(engine, Ledger(ledger_url(home, options)), home, config) if calls else None
    name = EMBEDDED_NAME if options.model is None and options.adapter is None else ""
    warm = LanguageModelGenerator(
        prompt, engine, runner, options.seed, name, _privacy(options), max(4_096, calls_at_once(options))
    )
    return Writers(statistical, warm, runner, engine)


_ONLY = {  # option -> what it belongs to, and whether that was asked for
    "base_url": ("--engine openai", lambda o: o.engine == "openai"),
    "tokenizer": ("--engine openai", lambda o: o.engine == "openai"),
    "revision": ("--engine openai", lambda o: o.engine == "openai"),
    "structured": ("--engine openai", lambda o: o.engine == "openai"),
    "concurrency": ("--engine openai", lambda o: o.engine == "openai"),
    "api_key_env": ("--engine openai", lambda o: o.engine == "openai"),
    "adapter": ("--engine vllm", lambda o: o.engine == "vllm"),
    "tensor_parallel": ("--engine vllm", lambda o: o.engine == "vllm"),
    "max_model_len": ("--engine vllm or openai", lambda o: o.engine != "transformers"),
    "dtype": ("--engine transformers or vllm", lambda o: o.engine != "openai"),
    "workers": ("--engine-cluster", lambda o: o.cluster),
    "cluster_address": ("--engine-cluster", lambda o: o.cluster),
    "gpus_per_worker": ("--engine vllm on a cluster", lambda o: o.cluster and o.engine == "vllm"),
    "calls_per_claim": ("--engine-cluster", lambda o: o.cluster),
}


_FLAGS = {"cluster": "engine-cluster"}  # field -> its option, where they differ


def refuse_ignored(options: WriterOptions) -> None:
    """Raises ConfigError for an option that the engine asked for would not read."""
    from lettingo_features.errors import ConfigError

    default = WriterOptions()
    for name, (where, is_asked) in _ONLY.items():
        if getattr(options, name) != getattr(default, name) and not is_asked(options):
            raise ConfigError(f"--{name.replace('_', '-')} belongs to {where}: leave it out, or ask for that.")
    if options.budget is not None and not (options.price_in or options.price_out):
        raise ConfigError("--budget counts money, and every price is 0: state --price-in and --price-out.")


def refuse_all(options: WriterOptions) -> None:
    """Raises ConfigError for any option: the statistical release has no language model that would read it."""
    from lettingo_features.errors import ConfigError

    default = WriterOptions()
    told = [name for name in WriterOptions.__slots__ if getattr(options, name) != getattr(default, name)]
    if told:
        names = ", ".join(f"--{_FLAGS.get(name, name.replace('_', '-'))}" for name in told)
        raise ConfigError(
            f"No language model writes release {STATISTICAL_RELEASE}: leave {names} out, or name another --release."
        )


def ledger_url(home, options: WriterOptions) -> str:
    return options.ledger or os.environ.get("LETTINGO_LEDGER") or home.ledger_url


def _privacy(options: WriterOptions):
    if not options.mask:
        return None
    from lettingo_features.generation.privacy import PrivacyConfig, PrivacyFilter

    return PrivacyFilter(PrivacyConfig())


def calls_at_once(options: WriterOptions) -> int:
    """An engine that sorts by length wants thousands, one with open requests some rounds of them, and a cluster, whose
    actors load the model anew for each claim, hundreds of thousands."""
    if options.cluster:
        return options.calls_per_claim
    return 4_096 if options.engine != "openai" else max(256, 16 * options.concurrency)


def _prompt(options: WriterOptions):
    from lettingo_features.errors import ConfigError
    from lettingo_features.profiles.lettingo_prompt import LettinGoPrompt, LettinGoPromptConfig
    from lettingo_features.profiles.local_model import embedded_model, instruction_for
    from lettingo_features.profiles.prompt import INSTRUCTION, RowsPrompt

    directory = options.model or str(embedded_model())
    local = options.engine != "openai" or options.model is None
    trained_on_rows = local and instruction_for(directory) == ""
    if options.prompt == "rows-2" or (options.prompt == "auto" and trained_on_rows):
        if options.text_style != "free":
            raise ConfigError("--text-style belongs to LettinGo's prompts: add --prompt lettingo-1, or leave it out.")
        return RowsPrompt("" if trained_on_rows else INSTRUCTION)
    version = "lettingo-1" if options.prompt == "auto" else options.prompt
    canary = os.environ.get("LETTINGO_CANARY") or None
    return LettinGoPrompt(LettinGoPromptConfig(version=version, style=options.text_style, canary=canary))


def make_engine(options: WriterOptions, instruction: str, json_schema: str | None, default_tokens: int):
    """The engine that ``options`` name, told what to do and in which form to answer."""
    from lettingo_features.errors import ConfigError
    from lettingo_features.profiles.local_model import embedded_model

    refuse_ignored(options)
    told: dict[str, Any] = {
        "model": options.model or str(embedded_model()),
        "instruction": instruction,
        "json_schema": json_schema,
        "temperature": options.temperature,
        "max_new_tokens": options.max_new_tokens or default_tokens,
        "price_in": options.price_in,
        "price_out": options.price_out,
    }
    if options.cluster and options.engine == "openai":
        raise ConfigError("--engine-cluster distributes models; a server is shared by --concurrency. Leave one out.")
    make = {"transformers": _transformers, "vllm": _vllm, "openai": _openai}[options.engine]
    return make(options, told)


def _transformers(options: WriterOptions, told: dict[str, Any]):
    from lettingo_features.generation.transformers_engine import TransformersConfig
    from lettingo_features.generation.worker_pool import WorkerPool

    if options.dtype:
        told["dtype"] = options.dtype
    config = TransformersConfig(**told, threads=1 if options.model is None else None)
    if options.cluster:
        return _on_ray(config, options)
    return WorkerPool(config, min(os.cpu_count() or 1, MAX_PROCESSES) if options.model is None else 1)


def _vllm(options: WriterOptions, told: dict[str, Any]):
    from lettingo_features.generation.vllm_engine import VllmConfig, VllmEngine

    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")  # standard output is the report
    named = {"dtype": options.dtype, "max_model_len": options.max_model_len}
    told |= {name: value for name, value in named.items() if value is not None}
    config = VllmConfig(**told, adapter=options.adapter, tensor_parallel_size=options.tensor_parallel)
    return _on_ray(config, options) if options.cluster else VllmEngine(config)


def _openai(options: WriterOptions, told: dict[str, Any]):
    from lettingo_features.errors import ConfigError
    from lettingo_features.generation.openai_engine import OpenAIConfig, OpenAIEngine

    if options.model is None:
        raise ConfigError("Which model? Name the one that the server serves with --model.")
    key = os.environ.get(options.api_key_env, "")
    server = {"base_url": options.base_url, "api_key": key, "tokenizer": options.tokenizer}
    rest = {"concurrency": options.concurrency, "revision": options.revision, "structured": options.structured}
    if options.max_model_len is not None:
        rest["max_model_len"] = options.max_model_len
    return OpenAIEngine(OpenAIConfig(**told, **server, **rest))


def _on_ray(config, options: WriterOptions):
    from lettingo_features.generation.ray_engine import RayConfig, RayEngine

    gpus = options.tensor_parallel if options.engine == "vllm" else 0  # a host without GPUs: --gpus-per-worker 0
    asked = gpus if options.gpus_per_worker is None else options.gpus_per_worker
    cluster = {"address": options.cluster_address, "gpus_per_worker": asked}
    return RayEngine(config, RayConfig(workers=options.workers, **cluster))


_OPTIONS = (
    click.option("--engine", type=click.Choice(["transformers", "vllm", "openai"]), default="transformers"),
    click.option("--model", help="Directory or id, or the name that a server serves; left out: the embedded model."),
    click.option(
        "--prompt",
        type=click.Choice(["auto", "rows-2", "lettingo-1", "lettingo-claims-1"]),
        default="auto",
        help="auto: what the model was trained on, else LettinGo's free text; claims: JSON that names its evidence.",
    ),
    click.option(
        "--text-style", type=click.Choice(["free", "narrative", "brief", "bullets", "analyst"]), default="free"
    ),
    click.option("--temperature", type=float, default=0.0, show_default=True),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the users' streams at temperature > 0."),
    click.option("--max-new-tokens", type=int, help=f"Left out: {ROWS_TOKENS} for rows, else {LETTINGO_TOKENS}."),
    click.option("--base-url", default="http://127.0.0.1:8000/v1", show_default=True, help="Of --engine openai."),
    click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True, help="Variable that holds the key."),
    click.option("--tokenizer", help="Local directory with the served model's tokenizer: data then goes as token ids."),
    click.option("--revision", default="", help="What tells a served model of one name from its successor."),
    click.option(
        "--structured",
        type=click.Choice(["json_schema", "json_object", "none"]),
        default="json_schema",
        show_default=True,
        help="What the server can hold an answer to.",
    ),
    click.option("--max-model-len", type=int, help="Positions of vLLM, or that a server serves (8192)."),
    click.option("--tensor-parallel", type=int, default=1, show_default=True, help="GPUs of one vLLM engine."),
    click.option("--dtype", help="Of the weights; float32 on a CPU."),
    click.option("--adapter", help="LoRA directory, for --engine vllm."),
    click.option("--concurrency", type=int, default=32, show_default=True, help="Calls open at a server."),
    click.option("--price-in", type=float, default=0.0, help="USD per million tokens read."),
    click.option("--price-out", type=float, default=0.0, help="USD per million tokens written."),
    click.option("--budget", type=float, help="USD after which the run stops cleanly; the next one goes on."),
    click.option("--mask", is_flag=True, help="Mask personal data by pattern in prompts and texts (extra privacy)."),
    click.option("--ledger", help="Database URL; LETTINGO_LEDGER, else ledger.db in the home."),
    click.option("--engine-cluster", "cluster", type=click.Choice(["ray"]), help="Engines as actors of a cluster."),
    click.option("--cluster-address", help="Of a running Ray cluster, or auto; left out: a local one for this run."),
    click.option("--gpus-per-worker", type=int, help="Of vLLM's actors; left out: --tensor-parallel."),
    click.option(
        "--calls-per-claim",
        type=int,
        default=200_000,
        show_default=True,
        help="Of --engine-cluster: actors load the model once per claim, and claims stay in the driver's memory.",
    ),
    click.option("--workers", type=int, default=2, show_default=True, help="Actors of --engine-cluster."),
)


def writer_options(command: Callable) -> Callable:
    """The options of `WriterOptions`; the command gets them as ``writer``."""
    from functools import wraps

    names = WriterOptions.__slots__

    @wraps(command)
    def gathered(*args: Any, **kwargs: Any) -> Any:
        return command(*args, writer=WriterOptions(**{name: kwargs.pop(name) for name in names}), **kwargs)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered
