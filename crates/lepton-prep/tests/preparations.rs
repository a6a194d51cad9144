//! Whole preparations over real files, beside what a naive reading of the steps says.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::collections::BTreeMap;
use std::path::Path;

use lepton_prep::{Input, InputFile, Limits, Outcome, PrepError, Preparation, Prepared};

fn limits(scratch: &Path, threads: usize) -> Limits {
    Limits {
        threads,
        memory_bytes: 256 << 20,
        scratch: scratch.to_owned(),
        scratch_bytes: 1 << 30,
    }
}

struct Ground {
    folder: tempfile::TempDir,
    inputs: Vec<Input>,
}

impl Ground {
    fn new(files: &[(&str, &str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let inputs = files.iter().map(|(name, file, content)| {
            let path = folder.path().join(file);
            std::fs::write(&path, content).unwrap();
            Input {
                name: (*name).to_owned(),
                files: vec![InputFile {
                    name: (*file).to_owned(),
                    path,
                }],
            }
        });
        let inputs = inputs.collect();
        Self { folder, inputs }
    }

    fn run_on(&self, yaml: &str, threads: usize, out: &str) -> Result<Outcome, PrepError> {
        let prepared = Prepared::plan(
            Preparation::from_yaml(yaml).map_err(PrepError::from)?,
            &self.inputs,
        )?;
        let scratch = self.folder.path().join("scratch");
        prepared.run(
            &self.folder.path().join(out),
            &limits(&scratch, threads),
            &(),
        )
    }

    fn run(&self, yaml: &str) -> Result<Outcome, PrepError> {
        self.run_on(yaml, 2, "out")
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(path)).unwrap()
    }

    fn said(&self, yaml: &str) -> String {
        self.run(yaml).unwrap_err().to_string()
    }
}

const PEOPLE: &str = "id,name,age,city,pay\n1, Ann ,30,Oslo,10.5\n2,Bob,NA,Rome,20\n3,Cid,50,Oslo,\n4,Dan,41,?,7.25\n4,Dan,41,?,7.25\n";

#[test]
fn steps_do_what_they_say() {
    let ground = Ground::new(&[
        ("people", "people.csv", PEOPLE),
        ("cities", "cities.csv", "city,country\nOslo,NO\nRome,IT\n"),
    ]);
    let outcome = ground
        .run(
            "
steps:
  - clean: {drop_duplicates: [id]}
  - join: {with: cities, on: [city], kind: left}
  - derive: {double: pay * 2}
  - impute: {age: mean, pay: {constant: 0}, city: mode}
  - normalise: {columns: [age], method: min-max}
  - encode: {columns: [city]}
  - encode: {columns: [country], method: ordinal}
output: {format: csv}
",
        )
        .unwrap();
    assert_eq!(outcome.files[0].rows, 4);
    let expected = "id,name,age,city=Oslo,city=Rome,pay,country,double\n\
        1,Ann,0.0,1.0,0.0,10.5,1.0,21.0\n\
        2,Bob,0.5166666666666668,0.0,1.0,20.0,0.0,40.0\n\
        3,Cid,1.0,1.0,0.0,0.0,1.0,\n\
        4,Dan,0.55,1.0,0.0,7.25,,14.5\n";
    let shown = ground.read("out/data.csv");
    assert_eq!(shown, expected);
    let pay = outcome
        .columns
        .iter()
        .find(|column| column.name == "pay")
        .unwrap();
    assert_eq!((pay.missing, pay.min, pay.max), (0, Some(0.0), Some(20.0)));
    assert_eq!(
        outcome
            .columns
            .iter()
            .find(|c| c.name == "double")
            .unwrap()
            .missing,
        1
    );
}

#[test]
fn a_query_takes_the_place_of_an_input() {
    let ground = Ground::new(&[("people", "people.csv", PEOPLE)]);
    ground
        .run(
            "
sql: SELECT city, count(*) AS n, sum(pay) AS total FROM people GROUP BY city ORDER BY city
steps: [{filter: n > 1}]
output: {format: jsonl}
",
        )
        .unwrap();
    assert_eq!(
        ground.read("out/data.jsonl"),
        "{\"city\":\"Oslo\",\"n\":2,\"total\":10.5}\n{\"n\":2,\"total\":14.5}\n"
    );
}

fn numbers(rows: usize) -> String {
    let mut text = "id,x,y,kind,label\n".to_owned();
    let mut state = 1_u64;
    for id in 0..rows {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let (a, b) = (
            f64::from((state >> 40) as u32) / 1_000.0,
            state >> 33 & 1_023,
        );
        let gap = if b % 11 == 0 {
            String::new()
        } else {
            a.to_string()
        };
        text += &format!("{id},{gap},{b},k{},{}\n", b % 7, b % 2);
    }
    text
}

const FITTED: &str = "
inputs: {data: data}
steps:
  - split: {fractions: {train: 0.7, test: 0.3}, by: [id]}
  - impute: {x: median}
  - normalise: {columns: [x], method: standard}
  - normalise: {columns: [y], method: robust}
  - encode: {columns: [kind]}
";

#[test]
fn any_number_of_threads_writes_the_same_bytes() {
    // Several pieces of eight megabytes.
    let ground = Ground::new(&[("data", "data.csv", &numbers(900_000))]);
    let runs: Vec<Outcome> = [1, 2, 5]
        .map(|threads| {
            ground
                .run_on(FITTED, threads, &threads.to_string())
                .unwrap()
        })
        .into();
    let bytes = |threads: usize, file: &str| {
        std::fs::read(ground.folder.path().join(format!("{threads}/{file}"))).unwrap()
    };
    for file in ["train.parquet", "test.parquet"] {
        assert!(
            bytes(1, file) == bytes(2, file) && bytes(2, file) == bytes(5, file),
            "{file}"
        );
    }
    assert!(runs[0] == runs[1] && runs[1] == runs[2]);
    assert_eq!(
        runs[0].parts.iter().map(|part| part.rows).sum::<u64>(),
        900_000
    );
}

#[test]
fn only_the_first_part_is_fitted_on() {
    let text = "id,x\n".to_owned()
        + &(0..2_000)
            .map(|id| format!("{id},{}\n", id * id))
            .collect::<String>();
    let ground = Ground::new(&[("data", "data.csv", &text)]);
    let yaml = "
steps:
  - split: {fractions: {a: 0.5, b: 0.5}, by: [id]}
  - derive: {raw: 1.0 * x}
  - normalise: {columns: [x]}
output: {format: csv}
";
    ground.run(yaml).unwrap();
    let part = |name: &str| -> Vec<(f64, f64)> {
        let text = ground.read(&format!("out/{name}.csv"));
        let row = |line: &str| {
            let mut fields = line.split(',').skip(1).map(|f| f.parse::<f64>().unwrap());
            (fields.next().unwrap(), fields.next().unwrap())
        };
        text.lines().skip(1).map(row).collect()
    };
    let fitted = part("a");
    let mean = fitted.iter().map(|row| row.1).sum::<f64>() / fitted.len() as f64;
    let spread = fitted.iter().map(|row| (row.1 - mean).powi(2)).sum::<f64>() / fitted.len() as f64;
    for (scaled, raw) in fitted.into_iter().chain(part("b")) {
        assert!((scaled - (raw - mean) / spread.sqrt()).abs() < 1e-9);
    }
}

#[test]
fn bad_input_is_said_with_its_place() {
    let broken = "{\"a\":1}\n{\"a\":2}\n{\"a\":\n";
    let ground = Ground::new(&[
        ("people", "people.csv", PEOPLE),
        ("ragged", "ragged.csv", "a,b\n1,2\n3\n"),
        ("lines", "lines.jsonl", broken),
        ("empty", "empty.csv", ""),
    ]);
    let only = |input: &str| {
        let input = ground
            .inputs
            .iter()
            .find(|i| i.name == input)
            .unwrap()
            .clone();
        Ground {
            folder: tempfile::tempdir().unwrap(),
            inputs: vec![input],
        }
    };
    let people = only("people");
    for (ground, yaml, parts) in [
        (
            &people,
            "steps: [{filter: agee > 3}]",
            &["step 1 (filter)", "agee"][..],
        ),
        (
            &people,
            "steps: [{filter: age >}]",
            &["step 1 (filter)", "`age >`"],
        ),
        (
            &people,
            "steps: [{select: [id]}, {normalise: {columns: [age]}}]",
            &["step 2 (normalise)", "`age`", "`id`"],
        ),
        (
            &people,
            "steps: [{normalise: {columns: [city]}}]",
            &["step 1 (normalise)", "`city` holds text"],
        ),
        (
            &people,
            "steps: [{types: {name: int}}]",
            &["`people.csv`, line 2", "`name`", "int"],
        ),
        (
            &people,
            "steps: [{types: {name: whole}}]",
            &["step 1 (types)", "`whole`"],
        ),
        (
            &people,
            "steps: [{join: {with: cities, on: [city]}}]",
            &["step 1 (join)", "`cities`", "`people`"],
        ),
        (&people, "sql: SELEC 1", &["query"]),
        (
            &people,
            "sql: SELECT nothing FROM people",
            &["query", "nothing"],
        ),
        (&people, "sql: DROP TABLE people", &["query"]),
        (&people, "steps: [{filter: id > 100}]", &["no row is left"]),
        (
            &people,
            "steps: [{encode: {columns: [city]}}, {filter: city = 'Oslo'}]",
            &["step 2", "encoded already"],
        ),
        (
            &people,
            "steps: [{split: {fractions: {a: 0.5, b: 0.6}}}]",
            &["step 1 (split)", "sum to 1"],
        ),
        (
            &only("ragged"),
            "steps: []",
            &["`ragged.csv`, line 3", "1 fields where the header has 2"],
        ),
        (
            &only("lines"),
            "steps: []",
            &["`lines.jsonl`, line 3", "no JSON object"],
        ),
        (&only("empty"), "steps: []", &["`empty.csv`", "empty"]),
    ] {
        let said = ground.said(yaml);
        for part in parts {
            assert!(said.contains(part), "{yaml}: {said}");
        }
    }
}

#[test]
fn a_join_that_explodes_is_stopped() {
    let rows: String = (0..4_000).map(|row| format!("1,{row}\n")).collect();
    let ground = Ground::new(&[
        ("left", "left.csv", &format!("k,a\n{rows}")),
        ("right", "right.csv", &format!("k,b\n{rows}")),
    ]);
    let said = ground.said("steps: [{join: {with: right, on: [k]}}]");
    assert!(
        said.contains("step 1 (join)") && said.contains("16000000"),
        "{said}"
    );
}

#[test]
fn formats_agree() {
    let ground = Ground::new(&[("data", "data.csv", &numbers(5_000))]);
    let with =
        |format: &str| format!("steps: [{{filter: y > 10}}]\noutput: {{format: {format}}}\n");
    let mut seen = BTreeMap::new();
    for format in ["parquet", "csv", "jsonl"] {
        ground.run_on(&with(format), 2, format).unwrap();
        let name = format!("data.{format}");
        let again = Ground {
            folder: tempfile::tempdir().unwrap(),
            inputs: vec![Input {
                name: "data".to_owned(),
                files: vec![InputFile {
                    name: name.clone(),
                    path: ground.folder.path().join(format).join(&name),
                }],
            }],
        };
        again
            .run("steps: [{derive: {z: x + y}}]\noutput: {format: csv}\n")
            .unwrap();
        seen.insert(format, again.read("out/data.csv"));
    }
    assert!(seen["parquet"] == seen["csv"] && seen["csv"] == seen["jsonl"]);
}
