"""Realistic examples: one component for each role."""
