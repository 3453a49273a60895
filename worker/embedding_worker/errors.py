"""The tree of errors, by reaction: what the catcher has to do, never where the error came from.

Each error is raised once, at the boundary that translates it (the database, a provider). No error carries a row's text.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Self


class EmbeddingError(Exception):
    """The root of this project's errors."""


class SourceRefused(EmbeddingError):
    """Someone must act: the source waits, with this reason (CamelCase) and sentence in its conditions."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class RowsRefused(SourceRefused):
    """A value in some row of the statement may be the cause (a constraint, a trigger, a cast): try with fewer rows.

    `sqlstate` is PostgreSQL's code, and `constraint` the name of the constraint that is violated; empty if there is none. If
    `is_of_the_table`, a right or an object is missing, so no row of the statement is the cause.
    """

    def __init__(
        self, reason: str, message: str, *, sqlstate: str = "", constraint: str = "", is_of_the_table: bool = False
    ) -> None:
        super().__init__(reason, message)
        self.sqlstate = sqlstate
        self.constraint = constraint
        self.is_of_the_table = is_of_the_table


class StatementTimedOut(RowsRefused):
    """The statement took too long: its rows are too many or too large, or the database is slow. Try with fewer rows."""


class TableRefused(SourceRefused):
    """The database refuses a statement for every row: for a reason of the table or of our rights, or by a trigger.

    `example` is the id of a row for which it was refused, and `vector` what was to be written, so that it can be found out
    when it is accepted; None if they are not known.
    """

    def __init__(
        self, reason: str, message: str, *, example: str | None = None, vector: Sequence[float] | None = None
    ) -> None:
        super().__init__(reason, message)
        self.example = example
        self.vector = vector

    @classmethod
    def by(cls, refusal: RowsRefused, example: str) -> Self:
        return cls(refusal.reason, refusal.message, example=example)


class DatabaseUnavailable(EmbeddingError):
    """Wait and try again: it counts as no row's attempt, and nothing is lost."""


class RowsLocked(EmbeddingError):
    """Another session holds a lock that the statement needs, or won a deadlock: run the same statement again, later."""


class ProviderError(EmbeddingError):
    """A call to the provider failed. `code` is the provider's own code for it, such as "503 UNAVAILABLE", or empty.

    If `reached` is False, the call has not reached the provider, so it cost nothing. If `of_the_model`, other models of the same
    endpoint and credential may work. `is_refusal`: the provider was reached and will not embed what it was sent.
    """

    of_the_model = False
    is_refusal = False

    def __init__(self, message: str, *, code: str = "", reached: bool = True) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reached = reached


class ProviderUnavailable(ProviderError):
    """The provider is away, overloaded or broken: wait and try again.

    If `timed_out`, no answer came before the deadline: if there were several texts, there may have been too many.
    """

    def __init__(self, message: str, *, code: str = "", reached: bool = True, timed_out: bool = False) -> None:
        super().__init__(message, code=code, reached=reached)
        self.timed_out = timed_out


class AnswerUnusable(ProviderUnavailable):
    """The provider has answered, but not with one whole vector for each text."""

    of_the_model = True


class Quota(StrEnum):
    """What is used up, according to an answer 429."""

    MINUTE = "minute"
    DAY = "day"
    SPEND = "spend"
    """The account has no money left, or its budget is spent."""


class ProviderThrottled(ProviderError):
    """Quota: no call before `retry_after_s` has passed (None: the provider did not say); counts as no row's attempt."""

    def __init__(
        self, message: str, *, code: str = "", retry_after_s: float | None = None, quota: Quota = Quota.MINUTE
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s
        self.quota = quota

    @property
    def quota_exhausted(self) -> bool:
        """Whether no pause of seconds or minutes ends it."""
        return self.quota is not Quota.MINUTE


class ProviderMisconfigured(ProviderError):
    """A key, a permission or a model is wrong, or one text is refused as if it was: canaries tell which of the two it is."""

    is_refusal = True

    def __init__(
        self, message: str, *, code: str = "", reason: str = "ProviderMisconfigured", of_the_model: bool = False
    ) -> None:
        super().__init__(message, code=code)
        self.reason = reason
        self.of_the_model = of_the_model


class InputRejected(ProviderError):
    """What was sent can never be embedded as it is. If it was a single text, its job is dead-lettered at once."""

    of_the_model = True
    is_refusal = True

    def __init__(self, reason: str, message: str, *, code: str = "") -> None:
        super().__init__(message, code=code)
        self.reason = reason


class LimitReached(ProviderError):
    """As much was sent as spec.limits allows: no call until the day or the month (UTC) ends, or until the limit is raised."""

    def __init__(self, message: str, *, reason: str = "DayLimitReached", of_the_month: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.of_the_month = of_the_month


class CallsPaused(ProviderError):
    """No call was made, or nothing is known of its result: submit the texts again when calls may be made, after `pause_s`."""

    def __init__(self, message: str, *, pause_s: float = 0.0, reached: bool = False) -> None:
        super().__init__(message, reached=reached)
        self.pause_s = pause_s


class Postponed(EmbeddingError):
    """Whether the row can be embedded is not known yet: submit it again when calls may be made, after `pause_s`."""

    def __init__(self, message: str, *, pause_s: float = 0.0) -> None:
        super().__init__(message)
        self.pause_s = pause_s


class Interrupted(EmbeddingError):
    """The work was cancelled before it was done, because its source changed or was deleted: submit it again."""
