"""Criteria that remove sublayers and measure the loss."""
