import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from service.kubernetes import words
from service.kubernetes.render import object_name, render, to_yaml
from service.kubernetes.site import Cluster
from tests.service.kubernetes.shapes import GOLDENS, JOB_ID, SITE, configs, golden, jobset, resolved
from vishwamai.contract.environment import TrainerEnvironment
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.resolved import ResolvedJob

KUBERNETES = "1.36"
SMALL = {"tpu": {"accelerator": "v5e", "tpu_topology": "2x2"}}
SLICES = {"tpu": {"accelerator": "v5e", "tpu_topology": "4x4", "num_slices": 2}}


def pod_of(manifest):
    [group] = manifest["spec"]["replicatedJobs"]
    return group["template"]["spec"]["template"]


def variables(manifest, fields):
    """A pod's environment, with what the cluster would put in for these labels and annotations."""
    found = {}
    for variable in pod_of(manifest)["spec"]["containers"][0]["env"]:
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        else:
            path = variable["valueFrom"]["fieldRef"]["fieldPath"]
            [key] = re.findall(r"^metadata\.(?:labels|annotations)\['(.+)'\]$", path)
            found[variable["name"]] = fields[key]
    return found


@pytest.mark.parametrize("name", configs())
def test_what_is_rendered_is_the_golden(name):
    assert golden(configs()[name]) == (GOLDENS / f"{name}.yaml").read_text()


def test_every_golden_is_of_a_shape():
    assert {path.stem for path in GOLDENS.glob("*.yaml")} == set(configs())


@pytest.mark.parametrize("name", configs())
def test_jobsets_schema_and_kubernetes_own_accept_it(name):
    config, manifest = render(JOB_ID, resolved(configs()[name]), SITE)
    schema = json.loads((Path(__file__).parent / "jobset-v0.12.0.json").read_text())["schema"]
    assert [error.message for error in Draft202012Validator(schema).iter_errors(manifest)] == []
    assert _unknown_fields(manifest, schema) == []
    kubernetes_validate.validate(config, KUBERNETES, strict=True)
    [group] = manifest["spec"]["replicatedJobs"]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "one-slice"}} | group["template"]
    kubernetes_validate.validate(job, KUBERNETES, strict=True)


def _unknown_fields(value, schema, path=""):
    """Fields that the schema does not name: the API server would drop them."""
    if isinstance(value, list):
        return [
            found for i, item in enumerate(value) for found in _unknown_fields(item, schema["items"], f"{path}/{i}")
        ]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    known = schema["properties"]
    missing = [f"{path}/{name}" for name in value if name not in known]
    inside = (_unknown_fields(value[name], known[name], f"{path}/{name}") for name in value if name in known)
    return missing + [found for some in inside for found in some]


def test_the_schema_check_notices_a_field_that_nobody_knows():
    manifest = jobset(SMALL)
    manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["backofLimit"] = 0
    schema = json.loads((Path(__file__).parent / "jobset-v0.12.0.json").read_text())["schema"]
    assert _unknown_fields(manifest, schema) == ["/spec/replicatedJobs/0/template/spec/backofLimit"]


def test_the_config_map_holds_the_job_as_the_trainer_reads_it():
    job = resolved(SMALL)
    config, _ = render(JOB_ID, job, SITE)
    assert ResolvedJob.model_validate_json(config["data"]["resolved.json"]) == job
    assert len(config["data"]["resolved.json"]) < 100_000, "far from the limit of a ConfigMap"


def test_every_pod_knows_which_process_it_is():
    manifest = jobset(SLICES)
    seen = []
    for slice_number in range(2):
        for host in range(4):
            fields = {
                words.RESTARTS: "3",
                words.SLICE_INDEX: str(slice_number),
                words.HOST_INDEX: str(host),
                words.SLICES: "2",
                words.COORDINATOR: "first",
            }
            environ = TrainerEnvironment.read(variables(manifest, fields))
            assert environ.processes == 8
            assert environ.attempt == 4
            assert environ.coordinator == f"{JOB_ID}-1-w-0-0.{JOB_ID}-1:8482"
            seen.append(environ.process)
    assert seen == list(range(8))


def test_slices_find_one_another_and_one_host_needs_nobody():
    fields = {words.SLICES: "2", words.SLICE_INDEX: "1", words.COORDINATOR: "first", words.RESTARTS: "0"}
    environ = variables(jobset(SLICES), fields | {words.HOST_INDEX: "0"})
    assert environ["MEGASCALE_NUM_SLICES"] == "2"
    assert environ["MEGASCALE_SLICE_ID"] == "1"
    assert environ["MEGASCALE_COORDINATOR_ADDRESS"] == "first"
    alone = variables(jobset(SMALL), {words.RESTARTS: "0"})
    assert TrainerEnvironment.read(alone).processes == 1
    assert not [name for name in alone if name.startswith("MEGASCALE")]


