"""One alignment run: its configuration, its files in ``alignment/<name>/``, and what several steps need."""

from __future__ import annotations

import fcntl
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lettingo_features import columns as c
from lettingo_features.alignment.explore import Asked, ask, candidates_of
from lettingo_features.alignment.frame import Frame, make_frame
from lettingo_features.alignment.kept_windows import digests_of, n_changed
from lettingo_features.alignment.loop_config import LoopConfig
from lettingo_features.alignment.ranking_reward import RankingReward, fit_ranker
from lettingo_features.alignment.scene import Scene, build_scene
from lettingo_features.alignment.shared_wording import beside_mean
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.generation.engine import content_id
from lettingo_features.home import Home, write_parquet, write_text
from pipelines.writers import WriterOptions, make_writers

Say = Callable[[str], None]
WINDOWS = "frame/windows.parquet"
TIMED = 128
"Users whose texts are timed for the latency guardrail."
Recorded = Sequence[tuple[str, pa.Table]]
"""(generator, rows of `imported.read_texts`) of each writer elsewhere."""


def begun_with(home: Home, name: str) -> dict[str, Any]:
    """What a run of this name was told when it began, and what it noted since; empty for a new one."""
    path = home.alignment / name / "run.json"
    return json.loads(path.read_text()) if path.is_file() else {}


