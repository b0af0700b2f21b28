"""The command line, `python -m trainer`: train, prepare, tokenizer, generate, plan, export, check-import."""

import argparse
import json
import logging
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from trainer.attempt import Attempt
from trainer.compile_cache import keep_compiled
from trainer.devices import detect_platform, prepare_devices
from trainer.endings import ending_of
from trainer.errors import TrainerError, UserError
from trainer.plan.command import choose_slice, make_plan, settle
from vishwamai.contract.environment import COMPILE_CACHE, TrainerEnvironment, read_cache, read_teachers
from vishwamai.contract.generation import CacheFormat, GenerateRequest
from vishwamai.contract.load import check_config, parse_json
from vishwamai.contract.plan_text import as_text
from vishwamai.contract.problems import InvalidConfig
from vishwamai.contract.resolve import resolve
from vishwamai.contract.resolved import Platform, ResolvedJob, SiteDefaults
from vishwamai.contract.states import CAUSES, Cause

_EPILOG = """exit codes:
  0 completed   1 internal error   2 the config or the data is at fault   70 out of memory   71 loss is no number
  72 stalled   73 stopped by a signal (saved; start again to go on)   74 host or disk failed   75 cancelled
"""

_SAMPLING: dict[str, tuple[type, str, str]] = {
    "max-new-tokens": (int, "N", "tokens to add to each prompt, at most; 200"),
    "temperature": (float, "T", "divides the logits; 0 takes the likeliest token each time; 0.8"),
    "top-k": (int, "K", "draw among the K likeliest tokens"),
    "top-p": (float, "P", "draw among the likeliest tokens that together reach this probability"),
    "min-p": (float, "P", "leave out tokens less probable than this share of the likeliest"),
    "repetition-penalty": (float, "R", "logits of tokens seen before are divided by R, or multiplied below 0"),
    "min-length": (int, "N", "new tokens before the end may come; the job's sequence.min_length"),
    "seed": (int, "N", "the same seed draws the same text; 0"),
}


def main(arguments: Sequence[str], environ: MutableMapping[str, str]) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "tokenizer":
            return _tokenizer(options, environ)
        if options.command == "generate":
            return _generate(options, environ)
        if options.command == "export":
            return _export(options, environ)
        if options.command == "check-import":
            return _check_import(options, environ)
        if options.command == "prepare":
            return _prepare(options, environ)
        if options.command == "plan":
            return _plan(options, environ)
        if options.config or options.output:
            return _train_by_hand(options, environ)
        return _train_for_launcher(environ)
    except (TrainerError, InvalidConfig) as error:
        cause, message = ending_of(error)
        sys.stderr.write(f"error: {message}\n")
        return CAUSES[cause].exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer", description="Trains VishwamAI models.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser(
        "train",
        help="train a config by hand, or without options the job that a launcher's environment names",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("--config", type=Path, metavar="FILE", help="training config, JSON")
    train.add_argument(
        "--output", type=Path, metavar="DIR", help="folder for checkpoints, metrics and logs; resumes there"
    )
    train.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="change a setting, e.g. training.max_steps=50"
    )
    train.add_argument("--platform", choices=get_args(Platform), help="where to run; detected when not given")
    train.add_argument(
        "--metrics-port", type=int, metavar="PORT", help="serve /metrics and /status here; 0: any free port"
    )
    _add_tokenizer(commands)
    _add_prepare(commands)
    _add_generate(commands)
    _add_plan(commands)
    _add_huggingface(commands)
    return parser


def _add_tokenizer(commands: Any) -> None:
    tokenizer = commands.add_parser("tokenizer", help="train a tokenizer.json: byte-level BPE on a corpus of your own")
    tokenizer.add_argument("--vocab-size", type=int, required=True, metavar="N", help="tokens, special ones included")
    tokenizer.add_argument(
        "--train", nargs="+", required=True, metavar="FILES", help="files, globs or addresses, as in data.train"
    )
    tokenizer.add_argument("--output", type=Path, required=True, metavar="FILE", help="such as tokenizer.json")
    tokenizer.add_argument(
        "--config", type=Path, metavar="FILE", help="has data.format, data.text_field and the ids of eos and pad"
    )
    tokenizer.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a setting")
    tokenizer.add_argument(
        "--held-out", type=float, default=0.02, metavar="SHARE", help="of the text is measured, not trained on; 0.02"
    )


def _add_prepare(commands: Any) -> None:
    prepare = commands.add_parser("prepare", help="tokenize data.train once, into folders that data.train may name")
    prepare.add_argument("--config", type=Path, required=True, metavar="FILE", help="training config, JSON")
    prepare.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="gets the tokens; of a mixture, a folder a source"
    )
    prepare.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a setting")
    prepare.add_argument("--workers", type=int, metavar="N", help="processes that tokenize; as many as there are cores")


