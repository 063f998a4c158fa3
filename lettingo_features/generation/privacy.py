"""Personal data that a pattern can tell, masked in text on its way to a model and on its way back (extra ``privacy``).

Presidio's pattern recognisers, called one by one: no language model is loaded or downloaded, nothing is asked of the
network, and names of people stay, because half of all film and book titles are names. So this finds addresses and
numbers with a form, not every personal detail: it is a net below rule one, which is to keep such data out of titles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lettingo_features.config import Config
from lettingo_features.errors import MissingExtraError

if TYPE_CHECKING:
    from presidio_analyzer import EntityRecognizer, RecognizerResult

Entity = Literal["EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "US_SSN", "CRYPTO"]


class PrivacyConfig(Config):
    """What is masked."""

    entities: tuple[Entity, ...] = ("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IBAN_CODE", "IP_ADDRESS", "CRYPTO")
    """Kinds looked for; a US_SSN without a word beside it looks like many a number, so it is off."""
    phone_regions: tuple[str, ...] = ("US", "GB", "DE", "FR", "IN", "BR")
    """ISO countries whose national ways of writing a number count; numbers that start with + are found anyway."""
    min_score: float = Field(default=0.4, gt=0, le=1)
    """Presidio's confidence from which a finding is masked: 0.4 is a valid phone number, 1.0 a right check digit."""


class PrivacyFilter:
    """Masks findings by their kind.

    ::

        PrivacyFilter().mask(["Write to jo@example.org"])  # [("Write to (email address)", 1)]

    Raises
    ------
    MissingExtraError
        Presidio is not installed.
    """

    def __init__(self, config: PrivacyConfig | None = None) -> None:
        self.config = config or PrivacyConfig()
        self._recognizers = _recognizers(self.config)

    def mask(self, texts: Sequence[str]) -> list[tuple[str, int]]:
        """Each text with its findings replaced by their kind in brackets, and how many there were.

        A text that occurs several times is searched once. Measured on one core: 2 ms for a title, 25 ms for a prompt of
        10 rows (1,000 characters), 135 ms for one of 80 rows.
        """
        masked = {text: self._mask(text) for text in dict.fromkeys(texts)}
        return [masked[text] for text in texts]

    def _mask(self, text: str) -> tuple[str, int]:
        found = [
            result
            for recognizer in self._recognizers
            for result in recognizer.analyze(text, recognizer.supported_entities, None) or ()
            if result.score >= self.config.min_score
        ]
        kept = _without_overlap(found)
        for result in sorted(kept, key=lambda result: -result.start):  # from the end, so that places stay right
            kind = result.entity_type.replace("_", " ").lower()
            text = f"{text[: result.start]}({kind}){text[result.end :]}"
        return text, len(kept)


def _recognizers(config: PrivacyConfig) -> list[EntityRecognizer]:
    try:
        from presidio_analyzer import PatternRecognizer
        from presidio_analyzer import predefined_recognizers as presidio
    except ImportError as error:
        raise MissingExtraError("Masking personal data", "privacy") from error
    makers = {
        # Presidio's own checks the domain against a list of suffixes that it fetches from the network.
        "EMAIL_ADDRESS": lambda: PatternRecognizer("EMAIL_ADDRESS", patterns=presidio.EmailRecognizer.PATTERNS),
        "PHONE_NUMBER": lambda: presidio.PhoneRecognizer(supported_regions=config.phone_regions),
        "CREDIT_CARD": presidio.CreditCardRecognizer,
        "IBAN_CODE": presidio.IbanRecognizer,
        "IP_ADDRESS": presidio.IpRecognizer,
        "US_SSN": presidio.UsSsnRecognizer,
        "CRYPTO": presidio.CryptoRecognizer,
    }
    return [makers[entity]() for entity in config.entities]


def _without_overlap(results: Iterable[RecognizerResult]) -> list[RecognizerResult]:
    """Of findings that overlap, the surest, then the longest."""
    kept: list[RecognizerResult] = []
    for result in sorted(results, key=lambda result: (-result.score, result.start - result.end)):
        if all(result.end <= other.start or other.end <= result.start for other in kept):
            kept.append(result)
    return kept
