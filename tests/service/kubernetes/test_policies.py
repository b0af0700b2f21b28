import re

import pytest

from service.kubernetes.policies import exit_codes, failure_policy, pod_failure_policy
from vishwamai.contract.states import CAUSES, cause_of_exit

AGAIN = "RestartJobSetAndIgnoreMaxRestarts"


def action(message, reason="PodFailurePolicy"):
    """What JobSet does about a Job that failed so: the first rule that matches, else a counted restart."""
    for rule in failure_policy(3)["rules"]:
        patterns = rule["onJobFailureMessagePatterns"]
        if reason in rule["onJobFailureReasons"] and any(re.fullmatch(pattern, message) for pattern in patterns):
            return rule["action"]
    return "RestartJobSet"


def failed_with(code):
    """The message of a Job whose pod failed by a rule on exit codes, as Kubernetes 1.36 writes it."""
    pod = "training/j-1-w-0-0-abcde"
    return f"Container trainer for pod {pod} failed with exit code {code} matching FailJob rule at index 0"


DISRUPTED = "Pod training/j-1-w-0-0-abcde has condition DisruptionTarget matching FailJob rule at index 1"


@pytest.mark.parametrize("code", [*range(1, 256)])
def test_an_exit_code_is_answered_as_its_cause_says(code):
    named = {value for rule in pod_failure_policy()["rules"] for value in rule.get("onExitCodes", {}).get("values", [])}
    retry = CAUSES[cause_of_exit(code)].retry
    if retry == "counted":
        assert code not in named, "no rule takes it, so the Job fails by its backoff limit"
        assert action("Job has reached the specified backoff limit", "BackoffLimitExceeded") == "RestartJobSet"
    else:
        assert code in named
        assert action(failed_with(code)) == {"never": "FailJobSet", "free": AGAIN}[retry]


def test_a_taken_node_costs_no_restart():
    assert action(DISRUPTED) == AGAIN


def test_user_errors_are_looked_at_before_disruptions():
    first, second, _ = pod_failure_policy()["rules"]
    assert {2, 78} <= set(first["onExitCodes"]["values"])
    assert second["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]


def test_no_code_stands_in_two_lists():
    lists = [exit_codes(retry) for retry in ("never", "free", "counted")]
    assert sum(map(len, lists)) == len(set().union(*lists))
    assert 137 in lists[2]
