"""The built-in model and its world: a language, its tasks, and a model trained on it, all made by this repository.

It plugs in through entry points, as a model and evaluations of another package would.
"""
