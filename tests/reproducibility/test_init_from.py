"""A run that starts with the weights of another model: what it takes, what it refuses, what it is called."""

import json
import random
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest
import torch
from cli import TINY, corpus, environment, only_run
from cli import command as command_line
from cli import run as command
from faults.evidence import run_folder, timeless, trained_steps

from atomiclm.cli import UserError
from atomiclm.config.evaluating import LoadedRun
from atomiclm.config.expand_overrides import expand_overrides
from atomiclm.config.run import RunConfig, read_cell
from atomiclm.interop import load_huggingface, save_huggingface
from atomiclm.run import Run
from atomiclm.tokenizer import BasicTokenizer
from atomiclm.tracking import Console, RunFolder, run_lock
from atomiclm.training import checkpoint
from atomiclm.training.processes import Processes

UNMOVED = ("optim.lr=1e-30", "optim.weight_decay=0", "trainer.max_steps=1")
"""Steps too small to change a float32 that is not 0."""
SIZES = [one for one in TINY if not one.startswith(("model", "tokenizer"))]


def _read(folder: Path, name: str, *more: str) -> RunConfig:
    return read_cell([
        "data=text", f"data.path={folder / 'other.txt'}", *SIZES, f"output_dir={folder / 'outputs'}", f"name={name}",
        f"cache_dir={folder / 'cache'}", "evaluation.samples=0", "runtime.checkpoint_every_seconds=0",
        "runtime.log_every_steps=2", "runtime.num_threads=1", "schedule.warmup_steps=0", "trainer.max_steps=6", *more,
    ])  # fmt: skip


def _train(folder: Path, name: str, *more: str) -> Path:
    """Train in this process as the command would; return the run folder."""
    run = Run(_read(folder, name, *more), Console(), Processes())
    run.prepare()
    with run_lock(run.folder.path, print):
        run.fit()
    run.finish()
    return run.folder.path


def _from(path: Path) -> str:
    return f"trainer.init_from='{path}'"  # quoted: names of runs have = in them


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read_model(checkpoint.checkpoints_in(run / "checkpoints")[0])


