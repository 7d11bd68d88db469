"""The audit: the whole workflow on one model, with gates, a verdict, and a directory that is its state.

:func:`gatenorm.audit.main.run_audit` is the way in; it is ``gatenorm.run_audit`` and ``gatenorm audit`` too.
"""
