"""What removing attention saves: counted, predicted, measured, and compared with all that it could save."""
