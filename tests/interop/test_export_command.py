"""The command, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import cli
import pytest
import torch

from atomiclm.config.load import load_run
from atomiclm.tokenizer import BasicTokenizer
from atomiclm.tracking import find_run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    corpus = cli.corpus(folder)
    done = cli.run(folder, "train", *cli.TINY, "data=text", f"data.path={corpus}", "trainer.max_steps=2")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_a_run_is_exported_and_loads_elsewhere(trained):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = cli.only_run(trained)
    done = cli.run(trained, "export", str(run), "--format", "huggingface", "exported")
    assert done.returncode == 0, done.stderr
    assert "as LlamaForCausalLM, float32" in done.stdout
    assert "AutoModelForCausalLM.from_pretrained('exported')" in done.stdout

    ours = load_run(*find_run(str(run)))
    theirs = AutoModelForCausalLM.from_pretrained(trained / "exported")
    tokenizer = AutoTokenizer.from_pretrained(trained / "exported")
    text = "the cat sees a dog and then 3 more\n"
    ids = ours.tokenizer.encode(text)
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids) == text
    tokens = torch.tensor([ids])
    with torch.no_grad():
        assert torch.allclose(ours.model(tokens), theirs(tokens).logits, atol=1e-4)
    generated = theirs.generate(tokens, max_new_tokens=4, do_sample=False)
    assert generated.shape == (1, len(ids) + 4) or generated[0, -1] == theirs.generation_config.eos_token_id


@pytest.mark.slow
def test_the_tokenizer_alone_is_exported_for_tiktoken(trained):
    run = cli.only_run(trained)
    done = cli.run(trained, "export", str(run), "ranks", "--format", "tiktoken")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("load it with\n")[1]
    code = "\n".join(line.strip() for line in lines.splitlines()).replace("tiktoken.Encoding", "e = tiktoken.Encoding")
    found: dict = {}
    here = Path.cwd()
    try:
        os.chdir(trained)
        exec(code, found)  # what the command prints is what a user would paste
    finally:
        os.chdir(here)
    tokenizer = BasicTokenizer.load(run / "tokenizer.json")
    text = "the cat sees a dog <|endoftext|> and then 3 more\n"
    assert found["e"].encode(text, allowed_special="all") == tokenizer.encode(text, "all")
    assert found["e"].n_vocab == tokenizer.vocab_size
    again = cli.run(trained, "export", str(run), "ranks", "--format", "tiktoken")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "ranks is not an empty folder" in again.stderr
    weights = cli.run(trained, "export", str(run), "other", "--format", "tiktoken", "--dtype", "bfloat16")
    assert (weights.returncode, weights.stderr.count("\n")) == (2, 1)


@pytest.mark.slow
def test_mistakes_are_one_line_and_status_2(trained):
    (trained / "full").mkdir(exist_ok=True)
    (trained / "full" / "note.txt").write_text("mine")
    for arguments, words in [
        (("nonsense", "out"), "no folder 'nonsense'"),
        ((str(cli.only_run(trained)), "full"), "not an empty folder"),
    ]:
        done = cli.run(trained, "export", *arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in (trained / "full").iterdir()] == ["note.txt"]


def test_help_does_not_import_torch():
    code = (
        "import sys, atomiclm.export\n"
        "try: atomiclm.export.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--dtype" in done.stdout
