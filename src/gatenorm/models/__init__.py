"""One loaded model: with or without some of its sublayers, its tokenizer, the device and the rows of a batch."""
