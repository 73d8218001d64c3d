"""Stages of a recipe: `train` and `distill`. A stage says which students learn from what; the session runs the loop."""
