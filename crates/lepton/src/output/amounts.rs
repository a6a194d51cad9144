//! Sizes, times and numbers as people read them.

use lepton_types::{DurationMs, Timestamp};

/// `1.4 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut amount = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if amount < 1023.95 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    if amount < 99.95 {
        format!("{amount:.1} {unit}")
    } else {
        format!("{amount:.0} {unit}")
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// The text as a shell would take it back: quoted where it must be.
pub(crate) fn shell_words(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    words
        .iter()
        .map(|word| {
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// How long ago, in its largest unit or two: `45s`, `3m20s`, `5h`, `12d`.
pub(crate) fn age(now: Timestamp, at: Timestamp) -> String {
    let seconds = now.since(at).as_millis() / 1_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => format!("{}m{}s", seconds / 60, seconds % 60),
        600..10_800 => format!("{}m", seconds / 60),
        10_800..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A length of time, to three digits: `340ms`, `4.2s`, `3m20s`.
pub(crate) fn took(length: DurationMs) -> String {
    match length.as_millis() {
        millis @ 0..1_000 => format!("{millis}ms"),
        1_000..60_000 => format!("{:.1}s", length.as_secs_f64()),
        millis => DurationMs::from_secs(millis / 1_000).to_string(),
    }
}

/// A measured number, to five digits.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e9).contains(&size) {
        return format!("{value:.3e}");
    }
    let decimals = match size {
        100_000.0.. => 0,
        10_000.0.. => 1,
        1_000.0.. => 2,
        100.0.. => 3,
        _ => 4,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_keep_the_digits_that_matter() {
        assert_eq!(
            [0, 1023, 1024, 1536, 104_857_600, 1 << 40]
                .map(bytes)
                .join(" | "),
            "0 B | 1023 B | 1.0 KiB | 1.5 KiB | 100 MiB | 1.0 TiB"
        );
        assert_eq!(
            [0.0, 1.0, 0.974_358_9, 1234.5678, 1e-9, 2.5e12, f64::NAN]
                .map(number)
                .join(" | "),
            "0 | 1 | 0.9744 | 1234.57 | 1.000e-9 | 2.500e12 | NaN"
        );
        assert_eq!(count(1, "row"), "1 row");
        let words = ["sh", "-c", "it's $x", ""].map(str::to_owned);
        assert_eq!(shell_words(&words), r"sh -c 'it'\''s $x' ''");
        let now = Timestamp::from_millis(1_000_000_000);
        let ago = |s: u64| age(now, now - DurationMs::from_secs(s));
        assert_eq!(
            [5, 200, 900, 20_000, 500_000].map(ago).join(" "),
            "5s 3m20s 15m 5h 5d"
        );
        assert_eq!(
            [340, 4_210, 200_500]
                .map(|ms| took(DurationMs::from_millis(ms)))
                .join(" "),
            "340ms 4.2s 3m20s"
        );
    }
}
