"""What a config needs and costs on a slice: `python -m trainer plan` as a process of this machine; no TPU is needed."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from service.launchers.base import PlanFailed, PlanRefused
from service.launchers.commands import Commands, Place, Wording
from vishwamai.contract.environment import TEACHERS
from vishwamai.contract.plan import Plan
from vishwamai.contract.states import CAUSES, Cause

_WORDING = Wording(
    several="plans",
    too_long="the plan was not ready after {seconds} seconds, the most that is allowed (VISHWAMAI_PLAN_SECONDS)",
    refused=PlanRefused,
    failed=PlanFailed,
)
_DOES_NOT_FIT = CAUSES[Cause.OUT_OF_MEMORY].exit_code


class Plans(Commands):
    """Compiles steps, one at a time: the TPU compiler takes gigabytes and every core."""

    def __init__(self, command: tuple[str, ...], *, seconds: float) -> None:
        """`command` takes the options of `python -m trainer plan`."""
        super().__init__(command, _WORDING, at_once=1, seconds=seconds, answers=(0, _DOES_NOT_FIT))

    async def run(
        self,
        directory: Path,
        environment: Mapping[str, str],
        config: bytes,
        on: str | None,
        teachers: Mapping[str, str],
    ) -> Plan:
        """The plan of a config, a JSON text, on its own slice or on another such as "v5e:2x4".

        Raises Busy, PlanRefused when the config, the slice or a missing compiler is at fault, PlanFailed otherwise.
        """
        known = ",".join(f"{name}={folder}" for name, folder in teachers.items())
        place = Place(directory, directory, {**environment, TEACHERS: known} if known else environment)
        options = ["--config=-", "--output=json", *([f"--slice={on}"] if on else [])]
        out = await self.output_of(place, options, config)
        try:
            return Plan.model_validate_json(out)
        except ValidationError as error:
            raise PlanFailed(f"the planning process answered something else: {error}") from error
