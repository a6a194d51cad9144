//! Random steps over random small tables, beside a naive reading of the same steps.
#![allow(clippy::unwrap_used, reason = "a test says so by failing")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lepton_ml::tabular::{Column, Frame};
use lepton_prep::{Input, InputFile, Limits, Outcome, PrepError, Preparation, Prepared};
use proptest::prelude::*;

/// A row as it came in.
#[derive(Debug, Clone)]
struct Row {
    x: Option<f64>,
    y: Option<f64>,
    kind: Option<&'static str>,
    group: &'static str,
}

/// Which steps there are, and how.
#[derive(Debug, Clone)]
struct Steps {
    distinct: bool,
    filter: Option<f64>,
    derive: bool,
    split: Option<(u64, bool)>,
    fill: [Option<usize>; 3],
    scale: [Option<usize>; 3],
    encode: Option<usize>,
}

const NUMBERS: [&str; 3] = ["x", "y", "sum"];
const FILLS: [&str; 4] = ["mean", "median", "mode", "{constant: -1.5}"];
const SCALES: [&str; 3] = ["standard", "min-max", "robust"];
const CODES: [&str; 3] = ["one-hot", "ordinal", "frequency"];

impl Steps {
    /// The columns with numbers that there are.
    fn numbers(&self) -> &'static [&'static str] {
        if self.derive { &NUMBERS } else { &NUMBERS[..2] }
    }

    fn yaml(&self) -> String {
        let mut steps =
            vec!["types: {id: int, x: float, y: float, kind: text, group: text}".to_owned()];
        if self.distinct {
            steps.push("clean: {drop_duplicates: [x, kind]}".to_owned());
        }
        if let Some(limit) = self.filter {
            steps.push(format!("filter: x > {limit:?}"));
        }
        if self.derive {
            steps.push("derive: {sum: x + y}".to_owned());
        }
        if let Some((seed, strata)) = self.split {
            let strata = if strata { ", stratify: [group]" } else { "" };
            steps.push(format!(
                "split: {{fractions: {{a: 0.6, b: 0.4}}, by: [id], seed: {seed}{strata}}}"
            ));
        }
        for (column, choice) in self.numbers().iter().zip(self.fill) {
            if let Some(choice) = choice {
                steps.push(format!("impute: {{{column}: {}}}", FILLS[choice]));
            }
        }
        for (column, choice) in self.numbers().iter().zip(self.scale) {
            if let Some(choice) = choice {
                steps.push(format!(
                    "normalise: {{columns: [{column}], method: {}}}",
                    SCALES[choice]
                ));
            }
        }
        if let Some(choice) = self.encode {
            steps.push(format!(
                "encode: {{columns: [kind], method: {}, unseen: ignore}}",
                CODES[choice]
            ));
        }
        let lines: String = steps.iter().map(|step| format!("  - {step}\n")).collect();
        format!("steps:\n{lines}output: {{format: csv}}\n")
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let number = || prop::option::weighted(0.8, (-20_i32..20).prop_map(|n| f64::from(n) / 4.0));
    let kind = prop::option::weighted(0.8, prop::sample::select(vec!["a", "b", "c", "d e", "ü"]));
    let group = prop::sample::select(vec!["u", "v", "w"]);
    let row =
        (number(), number(), kind, group).prop_map(|(x, y, kind, group)| Row { x, y, kind, group });
    prop::collection::vec(row, 1..60)
}

fn steps() -> impl Strategy<Value = Steps> {
    let choices = |count: usize| prop::array::uniform3(prop::option::of(0..count));
    (
        any::<bool>(),
        prop::option::of((-20_i32..5).prop_map(|n| f64::from(n) / 4.0)),
        any::<bool>(),
        prop::option::of((0_u64..9, any::<bool>())),
        choices(FILLS.len()),
        choices(SCALES.len()),
        prop::option::of(0..CODES.len()),
    )
        .prop_map(
            |(distinct, filter, derive, split, fill, scale, encode)| Steps {
                distinct,
                filter,
                derive,
                split,
                fill,
                scale,
                encode,
            },
        )
}

