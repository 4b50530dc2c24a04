"""What a series of trials comes to; adds up over several, in a file."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from faults.evidence import Hit


@dataclass
class Counts:
    """How often what was done to a run, where it hit, and how the trials ended."""

    faults: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    trials: Counter[str] = field(default_factory=Counter)
    configurations: Counter[str] = field(default_factory=Counter)

    def kill(self, hit: Hit) -> None:
        """Count a SIGKILL that ended a process, and where."""
        self.faults["kill"] += 1
        places = {
            "inside a save": hit.in_save,
            "inside an evaluation": hit.in_evaluation,
            "inside a sample": hit.in_sample,
            "before the first checkpoint": hit.before_first_checkpoint,
        }
        self.hits.update(place for place, was_hit in places.items() if was_hit)

    def add(self, other: "Counts") -> None:
        """Add those of another series."""
        for mine, theirs in zip(self._all().values(), other._all().values(), strict=True):
            mine.update(theirs)

    def table(self) -> str:
        """All counts, one a line, under their headings."""
        lines = []
        for heading, counter in self._all().items():
            lines.append(heading)
            lines += [f"  {count:6,}  {name}" for name, count in sorted(counter.items(), key=lambda item: -item[1])]
        return "\n".join(lines)

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.write_text(json.dumps(self._all(), indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Counts":
        """Read them again; none where there is no file."""
        if not path.exists():
            return cls()
        return cls(**{name: Counter(values) for name, values in json.loads(path.read_text(encoding="utf-8")).items()})

    def _all(self) -> dict[str, Counter[str]]:
        return {
            "faults": self.faults,
            "hits": self.hits,
            "trials": self.trials,
            "configurations": self.configurations,
        }
