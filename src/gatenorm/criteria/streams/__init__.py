"""What each sublayer does to the residual stream, summed over the tokens of one pass."""
