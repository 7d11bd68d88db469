"""What removal saves: predicted from counts, and measured."""
