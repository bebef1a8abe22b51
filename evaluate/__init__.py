"""From candidate to outcome: a fixed budget, a jailed process, a score that it cannot touch.

pool (Ray) -> trial -> feeder + candidate (jailed) -> container -> score (jailed) -> Result
"""
