"""transformers' generation with its own key/value cache, in a process of its own: `transformers_cache.py FOLDER`.

Needs torch and transformers and nothing of this repository, so that any Python that has them will do. Reads a JSON line
{"prompts": [[id, ...], ...], "new": N}, answers {"prefill": s, "decode": s, "ids": [[...], ...]}; greedy, no end.
"""

import json
import sys
import time
import warnings

import torch
import transformers


def main(folder: str) -> None:
    """Loads the checkpoint, which is float32, then does what it reads."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")  # of names that one version or another calls old
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    say(
        {
            "versions": f"transformers {transformers.__version__}, torch {torch.__version__}",
            "threads": torch.get_num_threads(),
        }
    )
    for line in sys.stdin:
        order = json.loads(line)
        with torch.inference_mode():
            say(generated(model, torch.tensor(order["prompts"]), order["new"]))


def generated(model: torch.nn.Module, prompts: torch.Tensor, new: int) -> dict[str, object]:
    """Seconds of the prompt's pass and of the `new` tokens' passes, and the tokens."""
    began = time.perf_counter()
    answer = model(prompts, use_cache=True)
    token = answer.logits[:, -1].argmax(-1, keepdim=True)
    middle = time.perf_counter()
    tokens = [token]
    for _ in range(new - 1):
        answer = model(token, past_key_values=answer.past_key_values, use_cache=True)
        token = answer.logits[:, -1].argmax(-1, keepdim=True)
        tokens.append(token)
    ended = time.perf_counter()
    return {"prefill": middle - began, "decode": ended - middle, "ids": torch.cat(tokens, 1).tolist()}


def say(facts: dict[str, object]) -> None:
    """A line on standard output."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
