//! The steps of a simulation: what users ask for, what breaks, and time that passes.

use std::path::PathBuf;

use http::{Method, StatusCode};
use lepton_server::simulation::CutOff;
use lepton_types::{Clock as _, DurationMs, Id};
use serde_json::{Value, json};

use crate::faults::Weather;
use crate::ledger::{EndpointPromise, JobPromise};
use crate::rules::{Broken, hold};
use crate::server::Answer;
use crate::world::World;

/// How a simulation is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Steps before the faults stop.
    pub steps: u32,
    /// Where the data directory is made; the system's folder for temporary files where absent.
    pub scratch: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        // Memory where the system has some, as every step syncs the store.
        let memory = PathBuf::from("/dev/shm");
        Self {
            steps: 120,
            scratch: memory.is_dir().then_some(memory),
        }
    }
}

/// What happened in a simulation that broke no rule. Equal for equal seeds and settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Jobs that were accepted.
    pub jobs: u64,
    /// Workers that were started.
    pub workers: u64,
    /// Passes that were made.
    pub passes: u64,
    /// Times that the server was gone.
    pub crashes: u64,
    /// Times that an endpoint was made or changed.
    pub deployments: u64,
    /// Every line that was written about it.
    pub story: Vec<String>,
}

/// A simulation that broke a rule.
#[derive(Debug, Clone, thiserror::Error)]
#[error("seed {seed}, step {step}: {rule}\n{}", story.join("\n"))]
pub struct Failed {
    /// The seed that repeats it.
    pub seed: u64,
    /// The step after which it was seen.
    pub step: u32,
    /// The rule.
    pub rule: Broken,
    /// What led to it.
    pub story: Vec<String>,
}

/// Runs the server through what `seed` draws, and until everything is settled.
///
/// # Errors
/// If a rule does not hold after a step, or nothing settles.
pub async fn simulate(seed: u64, settings: &Settings) -> Result<Outcome, Failed> {
    let mut world = match World::open(seed, settings).await {
        Ok(world) => world,
        Err(rule) => {
            return Err(Failed {
                seed,
                step: 0,
                rule,
                story: Vec::new(),
            });
        }
    };
    match run(&mut world, settings.steps).await {
        Ok(()) => {
            world.outcome.workers = world.executor.fake.starts().len() as u64;
            Ok(std::mem::take(&mut world.outcome))
        }
        Err(rule) => Err(Failed {
            seed,
            step: world.step,
            rule,
            story: std::mem::take(&mut world.outcome.story),
        }),
    }
}

async fn run(world: &mut World, steps: u32) -> Result<(), Broken> {
    for version in 1..=2 {
        register_version(world, version).await?;
    }
    for step in 1..=steps {
        world.step = step;
        take_one(world).await?;
        world.probe();
        world.check().await?;
    }
    world.step = steps + 1;
    world.settle().await
}

async fn take_one(world: &mut World) -> Result<(), Broken> {
    match world.stream.below(100) {
        0..18 => submit(world).await,
        18..21 => cancel(world).await,
        21..23 => delete_job(world).await,
        23..30 => deploy(world).await,
        30..31 => ask_endpoints(world),
        31..34 => move_alias(world).await,
        34..36 => delete_endpoint(world).await,
        36..60 => world.pass().await,
        60..68 => world.pass_until_idle().await,
        68..86 => {
            pass_time(world);
            Ok(())
        }
        86..89 => world.crash().await,
        89..94 => crash_within_pass(world).await,
        94..99 => {
            change_weather(world);
            Ok(())
        }
        _ => {
            world.tell("the machine is gone, with all that ran on it");
            world.executor.fake.lose_all();
            Ok(())
        }
    }
}

async fn submit(world: &mut World) -> Result<(), Broken> {
    let stream = &mut world.stream;
    let workers = *stream.pick(&[1_u32, 1, 1, 2, 3, 4]);
    let retries = stream.below(4) as u32;
    let cpu = *stream.pick(&["250m", "500m", "1", "2"]);
    let memory = *stream.pick(&["64Mi", "1Gi", "3Gi"]);
    let mut body = json!({
        "name": format!("job-{}", stream.below(10)),
        "program": {"type": "command", "command": ["true"]},
        "workers": workers,
        "retries": retries,
        "priority": stream.below(3),
        "resources": {"cpu": cpu, "memory": memory},
    });
    if stream.chance(300) {
        body["timeout"] = json!(format!("{}s", 1 + stream.below(60)));
    }
    let answer = world.server()?.ask(Method::POST, "jobs", Some(body)).await;
    expect("a job", &answer, &[StatusCode::CREATED])?;
    let id = id_in(&answer)?;
    world.tell(&format!(
        "job {id}: {workers} workers of {cpu} and {memory}, {retries} retries"
    ));
    let promise = JobPromise {
        workers,
        retries,
        cancelled: false,
        deleted: false,
        end: None,
    };
    world.ledger.jobs.insert(id, promise);
    world.outcome.jobs += 1;
    Ok(())
}