def _rows(run: Path, event: str) -> list[dict]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["event"] == event]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A trained run, judged by an average of its weights; beside it another text."""
    folder = tmp_path_factory.mktemp("init")
    corpus(folder)
    (folder / "other.txt").write_text((folder / "corpus.txt").read_text().replace("cat", "fox").replace("e", "o"))
    threads = torch.get_num_threads()
    more = ("model=tiny", "model.dim=32", "model.context_length=32", "tokenizer.vocab_size=300")
    text = f"data.path={folder / 'corpus.txt'}"
    yield _train(
        folder, "source", *more, text, "trainer.max_steps=6", "trainer.weight_average=ema".replace(".", "/", 1)
    )
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_weights_model_and_tokenizer_are_the_sources_and_the_rest_the_runs_own(source):
    run = _train(source.parents[2], "taken", _from(source), *UNMOVED)
    there, here = _weights(source), _weights(run)
    assert there.keys() == here.keys()
    assert all(torch.equal(here[name], tensor) for name, tensor in there.items())
    digests = {BasicTokenizer.load(each / "tokenizer.json").digest() for each in (source, run)}
    assert len(digests) == 1
    (row,) = _rows(run, "init")
    assert row["step"] == 0
    assert row["run_id"] == source.name
    assert json.loads((run / "summary.json").read_text())["init"]["sha256"] == row["sha256"]
    assert _rows(run, "train")[-1]["step"] == 1


def test_stopped_and_resumed_without_its_source_it_is_the_same_to_the_last_bit(source):
    folder, arguments = source.parents[2], (_from(source), "model.dropout=0.1", "trainer.max_steps=6")
    run = _train(folder, "resumed", *arguments)
    whole = checkpoint.read(checkpoint.checkpoints_in(run / "checkpoints")[0])
    shutil.rmtree(checkpoint.checkpoints_in(run / "checkpoints")[0])
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "state": "interrupted"}))
    moved = source.rename(source.parent / "elsewhere")
    try:
        assert LoadedRun(RunFolder(run), None, "cpu", "", []).conditions.corpus.tokenizer.vocab_size == 300
        assert _train(folder, "resumed", *arguments) == run
        with pytest.raises(UserError, match=r"trainer\.init_from: no folder at"):
            _train(folder, "resumed", *arguments, "seed=2")  # has not begun
        with pytest.raises(UserError, match=r"trainer\.init_from: no folder at"):
            _train(folder, "never_begun", *arguments)
    finally:
        moved.rename(source)
    again = checkpoint.read(checkpoint.checkpoints_in(run / "checkpoints")[0])
    for found, wanted in ((again.model, whole.model), (again.optimizer, whole.optimizer)):
        assert found.keys() == wanted.keys()
        assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.items())
    assert json.loads((run / "environment.json").read_text())["processes"][-1]["resumed"]["exact"]
    assert len(_rows(run, "init")) == 1


@pytest.mark.slow
def test_killed_again_and_again_while_its_source_is_gone_it_is_the_same_to_the_last_bit(source, tmp_path):
    def begin(folder: Path) -> Popen[bytes]:
        arguments = (
            _from(tmp_path / "runs" / source.name), "data=text", f"data.path={source.parents[2] / 'other.txt'}", *SIZES,
            "model.dropout=0.1", "trainer.max_steps=48", "runtime.checkpoint_every_seconds=0",
            "runtime.log_every_steps=1", "runtime.num_threads=1", "schedule.warmup_steps=0",
        )  # fmt: skip
        folder.mkdir(exist_ok=True)
        return Popen(command_line("train", *arguments), cwd=folder, env=environment(tmp_path), stdout=DEVNULL)

    copied = shutil.copytree(source, tmp_path / "runs" / source.name)
    assert begin(tmp_path / "whole").wait(300) == 0
    whole, killed, chance = only_run(tmp_path / "whole"), tmp_path / "killed", random.Random(7)
    kills = 0
    for number in range(1, 4):
        with begin(killed) as process:
            until = chance.uniform(12 * number - 9, 12 * number)  # a step, each time a later one
            while process.poll() is None and trained_steps(run_folder(killed)) < until:
                time.sleep(0.01)
            kills += process.poll() is None
            process.kill()
        run = run_folder(killed)
        if run is not None and checkpoint.checkpoints_in(run / "checkpoints"):
            shutil.rmtree(copied, ignore_errors=True)
    assert kills >= 2, "most of them hit a run that was training"
    assert begin(killed).wait(300) == 0
    again = only_run(killed)
    assert timeless(again) == timeless(whole)
    assert trained_steps(again) == 48
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours, theirs = (checkpoint.checkpoints_in(run / "checkpoints")[0] / name for run in (again, whole))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_run_is_named_by_the_weights_wherever_they_lie(source, tmp_path):
    folder, named = source.parents[2], _read(source.parents[2], "named", _from(source))
    by_hash = _read(folder, "named", f"trainer.init_from='{source.name.rpartition('-')[2]}'")
    copy = tmp_path / "runs" / source.name
    shutil.copytree(source, copy)
    elsewhere = _read(folder, "named", _from(copy))
    assert len({run.run_id.rpartition("-")[2] for run in (named, by_hash, elsewhere)}) == 1
    other = _read(folder, "named", _from(checkpoint.checkpoints_in(copy / "checkpoints")[-1]))
    assert other.run_id.rpartition("-")[2] != named.run_id.rpartition("-")[2]
    assert named.variant == _read(folder, "named", _from(source), "seed=2").variant
    pinned = _read(folder, "named", _from(source), f"trainer.init_sha256={named.values['trainer']['init_sha256']}")
    assert pinned.run_id.rpartition("-")[2] == named.run_id.rpartition("-")[2]


def test_the_start_of_an_id_names_its_source_for_every_run_and_copies_are_one_run(source):
    folder, start = source.parents[2], source.name.rpartition("-")[2][:7]
    typed = ["data=text", f"data.path={folder / 'other.txt'}", f"output_dir={folder / 'outputs'}", "name=by_start"]
    first = read_cell([*typed, f"trainer.init_from='{start}'"])
    assert f"init_from={first.values['trainer']['init_sha256'][:8]}" in first.run_id
    for name in (first.run_id, f"init_from={start}-seed=1-{'0' * 12}"):  # as it was called before
        (first.folder.parent / name).mkdir(parents=True)
        (first.folder.parent / name / "config.yaml").touch()
    copy = source.parents[1] / "a_copy" / source.name
    shutil.copytree(source, copy)
    (copy / "summary.json").unlink()
    try:
        second = read_cell([*typed, f"trainer.init_from='{start}'", "seed=2"])
    finally:
        shutil.rmtree(copy.parent)
        shutil.rmtree(first.folder.parent)
    assert second.source is not None
    assert Path(second.source.path).parents[1] == source


def test_weights_that_changed_after_the_run_was_named_are_refused(source, tmp_path):
    copy = tmp_path / "runs" / source.name
    shutil.copytree(source, copy)
    run = Run(_read(source.parents[2], "changed", _from(copy)), Console(), Processes())
    last = checkpoint.checkpoints_in(copy / "checkpoints")[0]
    weights = replace(checkpoint.read(last), manifest={})
    shutil.rmtree(last)
    weights.model["embedding.weight"] += 1
    checkpoint.write(weights, last.parent)  # as sound as the first
    with pytest.raises(UserError, match=r"trainer\.init_from: the weights of .* have changed since"):
        run.prepare()


def test_another_tokenizer_is_reported_and_each_run_of_a_folder_resumes_with_its_own(source):
    folder, names = source.parents[2], ("seed=1", "seed=2")
    taken = _train(folder, "mixed", _from(source), *UNMOVED, names[0])
    own = _train(folder, "mixed", _from(source), *UNMOVED, names[1], "tokenizer=bytes")
    report = "tokenizer=BasicTokenizer (another than the source's)"
    assert [_rows(run, "init")[0]["changes"] for run in (taken, own)] == ["", report]
    moved = source.rename(source.parent / "elsewhere")
    try:
        assert _read(folder, "mixed", _from(source), *UNMOVED, names[0]).folder == taken
        assert _read(folder, "mixed", _from(source), *UNMOVED, names[1], "tokenizer=bytes").folder == own
    finally:
        moved.rename(source)


def test_what_keeps_the_tensors_can_be_set_and_the_rest_stays_as_trained(source):
    folder = source.parents[2]
    changed = ("model.context_length=64", "model/position=yarn", "model.position.factor=2", "model.attention.window=16")
    run = _read(folder, "longer", _from(source), *changed)
    model = run.values["model"]
    assert model["position"]["_target_"] == "atomiclm.model.YaRN"
    position = {name: model["position"][name] for name in ("factor", "theta", "original_length")}
    assert position == {"factor": 2.0, "theta": 10000.0, "original_length": 32}
    assert (model["dim"], model["context_length"], model["attention"]["window"]) == (32, 64, 16)
    (row,) = _rows(_train(folder, "longer", _from(source), *changed, *UNMOVED), "init")
    assert "model.position=YaRN (RotaryEmbedding in the source)" in row["changes"]


@pytest.mark.parametrize("is_typed", [False, True])
def test_a_longer_context_is_stretched_in_nested_schemes_from_the_length_trained_on(source, is_typed):
    longer = ("model.context_length=64", "model/position=nope_every_fourth")
    scheme = "+model.position.schemes.far={_target_: atomiclm.model.YaRN, _partial_: true, factor: 2.0}"
    typed = ["+model.position.schemes.far.original_length=null"] if is_typed else []
    run = _read(source.parents[2], "nested", _from(source), *longer, scheme, *typed, "model.position.pattern=[far]")
    assert run.values["model"]["position"]["schemes"]["far"].get("original_length") == (None if is_typed else 32)
    assert "original_length" not in run.values["model"]["position"]["schemes"]["rotary"]


REFUSED = {
    "a size of the source's tokenizer": (["tokenizer.vocab_size=200"], "not 300, .*; leave tokenizer.vocab_size out"),
    "another width": (["model.dim=48"], r"embedding.weight is \[300, 32\] in the source and \[300, 48\] here"),
    "the setting at fault": (["model.dim=48", "model.dropout=0.1"], r"caused by model\.dim=48 \(32 in the source\):"),
    "another preset": (["model=mini"], r"more tensors\n *caused by model\.dim=128"),
    "an untied head": (["model.tie_embeddings=false"], r"head\.weight is missing in the source"),
    "a further token": (["model/lookahead=sequential", "model.lookahead.depth=1"], r"lookahead\.\S+ is missing in the"),
    "too large a vocabulary": (["tokenizer=bpe"], r"4,096 ids, .* do not fit the 300 rows of the embedding"),
    "no such run": (["trainer.init_from=nothing"], "no folder 'nothing' here"),
    "a folder of something else": (["trainer.init_from=/usr/bin"], "is not a run folder .* or a Hugging Face folder"),
    "two beginnings": (["trainer.branch_from=nothing"], "so a run has one of them"),
    "other weights": (["trainer.init_sha256=abc"], "not abc; give theirs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_the_reason(source, case):
    more, reason = REFUSED[case]
    with pytest.raises(UserError, match=reason):
        _read(source.parents[2], "refused", *([] if "init_from" in more[0] else [_from(source)]), *more)
    assert not (source.parents[1] / "refused").exists()


def test_a_source_that_is_damaged_or_has_lost_its_checkpoints_is_refused(source, tmp_path):
    copy = tmp_path / "runs" / source.name
    shutil.copytree(source, copy)
    weights = checkpoint.checkpoints_in(copy / "checkpoints")[0] / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match=r"trainer\.init_from: .* is damaged"):
        _train(source.parents[2], "damaged", _from(copy))
    shutil.rmtree(copy / "checkpoints")  # a slow machine leaves others than the last, how many is the clock's choice
    shutil.copytree(checkpoint.checkpoints_in(source / "checkpoints")[0], copy / "checkpoints" / "step_00000003")
    with pytest.raises(UserError, match=r"of step 6, is gone; name one of its others: .*step_00000003"):
        _read(source.parents[2], "damaged", _from(copy))
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match=r"trainer\.init_from: the checkpoints of .* are gone"):
        _read(source.parents[2], "damaged", _from(copy))


def test_a_strangers_run_names_no_class_and_reads_no_variable(source, tmp_path):
    copy = tmp_path / "runs" / source.name
    shutil.copytree(source, copy)
    config = (source / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("atomiclm.model.RMSNorm", "os.system"))
    with pytest.raises(UserError, match="is neither atomiclm's nor torch's"):
        _read(source.parents[2], "refused", _from(copy))
    (copy / "config.yaml").write_text(config.replace("dim: 32", "dim: ${oc.env:COLUMNS}"))
    with pytest.raises(UserError, match=r"trainer\.init_from"):
        _read(source.parents[2], "refused", _from(copy))


def test_a_study_and_its_file_have_the_last_word_on_what_is_the_sources(source, tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "onward.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model/position: position_interpolation\nname: onward\n"
        "model: {dropout: 0.1, position: {factor: 4.0}}\n"
        "study:\n  question: does it help\n  baseline: scratch\n  seeds: [1]\n  arms:\n"
        "    scratch: [tokenizer.vocab_size=300]\n"
        f'    tuned: ["{_from(source)}", model.dropout=0.2]\n'
    )
    monkeypatch.chdir(tmp_path)
    typed = ["experiments=onward", "data=text", f"data.path={source.parents[2] / 'other.txt'}"]
    tuned = read_cell(expand_overrides([*typed, "arm=tuned"])).values["model"]
    assert (tuned["dim"], tuned["dropout"], tuned["position"]["factor"]) == (32, 0.2, 4.0)
    assert tuned["position"]["_target_"] == "atomiclm.model.PositionInterpolation"
    scratch = read_cell(expand_overrides([*typed, "arm=scratch"])).values
    assert (scratch["model"]["dim"], scratch["trainer"]["init_from"]) == (128, None)


def test_a_sweep_over_sources_is_planned_and_the_configuration_is_printed_as_it_will_be(source):
    folder = source.parents[2]
    typed = ["data=text", f"data.path={folder / 'other.txt'}", f"output_dir={folder / 'outputs'}", *SIZES]
    digest = source.name.rpartition("-")[2]
    swept = [f"trainer.init_from=null,'{digest}'", "trainer.max_steps=1", "seed=1,2"]
    done = command(folder, "plan", "-m", *typed, *swept)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"null +1,\d+,\d+.*\n +'{digest}' ", done.stdout)
    asked = command(folder, "train", "--cfg", "job", "-p", "model.dim", f"trainer.init_from='{digest}'", *typed)
    assert (asked.stdout, asked.stderr) == ("32\n", "")


@pytest.fixture(scope="module")
def llama(source):
    """A random model by transformers, and its logits."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=310, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, rope_theta=50_000.0, tie_word_embeddings=False,
    )  # fmt: skip
    model, folder = transformers.LlamaForCausalLM(config).eval(), source.parents[2] / "llama"
    model.save_pretrained(folder)
    trained = BasicTokenizer.load(source / "tokenizer.json")
    exported = source.parents[2] / "exported"
    save_huggingface(load_huggingface(folder)[0], exported, trained)
    shutil.copy(exported / "tokenizer.json", folder)
    tokens = torch.randint(310, (2, 40))
    with torch.no_grad():
        return folder, tokens, model(tokens).logits


