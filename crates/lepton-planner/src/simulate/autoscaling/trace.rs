//! Requests to replay: read from a trace, or made from a seed.
//!
//! Owns: the formats and the generator. Must not know: any policy.

use rand::Rng as _;

use crate::PlanRng;
use crate::autoscaling::Request;
use crate::simulate::trace::{TraceError, amount, field, whole};

/// A slot reads this many tokens of the prompt a second.
const PROMPT_TOKENS_PER_S: f64 = 8_000.0;
/// And takes this long for each token that it writes.
const SECONDS_PER_GENERATED: f64 = 0.03;
/// A clock that steps back by more than this has jumped; less is reordering in transit, and
/// is sorted.
const REORDERED_MS: u64 = 5_000;

/// Reads requests in one of two formats, told by the header: Azure's (`TIMESTAMP,ContextTokens,GeneratedTokens`)
/// or Lepton's own history (`at_ms,service_ms`). Times count from the first request.
///
/// # Errors
/// A line that is malformed, negative, or earlier than the one before.
pub fn read_requests(text: &str) -> Result<Vec<Request>, TraceError> {
    let mut lines = text.lines().enumerate();
    let (_, header) = lines
        .next()
        .ok_or_else(|| TraceError::at(1, "the trace is empty"))?;
    let parse = match header.trim().trim_start_matches('\u{feff}') {
        "TIMESTAMP,ContextTokens,GeneratedTokens" => azure_line,
        "at_ms,service_ms" => own_line,
        other => {
            let shown: String = other.chars().take(64).collect();
            return Err(TraceError::at(
                1,
                format!("no header that is known: `{shown}`"),
            ));
        }
    };
    let mut requests = Vec::new();
    let mut latest = 0;
    for (index, text) in lines {
        if text.trim().is_empty() {
            continue;
        }
        let fields: Vec<&str> = text.split(',').collect();
        let request = parse(&fields, index + 1)?;
        if request.at_ms.saturating_add(REORDERED_MS) < latest {
            return Err(TraceError::at(
                index + 1,
                format!("the clock goes back by {} ms", latest - request.at_ms),
            ));
        }
        latest = latest.max(request.at_ms);
        requests.push(request);
    }
    requests.sort_by_key(|request| request.at_ms);
    let first = requests
        .first()
        .ok_or_else(|| TraceError::at(2, "the trace has no request"))?
        .at_ms;
    for request in &mut requests {
        request.at_ms -= first;
    }
    Ok(requests)
}

fn own_line(fields: &[&str], line: usize) -> Result<Request, TraceError> {
    Ok(Request {
        at_ms: whole(field(fields, 0, "at_ms", line)?, "at_ms", line)?,
        service_ms: whole(field(fields, 1, "service_ms", line)?, "service_ms", line)?.max(1),
    })
}

fn azure_line(fields: &[&str], line: usize) -> Result<Request, TraceError> {
    let stamp = field(fields, 0, "TIMESTAMP", line)?;
    let prompt = amount(
        field(fields, 1, "ContextTokens", line)?,
        "ContextTokens",
        line,
    )?;
    let generated = amount(
        field(fields, 2, "GeneratedTokens", line)?,
        "GeneratedTokens",
        line,
    )?;
    let at_ms = millis_of(stamp).ok_or_else(|| {
        let shown: String = stamp.chars().take(64).collect();
        TraceError::at(line, format!("`TIMESTAMP` is not a time: `{shown}`"))
    })?;
    let seconds = prompt / PROMPT_TOKENS_PER_S + generated * SECONDS_PER_GENERATED;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and the conversion saturates"
    )]
    let service_ms = ((seconds * 1_000.0).round() as u64).max(1);
    Ok(Request { at_ms, service_ms })
}

/// Milliseconds since 1970 of `2023-11-16 18:15:46.6805900`.
fn millis_of(stamp: &str) -> Option<u64> {
    let (date, time) = stamp.split_once([' ', 'T'])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let hour = time.next()?.parse::<u64>().ok()?;
    let minute = time.next()?.parse::<u64>().ok()?;
    let second = time.next()?.trim_end_matches('Z').parse::<f64>().ok()?;
    let valid = (1970..=9_999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && (0.0..61.0).contains(&second);
    if !valid {
        return None;
    }
    // Days from 1970 with years that begin in March, so that the leap day is the last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 306 + 5) / 10 + day - 1;
    let days = days.checked_sub(719_468)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 61,000"
    )]
    let millis = (second * 1_000.0) as u64;
    Some(((days * 24 + hour) * 60 + minute) * 60_000 + millis)
}

/// What a made trace looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A steady rate.
    Steady,
    /// A rate that swings by a factor of three in 40 minutes.
    Waves,
    /// Bursts at random: four minutes apart on average, 20 to 90 s long, three to six times the rate.
    Bursts,
    /// Nothing for minutes, then minutes of load.
    OnOff,
}

