"""What surrounds a comparison: what arms cost, where they ran, anchors, what the noise hides, what was predicted."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from atomiclm.comparison import results
from atomiclm.comparison.statistics import detectable_difference
from atomiclm.comparison.wording import COUNTED
from atomiclm.sweep.ledger import StudyLedger
from atomiclm.tracking.run_result import RunResult

_LEAST_DIFFERENCE = 0.001
_LEAST_CLOCK_DIFFERENCE = 0.05  # seconds of two equal runs differ by some per cent

_MATCHED_AS = {
    "parameters": "parameters",
    "non_embedding_parameters": "parameters_non_embedding",
    "flops": "flops",
    "cache_bytes": "cache_bytes_per_token",
    "seconds": "seconds",
}
"""What `match` calls a quantity, and what the summary does."""


def cost_differences(
    figures: Mapping[str, results.Spread], baseline: Mapping[str, results.Spread], runs: Sequence[RunResult]
) -> list[results.CostDifference]:
    """By how much an arm costs more than the baseline, where it is more than 0.1 % (5 % of time) or was matched."""
    matched = {_MATCHED_AS.get(str(run.summary["match"]["quantity"])) for run in runs if "match" in run.summary}
    found = []
    for name in COUNTED:
        if name not in figures or name not in baseline:
            continue
        ours, theirs = figures[name].mean, baseline[name].mean
        if math.isnan(ours) or math.isnan(theirs) or theirs == 0 or ours == theirs:
            continue
        relative = ours / theirs - 1
        least = _LEAST_CLOCK_DIFFERENCE if name == "seconds" else _LEAST_DIFFERENCE
        if name in matched or abs(relative) > least:
            found.append(results.CostDifference(name, relative, name in matched))
    return found


def environment_differences(runs: Sequence[RunResult]) -> list[results.EnvironmentDifference]:
    """The facts that are not the same for all runs; a run that does not know one counts as "not on record".

    Of a component's code only those that have the component.
    Where every run has the hash of the code, the commit says no more: it changes with every line of documentation.
    """
    known = [facts_of(run.environment) for run in runs if run.environment]
    ignored = {"numpy", "platform", *(["commit"] if all("code" in facts for facts in known) else [])}
    differences = []
    for fact in dict.fromkeys(fact for facts in known for fact in facts if fact not in ignored):
        those = [facts for facts in known if fact in facts] if fact.startswith("code of ") else known
        values = Counter(facts.get(fact, "not on record") for facts in those)
        if len(values) > 1:
            differences.append(results.EnvironmentDifference(fact, dict(values.most_common())))
    return differences


def facts_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """What one process noted in environment.json, as far as it says."""
    versions, source = (environment.get(part) for part in ("versions", "source"))
    versions, source = (part if isinstance(part, Mapping) else {} for part in (versions, source))
    changes = f" with changes {str(source['diff_sha256'])[:8]}" if source.get("diff_sha256") else ""
    given = {
        "code": str(environment.get("code_sha256") or "")[:12],
        "commit": f"{str(source['commit'])[:12]}{changes}" if source.get("commit") else None,
        **{
            str(name).replace("code_sha256", "code"): str(digest)[:12]
            for name, digest in environment.items()
            if str(name).startswith("code_sha256 of ")
        },
        **{package: versions.get(package) for package in ("atomiclm", "torch", "numpy")},
        "python": environment.get("python"),
        "platform": environment.get("platform"),
        "device": environment.get("device"),
        "precision": environment.get("precision"),
        "threads": environment.get("torch_threads"),
        "compiled": environment.get("compiled"),
        "processor": environment.get("cpu"),
        "machine": environment.get("host_sha256"),
    }
    return {fact: str(value) for fact, value in given.items() if value not in (None, "")}


def total(runs: Sequence[RunResult]) -> results.Total:
    """What the runs took together, however they ended."""

    def number(run: RunResult, name: str) -> float:
        value = run.summary.get(name)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0

    def cores(run: RunResult) -> int:
        """That a run kept busy, at most; none where the work was an accelerator's."""
        is_on_cpu = run.environment.get("device", "cpu") == "cpu"
        return int(run.environment.get("torch_threads") or 1) if is_on_cpu else 0

    return results.Total(
        runs=sum(run.done for run in runs),
        seconds=sum(number(run, "seconds") for run in runs),
        core_seconds=sum(number(run, "seconds") * cores(run) for run in runs),
        flops=sum(number(run, "flops") for run in runs),
    )


def anchors(runs: Sequence[RunResult]) -> dict[str, float]:
    """Bits per byte of what is not a language model, on the same validation bytes; of the first run that has each."""
    found: dict[str, float] = {}
    for run in runs:
        for name, value in (run.summary.get("anchors") or {}).items():
            found.setdefault(name, float(value))
    return found


def noise(baseline: results.Spread, contrasts: Sequence[results.Contrast]) -> results.Noise:
    """Spread over seeds of the baseline and of the paired differences, and what that lets be seen."""
    paired = [one for one in contrasts if one.is_paired and one.deviation is not None]
    if not paired:
        return results.Noise(baseline.deviation, baseline.count, None, 0, None)
    deviation = math.sqrt(statistics.fmean(one.deviation**2 for one in paired if one.deviation is not None))
    pairs = statistics.median_low(len(one.seeds) for one in paired)
    alpha = statistics.median_low(one.alpha for one in paired)
    detectable = detectable_difference(deviation, pairs, alpha / len(contrasts))
    return results.Noise(baseline.deviation, baseline.count, deviation, pairs, detectable)


def prediction(ledger: StudyLedger | None) -> results.Prediction | None:
    """What the study predicts, and when it was said."""
    if ledger is None or not (ledger.study.prediction or ledger.study.expect):
        return None
    study, sha256 = ledger.study, ledger.study.prediction_sha256()
    own = [entry for entry in ledger.declared if entry.sha256 == sha256]
    earlier = len(ledger.declared) - len(own)
    # What was taken back and put up again counts from the later time.
    time, finished = (own[-1].time, own[-1].finished_cells) if own else (None, None)
    return results.Prediction(study.prediction, study.source, sha256, time, finished, earlier)
