//! `lepton model`: models made elsewhere, aliases, files.

use std::path::{Path, PathBuf};

use lepton_api::PutModelVersion;
use lepton_types::resources::{Kind, ModelSelector};
use lepton_types::{AliasName, FreeName, RunId};

use crate::commands::data::{self, Local, unreadable};
use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;
use crate::output::{Shown, bytes};

/// Registers models made elsewhere, moves aliases, fetches files
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ModelCommand {
    /// Registers an ONNX file as the next version of a model
    #[command(
        after_help = "Examples:\n  lepton model import wine wine.onnx\n  lepton model import wine wine.onnx --file notes.md --description 'from scikit-learn 1.9'"
    )]
    Import {
        /// The model, made if it is new
        name: FreeName,
        /// The model file
        #[arg(value_name = "FILE.onnx")]
        onnx: PathBuf,
        /// Another file that belongs to it, as PATH or NAME=PATH
        #[arg(long = "file", value_name = "[NAME=]PATH")]
        files: Vec<String>,
        /// The run that made it
        #[arg(long, value_name = "ID")]
        run: Option<RunId>,
        /// What it is
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Points an alias at a version, or takes it away
    #[command(
        after_help = "Examples:\n  lepton model alias wine champion 3\n  lepton model alias wine champion --delete"
    )]
    Alias {
        /// The model
        name: FreeName,
        /// The alias
        alias: AliasName,
        /// The version
        #[arg(required_unless_present = "delete", conflicts_with = "delete")]
        version: Option<u32>,
        /// Takes the alias away
        #[arg(long)]
        delete: bool,
    },
    /// Lists the files of a version, or downloads them
    #[command(
        name = "files",
        visible_alias = "get",
        after_help = "Examples:\n  lepton model files wine\n  lepton model files wine@champion --to ./champion\n  lepton model files wine:3 --file model.onnx --to ."
    )]
    Files {
        /// The model, and the version or alias
        #[arg(value_name = "MODEL[@ALIAS|:VERSION]")]
        name: String,
        /// Only this file
        #[arg(long, value_name = "PATH")]
        file: Option<String>,
        /// Downloads into this folder; `-` with --file is standard output
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
}

impl ModelCommand {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        match self {
            Self::Import {
                name,
                onnx,
                files,
                run,
                description,
            } => import(ctx, &name, &local_files(&onnx, &files)?, run, description),
            Self::Alias {
                name,
                alias,
                version,
                delete: _,
            } => point(ctx, &name, &alias, version),
            Self::Files { name, file, to } => files_of(ctx, &name, file.as_deref(), to.as_deref()),
        }
    }
}

fn local_files(onnx: &Path, others: &[String]) -> Result<Vec<Local>, Failure> {
    let mut files = vec![local(onnx, "model.onnx")?];
    for other in others {
        let (name, path) = match other.split_once('=') {
            Some((name, path)) => (name, Path::new(path)),
            None => {
                let path = Path::new(other);
                let name = path.file_name().and_then(|name| name.to_str());
                (name.unwrap_or(other), path)
            }
        };
        files.push(local(path, name)?);
    }
    Ok(files)
}

fn local(path: &Path, name: &str) -> Result<Local, Failure> {
    let facts = std::fs::metadata(path).map_err(unreadable(path))?;
    if !facts.is_file() {
        return Err(Failure::invalid(format!(
            "`{}` is not a file",
            path.display()
        )));
    }
    Ok(Local {
        path: path.to_owned(),
        name: name.to_owned(),
        bytes: facts.len(),
    })
}

fn import(
    ctx: &Context,
    name: &FreeName,
    files: &[Local],
    run: Option<RunId>,
    description: String,
) -> Result<(), Failure> {
    let client = ctx.client()?;
    let files = data::upload(ctx, client, files)?;
    let version = client.put_model_version(
        name,
        &PutModelVersion {
            files,
            run,
            description,
        },
    )?;
    ctx.answer(&version, || {
        let size = bytes(version.spec.files.iter().map(|file| file.size_bytes).sum());
        let number = version.spec.version;
        format!(
            "model {name}:{number}, {size}\n`lepton deploy NAME --model '{name}:{number}'` serves it"
        )
    })
}

fn point(
    ctx: &Context,
    name: &FreeName,
    alias: &AliasName,
    version: Option<u32>,
) -> Result<(), Failure> {
    let client = ctx.client()?;
    let model = match version {
        Some(version) => client.set_alias(name, alias, version),
        None => client.delete_alias(name, alias),
    }
    .map_err(|error| kinds::or_near_names(client, Kind::Model, name.as_str(), error))?;
    ctx.answer(&model, || match version {
        Some(version) => format!("{name}@{alias} is version {version}"),
        None => format!("{name}@{alias} is gone"),
    })
}

fn files_of(
    ctx: &Context,
    named: &str,
    only: Option<&str>,
    to: Option<&Path>,
) -> Result<(), Failure> {
    let client = ctx.client()?;
    let named = kinds::model_ref(named)?;
    let version = client
        .model_version(&named.model, &named.selector)
        .map_err(|error| kinds::or_near_names(client, Kind::Model, named.model.as_str(), error))?;
    let wanted = data::choose(&version.spec.files, only)?;
    let Some(to) = to else {
        let wanted: Vec<_> = wanted.into_iter().cloned().collect();
        return ctx.show(&Shown::list(&wanted, ctx.format, ctx.now()));
    };
    // The version that was listed, even if the alias moves meanwhile.
    let exact = ModelSelector::Version(version.spec.version);
    data::save(ctx, &wanted, to, &|path| {
        client.model_file(&named.model, &exact, path)
    })
}
