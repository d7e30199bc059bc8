"""Metrics of every task: pure numpy, each equal to an outside oracle."""
