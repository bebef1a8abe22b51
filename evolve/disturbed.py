"""Which evaluations others disturbed, told from a run's rows as its driver judged them.

`contended` in the lineage says that a result was to be made again. On a machine that is busy nearly
always none is, disturbed or not: that is told here.
"""

from population.statistics import CONTENDED_RATIO, FOREIGN_SHARE, NORM_READINGS

DISTURBED = f"""(
    WITH signs AS (
        SELECT r.evaluation, r.contended, share.value AS foreign_share,
            clock.value AS reference_s,
            median(clock.value) OVER earlier AS norm_s, count(clock.value) OVER earlier AS readings
        FROM result r
        LEFT JOIN measurement share
            ON share.evaluation = r.evaluation AND share.name = 'foreign_share'
        LEFT JOIN measurement clock
            ON clock.evaluation = r.evaluation AND clock.name = 'reference_s'
        WINDOW earlier AS (
            PARTITION BY r.host, r.device ORDER BY r.seq
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    )
    SELECT evaluation, foreign_share, contended OR coalesce(foreign_share > {FOREIGN_SHARE}, false)
        OR coalesce(
            readings >= {NORM_READINGS} AND reference_s > {CONTENDED_RATIO} * norm_s, false
        ) AS disturbed
    FROM signs
)"""
"""One row for each evaluation that came back: `evaluation, foreign_share, disturbed`."""
DISTURBED_SCORES = f"""(
    SELECT individual, count(*) FILTER (disturbed) AS disturbed, count(*) AS scores
    FROM counted JOIN {DISTURBED} USING (evaluation) GROUP BY individual
)"""
"""One row for each individual with scores that rank: how many there are, and how many disturbed."""
