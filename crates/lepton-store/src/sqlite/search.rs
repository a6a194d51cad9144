//! Searching runs: from what must hold to SQL, and so to the ids of a page.

use lepton_types::Id;
use rusqlite::params_from_iter;
use rusqlite::types::Value;

use super::reader::Reader;
use crate::search::{RunSink, Test};
use crate::{
    Comparison, DatasetField, Found, Lifecycle, NumberField, RunClause, RunField, RunOrder,
    RunSearch, StoreError, TextField,
};

/// From schema 5 to schema 6: where a search begins. Long values are indexed by how they begin, and the
/// newest runs of an experiment are told without a look at each.
pub(super) const SCHEMA: &str = r"
DROP INDEX run_index_started;
CREATE INDEX run_index_started ON run_index (experiment, started DESC, run, deleted, project);
CREATE INDEX run_index_name ON run_index (name);
CREATE INDEX run_params_value ON run_params (key, substr(value, 1, 64));
CREATE INDEX run_tags_value ON run_tags (key, substr(value, 1, 64));
CREATE INDEX metric_latest_number ON metric_latest (key, number);
";

impl Reader<'_> {
    pub(crate) fn search_runs<S: RunSink>(
        &self,
        search: &RunSearch,
        sink: S,
    ) -> Result<Found<S>, StoreError> {
        // What is deleted meanwhile is not missing from the page.
        let _snapshot = self.connection().unchecked_transaction()?;
        let limit = search.limit.clamp(1, RunSearch::LIMIT_MAX);
        let (sql, arguments) = sql_of(search, self.narrowest(search)?, limit + 1);
        let mut statement = self.connection().prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(arguments), |row| {
            Ok(Id::from_bytes(row.get(0)?))
        })?;
        let mut ids: Vec<Id> = rows.collect::<Result<_, _>>()?;
        let more = ids.len() > limit;
        ids.truncate(limit);
        let mut found = self.tell_runs(&ids, sink)?;
        found.more |= more;
        Ok(found)
    }

    /// The clause that the fewest runs may meet, if they are so few that reading them all, of whatever
    /// project, costs less than going through the runs of the experiments.
    fn narrowest(&self, search: &RunSearch) -> Result<Option<usize>, StoreError> {
        let mut narrowest = (None, NARROW_RUNS_MAX);
        for (number, clause) in search.clauses.iter().enumerate() {
            let Some((sql, mut arguments)) = runs_that_may_meet(clause) else {
                continue;
            };
            let sql = format!("SELECT COUNT(*) FROM ({sql} LIMIT ?)");
            arguments.push(narrowest.1.into());
            let count: i64 = self
                .connection()
                .prepare_cached(&sql)?
                .query_row(params_from_iter(arguments), |row| row.get(0))?;
            if count < narrowest.1 {
                narrowest = (Some(number), count);
            }
        }
        Ok(narrowest.0)
    }
}

/// Runs with which a search may begin: each is looked up by its id.
const NARROW_RUNS_MAX: i64 = 4_096;

/// The runs that may meet a clause, and all that do, where an index gives them: SQL with its arguments.
fn runs_that_may_meet(clause: &RunClause) -> Option<(String, Vec<Value>)> {
    // Nothing but the index is read: of a long value it has the beginning.
    let with_value = |table: &str, key: &str, text: &str| {
        let sql = format!(
            "SELECT run FROM {table} WHERE key = ? AND substr(value, 1, 64) = substr(?, 1, 64)"
        );
        (sql, vec![key.to_owned().into(), text.to_owned().into()])
    };
    match (&clause.field, &clause.test) {
        (RunField::Metric(_), Test::Number(Comparison::Differs, _)) => None,
        (RunField::Metric(key), Test::Number(comparison, bound)) => Some((
            format!(
                "SELECT run FROM metric_latest WHERE key = ? AND number {} ?",
                comparison.sql()
            ),
            vec![key.to_owned().into(), (*bound).into()],
        )),
        (RunField::Param(key), Test::Is(text)) => Some(with_value("run_params", key, text)),
        (RunField::Tag(key), Test::Is(text)) => Some(with_value("run_tags", key, text)),
        (RunField::Text(TextField::Name), Test::Is(name)) => Some((
            "SELECT run FROM run_index WHERE name = ?".to_owned(),
            vec![name.to_owned().into()],
        )),
        (RunField::Text(TextField::Id), Test::Is(id)) => Some(of_ids(std::slice::from_ref(id))),
        (RunField::Text(TextField::Id), Test::Among(ids)) => Some(of_ids(ids)),
        _ => None,
    }
}

