"""How often a run is evaluated, and on what."""

from atomiclm.evaluation.rules import check_evaluation


class Evaluation:
    """The evaluations of a run; see conf/evaluation/default.yaml for the meaning of each value.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(
        self,
        times: int = 5,
        batch_size: int = 32,
        anchors: bool = True,
        samples: int = 2,
        sample_times: int = 2,
        sample_prompt: str = "",
        sample_tokens: int = 128,
        sample_temperature: float = 0.8,
    ) -> None:
        self.times = times
        self.batch_size = batch_size
        self.anchors = anchors
        self.samples = samples
        self.sample_times = sample_times
        self.sample_prompt = sample_prompt
        self.sample_tokens = sample_tokens
        self.sample_temperature = sample_temperature
        for argument, message in check_evaluation(vars(self)):
            raise ValueError(f"{argument}: {message}")