def test_a_retried_job_gets_objects_of_its_own_and_counts_on():
    first, second = (render(JOB_ID, resolved(SMALL), SITE, launch=launch) for launch in (1, 4))
    assert [m["metadata"]["name"] for m in second] == [f"{JOB_ID}-4"] * 2
    assert {m["metadata"]["name"] for m in first}.isdisjoint(m["metadata"]["name"] for m in second)
    assert TrainerEnvironment.read(variables(second[1], {words.RESTARTS: "2"})).attempt == 6


def test_the_same_job_renders_to_the_same_text():
    assert to_yaml(render(JOB_ID, resolved(SLICES), SITE)) == to_yaml(render(JOB_ID, resolved(SLICES), SITE))


LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")


@settings(max_examples=25)
@given(name=st.text(min_size=1, max_size=200), launch=st.integers(1, 9999))
def test_any_name_in_any_language_gives_names_that_dns_takes(name, launch):
    config, manifest = render(JOB_ID, resolved(SMALL | {"run": {"name": name}}), SITE, launch=launch)
    made = object_name(JOB_ID, launch)
    assert len(made) <= 24
    assert LABEL.fullmatch(made)
    assert len(f"{made}-w-9999-99999-abcde") <= 63, "a pod's name"
    assert manifest["metadata"]["annotations"][words.NAME] == name
    assert name not in json.dumps([config["metadata"]["labels"], manifest["spec"]]) or name.isascii()
    assert list(yaml.safe_load_all(to_yaml([config, manifest]))) == [config, manifest]


def test_two_machines_of_one_topology_are_told_apart():
    selector = pod_of(jobset({"tpu": {"accelerator": "v5e", "tpu_topology": "2x4"}}))["spec"]["nodeSelector"]
    assert selector[words.INSTANCE_TYPE] == "ct5lp-hightpu-8t"
    assert words.INSTANCE_TYPE not in pod_of(jobset(SLICES))["spec"]["nodeSelector"]


@pytest.mark.parametrize("name", configs())
def test_a_pod_asks_for_all_chips_of_its_machine_and_for_less_than_all_else(name):
    job = resolved(configs()[name])
    resources = pod_of(jobset(configs()[name]))["spec"]["containers"][0]["resources"]
    assert resources["requests"][words.TPU] == resources["limits"][words.TPU] == str(job.hardware.chips_per_host)
    [group] = jobset(configs()[name])["spec"]["replicatedJobs"]
    assert group["replicas"] == job.hardware.num_slices
    assert group["template"]["spec"]["parallelism"] * job.hardware.chips_per_host == job.hardware.chips_per_slice


def test_pods_have_no_rights_that_they_do_not_need():
    pod = pod_of(jobset(SLICES))["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]


def test_output_goes_where_the_site_keeps_it():
    def output(site):
        [volume] = [v for v in pod_of(jobset(SMALL, site))["spec"]["volumes"] if v["name"] == "output"]
        return volume

    assert output(Cluster(output_claim="runs"))["persistentVolumeClaim"] == {"claimName": "runs"}
    bucket = output(Cluster(output_bucket="gs://b-1/some/folder/"))["csi"]
    assert bucket["volumeAttributes"] == {"bucketName": "b-1", "mountOptions": "implicit-dirs,only-dir=some/folder"}
    assert pod_of(jobset(SMALL, Cluster(output_bucket="gs://b-1")))["metadata"]["annotations"][words.GCS_FUSE] == "true"
    assert output(Cluster())["emptyDir"] == {}
    with pytest.raises(ValueError, match="exclude each other"):
        Cluster(output_claim="runs", output_bucket="gs://b-1")


@pytest.mark.parametrize(
    ("tpu", "field"),
    [
        ({"spot": True, "flex_start": True}, "/tpu/spot"),
        ({"spot": True, "reservation": "r"}, "/tpu/spot"),
        ({"flex_start": True, "accelerator": "v4", "tpu_topology": "2x2x1"}, "/tpu/flex_start"),
        ({"reservation": "Not a name"}, "/tpu/reservation"),
    ],
)
def test_capacities_that_exclude_each_other_are_refused(tpu, field):
    with pytest.raises(InvalidConfig) as refused:
        resolved({"tpu": tpu})
    assert [problem.pointer for problem in refused.value.problems] == [field]
