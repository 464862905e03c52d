//! PostgreSQL, on a runtime of the connection's own: whoever uses it is a thread that may block, and each statement has
//! a deadline, because a server that stops answering keeps its sockets open for as long as it likes.
//!
//! The lock against a second instance is an advisory lock of the session: it ends with the connection, so a crash leaves
//! none behind. A pool would earn nothing: there is one writer and one desk.

use super::{Cell, Fault, Holds, Kind, Row, Sql, Table, Value, Words};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls, Socket, Statement, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long to wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a statement, or a batch of one, may take.
const STATEMENT: Duration = Duration::from_secs(30);
/// Statements of a batch that are under way at once.
const PIPELINE: usize = 512;

/// A connection.
pub(crate) struct Postgres {
    client: Client,
    prepared: HashMap<String, Statement>,
    runtime: Runtime,
}

impl Postgres {
    /// Connects, as the only writer of rows or beside it. `url` is a `postgres://` URL or libpq's `key=value` words; with
    /// `sslmode=require` or stricter the connection is encrypted, and the server's certificate verified by `tls`.
    pub(crate) fn open(
        url: &str,
        alone: bool,
        tls: Option<&Arc<rustls::ClientConfig>>,
    ) -> Result<Self, Fault> {
        // Its words may hold the password: the parser's complaint is told, what it parsed is not.
        let mut config: Config = readable(url)
            .parse()
            .map_err(|_| Fault::new(Kind::Schema, "PostgreSQL: the connection URL cannot be read"))?;
        config.application_name("keymux").connect_timeout(CONNECT);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Fault::new(Kind::Away, format!("a runtime for PostgreSQL: {e}")))?;
        let client = match tls {
            Some(tls) if config.get_ssl_mode() == SslMode::Require => {
                within(&runtime, CONNECT, connect(&config, MakeRustlsConnect::new((**tls).clone())))?
            }
            _ => within(&runtime, CONNECT, connect(&config, NoTls))?,
        };
        let mut db = Self { client, prepared: HashMap::new(), runtime };
        if alone {
            // The session of a process that was killed ends when the server notices, not when the process ends.
            db.script("SET lock_timeout = '5s'")?;
            let lock = "SELECT CAST(1 AS BIGINT) FROM pg_advisory_lock(hashtext('keymux ledger'), \
                        hashtext(current_schema()))";
            db.rows(lock, &[]).map_err(|e| {
                let what = "another keymux works on this PostgreSQL database";
                if e.kind == Kind::Busy { Fault::new(Kind::InUse, what) } else { e }
            })?;
            db.script("SET lock_timeout = 0")?;
        }
        Ok(db)
    }

    fn prepare(&mut self, sql: &str) -> Result<Statement, Fault> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = within(&self.runtime, STATEMENT, self.client.prepare(sql))?;
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

/// `verify-ca` and `verify-full` are what `require` does here, which the parser of URLs does not know.
fn readable(url: &str) -> String {
    match url.split_once('?') {
        Some((place, words)) => {
            let words = ["verify-full", "verify-ca"].iter().fold(words.to_owned(), |words, mode| {
                words.replace(&format!("sslmode={mode}"), "sslmode=require")
            });
            format!("{place}?{words}")
        }
        None => url.to_owned(),
    }
}

async fn connect<T>(config: &Config, tls: T) -> Result<Client, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    #[expect(clippy::disallowed_methods, reason = "polled only while a statement of this connection waits")]
    drop(tokio::spawn(connection));
    Ok(client)
}

fn within<T>(
    runtime: &Runtime,
    limit: Duration,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Fault> {
    runtime.block_on(async {
        match tokio::time::timeout(limit, work).await {
            Ok(done) => done.map_err(|e| fault(&e)),
            Err(_) => Err(Fault::new(Kind::Away, format!("PostgreSQL did not answer within {limit:?}"))),
        }
    })
}

fn fault(e: &tokio_postgres::Error) -> Fault {
    let Some(db) = e.as_db_error() else {
        let mut why = std::error::Error::source(e).map(|s| format!(": {s}")).unwrap_or_default();
        if why.contains("certificate") {
            why.push_str("; put the certificate of who signed it into server.ca_file");
        }
        return Fault::new(Kind::Away, format!("PostgreSQL: {e}{why}"));
    };
    let code = db.code();
    let kind = if *code == SqlState::UNIQUE_VIOLATION {
        Kind::Taken
    } else if *code == SqlState::DISK_FULL {
        Kind::Full
    } else if *code == SqlState::DATA_CORRUPTED || *code == SqlState::INDEX_CORRUPTED {
        Kind::Corrupt
    } else if *code == SqlState::T_R_SERIALIZATION_FAILURE
        || *code == SqlState::T_R_DEADLOCK_DETECTED
        || *code == SqlState::LOCK_NOT_AVAILABLE
    {
        Kind::Busy
    } else if ["08", "57", "53"].iter().any(|class| code.code().starts_with(class)) {
        Kind::Away
    } else {
        Kind::Other
    };
    // The detail can quote a row; the message cannot.
    Fault::new(kind, format!("PostgreSQL: {} ({})", db.message(), code.code()))
}

impl ToSql for Cell<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Cell::Null => Ok(IsNull::Yes),
            Cell::Int(n) => n.to_sql(ty, out),
            Cell::Text(text) => text.to_sql(ty, out),
            Cell::Bytes(bytes) => bytes.to_sql(ty, out),
        }
    }
    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::TEXT, Type::BYTEA].contains(ty)
    }
    to_sql_checked!();
}

