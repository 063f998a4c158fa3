"""Profiles written elsewhere: stated windows or none, every row accounted for, the same import twice."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from lettingo_features.columns import INTERACTIONS
from lettingo_features.errors import ConfigError, DataError
from lettingo_features.home import Home
from lettingo_features.profiles.imported import ImportConfig, import_profiles, read_profiles, read_texts
from lettingo_features.profiles.tables import embedding_table, meta_table, text_table
from lettingo_features.sql import connect
from lettingo_features.windows import WindowConfig

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CUTOFF = T0 + timedelta(days=10)
WINDOW = WindowConfig(days=30)


class LengthEncoder:
    encoder_id, dim = "length", 2

    def encode(self, texts):
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)


@pytest.fixture
def home(tmp_path) -> Home:
    home = Home(tmp_path / "home").create()
    users = ["01", "01", "2", "late"]
    times = [T0, T0 + timedelta(days=9), T0 + timedelta(days=1), CUTOFF]
    rows = [users, ["a", "b", "a", "a"], times, times, [4.0] * 4, [None] * 4, [None] * 4]
    home.write_part("interactions", "p", pa.table(rows, schema=INTERACTIONS), INTERACTIONS)
    return home


def config(**changes) -> ImportConfig:
    told = {"release": "elsewhere", "generator": "gpt-x", "cutoff": CUTOFF, "window": WINDOW}
    return ImportConfig(**told | changes)


def rows_of(home: Home, table: str) -> list[dict]:
    return (
        connect()
        .sql(f"SELECT * FROM {home.scan(table)} ORDER BY user_id, created_timestamp")
        .to_arrow_table()
        .to_pylist()
    )


def test_every_row_becomes_a_feature_or_is_set_aside(home):
    users = ["01", "2", "late", "stranger", "2b", "2b", ""]
    texts = ["Likes **drama**.", "", "Likes war.", "Likes crime.", "one", "two", "whose?"]
    report = import_profiles(home, config(), users, texts, LengthEncoder())
    assert (report.rows, report.written, report.unchanged) == (7, 1, 0)
    assert report.set_aside == {
        "no text": 1,
        "no interaction in the window": 2,
        "several texts for one user": 2,
        "no user id": 1,
    }
    (text,) = rows_of(home, text_table("elsewhere"))
    (meta,) = rows_of(home, meta_table("elsewhere"))
    (vector,) = rows_of(home, embedding_table("elsewhere", "length"))
    assert (text["user_id"], text["profile_text"]) == ("01", "Likes drama.")
    assert (meta["generator"], meta["n_interactions"], meta["profile_n_lint"]) == ("gpt-x", 2, 2)
    assert meta["source_max_ts"] == T0 + timedelta(days=9) < meta["profile_cutoff_at"] == CUTOFF <= meta["published_at"]
    assert vector["profile_embedding"] == [12.0, 1.0]
    (quarantined,) = home.quarantine.iterdir()
    kept = [json.loads(line)["profile"] for line in quarantined.read_text().splitlines()]
    assert sorted(kept) == sorted(texts[1:])


def test_the_same_import_twice_changes_nothing_and_another_text_replaces_from_now_on(home):
    at = CUTOFF + timedelta(hours=6)
    first = import_profiles(home, config(published_at=at), ["01", "2"], ["One.", "Two."], LengthEncoder())
    again = import_profiles(home, config(published_at=at), ["01", "2"], ["One.", "Two."], LengthEncoder())
    other = import_profiles(home, config(published_at=at), ["01", "2"], ["One.", "Three."], LengthEncoder())
    assert [(r.written, r.unchanged) for r in (first, again, other)] == [(2, 0), (0, 2), (1, 1)]
    texts = rows_of(home, text_table("elsewhere"))
    assert [(row["user_id"], row["profile_text"]) for row in texts] == [("01", "One."), ("2", "Two."), ("2", "Three.")]
    assert [row["created_timestamp"] == at for row in texts] == [True, True, False]
    assert texts[2]["created_timestamp"] > at


REFUSED = [  # what is stated                                     error        says
    ({"cutoff": datetime(2026, 1, 11)}, ConfigError, "time zone"),
    ({"cutoff": datetime(2999, 1, 1, tzinfo=UTC)}, ConfigError, "neither lies after now"),
    ({"published_at": T0}, ConfigError, "the window ends first"),
    ({"cutoff": T0 - timedelta(days=1)}, DataError, "does the window end at"),  # nobody had met anything
    ({"release": "a b"}, ValueError, "pattern"),
]


@pytest.mark.parametrize(("stated", "error", "says"), REFUSED)
def test_windows_that_cannot_be(home, stated, error, says):
    with pytest.raises(error, match=says):
        import_profiles(home, config(**stated), ["01"], ["One."], LengthEncoder())
    assert not home.parts(meta_table("elsewhere"))


def test_another_generator_needs_another_release(home):
    import_profiles(home, config(), ["01"], ["One."], LengthEncoder())
    with pytest.raises(ConfigError, match="A version is a name"):
        import_profiles(home, config(generator="gpt-y"), ["01"], ["One."], LengthEncoder())


FILES = [  # name, content
    ("p.csv", "user_id,variant,profile\n007,a,One\n007,b,Other\n8,a,\n"),
    ("p.csv.gz", "user_id,variant,profile\n007,a,One\n007,b,Other\n8,a,\n"),
    (
        "p.jsonl",
        '{"user_id":"007","variant":"a","profile":"One"}\n{"user_id":"007","variant":"b","profile":"Other"}\n'
        '{"user_id":"8","variant":"a","profile":""}\n',
    ),
]


@pytest.mark.parametrize(("name", "content"), FILES)
def test_files(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    assert read_profiles(path, "user_id", "profile", ["variant=a"]) == (["007", "8"], ["One", ""])
    with pytest.raises(DataError, match=r"lacks the column\(s\) text; it has user_id, variant, profile"):
        read_profiles(path, "user_id", "text")


ENDS = [  # as stated, as read
    ("2024-03-01", "2024-03-01T00:00:00+00:00"),
    ("2024-03-01 06:00:00+02:00", "2024-03-01T04:00:00+00:00"),
    ("", None),
]


@pytest.mark.parametrize(("stated", "read"), ENDS)
def test_windows_that_a_file_states(tmp_path, stated, read):
    path = tmp_path / "p.csv"
    path.write_text(f"user_id,text,seen_to\nu,One,{stated}\n")
    [end] = read_texts(path, "user_id", "text", end_column="seen_to")["window_end"].to_pylist()
    assert (end and end.astimezone(UTC).isoformat()) == read
    assert read_texts(path, "user_id", "text", end_column="window_end")["window_end"].null_count == 1
    path.write_text("user_id,text,seen_to\nu,One,yesterday\n")
    with pytest.raises(DataError, match=r"cannot be read: .*yesterday"):
        read_texts(path, "user_id", "text", end_column="seen_to")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        read_profiles(tmp_path / "nowhere.csv", "user_id", "profile")


@pytest.mark.parametrize(("variant", "n"), [("lusifer_v1", 943), ("summary_v2", 943), ("structured_v3", 942)])
def test_real_profiles_of_three_models_become_three_releases(shared_data, real_home, variant, n):
    source = shared_data / "ml100k-llm-profiles" / "profiles.csv.gz"
    users, texts = read_profiles(source, "user_id", "profile", [f"variant={variant}"])
    told = ImportConfig(
        release=variant,
        generator=variant,
        cutoff=datetime(1998, 4, 23, tzinfo=UTC),
        window=WindowConfig(days=365, long_k=1_000_000),
    )
    report = import_profiles(real_home, told, users, texts, LengthEncoder())
    assert (report.rows, report.written, report.set_aside) == (n, n, {})
    assert import_profiles(real_home, told, users, texts, LengthEncoder()).written == 0


@pytest.fixture(scope="module")
def real_home(shared_data, tmp_path_factory) -> Home:
    from pipelines.ingest import run_ingest

    home = Home(tmp_path_factory.mktemp("ml100k")).create()
    run_ingest(home, [str(shared_data / "ml100k-llm-profiles")], format=None)
    return home
