"""The views of a published lineage, in the order in which they are created.

They read the tables of `population/schema.py` and a relation `text(kind, key, body)`. Their
columns are a promise to whoever queries a run: `docs/lineage.md` describes them.
"""

from population.individual import KILLED, LARGEST_SCORE

SELF_REPORTED = """(SELECT json_extract_string(conditions, '$."evaluator.kind"') FROM run)
            IS NOT DISTINCT FROM 'reported' AS self_reported"""

_EVALUATIONS = f"""
    SELECT e.id AS evaluation, e.individual, e.purpose, e.shard, e.seed, e.attempt,
        CASE WHEN r.value IS NOT NULL THEN 'scored'
             WHEN r.evaluation IS NOT NULL THEN 'failed'
             WHEN a.evaluation IS NOT NULL THEN 'abandoned'
             ELSE 'running' END AS status,
        r.value, r.stage, r.reason, r.detail, r.contended, r.comparability,
        r.host, r.device, r.started_at, r.ended_at, e.seq AS started_seq, r.seq AS ended_seq,
        list_contains(r.sandbox, 'landlock') AS protected,
        {SELF_REPORTED}
    FROM evaluation e
    LEFT JOIN result r ON r.evaluation = e.id
    LEFT JOIN abandoned a ON a.evaluation = e.id
"""

_COUNTED = f"""
    WITH settled AS (
        SELECT * FROM evaluations
        WHERE status IN ('scored', 'failed') AND purpose IN ('screen', 'race')
            AND shard = (SELECT selection_shard FROM run)
            AND stage IS DISTINCT FROM 'infrastructure' AND reason IS DISTINCT FROM '{KILLED}'
        QUALIFY row_number() OVER (
            PARTITION BY individual, seed, purpose ORDER BY contended, ended_seq DESC
        ) = 1
    ), ranking AS (
        SELECT * FROM settled WHERE abs(value) <= {LARGEST_SCORE}
    ), usual AS (
        SELECT comparability FROM ranking
        GROUP BY comparability ORDER BY count(*) DESC, min(ended_seq) LIMIT 1
    )
    SELECT individual, evaluation, value, ended_at, ended_seq
    FROM ranking WHERE comparability = (SELECT comparability FROM usual)
"""

_MEANS = """
    WITH weighed AS (
        SELECT evaluation, max(value) FILTER (name = 'trials') AS trials
        FROM measurement WHERE name IN ('successes', 'trials')
        GROUP BY evaluation HAVING count(*) = 2 AND trials > 0
    )
    SELECT individual,
        CASE WHEN count(trials) = count(*) THEN sum(value * trials) / sum(trials)
            ELSE avg(value) END AS mean,
        count(*) AS evaluations
    FROM counted LEFT JOIN weighed USING (evaluation) GROUP BY individual
"""

_GAINS = """
    SELECT p.individual, p.parent, (SELECT fitness_sign FROM run) * (own.mean - old.mean) AS gain
    FROM parent p
    JOIN means own ON own.individual = p.individual
    JOIN means old ON old.individual = p.parent
    WHERE p.ordinal = 1
"""

_LEADERBOARD = f"""
    WITH latest AS (
        SELECT seq, sigma FROM selection ORDER BY seq DESC LIMIT 1
    ), ranked AS (
        SELECT individual, max_by(shrunken_mean, seq) AS shrunken_mean,
            max_by(standard_error, seq) AS standard_error, max(seq) AS seq
        FROM survivor GROUP BY individual
    ), births AS (
        SELECT seq, row_number() OVER (ORDER BY seq) AS generation FROM selection
    ), fate AS (
        SELECT individual, min(ended_seq) FILTER (purpose <> 'rung') AS first_seq,
            count(*) FILTER (status = 'failed' AND stage <> 'infrastructure') AS failures
        FROM evaluations GROUP BY individual
    ), parents AS (
        SELECT individual, list(parent ORDER BY ordinal) AS parents FROM parent GROUP BY individual
    ), held AS (
        SELECT q.individual, CASE WHEN bool_or(c.agrees) THEN 'confirmed'
            WHEN count(c.seq) > 0 THEN 'refused' ELSE 'held' END AS quarantine
        FROM quarantine q LEFT JOIN clearance c ON c.individual = q.individual
        GROUP BY q.individual
    ), pins AS (
        SELECT individual, max_by(pinned, seq) AS pinned FROM pin GROUP BY individual
    ), standing AS (
        SELECT i.id AS individual, i.name, i.operator, coalesce(b.generation, 0) AS generation,
            m.mean, coalesce(e.shrunken_mean, r.shrunken_mean, m.mean) AS shrunken_mean,
            coalesce(
                nullif(e.standard_error, 'inf'), nullif(r.standard_error, 'inf'),
                nullif(latest.sigma, 0) / sqrt(m.evaluations)
            ) AS standard_error,
            m.evaluations, fate.failures,
            latest.seq IS NULL OR coalesce(r.seq = latest.seq, false)
                OR coalesce(fate.first_seq > latest.seq, false) AS alive,
            coalesce(p.parents, []) AS parents, born.recorded_at AS born_at,
            coalesce(held.quarantine, '') AS quarantine,
            coalesce(pins.pinned, false) AS pinned,
            e.individual IS NULL AND r.individual IS NULL AS raw
        FROM individual i
        JOIN record born ON born.seq = i.seq
        JOIN means m ON m.individual = i.id
        JOIN fate ON fate.individual = i.id
        LEFT JOIN latest ON true
        LEFT JOIN estimate e ON e.individual = i.id
        LEFT JOIN ranked r ON r.individual = i.id
        LEFT JOIN parents p ON p.individual = i.id
        LEFT JOIN held ON held.individual = i.id
        LEFT JOIN pins ON pins.individual = i.id
        ASOF LEFT JOIN births b ON i.seq > b.seq
    )
    SELECT row_number() OVER (
            ORDER BY quarantine IN ('held', 'refused'), raw,
                (SELECT fitness_sign FROM run) * shrunken_mean DESC, individual
        ) AS rank, * EXCLUDE (raw),
        {SELF_REPORTED}
    FROM standing ORDER BY rank
"""

