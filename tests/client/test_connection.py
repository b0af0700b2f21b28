"""Calls that get through, calls that do not, and what a caller learns of it."""

import httpx2
import pytest

from tests.client import bodies
from vishwamai.client import BadAddress, Client, Conflict, InvalidRequest, NotFound, ServerFault, Unreachable
from vishwamai.client.connection import Connection

PROBLEM = {"content-type": "application/problem+json"}
VERSION = {"version": "1.2.3", "launcher": "local"}


def client_of(handler, **how) -> tuple[Client, list[float]]:
    """A client on a transport of ours, and the pauses it made."""
    pauses: list[float] = []
    connection = Connection("http://plane.test", transport=httpx2.MockTransport(handler), sleep=pauses.append, **how)
    return Client(connection=connection), pauses


def answering(*answers: httpx2.Response | Exception):
    """A handler that gives these answers one after the other, and the requests it got."""
    requests: list[httpx2.Request] = []
    left = list(answers)

    def handler(request: httpx2.Request) -> httpx2.Response:
        requests.append(request)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handler, requests


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_gateway_that_has_nobody_behind_it_is_asked_again(status):
    handler, requests = answering(httpx2.Response(status), httpx2.Response(status), httpx2.Response(200, json=VERSION))
    client, pauses = client_of(handler)
    assert client.version().version == "1.2.3"
    assert len(requests) == 3
    assert len(pauses) == 2
    assert pauses[0] < pauses[1]


def test_a_lost_connection_is_taken_up_again():
    handler, requests = answering(httpx2.ReadError("reset"), httpx2.Response(200, json=VERSION))
    client, _ = client_of(handler)
    assert client.version().launcher == "local"
    assert len(requests) == 2


def test_retry_after_is_heeded_within_reason():
    handler, _ = answering(
        httpx2.Response(503, headers={"Retry-After": "3"}),
        httpx2.Response(503, headers={"Retry-After": "3600"}),
        httpx2.Response(200, json=VERSION),
    )
    client, pauses = client_of(handler)
    client.version()
    assert pauses == [3.0, 8.0]


def test_a_refused_connection_says_how_to_start_a_control_plane():
    handler, requests = answering(*[httpx2.ConnectError("[Errno 111] Connection refused")] * 4)
    client, _ = client_of(handler)
    with pytest.raises(
        Unreachable, match=r"no control plane at http://plane\.test \(connection refused\).*vishwamai serve"
    ):
        client.version()
    assert len(requests) == 4


def test_a_server_fault_is_not_repeated():
    body = {"title": "Internal error", "status": 500, "detail": "the disk is full"}
    handler, requests = answering(httpx2.Response(500, json=body, headers=PROBLEM))
    client, _ = client_of(handler)
    with pytest.raises(ServerFault, match="the disk is full"):
        client.version()
    assert len(requests) == 1


def test_a_submission_keeps_its_key_over_repeats():
    handler, requests = answering(httpx2.ReadTimeout("slow"), httpx2.Response(201, text=bodies.job().model_dump_json()))
    client, _ = client_of(handler)
    client.submit({"training": {"max_steps": 3}})
    keys = {request.headers["Idempotency-Key"] for request in requests}
    assert len(requests) == 2
    assert len(keys) == 1
    assert requests[0].content == requests[1].content == b'{"training": {"max_steps": 3}}'


def test_two_submissions_have_two_keys():
    handler, requests = answering(
        httpx2.Response(201, text=bodies.job().model_dump_json()),
        httpx2.Response(201, text=bodies.job().model_dump_json()),
    )
    client, _ = client_of(handler)
    client.submit({})
    client.submit({})
    assert requests[0].headers["Idempotency-Key"] != requests[1].headers["Idempotency-Key"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (404, NotFound),
        (409, Conflict),
        (413, InvalidRequest),
        (422, InvalidRequest),
        (500, ServerFault),
    ],
)
def test_a_problem_document_becomes_its_exception(status, kind):
    wrong = {"pointer": "/model/hiden_dim", "message": "hiden_dim is not known", "hint": "did you mean hidden_dim?"}
    body = {"title": "Invalid config", "status": status, "detail": "one error", "errors": [wrong]}
    handler, _ = answering(httpx2.Response(status, json=body, headers=PROBLEM))
    client, _ = client_of(handler)
    with pytest.raises(kind) as raised:
        client.get("j1")
    assert type(raised.value) is kind
    assert raised.value.status == status
    assert raised.value.errors[0].hint == "did you mean hidden_dim?"


@pytest.mark.parametrize("answer", [httpx2.Response(404, text="<html>nginx"), httpx2.Response(500, text="")])
def test_an_error_without_a_problem_document_still_says_who_answered(answer):
    handler, _ = answering(answer)
    client, _ = client_of(handler)
    with pytest.raises((NotFound, ServerFault), match=r"http://plane\.test answered"):
        client.get("j1")


@pytest.mark.parametrize("answer", [httpx2.Response(200, text="<html>hello"), httpx2.Response(200, json={"job": 1})])
def test_a_success_of_another_program_is_no_answer(answer):
    handler, _ = answering(answer)
    client, _ = client_of(handler)
    with pytest.raises(ServerFault, match="GET /version"):
        client.version()


@pytest.mark.parametrize("address", ["ftp://plane.test", "plane.test", "", "http://", "http://[::1"])
def test_an_address_that_is_none_is_refused_at_once(address):
    with pytest.raises(BadAddress, match="is not a URL"):
        Client(address)


def test_a_schema_that_is_none():
    handler, _ = answering(httpx2.Response(200, text="<html>hello"))
    client, _ = client_of(handler)
    with pytest.raises(ServerFault, match="it is not JSON"):
        client.config_schema()


def test_not_a_number_never_leaves():
    handler, requests = answering()
    client, _ = client_of(handler)
    with pytest.raises(ValueError, match="not JSON compliant"):
        client.submit({"training": {"learning_rate": float("nan")}})
    assert requests == []


def test_a_job_id_stays_one_segment_of_the_path():
    handler, requests = answering(httpx2.Response(200, text=bodies.job().model_dump_json()))
    client, _ = client_of(handler)
    client.get("../jobs?x=1")
    assert requests[0].url.raw_path == b"/jobs/..%2Fjobs%3Fx%3D1"


def test_list_sends_only_the_conditions_given():
    handler, requests = answering(httpx2.Response(200, json={"jobs": []}), httpx2.Response(200, json={"jobs": []}))
    client, _ = client_of(handler)
    client.list()
    client.list(state=["running", "queued"], label=["team=nlp"], limit=5)
    assert requests[0].url.query == b""
    assert requests[1].url.params.get_list("state") == ["running", "queued"]
    assert requests[1].url.params["label"] == "team=nlp"
    assert requests[1].url.params["limit"] == "5"


def test_the_body_is_kept_verbatim():
    text = '{"version":  "1.2.3", "launcher":"local", "of_the_future": [1]}'
    handler, _ = answering(httpx2.Response(200, text=text))
    client, _ = client_of(handler)
    client.version()
    assert client.last_body == text


def test_a_token_says_who_calls():
    seen = []

    def answer(request):
        seen.append(request.headers.get("Authorization"))
        return httpx2.Response(200, json={})

    for token in ("vw_secret", None):
        connection = Connection("http://plane", token=token, transport=httpx2.MockTransport(answer))
        connection.send("GET", "/version")
        connection.close()
    assert seen == ["Bearer vw_secret", None]
