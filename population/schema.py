"""The tables of a run, as numbered migrations.

`seq` is the number of the record that a row belongs to: 1, 2, 3 ... over the whole run. Times are
UNIX seconds. Ordinals and ranks count from 1. `docs/lineage.md` describes every table.
"""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE run (
        task VARCHAR NOT NULL,
        artifact VARCHAR NOT NULL,
        metric VARCHAR NOT NULL,
        direction VARCHAR NOT NULL,
        fitness_sign DOUBLE NOT NULL,
        selection_shard VARCHAR NOT NULL,
        evaluator_sha256 VARCHAR NOT NULL,
        data_sha256 VARCHAR NOT NULL,
        program_sha256 VARCHAR NOT NULL,
        seed BIGINT NOT NULL,
        created_at DOUBLE NOT NULL,
        configuration VARCHAR NOT NULL
    );
    CREATE TABLE record (
        seq BIGINT PRIMARY KEY,
        kind VARCHAR NOT NULL,
        recorded_at DOUBLE NOT NULL
    );
    CREATE TABLE program (
        seq BIGINT NOT NULL,
        sha256 VARCHAR PRIMARY KEY
    );
    CREATE TABLE individual (
        seq BIGINT NOT NULL,
        id BIGINT PRIMARY KEY,
        operator VARCHAR NOT NULL,
        name VARCHAR NOT NULL,
        source_sha256 VARCHAR NOT NULL,
        structure VARCHAR NOT NULL,
        fingerprint VARCHAR NOT NULL,
        proposal BIGINT NOT NULL,
        program_sha256 VARCHAR NOT NULL
    );
    CREATE TABLE parent (
        individual BIGINT NOT NULL,
        ordinal INTEGER NOT NULL,
        parent BIGINT NOT NULL
    );
    CREATE TABLE constant (
        individual BIGINT NOT NULL,
        ordinal INTEGER NOT NULL,
        name VARCHAR NOT NULL,
        value VARCHAR NOT NULL
    );
    CREATE TABLE change (
        seq BIGINT NOT NULL,
        id VARCHAR PRIMARY KEY,
        diff_sha256 VARCHAR NOT NULL,
        hypothesis VARCHAR NOT NULL,
        category VARCHAR NOT NULL
    );
    CREATE TABLE carrier (
        individual BIGINT NOT NULL,
        ordinal INTEGER NOT NULL,
        change VARCHAR NOT NULL
    );
    CREATE TABLE proposal (
        seq BIGINT NOT NULL,
        id BIGINT PRIMARY KEY,
        operator VARCHAR NOT NULL,
        individual BIGINT,
        refusal VARCHAR NOT NULL,
        parents BIGINT[] NOT NULL,
        source_sha256 VARCHAR,
        structure VARCHAR NOT NULL,
        fingerprint VARCHAR NOT NULL,
        constants VARCHAR NOT NULL,
        changes VARCHAR[] NOT NULL
    );
    CREATE TABLE attempt (
        proposal BIGINT NOT NULL,
        ordinal INTEGER NOT NULL,
        what VARCHAR NOT NULL,
        outcome VARCHAR NOT NULL,
        duration_s DOUBLE NOT NULL,
        cost_usd DOUBLE NOT NULL,
        tokens_in BIGINT NOT NULL,
        tokens_out BIGINT NOT NULL,
        tokens_cached BIGINT NOT NULL
    );
    CREATE TABLE evaluation (
        seq BIGINT NOT NULL,
        id BIGINT PRIMARY KEY,
        individual BIGINT NOT NULL,
        source_sha256 VARCHAR NOT NULL,
        seed BIGINT NOT NULL,
        shard VARCHAR NOT NULL,
        purpose VARCHAR NOT NULL,
        attempt INTEGER NOT NULL
    );
    CREATE TABLE comparability (
        key VARCHAR PRIMARY KEY,
        device VARCHAR NOT NULL,
        driver VARCHAR NOT NULL,
        torch VARCHAR NOT NULL,
        candidates_per_host INTEGER NOT NULL,
        evaluator_sha256 VARCHAR NOT NULL,
        data_sha256 VARCHAR NOT NULL
    );
    CREATE TABLE result (
        seq BIGINT NOT NULL,
        evaluation BIGINT PRIMARY KEY,
        value DOUBLE,
        stage VARCHAR,
        reason VARCHAR,
        detail VARCHAR,
        comparability VARCHAR NOT NULL,
        contended BOOLEAN NOT NULL,
        host VARCHAR NOT NULL,
        device VARCHAR NOT NULL,
        sandbox VARCHAR[] NOT NULL,
        started_at DOUBLE NOT NULL,
        ended_at DOUBLE NOT NULL,
        curve STRUCT(spent DOUBLE, loss DOUBLE)[] NOT NULL
    );
    CREATE TABLE measurement (
        evaluation BIGINT NOT NULL,
        ordinal INTEGER NOT NULL,
        name VARCHAR NOT NULL,
        value DOUBLE NOT NULL,
        unit VARCHAR NOT NULL
    );
    CREATE TABLE abandoned (
        seq BIGINT NOT NULL,
        evaluation BIGINT PRIMARY KEY
    );
    CREATE TABLE selection (
        seq BIGINT PRIMARY KEY,
        generation INTEGER NOT NULL,
        sigma DOUBLE NOT NULL
    );
    CREATE TABLE survivor (
        seq BIGINT NOT NULL,
        generation INTEGER NOT NULL,
        rank INTEGER NOT NULL,
        individual BIGINT NOT NULL,
        shrunken_mean DOUBLE NOT NULL,
        standard_error DOUBLE NOT NULL
    );
    CREATE TABLE text (
        seq BIGINT NOT NULL,
        kind VARCHAR NOT NULL,
        key VARCHAR NOT NULL,
        body VARCHAR NOT NULL,
        PRIMARY KEY (kind, key)
    );
    CREATE TABLE segment (
        number INTEGER PRIMARY KEY,
        level INTEGER NOT NULL,
        first_seq BIGINT NOT NULL,
        last_seq BIGINT NOT NULL,
        retired_at DOUBLE
    );
    """,
    """
    CREATE TABLE quarantine (
        seq BIGINT PRIMARY KEY,
        individual BIGINT NOT NULL,
        parent BIGINT NOT NULL,
        gain DOUBLE NOT NULL,
        bound DOUBLE NOT NULL
    );
    CREATE TABLE clearance (
        seq BIGINT PRIMARY KEY,
        individual BIGINT NOT NULL,
        agrees BOOLEAN NOT NULL,
        gain DOUBLE
    );
    """,
    """
    ALTER TABLE attempt ADD COLUMN tokens_written BIGINT DEFAULT 0;
    ALTER TABLE attempt ADD COLUMN model VARCHAR DEFAULT '';
    ALTER TABLE attempt ADD COLUMN effort VARCHAR DEFAULT '';
    ALTER TABLE attempt ADD COLUMN stop_reason VARCHAR DEFAULT '';
    ALTER TABLE attempt ADD COLUMN prompt_sha256 VARCHAR DEFAULT '';
    """,
    """
    CREATE TABLE earlier (
        seq BIGINT NOT NULL,
        ordinal INTEGER PRIMARY KEY,
        run VARCHAR NOT NULL,
        withheld VARCHAR NOT NULL
    );
    CREATE TABLE precedent (
        seq BIGINT NOT NULL,
        earlier INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        individual BIGINT NOT NULL,
        source_sha256 VARCHAR NOT NULL,
        structure VARCHAR NOT NULL,
        fingerprint VARCHAR NOT NULL,
        fitness DOUBLE,
        founds BOOLEAN NOT NULL
    );
    """,
    """
    ALTER TABLE evaluation ADD COLUMN pace_steps DOUBLE;
    ALTER TABLE evaluation ADD COLUMN pace_tokens DOUBLE;
    ALTER TABLE evaluation ADD COLUMN pace_comparability VARCHAR;
    """,
    """
    CREATE TABLE estimate (
        individual BIGINT NOT NULL,
        shrunken_mean DOUBLE NOT NULL,
        standard_error DOUBLE NOT NULL
    );
    """,
    """
    ALTER TABLE run ADD COLUMN conditions VARCHAR DEFAULT '{}';
    """,
    """
    CREATE TABLE pin (
        seq BIGINT PRIMARY KEY,
        individual BIGINT NOT NULL,
        pinned BOOLEAN NOT NULL
    );
    """,
)
"""Never edit one that a release has carried: append the next. The n-th leads to version n."""

TEXT = "text"
"""The one table that is published as Parquet segments instead of being copied."""

SHARED: dict[str, tuple[int, ...]] = {"change": (1,), "comparability": (0,), TEXT: (1, 2)}
"""Tables whose rows are named by their content, with the places of the columns that name them:
a row that is there already is not written again."""