fn parameters<'a>(with: &'a [Cell<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    with.iter().map(|c| c as &(dyn ToSql + Sync)).collect()
}

/// One column of many rows, as an array.
fn column<'a>(rows: &'a [Vec<Cell<'a>>], at: usize, holds: Holds) -> Box<dyn ToSql + Sync + 'a> {
    match holds {
        Holds::Text => {
            let text =
                |row: &'a Vec<Cell<'a>>| if let Cell::Text(text) = row[at] { Some(text) } else { None };
            Box::new(rows.iter().map(text).collect::<Vec<Option<&str>>>())
        }
        Holds::Int => {
            let int = |row: &Vec<Cell<'_>>| if let Cell::Int(n) = row[at] { Some(n) } else { None };
            Box::new(rows.iter().map(int).collect::<Vec<Option<i64>>>())
        }
    }
}

fn row_of(row: &tokio_postgres::Row) -> Result<Row, Fault> {
    let field = |(i, column): (usize, &tokio_postgres::Column)| {
        let value = match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(i).map(|v| v.map(Value::Int)),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(i).map(|v| v.map(Value::Bytes)),
            _ => row.try_get::<_, Option<String>>(i).map(|v| v.map(Value::Text)),
        };
        value.map(|v| v.unwrap_or(Value::Null)).map_err(|e| fault(&e))
    };
    Ok(Row::new(row.columns().iter().enumerate().map(field).collect::<Result<_, _>>()?))
}

impl Sql for Postgres {
    fn run(&mut self, sql: &str, with: &[Cell<'_>]) -> Result<u64, Fault> {
        let statement = self.prepare(sql)?;
        within(&self.runtime, STATEMENT, self.client.execute(&statement, &parameters(with)))
    }

    fn run_many(&mut self, sql: &str, with: &[Vec<Cell<'_>>]) -> Result<(), Fault> {
        let statement = self.prepare(sql)?;
        for part in with.chunks(PIPELINE) {
            let all: Vec<_> = part.iter().map(|cells| parameters(cells)).collect();
            within(&self.runtime, STATEMENT, async {
                let each = all.iter().map(|cells| self.client.execute(&statement, cells));
                futures_util::future::try_join_all(each).await
            })?;
        }
        Ok(())
    }

    /// One statement for all, with an array for each column: a statement a row costs both sides many times as much.
    fn add(&mut self, to: &Table, rows: &[Vec<Cell<'_>>]) -> Result<Vec<bool>, Fault> {
        let arrays = to.parameters(|n, holds| match holds {
            Holds::Text => format!("${n}::TEXT[]"),
            Holds::Int => format!("${n}::BIGINT[]"),
        });
        let new = to.columns[0].0;
        let sql =
            format!("{} SELECT * FROM unnest({arrays}) {} RETURNING {new}", to.insert(), to.unless_there());
        let statement = self.prepare(&sql)?;
        let columns: Vec<_> =
            to.columns.iter().enumerate().map(|(i, (_, holds))| column(rows, i, *holds)).collect();
        let with: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|column| &**column as _).collect();
        let added = within(&self.runtime, STATEMENT, self.client.query(&statement, &with))?;
        let added: HashSet<&str> =
            added.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(|e| fault(&e))?;
        Ok(rows.iter().map(|row| matches!(row[0], Cell::Text(id) if added.contains(id))).collect())
    }

    fn rows(&mut self, sql: &str, with: &[Cell<'_>]) -> Result<Vec<Row>, Fault> {
        let statement = self.prepare(sql)?;
        let rows = within(&self.runtime, STATEMENT, self.client.query(&statement, &parameters(with)))?;
        rows.iter().map(row_of).collect()
    }

    fn script(&mut self, sql: &str) -> Result<(), Fault> {
        within(&self.runtime, STATEMENT, self.client.batch_execute(sql))
    }

    fn begin(&self) -> &'static str {
        "BEGIN"
    }

    fn words(&self) -> Words {
        Words { serial: "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", bytes: "BYTEA", clustered: "" }
    }

    fn size(&self) -> &'static str {
        "SELECT CAST(sum(pg_total_relation_size(c.oid)) AS BIGINT) FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace"
    }

    fn shrink(&mut self) -> Result<(), Fault> {
        // Autovacuum does.
        Ok(())
    }
}
