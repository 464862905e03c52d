//! The little of SQL that SQLite and PostgreSQL have in common, and all that the rest of this crate uses: numbered
//! parameters, `ON CONFLICT`, `RETURNING`, and three types. Every statement of the crate is written once and runs on both;
//! what differs (connections, locks, words of the schema) is in the two modules below.

pub(crate) mod migrate;
pub(crate) mod postgres;
pub(crate) mod sqlite;

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl Cell<'_> {
    /// A count or an amount; what a database cannot hold (more than nine thousand million dollars) is the most it can.
    pub(crate) fn count(n: u64) -> Self {
        Cell::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }

    pub(crate) fn maybe(n: Option<u64>) -> Self {
        n.map_or(Cell::Null, Self::count)
    }
}

/// A field of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// Fields of one row, taken in order. A missing field or one of another type is a fault of the schema.
pub(crate) struct Row(std::vec::IntoIter<Value>);

impl Row {
    pub(crate) fn new(values: Vec<Value>) -> Self {
        Self(values.into_iter())
    }

    fn wrong(wanted: &str, got: Option<&Value>) -> Fault {
        Fault::new(Kind::Other, format!("the database holds {got:?} where {wanted} belongs"))
    }

    pub(crate) fn int(&mut self) -> Result<i64, Fault> {
        match self.0.next() {
            Some(Value::Int(n)) => Ok(n),
            other => Err(Self::wrong("a number", other.as_ref())),
        }
    }

    pub(crate) fn count(&mut self) -> Result<u64, Fault> {
        self.int().map(|n| u64::try_from(n).unwrap_or(0))
    }

    pub(crate) fn maybe(&mut self) -> Result<Option<u64>, Fault> {
        match self.0.next() {
            Some(Value::Int(n)) => Ok(u64::try_from(n).ok()),
            Some(Value::Null) => Ok(None),
            other => Err(Self::wrong("a number or nothing", other.as_ref())),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, Fault> {
        match self.0.next() {
            Some(Value::Text(text)) => Ok(text),
            other => Err(Self::wrong("a text", other.as_ref())),
        }
    }

    pub(crate) fn maybe_text(&mut self) -> Result<Option<String>, Fault> {
        match self.0.next() {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            other => Err(Self::wrong("a text or nothing", other.as_ref())),
        }
    }

    pub(crate) fn maybe_bytes(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        match self.0.next() {
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Value::Null) => Ok(None),
            other => Err(Self::wrong("bytes or nothing", other.as_ref())),
        }
    }
}

/// What kind of failure it is, for whoever must decide whether to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It cannot be reached, or the connection broke.
    Away,
    /// Somebody else holds its lock for the moment.
    Busy,
    /// The disk has no room for it.
    Full,
    /// Its file is damaged or no database.
    Corrupt,
    /// It was there and is gone.
    Missing,
    /// Another instance of keymux works on it.
    InUse,
    /// Its schema is newer than this program, or was changed by hand.
    Schema,
    /// What was asked for is taken already (a client's id, a key).
    Taken,
    /// What was to be changed is not there, or was changed in the meantime.
    Changed,
    /// Anything else.
    Other,
}

/// A failure of the database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    /// What kind.
    pub kind: Kind,
    /// In words. Never a password: connection strings stay out of it.
    pub what: String,
}

impl Fault {
    pub(crate) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }
}

/// Words of the schema that the two spell differently.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    /// A key that counts upwards by itself.
    pub serial: &'static str,
    /// The type of bytes.
    pub bytes: &'static str,
    /// Behind a table that is its own index.
    pub clustered: &'static str,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Text,
    Int,
}

/// A table that rows are added to by the thousand. Its first column is unique.
pub(crate) struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, Holds)],
}

impl Table {
    /// `INSERT INTO table (columns)`.
    fn insert(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        format!("INSERT INTO {} ({})", self.name, names.join(", "))
    }

    /// The parameters of all columns, each made of its number and what it holds.
    fn parameters(&self, each: impl Fn(usize, Holds) -> String) -> String {
        let all = self.columns.iter().enumerate().map(|(i, (_, holds))| each(i + 1, *holds));
        all.collect::<Vec<_>>().join(", ")
    }

    /// What is done with a row that is there.
    fn unless_there(&self) -> String {
        format!("ON CONFLICT ({}) DO NOTHING", self.columns[0].0)
    }
}

/// A connection.
pub(crate) trait Sql: Send {
    /// Runs one statement; returns how many rows it touched.
    fn run(&mut self, sql: &str, with: &[Cell<'_>]) -> Result<u64, Fault>;
    /// Runs one statement for each list of parameters, in order.
    fn run_many(&mut self, sql: &str, with: &[Vec<Cell<'_>>]) -> Result<(), Fault>;
    /// Adds those of the rows whose first column is not there yet; says of each whether it was added.
    fn add(&mut self, to: &Table, rows: &[Vec<Cell<'_>>]) -> Result<Vec<bool>, Fault>;
    /// Runs one statement and returns its rows.
    fn rows(&mut self, sql: &str, with: &[Cell<'_>]) -> Result<Vec<Row>, Fault>;
    /// Runs statements without parameters or results.
    fn script(&mut self, sql: &str) -> Result<(), Fault>;
    /// What begins a transaction that will write.
    fn begin(&self) -> &'static str;
    /// Its words.
    fn words(&self) -> Words;
    /// The query for its size in bytes.
    fn size(&self) -> &'static str;
    /// Gives freed space back, a little at a time, where that is not done by itself.
    fn shrink(&mut self) -> Result<(), Fault>;
}

/// All or nothing.
pub(crate) fn transaction<T>(
    db: &mut dyn Sql,
    work: impl FnOnce(&mut dyn Sql) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let begin = db.begin();
    db.script(begin)?;
    let done = work(db).and_then(|out| db.script("COMMIT").map(|()| out));
    if done.is_err() {
        // If even that fails the connection is broken, and its transaction with it.
        let _ = db.script("ROLLBACK");
    }
    done
}

/// Its size in bytes.
pub(crate) fn bytes(db: &mut dyn Sql) -> Result<u64, Fault> {
    let size = db.size();
    db.rows(size, &[])?.first_mut().map_or(Ok(0), Row::count)
}
