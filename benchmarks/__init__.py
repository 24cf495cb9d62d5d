"""What the package costs and gives, measured; each module says what it measures and how."""
