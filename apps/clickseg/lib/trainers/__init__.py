"""What learns from saved labels."""
