//! Carries out a preparation on files, without a server: for measurements.
//!
//! `prepare DESCRIPTION.yaml OUT_FOLDER SCRATCH_FOLDER THREADS MEMORY_MIB NAME=FILE…`

use std::error::Error;
use std::path::PathBuf;

use lepton_prep::{Input, InputFile, Limits, Preparation, Prepared};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [description, out, scratch, threads, memory, inputs @ ..] = arguments.as_slice() else {
        return Err("which description, folders, threads, memory and files?".into());
    };
    let input = |named: &String| {
        let (name, path) = named.split_once('=').ok_or("NAME=FILE is expected")?;
        Ok::<_, Box<dyn Error>>(Input {
            name: name.to_owned(),
            files: vec![InputFile {
                name: path.to_owned(),
                path: PathBuf::from(path),
            }],
        })
    };
    let inputs = inputs.iter().map(input).collect::<Result<Vec<_>, _>>()?;
    let preparation = Preparation::from_yaml(&std::fs::read_to_string(description)?)?;
    let limits = Limits {
        threads: threads.parse()?,
        memory_bytes: memory.parse::<u64>()? << 20,
        scratch: PathBuf::from(scratch),
        scratch_bytes: 64 << 30,
    };
    let outcome = Prepared::plan(preparation, &inputs)?.run(&PathBuf::from(out), &limits, &())?;
    let mut line = std::io::stdout().lock();
    use std::io::Write as _;
    for file in &outcome.files {
        writeln!(
            line,
            "{} {} rows {} bytes",
            file.path, file.rows, file.bytes
        )?;
    }
    writeln!(line, "{} passes", outcome.passes)?;
    Ok(())
}
