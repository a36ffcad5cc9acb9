"""What the losses of several contenders say: intervals, words, and how many seeds it takes.

Pure statistics of numbers: it knows no trial and no search, and all of it is simulated in tests.
For others: judge and looks_of (looks.py), compare (comparing.py), smallest_difference (power.py).
Never imports another room.
"""
