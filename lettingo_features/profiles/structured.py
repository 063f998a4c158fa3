"""Profiles with provenance: a JSON answer whose claims name the interactions that support them.

The schema and the strict parser are one pydantic model, so an engine that decodes under the schema cannot fail the
parser except by being cut off. Numbers are those of the prompt's rows (`history.ROW`): a reference to a row that was
not shown is dropped, and a claim that keeps no reference goes with it; both are counted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lettingo_features.errors import AnswerError
from lettingo_features.generation.untrusted import clean
from lettingo_features.profiles.lint import lint

PROFILE_CHARS, CLAIM_CHARS = 1_200, 200
"Caps on the profile (about 200 words, whatever the caller's cap in words) and on one claim."
MAX_CLAIMS, MAX_SUPPORT = 8, 12
"Claims per profile, and interactions named per claim."
_REJECTED_CHARS, _REASON_CHARS = 1_000, 160
_WHITE = " \t\r\n"
_BLANKS = dict.fromkeys(
    range(32), " "
)  # JSON allows no control character in a string; grammars of decoders let tabs by


class _Claim(BaseModel):
    model_config = ConfigDict(title="Claim", extra="forbid", strict=True)
    claim: Annotated[str, Field(min_length=1, max_length=CLAIM_CHARS)]
    interactions: Annotated[list[int], Field(max_length=MAX_SUPPORT)]


class _Answer(BaseModel):
    model_config = ConfigDict(title="Answer", extra="forbid", strict=True)
    profile: Annotated[str, Field(min_length=1, max_length=PROFILE_CHARS)]
    claims: Annotated[list[_Claim], Field(max_length=MAX_CLAIMS)]


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement and the numbers of the rows that support it, ascending, at least one."""

    text: str
    interactions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StructuredProfile:
    """A parsed answer; text and claims are linted, and the caller caps the text in words.

    Parameters
    ----------
    n_dropped_references
        References to rows that were not shown.
    n_dropped_claims
        Claims without a supporting row, or with nothing left after lint.
    n_lint
        Findings of `lint.lint` in the text and the claims.
    """

    text: str
    claims: tuple[Claim, ...]
    n_dropped_references: int
    n_dropped_claims: int
    n_lint: int


def json_schema() -> str:
    """JSON schema of the answer: closed objects, every property required, every length bounded, no references."""
    schema = _Answer.model_json_schema()
    schema["properties"]["claims"]["items"] = schema.pop("$defs")["_Claim"]  # hosted APIs differ in what they resolve
    return json.dumps(schema, separators=(",", ":"))


def parse(text: str, n_rows: int) -> StructuredProfile:
    """The profile in ``text``, an answer to a prompt that showed rows 1..``n_rows``.

    >>> parse('{"profile":"Likes Drama.","claims":[{"claim":"Likes Drama","interactions":[2,99]}]}', n_rows=10)
    StructuredProfile(text='Likes Drama.', claims=(Claim(text='Likes Drama', interactions=(2,)),), \
n_dropped_references=1, n_dropped_claims=0, n_lint=0)

    Raises
    ------
    AnswerError
        ``text`` is not one JSON object of the schema and nothing else; the message fits `repair_prompt`.
    """
    try:
        answer = _Answer.model_validate_json(text.strip(_WHITE).translate(_BLANKS))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = first["loc"][:-1] if first["type"] == "extra_forbidden" else first["loc"]  # not the key: it is answer
        where = ".".join(map(str, place))
        raise AnswerError(f"{where}: {first['msg']}" if where else first["msg"]) from None
    except ValueError:  # lone surrogates
        raise AnswerError("The answer is not UTF-8 text.") from None
    profile, n_lint = lint(answer.profile, max_words=None)
    claims, n_references = [], 0
    for claim in answer.claims:
        line, found = lint(claim.claim, max_words=None)
        named = set(claim.interactions)
        shown = tuple(sorted(n for n in named if 1 <= n <= n_rows))
        n_references += len(named) - len(shown)
        n_lint += found
        if line and shown:
            claims.append(Claim(line, shown))
    return StructuredProfile(profile, tuple(claims), n_references, len(answer.claims) - len(claims), n_lint)


def repair_prompt(data: str, broken: str, reason: str) -> str:
    """``data`` (a rendered prompt) with the answer that broke the form, and why, as one more JSON line.

    For one more attempt on engines that cannot decode under a schema. The broken answer is text of unknown intent: it
    is cleaned and capped like a title. The line takes at most about 1,200 characters.
    """
    rejected = {"rejected_answer": clean(broken, _REJECTED_CHARS), "reason": clean(reason, _REASON_CHARS)}
    return f"{data}\n{json.dumps(rejected, ensure_ascii=False, separators=(',', ':'))}"
