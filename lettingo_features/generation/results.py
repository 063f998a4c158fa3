"""Answers on disk: parquet parts under ``<home>/generation``, each there whole or not at all."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lettingo_features.errors import LedgerError
from lettingo_features.generation.engine import Completion
from lettingo_features.generation.ledger import Ledger
from lettingo_features.home import Home, write_parquet

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("text", pa.string()),
        pa.field("problem", pa.string()),
        pa.field("n_prompt_tokens", pa.int32()),
        pa.field("n_tokens", pa.int32()),
        pa.field("seconds", pa.float64()),
        pa.field("cost", pa.float64()),
    ]
)
_FIELDS = SCHEMA.names[1:]  # of a Completion


class ResultStore:
    """The answers of one home. Only answered calls are stored; what failed is in the ledger alone."""

    def __init__(self, home: Home) -> None:
        self.directory = home.generation

    def write(self, answers: Sequence[tuple[str, Completion]]) -> str:
        """Store (key, answer) rows as a new part, on disk when this returns; return its name.

        Raises
        ------
        LedgerError
            The disk is full or cannot be written; nothing of the part is left.
        """
        part = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex[:8]}"
        columns = {"key": [key for key, _ in answers]}
        columns |= {name: [getattr(answer, name) for _, answer in answers] for name in _FIELDS}
        try:
            write_parquet(self._path(part), pa.table(columns, schema=SCHEMA).to_batches(), SCHEMA)
        except OSError as error:
            raise LedgerError(
                f"{len(answers)} answers cannot be stored in {self.directory}: {error.strerror or error}. Free space "
                "or make it writable, then run again: what was stored before is not asked for again."
            ) from error
        return part

    def get(self, located: Mapping[str, str]) -> dict[str, Completion]:
        """The answers of calls, given each one's part (`Call.part`).

        Raises
        ------
        LedgerError
            A part is lost or damaged, or has not the answer that the ledger says.
        """
        keys_of: dict[str, list[str]] = defaultdict(list)
        for key, part in located.items():
            keys_of[part].append(key)
        found: dict[str, Completion] = {}
        for part, keys in keys_of.items():
            table = self._read(part)
            rows = table.filter(pc.is_in(table["key"], pa.array(keys, pa.string())))
            found.update(_answers(rows))
        if len(found) < len(located):
            missing = next(key for key in located if key not in found)
            raise LedgerError(
                f"{len(located) - len(found)} of {len(located)} answers are not in the parts that the ledger names "
                f"(first: call {missing}, part {located[missing]}). Put {self.directory} back from a copy, or plan the "
                "calls of that part anew with Ledger.forget_part."
            )
        return found

    def names(self) -> list[str]:
        """The parts there are, oldest first."""
        return sorted(path.stem for path in self.directory.glob("*.parquet"))

    def keys(self, part: str) -> list[str]:
        """The calls that a part answers."""
        return self._read(part)["key"].to_pylist()

    def adopt_into(self, ledger: Ledger) -> int:
        """Tell ``ledger`` of parts that it does not know: their runner was killed, or the ledger is new.

        Returns
        -------
        int
            How many parts.
        """
        there = self.names()  # before the ledger's: a part that appears in between is its runner's to add
        known = ledger.part_names()
        unknown = [part for part in there if part not in known]
        for part in unknown:
            ledger.add_part(part, _answers(self._read(part)))
        return len(unknown)

    def free_bytes(self) -> int:
        """Room on the disk under the parts."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.directory).free

    def _path(self, part: str) -> Path:
        return self.directory / f"{part}.parquet"

    def _read(self, part: str) -> pa.Table:
        try:
            return pq.ParquetFile(self._path(part)).read(SCHEMA.names)
        except (OSError, pa.ArrowException) as error:
            raise LedgerError(
                f"The stored answers {self._path(part)} cannot be read: {' '.join(str(error).split())[:200]}. Put the "
                "file back from a copy, or remove it and plan its calls anew with Ledger.forget_part."
            ) from error


def _answers(rows: pa.Table) -> Iterable[tuple[str, Completion]]:
    columns = [rows[name].to_pylist() for name in SCHEMA.names]
    for key, *fields in zip(*columns, strict=True):
        yield key, Completion(**dict(zip(_FIELDS, fields, strict=True)))
