"""What `embedding-operator check` asks the API server: whether the CRDs are served as needed, and what this account may do.

Called by checks.py. Each function returns what is well, or raises CheckFailed or an error of api_errors.py.
"""

import asyncio
import contextlib
import time

from embedding_operator.api_errors import ApiServerUnavailable, ApiServerUnreachable, Gone, RequestRefused
from embedding_operator.api_server import ApiServer
from embedding_operator.cli import verdicts
from embedding_operator.cli.verdicts import CheckFailed
from embedding_operator.resources import GROUP, JOBS, VERSION
from embedding_operator.resources.embedding_job import OPEN_SELECTOR
from embedding_operator.rights import RIGHTS, WORKER_RIGHTS, Right

CRDS_SERVED_WITHIN_S = 10.0


async def check_crds(server: ApiServer) -> str:
    versions, resources = list[str](), set[str]()
    with contextlib.suppress(Gone):
        versions = await server.served_versions()
        resources = await server.served_resources()
    served = verdicts.served_kinds(versions, resources)
    if await server.may(Right("list", GROUP, JOBS)):  # otherwise the check of the rights reports it
        try:
            await _select_by_phase(server)
        except RequestRefused as exc:
            raise CheckFailed(
                f"{JOBS} of {GROUP}/{VERSION} can't be found by their phase ({exc}): {verdicts.CRD_REMEDY}"
            ) from exc
    return served


async def _select_by_phase(server: ApiServer) -> None:
    """For some seconds after CRDs are created, their storage is not ready yet, and `helm test` may run just then."""
    give_up_at = time.monotonic() + CRDS_SERVED_WITHIN_S
    while True:
        try:
            return await server.selects_by(OPEN_SELECTOR)
        except ApiServerUnavailable as exc:
            if isinstance(exc, ApiServerUnreachable) or time.monotonic() > give_up_at:
                raise
            await asyncio.sleep(exc.retry_after_s)


async def check_rights(server: ApiServer, *, with_workers: bool) -> str:
    await _check_namespace(server)
    rights = (*RIGHTS, *WORKER_RIGHTS) if with_workers else RIGHTS
    allowed = await asyncio.gather(*map(server.may, rights))
    return verdicts.all_rights(dict(zip(rights, allowed, strict=True)), namespace=server.namespace)


async def _check_namespace(server: ApiServer) -> None:
    """In a namespace that does not exist an account may have every right, and there are no sources."""
    try:
        verdicts.usable_namespace(server.namespace, await server.own_namespace())
    except Gone:
        verdicts.usable_namespace(server.namespace, None)
    except RequestRefused:  # an account that has rights in its namespace only, and so its namespace exists
        return
