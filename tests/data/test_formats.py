"""Each public format, from a hand-written sample's bytes to canonical rows; and what is said of files that are none."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lettingo_features.data.mapping import ColumnMapping
from lettingo_features.errors import FormatError
from tests.data.files import NOW, T0, interactions, items, quarantined, ratings, run, write

US = 1_000_000


def test_movielens_100k(tmp_path):
    data = tmp_path / "ml-100k"
    write(data, "u.data", f"196\t242\t3\t{T0}\n186\t302\t5\t{T0 + 1}\n")
    flags = "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0"  # Animation, Children's, Comedy
    unknown = "1" + "|0" * 18
    lines = f'1|Toy "Story" (1995)|01-Jan-1995||http://x|{flags}\n2|Misérables, Les (1995)||||{unknown}\n'
    write(data, "u.item", lines.encode("latin-1"))
    write(data, "u.user", "1|24|M|technician|85711\n")
    report, home = run(data, tmp_path / "home")
    assert report.format == "ml-100k"
    assert [path.rsplit("/")[-1] for path in report.ignored_files] == ["u.user"]
    assert interactions(home) == [("186", "302", 5.0, (T0 + 1) * US), ("196", "242", 3.0, T0 * US)]
    assert items(home) == [
        ("1", 'Toy "Story" (1995)', ["Animation", "Children's", "Comedy"], None),  # quotes are part of the title
        ("2", "Misérables, Les (1995)", [], None),  # latin-1; the flag "unknown" is no category
    ]


def test_movielens_1m(tmp_path):
    data = tmp_path / "ml-1m"
    write(data, "ratings.dat", f"1::1193::5::{T0}\r\n1::661::3::{T0 + 1}\r\n")
    write(data, "movies.dat", "73::Misérables, Les (1995)::Drama|Musical\n".encode("latin-1"))
    report, home = run(data, tmp_path / "home")
    assert report.format == "ml-1m"
    assert interactions(home) == [("1", "1193", 5.0, T0 * US), ("1", "661", 3.0, (T0 + 1) * US)]
    assert items(home) == [("73", "Misérables, Les (1995)", ["Drama", "Musical"], None)]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_movielens_csv(tmp_path, suffix):
    data = tmp_path / "ml-latest"
    write(data, f"ratings.csv{suffix}", ratings(f"1,31,2.5,{T0}"))
    movies = 'movieId,title,genres\n31,"Dangerous ""Minds"", The (1995)",Drama\n32,Nothing,(no genres listed)\n'
    write(data, f"movies.csv{suffix}", movies)
    write(data, f"tags.csv{suffix}", f"userId,movieId,tag,timestamp\n1,31,dull,{T0}\n")
    report, home = run(data, tmp_path / "home")
    assert report.format == "ml-csv"
    assert len(report.ignored_files) == 1
    assert interactions(home) == [("1", "31", 2.5, T0 * US)]
    assert items(home) == [
        ("31", 'Dangerous "Minds", The (1995)', ["Drama"], None),
        ("32", "Nothing", [], None),
    ]


@pytest.mark.parametrize(
    ("ratings_name", "movies_name", "separator", "header"),
    [
        ("ratings.dat", "movies.dat", "::", False),  # the log as published
        ("ratings_100k.csv.gz", "movies.csv.gz", ",", True),  # the CSV edition
    ],
)
def test_movietweetings_keeps_zero_padding(tmp_path, ratings_name, movies_name, separator, header):
    data = tmp_path / "mt"
    top = ("userId,movieId,rating,timestamp\n", "movieId,title,genres\n") if header else ("", "")
    write(data, ratings_name, top[0] + separator.join(["1", "0068646", "10", str(T0)]) + "\n")
    write(data, movies_name, top[1] + separator.join(["0002844", "Fantômas (1913)", "Crime|Drama"]) + "\n")
    report, home = run(data, tmp_path / "home")
    assert report.format == "movietweetings"
    assert interactions(home) == [("1", "0068646", 10.0, T0 * US)]
    assert items(home) == [("0002844", "Fantômas (1913)", ["Crime", "Drama"], None)]


def test_amazon_reviews_jsonl(tmp_path):
    data = tmp_path / "amazon"
    review = {"user_id": "AE23", "parent_asin": "B08", "asin": "B01", "rating": 5.0, "timestamp": T0 * 1000 + 579}
    rows = [
        review | {"title": "Nice", "text": "Smells\ngood"},
        review | {"timestamp": T0 * 1000 + 580, "title": "", "text": None, "images": []},
    ]
    write(data, "All_Beauty.jsonl.gz", "".join(json.dumps(row) + "\n" for row in rows))
    meta = {"parent_asin": "B08", "title": "Oil", "main_category": "All Beauty", "description": ["One.", "Two."]}
    write(data, "meta_All_Beauty.jsonl.gz", json.dumps(meta | {"categories": []}) + "\n")
    report, home = run(data, tmp_path / "home")
    assert report.format == "amazon-2023"
    assert [file.timestamp_unit for file in report.files] == ["ms", None]
    assert interactions(home, "user_id, item_id, rating, epoch_us(event_timestamp), review_text") == [
        ("AE23", "B08", 5.0, T0 * US + 579_000, "Nice\nSmells\ngood"),  # the review's own title is its first line
        ("AE23", "B08", 5.0, T0 * US + 580_000, None),
    ]
    assert items(home) == [("B08", "Oil", ["All Beauty"], "One.\nTwo.")]


def test_amazon_categories_are_used_where_there_are_any(tmp_path):
    meta = {"parent_asin": "B1", "title": None, "main_category": "Books", "categories": ["Books", "A|B"]}
    write(tmp_path / "a", "meta_Books.jsonl", json.dumps(meta) + "\n")
    _, home = run(tmp_path / "a", tmp_path / "home")
    assert items(home) == [("B1", None, ["Books", "A|B"], None)]


def test_amazon_rating_only_csv(tmp_path):
    header = "user_id,parent_asin,rating,timestamp"
    write(tmp_path / "a", "All_Beauty.csv", ratings(f"AGKA,0B08,4.0,{T0}123", header=header))
    report, home = run(tmp_path / "a", tmp_path / "home")
    assert report.format == "amazon-2023"
    assert interactions(home) == [("AGKA", "0B08", 4.0, T0 * US + 123_000)]


@pytest.mark.parametrize(
    ("folder", "format", "n_interactions", "n_items", "unit"),
    [
        ("movietweetings", "movietweetings", 100_000, 10_506, "s"),
        ("ml-latest-small-2016", "ml-csv", 100_004, 9_125, "s"),
        ("ml100k-llm-profiles", "ml-100k-profiles", 100_000, 1_682, "s"),
        ("amazon2023-allbeauty-5core-reviews", "amazon-2023", 2_535, 356, "ms"),
    ],
)
def test_real_directories_are_recognised(shared_data, tmp_path, folder, format, n_interactions, n_items, unit):
    report, home = run(shared_data / folder, tmp_path / "home")
    assert report.format == format
    assert (report.interactions.appended, report.items.appended) == (n_interactions, n_items)
    assert report.quarantine is None
    assert {file.timestamp_unit for file in report.files} == {None, unit}
    assert len(items(home)) == n_items


def test_generic_csv_with_a_mapping(tmp_path):
    path = write(
        tmp_path, "log.csv", "who;what;when;how\n007;x;2013-02-28T14:38:27Z;view\n007;y;2013-02-28 16:38:27+02;\n"
    )
    mapping = ColumnMapping(user_id="who", item_id="what", timestamp="when", event_type="how", delimiter=";")
    report, home = run(path, tmp_path / "home", mapping=mapping)
    assert report.files[0].timestamp_unit == "iso"
    assert interactions(home, "user_id, item_id, rating, event_type, epoch_us(event_timestamp)") == [
        ("007", "x", None, "view", T0 * US),
        ("007", "y", None, "rating", T0 * US),  # an offset is applied; no event type means a rating
    ]


def test_generic_parquet_with_own_types(tmp_path):
    when = pa.array([T0 * US + 5], pa.timestamp("us", tz="Europe/Paris"))
    log = pa.table(
        {"user_id": pa.array([7]), "item_id": ["0x"], "event_timestamp": when, "rating": pa.array([3.5], pa.float32())}
    )
    catalogue = pa.table({"sku": ["0x"], "name": ["Thing"], "tags": [["a", "b|c"]]})
    pq.write_table(log, tmp_path / "log.parquet")
    pq.write_table(catalogue, tmp_path / "catalogue.parquet")
    mapping = ColumnMapping(item_key="sku", title="name", categories="tags")
    files = [tmp_path / "log.parquet", tmp_path / "catalogue.parquet"]
    _, home = run(files, tmp_path / "home", mapping=mapping)
    assert interactions(home) == [("7", "0x", 3.5, T0 * US + 5)]
    assert items(home) == [("0x", "Thing", ["a", "b|c"], None)]


@pytest.mark.parametrize(
    ("texts", "unit"),
    [
        ([f"{T0}", f"{T0}.5"], "s"),  # fractions of seconds survive
        ([f"{T0}000", f"{T0}500"], "ms"),
        ([f"{T0}000000", f"{T0}500000"], "us"),
        ([f"{T0}000000000", f"{T0}500000000"], "ns"),
        (["2013-02-28T14:38:27Z", "2013-02-28 14:38:27.5"], "iso"),  # no offset means UTC
    ],
)
def test_every_clock_gives_the_same_instants(tmp_path, texts, unit):
    write(tmp_path / "d", "ratings.csv", ratings(*(f"1,{i},3,{text}" for i, text in enumerate(texts))))
    report, home = run(tmp_path / "d", tmp_path / "home")
    assert report.files[0].timestamp_unit == unit
    assert [row[3] for row in interactions(home)] == [T0 * US, T0 * US + 500_000]


def test_named_unit_settles_an_ambiguous_column(tmp_path):
    path = write(tmp_path, "x.csv", "user_id,item_id,timestamp\na,b,86400\n")  # 1970-01-02: no unit's magnitude
    with pytest.raises(FormatError, match=r"ambiguous: of its first 1 times no unit covers 95 %.*timestamp_unit"):
        run(path, tmp_path / "home")
    mapping = ColumnMapping(timestamp_unit="s")
    _, home = run(path, tmp_path / "home", mapping=mapping)
    assert interactions(home) == [("a", "b", None, 86_400 * US)]


def test_mixed_clocks_are_ambiguous(tmp_path):
    write(tmp_path / "d", "ratings.csv", ratings(f"1,1,3,{T0}", f"1,2,3,{T0}000"))
    with pytest.raises(FormatError, match=r"ambiguous.*s: 1, ms: 1"):
        run(tmp_path / "d", tmp_path / "home")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "ratings.csv",
            f"userId,movieId,timestamp\n1,2,{T0}\n",
            r"1 of its columns are missing: rating \(found: userId",
        ),
        ("ratings.csv", "", r"empty \(0 bytes\)"),
        ("ratings.csv", "\n\n", "blank lines only"),
        ("ratings.csv", ratings(), "a header without rows"),
        (
            "ratings.csv",
            ratings("1,2,3,soon"),
            "wrong type: none of its first 1 values is a number or an ISO 8601 time",
        ),
        ("notes.txt", "hello", r"Unknown format: none of 1 files \(notes.txt\)"),
        ("x.csv", "a,b\n1,2\n", "Unknown format"),
        ("x.parquet", b"PAR1 half", r"damaged or only half written.*again"),
    ],
)
def test_files_that_are_no_data(tmp_path, name, text, message):
    write(tmp_path / "d", name, text)
    with pytest.raises(FormatError, match=f"(?s){message}"):
        run(tmp_path / "d", tmp_path / "home")
    assert not list((tmp_path / "home" / "offline").rglob("*.parquet"))


def test_truncated_files(tmp_path):
    rows = {"user_id": [str(i) for i in range(5000)], "item_id": ["1"] * 5000, "timestamp": [T0] * 5000}
    pq.write_table(pa.table(rows), tmp_path / "whole.parquet")
    zipped = write(
        tmp_path, "whole.csv.gz", ratings(*(f"{i},{i * 7919 % 5003},3,{T0}" for i in range(5000)))
    ).read_bytes()
    whole = (tmp_path / "whole.parquet").read_bytes()
    for name, data in {"log.parquet": whole[: len(whole) // 2], "ratings.csv.gz": zipped[: len(zipped) // 2]}.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(FormatError, match=r"damaged or only half written; nothing was ingested"):
            run(path, tmp_path / "home")


def test_wrong_types_of_parquet_columns(tmp_path):
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user_id": [1.0], "item_id": ["1"], "timestamp": [T0]}), path)
    with pytest.raises(FormatError, match=r"'user_id' is of the wrong type \(double\).*text or integers"):
        run(path, tmp_path / "home")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "netflix"}, r"Unknown format 'netflix'. Known are: ml-100k, ml-1m"),
        ({"format": "ml-1m", "mapping": ColumnMapping()}, "mapping goes with the format 'table'"),
        (
            {"mapping": ColumnMapping(rating="stars")},
            r"no column .*'stars' \(found: userId",
        ),
    ],
)
def test_options_that_do_not_fit(tmp_path, options, message):
    path = write(tmp_path, "ratings.csv", ratings(f"1,2,3,{T0}"))
    with pytest.raises(FormatError, match=message):
        run(path, tmp_path / "home", **options)


def test_absent_directory(tmp_path):
    with pytest.raises(FormatError, match="does not exist"):
        run(tmp_path / "nowhere", tmp_path / "home")


def test_two_data_sets_at_once(tmp_path):
    one = write(tmp_path, "ratings.csv", ratings(f"1,2,3,{T0}"))
    two = write(tmp_path, "u.data", f"1\t2\t3\t{T0}\n")
    with pytest.raises(FormatError, match=r"2 formats \(ml-100k, ml-csv\)"):
        run([one, two], tmp_path / "home")


def test_a_named_format_needs_no_file_name(tmp_path):
    path = write(tmp_path, "export.csv", ratings(f"1,0000002,3,{T0}"))
    report, home = run(path, tmp_path / "home", format="ml-csv", now=NOW)
    assert report.format == "ml-csv"
    assert interactions(home) == [("1", "0000002", 3.0, T0 * US)]


def test_bad_bytes_cost_their_row_or_leave_a_mark_but_never_the_file(tmp_path):
    data = tmp_path / "d"
    bad_id, good = b"\xff1,2,3,%d\n" % T0, b"1,2,3,%d\n" % T0
    write(data, "ratings.csv", b"userId,movieId,rating,timestamp\n" + bad_id + good)
    write(data, "movies.csv", b"movieId,title,genres\n2,Caf\xe9 \x00,Drama\n")
    report, home = run(data, tmp_path / "home")
    assert [row[:2] for row in quarantined(report)] == [(2, ["malformed_user_id"])]
    assert items(home) == [("2", "Caf\ufffd \ufffd", ["Drama"], None)]
    assert [file.cells_replaced for file in report.files] == [1, 1]
