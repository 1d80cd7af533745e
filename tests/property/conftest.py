"""Hypothesis tells the same stories in every run, so that a failure is a change's and not the day's; `deep` finds new ones."""

import os

from hypothesis import settings

settings.register_profile("default", derandomize=True, database=None, deadline=None, print_blob=True)
settings.register_profile("deep", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