/// Whether all the runs that may meet a clause do: of a long value an index has but the beginning.
fn is_told_by_index(clause: &RunClause) -> bool {
    match (&clause.field, &clause.test) {
        (RunField::Param(_) | RunField::Tag(_), Test::Is(text)) => {
            text.chars().count() < INDEXED_CHARS
        }
        (_, _) => true,
    }
}

/// Characters of a value that an index has.
const INDEXED_CHARS: usize = 64;

/// The runs of these ids; what is no id, or not as ids are written, is no run.
fn of_ids(ids: &[String]) -> (String, Vec<Value>) {
    let parsed = ids.iter().filter_map(|text| {
        let id: Id = text.parse().ok()?;
        (id.to_string() == *text).then(|| Value::from(id.to_bytes().to_vec()))
    });
    let arguments: Vec<Value> = parsed.collect();
    let marks = vec!["?"; arguments.len()].join(",");
    let sql = format!("SELECT run FROM run_index WHERE run IN ({marks})");
    (sql, arguments)
}

/// SQL under construction. Everything that a caller says is an argument, never text.
struct Building {
    source: String,
    joins: String,
    join_arguments: Vec<Value>,
    conditions: String,
    arguments: Vec<Value>,
}

/// The ids of a page; the runs that may meet the clause `narrowest` are where it looks for them.
fn sql_of(search: &RunSearch, narrowest: Option<usize>, limit: usize) -> (String, Vec<Value>) {
    let marks = vec!["?"; search.experiments.len()].join(",");
    let mut building = Building {
        source: "run_index r".to_owned(),
        joins: String::new(),
        join_arguments: Vec::new(),
        conditions: format!(" WHERE r.experiment IN ({marks}) AND r.project = ?"),
        arguments: search
            .experiments
            .iter()
            .map(|experiment| Value::from(experiment.to_bytes().to_vec()))
            .collect(),
    };
    building
        .arguments
        .push(search.project.as_str().to_owned().into());
    match search.lifecycle {
        Lifecycle::Active => building.conditions.push_str(" AND r.deleted = 0"),
        Lifecycle::Deleted => building.conditions.push_str(" AND r.deleted = 1"),
        Lifecycle::Any => {}
    }
    let mut source_arguments = Vec::new();
    for (number, clause) in search.clauses.iter().enumerate() {
        let start = runs_that_may_meet(clause).filter(|_| narrowest == Some(number));
        let Some((sql, arguments)) = start else {
            building.add_clause(clause);
            continue;
        };
        // The order of a CROSS JOIN is kept.
        building.source = format!("({sql}) narrow CROSS JOIN run_index r");
        building.conditions.push_str(" AND r.run = narrow.run");
        source_arguments = arguments;
        if !is_told_by_index(clause) {
            building.add_clause(clause);
        }
    }
    let mut order = String::new();
    for (number, by) in search.order.iter().enumerate() {
        order.push_str(&building.add_order(by, number));
    }
    let starts = RunField::Number(NumberField::Started);
    if !search.order.iter().any(|by| by.field == starts) {
        order.push_str("r.started DESC, ");
    }
    let sql = format!(
        "SELECT r.run FROM {}{}{} ORDER BY {order}r.run LIMIT ? OFFSET ?",
        building.source, building.joins, building.conditions
    );
    let mut arguments = source_arguments;
    arguments.append(&mut building.join_arguments);
    arguments.append(&mut building.arguments);
    arguments.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    arguments.push(i64::try_from(search.offset).unwrap_or(i64::MAX).into());
    (sql, arguments)
}

impl Building {
    fn add_clause(&mut self, clause: &RunClause) {
        self.conditions.push_str(" AND ");
        let test = &clause.test;
        match &clause.field {
            RunField::Param(key) => self.add_pair("run_params", key, test),
            RunField::Tag(key) => self.add_pair("run_tags", key, test),
            RunField::Metric(key) => self.add_metric(key, test),
            RunField::Text(field) => self.add_test(text_column(*field), test),
            RunField::Number(field) => self.add_test(number_column(*field), test),
            RunField::Dataset(field) => {
                self.conditions
                    .push_str("EXISTS (SELECT 1 FROM run_datasets d");
                let column = match field {
                    DatasetField::Name => " WHERE d.run = r.run AND ",
                    DatasetField::Digest => " WHERE d.run = r.run AND ",
                    DatasetField::Context => {
                        ", json_each(d.tags) t WHERE d.run = r.run \
                         AND t.value ->> 0 = 'mlflow.data.context' AND "
                    }
                };
                self.conditions.push_str(column);
                self.add_test(
                    match field {
                        DatasetField::Name => "d.name",
                        DatasetField::Digest => "d.digest",
                        DatasetField::Context => "(t.value ->> 1)",
                    },
                    test,
                );
                self.conditions.push(')');
            }
        }
    }

