"""What a failed try on a server means: ask again, and when; give the call up; or stop them all."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_RETRIED = frozenset({408, 409, 425, 429})  # and all of 500 and above
_NEXT_STEPS = {
    401: "Give a key that is valid there.",
    402: "Pay, or give another key.",
    403: "Give a key that may use this model.",
    404: "Name a model that the server lists under /models, and a base_url that ends as its API does (/v1).",
}
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0  # of the plain backoff, which doubles
_NO_MONEY = "insufficient_quota"  # OpenAI's code, on a 429 that no waiting cures


class BadAnswer(ValueError):
    """An answer that came whole but is not what the API promises."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed try.

    Parameters
    ----------
    error
        Class, as in `engine.Completion.error`.
    message
        Of the server or the client; may quote what was sent.
    retry
        Whether the same call may succeed later.
    retry_after
        Seconds that the server asks to wait, or None.
    next_step
        Not "" where every call would fail alike.
    """

    error: str
    message: str
    retry: bool = True
    retry_after: float | None = None
    next_step: str = ""

    @property
    def stops_all(self) -> bool:
        return bool(self.next_step)

    def pause(self, attempt: int, max_wait_s: float) -> float | None:
        """Seconds before the next try after try number ``attempt`` (from 0), or None where there should be none.

        At random, since many calls fail at once and must not come back at once: half to all of 0.5 s doubled with each
        try, at most 30 s and ``max_wait_s``. After a Retry-After, on top of what it asks for and up to a quarter more.
        """
        if not self.retry or (self.retry_after or 0.0) > max_wait_s:
            return None
        backoff = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S, max_wait_s) * random.uniform(0.5, 1.0)
        return backoff + (self.retry_after or 0.0) * random.uniform(1.0, 1.25)


def failure_of(error: Exception) -> Failure:
    """Class ``error``, raised by the openai client, a timeout or the reading of an answer.

    An exception that none of these raises is raised again: it is a bug, not a failure.
    """
    import openai

    message = str(error) or type(error).__name__
    match error:
        case TimeoutError() | openai.APITimeoutError():
            return Failure("timeout", message)
        case openai.APIStatusError():
            return _status(error, message)
        case openai.APIConnectionError():
            return Failure("connection", message)
        case ValueError() | openai.APIError():  # BadAnswer, JSON that ends early, a stray content type
            return Failure("bad_response", message)
    raise error


def _status(error: object, message: str) -> Failure:
    status: int = error.status_code
    name = f"http_{status}"
    if error.code == _NO_MONEY:
        return Failure(name, message, next_step=_NEXT_STEPS[402])
    if status in _NEXT_STEPS:
        return Failure(name, message, next_step=_NEXT_STEPS[status])
    retry = status in _RETRIED or status >= 500
    return Failure(name, message, retry, retry_after(error.response.headers.get("retry-after")) if retry else None)


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Seconds to wait by a Retry-After header (RFC 9110, 10.2.3): a number or an HTTP date.

    >>> retry_after("1.5"), retry_after("soon"), retry_after(None)
    (1.5, None, None)
    >>> retry_after("Wed, 21 Oct 2026 07:28:00 GMT", datetime(2026, 10, 21, 7, 27, tzinfo=UTC))
    60.0
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            at = parsedate_to_datetime(header)
        except ValueError:
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)  # "-0000" and a missing zone both mean UTC
        seconds = (at - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if seconds == seconds and seconds != float("inf") else None
