"""Every option of the command line, declared once, by what it is about."""
