"""What people see and do while a search runs: progress, status, logs, requests.

For others: Progress, status_of and its tables, log_lines, ask_driver, ANSWERS.
Light where it is asked often: status and logs load neither torch nor scipy.
The highest room: only run.py and the commands import it.
"""
