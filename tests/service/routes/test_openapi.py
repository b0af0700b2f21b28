import pytest
from hypothesis import given, settings
from schemathesis import openapi
from schemathesis.core import NOT_SET
from schemathesis.core.result import Ok

EXPECTED = {
    "/": {"get"},
    "/jobs": {"get", "post"},
    "/jobs/{job_id}": {"get"},
    "/jobs/{job_id}:cancel": {"post"},
    "/jobs/{job_id}:save": {"post"},
    "/jobs/{job_id}:retry": {"post"},
    "/jobs/{job_id}:generate": {"post"},
    "/jobs/{job_id}/events": {"get"},
    "/jobs/{job_id}/logs": {"get"},
    "/jobs/{job_id}/metrics": {"get"},
    "/jobs/{job_id}/checkpoints": {"get"},
    "/jobs/{job_id}/checkpoints/{step}:export": {"post"},
    "/jobs/{job_id}/checkpoints/{step}/export/{name}": {"get"},
    "/jobs/{job_id}/attempts": {"get"},
    "/jobs/{job_id}/manifest": {"get"},
    "/jobs/{job_id}/reports": {"post"},
    "/manifests": {"post"},
    "/plans": {"post"},
    "/accelerators": {"get"},
    "/config-schema": {"get"},
    "/version": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}


@pytest.fixture(scope="module")
def document(idle_plane):
    return idle_plane.client.get("/openapi.json").json()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_route_is_there_and_described(document):
    assert {path: set(methods) for path, methods in document["paths"].items()} == EXPECTED
    for name, operation in operations(document):
        assert operation["description"], name


def test_every_answer_has_a_schema_and_every_body_an_example(document):
    for name, operation in operations(document):
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for status, response in operation["responses"].items():
            assert response["content"], (name, status)
            bodies.append(response)
        for body in bodies:
            for media_type, content in body["content"].items():
                assert content["schema"], name
                if "json" in media_type:
                    assert content.get("example"), (name, media_type)


def test_every_error_is_a_problem_document(document):
    for name, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400" and name != "get /readyz":
                assert set(response["content"]) == {"application/problem+json"}, name
    for name, operation in operations(document):
        if "{job_id}" in name:
            assert "404" in operation["responses"], name
        if operation.get("parameters") or "requestBody" in operation:
            assert "422" in operation["responses"], name


def test_every_reference_leads_somewhere(document):
    def references(value):
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str) and value["$ref"].startswith("#/components"):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    found = set(references({key: value for key, value in document.items() if key != "components"}))
    assert found
    for reference in found | set(references(document["components"]["schemas"]["ProblemDocument"])):
        assert reference.rpartition("/")[2] in document["components"]["schemas"], reference


def test_no_request_made_up_from_the_document_makes_the_service_fail(plane):
    document = plane.client.get("/openapi.json").json()
    results = list(openapi.from_dict(document).get_all_operations())
    found = [result.ok() for result in results if isinstance(result, Ok)]
    assert len(found) == sum(map(len, EXPECTED.values()))
    for operation in found:
        answered = try_operation(plane.client, operation)
        documented = document["paths"][operation.path][operation.method]["responses"]
        assert answered
        assert answered <= documented.keys() | {"404", "405"}, operation.label


def try_operation(client, operation) -> set[str]:
    """Statuses that requests made up for the operation are answered with."""
    answered = set()

    @settings(max_examples=5)
    @given(case=operation.as_strategy())
    def try_it(case):
        body = {} if case.body is NOT_SET else {"json": case.body}
        headers = dict(case.headers or {})
        answer = client.request(case.method, case.formatted_path, params=case.query, headers=headers, **body)
        answered.add(str(answer.status_code))

    try_it()
    return answered
