"""An attacker who may write to a store, and a look at what reading it then does.

``python -m tests.rigs.hostile --cases 100000 --seed 7`` runs it; every case follows from the seed
and its number alone, so ``--only 4711`` repeats the one that a failure names.
"""
