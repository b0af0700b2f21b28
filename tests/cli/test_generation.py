import json

import pytest

from vishwamai.contract.generation import GenerateAnswer, GeneratedText

TEXT = GeneratedText(prompt="def", text=" main():\n\x1b[31mpass", prompt_tokens=3, new_tokens=14, ended="eos")
ANSWER = GenerateAnswer(texts=[TEXT], step=20, kv_cache="fp8")
LINE = "POST /jobs/j1:generate"


def test_texts_are_shown_and_never_obeyed(plane, run):
    there = plane({LINE: ANSWER})
    given = ["--prompt", "def", "-p", "class", "--top-k", "5", "--stop", "x", "--step", "20", "--temperature", "0"]
    result = run("generate", "j1", *given, at=there)
    assert result.exit_code == 0
    assert result.stdout == "def main():\n\\x1b[31mpass\n"
    assert "step 20; 14 tokens" in result.stderr
    assert there.bodies(LINE) == [
        {"prompts": ["def", "class"], "temperature": 0.0, "top_k": 5, "stop": ["x"], "step": 20}
    ]


def test_prompts_come_from_a_list_and_the_answer_goes_out_as_it_came(plane, run):
    text = ANSWER.model_dump_json(indent=1)
    there = plane({LINE: text})
    result = run("generate", "j1", "--prompts", "-", "-o", "json", at=there, stdin=json.dumps(["a", "b"]))
    assert result.stdout == text + "\n"
    assert there.bodies(LINE)[0]["prompts"] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--prompts: "),
        (["-p", "x", "--top-p", "2"], "--top-p 2.0: "),
        (["-p", "x", "--kv-cache", "int4"], "--kv-cache 'int4': "),
        (["--prompts", "-"], "no JSON"),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_is_sent(plane, run, arguments, words):
    there = plane({LINE: ANSWER})
    result = run("generate", "j1", *arguments, at=there, stdin="{")
    assert result.exit_code == 2
    assert words in result.stderr
    assert there.requests == []


def test_a_plane_with_its_hands_full_is_said_to_be(plane, run):
    problem = {"title": "Busy", "status": 429, "detail": "1 of at most 1 generations are under way"}
    result = run("generate", "j1", "-p", "x", at=plane({LINE: (429, problem)}))
    assert result.exit_code == 4
    assert "are under way" in result.stderr
