"""How models are timed where nobody says how."""

NEW_TOKENS = 32
# Of what people look at while they wait.
ROUNDS = 5
# Of what is judged: six give an interval of 95%; of nine it leaves out the slowest and the fastest, which a busy
# machine spoils.
JUDGED_ROUNDS = 9
