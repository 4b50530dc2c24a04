"""`generate` and `inspect` on a real run: where prompts and texts come from, what is printed, what is refused."""

import json
import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import pexpect
import pytest
from cli import TINY, command, corpus, environment, only_run, run
from comparison.page_reading import Page

from atomiclm.generate import main
from atomiclm.inspect import main as inspect


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    done = run(
        folder, "train", "data=text", f"data.path={corpus(folder)}", *TINY, "trainer.max_steps=5", "evaluation.times=1",
        "evaluation.samples=0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return str(only_run(folder))


@pytest.fixture(autouse=True)
def cache(trained, monkeypatch):
    monkeypatch.setenv("ATOMICLM_CACHE", environment(Path(trained).parents[2])["ATOMICLM_CACHE"])


@pytest.fixture
def stdin(tmp_path):
    """A function that makes a text the standard input of this process."""
    saved = os.dup(0)

    def give(text):
        path = tmp_path / "stdin"
        path.write_text(text)
        number = os.open(path, os.O_RDONLY)
        os.dup2(number, 0)
        os.close(number)

    yield give
    os.dup2(saved, 0)
    os.close(saved)


def printed(capsys, *arguments):
    status = main(list(arguments))
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return captured.out


def records(capsys, *arguments):
    return [json.loads(line) for line in printed(capsys, *arguments, "--json").splitlines()]


SHORT = ("--max-tokens", "12")


def test_one_prompt_is_printed_with_its_continuation(trained, capsys):
    (record,) = records(capsys, trained, "--prompt", "the cat", *SHORT)
    assert record.keys() == {"prompt", "text", "tokens", "seed", "stop", "log_probability", "choices"}
    assert printed(capsys, trained, "--prompt", "the cat", *SHORT) == f"the cat{record['text']}\n"
    assert printed(capsys, trained, "--prompt", "the cat", *SHORT, "-q") == f"{record['text']}\n"
    samples = printed(capsys, trained, "--prompt", "the cat", *SHORT, "--samples", "2")
    assert samples.startswith(f"--- sample 1, seed 1\nthe cat{record['text']}\n--- sample 2, seed 2\nthe cat")


def test_each_of_many_prompts_gets_what_it_gets_alone(trained, capsys, tmp_path):
    prompts = ["the cat", "a dog sees my aunt and then", "one", "\u2028x"]
    (tmp_path / "lines").write_text("\n\n".join(prompts) + "\n")
    (tmp_path / "json").write_text("".join(json.dumps({"id": 1, "prompt": prompt}) + "\n" for prompt in prompts))
    asked = (*SHORT, "--samples", "2", "--seed", "4", "--batch-size", "3")
    texts = records(capsys, trained, "--prompts", str(tmp_path / "lines"), *asked)
    assert texts == records(capsys, trained, "--prompts", str(tmp_path / "json"), *asked)
    assert [(text["prompt"], text["seed"]) for text in texts] == [(each, seed) for each in prompts for seed in (4, 5)]
    for text in texts:
        (alone,) = records(capsys, trained, "--prompt", text["prompt"], *SHORT, "--seed", str(text["seed"]))
        assert (text["text"], text["tokens"], text["stop"]) == (alone["text"], alone["tokens"], alone["stop"])
        assert text["log_probability"] == pytest.approx(alone["log_probability"], rel=1e-4)
    shown = printed(capsys, trained, "--prompts", str(tmp_path / "lines"), *SHORT)
    assert shown.count("--- prompt ") == 4
    assert "--- prompt 2 of 4, seed 1\na dog sees my aunt and then" in shown


def test_prompts_from_standard_input(trained, capsys, stdin):
    stdin("the cat\nsees\n")
    (record,) = records(capsys, trained, *SHORT, "--prompt", "-")
    assert record["prompt"] == "the cat\nsees"
    stdin("the cat\nsees\n")
    assert [each["prompt"] for each in records(capsys, trained, *SHORT, "--prompts", "-")] == ["the cat", "sees"]
    stdin("not read")  # as in a shell's loop over lines, where they are the loop's
    assert records(capsys, trained, *SHORT)[0]["prompt"] == ""


def test_alternatives_are_a_table(trained, capsys):
    shown = printed(capsys, trained, "--prompt", "the cat", "--max-tokens", "4", "--alternatives", "2")
    table = shown.partition("\ntoken ")[2].splitlines()
    assert len(table) >= 5
    (record,) = records(capsys, trained, "--prompt", "the cat", "--max-tokens", "4", "--alternatives", "2")
    assert [len(choice["alternatives"]) for choice in record["choices"]] == [2] * 4


def test_a_prompt_longer_than_the_context_is_said(trained, capsys):
    assert main([trained, "--prompt", "the cat " * 50, *SHORT]) == 0
    assert "with a context of 32, sees the last 16 of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompts", "absent"), "--prompts absent: No such file"),
        (("--prompts", "."), "--prompts .: Is a directory"),
        (("--prompts", "empty"), "--prompts empty: no prompts in it; give one per line"),
        (("--prompts", "latin"), "not UTF-8 from byte 2 on"),
        (("--prompts", "mixed"), 'mixed, line 3: no JSON object with a text "prompt"'),
        (("--prompts", "other"), 'other, line 1: no JSON object with a text "prompt"; give one in each line'),
        (("--temperature", "-1"), "temperature=-1.0 must be 0"),
        (("--samples", "0"), "samples=0 must be 1 or more"),
        (("--batch-size", "0"), "is not a whole number of at least 1"),
        (("--prompt", "x", "-i"), "not allowed with argument --prompt"),
        (("-i", "--json"), "not allowed with --json or --quiet"),
        (("--quiet", "--alternatives", "2"), "not allowed with --alternatives"),
    ],
)
def test_misuse(trained, capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "latin").write_bytes(b"\xc3\xa9\xe9")
    (tmp_path / "mixed").write_text('{"prompt": "a"}\n\n{"prompt": 1}\n')
    (tmp_path / "other").write_text('{"text": "a"}\n')
    try:
        status = main([trained, *arguments])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert message in capsys.readouterr().err


