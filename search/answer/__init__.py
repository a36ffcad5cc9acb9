"""What was learned: verdicts between optimizers, the report page, its plots and its words.

For others: write_report, report_of, verdict's statistics, describe's words for a trial.
A report is a function of the history, so it can be written again at any time.
Never imports MLflow or Ray.
"""