    fn add_pair(&mut self, table: &str, key: &str, test: &Test) {
        if *test == Test::Absent {
            self.conditions.push_str("NOT ");
        }
        self.conditions.push_str(&format!(
            "EXISTS (SELECT 1 FROM {table} p WHERE p.run = r.run AND p.key = ?"
        ));
        self.arguments.push(key.to_owned().into());
        if !matches!(test, Test::Absent | Test::Present) {
            self.conditions.push_str(" AND ");
            self.add_test("p.value", test);
        }
        self.conditions.push(')');
    }

    fn add_metric(&mut self, key: &str, test: &Test) {
        self.conditions.push_str(
            "EXISTS (SELECT 1 FROM metric_latest m WHERE m.run = r.run AND m.key = ? AND ",
        );
        self.arguments.push(key.to_owned().into());
        match test {
            // NaN, which has no number, differs from every number.
            Test::Number(Comparison::Differs, bound) => {
                self.conditions
                    .push_str("(m.number <> ? OR m.number IS NULL)");
                self.arguments.push((*bound).into());
            }
            _ => self.add_test("m.number", test),
        }
        self.conditions.push(')');
    }

    /// Adds what must hold of `column`.
    fn add_test(&mut self, column: &str, test: &Test) {
        let mut add = |condition: &str, argument: Value| {
            self.conditions.push_str(&format!("{column} {condition}"));
            self.arguments.push(argument);
        };
        match test {
            Test::Number(comparison, bound) => {
                add(&format!("{} ?", comparison.sql()), (*bound).into());
            }
            Test::Is(text) => add("= ?", text.clone().into()),
            Test::IsNot(text) => add("<> ?", text.clone().into()),
            // LIKE ignores the case in SQLite, GLOB does not.
            Test::Like(pattern) => add("GLOB ?", glob_of(pattern).into()),
            Test::LikeAnyCase(pattern) => add("LIKE ?", pattern.clone().into()),
            Test::Among(list) | Test::NotAmong(list) => {
                let not = match test {
                    Test::NotAmong(_) => "NOT ",
                    _ => "",
                };
                let marks = vec!["?"; list.len()].join(",");
                self.conditions
                    .push_str(&format!("{column} {not}IN ({marks})"));
                self.arguments.extend(list.iter().cloned().map(Value::from));
            }
            Test::Present => self.conditions.push_str(&format!("{column} IS NOT NULL")),
            Test::Absent => self.conditions.push_str(&format!("{column} IS NULL")),
        }
    }

    /// Adds what `by` needs, and returns its terms of ORDER BY.
    fn add_order(&mut self, by: &RunOrder, number: usize) -> String {
        let way = if by.descending { "DESC" } else { "ASC" };
        let name = format!("o{number}");
        let mut join = |table: &str, key: &str| {
            self.joins.push_str(&format!(
                " LEFT JOIN {table} {name} ON {name}.run = r.run AND {name}.key = ?"
            ));
            self.join_arguments.push(key.to_owned().into());
        };
        match &by.field {
            RunField::Param(key) => {
                join("run_params", key);
                format!("{name}.value IS NULL, {name}.value {way}, ")
            }
            RunField::Tag(key) => {
                join("run_tags", key);
                format!("{name}.value IS NULL, {name}.value {way}, ")
            }
            RunField::Metric(key) => {
                join("metric_latest", key);
                format!(
                    "CASE WHEN {name}.run IS NULL THEN 2 WHEN {name}.number IS NULL THEN 1 \
                     ELSE 0 END, {name}.number {way}, "
                )
            }
            RunField::Text(field) => format!("{} {way}, ", text_column(*field)),
            RunField::Number(field) => {
                let column = number_column(*field);
                format!("{column} IS NULL, {column} {way}, ")
            }
            // Data has no order among runs.
            RunField::Dataset(_) => String::new(),
        }
    }
}

const fn text_column(field: TextField) -> &'static str {
    match field {
        TextField::Id => "lower(hex(r.run))",
        TextField::Name => "r.name",
        TextField::Status => "r.status",
        TextField::User => "r.user",
        TextField::ArtifactUri => {
            "COALESCE(r.artifact_uri, 'mlflow-artifacts:/' || lower(hex(r.experiment)) || '/' || \
             lower(hex(r.run)) || '/artifacts')"
        }
    }
}

