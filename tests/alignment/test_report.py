"""The alignment report, parsed as a browser would, beside the files that it was made from."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lettingo_features.alignment.report import write_align_report
from lettingo_features.errors import DataError
from tests.alignment.report_run import METRICS, write_run
from tests.evaluation.test_report import HOSTILE, Page, _contrast

COMMAND = "lettingo align run --name first"


def page(run_dir: Path, command: str = COMMAND) -> Page:
    return Page(write_align_report(run_dir, run_dir / "report.html", command).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("alignment") / "first")


@pytest.fixture(scope="module")
def found(run_dir) -> Page:
    return page(run_dir)


@pytest.fixture
def copied(run_dir, tmp_path) -> Path:
    return shutil.copytree(run_dir, tmp_path / "first")


def document(run_dir: Path, name: str):
    return json.loads((run_dir / name).read_text())


@pytest.mark.parametrize("evil", HOSTILE)
def test_hostile_strings_stay_text(found, tmp_path, evil):
    hostile = page(write_run(tmp_path / "first", evil), command=evil)
    assert set(hostile.tags) == set(found.tags)
    assert hostile.tags.count("style") == found.tags.count("style")  # one of the page, one of each plot
    names = {(tag, name) for tag, name, _ in hostile.attributes}
    assert names == {(tag, name) for tag, name, _ in found.attributes}
    assert not [value for _, name, value in hostile.attributes if name != "title" and evil in (value or "")]
    assert hostile.text.count(" ".join(evil.split())) >= 30  # shown, as it is: in texts, names, settings


def test_nothing_is_requested_and_nothing_runs(found):
    assert not {"script", "link", "iframe", "img", "object", "embed", "base", "form", "image", "use"} & set(found.tags)
    assert not [name for _, name, _ in found.attributes if name.startswith("on") or name in ("src", "href", "srcset")]
    [policy] = [value for tag, _, value in found.attributes if tag == "meta" and "default-src" in (value or "")]
    assert policy.startswith("default-src 'none'")
    assert not re.findall(r"https?:|(?<![:\w])//\w|url\(|@import", found.html)


def test_the_verdict_comes_first_with_its_reasons(run_dir, found):
    verdict = document(run_dir, "gate/verdict.json")
    assert verdict["decision"] == "reject"
    assert f"Reject: {verdict['reasons'][0]}" in found.text
    places = [found.text.index(reason) for reason in verdict["reasons"]]
    assert places == sorted(places) and places[0] < found.text.index("Everyone that was judged")
    assert "3 plain without a target" in found.text
    assert "coverage plain 1 0.9 at most 0.01 lower broken" in found.text
    assert "cost 1 not measured plain unmeasured" in found.text
    assert "claims nothing nothing at most 0.02 higher nothing to check" in found.text


def test_figures_of_the_gate_are_those_of_its_file(run_dir, found):
    for each in document(run_dir, "gate/verdict.json")["comparisons"]:
        low, high = each["interval"]
        row = f"{each['difference']:+.3g} [{low:+.3g}, {high:+.3g}] {each['p_value']:.4f} {each['p_holm']:.4f}"
        assert f"{each['metric']} 8 8 {each['released']:.4g} {each['candidate']:.4g} {row}" in found.text
    for row in document(run_dir, "gate/table.json"):
        low, high = row["interval"]
        assert f"{row['arm']} {row['mean']:.4g} [{low:.4g}, {high:.4g}]" in found.text
        if row["arm"] != "base":
            low, high = row["difference_interval"]
            gain = f"{row['difference']:+.3g} [{low:+.3g}, {high:+.3g}] p 0.0321"
            assert f"{row['arm']} − base {gain}" in found.text


def test_metrics_that_decide_come_first(found):
    section = found.text[found.text.index("Everyone that was judged") : found.text.index("What changed in the texts")]
    assert [section.index(f"{metric} base ") for metric in (*METRICS, "reward")] == sorted(
        section.index(f"{metric} base ") for metric in (*METRICS, "reward")
    )


def test_every_plot_is_there(found):
    classes = [value for _, name, value in found.attributes if name == "class"]
    assert classes.count("gate-plot") == len(METRICS)
    assert found.tags.count("polyline") == 7  # DPO: loss, accuracy, margin, each with held-out pairs; SFT: loss
    assert found.tags.count("figure") == len(METRICS) + 4 + 2  # plots, panels, histograms
    labels = [value for _, name, value in found.attributes if name == "aria-label"]
    assert "Histogram: margin" in labels and "loss by step" in labels


def test_pair_statistics_are_those_of_their_file(run_dir, found):
    facts = document(run_dir, "pairs/pairs.json")
    assert f"{facts['n_pairs']} pairs (capped) of {facts['n_users_with_pairs']} of 8 users" in found.text
    assert f"comparisons with a better text {facts['n_comparisons']} margin above its noise" in found.text
    assert "no margin above noise 1" in found.text
    spread = " ".join(f"{facts['margins'][name]:.4g}" for name in ("min", "q25", "median", "q75", "max", "mean"))
    assert f"min q25 median q75 max mean margin {spread} noise of the margin" in found.text
    wins, kept = (facts[name]["lm plain"]["statistical"] for name in ("wins", "pair_wins"))
    assert f"{wins} ({kept})" in found.text
    bars = [int(bar[1]) for text in found.texts if (bar := re.search(r": (\d+) pairs$", text))]
    assert sum(bars) == 2 * facts["n_pairs"]  # by margin and by length


def test_candidates_of_the_largest_the_median_and_no_margin(found):
    section = found.text[found.text.index("Candidates of three users") :]
    users = re.findall(r"User (u\d) (the largest margin|the median|no pair)", section)
    assert users == [("u6", "the largest margin"), ("u3", "the median"), ("u7", "no pair")]
    assert "history of u6: plain" in section


def test_candidates_show_rewards_and_what_became_of_them(run_dir, found):
    section = found.text[found.text.index("Candidates of three users") :]
    text = section[section.index("User u6") : section.index("User u3")]
    assert "#1 lm plain chosen over #3, #2 value +0.7 ± 0.02, raw +0.7 · 3 words Loves Drama plain" in text
    assert "#2 statistical chosen over #3 rejected for #1 value +0.175 ± 0.02" in text
    assert "#3 lm plain · written 2 times rejected for #1, #2 value -0.7" in text  # equal texts once
    margins = pq.read_table(run_dir / "pairs.parquet", filters=[("user_id", "=", "u6")])["margin"].to_pylist()
    assert f"#1 over #3: margin {max(margins):.4g} ± 0.028" in text


def test_reward_facts_controls_and_effects(found):
    for words in (
        "base 0.0123 shuffled -0.0045",
        "scrub ratings yes",
        "own 0.0125 by chance 0.01",
        "loss 5.432 behaviour · plain 1",
        "targets 77 candidates without targets 5",
        "spread 0.1 explained 0.05 noise 0.02",
        "log words +0.02 ± 0.005 style plain -0.01 ± 0.02",
        "metrics · kl 1.234",
    ):
        assert words in found.text


def test_curves_say_where_they_begin_and_end(found):
    # of 200 values 0.7 - step / 400 the first and the last 20
    first, last = (np.mean([0.7 - step / 400 for step in steps]) for steps in (range(1, 21), range(181, 201)))
    assert f"training {first:.4g} → {last:.4g}; a point is the mean of 2" in found.text
    assert "held-out 0.25" in found.text and "training 2.9 → 2.7" in found.text


def test_changed_texts_are_marked_word_by_word(found):
    marked = re.findall(r"<(ins|del)>(.*?)</\1>", found.html)
    assert marked[:3] == [("del", "Crime"), ("ins", "Comedy"), ("ins", "and &#34;Alien&#34;")]
    section = found.text[found.text.index("What changed in the texts") : found.text.index("Candidates of three users")]
    assert re.findall(r"User (u\d) plain", section) == ["u2", "u1", "u3", "u7"]  # gains 3, 2, 1; the one that lost
    assert section.index("Lost most") < section.index("User u7")
    assert "same as base base 8 1 7 7 7 3.00 3 – sft 8 1 7 7 7 3.00 3 100.0 % aligned 8 1 9 9 9 4.00 4 0.0 %" in section


def test_shuffled_labels_are_said(found, copied):
    warning = "Negative control: chosen and rejected were swapped at random."
    assert warning not in found.text
    facts = document(copied, "run.json")
    facts["config"]["shuffle_labels"] = True
    (copied / "run.json").write_text(json.dumps(facts))
    assert warning in page(copied).text


def test_the_run_is_said(found):
    assert COMMAND in found.text
    assert "reward cutoff 2024-03-01T00:00:00+00:00 gate users 1,234" in found.text
    assert "1 min 0 s in all" in found.text and '"name": "plain"' in found.text


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("gate/verdict.json", "The gate has not decided in this run."),
        ("gate/scores.parquet", "No scores were kept to plot."),
        ("gate/table.json", "No arm was judged in this run."),
        ("gate/texts.parquet", "No texts of the gate's users were kept."),
        ("candidates.parquet", "No candidate has a reward yet."),
        ("rewards.parquet", "No candidate has a reward yet."),
        ("reward.json", "No reward was computed in this run."),
        ("pairs/pairs.json", "No pairs were made in this run."),
        ("run.json", "The run has no record of its frame."),
        ("pairs.parquet", "no pair, of these the widest spread"),
        ("prompts.parquet", "the largest margin"),
        ("diversity.json", "The reward"),
        ("sft/training.csv", "DPO"),
    ],
)
def test_a_missing_file_is_said(found, copied, missing, sentence):
    (copied / missing).unlink()
    assert sentence in page(copied).text
    if sentence.endswith("."):
        assert sentence not in found.text


def test_an_empty_run(tmp_path):
    found = page(tmp_path)
    assert found.text.count("make this section.") + found.text.count("makes this section.") == 7
    assert COMMAND in found.text and "svg" not in found.tags


def test_scores_of_other_users_than_the_verdict_s_are_said(copied):
    scores = pq.read_table(copied / "gate" / "scores.parquet", filters=[("user_id", "!=", "u0 plain")])
    pq.write_table(scores, copied / "gate" / "scores.parquet")
    assert "The scores are those of 7 users, the verdict's of 8." in page(copied).text


def test_no_run_and_broken_files_are_errors(copied):
    with pytest.raises(DataError, match="is no directory"):
        page(copied / "nowhere")
    (copied / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"run\.json is not whole JSON"):
        page(copied)
    (copied / "run.json").unlink()
    (copied / "rewards.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"rewards\.parquet cannot be read"):
        page(copied)


def test_a_huge_text_does_not_make_a_huge_page(tmp_path):
    assert len(page(write_run(tmp_path / "first", written="x" * 1_000_000)).html) < 500_000


def test_same_files_same_bytes(run_dir, found):
    assert page(run_dir).html == found.html


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_marked_words_have_contrast(found, theme):
    block = re.findall(r":root \{(.*?)\}", found.html, re.DOTALL)[theme]
    colours = {
        name: tuple(int(value[place : place + 2], 16) / 255 for place in (0, 2, 4))
        for name, value in re.findall(r"--([\w-]+): #(\w{6})", block)
    }
    tint = int(re.search(r"--tint: (\d+)%", block)[1]) / 100
    for name in ("good", "bad"):
        ground = tuple(tint * c + (1 - tint) * g for c, g in zip(colours[name], colours["card"], strict=True))
        assert _contrast(colours["ink"], ground) >= 4.5
    for line in ("c0", "c1"):
        assert _contrast(colours[line], colours["card"]) >= 3