@pytest.mark.parametrize("moves", [False, True])
def test_a_model_made_by_transformers_is_trained_on_and_exported_back(source, llama, moves):
    from transformers import AutoModelForCausalLM

    from atomiclm.export import main as export

    folder, tokens, before = llama
    run = _train(source.parents[2], f"hf_{moves}", _from(folder), *(["trainer.max_steps=3"] if moves else UNMOVED))
    exported = run.parent / "exported"
    assert export([str(run), str(exported)]) == 0
    ours, tokenizer = load_huggingface(exported)
    assert tokenizer is not None
    assert tokenizer.digest() == BasicTokenizer.load(run / "tokenizer.json").digest()
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(exported)(tokens).logits
        torch.testing.assert_close(ours(tokens), theirs, rtol=0, atol=1e-5)
    assert torch.equal(theirs, before) is not moves


def test_a_folder_that_cannot_be_read_is_refused_with_the_reason(source, llama, tmp_path):
    copy = tmp_path / "llama"
    shutil.copytree(llama[0], copy)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"has no tokenizer\.json; name a tokenizer"):
        _read(source.parents[2], "refused", _from(copy))
    assert _read(source.parents[2], "refused", _from(copy), "tokenizer=bytes").values["tokenizer"]["vocab_size"] == 257
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))
    with pytest.raises(UserError, match=r"trainer\.init_from: .*model_type='mamba' cannot be read"):
        _read(source.parents[2], "refused", _from(copy), "tokenizer=bytes")