def _add_generate(commands: Any) -> None:
    generate = commands.add_parser("generate", help="let a trained model go on from prompts")
    generate.add_argument(
        "--from",
        dest="source",
        type=Path,
        required=True,
        metavar="DIR",
        help="output folder of a run, or a Hugging Face checkpoint",
    )
    prompts = generate.add_mutually_exclusive_group(required=True)
    prompts.add_argument("--prompt", dest="prompts", action="append", metavar="TEXT", help="may be repeated")
    prompts.add_argument(
        "--prompts", dest="prompt_file", metavar="FILE", help="a JSON list of texts, or one per line; -: standard input"
    )
    for name, (kind, metavar, text) in _SAMPLING.items():
        generate.add_argument(f"--{name}", type=kind, metavar=metavar, help=text)
    generate.add_argument("--stop", action="append", metavar="TEXT", help="end a text before this; may be repeated")
    generate.add_argument("--kv-cache", choices=get_args(CacheFormat), help="format of keys and values; the job's")
    generate.add_argument("--step", type=int, metavar="N", help="checkpoint of a run to use; the newest")
    generate.add_argument("--tokenizer", metavar="FILE", help="'byte' or a tokenizer.json, in place of the folder's")
    generate.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the answer; text")


def _add_plan(commands: Any) -> None:
    plan = commands.add_parser(
        "plan", help="compile a config's step for a slice that nobody has to own: memory, cycles, what they go to"
    )
    plan.add_argument("--config", type=Path, required=True, metavar="FILE", help="training config, JSON")
    plan.add_argument(
        "--slice", metavar="GENERATION:TOPOLOGY", help="such as v5e:2x4 or v5p:4x4x4; else the config's own"
    )
    plan.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change a setting")
    plan.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the answer; text")
    plan.add_argument("--hlo", type=Path, metavar="FILE", help="also write the compiled program's text")


def _add_huggingface(commands: Any) -> None:
    export = commands.add_parser("export", help="write a model as a Hugging Face checkpoint")
    export.add_argument(
        "--from",
        dest="source",
        required=True,
        metavar="DIR",
        help="output folder of a run, its checkpoints or one of them (gs:// too), or a Hugging Face checkpoint",
    )
    export.add_argument("--step", type=int, metavar="N", help="checkpoint of a run; the newest")
    export.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder")
    export.add_argument(
        "--dtype", choices=("float32", "bfloat16"), help="else a run's weights are float32, a checkpoint's as they were"
    )
    export.add_argument(
        "--max-shard-bytes", type=int, default=5_000_000_000, metavar="N", help="larger files are split; 5000000000"
    )
    check = commands.add_parser("check-import", help="what a Hugging Face checkpoint computes, to compare")
    check.add_argument("folder", type=Path, metavar="HF_FOLDER")
    check.add_argument(
        "--inputs", type=Path, required=True, metavar="IN.npz", help="input_ids [B, T] and attention_mask [B, T]"
    )
    check.add_argument(
        "--output", type=Path, required=True, metavar="OUT.npz", help="gets logits and hidden_states, float32"
    )


def _train_by_hand(options: argparse.Namespace, environ: MutableMapping[str, str]) -> int:
    if not (options.config and options.output):
        raise UserError("--config FILE and --output DIR go together")
    job = _resolved(options, environ, options.platform)
    where = TrainerEnvironment(
        resolved=options.output / "resolved.json",
        output=options.output,
        metrics_port=options.metrics_port,
        cache=read_cache(environ),
    )
    return Attempt(job, where, by_hand=True).live(environ)


def _resolved(options: argparse.Namespace, environ: MutableMapping[str, str], platform: Platform | None) -> ResolvedJob:
    """The job of --config and --set."""
    document = parse_json(_read(options.config))
    for setting in options.set:
        _assign(document, setting)
    site = SiteDefaults(platform=platform or detect_platform(environ), teachers=_teachers(environ))
    return resolve(check_config(document), site)


def _prepare(options: argparse.Namespace, environ: MutableMapping[str, str]) -> int:
    job = _resolved(options, environ, None)
    _prepare_cpu(environ)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("trainer").setLevel(logging.INFO)
    from trainer.data.command import prepare_corpora

    if options.workers is not None and options.workers < 1:
        raise UserError(f"--workers is {options.workers}: give at least 1")
    for line in prepare_corpora(job, options.output, options.workers):
        sys.stdout.write(line + "\n")
    return 0


def _teachers(environ: MutableMapping[str, str]) -> dict[str, str]:
    try:
        return read_teachers(environ)
    except ValueError as error:
        raise UserError(str(error)) from error


