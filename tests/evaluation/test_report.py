"""The report is judged as a browser would read it: parsed, every tag and attribute looked at."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import product

import pyarrow as pa
import pytest

from lettingo_features.certificate import Certificate, FamilyCheck
from lettingo_features.evaluation import uplift_report as uplift
from lettingo_features.evaluation.report import ReportInputs, render_report, write_report
from lettingo_features.evaluation.report_page import duration, seconds
from lettingo_features.evaluation.report_users import UserStory
from lettingo_features.evaluation.splits import Split

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</svg><img src=x onerror=alert(1)>",
    "</title></style><iframe src=//evil.example>",
    '" onmouseover="alert(1)',
    "' style='position:fixed",
    "javascript:alert(1)",
    "<a href=https://evil.example>click</a>",
    "{{ 7 * 191 }}{% raw %}",
    "<!-- -->]]>&amp;&lt;script&gt;",
    "\u202etxt.exe <b>",
]


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2020, 3, day, hour, tzinfo=UTC)


def uplift_report(difference: float = 0.01, p_holm: float = 0.01) -> uplift.UpliftReport:
    names = (uplift.NO_PROFILE, uplift.SHUFFLED, uplift.STATISTICAL, uplift.LANGUAGE_MODEL)
    spread = ((0.04, 0.06), (0.1, 0.2), (0.05, 0.07))
    return uplift.UpliftReport(
        rows=tuple(uplift.Row(name, (0.05, 0.15, 0.06), spread, 0.001, 0.02) for name in names),
        comparisons=tuple(
            uplift.Comparison(*pair, difference, (difference - 0.005, difference + 0.005), p_holm / 3, p_holm)
            for pair in uplift.COMPARISONS
        ),
        buckets=(uplift.Bucket("1-9", 30, dict.fromkeys(names, 0.05)),),
        n_users=30,
        n_items=400,
        mean_candidates=380.5,
        n_train_queries=100,
        n_seeds=3,
        confidence=0.95,
        coverage={uplift.LANGUAGE_MODEL: 0.7},
        counts={"test_users": 30},
    )


def certificate(violations: int = 0) -> dict:
    family = FamilyCheck(
        family="profile_cutoff_at",
        rows_with_value=900,
        rows_without_value=100,
        violations=violations,
        worst_source_margin_s=60.0,
        worst_label_margin_s=None,
    )
    made = Certificate(
        rows=1_000,
        violations=violations,
        families=(family,),
        unchecked_views=(),
        service="ranker_profile_v1",
        views=("user_profile_meta_v1",),
        labels_sha256="a" * 64,
        table_sha256="b" * 64,
        versions={"feast": "0.68.0"},
        created_at="2020-04-01T00:00:00+00:00",
    )
    return made.model_dump(mode="json")


def interaction(
    day: int, title: str = "Northbound", categories: tuple[str, ...] = ("Drama",), rating: float | None = 4
):
    return {"event_timestamp": at(day), "title": title, "categories": list(categories), "rating": rating}


def profile(day: int, text: str = "Mostly Drama.") -> dict:
    return {"cutoff": at(day), "generator": "statistical", "text": text, "n_interactions": 2}


def table_counts(**reasons: int) -> dict:
    zero = dict.fromkeys(("appended", "already_there", "exact_duplicates"), 0)
    return {**zero, "rows_in": 61, "quarantined": sum(reasons.values()), "quarantine_reasons": reasons}


FULL = ReportInputs(
    title="Profiles as features",
    data_name="a small world",
    created_at="2020-04-01 10:00 UTC",
    activity=pa.table({"day": pa.array([at(1), at(3)], pa.timestamp("us", "UTC")), "interactions": pa.array([10, 51])}),
    cutoffs=[at(2)],
    split=Split(at(2), at(3), at(3, 12)),
    ingest={"interactions": table_counts(future=3), "items": table_counts()},
    users=[UserStory("u1", [interaction(1), interaction(3, "Moth")], [profile(2)])],
    stages=[("ingest", 2.0), ("profiles v1 at 1 cutoff", 6.0)],
    profile_stats={
        "release": "v1",
        "users_seen": 9,
        "users_unchanged": 4,
        "written": {"statistical": 5},
        "fallbacks": 0,
        "lint_findings": 1,
        "seconds": {"text": 4.0, "write": 1.0},
        "word_histogram": [(30, 2), (34, 3)],
    },
    uplift=uplift_report().to_dict(),
    certificate=certificate(),
    online={
        "profile_text_v1": {
            "rows": 20,
            "values": 220,
            "equal": True,
            "mismatches": {},
            "missing_rows": 0,
            "missing_columns": [],
            "median_ms": 4.26,
        }
    },
    commands=["lettingo profiles show USER"],
)
EMPTY = replace(
    FULL,
    activity=FULL.activity.slice(0, 0),
    cutoffs=[],
    ingest={},
    users=[],
    stages=[],
    profile_stats={},
    uplift={},
    certificate={},
    online={},
    commands=[],
)


class Page(HTMLParser):
    """Tags, attributes and texts as a browser sees them; style sheets kept apart."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.tags, self.attributes, self.texts, self._open = html, [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def page(inputs: ReportInputs) -> Page:
    return Page(render_report(inputs))