_ANCESTRY = """
    WITH RECURSIVE line(individual, ancestor, depth) USING KEY (individual, ancestor) AS (
        SELECT individual, parent, 1 FROM parent
        UNION
        SELECT line.individual, parent.parent, line.depth + 1
        FROM line JOIN parent ON parent.individual = line.ancestor
        WHERE NOT EXISTS (
            SELECT 1 FROM recurring.line known
            WHERE known.individual = line.individual AND known.ancestor = parent.parent
        )
    )
    SELECT individual, ancestor, depth FROM line
"""

_ANCESTORS = """
    WITH RECURSIVE line(ancestor, depth) AS (
        SELECT parent, 1 FROM parent WHERE individual = who
        UNION
        SELECT parent.parent, line.depth + 1
        FROM line JOIN parent ON parent.individual = line.ancestor
    )
    SELECT ancestor, min(depth) AS depth FROM line GROUP BY ancestor
"""

_LINE_OF_DESCENT = """
    WITH RECURSIVE line(individual, depth, ancestor) AS (
        SELECT id, 0, id FROM individual
        UNION ALL
        SELECT line.individual, line.depth + 1, parent.parent
        FROM line JOIN parent ON parent.individual = line.ancestor AND parent.ordinal = 1
    )
    SELECT line.individual, line.depth, line.ancestor, i.operator, i.name, means.mean, gains.gain
    FROM line
    JOIN individual i ON i.id = line.ancestor
    LEFT JOIN means ON means.individual = line.ancestor
    LEFT JOIN gains ON gains.individual = line.ancestor
"""

_PROGRESS = """
    WITH ended AS (
        SELECT evaluation, row_number() OVER (ORDER BY seq) AS n FROM result
    ), best AS (
        SELECT *, max((SELECT fitness_sign FROM run) * value) OVER (ORDER BY ended_seq) AS fitness
        FROM counted
    )
    SELECT n, ended_at, individual, value,
        (SELECT fitness_sign FROM run) * fitness AS best_so_far
    FROM best JOIN ended USING (evaluation) ORDER BY n
"""

_OPERATORS = """
    WITH cost AS (
        SELECT proposal, sum(cost_usd) AS cost_usd FROM attempt GROUP BY proposal
    ), fate AS (
        SELECT individual, bool_or(status = 'scored' AND purpose <> 'rung') AS scored,
            bool_or(status = 'failed') AS broke
        FROM evaluations WHERE status IN ('scored', 'failed') GROUP BY individual
    )
    SELECT p.operator, count(*) AS proposals,
        count(*) FILTER (p.individual IS NULL) AS refused,
        count(fate.individual) AS evaluated,
        count(*) FILTER (fate.broke AND NOT fate.scored) AS failed,
        count(*) FILTER (gains.gain > 0) AS improved,
        avg(gains.gain) AS mean_gain,
        coalesce(sum(cost.cost_usd), 0) AS cost_usd
    FROM proposal p
    LEFT JOIN fate ON fate.individual = p.individual
    LEFT JOIN gains ON gains.individual = p.individual
    LEFT JOIN cost ON cost.proposal = p.id
    GROUP BY p.operator ORDER BY p.operator
"""

