"""cli.py, run as a script, where the judges of finishing learn for a moment only."""

import cli
from training.objectives import finishing

SHORTENED = ("FEATURE_STEPS", "FIRST_BATCHES", "CRITIC_STEPS")


def main():
    for steps in SHORTENED:
        setattr(finishing, steps, 2)
    cli.main()


if __name__ == "__main__":
    main()
