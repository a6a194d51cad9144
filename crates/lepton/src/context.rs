//! What every command gets: whom to call, how to answer, and who is looking.

use std::cell::OnceCell;
use std::io::{IsTerminal as _, Write};

use lepton_client::{Client, ClientOptions, Discovery};
use lepton_types::{Clock as _, Name, SystemClock, Timestamp};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Format, Shown, json, json_as_yaml};

/// Lines beyond this width are for machines.
const PIPE_COLUMNS: usize = 10_000;

/// What every command gets.
pub(crate) struct Context {
    /// How results are shown.
    pub(crate) format: Format,
    /// Whether somebody looks at standard error, where progress is shown.
    pub(crate) progress: bool,
    /// Characters in a line of standard output.
    pub(crate) columns: usize,
    project: Option<Name>,
    client: OnceCell<Client>,
}

impl Context {
    pub(crate) fn new(format: Format, project: Option<Name>) -> Self {
        let columns = if std::io::stdout().is_terminal() {
            terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0))
        } else {
            PIPE_COLUMNS
        };
        Self {
            format,
            progress: std::io::stderr().is_terminal(),
            columns,
            project,
            client: OnceCell::new(),
        }
    }

    /// The client, made when it is first needed.
    pub(crate) fn client(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let options = ClientOptions {
            user_agent: concat!("lepton-cli/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..ClientOptions::default()
        };
        let mut client = Client::discover(&Discovery::from_env(), options)?;
        if let Some(project) = &self.project {
            client = client.in_project(project.clone());
        }
        Ok(self.client.get_or_init(|| client))
    }

    pub(crate) fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    /// Standard output; takes colours out unless a terminal shows them.
    pub(crate) fn out(&self) -> impl Write {
        anstream::AutoStream::auto(std::io::stdout().lock())
    }

    /// Tells the person something that is not the result.
    pub(crate) fn note(&self, text: &str) {
        // A person who closed standard error does not want to be told.
        let _ = writeln!(
            anstream::AutoStream::auto(std::io::stderr().lock()),
            "{text}"
        );
    }

    /// The result: `person` for a person, `value` for a program.
    pub(crate) fn answer<T: Serialize>(
        &self,
        value: &T,
        person: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.format.is_for_people() {
            self.print(&person())
        } else {
            self.show(&Shown::Programs(json(value)))
        }
    }

    /// The result, in the form that was asked for.
    pub(crate) fn show(&self, shown: &Shown) -> Result<(), Failure> {
        match shown {
            Shown::People(table) => self.print(&table.render(self.columns)),
            Shown::Programs(json) if self.format == Format::Yaml => self.print(&json_as_yaml(json)),
            Shown::Programs(json) => self.print(json),
        }
    }

    /// Lines of standard output.
    pub(crate) fn print(&self, text: &str) -> Result<(), Failure> {
        let mut out = self.out();
        writeln!(out, "{}", text.trim_end_matches('\n'))?;
        out.flush()?;
        Ok(())
    }
}
