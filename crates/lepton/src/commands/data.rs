//! `lepton data`: files in and out of datasets.

mod prepare;
mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lepton_api::PutDatasetVersion;
use lepton_client::{Client, Pages};
use lepton_types::Name;
use lepton_types::resources::{DatasetVersion, FileEntry};

use self::prepare::{PREPARE_HELP, Prepare};
use crate::context::Context;
use crate::failure::Failure;
use crate::kinds;
use crate::output::{Shown, Tone, bytes, count, paint};
use crate::progress::Progress;

/// Puts, gets and lists datasets
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Data {
    /// Uploads files as a new version of a dataset
    #[command(
        after_help = "Examples:\n  lepton data put wine wine.csv\n  lepton data put photos ./photos --description 'what the drone saw'\n\nA folder is uploaded with all that is in it, under its own paths."
    )]
    Put {
        /// The dataset, made if it is new
        name: Name,
        /// Files and folders
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// What the dataset is, if it is new
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Freezes what was written through S3 to `s3://datasets/NAME/draft/` as a new version
    #[command(
        after_help = "Examples:\n  aws s3 cp wine.csv s3://datasets/wine/draft/wine.csv\n  lepton data commit wine\n  aws s3 ls s3://datasets/wine/1/\n\n`eval \"$(lepton env)\"` tells S3 clients where Lepton is."
    )]
    Commit {
        /// The dataset, made if it is new
        name: Name,
    },
    /// Downloads the files of a version
    #[command(
        after_help = "Examples:\n  lepton data get wine\n  lepton data get wine:2 --to ./old\n  lepton data get wine --file wine.csv --to - | head"
    )]
    Get {
        /// The dataset and, where it is not the newest, the version
        #[arg(value_name = "NAME[:VERSION]")]
        name: String,
        /// Only this file
        #[arg(long, value_name = "PATH")]
        file: Option<String>,
        /// Into this folder; `-` with --file is standard output
        #[arg(long, value_name = "DIR", default_value = ".")]
        to: PathBuf,
    },
    /// Makes a new version out of others, as a description or a query says
    #[command(after_help = PREPARE_HELP)]
    Prepare(Prepare),
    /// Shows the first rows of a version
    #[command(
        after_help = "Examples:\n  lepton data preview wine\n  lepton data preview wine:2 --rows 5\n  lepton data preview wine:3 --file test.parquet"
    )]
    Preview {
        /// The dataset and, where it is not the newest, the version
        #[arg(value_name = "NAME[:VERSION]")]
        name: String,
        /// How many rows
        #[arg(long, value_name = "COUNT", default_value_t = 10)]
        rows: usize,
        /// The file; the first one where absent
        #[arg(long, value_name = "PATH")]
        file: Option<String>,
    },
    /// Shows rows, columns and what is known of their values
    #[command(after_help = "Examples:\n  lepton data stat wine\n  lepton data stat wine:2 -o json")]
    Stat {
        /// The dataset and, where it is not the newest, the version
        #[arg(value_name = "NAME[:VERSION]")]
        name: String,
    },
    /// Tells what changed from one version to another
    #[command(
        after_help = "Examples:\n  lepton data diff wine:1 wine:2\n  lepton data diff wine:1 wine"
    )]
    Diff {
        /// The earlier version
        #[arg(value_name = "NAME[:VERSION]")]
        old: String,
        /// The later version
        #[arg(value_name = "NAME[:VERSION]")]
        new: String,
    },
    /// Lists datasets, or the versions of one, or the files of a version
    #[command(
        after_help = "Examples:\n  lepton data ls\n  lepton data ls wine\n  lepton data ls wine:2"
    )]
    Ls {
        /// The dataset, and the version
        #[arg(value_name = "NAME[:VERSION]")]
        name: Option<String>,
    },
}

impl Data {
    pub(crate) fn run(self, ctx: &Context) -> Result<(), Failure> {
        match self {
            Self::Put {
                name,
                files,
                description,
            } => put(ctx, &name, &files, description),
            Self::Commit { name } => tell(ctx, &ctx.client()?.commit_dataset(&name)?),
            Self::Get { name, file, to } => get(ctx, &name, file.as_deref(), &to),
            Self::Prepare(prepare) => prepare.run(ctx),
            Self::Preview { name, rows, file } => {
                tables::preview(ctx, &name, rows, file.as_deref())
            }
            Self::Stat { name } => tables::stat(ctx, &name),
            Self::Diff { old, new } => tables::diff(ctx, &old, &new),
            Self::Ls { name } => ls(ctx, name.as_deref()),
        }
    }
}

