"""One engine on many machines: blocks of prompts go through a Ray Data pipeline whose actors hold an engine each.

Ray carries prompts and answers and nothing else. Keys, ledger and results stay with the driver's `runner.Runner`, and
`RayEngine.identity` is that of the engine it distributes, so that what one machine has paid for a cluster does not
call again, and the other way round.

* Back-pressure: an actor has one block in work and one waiting; finished blocks that the driver has not read yet may
  take ``RayConfig.buffer_mb``, then no new one is started.
* An actor that dies is started anew and its blocks are done again, there or elsewhere. The driver reads whole blocks
  only, each once. A block whose engine raised is the error "worker" of its calls, to be made again by a later run.
  NOTE: Ray retries without end, so a block that kills every actor (out of memory) keeps the run from ending.

NOTE: the actors live for one `RayEngine.generate` and load the model each time, so ask for much at once
(``RunnerConfig.claim_size``, with a ``claim_share`` of 1): docs/scale.md has the formula.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import Field

from lettingo_features.config import Config
from lettingo_features.errors import ConfigError, MissingExtraError, ModelError
from lettingo_features.generation.engine import Completion, Engine
from lettingo_features.generation.local_engine import LocalEngine
from lettingo_features.generation.transformers_engine import TransformersConfig, TransformersEngine

if TYPE_CHECKING:
    from lettingo_features.generation.vllm_engine import VllmConfig

_STOP = -1  # index of the row that says why no call can be answered
_ANSWERS = pa.schema(
    [
        pa.field("index", pa.int64()),
        pa.field("text", pa.string()),
        pa.field("n_tokens", pa.int64()),
        pa.field("problem", pa.string()),
        pa.field("error", pa.string()),
        pa.field("n_prompt_tokens", pa.int64()),
        pa.field("seconds", pa.float64()),
        pa.field("cost", pa.float64()),
    ]
)
assert _ANSWERS.names[1:] == [field.name for field in fields(Completion)]


class RayConfig(Config):
    """Where the engines run and how prompts reach them; none of it changes a text."""

    workers: int = Field(ge=1)
    """Actors, each with an engine of its own. Fewer run while the cluster has room for fewer."""
    address: str | None = None
    """"auto" or "host:port" of a running cluster; None starts Ray on this machine and stops it again. NOTE: Ray listens
    on all interfaces; a token guards it (Ray 2.60), a firewall should too."""
    cpus_per_worker: float = Field(default=1.0, ge=0)
    """CPUs that Ray keeps for one actor; also the threads of a transformers engine."""
    gpus_per_worker: float = Field(default=0.0, ge=0)
    """GPUs that Ray gives to one actor: of vLLM its tensor_parallel_size."""
    block_rows: int = Field(default=512, ge=1)
    """Prompts that an actor is given at once, and what a killed actor does again. vLLM wants twice its max_num_seqs,
    the transformers engine four batches."""
    buffer_mb: int = Field(default=256, ge=1)
    """Megabytes of blocks on their way, in Ray's object store, beside the prompts themselves."""


class RayEngine(LocalEngine):
    """Answers as the engine of ``config`` does: same identity, same texts.

    ::

        engine = RayEngine(VllmConfig(model="path/to/model"), RayConfig(workers=64, address="auto", gpus_per_worker=1))
        runner = Runner(engine, Ledger("postgresql://..."), home, RunnerConfig(claim_size=500_000, claim_share=1))

    Every node needs this package and ``config.model`` under the same path.

    """

    def __init__(self, config: TransformersConfig | VllmConfig, cluster: RayConfig) -> None:
        super().__init__(config)
        self.cluster = cluster
        self._started: bool | None = None  # whether this engine has started a Ray; None before it is connected

    def connect(self) -> None:
        """Reach the cluster, or start Ray on this machine; the first `generate` does it.

        Raises
        ------
        MissingExtraError
            ray is not installed.
        ConfigError
            No cluster answers at ``address``.
        """
        if self._started is None:
            self._started = _connect(self.cluster)

    def generate(self, prompts: Sequence[str], streams: Sequence[int]) -> Iterator[tuple[int, Completion]]:
        """Yield (index into ``prompts``, answer) block by block as they finish, each index once.

        Prompts of like size share a block, so that a batch of them needs little padding; the longest go first, so that
        no long block is left for the end when all other actors have nothing to do.

        Raises
        ------
        ModelError
            The engine cannot answer any call, or no actor could load it.
        MissingExtraError, ConfigError
            See `connect`.
        """
        if not prompts:
            return
        self.connect()
        cluster, ended = self.cluster, bytearray(len(prompts))
        asked = blocks(prompts, streams, cluster.block_rows)
        for block in through_actors(asked, Worker, (self.config, cluster.cpus_per_worker), cluster):
            for index, *answer in zip(*block.to_pydict().values(), strict=True):
                if index == _STOP:
                    raise ModelError(answer[0])
                if not ended[index]:
                    ended[index] = True
                    yield index, Completion(*answer)
        for index, has_ended in enumerate(ended):
            if not has_ended:
                yield index, Completion("", 0, error="worker")

    def close(self) -> None:
        """Leave the cluster; stop Ray where this engine has started it."""
        if self._started:
            import ray

            ray.shutdown()
        self._started = None


