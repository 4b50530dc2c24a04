"""From a configuration to a corpus, and what is said of it."""

import subprocess
import sys

import pytest
from cli import TINY, corpus, environment, run

from atomiclm.config.compose import compose, resolved
from atomiclm.config.load import prepare_corpus, vocabulary_note


@pytest.mark.parametrize(("asked", "rows"), [(300, 300), (300, 512), (60_000, 60_000)])
def test_a_vocabulary_smaller_than_asked_for_is_told(asked, rows, tmp_path):
    (tmp_path / "text.txt").write_text("a few words, a few words more, and a few more. " * 40)
    values = resolved(compose([
        "data=text", f"data.path={tmp_path / 'text.txt'}", f"cache_dir={tmp_path / 'cache'}",
        f"tokenizer.vocab_size={asked}", f"model.vocab_size={rows}",
    ]))  # fmt: skip
    prepared = prepare_corpus(values)
    learned = prepared.tokenizer.vocab_size
    assert 257 < learned < 300
    note = vocabulary_note(values, prepared)
    assert note is not None
    assert f"{learned} of the {asked:,} ids of tokenizer.vocab_size were learned" in note
    assert f"the model has {rows:,} rows" in note
    assert f"{rows - learned:,} of them never used: tokenizer.vocab_size={learned}" in note
    values["tokenizer"]["vocab_size"] = learned
    assert vocabulary_note(values, prepared) is None


@pytest.mark.slow
def test_a_run_with_more_rows_than_ids_says_so_and_writes_its_samples(tmp_path):
    """Its first samples are drawn from all rows alike, and nearly all of them stand for nothing."""
    corpus(tmp_path, 60)
    chosen = [*TINY, "data=text", "data.path=corpus.txt", "tokenizer.vocab_size=20_000", "trainer.max_steps=1"]
    done = run(tmp_path, "train", *chosen)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of the 20,000 ids of tokenizer.vocab_size were learned" in done.stdout
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    written = run(tmp_path, "generate", str(folder), "--max-tokens", "20", "--temperature", "5")
    assert written.returncode == 0, written.stderr


SLOW_PREPARE = """
import sys
import atomiclm.tokenizer.patterns
atomiclm.tokenizer.patterns.SLOW_SECONDS = 0.01
sys.argv[1:] = ["data=text", "data.path=text.txt", "tokenizer.pattern='(?:a|aa)+c|[^c]'"]
from atomiclm.prepare import main
main()
"""


@pytest.mark.slow
def test_a_command_shows_what_the_tokenizer_warns_of(tmp_path):
    (tmp_path / "text.txt").write_text("begun x " + "a" * 28 + "b c" + 99 * " and more")
    done = subprocess.run(
        [sys.executable, "-c", SLOW_PREPARE], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "tokenizer.pattern: '(?:a|aa)+c|[^c]' has looked for one piece" in done.stderr
    assert "at character 8 of" in done.stderr
