//! How often and how fast a call is tried again. Only what was never sent, or
//! what changes nothing when it happens twice, is tried again.

use std::time::Duration;

use crate::error::ClientError;

/// How a call that failed on the way is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How often a call is tried in all; 1 tries once.
    pub tries: u32,
    /// The pause before the second try; each later one is twice as long.
    pub first_pause: Duration,
    /// No pause is longer.
    pub pause_max: Duration,
    /// Tells callers apart, so that many that lost one server do not come back as one.
    pub spread: u32,
}

impl RetryPolicy {
    /// Never tries again.
    pub const NEVER: Self = Self {
        tries: 1,
        first_pause: Duration::ZERO,
        pause_max: Duration::ZERO,
        spread: 0,
    };

    /// For a person at a terminal: a third of a second at most, then the truth.
    #[must_use]
    pub fn interactive() -> Self {
        Self {
            tries: 3,
            first_pause: Duration::from_millis(100),
            pause_max: Duration::from_millis(200),
            spread: std::process::id(),
        }
    }

    /// For a workload, which outlives a restart of the server: about two minutes.
    #[must_use]
    pub fn patient() -> Self {
        Self {
            tries: 30,
            first_pause: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
            spread: std::process::id(),
        }
    }

    /// The pause after `failed` tries: doubling, bounded, less up to a quarter by `spread`.
    #[must_use]
    pub fn pause_after(&self, failed: u32) -> Duration {
        let doublings = failed.saturating_sub(1).min(20);
        let pause = self
            .first_pause
            .saturating_mul(1 << doublings)
            .min(self.pause_max);
        // A multiplicative hash (Knuth, TAOCP 6.4) spreads neighbouring process ids.
        let hash = self.spread.wrapping_add(failed).wrapping_mul(2_654_435_761);
        pause - (pause / 4).mul_f64(f64::from(hash) / f64::from(u32::MAX))
    }
}

/// Whether a call that reached the server may be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Twice is as good as once.
    Harmless,
    /// Only if it was never sent.
    OnlyUnsent,
}

/// Calls until it works, cannot work, or was tried often enough.
pub(crate) fn with_retries<T>(
    policy: &RetryPolicy,
    repeat: Repeat,
    mut call: impl FnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let mut failed = 0;
    loop {
        let error = match call() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        failed += 1;
        let unsent = matches!(error, ClientError::Unreachable(_));
        let again = unsent || (repeat == Repeat::Harmless && error.is_transient());
        if !again || failed >= policy.tries {
            return Err(error);
        }
        pause(asked_pause(&error, policy).unwrap_or_else(|| policy.pause_after(failed)));
    }
}

/// What the server asked for by `Retry-After`, as far as the policy is ready to wait.
fn asked_pause(error: &ClientError, policy: &RetryPolicy) -> Option<Duration> {
    match error {
        ClientError::Api(api) => api
            .retry_after_s
            .map(|s| Duration::from_secs(s).min(policy.pause_max)),
        _ => None,
    }
}

/// The one place of this crate that waits on time alone.
pub(crate) fn pause(length: Duration) {
    #[expect(
        clippy::disallowed_methods,
        reason = "back-off waits on time, and has nothing else to wait for"
    )]
    std::thread::sleep(length);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Unreachable;

    fn quick(tries: u32) -> RetryPolicy {
        RetryPolicy {
            tries,
            ..RetryPolicy::NEVER
        }
    }

    fn interrupted() -> ClientError {
        ClientError::Interrupted {
            url: String::new(),
            cause: String::new(),
        }
    }

    #[test]
    fn pauses_double_and_stay_bounded() {
        let policy = RetryPolicy::patient();
        for failed in 1..40 {
            let pause = policy.pause_after(failed);
            assert!(pause <= policy.pause_max);
            let full = policy.first_pause * (1 << failed.min(15).saturating_sub(1));
            assert!(pause >= full.min(policy.pause_max) * 3 / 4);
        }
    }

    #[test]
    fn what_may_have_arrived_is_sent_again_only_if_that_is_harmless() {
        let count = |repeat, error: fn() -> ClientError| {
            let mut calls = 0;
            let outcome: Result<(), _> = with_retries(&quick(4), repeat, || {
                calls += 1;
                Err(error())
            });
            assert!(outcome.is_err());
            calls
        };
        assert_eq!(count(Repeat::Harmless, interrupted), 4);
        assert_eq!(count(Repeat::OnlyUnsent, interrupted), 1);
        let unsent = || {
            ClientError::Unreachable(Unreachable {
                url: String::new(),
                cause: String::new(),
            })
        };
        assert_eq!(count(Repeat::OnlyUnsent, unsent), 4);
    }
}