def hostile_inputs(evil: str) -> ReportInputs:
    """``evil`` in every string that comes from data or people."""
    history = [interaction(1, evil, (evil, "Drama")), interaction(3, evil, (evil,), None)]
    stats = {**FULL.profile_stats, "release": evil, "written": {evil: 5}}
    return replace(
        FULL,
        title=evil,
        data_name=evil,
        users=[UserStory(evil, history, [{**profile(2, f"Likes {evil} and Drama."), "generator": evil}])],
        ingest={"interactions": table_counts(**{evil: 2})},
        stages=[(f"ingest {evil}", 1.0)],
        profile_stats=stats,
        uplift={**FULL.uplift, "verdict": evil, "counts": {evil: 1}},
        certificate={**FULL.certificate, "service": evil, "views": [evil], "versions": {evil: evil}},
        online={evil: FULL.online["profile_text_v1"]},
        commands=[evil],
    )


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_strings_stay_text(evil):
    found, harmless = page(hostile_inputs(evil)), page(hostile_inputs("plain"))
    assert found.tags == harmless.tags  # not one tag more
    names = [(tag, name) for tag, name, _ in found.attributes]
    assert names == [(tag, name) for tag, name, _ in harmless.attributes]  # nor an attribute
    values = {value for _, name, value in found.attributes if name != "title"}
    assert not any(evil in (value or "") for value in values)
    assert found.text.count(" ".join(evil.split())) >= 8  # and it is shown, as it is


@pytest.mark.parametrize("inputs", [FULL, EMPTY, hostile_inputs(HOSTILE[3])], ids=["full", "empty", "hostile"])
def test_nothing_is_requested_and_nothing_runs(inputs):
    found = page(inputs)
    assert not {"script", "link", "iframe", "img", "object", "embed", "base", "form", "image", "use"} & set(found.tags)
    assert not [name for _, name, _ in found.attributes if name.startswith("on") or name in ("src", "href", "srcset")]
    [policy] = [value for tag, _, value in found.attributes if tag == "meta" and "default-src" in (value or "")]
    assert policy.startswith("default-src 'none'")


def test_no_url_at_all():
    html = render_report(FULL)
    assert not re.findall(r"https?:|(?<![:\w])//\w|url\(|@import", html)
    assert len(html.encode()) < 1_500_000


def test_characters_that_no_page_may_hold_are_replaced(tmp_path):
    user = UserStory("a\x00b", [interaction(1, "lone \ud800 surrogate")], [profile(2, "bell \x07")])
    path = write_report(replace(FULL, users=[user]), tmp_path / "reports" / "demo.html")
    text = path.read_text(encoding="utf-8")
    assert "a\N{REPLACEMENT CHARACTER}b" in text
    assert "lone \N{REPLACEMENT CHARACTER} surrogate" in text
    assert not re.search("[\x00\x07]", text)
    assert [file.name for file in path.parent.iterdir()] == ["demo.html"]


def test_a_huge_string_does_not_make_a_huge_page():
    huge = "x" * 1_000_000
    user = UserStory(huge, [interaction(1, huge, (huge,) * 50)] * 200, [profile(2, huge)] * 5)
    assert len(render_report(replace(FULL, users=[user]))) < 500_000


