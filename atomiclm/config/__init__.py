"""From a composed configuration to a validated, identified and built run: the only package that imports Hydra."""

from atomiclm.config.matching import Match

__all__ = ["Match"]
