//! Every SQL statement, and the schema with its migrations.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    ArtifactRecord, Dotenv, Durability, JobRecord, NextIds, PipelineRecord, RunnerRecord,
    StoreError,
};
use crate::results::Deployment;

/// Migrations in order; `PRAGMA user_version` counts those that were applied.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE runners (
        id           INTEGER PRIMARY KEY AUTOINCREMENT,
        token_digest BLOB NOT NULL UNIQUE,
        record       TEXT NOT NULL
    );
    CREATE TABLE pipelines (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        context TEXT NOT NULL
    );
    CREATE TABLE definitions (
        pipeline_id INTEGER NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE,
        position    INTEGER NOT NULL,
        plan        TEXT NOT NULL,
        template    TEXT NOT NULL,
        PRIMARY KEY (pipeline_id, position)
    ) WITHOUT ROWID;
    CREATE TABLE jobs (
        id          INTEGER PRIMARY KEY AUTOINCREMENT,
        pipeline_id INTEGER NOT NULL REFERENCES pipelines(id) ON DELETE CASCADE,
        position    INTEGER NOT NULL,
        attempt     INTEGER NOT NULL,
        token       TEXT NOT NULL,
        state       TEXT NOT NULL,
        soft_cancel INTEGER NOT NULL,
        run         TEXT NOT NULL
    );
    CREATE UNIQUE INDEX jobs_by_attempt ON jobs (pipeline_id, position, attempt);
    CREATE TABLE artifacts (
        id     INTEGER PRIMARY KEY,
        job_id INTEGER NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
        record TEXT NOT NULL
    );
    CREATE INDEX artifacts_by_job ON artifacts (job_id);
    CREATE TABLE dotenvs (
        job_id    INTEGER PRIMARY KEY REFERENCES jobs(id) ON DELETE CASCADE,
        variables TEXT NOT NULL
    );
",
    "
    ALTER TABLE pipelines ADD COLUMN root INTEGER;
    ALTER TABLE pipelines ADD COLUMN upstream_job INTEGER;
    CREATE INDEX pipelines_by_root ON pipelines (root);
    CREATE UNIQUE INDEX pipelines_by_bridge ON pipelines (upstream_job);
",
];

pub(super) fn configure(connection: &Connection, durability: Durability) -> Result<(), StoreError> {
    let (journal, synchronous) = match durability {
        Durability::Durable => ("WAL", "FULL"),
        // The file is of no use after a crash, so no byte of it has to reach the disk in order.
        Durability::Scratch => ("MEMORY", "OFF"),
    };
    connection.pragma_update(None, "journal_mode", journal)?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

pub(super) fn migrate(connection: &Connection) -> Result<(), StoreError> {
    let known = MIGRATIONS.len() as i64;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(found.max(0) as usize) {
        let version = index + 1;
        connection.execute_batch(&format!(
            "BEGIN; {migration} PRAGMA user_version = {version}; COMMIT;"
        ))?;
    }
    Ok(())
}

pub(super) fn insert_runner(
    connection: &Connection,
    runner: &RunnerRecord,
    token_digest: &[u8; 32],
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO runners (id, token_digest, record) VALUES (?1, ?2, ?3)")?
        .execute(params![
            runner.id,
            token_digest,
            serde_json::to_string(runner)?
        ])?;
    Ok(())
}

pub(super) fn replace_runner_token(
    connection: &Connection,
    id: i64,
    token_digest: &[u8; 32],
) -> Result<(), StoreError> {
    connection
        .prepare_cached("UPDATE runners SET token_digest = ?2 WHERE id = ?1")?
        .execute(params![id, token_digest])?;
    Ok(())
}

pub(super) fn delete_runner(connection: &Connection, id: i64) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM runners WHERE id = ?1")?
        .execute([id])?;
    Ok(())
}

