"""The errors of requests to the API server, by reaction: what the caller has to do, not where the error came from. Pure.

Raised by api_server.py, which asks `reaction_to` for each answer that is an error.
"""

import json


class ApiServerError(Exception):
    """The root. The message is the server's own and contains no credentials."""


class ApiServerUnusable(ApiServerError):
    """There is no usable configuration to connect with: someone must act."""


class ApiServerUnavailable(ApiServerError):
    """Wait and try again: unreachable, overloaded, or not allowed yet."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0, may_have_happened: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.may_have_happened = may_have_happened
        """The request was sent and its answer was lost, so the server may have carried it out."""


class ApiServerUnreachable(ApiServerUnavailable):
    """No answer came: nothing listens, the connection was lost, or the request timed out."""


class Unauthorized(ApiServerUnavailable):
    """The credentials are not accepted: they may have just expired, and their files are read again."""


class AlreadyExists(ApiServerError):
    """There is an object of this name already: this is how jobs are deduplicated."""


class Gone(ApiServerError):
    """The object does not exist, or another object of the same name has replaced it."""


class RequestRefused(ApiServerError):
    """The server refuses the request (rights, quota, a policy): the same request would fail again."""


class Invalid(RequestRefused):
    """The server refuses this object by validation; another object may be accepted."""


def reaction_to(status: int, body: bytes, retry_after: str | None) -> ApiServerError:
    """The error for an HTTP status, with the server's own message where it gave one."""
    try:
        message = str(json.loads(body).get("message", ""))
    except (ValueError, AttributeError):
        message = ""
    message = message or f"HTTP {status}"
    if status == 404:
        return Gone(message)
    if status == 409:
        return AlreadyExists(message)
    if status == 410:  # the list's next page has expired: the whole list is requested again
        return ApiServerUnavailable(message)
    if status == 401:
        return Unauthorized(message)
    if status == 429 or status >= 500:
        wait_s = float(retry_after) if retry_after and retry_after.isdigit() else 1.0
        return ApiServerUnavailable(message, retry_after_s=wait_s, may_have_happened=status >= 500)
    return Invalid(message) if status == 422 else RequestRefused(message)