fn run(yaml: &str, input: &Input, folder: &Path, threads: usize) -> Result<Outcome, PrepError> {
    let preparation = Preparation::from_yaml(yaml).map_err(PrepError::from)?;
    let limits = Limits {
        threads,
        memory_bytes: 64 << 20,
        scratch: folder.join("scratch"),
        scratch_bytes: 1 << 28,
    };
    Prepared::plan(preparation, std::slice::from_ref(input))?.run(folder, &limits, &())
}

/// A file that was written: by column, its fields.
type Written = BTreeMap<String, Vec<String>>;

fn read(path: &Path) -> Written {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text
        .lines()
        .map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let rows: Vec<Vec<String>> = lines.collect();
    let column = |at: usize| rows.iter().map(|row| row[at].clone()).collect();
    names
        .iter()
        .enumerate()
        .map(|(at, name)| (name.clone(), column(at)))
        .collect()
}

/// A cell that was worked on; numbers and texts.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Missing,
    Number(f64),
    Text(&'static str),
}

fn number(value: Option<f64>) -> Cell {
    value.map_or(Cell::Missing, Cell::Number)
}

/// The rows that reach the split, with their ids and numbers.
fn surviving(rows: &[Row], steps: &Steps) -> Vec<(usize, Row)> {
    let mut seen: Vec<(Option<f64>, Option<&str>)> = Vec::new();
    let mut stay = Vec::new();
    for (id, row) in rows.iter().enumerate() {
        if steps.distinct {
            if seen.contains(&(row.x, row.kind)) {
                continue;
            }
            seen.push((row.x, row.kind));
        }
        if steps
            .filter
            .is_none_or(|limit| row.x.is_some_and(|x| x > limit))
        {
            stay.push((id, row.clone()));
        }
    }
    stay
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    let high = sorted[(low + 1).min(sorted.len() - 1)];
    sorted[low] + (high - sorted[low]) * part
}

fn most_frequent<T: Clone + PartialOrd>(values: &[T]) -> T {
    let count = |value: &T| values.iter().filter(|other| *other == value).count();
    let mut best = values[0].clone();
    for value in values {
        let (more, as_many) = (count(value) > count(&best), count(value) == count(&best));
        if more || as_many && *value < best {
            best = value.clone();
        }
    }
    best
}

fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let spread = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, spread.sqrt())
}

/// What the steps make of a column with numbers, fitted on the first rows; none if there is nothing to fit.
fn numbers(
    mut column: Vec<Option<f64>>,
    fitted: usize,
    fill: Option<usize>,
    scale: Option<usize>,
) -> Option<Vec<Cell>> {
    let present = |column: &[Option<f64>]| -> Vec<f64> {
        let mut all: Vec<f64> = column[..fitted].iter().flatten().copied().collect();
        all.sort_by(f64::total_cmp);
        all
    };
    if let Some(choice) = fill {
        let all = present(&column);
        if all.is_empty() && choice < 3 {
            return None;
        }
        let value = match choice {
            0 => moments(&all).0,
            1 => quantile(&all, 0.5),
            2 => most_frequent(&all),
            _ => -1.5,
        };
        column
            .iter_mut()
            .for_each(|cell| *cell = cell.or(Some(value)));
    }
    if let Some(choice) = scale {
        let all = present(&column);
        if all.is_empty() {
            return None;
        }
        let (centre, width) = match choice {
            0 => moments(&all),
            1 => (all[0], all[all.len() - 1] - all[0]),
            _ => (
                quantile(&all, 0.5),
                quantile(&all, 0.75) - quantile(&all, 0.25),
            ),
        };
        // What is constant but for rounding counts as constant.
        let factor = if width > 1e-12 { 1.0 / width } else { 0.0 };
        column
            .iter_mut()
            .flatten()
            .for_each(|cell| *cell = (*cell - centre) * factor);
    }
    Some(column.into_iter().map(number).collect())
}