fn put(
    ctx: &Context,
    name: &Name,
    sources: &[PathBuf],
    description: String,
) -> Result<(), Failure> {
    let files = gather(sources)?;
    let client = ctx.client()?;
    let entries = upload(ctx, client, &files)?;
    let version = client.put_dataset_version(
        name,
        &PutDatasetVersion {
            files: entries,
            description,
            lineage: None,
        },
    )?;
    tell(ctx, &version)
}

/// What became of files that were frozen.
fn tell(ctx: &Context, version: &DatasetVersion) -> Result<(), Failure> {
    if let Some(note) = &version.status.note {
        ctx.note(&format!("{} {note}", paint("note:", Tone::Busy)));
    }
    ctx.answer(version, || summary(version))
}

/// Uploads files one after the other; gives what to record of them.
pub(crate) fn upload(
    ctx: &Context,
    client: &Client,
    files: &[Local],
) -> Result<Vec<FileEntry>, Failure> {
    let total = files.iter().map(|file| file.bytes).sum();
    let progress = Progress::of_bytes(ctx, "uploading", Some(total));
    let mut entries = Vec::with_capacity(files.len());
    for file in files {
        progress.say(file.name.clone());
        let entry =
            client.upload_entry(&file.path, &file.name, &mut |read| progress.advance(read))?;
        entries.push(entry);
    }
    Ok(entries)
}

fn summary(version: &DatasetVersion) -> String {
    let size = bytes(version.spec.files.iter().map(|file| file.size_bytes).sum());
    let columns = version.status.columns.len();
    let found = match version.status.rows {
        Some(rows) => format!(
            "{}, {}, {size}",
            count(rows, "row"),
            count(columns as u64, "column")
        ),
        None => format!("{}, {size}", count(version.spec.files.len() as u64, "file")),
    };
    format!(
        "dataset {} version {}: {found}",
        version.spec.dataset, version.spec.version
    )
}

/// A file here, and what it is called there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// Files as they are, folders with all that is in them; two of one name are a mistake.
fn gather(sources: &[PathBuf]) -> Result<Vec<Local>, Failure> {
    let mut found = Vec::new();
    for source in sources {
        let facts = std::fs::metadata(source).map_err(unreadable(source))?;
        if facts.is_dir() {
            gather_folder(source, &mut found)?;
        } else {
            let name = source.file_name().unwrap_or(source.as_os_str());
            found.push(local(source.clone(), Path::new(name), facts.len())?);
        }
    }
    let mut names = BTreeSet::new();
    for file in &found {
        if !names.insert(&file.name) {
            return Err(Failure::invalid(format!(
                "two files are called `{}`: give the folder that they are in, and they keep their paths",
                file.name
            )));
        }
    }
    if found.is_empty() {
        let sources: Vec<_> = sources
            .iter()
            .map(|source| format!("`{}`", source.display()))
            .collect();
        return Err(Failure::invalid(format!(
            "no files are in {}",
            sources.join(", ")
        )));
    }
    Ok(found)
}

fn gather_folder(folder: &Path, found: &mut Vec<Local>) -> Result<(), Failure> {
    let walk = ignore::WalkBuilder::new(folder)
        .standard_filters(false)
        .follow_links(true)
        .sort_by_file_path(Path::cmp)
        .build();
    for entry in walk {
        let entry = entry.map_err(|error| Failure::invalid(error.to_string()))?;
        let facts = entry
            .metadata()
            .map_err(|error| Failure::invalid(error.to_string()))?;
        if facts.is_file() {
            let inside = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            found.push(local(entry.path().to_owned(), inside, facts.len())?);
        }
    }
    Ok(())
}

fn local(path: PathBuf, name: &Path, bytes: u64) -> Result<Local, Failure> {
    let name = name.to_str().ok_or_else(|| {
        Failure::invalid(format!("the name of `{}` is not UTF-8", path.display()))
    })?;
    Ok(Local {
        name: name.to_owned(),
        path,
        bytes,
    })
}

pub(crate) fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Failure + use<> {
    let path = path.to_owned();
    move |source| Failure::File {
        action: "read",
        path,
        source,
    }
}

