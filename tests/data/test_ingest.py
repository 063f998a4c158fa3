"""What becomes of every row: appended, already there, duplicate or quarantined; and runs repeated or killed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest

import lettingo_features.data.ingest as ingest_module
from lettingo_features.columns import INTERACTIONS, ITEMS
from lettingo_features.data.ingest import latest_items_sql
from lettingo_features.data.report import IngestReport
from lettingo_features.errors import ConfigError, DataError, FormatError
from lettingo_features.home import Home
from tests.data.files import NOW, T0, interactions, items, quarantined, query, ratings, run, write

US = 1_000_000
SOON, LATE = int(NOW.timestamp()) + 60, int(NOW.timestamp()) + 3600

ROWS = [  # (line, fate: None = appended, or the reasons that quarantine it)
    (f"1,10,5,{T0}", None),
    (f"1,11,0.5,{T0}", None),  # the scale's ends are inside
    (f",10,5,{T0}", ["missing_user_id"]),
    (f"  ,10,5,{T0}", ["missing_user_id"]),
    (f"1,,5,{T0}", ["missing_item_id"]),
    ("1,12,5,", ["missing_timestamp"]),
    ("1,13,5,yesterday", ["unparsable_timestamp"]),
    (f"1,14,5,{SOON}", None),  # one minute ahead of now: a clock that is a little fast
    (f"1,15,5,{LATE}", ["timestamp_in_future"]),
    ("1,16,5,0", ["timestamp_before_1970"]),  # how exports write "unknown"
    ("1,17,5,-86400", ["timestamp_before_1970"]),
    (f"1,18,good,{T0}", ["rating_not_a_number"]),
    (f"1,18,nan,{T0}", ["rating_not_a_number"]),
    (f"1,19,,{T0}", ["missing_rating"]),
    (f"1,20,5.5,{T0}", ["rating_outside_scale"]),
    (f"1,21,0,{T0}", ["rating_outside_scale"]),
    (
        f",,six,{LATE}",
        ["missing_user_id", "missing_item_id", "timestamp_in_future", "rating_not_a_number"],
    ),  # all of them
    ("1,22", ["unreadable_row"]),
    (f"1,23,5,{T0},extra", ["unreadable_row"]),
    (f"1,24,5,{T0}", None),
]
GOOD = [f"{user},{item},{1 + user % 5},{T0 + user * 100 + item}" for user in range(30) for item in range(10)]


@pytest.fixture
def log(tmp_path):
    """Write lines as ``ratings.csv`` and return its path."""
    return lambda *lines, name="ratings.csv": write(tmp_path / "data", name, ratings(*lines))


def test_every_row_has_its_fate_and_all_its_reasons(tmp_path, log):
    fill = GOOD  # enough good times that a few bad ones do not make the column ambiguous
    path = log(*fill, *(line for line, _ in ROWS))
    report, home = run(path, tmp_path / "home")
    first = len(fill) + 2  # the header is record 1
    want = [(first + i, reasons) for i, (_, reasons) in enumerate(ROWS) if reasons]
    assert [row[:2] for row in quarantined(report)] == want
    counts = report.interactions
    assert (counts.rows_in, counts.appended) == (len(fill) + len(ROWS), len(fill) + 4)
    assert counts.quarantined == len(want)
    assert counts.quarantine_reasons["missing_user_id"] == 3
    assert sum(counts.quarantine_reasons.values()) == sum(len(reasons) for _, reasons in want)
    assert len(interactions(home)) == counts.appended


def test_quarantine_keeps_the_row_as_it_was_read(tmp_path, log):
    path = log(*GOOD, "1,0012,good,yesterday", "1,22")
    report, _ = run(path, tmp_path / "home")
    rows = query(f'SELECT "table", source_file, raw FROM read_parquet(\'{report.quarantine}\') ORDER BY "row"')
    assert [row[:2] for row in rows] == [("interactions", str(path))] * 2
    read = {"user_id": "1", "item_id": "0012", "timestamp": "yesterday", "rating": "good", "event_type": "rating"}
    assert json.loads(rows[0][2]) == read | {"review_text": None}
    assert json.loads(rows[1][2]) == {"line": "1,22"}


@pytest.mark.parametrize(
    ("lines", "kept", "duplicates", "superseded"),
    [
        # the same row twice: one remains
        ([f"u,i,3,{T0}", f"u,i,3,{T0}"], [3.0], 1, 0),
        # another rating at the same instant: the last in file order wins
        ([f"u,i,5,{T0}", f"u,i,3,{T0}"], [3.0], 0, 1),
        # back and forth: the last wins, its twin is a duplicate, the other is superseded
        ([f"u,i,3,{T0}", f"u,i,5,{T0}", f"u,i,3,{T0}"], [3.0], 1, 1),
        # a twin of a superseded row is a duplicate of it
        ([f"u,i,5,{T0}", f"u,i,5,{T0}", f"u,i,3,{T0}"], [3.0], 1, 1),
        # at another time it is a re-rating: an event of its own
        ([f"u,i,5,{T0}", f"u,i,3,{T0 + 1}"], [3.0, 5.0], 0, 0),
        # ids that only together look alike
        ([f"1,11,3,{T0}", f"11,1,3,{T0}"], [3.0, 3.0], 0, 0),
        # zero padding tells ids apart
        ([f"u,01,3,{T0}", f"u,1,3,{T0}"], [3.0, 3.0], 0, 0),
    ],
)
def test_duplicates(tmp_path, log, lines, kept, duplicates, superseded):
    report, home = run(log(*lines), tmp_path / "home")
    assert sorted(row[2] for row in interactions(home)) == kept
    assert (report.interactions.exact_duplicates, report.interactions.quarantined) == (duplicates, superseded)
    reasons = {"superseded_at_the_same_instant": superseded} if superseded else {}
    assert report.interactions.quarantine_reasons == reasons


def test_last_in_file_order_holds_across_files(tmp_path):
    files = [write(tmp_path, f"ratings_{n}.csv", ratings(f"u,i,{rating},{T0}")) for n, rating in ((1, 5), (2, 3))]
    _, home = run(files, tmp_path / "home")
    assert [row[2] for row in interactions(home)] == [3.0]
    _, other = run(files[::-1], tmp_path / "other")
    assert [row[2] for row in interactions(other)] == [5.0]


def test_same_file_twice_changes_nothing(tmp_path, log):
    path = log(*GOOD, f"u,i,5,{T0}", f"u,i,3,{T0}", "bad,row")
    write(path.parent, "movies.csv", "movieId,title,genres\n0,Zero,A|B\n")
    first, home = run(path.parent, tmp_path / "home")
    before = {file: file.read_bytes() for file in home.root.rglob("*.parquet")}
    again, _ = run(path.parent, home.root, now=NOW + timedelta(days=1))
    assert {file: file.read_bytes() for file in home.root.rglob("*.parquet")} == before
    assert again.parts == [] and again.run == first.run
    assert (again.interactions.appended, again.interactions.already_there) == (0, first.interactions.appended)
    assert again.interactions.quarantine_reasons == first.interactions.quarantine_reasons
    assert (again.items.appended, again.items.already_there) == (0, 1)


def test_longer_snapshot_appends_only_what_is_new(tmp_path, log):
    run(log(*GOOD[:200]), tmp_path / "home")
    report, home = run(log(*GOOD), tmp_path / "home")
    assert (report.interactions.already_there, report.interactions.appended) == (200, 100)
    assert len(home.parts("interactions")) == 2
    assert len(set(interactions(home))) == len(interactions(home)) == 300


def test_another_rating_than_the_home_holds_is_a_conflict(tmp_path, log):
    run(log(f"u,i,5,{T0}"), tmp_path / "home")
    report, home = run(log(f"u,i,3,{T0}", f"u,i,5,{T0 + 9}"), tmp_path / "home")
    assert report.interactions.quarantine_reasons == {"conflicts_with_ingested_row": 1}
    assert [row[2:] for row in interactions(home)] == [(5.0, T0 * US), (5.0, (T0 + 9) * US)]


def test_rows_that_left_the_home_come_back_without_replacing_others(tmp_path, log):
    """A part that shrank (as by erasure) must not be overwritten by a later run of the file that made it."""
    path = log(*GOOD)
    _, home = run(path, tmp_path / "home")
    (part,) = home.parts("interactions")
    query(f"COPY (FROM read_parquet('{part}') WHERE user_id <> '7') TO '{part}.new' (FORMAT parquet)")
    (part.parent / f"{part.name}.new").replace(part)
    report, _ = run(path, home.root)
    assert (report.interactions.appended, report.interactions.already_there) == (10, 290)
    assert len(interactions(home)) == 300


def test_killed_run_leaves_nothing_and_can_be_repeated(tmp_path, log, monkeypatch):
    path = log(*GOOD)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ingest_module, "_append", killed)
        with pytest.raises(KeyboardInterrupt):
            run(path, tmp_path / "home")
    home = Home(tmp_path / "home")
    assert home.parts("interactions") == []
    assert list(home.spill.iterdir()) == []
    (home.spill / "ingest-0").mkdir()  # what a killed process, which cleans nothing, leaves behind
    report, _ = run(path, home.root)
    assert report.interactions.appended == len(interactions(home)) == 300


def test_a_bad_last_file_undoes_the_whole_run(tmp_path, log):
    good, empty = log(*GOOD), log(name="ratings_2.csv")
    with pytest.raises(FormatError, match="header without rows"):
        run([good, empty], tmp_path / "home")
    assert Home(tmp_path / "home").parts("interactions") == []


def test_not_one_valid_row_is_an_error_with_the_reasons(tmp_path, log):
    with pytest.raises(DataError, match=r"Not one of 2 interactions is valid \(rating_outside_scale: 2\).*quarantine"):
        run(log(f"1,2,80,{T0}", f"1,3,90,{T0}"), tmp_path / "home")
    assert len(list((tmp_path / "home" / "quarantine").iterdir())) == 1


def test_now_needs_a_time_zone(tmp_path, log):
    with pytest.raises(ConfigError, match="no time zone"):
        run(log(*GOOD), tmp_path / "home", now=datetime(2025, 1, 1))


def test_an_interaction_is_visible_strictly_after_its_instant(tmp_path, log):
    _, home = run(log(*GOOD), tmp_path / "home")
    lag = "epoch_us(created_timestamp) - epoch_us(event_timestamp)"
    assert query(f"SELECT DISTINCT {lag} FROM {home.scan('interactions')}") == [(1,)]


def test_parts_have_the_declared_schemas(tmp_path, log):
    import pyarrow.parquet as pq

    path = log(*GOOD)
    write(path.parent, "movies.csv", "movieId,title,genres\n0,Zero,A|B\n")
    _, home = run(path.parent, tmp_path / "home")
    for table, schema in {"interactions": INTERACTIONS, "items": ITEMS}.items():
        assert pq.read_schema(home.parts(table)[0]).equals(schema)


def test_items_are_updated_by_appending(tmp_path):
    def catalogue(*rows):
        return write(tmp_path / "d", "movies.csv", "\n".join(["movieId,title,genres", *rows, ""]))

    options = {"format": "ml-csv"}
    _, home = run(catalogue("1,One,A", "2,Two,", "1,One,A", "2,Second,"), tmp_path / "home", **options)
    assert items(home) == [("1", "One", ["A"], None), ("2", "Second", [], None)]
    # one changed, one new, one unchanged; given the same now, the update must still be the newer one
    report, _ = run(catalogue("1,Uno,A", "2,Second,", "3,Three,B"), home.root, **options)
    assert (report.items.appended, report.items.already_there) == (2, 1)
    assert [row[1] for row in items(home)] == ["Uno", "Second", "Three"]
    # and back again
    report, _ = run(catalogue("1,One,A"), home.root, **options)
    assert report.items.appended == 1
    assert [row[1] for row in items(home)] == ["One", "Second", "Three"]
    assert query(f"SELECT count(*) FROM {home.scan('items')}") == [(5,)]


def test_superseded_items_are_quarantined(tmp_path):
    text = "movieId,title,genres\n1,Old,A\n1,New,A\n,Nameless,\n"
    report, home = run(write(tmp_path / "d", "movies.csv", text), tmp_path / "home")
    assert [row[1] for row in items(home)] == ["New"]
    assert [row[:2] for row in quarantined(report)] == [
        (2, ["superseded_at_the_same_instant"]),
        (4, ["missing_item_id"]),
    ]


def test_items_of_an_empty_home(tmp_path):
    assert query(f"SELECT * FROM {latest_items_sql(Home(tmp_path))}") == []


def test_progress_and_report(tmp_path, log):
    seen = []
    report, _ = run(log(*GOOD), tmp_path / "home", progress=seen.append)
    assert sum(seen) == 300
    assert IngestReport.model_validate(json.loads(json.dumps(report.to_dict()))) == report
    assert report.first_event < report.last_event < NOW
    assert len(report.files[0].sha256) == 64
    assert "interactions: 300 rows in = 300 appended + 0 already there" in report.to_text()


def test_jsonl_lines_that_are_no_json(tmp_path):
    line = json.dumps({"user_id": "u", "parent_asin": "a", "rating": 5, "timestamp": T0 * 1000, "text": "nul \0"})
    path = write(tmp_path / "d", "Books.jsonl", f'{line}\n{{"user_id": "u", \n\n"\\ud800"\n')
    report, home = run(path, tmp_path / "home")
    assert [row[:2] for row in quarantined(report)] == [(2, ["unreadable_row"]), (4, ["unreadable_row"])]
    assert interactions(home, "user_id, review_text") == [("u", "nul \ufffd")]


def test_lines_longer_and_shorter_than_a_chunk(tmp_path, monkeypatch):
    """Chunk borders fall inside lines, quoted values and bad rows; no row is lost or numbered wrongly."""
    import lettingo_features.data.readers as readers

    monkeypatch.setattr(readers, "CHUNK_BYTES", 256)
    lines = [line if i % 50 else "bad,row" for i, line in enumerate(GOOD)]
    path = write(tmp_path / "d", "ratings.csv", ratings(*lines))
    report, home = run(path, tmp_path / "home")
    assert [row[0] for row in quarantined(report)] == [i + 2 for i in range(0, 300, 50)]
    assert len(interactions(home)) == 294
    dat = "\n".join(line.replace(",", "::") for line in lines)  # no newline at the end
    write(tmp_path / "e", "ratings.dat", dat)
    report, other = run(tmp_path / "e", tmp_path / "other")
    assert [row[0] for row in quarantined(report)] == [i + 1 for i in range(0, 300, 50)]
    assert interactions(other) == interactions(home)