/// A job that is there, if there is one.
fn some_job(world: &mut World) -> Option<Id> {
    let there = world.ledger.jobs.iter().filter(|(_, job)| !job.deleted);
    let there: Vec<Id> = there.map(|(id, _)| *id).collect();
    (!there.is_empty()).then(|| *world.stream.pick(&there))
}

async fn cancel(world: &mut World) -> Result<(), Broken> {
    let Some(id) = some_job(world) else {
        return Ok(());
    };
    let path = format!("jobs/{id}/cancel");
    let answer = world.server()?.ask(Method::POST, &path, None).await;
    expect(
        "a cancellation",
        &answer,
        &[StatusCode::OK, StatusCode::CONFLICT],
    )?;
    if answer.status == StatusCode::OK
        && let Some(job) = world.ledger.jobs.get_mut(&id)
    {
        job.cancelled = true;
        world.tell(&format!("cancel {id}"));
    }
    Ok(())
}

async fn delete_job(world: &mut World) -> Result<(), Broken> {
    let Some(id) = some_job(world) else {
        return Ok(());
    };
    let path = format!("jobs/{id}");
    let answer = world.server()?.ask(Method::DELETE, &path, None).await;
    let allowed = [StatusCode::ACCEPTED, StatusCode::NO_CONTENT];
    expect("a deletion", &answer, &allowed)?;
    world.tell(&format!("delete {id}: {}", answer.status));
    if let Some(job) = world.ledger.jobs.get_mut(&id) {
        job.deleted = true;
        job.cancelled |= answer.status == StatusCode::ACCEPTED;
    }
    Ok(())
}

/// A model that nobody runs, with other bytes for each version: a message of protocol buffers
/// may be followed by further fields, here `doc_string` (6, of lengths).
fn model(version: u32) -> Vec<u8> {
    let iris = include_bytes!("../../../examples/models/iris-scikit-learn.onnx");
    let text = version.to_string();
    let length = u8::try_from(text.len()).expect("invariant: a number has few digits");
    [iris.as_slice(), &[6 << 3 | 2, length], text.as_bytes()].concat()
}

async fn register_version(world: &mut World, version: u32) -> Result<(), Broken> {
    let bytes = model(version);
    let answer = world.server()?.upload(&bytes).await;
    expect("an upload", &answer, &[StatusCode::CREATED])?;
    let file = json!({
        "path": "model.onnx",
        "digest": answer.body["digest"],
        "size_bytes": bytes.len(),
    });
    let body = json!({"files": [file]});
    let path = "models/m/versions";
    let answer = world.server()?.ask(Method::POST, path, Some(body)).await;
    expect("a model version", &answer, &[StatusCode::CREATED])?;
    set_alias(world, version).await
}

async fn move_alias(world: &mut World) -> Result<(), Broken> {
    let version = 1 + world.stream.below(2) as u32;
    set_alias(world, version).await
}

async fn set_alias(world: &mut World, version: u32) -> Result<(), Broken> {
    world.tell(&format!("m@live is version {version}"));
    let body = json!({"version": version});
    let path = "models/m/aliases/live";
    let answer = world.server()?.ask(Method::PUT, path, Some(body)).await;
    expect("an alias", &answer, &[StatusCode::OK])
}