pub(super) fn runners(
    connection: &Connection,
) -> Result<Vec<(RunnerRecord, [u8; 32])>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT record, token_digest FROM runners ORDER BY id")?;
    let mut rows = statement.query([])?;
    let mut runners = Vec::new();
    while let Some(row) = rows.next()? {
        let record: String = row.get(0)?;
        runners.push((serde_json::from_str(&record)?, row.get(1)?));
    }
    Ok(runners)
}

pub(super) fn next_ids(connection: &Connection) -> Result<NextIds, StoreError> {
    // AUTOINCREMENT's table remembers ids whose rows were deleted.
    let mut statement = connection
        .prepare_cached("SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = ?1")?;
    let mut next = |table: &str| statement.query_row([table], |row| row.get(0));
    Ok(NextIds {
        runner: next("runners")?,
        pipeline: next("pipelines")?,
        job: next("jobs")?,
    })
}

pub(super) fn insert_pipeline(
    connection: &Connection,
    pipeline: &PipelineRecord,
    root: Option<i64>,
) -> Result<(), StoreError> {
    let upstream = pipeline.context.upstream.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO pipelines (id, context, root, upstream_job) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            pipeline.id,
            serde_json::to_string(&pipeline.context)?,
            root,
            upstream.map(|upstream| upstream.job)
        ])?;
    Ok(())
}

pub(super) fn newest_pipelines(connection: &Connection) -> Result<Vec<i64>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT id FROM pipelines ORDER BY id DESC LIMIT 200")?;
    let ids = statement.query_map([], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

pub(super) fn root_of(connection: &Connection, pipeline: i64) -> Result<i64, StoreError> {
    let root = connection
        .prepare_cached("SELECT coalesce(root, id) FROM pipelines WHERE id = ?1")?
        .query_row([pipeline], |row| row.get(0))?;
    Ok(root)
}

pub(super) fn tree_size(connection: &Connection, root: i64) -> Result<u64, StoreError> {
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM pipelines WHERE root = ?1")?
        .query_row([root], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

pub(super) fn downstream_of(
    connection: &Connection,
    job_id: i64,
) -> Result<Option<i64>, StoreError> {
    let pipeline = connection
        .prepare_cached("SELECT id FROM pipelines WHERE upstream_job = ?1")?
        .query_row([job_id], |row| row.get(0))
        .optional()?;
    Ok(pipeline)
}

pub(super) fn insert_definition(
    connection: &Connection,
    pipeline_id: i64,
    job: &JobRecord,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO definitions (pipeline_id, position, plan, template) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            pipeline_id,
            job.position as i64,
            serde_json::to_string(&job.plan)?,
            serde_json::to_string(&job.template)?
        ])?;
    Ok(())
}

pub(super) fn insert_attempt(
    connection: &Connection,
    pipeline_id: i64,
    job: &JobRecord,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO jobs (id, pipeline_id, position, attempt, token, state, soft_cancel, run)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (id) DO UPDATE SET token = excluded.token,
                 state = excluded.state, soft_cancel = excluded.soft_cancel, run = excluded.run",
        )?
        .execute(params![
            job.id,
            pipeline_id,
            job.position as i64,
            job.attempt,
            job.token.expose(),
            serde_json::to_string(&job.state)?,
            job.soft_cancel,
            serde_json::to_string(&job.run)?
        ])?;
    Ok(())
}