class AlignmentRun:
    """One run: its configuration, its files, and what several steps need.

    Parameters
    ----------
    name
        Of the run and of its directory.
    writer
        The generator in training; its model must be a directory of this machine, or the embedded one.
    encoder
        That serves the profiles.
    elsewhere
        Candidates of writers elsewhere; None: those that the run began with, if any.

    Raises
    ------
    ConfigError
        A run of this name was begun with another configuration, generator or encoder.
    """

    def __init__(
        self,
        home: Home,
        name: str,
        config: LoopConfig,
        writer: WriterOptions,
        encoder: Any,
        say: Say = print,
        elsewhere: Recorded | None = None,
    ) -> None:
        from lettingo_features.profiles.local_model import embedded_model

        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ConfigError(f"--name {name!r} is no name of a directory: letters, digits, dots, dashes, underscores.")
        if writer.engine != "transformers" or (writer.model and not Path(writer.model).is_dir()):
            raise ConfigError("A generator can be trained only as a model directory of this machine: give --model DIR.")
        self.home, self.name, self.config, self.writer, self.encoder, self.say = (
            home,
            name,
            config,
            writer,
            encoder,
            say,
        )
        self.base = Path(writer.model) if writer.model else embedded_model()
        self.directory = home.alignment / name
        self._lock()
        self._begin(elsewhere)

    def _lock(self) -> None:
        """One process at a time: two would train in one directory. A killed holder frees it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._held = (self.directory / ".lock").open("w")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"Another process works on the run {self.name}: wait for it, or end it.") from None

    def _begin(self, elsewhere: Recorded | None) -> None:
        from lettingo_features.generation.model_files import model_hash

        known = self.facts
        told = {
            "config": self.config.model_dump(mode="json"),
            "base": model_hash(str(self.base)),
            "encoder": self.encoder.encoder_id,
            "prompt": self.writer.prompt,
        }
        if elsewhere is not None or not known:
            told["candidates"] = {name: _identity(rows) for name, rows in elsewhere or ()}
        changed = [key for key in sorted(told.keys() & known.keys() - {"config"}) if known[key] != told[key]]
        if "config" in known:
            changed += _differences(LoopConfig(**known["config"]).shaping(), self.config.shaping(), "config")
        if changed:
            raise ConfigError(
                f"The run {self.name} was begun with another {', '.join(changed)}, see {self.directory / 'run.json'}. "
                "Its files would not fit: give it another --name, or leave the option out to go on as it began."
            )
        if elsewhere:
            self.write("elsewhere.parquet", _as_rows(elsewhere))
        first = {"steps": {}, "model": self.writer.model, "encoder_model": self.encoder.config.model}
        self.write_json("run.json", first | known | told)  # before the frame: its settings are fixed now
        frame = Frame.load(self.directory / "frame", beside=(Path(WINDOWS).name,))
        if frame is None:
            frame = make_frame(self.home, self.config.frame, self.config.window)
            self.write(WINDOWS, digests_of(self.home, frame, self.config.window))  # the frame's own mark comes last
            frame.save(self.directory / "frame")
        self.frame = frame
        self.write_json("run.json", self.facts | {"frame": frame.facts()})

    # --- files

    @property
    def facts(self) -> dict[str, Any]:
        return begun_with(self.home, self.name)

    def elsewhere(self) -> list[tuple[str, pa.Table]]:
        """user_id, text and window_end of each writer elsewhere, as the run began."""
        rows = self.read("elsewhere.parquet") if self.facts["candidates"] else None
        return [(name, rows.filter(pc.equal(rows["writer"], name))) for name in self.facts["candidates"]]

    def path(self, name: str) -> Path:
        return self.directory / name

    def has(self, name: str) -> bool:
        return self.path(name).exists()

    def read(self, name: str) -> pa.Table:
        if not self.has(name):
            raise ConfigError(f"{self.path(name)} is not there yet: run the steps before, or lettingo align run.")
        return pq.read_table(self.path(name)).combine_chunks()

    def write(self, name: str, table: pa.Table) -> None:
        write_parquet(self.path(name), table.to_batches(), table.schema)

    def read_json(self, name: str) -> Any:
        return json.loads(self.path(name).read_text())

    def write_json(self, name: str, facts: Any) -> None:
        write_text(self.path(name), json.dumps(facts, indent=2, default=str) + "\n")

    @contextmanager
    def step(self, name: str, last_file: str) -> Iterator[bool]:
        """Yields whether the step is still to do; notes its seconds when it has made ``last_file``."""
        if self.has(last_file):
            self.say(f"▸ {name}: done before")
            yield False
            return
        self._require_windows()
        self.say(f"▸ {name}")
        start = time.monotonic()
        yield True
        known = self.facts
        known["steps"][name] = round(time.monotonic() - start, 2)
        self.write_json("run.json", known)

    def _require_windows(self) -> None:
        kept = self.read(WINDOWS)
        changed = n_changed(kept, digests_of(self.home, self.frame, self.config.window))
        if changed:
            raise DataError(
                f"Interactions before the cutoffs of the run {self.name} changed since it began: the windows of "
                f"{changed:,} of its {kept.num_rows:,} users are others now, so what is still to do would not fit what "
                "is done. Start a run under another --name."
            )

    # --- what several steps need

    @contextmanager
    def generator(self, model: Path | None = None, temperature: float = 0.0) -> Iterator[Any]:
        """A `LanguageModelGenerator` of the base or of ``model``, its calls through the ledger."""
        options = replace(
            self.writer,
            model=str(model) if model else self.writer.model,
            temperature=temperature,
            seed=self.config.explore.seed,
        )
        writers = make_writers(self.home, "v1", options)
        try:
            yield writers.warm
        finally:
            writers.close()

    def asked(self, cutoff: datetime, users: pa.Array, reads_history: bool) -> Asked:
        asked = ask(self.home, cutoff, users, self.config.window, self.frame.rating_max, reads_history)
        style = self.config.explore.styles[0]
        return replace(asked, requests=[replace(request, style=style) for request in asked.requests])

    def written(self, model: Path | None, cutoff: datetime, users: pa.Array) -> pa.Table:
        """Candidates at temperature 0, one per user who gets a text."""
        with self.generator(model) as generator:
            asked = self.asked(cutoff, users, generator.reads_history)
            return candidates_of(asked, generator, self.config.max_words)

    def seconds_per_text(self, model: Path | None, cutoff: datetime, users: pa.Array) -> float:
        """Best of three timed passes over up to `TIMED` users, past the ledger, which would answer at once."""
        from lettingo_features.profiles.language_model import LanguageModelGenerator

        with self.generator(model) as generator:
            bare = LanguageModelGenerator(generator.prompt, generator.engine, None, generator.seed)
            requests = self.asked(cutoff, users[:TIMED], generator.reads_history).requests
            seconds = []
            for _ in range(3):  # the first one also loads the model
                start = time.monotonic()
                for _batch in bare.write(requests):
                    pass
                seconds.append(time.monotonic() - start)
        return min(seconds) / len(requests)

    def scene(self, role: str) -> Scene:
        frame, lag = self.frame, self.config.window.publish_lag_s
        if role == "gate":
            return build_scene(self.home, frame.gate_cutoff, frame.gate, frame.gate_targets, lag)
        return build_scene(self.home, frame.reward_cutoff, getattr(frame, role), frame.reward_targets, lag)

    def as_judged(self, texts: Sequence[str]) -> list[str]:
        """What any judge reads: without numbers that give a rating away, unless that guard is off."""
        from lettingo_features.alignment.rating_scrub import scrub

        return [scrub(text)[0] for text in texts] if self.config.guards.scrub_ratings else list(texts)

    @cached_property
    def fit_scene(self) -> Scene:
        return self.scene("fit")

    @cached_property
    def words(self):
        """Texts as words of the catalogue that was there at the reward's cutoff."""
        from lettingo_features.alignment.evaluator import Words

        known = [text for text in self.fit_scene.item_texts if text]
        return Words(known, self.config.evaluator.topics, self.config.evaluator.seed)

    def reader(self, other: bool = False) -> Callable[[Sequence[str]], np.ndarray]:
        """What turns texts into vectors for the reward, or for the gate's first metric (``other``)."""
        return self.words if (self.config.reader == "words") != other else self.encoder.encode

    def ranking_reward(self, scene: Scene, read: Callable, matched: bool = False) -> RankingReward:
        """The ranking reward by one reader, fitted on the fit users; ``matched`` sets the utility whatever is asked."""
        fitted, scene_fit = self.read("fit_texts.parquet"), self.fit_scene
        texts = dict(zip(fitted[c.USER_ID].to_pylist(), fitted["text"].to_pylist(), strict=True))
        judged = self.as_judged([texts.get(user, "") for user in scene_fit.user_ids.to_pylist()])
        profiles = beside_mean(read(judged))
        config = self.config.reward.model_copy(update={"utility": "matched"} if matched else {})
        ranker = fit_ranker(scene_fit, read(scene_fit.item_texts), profiles, config)
        return RankingReward(ranker, scene, read(scene.item_texts), config)


def _differences(known: Any, told: Any, name: str) -> list[str]:
    """Dotted names of the fields that differ."""
    if isinstance(known, dict) and isinstance(told, dict):
        fields = sorted(known.keys() | told.keys())
        return [each for key in fields for each in _differences(known.get(key), told.get(key), f"{name}.{key}")]
    return [] if known == told else [name]


def _identity(rows: pa.Table) -> str:
    return content_id(*(str(value) for name in rows.column_names for value in rows[name].to_pylist()))


def _as_rows(elsewhere: Recorded) -> pa.Table:
    """One row per text, with its ``writer``."""
    return pa.concat_tables(
        rows.append_column("writer", pa.array([name] * rows.num_rows, pa.string())) for name, rows in elsewhere
    )
