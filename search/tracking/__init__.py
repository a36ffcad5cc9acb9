"""MLflow: which one, what it holds of a search, how it is delivered, and how it is shown.

For others: Recorder, check_reachable and client_of, forget, the UI.
Training never waits for it: what it does not take is delivered later, each metric once.
Imports answer for words; never execution.
"""