pub(super) fn unsettled_pipelines(connection: &Connection) -> Result<Vec<i64>, StoreError> {
    let mut statement = connection.prepare_cached(
        // A pipeline of which nothing has moved was created by a process that died.
        "SELECT pipeline_id FROM jobs GROUP BY pipeline_id
         HAVING max(state ->> 'state' IN ('pending', 'reserved', 'running', 'canceling', 'scheduled', 'held'))
             OR min(state ->> 'state' = 'created')
         ORDER BY pipeline_id",
    )?;
    let ids = statement.query_map([], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

pub(super) fn pipeline(
    connection: &Connection,
    id: i64,
) -> Result<Option<PipelineRecord>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT context FROM pipelines WHERE id = ?1")?;
    let context: Option<String> = statement.query_row([id], |row| row.get(0)).optional()?;
    let Some(context) = context else {
        return Ok(None);
    };
    Ok(Some(PipelineRecord {
        id,
        context: serde_json::from_str(&context)?,
        jobs: newest_attempts(connection, id)?,
    }))
}

fn newest_attempts(
    connection: &Connection,
    pipeline_id: i64,
) -> Result<Vec<JobRecord>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT jobs.id, position, attempt, token, state, soft_cancel, run, plan, template
         FROM jobs JOIN definitions USING (pipeline_id, position)
         WHERE pipeline_id = ?1 AND attempt = (
             SELECT max(attempt) FROM jobs AS other
             WHERE other.pipeline_id = ?1 AND other.position = jobs.position)
         ORDER BY position",
    )?;
    let mut rows = statement.query([pipeline_id])?;
    let mut jobs = Vec::new();
    while let Some(row) = rows.next()? {
        let text = |column: usize| row.get::<_, String>(column);
        jobs.push(JobRecord {
            id: row.get(0)?,
            position: row.get::<_, i64>(1)?.unsigned_abs() as usize,
            attempt: row.get(2)?,
            token: text(3)?.into(),
            state: serde_json::from_str(&text(4)?)?,
            soft_cancel: row.get(5)?,
            run: serde_json::from_str(&text(6)?)?,
            plan: serde_json::from_str(&text(7)?)?,
            template: serde_json::from_str(&text(8)?)?,
        });
    }
    Ok(jobs)
}

pub(super) fn place_of(
    connection: &Connection,
    job_id: i64,
) -> Result<Option<(i64, usize)>, StoreError> {
    let place = connection
        .prepare_cached("SELECT pipeline_id, position FROM jobs WHERE id = ?1")?
        .query_row([job_id], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    Ok(place.map(|(pipeline, position)| (pipeline, position.unsigned_abs() as usize)))
}

pub(super) fn deployments(
    connection: &Connection,
) -> Result<Vec<(i64, i64, Deployment)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT pipelines.context ->> 'project_id', jobs.pipeline_id,
                jobs.run ->> '$.results.deployment'
         FROM jobs JOIN pipelines ON pipelines.id = jobs.pipeline_id
         WHERE jobs.run ->> '$.results.deployment' IS NOT NULL
         ORDER BY jobs.run ->> 'finished_at', jobs.id",
    )?;
    let mut rows = statement.query([])?;
    let mut deployments = Vec::new();
    while let Some(row) = rows.next()? {
        let record: String = row.get(2)?;
        deployments.push((row.get(0)?, row.get(1)?, serde_json::from_str(&record)?));
    }
    Ok(deployments)
}

pub(super) fn insert_artifact(
    connection: &Connection,
    artifact: &ArtifactRecord,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO artifacts (job_id, record) VALUES (?1, ?2)")?
        .execute(params![artifact.job_id, serde_json::to_string(artifact)?])?;
    Ok(())
}

pub(super) fn artifacts(
    connection: &Connection,
    job_id: i64,
) -> Result<Vec<ArtifactRecord>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT record FROM artifacts WHERE job_id = ?1 ORDER BY id")?;
    let mut rows = statement.query([job_id])?;
    let mut artifacts = Vec::new();
    while let Some(row) = rows.next()? {
        let record: String = row.get(0)?;
        artifacts.push(serde_json::from_str(&record)?);
    }
    Ok(artifacts)
}

pub(super) fn write_dotenv(
    connection: &Connection,
    job_id: i64,
    variables: &[(String, String)],
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO dotenvs (job_id, variables) VALUES (?1, ?2)")?
        .execute(params![job_id, serde_json::to_string(variables)?])?;
    Ok(())
}

pub(super) fn dotenv(connection: &Connection, job_id: i64) -> Result<Option<Dotenv>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT variables FROM dotenvs WHERE job_id = ?1")?;
    let variables: Option<String> = statement.query_row([job_id], |row| row.get(0)).optional()?;
    Ok(variables
        .map(|text| serde_json::from_str(&text))
        .transpose()?)
}
