"""Candidates that cheat or do harm, one trick each, and how their trials ought to end."""
