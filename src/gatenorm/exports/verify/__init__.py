"""Does an export compute the same as its source?"""
