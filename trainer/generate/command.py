"""`python -m trainer generate`: prompts continued by a run's checkpoint, or an imported one."""

from trainer.data.tokenizers import check_fits, open_tokenizer
from trainer.generate.origin import Origin
from trainer.generate.writer import Writer
from trainer.huggingface.load import load_params
from trainer.mesh import make_mesh
from trainer.restored import params_at
from vishwamai.contract.generation import GenerateAnswer, GenerateRequest


def generate(origin: Origin, request: GenerateRequest) -> GenerateAnswer:
    """What the model makes of the prompts. Raises UserError for a checkpoint or tokenizer that cannot be used."""
    job = origin.job
    tokenizer = open_tokenizer(job.effective.data.tokenizer, job.effective.sequence)
    check_fits(tokenizer, job.effective.model)
    mesh = make_mesh(job)
    step = None
    if origin.imported is not None:
        params = load_params(origin.imported)
    else:
        params, step = params_at(job, mesh, origin.folder, request.step)
    writer = Writer(job, mesh, tokenizer, request.kv_cache, origin.eos_ids)
    texts = writer.write(params, request.prompts, request)
    return GenerateAnswer(texts=texts, step=step, kv_cache=writer.generator.kept)
