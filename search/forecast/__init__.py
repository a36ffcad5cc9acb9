"""What a search would cost and find, before it runs: plans, replays in virtual time, rehearsals.

For others: plan, replay_recorded, smoke.
It plays the decisions of the engine itself, on made-up or recorded curves.
Never imports watch, and starts no Ray.
"""
