"""Examples that are not toys: one component for each role."""
