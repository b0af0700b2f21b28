import pytest

from vishwamai.contract.environment import TEACHERS, read_teachers
from vishwamai.contract.load import check_config
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import ResolvedJob, SiteDefaults

SITE = SiteDefaults(teachers={"gemma-7b": "/models/gemma", "j0123456789abcdefg": "/runs/jobs/one"})


def job(site: SiteDefaults = SITE, **section: object) -> ResolvedJob:
    return resolve(check_config({"distillation": {"teacher_model": "./teacher", **section}}), site)


def why(resolved: ResolvedJob, name: str) -> str:
    return next(one.why for one in resolved.decisions if one.setting == f"distillation.{name}")


def test_a_name_that_the_site_knows_becomes_its_folder():
    resolved = job(teacher_model="gemma-7b")
    assert resolved.effective.distillation is not None
    assert resolved.effective.distillation.teacher_model == "/models/gemma"
    assert why(resolved, "teacher_model") == "where this site keeps gemma-7b"
    assert resolved.blockers == []


@pytest.mark.parametrize(
    "teacher",
    ["./teacher", "/models/teacher", "~/teacher", "models/teacher", "gs://bucket/teacher", "s3://bucket/teacher"],
)
def test_a_path_is_taken_as_it_stands(teacher):
    resolved = job(teacher_model=teacher)
    assert resolved.blockers == []
    assert resolved.effective.distillation is not None
    assert resolved.effective.distillation.teacher_model == teacher


@pytest.mark.parametrize(
    ("teacher", "code", "words"),
    [
        ("gemma-2b", "unknown-teacher", "gemma-2b is no teacher that this site knows (gemma-7b, j0123"),
        ("http://host/teacher", "teacher-address", "http://host/teacher is an address of a kind"),
    ],
)
def test_a_teacher_that_nobody_finds_is_valid_and_not_launched(teacher, code, words):
    (blocker,) = job(teacher_model=teacher).blockers
    assert (blocker.code, blocker.pointer) == (code, "/distillation/teacher_model")
    assert words in blocker.message
    assert blocker.fix


def test_what_is_not_used_is_said():
    off = job(use_intermediate_distillation=False, hidden_loss="cosine", hidden_weight=2.0, jsd_beta=0.3)
    for name in ("hidden_loss", "hidden_weight"):
        assert why(off, name) == "not used: use_intermediate_distillation is false"
    assert why(off, "jsd_beta") == "not used: only jsd has it, and divergence is forward_kl"
    assert why(job(hidden_weight=0.0, hidden_loss="mse"), "hidden_loss") == "not used: hidden_weight is 0"


def test_a_teacher_without_a_format_gets_the_steps():
    assert job().effective.distillation.teacher_dtype == "bfloat16"  # type: ignore[union-attr]
    assert job(teacher_dtype="float32").effective.distillation.teacher_dtype == "float32"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "section",
    [
        {"alpha": 1.5},
        {"temperature": 0.0},
        {"final_temperature": -1.0},
        {"jsd_beta": 1.0},
        {"divergence": "wasserstein"},
        {"intermediate_layer_mapping": "first"},
        {"intermediate_layer_mapping": []},
        {"intermediate_layer_mapping": [[1]]},
        {"intermediate_layer_mapping": [[0, 1]]},
        {"hidden_weight": -0.1},
        {"teacher_dtype": "fp8"},
    ],
)
def test_what_is_out_of_range_is_refused(section):
    with pytest.raises(InvalidConfig) as caught:
        job(**section)
    (name,) = section
    assert {problem.pointer.split("/")[2] for problem in caught.value.problems} == {name}


def test_a_student_layer_that_does_not_exist_is_refused():
    document = {"model": {"num_layers": 4}, "distillation": {"intermediate_layer_mapping": [[4, 9], [5, 12]]}}
    with pytest.raises(InvalidConfig, match=r"student layer 5, and model\.num_layers is 4"):
        check_config(document)


def test_the_environment_names_teachers():
    assert read_teachers({}) == {}
    assert read_teachers({TEACHERS: "gemma-7b=/models/g, small = ./s,"}) == {"gemma-7b": "/models/g", "small": "./s"}
    for wrong in ("gemma", "=x", "a=", "a=1,a=2", "a/b=c"):
        with pytest.raises(ValueError, match="VISHWAMAI_TEACHERS"):
            read_teachers({TEACHERS: wrong})