def blocks(prompts: Sequence[str], streams: Sequence[int], size: int) -> list[pa.Table]:
    """Tables (index, prompt, stream) of at most ``size`` rows, the longest prompts first.

    >>> [table["index"].to_pylist() for table in blocks(["a", "ccc", "bb"], [7, 8, 9], 2)]
    [[1, 2], [0]]
    """
    order = sorted(range(len(prompts)), key=lambda row: (-len(prompts[row]), row))
    return [
        pa.table(
            {
                "index": pa.array(share, pa.int64()),
                "prompt": pa.array([prompts[row] for row in share], pa.string()),
                "stream": pa.array([streams[row] for row in share], pa.int64()),
            }
        )
        for share in (order[start : start + size] for start in range(0, len(order), size))
    ]


def through_actors(tables: list[pa.Table], actor: type, arguments: tuple, cluster: RayConfig) -> Iterator[pa.Table]:
    """Map each table by an ``actor(*arguments)``, a class with ``__call__(table) -> table``; yield as they finish.

    Raises
    ------
    ModelError
        No actor could be started.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext, ExecutionResources

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a lost block is an error of its calls, not the end of all others
    context.execution_options.resource_limits = ExecutionResources.for_limits(
        object_store_memory=cluster.buffer_mb * 2**20
    )
    with DataContext.current(context):
        pipeline = ray.data.from_arrow(tables).map_batches(
            actor,
            fn_constructor_args=arguments,
            batch_size=None,  # a block is a batch
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(cluster.workers, len(tables)), max_tasks_in_flight_per_actor=2),
            num_cpus=cluster.cpus_per_worker,
            num_gpus=cluster.gpus_per_worker or None,
        )
    try:
        yield from pipeline.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except ray.exceptions.RayError as error:
        cause = " ".join(str(error).split())[-300:]
        raise ModelError(
            f"None of {cluster.workers} actors on the Ray cluster could be started ({type(error).__name__}: {cause}). "
            "Every node needs this package, the engine's extra and the directory of the model."
        ) from error


class Worker:
    """The actor: one engine, loaded once, and the blocks it is given.

    After an exception the engine may be dead, and would fail all further blocks faster than sound ones answer theirs:
    the actor then ends with the next block, and Ray starts a fresh one for it.
    """

    def __init__(self, config: TransformersConfig | VllmConfig, cpus: float) -> None:
        self._engine = _load(config, cpus)
        self._broken = False

    def __call__(self, block: pa.Table) -> pa.Table:
        """(index, prompt, stream) -> `_ANSWERS`."""
        if self._broken:
            os._exit(1)
        index = block["index"].to_pylist()
        try:
            answers = self._engine.generate(block["prompt"].to_pylist(), block["stream"].to_pylist())
            rows = [(index[row], *astuple(answer)) for row, answer in answers]
        except Exception as error:
            if not isinstance(error, (ModelError, ConfigError)) or error.__cause__ is not None:  # died of something
                self._broken = True
                raise
            rows = [(_STOP, *astuple(Completion(str(error), 0)))]  # as data: for Ray it were a lost block and no more
        return pa.Table.from_arrays(
            [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), _ANSWERS, strict=True)],
            schema=_ANSWERS,
        )


def _load(config: TransformersConfig | VllmConfig, cpus: float) -> Engine:
    if isinstance(config, TransformersConfig):
        return TransformersEngine(config.model_copy(update={"threads": config.threads or max(1, int(cpus))}))
    from lettingo_features.generation.vllm_engine import VllmEngine

    return VllmEngine(config)


def _connect(cluster: RayConfig) -> bool:
    """Connect this process to Ray; True if a Ray was started for it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray reports its use to its makers, and only this stops it
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("The Ray cluster", "scale") from None
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    if cluster.address is not None:
        _reach(cluster.address)
    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    with _sigterm_kept():
        if cluster.address is None:
            cpus = max(os.cpu_count() or 1, int(-(-cluster.workers * cluster.cpus_per_worker // 1)))
            ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
            return True
        try:
            ray.init(address=cluster.address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise _absent(cluster.address, error) from error
        return True


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """Keep the program's SIGTERM handler: Ray's own ends the process at once, before a runner could store what was
    answered and give its claims back. What Ray started ends with the process all the same."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _reach(address: str) -> None:
    """ConfigError at once where nothing listens: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise _absent(address, error) from error


def _absent(address: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"No Ray cluster answers at '{address}' ({' '.join(str(error).split())[:200]}). Start one with "
        "'ray start --head', or leave the address out to use this machine alone."
    )