_CHANGES = """
    SELECT change.diff_sha256, min_by(change.category, change.seq) AS category,
        min_by(change.hypothesis, change.seq) AS hypothesis,
        count(DISTINCT carrier.individual) AS carriers, avg(gains.gain) AS mean_gain
    FROM change
    LEFT JOIN carrier ON carrier.change = change.id
    LEFT JOIN gains ON gains.individual = carrier.individual
    GROUP BY change.diff_sha256, CASE WHEN change.diff_sha256 = sha256('') THEN change.id END
"""

_FAILURES = """
    SELECT reason, count(*) AS n, max_by(detail, seq) AS example
    FROM result WHERE reason IS NOT NULL GROUP BY reason ORDER BY n DESC, reason
"""

_WASTE = """
    WITH ended AS (
        SELECT evaluation, status = 'failed' AND stage <> 'infrastructure' AS wasted,
            ended_at - started_at AS device_s, row_number() OVER (ORDER BY ended_seq) AS n
        FROM evaluations WHERE status IN ('scored', 'failed')
    ), saved AS (
        SELECT evaluation, value AS saved_s FROM measurement WHERE name = 'saved_s'
    )
    SELECT count(*) AS evaluations, count(*) FILTER (wasted) AS failed,
        coalesce(sum(device_s), 0) AS device_s,
        coalesce(sum(device_s) FILTER (wasted), 0) AS wasted_s,
        coalesce(sum(device_s) FILTER (wasted), 0) / nullif(sum(device_s), 0) AS wasted_share,
        coalesce(sum(saved_s), 0) AS saved_s
    FROM ended LEFT JOIN saved USING (evaluation) WHERE n > 20 HAVING count(*) > 0
"""

_SOURCES = """
    SELECT i.id AS individual, text.body AS source
    FROM individual i JOIN text ON text.kind = 'source' AND text.key = i.source_sha256
"""

_LOGS = """
    SELECT e.id AS evaluation, e.individual, text.body AS log
    FROM evaluation e JOIN text ON text.kind = 'log' AND text.key = CAST(e.id AS VARCHAR)
"""

_PROMPTS = """
    SELECT a.proposal, a.ordinal, p.operator, p.individual, a.what, a.outcome,
        prompt.body AS prompt, answer.body AS answer
    FROM attempt a
    JOIN proposal p ON p.id = a.proposal
    LEFT JOIN text prompt ON prompt.kind = 'prompt' AND prompt.key = a.proposal || '.' || a.ordinal
    LEFT JOIN text answer ON answer.kind = 'answer' AND answer.key = a.proposal || '.' || a.ordinal
    WHERE prompt.body IS NOT NULL OR answer.body IS NOT NULL
"""

_CALLS = """
    SELECT a.proposal, a.ordinal, p.operator AS intent, p.parents, p.individual, a.what, a.model,
        a.effort, a.prompt_sha256, a.tokens_in, a.tokens_cached, a.tokens_written, a.tokens_out,
        a.cost_usd, a.duration_s, a.stop_reason, a.outcome
    FROM attempt a JOIN proposal p ON p.id = a.proposal
    WHERE a.model <> '' ORDER BY a.proposal, a.ordinal
"""

_DIFFS = """
    SELECT c.individual, c.ordinal, change.category, change.hypothesis, change.diff_sha256,
        text.body AS diff
    FROM carrier c
    JOIN change ON change.id = c.change
    JOIN text ON text.kind = 'diff' AND text.key = change.diff_sha256
"""

_PROGRAMS = """
    SELECT p.sha256, r.recorded_at AS first_seen_at,
        (SELECT count(*) FROM individual i WHERE i.program_sha256 = p.sha256) AS children,
        text.body AS program
    FROM program p
    JOIN record r ON r.seq = p.seq
    JOIN text ON text.kind = 'program' AND text.key = p.sha256
"""

THIN_VIEWS: dict[str, str] = {
    "evaluations": _EVALUATIONS,
    "counted": _COUNTED,
    "means": _MEANS,
    "gains": _GAINS,
    "leaderboard": _LEADERBOARD,
    "ancestry": _ANCESTRY,
    "line_of_descent": _LINE_OF_DESCENT,
    "progress": _PROGRESS,
    "operators": _OPERATORS,
    "changes": _CHANGES,
    "failures": _FAILURES,
    "waste": _WASTE,
    "calls": _CALLS,
}
"""Need the tables alone."""

TEXT_VIEWS: dict[str, str] = {
    "sources": _SOURCES,
    "logs": _LOGS,
    "prompts": _PROMPTS,
    "diffs": _DIFFS,
    "programs": _PROGRAMS,
}
"""Need the segments beside the database too."""

MACROS: dict[str, str] = {"ancestors(who)": _ANCESTORS}
"""Table functions over the tables: what a view would have to work out for everybody at once."""
