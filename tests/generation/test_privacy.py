"""What the pattern recognisers mask, and what they leave to film and book titles. Needs the extra ``privacy``."""

from __future__ import annotations

import csv
import gzip
import socket

import pytest

from lettingo_features.generation.privacy import PrivacyConfig, PrivacyFilter

pytest.importorskip("presidio_analyzer", reason="needs the extra 'privacy': pip install 'lettingo_features[privacy]'")

TEXTS = [  # text, masked, findings
    ("Write to jo.doe@example.org today", "Write to (email address) today", 1),
    ("Call +1 415 555 2671 or (212) 555-0187", "Call (phone number) or (phone number)", 2),
    ("Card 4111 1111 1111 1111", "Card (credit card)", 1),
    ("Card 4111 1111 1111 1112", "Card 4111 1111 1111 1112", 0),  # a wrong check digit
    ("IBAN DE89370400440532013000", "IBAN (iban code)", 1),
    ("From 192.168.10.12", "From (ip address)", 1),
    ("Being John Malkovich (1999)", "Being John Malkovich (1999)", 0),  # names stay
    ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey (1968)", 0),
    ("Startup.com", "Startup.com", 0),
    ("", "", 0),
]


@pytest.fixture(scope="module")
def privacy() -> PrivacyFilter:
    return PrivacyFilter(PrivacyConfig())


@pytest.mark.parametrize(("text", "masked", "findings"), TEXTS)
def test_mask(privacy, text, masked, findings) -> None:
    assert privacy.mask([text]) == [(masked, findings)]


def test_masking_twice_is_masking_once(privacy) -> None:
    once = [text for text, _ in privacy.mask([text for text, _, _ in TEXTS])]
    assert privacy.mask(once) == [(text, 0) for text in once]


def test_only_what_is_asked_for() -> None:
    mails = PrivacyFilter(PrivacyConfig(entities=("EMAIL_ADDRESS", "US_SSN")))
    assert mails.mask(["a@example.org 192.168.10.12"]) == [("(email address) 192.168.10.12", 1)]


def test_nothing_is_asked_of_the_network(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert PrivacyFilter().mask(["new-address@some.example.org"])[0][1] == 1


def test_real_titles_stay(privacy, shared_data) -> None:
    with gzip.open(shared_data / "ml-latest-small-2016" / "movies.csv.gz", "rt", encoding="utf-8") as lines:
        titles = [row["title"] for row in csv.DictReader(lines)][::5]
    masked = [title for title, (_, found) in zip(titles, privacy.mask(titles), strict=True) if found]
    assert len(titles) > 1_000 and not masked
