"""What is asked: the spec, its space, and all faults of it in plain words.

For others: SearchSpec, load_spec, Space, the sampler and scheduler shelves, notes.
Read without torch, Ray and Optuna, since every command does it.
Never imports a room that acts on a spec.
"""