/// What the steps make of the column with kinds.
fn kinds(
    column: &[Option<&'static str>],
    fitted: usize,
    encode: Option<usize>,
) -> Option<BTreeMap<String, Vec<Cell>>> {
    let Some(choice) = encode else {
        let cells = column
            .iter()
            .map(|kind| kind.map_or(Cell::Missing, Cell::Text));
        return Some(BTreeMap::from([("kind".to_owned(), cells.collect())]));
    };
    let known: BTreeSet<&str> = column[..fitted].iter().flatten().copied().collect();
    if known.is_empty() {
        return None;
    }
    if CODES[choice] == "one-hot" {
        let ones = |value: &str| {
            column
                .iter()
                .map(|kind| Cell::Number(f64::from(u8::from(*kind == Some(value)))))
                .collect()
        };
        return Some(
            known
                .iter()
                .map(|value| (format!("kind={value}"), ones(value)))
                .collect(),
        );
    }
    let code = |kind: &Option<&str>| {
        let Some(kind) = kind else {
            // A value that is not there is as frequent as one that was never met.
            return match CODES[choice] {
                "frequency" => Cell::Number(0.0),
                _ => Cell::Missing,
            };
        };
        let share = column[..fitted]
            .iter()
            .filter(|other| **other == Some(kind))
            .count() as f64
            / fitted as f64;
        match known.iter().position(|value| value == kind) {
            _ if CODES[choice] == "frequency" => Cell::Number(share),
            Some(place) => Cell::Number(place as f64),
            None => Cell::Missing,
        }
    };
    Some(BTreeMap::from([(
        "kind".to_owned(),
        column.iter().map(code).collect(),
    )]))
}

fn same(field: &str, cell: &Cell) -> bool {
    match cell {
        Cell::Missing => field.is_empty(),
        Cell::Text(text) => field == *text,
        Cell::Number(number) => field
            .parse::<f64>()
            .is_ok_and(|found| (found - number).abs() <= 1e-9 * number.abs().max(1.0)),
    }
}

/// The parts in order, one after the other.
fn written(outcome: &Outcome, folder: &Path) -> (Written, Vec<usize>) {
    let mut all = Written::new();
    let mut lengths = Vec::new();
    for file in &outcome.files {
        let part = read(&folder.join(&file.path));
        lengths.push(part["id"].len());
        for (name, fields) in part {
            all.entry(name).or_default().extend(fields);
        }
    }
    (all, lengths)
}

/// What was fitted, applied to the raw rows, gives the bytes that were written.
fn check_transform(outcome: &Outcome, all: &Written, rows: &[Row]) {
    let of = |name: &str| match name {
        "x" => Column::Number(rows.iter().map(|row| row.x.unwrap_or(f64::NAN)).collect()),
        "y" => Column::Number(rows.iter().map(|row| row.y.unwrap_or(f64::NAN)).collect()),
        "id" => Column::Number(all["id"].iter().map(|id| id.parse().unwrap()).collect()),
        "kind" => Column::Text(rows.iter().map(|row| row.kind).collect()),
        "group" => Column::Text(rows.iter().map(|row| Some(row.group)).collect()),
        other => panic!("no raw column is called {other}"),
    };
    let inputs = outcome.fitted.inputs.iter();
    let frame = inputs
        .map(|input| (input.name.clone(), of(&input.name)))
        .collect();
    let applied = outcome.fitted.apply(&Frame::new(frame).unwrap()).unwrap();
    for name in applied.names() {
        let fields = &all[name];
        match applied.column(name).unwrap() {
            Column::Number(values) => {
                for (field, value) in fields.iter().zip(values) {
                    let found = field.parse().unwrap_or(f64::NAN);
                    let equal = found == *value || found.is_nan() && value.is_nan();
                    assert!(equal, "{name}: wrote {field}, applied {value}");
                }
            }
            Column::Text(_) => assert!(["kind", "group"].contains(&name.as_ref())),
        }
    }
}

/// What a naive reading of the steps makes of these rows; none where there is nothing to fit on.
fn expected(rows: &[Row], steps: &Steps, fitted: usize) -> Option<BTreeMap<String, Vec<Cell>>> {
    let sum = |row: &Row| row.x.zip(row.y).map(|(x, y)| x + y);
    let raw: [Vec<Option<f64>>; 3] = [
        rows.iter().map(|row| row.x).collect(),
        rows.iter().map(|row| row.y).collect(),
        rows.iter().map(sum).collect(),
    ];
    let column: Vec<_> = rows.iter().map(|row| row.kind).collect();
    let mut all = kinds(&column, fitted, steps.encode)?;
    for (at, name) in steps.numbers().iter().enumerate() {
        let cells = numbers(raw[at].clone(), fitted, steps.fill[at], steps.scale[at])?;
        all.insert((*name).to_owned(), cells);
    }
    Some(all)
}

/// The split gave every part its share, of every group where it was told to.
fn check_split(rows: &[Row], lengths: &[usize], steps: &Steps) {
    if let Some((_, true)) = steps.split {
        for group in ["u", "v", "w"] {
            let count = |rows: &[Row]| rows.iter().filter(|row| row.group == group).count();
            let wanted = (count(rows) as f64 * 0.6).round() as usize;
            assert_eq!(count(&rows[..lengths[0]]), wanted, "{group}");
        }
    }
}

fn check(rows: &[Row], steps: &Steps) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.csv");
    let shown = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    let lines = rows.iter().enumerate().map(|(id, row)| {
        format!(
            "{id},{},{},{},{}\n",
            shown(row.x),
            shown(row.y),
            row.kind.unwrap_or_default(),
            row.group
        )
    });
    std::fs::write(
        &path,
        "id,x,y,kind,group\n".to_owned() + &lines.collect::<String>(),
    )
    .unwrap();
    let file = InputFile {
        name: "data.csv".to_owned(),
        path,
    };
    let input = Input {
        name: "data".to_owned(),
        files: vec![file],
    };
    let (yaml, out) = (steps.yaml(), folder.path().join("out"));
    let stay = surviving(rows, steps);
    let outcome = match run(&yaml, &input, &out, 2) {
        Ok(outcome) => outcome,
        Err(refused) => {
            let said = refused.to_string();
            let nothing = ["no row is left", "has no value"]
                .iter()
                .any(|words| said.contains(words));
            assert!(nothing, "{yaml}{said}");
            // Which rows a split would have dealt to the first part is not told; without one it is plain.
            let plain: Vec<Row> = stay.iter().map(|(_, row)| row.clone()).collect();
            assert!(
                steps.split.is_some()
                    || plain.is_empty()
                    || expected(&plain, steps, plain.len()).is_none(),
                "{yaml}{said}"
            );
            return;
        }
    };
    let (all, lengths) = written(&outcome, &out);
    let ids: Vec<usize> = all["id"].iter().map(|id| id.parse().unwrap()).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        stay.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        "{yaml}"
    );
    let dealt: Vec<Row> = ids.iter().map(|id| rows[*id].clone()).collect();
    check_split(&dealt, &lengths, steps);
    let expected = expected(&dealt, steps, lengths[0]);
    for (name, cells) in expected.unwrap_or_else(|| panic!("{yaml}there is nothing to fit on")) {
        for ((field, cell), id) in all[&name].iter().zip(&cells).zip(&ids) {
            assert!(
                same(field, cell),
                "{yaml}row {id}, {name}: `{field}`, not {cell:?}"
            );
        }
    }
    check_transform(&outcome, &all, &dealt);
    let again = folder.path().join("again");
    let repeated = run(&yaml, &input, &again, 1).unwrap();
    assert_eq!(repeated.files, outcome.files);
    for file in &outcome.files {
        assert_eq!(
            std::fs::read(out.join(&file.path)).unwrap(),
            std::fs::read(again.join(&file.path)).unwrap()
        );
    }
}

/// Each runs whole preparations, so few are enough for every change; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_steps_do_what_a_naive_reading_says(rows in rows(), steps in steps()) {
        check(&rows, &steps);
    }
}