def test_missing_pieces_are_named():
    text = page(EMPTY).text
    for sentence in (
        "No interactions.",
        "No user has a profile yet.",
        "Not measured in this run.",
        "No server was asked in this run.",
        "No text was written in this run.",
        "No step was timed.",
    ):
        assert sentence in text
    assert "violations" not in text  # no certificate, no claim


def test_users_without_history_or_profile_and_an_empty_quarantine():
    users = [
        UserStory("a", [], []),
        UserStory("b", [interaction(1, rating=None)], []),
        UserStory("c", [], [profile(2)]),
    ]
    text = page(replace(FULL, users=users, ingest={"interactions": table_counts()})).text
    assert text.count("No profile has been written for this user.") == 2
    assert text.count("No interactions.") == 2
    assert "No row was put aside." in text


@pytest.mark.parametrize(
    ("difference", "p_holm", "words"),
    [
        (0.01, 0.01, "LM profiles raise nDCG@10"),
        (0.001, 0.9, "No gain shown"),
        (0.004, 0.01, "No gain shown"),  # p is small, but the interval over users and seeds holds zero
        (-0.01, 0.01, "worse than no profile"),
    ],
)
def test_verdict_is_shown_whichever_way_it_came_out(difference, p_holm, words):
    report = uplift_report(difference, p_holm)
    found = page(replace(FULL, uplift=report.to_dict()))
    assert report.verdict() in found.text and words in report.verdict()
    badge = {1: "better", 0: "no difference shown", -1: "worse"}[report.comparisons[0].sign]
    badges = [text for text in found.texts if text in ("better", "worse", "no difference shown")]
    assert badges == [badge] * len(uplift.COMPARISONS)
    assert f"{difference:+.4f} nDCG@10 of LM profile over no profile" in found.text


def test_certificate_counts_are_shown():
    assert "0 violations in 1,000 training rows of ranker_profile_v1" in page(FULL).text
    broken = page(replace(FULL, certificate=certificate(12)))
    assert "12 violations" in broken.text
    assert ("section", "class", "certificate broken") in broken.attributes


def test_differing_online_values_are_said():
    facts = {**FULL.online["profile_text_v1"], "equal": False, "mismatches": {"a": 2, "b": 1}, "missing_rows": 4}
    text = page(replace(FULL, online={"profile_text_v1": facts})).text
    assert "Not all of them are equal." in text and "profile_text_v1 20 220 3 4 rows 4.3 ms" in text
    assert "3 of 220 values served differ" in text


def test_same_inputs_same_bytes():
    assert render_report(FULL) == render_report(replace(FULL))


def _luminance(colour: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Contrast ratio of WCAG 2.2."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_have_contrast(theme):
    block = re.findall(r":root \{(.*?)\}", render_report(EMPTY), re.DOTALL)[theme]
    colours = {
        name: tuple(int(value[place : place + 2], 16) / 255 for place in (0, 2, 4))
        for name, value in re.findall(r"--([\w-]+): #(\w{6})", block)
    }
    tint = int(re.search(r"--tint: (\d+)%", block)[1]) / 100
    categories = [*(f"c{number}" for number in range(10)), "cx"]
    for text, ground in product(("ink", "muted", "accent", "good", "bad", "c5"), ("card", "paper")):
        assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)  # text
    for mark in (*categories, "control"):
        assert _contrast(colours[mark], colours["card"]) >= 3, mark  # bars and dots
    for name in categories:
        chip = tuple(tint * c + (1 - tint) * g for c, g in zip(colours[name], colours["card"], strict=True))
        assert _contrast(colours["ink"], chip) >= 4.5, name  # text of chips and marks


def test_durations_and_seconds():
    assert [duration(s) for s in (None, 1e-6, 0.5, 90, 21_600, 777_600)] == [
        "–",
        "1 µs",
        "500 ms",
        "1.5 min",
        "6 h",
        "9 days",
    ]
    assert [seconds(s) for s in (0.04, 9.94, 59.4, 59.6, 75)] == ["0.0 s", "9.9 s", "59 s", "1 min 0 s", "1 min 15 s"]
