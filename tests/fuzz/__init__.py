"""Coverage-guided fuzzing of everything that reads bytes of others: `make fuzz`. The seeds are also a quick test."""
