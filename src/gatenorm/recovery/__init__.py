"""Training after pruning: adapters on what is left and maps in place of sublayers, in a checkpoint like any other.

A recovered model is another operational package than a pruned one: it needs data and a training run, and the checks of
licence, safety and quality begin anew. So evidence says of every model whether it was recovered.
"""
