"""What goes in and what comes out: sections `sequence`, `logging`, `data`, `checkpoint` and `run`."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from vishwamai.contract.base import Section
from vishwamai.contract.config.tpu import GKE_NAME

Location = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Locations = Annotated[list[Location], Field(min_length=1)]
SetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?$")]
LabelValue = Annotated[str, StringConstraints(max_length=256)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64)]

BUILTIN_CORPUS = "builtin:python"
"""Names the demo corpus: the Python standard library's own source and documentation on the trainer's machine."""

MAIN_SET = "eval"
"""The evaluation set that has no other name."""


class SequenceSection(Section):
    """Text generation and special tokens."""

    max_length: int = Field(2048, ge=1, le=4_194_304, description="Prompt and generated tokens together, at most.")
    min_length: int = Field(8, ge=0, le=4_194_304, description="Generate at least this many tokens.")
    pad_token_id: int = Field(0, ge=0, lt=4_194_304, description="Fills the end of short rows; never predicted.")
    eos_token_id: int = Field(1, ge=0, lt=4_194_304, description="Ends a document.")
    chunk_size: int = Field(128, ge=1, le=1_048_576, description="Prompt tokens per pass of the prefill.")


class LoggingSection(Section):
    """How often things happen, in optimizer steps; 0 means never."""

    log_every: int = Field(100, ge=1, le=1_000_000_000, description="Steps between reports of loss and speed.")
    eval_every: int = Field(1000, ge=0, le=1_000_000_000, description="Steps between evaluations.")
    save_every: int = Field(
        10_000, ge=0, le=1_000_000_000, description="Steps between checkpoints; one is always saved at the end."
    )
    profile_every: int = Field(5000, ge=0, le=1_000_000_000, description="Steps between profiler captures.")


class MixtureSource(Section):
    """One source of a mixture."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="For reports.")
    files: list[Location] = Field(min_length=1, description="Its files, named as in data.train.")
    weight: float = Field(1.0, ge=1e-6, le=1e6, description="Its share of the windows, relative to the others'.")


class DataSection(Section):
    """The corpus and its tokenizer."""

    train: list[Location | MixtureSource] = Field(
        [BUILTIN_CORPUS],
        min_length=1,
        description="Files, globs or saved datasets, on disk or at gs:// or s3:// addresses, or "
        f"{BUILTIN_CORPUS!r} for the demo corpus; or a folder of `python -m trainer prepare`; or sources to mix, each "
        "with a name, files and a weight. Relative paths are taken from the folder that the control plane, or a "
        "trainer run by hand, was started in.",
    )
    cache: Location | None = Field(
        None,
        description="Folder that keeps tokenized text for other runs, too. Absent: each run keeps it in its output.",
    )
    allow_change: bool = Field(
        False, description="Go on from a checkpoint although the text it was trained on has changed."
    )
    eval: Locations | Annotated[dict[SetName, Locations], Field(min_length=1, max_length=64)] | None = Field(
        None,
        description='Held-out files, named as in train; or several sets of them by name, {"wiki": ["wiki/*.txt"]}, the '
        "main one first. Absent: eval_fraction of the documents.",
    )
    eval_fraction: float = Field(0.02, ge=0.0, lt=1.0, description="Share of documents held out when eval is absent.")
    eval_batches: int = Field(8, ge=1, le=100_000, description="Batches in one evaluation, always the same ones.")
    format: Literal["auto", "text", "jsonl", "parquet", "arrow", "array_record"] = Field(
        "auto", description="File format; auto goes by the name."
    )
    text_field: str = Field("text", min_length=1, max_length=256, description="Field or column that holds the text.")
    tokenizer: Location = Field(
        "byte",
        description="'byte' (256 bytes and two specials), or a tokenizer.json of HF tokenizers, found as train is.",
    )
    min_length: int = Field(1, ge=1, le=4_194_304, description="Documents with fewer tokens are left out.")
    shuffle: bool = Field(True, description="Visit windows in a new random order every epoch.")

    def eval_sets(self) -> dict[str, list[str]]:
        """Locations of each evaluation set that `eval` names, the main one first; none where it is absent."""
        named = {MAIN_SET: self.eval} if isinstance(self.eval, list) else self.eval or {}
        return {name: list(locations) for name, locations in named.items()}

    def sources(self) -> list[MixtureSource]:
        """What `train` mixes; plain locations are one source."""
        plain = [one for one in self.train if isinstance(one, str)]
        mixed = [one for one in self.train if isinstance(one, MixtureSource)]
        return ([MixtureSource(name="train", files=plain)] if plain else []) + mixed


class CheckpointSection(Section):
    """Which checkpoints are kept, and where a run starts from."""

    directory: Location | None = Field(
        None, description="Folder or gs:// address where checkpoints go. Absent: the job's own output folder."
    )
    keep_last: int = Field(3, ge=1, le=10_000, description="Newest checkpoints kept.")
    keep_every: int | None = Field(
        None, ge=1, le=1_000_000_000, description="Also keep every checkpoint whose step is a multiple of this."
    )
    keep_best: int | None = Field(
        None, ge=1, le=10_000, description="Also keep this many of lowest evaluation loss, of the steps evaluated."
    )
    best_of: str | None = Field(
        None, min_length=1, max_length=64, description="Evaluation set that keep_best goes by. Absent: the first."
    )
    asynchronous: bool = Field(True, description="Write in the background while training goes on.")
    init_from: Location | None = Field(
        None,
        description="Folder of a Hugging Face checkpoint whose weights a run starts from when it has none of its own.",
    )
    restore: Literal["newest", "never"] | Annotated[int, Field(ge=0, lt=1_000_000_000)] = Field(
        "newest", description="Start from the newest committed checkpoint, from none, or from that of one step."
    )


class RunSection(Section):
    """The run's name and bookkeeping."""

    kind: Literal["train", "cache_teacher"] = Field(
        "train",
        description="What the job does: train the model, or write distillation.cache for a training that has "
        "the same config but for this setting.",
    )
    name: str | None = Field(None, min_length=1, max_length=200, description="A name for people; need not be unique.")
    labels: dict[LabelKey, LabelValue] = Field(
        {},
        max_length=64,
        description="Key/value pairs to filter by.",
        json_schema_extra={"additionalProperties": False},
    )
    tags: list[Tag] = Field([], max_length=64, description="Words to filter by.")
    notes: str = Field("", max_length=65_536, description="Free text.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seeds initialization, data order and dropout.")
    queue: str | None = Field(
        None, pattern=GKE_NAME, max_length=63, description="Kueue's LocalQueue in which the job waits for its quota."
    )
    priority_class: str | None = Field(
        None, pattern=GKE_NAME, max_length=63, description="PriorityClass of the job's pods."
    )
    max_restarts: int = Field(3, ge=0, le=1000, description="Restarts after faults; preemptions are not counted.")
    grace_seconds: float = Field(
        30.0, ge=1.0, le=86_400.0, description="Time a trainer has from SIGTERM to its exit, saving included."
    )
    stall_seconds: float = Field(
        600.0,
        ge=1.0,
        le=86_400.0,
        description="Time without a step, and at least ten median steps, after which a trainer gives up as stalled.",
    )
