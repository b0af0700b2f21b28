import json
import os
import socket
import subprocess
import sys

import pytest
import tokenizers

from tests.trainer.huggingface.goldens import FOLDER
from tests.trainer.run.lives import MODEL, losses, small_job
from trainer.cli import main
from vishwamai.contract.environment import TrainerEnvironment


@pytest.fixture
def config(tmp_path):
    """Writes a small valid config, changed as asked, and gives its path."""

    def write(**sections):
        corpus = tmp_path / "corpus.txt"
        corpus.write_text("".join(f"{number} is followed by {number + 1}.\n" for number in range(500)))
        document = {
            "model": MODEL | {"vocab_size": 258, "max_seq_len": 32},
            # A constant rate, so that runs of different lengths take the same compiled step.
            "training": {
                "batch_size": 4,
                "grad_accum_steps": 1,
                "warmup_steps": 1,
                "max_steps": 6,
                "lr_schedule": "constant",
            },
            "tpu": {"accelerator": "v5e", "tpu_cores": 1, "tpu_topology": "1x1", "use_bfloat16": False},
            "optimization": {"use_fp8": False, "mixed_precision": False, "use_dynamic_scale": False, "block_size": 16},
            "memory": {"kv_cache_fp8": False, "gradient_checkpointing": False},
            "sequence": {"max_length": 32, "min_length": 2, "chunk_size": 16},
            "data": {"train": [str(corpus)], "eval_fraction": 0.2, "eval_batches": 1},
            "logging": {"log_every": 2, "eval_every": 3, "save_every": 3, "profile_every": 0},
        }
        document |= {name: document.get(name, {}) | section for name, section in sections.items()}
        path = tmp_path / "config.json"
        path.write_text(json.dumps(document))
        return path

    return write


def train(config, output, *more):
    return main(
        ["train", "--config", str(config), "--output", str(output), "--platform", "cpu", *more], dict(os.environ)
    )


def the_error(capsys):
    """The one line on stderr that says what is wrong."""
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, lines
    assert "Traceback" not in "".join(lines)
    return errors[0]


def test_train_by_hand_then_longer_then_generate(config, tmp_path, capsys):
    path, output = config(), tmp_path / "out"
    assert train(path, output) == 0
    assert [(kind, step) for kind, step, _ in losses(output)] == [
        ("step", 1),
        ("step", 2),
        ("eval", 3),
        ("step", 4),
        ("step", 6),
        ("eval", 6),
    ]
    resolved = json.loads((output / "resolved.json").read_text())
    assert resolved["requested"]["training"]["max_steps"] == 6
    assert train(path, output, "--set", "training.max_steps=8", "--set", "run.name=longer") == 0
    assert [step for kind, step, _ in losses(output) if kind == "step"] == [1, 2, 4, 6, 8]
    assert json.loads((output / "resolved.json").read_text())["effective"]["run"]["name"] == "longer"
    capsys.readouterr()
    half_written = output / "checkpoints/9.orbax-checkpoint-tmp"  # a run is saving there meanwhile
    half_written.mkdir()
    command = ["generate", "--from", str(output), "--prompt", "1 is", "--max-new-tokens", "5", "--temperature", "0"]
    assert main(command, dict(os.environ)) == 0
    first = capsys.readouterr().out
    assert first.startswith("1 is")
    assert main(command, dict(os.environ)) == 0
    assert capsys.readouterr().out == first
    assert half_written.exists()
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("1 is\n\n")
    more = ["--prompts", str(prompts), "--max-new-tokens", "5", "--temperature", "0", "--kv-cache", "float32"]
    assert main(["generate", "--from", str(output), *more, "--step", "6", "-o", "json"], dict(os.environ)) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["step"], answer["kv_cache"]) == (6, "float32")
    assert [(one["prompt"], one["prompt_tokens"], one["new_tokens"]) for one in answer["texts"]] == [
        ("1 is", 4, 5),
        ("", 1, 5),
    ]


