import pytest
import yaml

from service.settings import Settings, SettingsError
from service.setup_files import cluster_of
from tests.service.conftest import running


def test_a_config_becomes_manifests_and_nothing_is_stored(idle_plane):
    answer = idle_plane.client.post("/manifests", json={"tpu": {"accelerator": "v5e", "tpu_topology": "4x4"}})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/yaml")
    config, jobset = yaml.safe_load_all(answer.text)
    assert (config["kind"], jobset["kind"]) == ("ConfigMap", "JobSet")
    assert config["metadata"]["name"] == jobset["metadata"]["name"]
    selector = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["nodeSelector"]
    assert selector["cloud.google.com/gke-tpu-topology"] == "4x4"
    again = idle_plane.client.post("/manifests", json={"tpu": {"tpu_topology": "4x4", "accelerator": "v5e"}})
    assert yaml.safe_load(again.text.split("---")[0])["metadata"]["name"] == config["metadata"]["name"]


def test_an_invalid_config_is_refused_as_a_submission_would_be(idle_plane):
    answer = idle_plane.client.post("/manifests", json={"tpu": {"accelerator": "v9"}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/tpu/accelerator"


def test_a_job_has_a_manifest_for_the_cluster_whatever_launched_it(plane):
    job = plane.submit()
    answer = plane.client.get(f"/jobs/{job}/manifest")
    assert answer.status_code == 200
    config, _ = yaml.safe_load_all(answer.text)
    assert config["metadata"]["labels"]["vishwamai.dev/job"] == job
    assert '"platform": "tpu"' in config["data"]["resolved.json"]
    assert plane.client.get("/jobs/j0/manifest").status_code == 404


def test_the_cluster_is_the_sites(tmp_path):
    file = tmp_path / "cluster.yaml"
    file.write_text("namespace: research\nimage: trainer@sha256:1\noutput_claim: runs\n")
    settings = Settings(data_dir=tmp_path / "data", cluster_file=file)
    with running(settings) as plane:
        _, jobset = yaml.safe_load_all(plane.client.post("/manifests", json={}).text)
    assert jobset["metadata"]["namespace"] == "research"
    [container] = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "trainer@sha256:1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("namspace: a", "namspace: Extra inputs are not permitted"),
        ("keep_seconds: soon", "keep_seconds: Input should be a valid integer (it is 'soon')"),
        ("namespace: No_Label", "namespace: String should match"),
        ("- a", "valid dictionary"),
        ("a: b: c", "is no YAML"),
    ],
)
def test_a_wrong_cluster_file_is_said_at_once(tmp_path, text, said):
    file = tmp_path / "cluster.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        cluster_of(Settings(cluster_file=file))
    assert said in str(refused.value)
    assert str(file) in str(refused.value)
