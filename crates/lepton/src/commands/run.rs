//! `lepton run`: any command as a job, with the working directory as its code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lepton_api::{CreateJob, SubmitProgram};
use lepton_client::Client;
use lepton_types::resources::{BlobDigest, Job};
use lepton_types::{CpuMillis, DurationMs, FreeName, MemoryBytes, Name, Resources};

use crate::context::Context;
use crate::failure::Failure;
use crate::job_wait::{self, Stay};
use crate::output::{bytes, count};
use crate::packing;
use crate::progress::Progress;
use crate::waiting;

/// Runs a command as a job, in a copy of the working directory
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lepton run fit -- python fit.py --epochs 10\n  lepton run fit -f --cpu 2 --memory 2Gi --timeout 10m --retries 2 -- python fit.py\n  lepton run gang --workers 4 --env MODE=fast -- ./train.sh\n\nThe working directory travels along, but for what .leptonignore names (in .gitignore's syntax) and for histories and caches. Nothing of the environment does, unless --env names it. Ctrl-C leaves a job running."
)]
pub(crate) struct Run {
    /// What to call it; need not be unique
    name: Name,
    #[command(flatten)]
    room: Room,
    /// How many workers start together
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    workers: u32,
    /// Sets a variable of the workers' environment; KEY alone takes its value from here
    #[arg(short, long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// How long one attempt may take: 90s, 10m, 1h30m
    #[arg(long, value_name = "DURATION")]
    timeout: Option<DurationMs>,
    /// How often a failed attempt is tried again
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    retries: u32,
    /// The experiment of its run; the job's name where absent
    #[arg(long, value_name = "NAME")]
    experiment: Option<FreeName>,
    /// A folder to take instead of the working directory
    #[arg(
        long,
        value_name = "DIR",
        default_value = ".",
        conflicts_with = "no_code"
    )]
    code: PathBuf,
    /// Takes no folder along
    #[arg(long)]
    no_code: bool,
    /// How large the folder may be
    #[arg(long, value_name = "SIZE", default_value = "256Mi")]
    code_max: MemoryBytes,
    /// Shows what the workers write, and waits
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    stay: Stay,
    /// The command and its arguments; no shell is in between
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What each worker may use.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Each {
    /// Processors of each worker: 2, 0.5 or 500m
    #[arg(long, value_name = "CPU")]
    cpu: Option<CpuMillis>,
    /// Memory of each worker: 1Gi, 512Mi
    #[arg(long, value_name = "MEMORY")]
    memory: Option<MemoryBytes>,
    /// Accelerators of each worker
    #[arg(long, value_name = "COUNT")]
    gpus: Option<u32>,
}

impl Each {
    /// What is asked for; one processor and 1 GiB complete what is not.
    pub(crate) fn resources(&self) -> Option<Resources> {
        if self.cpu.is_none() && self.memory.is_none() && self.gpus.is_none() {
            return None;
        }
        Some(Resources {
            cpu: self.cpu.unwrap_or(CpuMillis::from_millis(1_000)),
            memory: self.memory.unwrap_or(MemoryBytes::from_mib(1_024)),
            gpus: self.gpus.unwrap_or(0),
        })
    }
}

/// What each worker may use, and where.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Room {
    #[command(flatten)]
    each: Each,
    /// Higher goes first
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        allow_hyphen_values = true
    )]
    pub(crate) priority: i32,
    /// Where it is placed
    #[arg(long, value_name = "NAME")]
    pub(crate) pool: Option<Name>,
    /// Free words: team=vision
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
}

impl Room {
    /// What is asked for of each worker.
    pub(crate) fn resources(&self) -> Option<Resources> {
        self.each.resources()
    }

    pub(crate) fn labels(&self) -> Result<BTreeMap<String, String>, Failure> {
        pairs("--label", &self.labels, &|_| None)
    }
}

/// The option whose keys may stand alone.
const ENV: &str = "--env";

/// `KEY=VALUE`s; a `KEY` alone has the value that `absent` gives.
fn pairs(
    option: &str,
    texts: &[String],
    absent: &dyn Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for text in texts {
        let pair = match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => (key.to_owned(), value.to_owned()),
            None if absent(text).is_some() => (text.clone(), absent(text).unwrap_or_default()),
            None if option == ENV => {
                return Err(Failure::usage(format!(
                    "`{text}` is not set here: give its value as {ENV} {text}=VALUE"
                )));
            }
            _ => {
                return Err(Failure::usage(format!(
                    "`{text}` is not KEY=VALUE, as {option} takes it"
                )));
            }
        };
        map.insert(pair.0, pair.1);
    }
    Ok(map)
}

impl Run {
    pub(crate) fn run(&self, ctx: &Context) -> Result<(), Failure> {
        let env = pairs("--env", &self.env, &|key| std::env::var(key).ok())?;
        let labels = self.room.labels()?;
        let client = ctx.client()?;
        let code = match self.no_code {
            true => None,
            false => Some(upload_code(ctx, client, &self.code, self.code_max)?),
        };
        let job = client.create_job(&CreateJob {
            name: self.name.clone(),
            program: SubmitProgram::Command {
                command: self.command.clone(),
                code,
            },
            workers: self.workers,
            resources: self.room.resources(),
            env,
            timeout: self.timeout,
            retries: self.retries,
            priority: self.room.priority,
            pool: self.room.pool.clone(),
            experiment: self.experiment.clone(),
            labels,
        })?;
        if !self.follow && !self.stay.wait {
            return ctx.answer(&job, || submitted(&job));
        }
        waiting::leave_on_interrupt(job_wait::farewell(&job))?;
        if self.follow {
            job_wait::follow_log(ctx, client, &job)?;
        }
        let over = job_wait::until_over(ctx, client, &job, self.stay.wait_timeout)?;
        if !ctx.format.is_for_people() {
            ctx.answer(&over, String::new)?;
        }
        job_wait::verdict(&over)
    }
}

/// What somebody who does not stay is told.
pub(crate) fn submitted(job: &Job) -> String {
    let name = &job.metadata.name;
    let waiting = job
        .status
        .waiting
        .as_ref()
        .map(|why| format!(", {}", why.message));
    format!(
        "job {name} {} ({}{})\n`lepton logs {name} -f` follows it, `lepton describe job {name}` tells more",
        job.metadata.id,
        job.status.phase,
        waiting.unwrap_or_default()
    )
}

fn upload_code(
    ctx: &Context,
    client: &Client,
    folder: &Path,
    max: MemoryBytes,
) -> Result<BlobDigest, Failure> {
    let packed = packing::pack(folder, max.as_bytes())?;
    let size = packed.file.as_file().metadata()?.len();
    let progress = Progress::of_bytes(ctx, "uploading code", Some(size));
    let info = client.upload_file(packed.file.path(), &mut |read| progress.advance(read))?;
    drop(progress);
    ctx.note(&format!(
        "code: {}, {}, {} packed",
        count(packed.files as u64, "file"),
        bytes(packed.bytes),
        bytes(size)
    ));
    Ok(info.digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_at_their_first_sign() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let here = |key: &str| (key == "HERE").then(|| "v".to_owned());
        let map = pairs("--env", &texts(&["A=b=c", "B=", "HERE"]), &here).unwrap();
        assert_eq!(map["A"], "b=c");
        assert_eq!(map["B"], "");
        assert_eq!(map["HERE"], "v");
        assert!(pairs("--env", &texts(&["GONE"]), &here).is_err());
        assert!(pairs("--env", &texts(&["=x"]), &here).is_err());
    }
}
