//! Waiting for the server to get something done: the one place that polls, and
//! what Ctrl-C means meanwhile.

use std::time::{Duration, Instant};

use lepton_types::DurationMs;

use crate::failure::Failure;

/// A person notices a tenth of a second; the server does not notice five requests a second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// What takes minutes may be noticed a second late.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A server that was stopped or killed is usually back by then.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What one look found.
pub(crate) enum Look<T> {
    /// It is there.
    Done(T),
    /// Not yet, and why.
    NotYet(String),
}

/// Looks until it is done, or `limit` is used up. A server that goes away meanwhile is waited for.
pub(crate) fn until<T>(
    what: &str,
    limit: Option<DurationMs>,
    mut look: impl FnMut() -> Result<Look<T>, Failure>,
) -> Result<T, Failure> {
    let start = Instant::now();
    let mut answered = start;
    let mut pause = FIRST_PAUSE;
    loop {
        let why = match look() {
            Ok(Look::Done(value)) => return Ok(value),
            Ok(Look::NotYet(why)) => {
                answered = Instant::now();
                why
            }
            Err(Failure::Client(error))
                if error.is_transient() && answered.elapsed() < SILENCE_MAX =>
            {
                error.to_string()
            }
            Err(failure) => return Err(failure),
        };
        if let Some(limit) = limit
            && start.elapsed() + pause > limit.to_std()
        {
            return Err(Failure::StillWaiting {
                what: what.to_owned(),
                after: limit,
                why,
            });
        }
        rest(pause);
        pause = (pause.mul_f32(1.2)).min(PAUSE_MAX);
    }
}

/// The one place of this crate that waits on time alone.
fn rest(length: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "polls with a deadline; the caller of `until` names what for"
    )]
    std::thread::sleep(length);
}

/// On Ctrl-C, says `farewell` and ends this process only; what it waits for goes on.
pub(crate) fn leave_on_interrupt(farewell: String) -> Result<(), Failure> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "\n{farewell}");
            // 128 and the signal's number, as shells say it.
            std::process::exit(130);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lepton_client::ClientError;

    fn interrupted() -> Failure {
        Failure::Client(ClientError::Interrupted {
            url: String::new(),
            cause: "the server was killed".to_owned(),
        })
    }

    #[test]
    fn a_server_that_comes_back_is_waited_for() {
        let mut looks = 0;
        let found = until("x", None, || {
            looks += 1;
            match looks {
                1 | 2 => Err(interrupted()),
                _ => Ok(Look::Done(looks)),
            }
        });
        assert_eq!(found.unwrap(), 3);
    }

    #[test]
    fn what_was_waited_for_is_named_when_time_is_up() {
        let none = Some(DurationMs::ZERO);
        let outcome = until("job `x`", none, || {
            Ok(Look::<()>::NotYet("no room".to_owned()))
        });
        let message = outcome.unwrap_err().to_string();
        assert_eq!(message, "still waiting for job `x` after 0s: no room");
        let failed = until("x", None, || Err::<Look<()>, _>(Failure::usage("no")));
        assert!(failed.is_err());
    }
}