impl Shape {
    /// Every shape, with its name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("steady", Self::Steady),
        ("waves", Self::Waves),
        ("bursts", Self::Bursts),
        ("onoff", Self::OnOff),
    ];
}

/// Hours of requests of a shape: a Poisson process whose rate varies, service times log-normal around
/// four seconds.
#[must_use]
pub fn synthetic(shape: Shape, seed: u64, hours: u32) -> Vec<Request> {
    let mut rng = PlanRng::from_seed(seed).stream("synthetic requests", shape as u128);
    let until_s = f64::from(hours.clamp(1, 48)) * 3_600.0;
    let base: f64 = 2.0 + 4.0 * rng.random::<f64>();
    let episodes = episodes(shape, until_s, &mut rng);
    let peak = base * 6.0;
    let mut requests = Vec::new();
    let mut at_s = 0.0;
    loop {
        at_s += exponential(1.0 / peak, &mut rng);
        if at_s >= until_s {
            return requests;
        }
        let factor = match shape {
            Shape::Steady => 1.0,
            Shape::Waves => 1.0 + 0.5 * (at_s / 2_400.0 * std::f64::consts::TAU).sin(),
            Shape::Bursts => within(&episodes, at_s).unwrap_or(1.0),
            Shape::OnOff => within(&episodes, at_s).map_or(0.0, |_| 1.5),
        };
        // Thinning: a candidate of the peak rate stays with the share of the rate now.
        if rng.random::<f64>() * peak < base * factor {
            let service_s = 3.2 * (0.7 * normal(&mut rng)).exp();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive and below an hour"
            )]
            requests.push(Request {
                at_ms: (at_s * 1_000.0) as u64,
                service_ms: (service_s.clamp(0.02, 60.0) * 1_000.0) as u64,
            });
        }
    }
}

fn episodes(shape: Shape, until_s: f64, rng: &mut crate::Stream) -> Vec<(f64, f64, f64)> {
    let (apart, shortest, longest) = match shape {
        Shape::Steady | Shape::Waves => return Vec::new(),
        Shape::Bursts => (240.0, 20.0, 90.0),
        Shape::OnOff => (300.0, 60.0, 400.0),
    };
    let mut at = 0.0;
    let mut found = Vec::new();
    while at < until_s {
        at += exponential(apart, rng);
        let long = shortest + (longest - shortest) * rng.random::<f64>();
        found.push((at, at + long, 3.0 + 3.0 * rng.random::<f64>()));
        at += long;
    }
    found
}

fn within(episodes: &[(f64, f64, f64)], at: f64) -> Option<f64> {
    episodes
        .iter()
        .find(|(from, to, _)| (*from..*to).contains(&at))
        .map(|(_, _, factor)| *factor)
}

fn exponential(mean: f64, rng: &mut crate::Stream) -> f64 {
    -mean * (1.0 - rng.random::<f64>()).ln()
}

/// Box and Muller's method.
fn normal(rng: &mut crate::Stream) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (rng.random::<f64>() * std::f64::consts::TAU).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azure_lines_are_read_and_count_from_the_first() {
        let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
                    2023-11-16 18:15:46.6805900,800,100\n\
                    2023-11-17 00:00:00.5000000,0,0\n";
        let requests = read_requests(text).unwrap();
        assert_eq!(
            requests[0],
            Request {
                at_ms: 0,
                service_ms: 3_100
            }
        );
        assert_eq!(requests[1].at_ms, (5 * 3_600 + 44 * 60 + 13) * 1_000 + 820);
        assert_eq!(millis_of("2000-03-01 00:00:00"), Some(951_868_800_000));
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let header = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n";
        for (line, problem) in [
            (
                "2023-11-16 18:15:47.00,374",
                "line 3: the field `GeneratedTokens` is missing",
            ),
            (
                "yesterday,374,44",
                "line 3: `TIMESTAMP` is not a time: `yesterday`",
            ),
            (
                "2023-11-16 18:15:47.00,-4,44",
                "line 3: `ContextTokens` is negative: `-4`",
            ),
            (
                "2023-11-16 18:15:47.00,4,NaN",
                "line 3: `GeneratedTokens` is not a number: `NaN`",
            ),
            (
                "2023-11-16 17:15:46.68,4,4",
                "line 3: the clock goes back by 3600000 ms",
            ),
        ] {
            let error = read_requests(&format!("{header}{line}\n")).unwrap_err();
            assert_eq!(error.to_string(), problem);
        }
        assert_eq!(
            read_requests("").unwrap_err().to_string(),
            "line 1: the trace is empty"
        );
        assert!(read_requests("a,b\n1,2\n").is_err());
    }

    #[test]
    fn a_seed_gives_the_same_trace_again_and_another_another() {
        for (_, shape) in Shape::ALL {
            assert_eq!(synthetic(shape, 3, 1), synthetic(shape, 3, 1));
            assert_ne!(synthetic(shape, 3, 1), synthetic(shape, 4, 1));
            assert!(synthetic(shape, 3, 1).is_sorted_by_key(|request| request.at_ms));
        }
    }
}
