"""From a composed configuration to a validated and identified run: the only package that imports Hydra."""
