"""What can be claimed of a run: diagnostics, controls, significance."""