const fn number_column(field: NumberField) -> &'static str {
    match field {
        NumberField::Started => "r.started",
        NumberField::Finished => "r.finished",
    }
}

/// The GLOB that means what a LIKE means, upper and lower case apart.
fn glob_of(like: &str) -> String {
    let mut glob = String::with_capacity(like.len());
    for c in like.chars() {
        match c {
            '%' => glob.push('*'),
            '_' => glob.push('?'),
            '*' | '?' | '[' => {
                glob.push('[');
                glob.push(c);
                glob.push(']');
            }
            _ => glob.push(c),
        }
    }
    glob
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Store, Transaction};
    use lepton_types::resources::{MetricPoint, Resource, RunSpec};
    use lepton_types::{Name, RunId, Timestamp};

    fn id(number: u8) -> Id {
        Id::from_bytes([number; 16])
    }

    /// Runs of two experiments; long values that begin alike, NaN, and one run in the bin.
    async fn filled(folder: &std::path::Path) -> Store {
        let store = Store::open(&folder.join("store.db")).unwrap();
        let mut transaction = Transaction::new();
        for number in 0..40 {
            let at = Timestamp::from_millis(i64::from(number % 7));
            let spec = RunSpec::of(id(200 + number % 2).into());
            let name = format!("run {}", number % 5);
            let home = Name::default_project();
            let mut run = Resource::draft(id(number), home, name, at, spec);
            run.status.deleted_at = (number == 9).then_some(at);
            let key = RunId::from(id(number));
            let value = match number % 6 {
                0 => f64::NAN,
                other => f64::from(other),
            };
            let long = format!("{}{}", "x".repeat(80), number % 3);
            let pair = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
            transaction
                .create(&run)
                .set_params(key, pair("p", &long))
                .set_tags(key, pair("t", &(number % 4).to_string()))
                .append_metrics(
                    key,
                    vec![MetricPoint {
                        key: "m".to_owned(),
                        step: 0,
                        timestamp: Some(at),
                        value,
                    }],
                );
        }
        store.commit(transaction).await.unwrap();
        store
    }

    fn clauses() -> Vec<RunClause> {
        let clause = |field, test| RunClause { field, test };
        let metric = |test| clause(RunField::Metric("m".to_owned()), test);
        vec![
            metric(Test::Number(Comparison::Above, 2.0)),
            metric(Test::Number(Comparison::Equals, 3.0)),
            clause(
                RunField::Param("p".to_owned()),
                Test::Is(format!("{}1", "x".repeat(80))),
            ),
            clause(RunField::Tag("t".to_owned()), Test::Is("3".to_owned())),
            clause(
                RunField::Text(TextField::Name),
                Test::Is("run 4".to_owned()),
            ),
            clause(RunField::Text(TextField::Id), Test::Is(id(13).to_string())),
            clause(
                RunField::Text(TextField::Id),
                Test::Among(vec![id(5).to_string(), id(7).to_string().to_uppercase()]),
            ),
        ]
    }

    #[tokio::test]
    async fn it_does_not_matter_where_a_search_begins() {
        let folder = tempfile::tempdir().unwrap();
        let store = filled(folder.path()).await;
        let Backend::Sqlite(sqlite) = &store.backend;
        let found = sqlite.read(|reader| {
            let ids = |search: &RunSearch, narrowest| {
                let (sql, arguments) = sql_of(search, narrowest, 100);
                let mut statement = reader.connection().prepare(&sql)?;
                let rows = statement.query_map(params_from_iter(arguments), |row| {
                    Ok(Id::from_bytes(row.get(0)?))
                })?;
                Ok::<Vec<Id>, StoreError>(rows.collect::<Result<_, _>>()?)
            };
            let mut found = 0;
            for first in clauses() {
                for second in clauses() {
                    let search = RunSearch {
                        project: Name::default_project(),
                        experiments: vec![id(201)],
                        lifecycle: Lifecycle::Active,
                        clauses: vec![first.clone(), second.clone()],
                        order: vec![RunOrder {
                            field: RunField::Metric("m".to_owned()),
                            descending: true,
                        }],
                        offset: 0,
                        limit: 100,
                    };
                    let scanned = ids(&search, None)?;
                    assert_eq!(ids(&search, Some(0))?, scanned, "{search:?}");
                    assert_eq!(ids(&search, Some(1))?, scanned, "{search:?}");
                    found += scanned.len();
                }
            }
            Ok(found)
        });
        assert!(found.await.unwrap() > 50);
    }
}