async fn deploy(world: &mut World) -> Result<(), Broken> {
    let stream = &mut world.stream;
    let name = format!("endpoint-{}", stream.below(3));
    let model = *stream.pick(&["m@live", "m@live", "m:1", "m:2"]);
    let replicas = stream.below(5) as u32;
    let cpu = *stream.pick(&["100m", "100m", "200m", "1500m"]);
    let fewest = stream.chance(400).then(|| stream.below(3) as u32);
    let mut body = json!({
        "model": model,
        "replicas": replicas,
        "resources": {"cpu": cpu, "memory": "256Mi"},
    });
    if let Some(fewest) = fewest {
        let most = fewest.max(1) + stream.below(4) as u32;
        body["scaling"] = json!({"min_replicas": fewest, "max_replicas": most, "concurrency": 2});
    }
    let path = format!("endpoints/{name}");
    let answer = world.server()?.ask(Method::PUT, &path, Some(body)).await;
    let allowed = [StatusCode::OK, StatusCode::CREATED, StatusCode::CONFLICT];
    expect("an endpoint", &answer, &allowed)?;
    world.tell(&format!(
        "{name}: {replicas} replicas of {model} with {cpu}, {fewest:?} at the fewest: {}",
        answer.status
    ));
    if answer.status == StatusCode::CONFLICT {
        return Ok(());
    }
    let id = id_in(&answer)?;
    world.outcome.deployments += 1;
    match world.ledger.endpoints.get_mut(&name) {
        Some(known) if known.id == id => known.change(replicas, fewest),
        _ => {
            let promise = EndpointPromise::new(id, replicas, fewest);
            world.ledger.endpoints.insert(name, promise);
        }
    }
    Ok(())
}

/// Minutes of requests to the endpoints that follow their load, or none at all.
fn ask_endpoints(world: &mut World) -> Result<(), Broken> {
    let all = world.ledger.endpoints.iter();
    let follow = all.filter(|(_, promise)| promise.follows && !promise.deleted);
    let follow: Vec<(String, Id)> = follow.map(|(name, e)| (name.clone(), e.id)).collect();
    for (name, id) in follow {
        let seconds = 30 + world.stream.below(90);
        let per_second = *world.stream.pick(&[0_u64, 0, 1, 3, 9]);
        world.tell(&format!(
            "{name} is asked {per_second} times a second for {seconds} s"
        ));
        world
            .server()?
            .lab
            .ask(id, seconds, per_second, DurationMs::from_millis(700));
    }
    Ok(())
}

async fn delete_endpoint(world: &mut World) -> Result<(), Broken> {
    let there = world.ledger.endpoints.iter().filter(|(_, e)| !e.deleted);
    let there: Vec<String> = there.map(|(name, _)| name.clone()).collect();
    if there.is_empty() {
        return Ok(());
    }
    let name = world.stream.pick(&there).clone();
    world.tell(&format!("delete {name}"));
    let path = format!("endpoints/{name}");
    let answer = world.server()?.ask(Method::DELETE, &path, None).await;
    expect("a deletion", &answer, &[StatusCode::ACCEPTED])?;
    if let Some(promise) = world.ledger.endpoints.get_mut(&name) {
        promise.deleted = true;
    }
    Ok(())
}

fn pass_time(world: &mut World) {
    let by = match world.stream.below(10) {
        0..3 => world.stream.millis(500),
        3..7 => {
            let now = world.clock.now();
            let next = world.executor.fake.next_change();
            next.map_or(DurationMs::from_secs(1), |next| next.since(now))
        }
        7..9 => world.stream.millis(30_000),
        // The machine slept.
        _ => world.stream.millis(7_200_000),
    };
    world.tell(&format!("{by} pass"));
    world.clock.advance(by);
    world.executor.fake.tick();
}

async fn crash_within_pass(world: &mut World) -> Result<(), Broken> {
    let kept: Vec<bool> = (0..256).map(|_| world.stream.chance(500)).collect();
    let mut keep = |number: usize| kept.get(number).copied().unwrap_or(false);
    let cut = match world.stream.chance(400) {
        true => CutOff::Changes(&mut keep),
        false => CutOff::Effects(&mut keep),
    };
    world.crash_within_pass(cut).await
}

fn change_weather(world: &mut World) {
    let weather = match world.stream.below(10) {
        0..5 => Weather::Fair,
        5..9 => Weather::Rough,
        _ => Weather::Outage,
    };
    world.tell(&format!("calls of the executor: {weather:?}"));
    world.executor.set_weather(weather);
}

fn expect(what: &str, answer: &Answer, allowed: &[StatusCode]) -> Result<(), Broken> {
    hold!(
        allowed.contains(&answer.status),
        "{what} was answered with {}: {}",
        answer.status,
        answer.body
    );
    Ok(())
}

fn id_in(answer: &Answer) -> Result<Id, Broken> {
    let id = answer.body["metadata"]["id"].as_str();
    let id = id.and_then(|id| id.parse().ok());
    id.ok_or_else(|| {
        let shown: &Value = &answer.body;
        Broken(format!("an answer has no id: {shown}"))
    })
}
