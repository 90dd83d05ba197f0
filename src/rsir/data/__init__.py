"""What happened: logs, sequences, splits."""
