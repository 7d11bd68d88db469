"""Methods of quantising weights, one a file: what each stores in the place of a weight."""
