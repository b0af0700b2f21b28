"""Strings from elsewhere: shown, never obeyed."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.client import bodies
from vishwamai.cli import render
from vishwamai.cli.text import clean, count, duration, shown, size
from vishwamai.cli.watch import PlainView
from vishwamai.contract.problems import Notice, Problem

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]x[/red]\u202eevil\x9b31m\r:smile: \ud800{task}"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("naïve 漢字 👩\u200d🚀", "naïve 漢字 👩\u200d🚀"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("two\nlines", "two\\nlines"),
        ("\u202eabc", "\\u202eabc"),
        ("\x9b31m", "\\x9b31m"),
        ("\ud800", "\\ud800"),
    ],
)
def test_clean_shows_what_would_steer_a_terminal(text, seen):
    assert clean(text) == seen


def test_lines_may_stay():
    assert clean("def f():\n\treturn\r", lines=True) == "def f():\n\treturn\\r"


@given(st.text())
def test_clean_text_is_one_printable_encodable_line(text):
    cleaned = clean(text)
    assert not any(char in cleaned for char in "\x1b\n\r\x07\x9b\u202e\u2066")
    cleaned.encode()


def test_hostile_strings_reach_no_terminal_as_commands(plane, run):
    hostile = HOSTILE.replace("\ud800", "")  # which no JSON text can carry
    attempt = bodies.failed().attempts[0].model_copy(update={"message": hostile})
    job = bodies.failed(
        name=hostile, reason=hostile, output=hostile, labels={"a": hostile}, tags=[hostile], attempts=[attempt],
        warnings=[Notice(code="x", pointer=hostile, message=hostile, fix=hostile)],
    )  # fmt: skip
    there = plane({"GET /jobs/j1": job.model_dump(mode="json"), "GET /jobs": {"jobs": [job.model_dump(mode="json")]}})
    for arguments in (["get", "j1"], ["list"]):
        result = run(*arguments, at=there)
        assert result.exit_code == 0
        assert "\\x1b]0;owned\\x07\\x1b[2J[red]x[/red]\\u202eevil" in result.stdout.replace("\n", "") or arguments == [
            "list"
        ]
        assert "[red]" in result.stdout
        assert not set("\x1b\x07\x9b\u202e\r") & set(result.stdout)


def test_hostile_strings_in_colour_keep_only_our_own_escapes():
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, color_system=None, width=500, markup=False, highlight=False, emoji=False
    )
    with PlainView(console) as view:
        view.event(bodies.event(1, "eval", HOSTILE))
        view.note(HOSTILE)
    render.problems(
        console,
        [Problem(pointer="/x", message=HOSTILE, hint=HOSTILE, accepted=f"{HOSTILE}, or less")],
        lambda pointer: HOSTILE,
    )
    render.ending(console, bodies.succeeded(sample=HOSTILE, output=HOSTILE), [])
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().count("[red]x[/red]") == 8
    assert ":smile:" in out.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (True, "true"),
        ("v5e", "v5e"),
        ("", '""'),
        ({"data": 4, "model": 1}, "data 4, model 1"),
        (0.5, "0.5"),
        ("x" * 99, "x" * 59 + "…"),
    ],
)
def test_settings_are_shown_as_json(value, text):
    assert shown(value) == text


def test_measures():
    assert [count(x) for x in (None, 0, 999, 1500, 2.5e6, 7e9)] == ["—", "0", "999", "1.5k", "2.5M", "7.0B"]
    assert [size(x) for x in (None, 10, 2048, 3 << 40)] == ["—", "10 B", "2.0 KiB", "3.0 TiB"]
    assert [duration(x) for x in (None, 0.4, 61, 3600, 90_061)] == ["—", "0s", "1m 01s", "1h 00m", "1d 01h"]
