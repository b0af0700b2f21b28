import pytest

from vishwamai.contract.load import check_config
from vishwamai.contract.reference import explain, fields
from vishwamai.contract.resume import RULE_OF, RULES, Effect, changes, config_hash

SETTINGS = [fact.name for fact in fields() if not fact.fields]


def dumped(**sections):
    return check_config(sections).model_dump(mode="json")


def test_every_setting_has_a_rule_and_every_rule_a_setting():
    """A new setting gets its entry in RULES: decide what a change of it does to a run under way."""
    assert set(SETTINGS) - RULE_OF.keys() == set()
    assert RULE_OF.keys() - set(SETTINGS) == set()


def test_no_setting_has_two_rules():
    names = [name for rule in RULES for name in rule.settings]
    assert len(names) == len(set(names))


def test_the_same_config_has_no_changes_and_one_hash():
    config = check_config({"model": {"num_layers": 3}})
    assert changes(config.model_dump(mode="json"), config.model_dump(mode="json")) == []
    again = check_config({"model": {"num_layers": 3}})
    assert config_hash(again) == config_hash(config) != config_hash(check_config({"model": {"num_layers": 4}}))


@pytest.mark.parametrize(
    ("before", "now", "setting", "effect"),
    [
        ({"model": {"hidden_dim": 64}}, {"model": {"hidden_dim": 32}}, "model.hidden_dim", Effect.BREAKS),
        ({}, {"sequence": {"eos_token_id": 7}}, "sequence.eos_token_id", Effect.BREAKS),
        ({}, {"training": {"max_steps": 9}}, "training.max_steps", Effect.COURSE),
        ({"data": {"tokenizer": "a.json"}}, {}, "data.tokenizer", Effect.CONTENT),
        ({}, {"logging": {"log_every": 7}}, "logging.log_every", Effect.FREE),
        ({"run": {"labels": {"a": "b"}}}, {}, "run.labels", Effect.FREE),
    ],
)
def test_what_a_change_does(before, now, setting, effect):
    [change] = changes(dumped(**before), dumped(**now))
    assert (change.setting, change.rule.effect) == (setting, effect)


def test_a_section_that_comes_or_goes_is_told_by_its_settings():
    with_teacher = dumped(distillation={"temperature": 3.0})
    found = {change.setting: (change.before, change.now) for change in changes(dumped(), with_teacher)}
    assert found["distillation.temperature"] == (None, 3.0)
    assert all(name.startswith("distillation.") for name in found)
    assert "distillation.final_temperature" not in found, "null on both sides"


def test_a_setting_that_an_older_release_did_not_have_is_no_change():
    before = dumped()
    del before["model"]["qk_norm"]
    del before["distillation"]
    assert changes(before, dumped(model={"qk_norm": True}, distillation={})) == []


def test_a_change_says_itself_in_one_line():
    [change] = changes(dumped(), dumped(model={"hidden_dim": 512}))
    assert str(change) == "model.hidden_dim was 768 and is 512 (arrays of the state have other shapes, or come and go)"


def test_each_setting_says_it():
    assert explain("model.hidden_dim").resume == "breaks: arrays of the state have other shapes, or come and go"
    assert explain("model").resume is None
