"""What a config needs and costs, before any chip is bought."""

from anyio.to_thread import run_sync as in_thread

from service.operations.context import Context
from service.operations.submit import resolved_on
from vishwamai.contract.load import parse_json
from vishwamai.contract.plan import Plan


async def plan(context: Context, body: bytes, on: str | None) -> Plan:
    """The plan of a config on its own slice, or on another such as "v5e:2x4".

    Raises InvalidConfig for a config that would be refused on its own slice, and what the launcher's `plan` raises.
    """
    if on is None:
        await in_thread(lambda: resolved_on(context, parse_json(body), "kubernetes"))
    else:
        parse_json(body)  # the slice may be what makes the rest valid
    return await context.launcher.plan(body, on, context.teachers)
