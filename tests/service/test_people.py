from hashlib import sha256

import pytest

from service.access import People
from service.access.people import new_token
from service.settings import Settings, SettingsError
from tests.service.conftest import running
from tests.service.plane import CONFIG


@pytest.fixture(scope="module")
def tokens():
    return {"alice": new_token("alice", "write"), "grafana": new_token("grafana", "read")}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, tokens):
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "tokens.yaml"
    file.write_text("tokens:\n" + "\n".join(line for _, line in tokens.values()) + "\n")
    with running(Settings(data_dir=folder / "data", tokens_file=file, tick_seconds=0.02, max_running_jobs=9)) as plane:
        yield plane


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer wrong", "Basic YWxpY2U6", "bearer vw_é"])
def test_without_a_token_nothing_is_told(guarded, authorization):
    headers = {} if authorization is None else {"Authorization": authorization.encode()}
    for method, path in (("GET", "/jobs"), ("POST", "/jobs"), ("GET", "/jobs/j1/logs"), ("GET", "/"), ("GET", "/none")):
        answer = guarded.client.request(method, path, headers=headers)
        assert answer.status_code == 401, path
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["type"] == "/problems/unauthorized"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/version", "/openapi.json", "/docs"])
def test_probes_and_the_manual_need_none(guarded, path):
    assert guarded.client.get(path).status_code == 200


def test_a_role_says_what_a_token_opens(guarded, tokens):
    write, read = (bearer(tokens[name][0]) for name in ("alice", "grafana"))
    assert guarded.client.post("/jobs", json=CONFIG, headers=write).status_code == 201
    assert guarded.client.get("/jobs", headers=read).status_code == 200
    refused = guarded.client.post("/jobs", json=CONFIG, headers=read)
    assert refused.status_code == 403
    assert refused.json()["type"] == "/problems/forbidden"
    assert "grafana" in refused.json()["detail"]


def test_a_token_is_asked_for_whatever_name_the_service_is_called_by(guarded, tokens):
    """Where tokens say who calls, no browser sends one unasked, so names and pages of others do no harm."""
    headers = {"Host": "vishwamai.example", "Origin": "https://elsewhere.example"}
    assert guarded.client.get("/jobs", headers=headers).status_code == 401
    assert guarded.client.get("/jobs", headers=headers | bearer(tokens["alice"][0])).status_code == 200


def test_trainers_report_with_their_jobs_own_credential_and_no_persons(guarded, tokens):
    alice = bearer(tokens["alice"][0])
    job = guarded.client.post("/jobs", json=CONFIG, headers=alice).json()["id"]
    while guarded.launcher.launches.get(timeout=30).job_id != job:
        pass
    report = {"attempt": 1, "seq": 1, "process": 0, "sent_at": "2026-11-24T00:00:00Z", "events": []}
    assert guarded.client.post(f"/jobs/{job}/reports", json=report, headers=alice).status_code == 403
    own = bearer(guarded.app.state.credentials.token_for(job))
    assert guarded.client.post(f"/jobs/{job}/reports", json=report, headers=own).status_code == 200
    assert guarded.client.get("/jobs", headers=own).status_code == 401


def test_only_the_hash_is_written_down():
    token, line = new_token("bob", "read")
    assert token.startswith("vw_")
    assert token not in line
    assert sha256(token.encode()).hexdigest() in line
    assert new_token("bob", "read")[0] != token


GOOD = "a" * 64


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "tokens: Field required"),
        ("tokens: []", "tokens: List should have at least 1 item"),
        ("tokens: [{name: a, sha256: short}]", "tokens.0.sha256: String should match"),
        (f"tokens: [{{name: a, sha256: {GOOD}, role: admin}}]", "tokens.0.role: Input should be 'read' or 'write'"),
        (f"tokens: [{{name: a, sha256: {GOOD}}}, {{name: a, sha256: {GOOD}}}]", "lists 'a' twice"),
        (f"tokens: [{{name: a, sha256: {GOOD}, token: vw_x}}]", "tokens.0.token: Extra inputs"),
        ("a: b: c", "is no YAML"),
    ],
)
def test_a_wrong_file_of_tokens_is_said_without_its_hashes(tmp_path, text, said):
    file = tmp_path / "tokens.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        People.read(file)
    assert said in str(refused.value)
    assert str(file) in str(refused.value)
    assert GOOD not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SettingsError, match="cannot be read"):
        People.read(tmp_path / "none.yaml")


def test_other_machines_are_let_in_only_where_callers_are_known(tmp_path):
    with pytest.raises(SettingsError, match="VISHWAMAI_TOKENS_FILE"):
        Settings.read({"VISHWAMAI_HOST": "0.0.0.0"})
    given = {"VISHWAMAI_HOST": "0.0.0.0", "VISHWAMAI_TOKENS_FILE": str(tmp_path / "t.yaml")}
    assert Settings.read(given).host == "0.0.0.0"
