"""What answers clicks."""
