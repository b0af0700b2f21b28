"""What happens when a pod ends badly: the same answer for a cause as `vishwamai.contract.states` gives.

    pod fails -> podFailurePolicy fails its Job, and says why -> the JobSet's failurePolicy reads that and
        restarts the set for free      the node was taken away, or the trainer said so (preempted, maintenance)
        fails the set at once          the config, the data or the model is at fault (user error, out of memory, ...)
        restarts it, counted           everything else, until run.max_restarts

`Ignore` is never used: the peers of a lost pod hang in their collectives, so the whole set starts anew.
"""

from typing import Any

from vishwamai.contract.states import CAUSES, Cause, Retry, cause_of_exit

CONTAINER = "trainer"


def exit_codes(retry: Retry) -> list[int]:
    """Codes other than 0 whose cause is retried so, ascending."""
    return [
        code
        for code in range(1, 256)
        if (cause := cause_of_exit(code)) is not Cause.INTERNAL and CAUSES[cause].retry == retry
    ]


def pod_failure_policy() -> dict[str, Any]:
    """Of each Job; the first rule that matches counts."""

    def on_exit(codes: list[int]) -> dict[str, Any]:
        return {"action": "FailJob", "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": codes}}

    disrupted = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return {"rules": [on_exit(exit_codes("never")), disrupted, on_exit(exit_codes("free"))]}


def failure_policy(max_restarts: int) -> dict[str, Any]:
    """Of the JobSet; the first rule that matches counts, and without one a restart is counted."""

    def rule(name: str, action: str, pattern: str) -> dict[str, Any]:
        return {
            "name": name,
            "action": action,
            "onJobFailureReasons": ["PodFailurePolicy"],
            "onJobFailureMessagePatterns": [pattern],
        }

    def ended(retry: Retry) -> str:
        return f".*failed with exit code ({'|'.join(map(str, exit_codes(retry)))}) .*"

    again = "RestartJobSetAndIgnoreMaxRestarts"
    return {
        "maxRestarts": max_restarts,
        "restartStrategy": "BlockingRecreate",
        "rules": [
            rule("hopeless", "FailJobSet", ended("never")),
            rule("preempted", again, ".*DisruptionTarget.*"),
            rule("interrupted", again, ended("free")),
        ],
    }