def test_the_prompt_loop_in_a_terminal(trained, tmp_path):
    name, *arguments = command("generate", trained, "-i", "--max-tokens", "5")
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # also where these tests run in the background
    with pexpect.spawn(
        name, arguments, cwd=str(tmp_path), env=environment(tmp_path) | {"TERM": "xterm"}, encoding="utf-8", timeout=60,
        preexec_fn=heed,
    ) as loop:  # fmt: skip
        loop.expect("Ctrl-D leaves.*\n> ")
        loop.sendline("the cat")
        loop.expect(r"\x1b\[2mthe cat\x1b\[0m.*--- seed 1, 5 tokens, log-probability -.*\n> ")
        loop.send("\x1b[A\r")  # the line before, by the arrow key
        loop.expect("--- seed 2, 5 tokens.*\n> ")
        loop.sendline("/max_token 1000000")
        loop.expect("did you mean /max_tokens.*\n> ")
        loop.sendline("/temperature 0")  # repeats itself, so that no text ends by itself
        loop.expect("\n> ")
        loop.sendline("/max_tokens 1000000")
        loop.expect("\n> ")
        loop.sendline("a dog")
        loop.expect(r"2ma dog\x1b\[0m.{40}")
        loop.sendintr()
        loop.expect("\n> ")
        loop.sendline("/seed")
        loop.expect("/seed 4.*\n> ")
        loop.sendeof()
        loop.expect(pexpect.EOF)
        loop.close()
        assert loop.exitstatus == 0


def test_colour_is_for_terminals_and_can_be_refused(trained, capsys, monkeypatch):
    monkeypatch.setattr("atomiclm.generate.is_redrawn", lambda stream: True)
    asked = (trained, "--prompt", "cat\x1b[31m", "--samples", "2", "--max-tokens", "5")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[2mcat\\x1b[31m\x1b[0m" in printed(capsys, *asked)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in printed(capsys, *asked)


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_ends_it(trained, tmp_path):
    pipeline = " ".join([*command("generate", trained, "--max-tokens", "100000"), "</dev/null | head -c 40"])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", pipeline], env=environment(tmp_path), capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) == 40


def inspected(capsys, *arguments):
    """The page, what was printed, and what was said."""
    status = inspect(list(arguments))
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return Page(Path(captured.out.strip()).read_text(encoding="utf-8")), captured


def passage(page):
    return page.root.one("div", id="passage").text.replace("⏎", "")


def test_inspect_reads_the_beginning_of_the_runs_own_validation_text(trained, capsys, monkeypatch, tmp_path):
    page, captured = inspected(capsys, trained)
    assert captured.out == f"{trained}/inspect.html\n"
    shown = passage(page)
    text = (Path(trained).parents[2] / "corpus.txt").read_text()
    assert shown.startswith("<|endoftext|>")
    assert shown.removeprefix("<|endoftext|>") in text
    assert len(page.table("Predictions of each layer")) == 1 + 32, "as many tokens as the context, and one more"
    (Path(trained).parents[2] / "corpus.txt").rename(tmp_path / "elsewhere")
    try:
        assert inspect([trained]) == 2
        assert "give a text with --text FILE or --prompt" in capsys.readouterr().err
    finally:
        (tmp_path / "elsewhere").rename(Path(trained).parents[2] / "corpus.txt")


def test_inspect_reads_a_file_standard_input_or_the_prompt(trained, capsys, stdin, tmp_path):
    output = ("--output", str(tmp_path / "page.html"))
    (tmp_path / "text").write_text("the cat\nsees <b>")
    stdin("the cat\nsees <b>")
    for asked in (("--text", str(tmp_path / "text")), ("--text", "-"), ("--prompt", "the cat\nsees <b>")):
        page, captured = inspected(capsys, trained, *asked, *output)
        assert passage(page) == "<|endoftext|>the cat\nsees <b>"
        assert captured.out == f"{tmp_path}/page.html\n"


def test_inspect_says_that_a_text_is_cut(trained, capsys, tmp_path):
    output = ("--output", str(tmp_path / "page.html"))
    long = ("--prompt", "the cat " * 50)
    for asked, said in (
        (long, "these are the first 32, as many as the model's context holds"),
        ((*long, "--max-tokens", "5"), "these are the first 5, as many as --max-tokens allows"),
    ):
        page, captured = inspected(capsys, trained, *asked, *output)
        assert said in captured.err
        assert said in page.root.one("section", id="text").text
        assert f"the first {len(page.table('Predictions of each layer')) - 1}," in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--text", "absent"), "--text absent: No such file"),
        (("--prompt", ""), "--prompt: no text in it"),
        (("--prompt", "x", "--text", "-"), "not allowed with argument --prompt"),
        (("--max-tokens", "0"), "is not a whole number of at least 1"),
        (("--alternatives", "21"), "is not a whole number from 1 to 20"),
    ],
)
def test_misuse_of_inspect(trained, capsys, arguments, message):
    try:
        status = inspect([trained, *arguments])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert message in capsys.readouterr().err