fn get(ctx: &Context, named: &str, only: Option<&str>, to: &Path) -> Result<(), Failure> {
    let client = ctx.client()?;
    let version = kinds::dataset_version(client, named)?;
    let (name, _) = kinds::split_version(named)?;
    let number = Some(version.spec.version);
    let wanted = choose(&version.spec.files, only)?;
    save(ctx, &wanted, to, &|path| {
        client.dataset_file(&name, number, path)
    })
}

/// All files, or the one that was asked for.
pub(crate) fn choose<'a>(
    files: &'a [FileEntry],
    only: Option<&str>,
) -> Result<Vec<&'a FileEntry>, Failure> {
    let wanted: Vec<_> = files
        .iter()
        .filter(|file| only.is_none_or(|path| file.path == path))
        .collect();
    match only {
        Some(path) if wanted.is_empty() => {
            let known: Vec<_> = files.iter().map(|file| file.path.clone()).collect();
            Err(crate::names::Unknown::new("file", path, &known).into())
        }
        _ => Ok(wanted),
    }
}

/// Downloads files into a folder, or the only one to standard output.
pub(crate) fn save(
    ctx: &Context,
    files: &[&FileEntry],
    to: &Path,
    open: &dyn Fn(&str) -> Result<lepton_client::Download, lepton_client::ClientError>,
) -> Result<(), Failure> {
    let total = files.iter().map(|file| file.size_bytes).sum();
    let to_stdout = to == Path::new("-");
    if to_stdout && files.len() != 1 {
        return Err(Failure::usage(
            "standard output takes one file: say which with --file",
        ));
    }
    let progress = Progress::of_bytes(ctx, "downloading", Some(total));
    for file in files {
        progress.say(file.path.clone());
        let download = open(&file.path)?;
        let mut moved = |read| progress.advance(read);
        if to_stdout {
            let mut out = std::io::stdout().lock();
            download.copy_to(&mut out, Some(file.digest), &mut moved)?;
        } else {
            download.save_as(&inside(to, &file.path)?, Some(file.digest), &mut moved)?;
        }
    }
    drop(progress);
    if !to_stdout {
        ctx.note(&format!(
            "{}, {}, in `{}`",
            count(files.len() as u64, "file"),
            bytes(total),
            to.display()
        ));
    }
    Ok(())
}

/// A path that a server gave never leaves the folder that it is saved in.
fn inside(folder: &Path, path: &str) -> Result<PathBuf, Failure> {
    let plain = Path::new(path)
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    if plain && !path.is_empty() {
        Ok(folder.join(path))
    } else {
        Err(Failure::invalid(format!(
            "refused to save `{path}`: it leaves the folder"
        )))
    }
}

fn ls(ctx: &Context, named: Option<&str>) -> Result<(), Failure> {
    let client = ctx.client()?;
    let Some(named) = named else {
        let all: Vec<_> = Pages::new(|page| client.datasets(&page)).collect::<Result<_, _>>()?;
        return ctx.show(&Shown::list(&all, ctx.format, ctx.now()));
    };
    if named.contains(':') {
        let version = kinds::dataset_version(client, named)?;
        return ctx.show(&Shown::list(&version.spec.files, ctx.format, ctx.now()));
    }
    let name = kinds::dns(named)?;
    let all: Vec<_> = Pages::new(|page| client.dataset_versions(&name, &page))
        .collect::<Result<_, _>>()
        .map_err(|error| {
            kinds::or_near_names(client, lepton_types::resources::Kind::Dataset, named, error)
        })?;
    ctx.show(&Shown::list(&all, ctx.format, ctx.now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_saved_outside_its_folder() {
        assert_eq!(
            inside(Path::new("d"), "a/b.csv").unwrap(),
            Path::new("d/a/b.csv")
        );
        for bad in ["../x", "/etc/passwd", "a/../../x", "", "./x/.."] {
            assert!(inside(Path::new("d"), bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn folders_keep_their_paths_and_names_are_used_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("one/two")).unwrap();
        for file in ["one/a.csv", "one/two/a.csv"] {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        let names = |sources: &[&str]| {
            let sources: Vec<_> = sources
                .iter()
                .map(|source| dir.path().join(source))
                .collect();
            gather(&sources)
                .map(|found| found.into_iter().map(|file| file.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["one"]).unwrap(), ["a.csv", "two/a.csv"]);
        assert_eq!(names(&["one/two/a.csv"]).unwrap(), ["a.csv"]);
        assert!(names(&["one/a.csv", "one/two/a.csv"]).is_err());
        assert!(names(&["nowhere"]).is_err());
    }
}