def test_a_launcher_gives_the_job_by_environment_and_hears_the_end(tmp_path, planes):
    plane = planes()
    token = tmp_path / "token"
    token.write_text("secret")
    resolved = tmp_path / "resolved.json"
    resolved.write_text(small_job(tmp_path, training={"max_steps": 4}).model_dump_json())
    where = TrainerEnvironment(resolved, tmp_path / "out", "j-1", 2, plane.address, token, metrics_port=0)
    environ = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"}
    environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"  # the devices are the trainer's own choice
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "train"],
        env=environ | where.write(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert plane.tokens == {"Bearer secret"}
    kinds = [event["kind"] for event in plane.events]
    assert kinds.count("step") == 4
    assert kinds[-1] == "finished"
    assert plane.events[-1]["cause"] == "completed"
    (effective,) = [event for event in plane.events if event["kind"] == "effective"]
    assert effective["settings"]["backend"] == "cpu"
    assert effective["settings"]["devices"] == 1
    spoken = [line.partition(" ")[0] for line in done.stderr.splitlines()]
    assert spoken[:4] == ["metrics", "6.22k", "compiling", "compiled"]
    assert done.stderr.splitlines()[-1].startswith("Trained to step 4: loss ")
    logged = [event["message"] for event in plane.events if event["kind"] == "log"]
    assert logged == done.stderr.splitlines()
    journal = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert [event["message"] for event in journal if event["kind"] == "log"] == logged
    assert sum(line.startswith("step ") for line in logged) == 4


def test_a_missing_environment_is_named(capsys):
    assert main(["train"], {}) == 2
    assert "VISHWAMAI_RESOLVED is not set" in the_error(capsys)


def test_a_config_that_is_wrong_in_several_ways_is_told_all_of_them(config, tmp_path, capsys):
    assert train(config(model={"hidden_dims": 3}, training={"max_steps": "8"}), tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "/model/hidden_dims" in error
    assert "/training/max_steps" in error
    assert not (tmp_path / "out").exists()


def test_a_config_that_is_no_json(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model": ')
    assert train(tmp_path / "config.json", tmp_path / "out") == 2
    the_error(capsys)


def test_a_config_that_is_not_there(tmp_path, capsys):
    assert train(tmp_path / "config.json", tmp_path / "out") == 2
    assert str(tmp_path / "config.json") in the_error(capsys)


@pytest.mark.parametrize("setting", ["training.max_steps", "=3", "training.max_steps.x=3"])
def test_a_setting_that_is_malformed(config, tmp_path, capsys, setting):
    assert train(config(), tmp_path / "out", "--set", setting) == 2
    assert f"--set {setting}" in the_error(capsys)


def test_a_job_that_no_trainer_can_run_is_refused_before_anything_is_made(config, tmp_path, capsys):
    path = config(distillation={"teacher_model": "gemma-7b"})
    assert train(path, tmp_path / "out") == 2
    assert "distillation" in the_error(capsys)
    assert not (tmp_path / "out").exists()


def test_a_data_file_that_is_not_there(config, tmp_path, capsys):
    missing = tmp_path / "nowhere.txt"
    assert train(config(data={"train": [str(missing)]}), tmp_path / "out") == 2
    error = the_error(capsys)
    assert "data.train" in error
    assert str(missing) in error


def test_a_prepared_corpus_trains_like_its_text(config, tmp_path, capsys):
    path, prepared = config(), tmp_path / "prepared"
    assert main(["prepare", "--config", str(path), "--output", str(prepared), "--workers", "2"], dict(os.environ)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{prepared}: 1 documents of 1 files, ")
    assert train(path, tmp_path / "text", "--set", "training.max_steps=2") == 0
    folder = f'data.train=["{prepared}"]'
    assert train(path, tmp_path / "tokens", "--set", "training.max_steps=2", "--set", folder) == 0
    assert losses(tmp_path / "tokens") == losses(tmp_path / "text")
    assert not (tmp_path / "tokens/prepared").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--workers", "0"], "--workers is 0: give at least 1"),
        (["--set", 'data.train=["nowhere.txt"]'], "data.train: there is no file"),
    ],
)
def test_what_cannot_be_prepared(config, tmp_path, capsys, options, words):
    command = ["prepare", "--config", str(config()), "--output", str(tmp_path / "prepared"), *options]
    assert main(command, dict(os.environ)) == 2
    assert words in the_error(capsys)
    assert not (tmp_path / "prepared").exists()


def test_a_corpus_without_text(config, tmp_path, capsys):
    (tmp_path / "empty.txt").write_text("")
    assert train(config(data={"train": [str(tmp_path / "empty.txt")]}), tmp_path / "out") == 2
    assert "data.train" in the_error(capsys)


def test_a_tokenizer_with_more_words_than_the_model(config, tmp_path, capsys):
    words = {f"w{number}": number for number in range(300)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert train(config(data={"tokenizer": str(tmp_path / "tokenizer.json")}), tmp_path / "out") == 2
    error = the_error(capsys)
    assert "300" in error
    assert "model.vocab_size" in error


def test_an_output_folder_that_cannot_be(config, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert train(config(), tmp_path / "file/out") == 2
    assert str(tmp_path / "file/out") in the_error(capsys)


def test_a_checkpoint_folder_that_cannot_be(config, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert train(config(checkpoint={"directory": str(tmp_path / "file/here")}), tmp_path / "out") == 2
    assert "checkpoint.directory" in the_error(capsys)


def test_a_metrics_port_that_is_taken(config, tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert train(config(), tmp_path / "out", "--metrics-port", str(port)) == 2
    assert str(port) in the_error(capsys)


def test_generate_without_a_run(tmp_path, capsys):
    assert main(["generate", "--from", str(tmp_path), "--prompt", "x"], dict(os.environ)) == 2
    assert "resolved.json" in the_error(capsys)


def test_generate_with_what_cannot_be(tmp_path, capsys):
    given = ["--prompt", "x", "--top-p", "1.5", "--max-new-tokens", "0"]
    assert main(["generate", "--from", str(tmp_path), *given], dict(os.environ)) == 2
    error = the_error(capsys)
    assert "--top-p" in error
    assert "--max-new-tokens" in error


def test_generate_from_a_hugging_face_folder(capsys):
    folder = FOLDER / "llama"
    command = ["generate", "--from", str(folder), "--prompt", "the", "--max-new-tokens", "4", "-o", "json"]
    assert main(command, dict(os.environ)) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["step"] is None
    assert answer["kv_cache"] == "float32"
    assert answer["texts"][0]["prompt"] == "the"
    assert 0 <= answer["texts"][0]["new_tokens"] <= 4
