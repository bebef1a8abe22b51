"""Which evaluations others disturbed, told from a run's rows as its driver judged them.

`contended` in the lineage says that a result was to be made again. On a machine that is busy nearly
always none is, disturbed or not: that is told here. Where scores that were made again are the same
to the last digit none is disturbed: whoever used the machine, it changed nothing.
"""

from population.contention import ALIKE, ALIKE_PROGRAMS
from population.statistics import CONTENDED_RATIO, FOREIGN_SHARE, NORM_READINGS

DISTURBED = f"""(
    WITH repeated AS (
        SELECT e.individual, count(*) - 1 AS more, count(DISTINCT r.value) = 1 AS alike
        FROM result r JOIN evaluation e ON e.id = r.evaluation
        WHERE r.value IS NOT NULL
        GROUP BY e.individual, e.seed, e.shard, e.purpose HAVING count(*) > 1
    ), nature AS (
        SELECT coalesce(sum(more) >= {ALIKE} AND bool_and(alike), false)
            AND count(DISTINCT individual) >= {ALIKE_PROGRAMS} AS exact
        FROM repeated
    ), signs AS (
        SELECT r.evaluation, r.value, r.contended, share.value AS foreign_share,
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
    SELECT evaluation, foreign_share, NOT (exact AND value IS NOT NULL) AND (
            contended OR coalesce(foreign_share > {FOREIGN_SHARE}, false) OR coalesce(
                readings >= {NORM_READINGS} AND reference_s > {CONTENDED_RATIO} * norm_s, false
            )
        ) AS disturbed
    FROM signs, nature
)"""
"""One row for each evaluation that came back: `evaluation, foreign_share, disturbed`."""
DISTURBED_SCORES = f"""(
    SELECT individual, count(*) FILTER (disturbed) AS disturbed, count(*) AS scores
    FROM counted JOIN {DISTURBED} USING (evaluation) GROUP BY individual
)"""
"""One row for each individual with scores that rank: how many there are, and how many disturbed."""
