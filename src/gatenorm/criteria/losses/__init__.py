"""The loss of a model without some of its sublayers."""
