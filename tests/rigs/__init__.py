"""Rigs: what the tests of reliability stand on, kept apart so that they can be run for longer."""