def _train_for_launcher(environ: MutableMapping[str, str]) -> int:
    try:
        where = TrainerEnvironment.read(environ)
    except ValueError as error:
        raise UserError(str(error)) from error
    return Attempt(_resolved_job(where.resolved), where).live(environ)


def _tokenizer(options: argparse.Namespace, environ: MutableMapping[str, str]) -> int:
    document = parse_json(_read(options.config)) if options.config else {}
    for setting in options.set:
        _assign(document, setting)
    config = check_config(document)
    _prepare_cpu(environ)
    from trainer.tokenizer.command import TokenizerRequest, make_tokenizer

    request = TokenizerRequest(
        train=options.train,
        output=options.output,
        vocab_size=options.vocab_size,
        held_out=options.held_out,
        data=config.data,
        sequence=config.sequence,
    )
    sys.stdout.write(make_tokenizer(request))
    return 0


def _generate(options: argparse.Namespace, environ: MutableMapping[str, str]) -> int:
    from trainer.generate.origin import find_origin

    request = _generate_request(options)
    origin = find_origin(options.source, detect_platform(environ), options.tokenizer)
    prepare_devices(origin.job, environ)
    if folder := environ.get(COMPILE_CACHE):
        keep_compiled(Path(folder), environ)
    from trainer.generate.command import generate  # brings jax, whose devices are chosen by now

    answer = generate(origin, request)
    if options.output == "json":
        sys.stdout.write(answer.model_dump_json(indent=1) + "\n")
    else:
        sys.stdout.write("\n".join(one.prompt + one.text for one in answer.texts) + "\n")
    return 0


def _generate_request(options: argparse.Namespace) -> GenerateRequest:
    names = (*(name.replace("-", "_") for name in _SAMPLING), "stop", "kv_cache", "step")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    prompts = options.prompts if options.prompt_file is None else _prompts_in(options.prompt_file)
    try:
        return GenerateRequest(prompts=prompts, **given)
    except ValidationError as error:
        wrong = [f"--{str(one['loc'][0]).replace('_', '-')}: {one['msg']}" for one in error.errors()]
        raise UserError("; ".join(wrong)) from error


def _prompts_in(name: str) -> list[str]:
    content = sys.stdin.buffer.read() if name == "-" else _read(Path(name))
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"--prompts {name}: not UTF-8 ({error.reason})") from error
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        return text.splitlines()
    return found if isinstance(found, list) else text.splitlines()


def _plan(options: argparse.Namespace, environ: MutableMapping[str, str]) -> int:
    own = parse_json(sys.stdin.buffer.read() if str(options.config) == "-" else _read(options.config))
    document = choose_slice(own, options.slice)
    for setting in options.set:
        _assign(own, setting)
        _assign(document, setting)
    plan = make_plan(settle(document, own), environ, options.hlo)
    sys.stdout.write(plan.model_dump_json(indent=1) + "\n" if options.output == "json" else as_text(plan))
    return CAUSES[Cause.COMPLETED if plan.fits else Cause.OUT_OF_MEMORY].exit_code


def _export(options: argparse.Namespace, environ: MutableMapping[str, str]) -> int:
    _prepare_cpu(environ)
    from trainer.huggingface.command import export

    if options.max_shard_bytes < 1:
        raise UserError(f"--max-shard-bytes is {options.max_shard_bytes}: give at least 1")
    limits = {"dtype": options.dtype, "max_shard_bytes": options.max_shard_bytes}
    step = export(options.source, options.to, step=options.step, **limits)
    sys.stdout.write(f"{options.to}\n" if step is None else f"{options.to}: step {step}\n")
    return 0


def _check_import(options: argparse.Namespace, environ: MutableMapping[str, str]) -> int:
    _prepare_cpu(environ)
    from trainer.huggingface.check import check_import

    check_import(options.folder, options.inputs, options.output)
    return 0


def _prepare_cpu(environ: MutableMapping[str, str]) -> None:
    """What looks at weights needs no accelerator, and should not take one from a run."""
    environ["JAX_PLATFORMS"] = "cpu"
    environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def _resolved_job(path: Path) -> ResolvedJob:
    try:
        return ResolvedJob.model_validate_json(_read(path))
    except ValidationError as error:
        raise UserError(f"{path} is not the resolved job of a launcher or a run: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error


def _assign(document: dict[str, Any], setting: str) -> None:
    """Puts the value of 'a.b=value' into place: JSON where it is JSON, else text."""
    name, equals, text = setting.partition("=")
    *sections, field = name.split(".")
    place = document
    for section in sections:
        inner = place.setdefault(section, {})
        if not isinstance(inner, dict):
            raise UserError(f"--set {setting}: {section} is not a section")
        place = inner
    if not equals or not field:
        raise UserError(f"--set {setting}: write it as section.field=value")
    try:
        place[field] = json.loads(text)
    except json.JSONDecodeError:
        place[field] = text
