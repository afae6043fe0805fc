// SPDX-License-Identifier: Apache-2.0
//! Arithmetic on measurements: medians, percentiles, and how they are written for people.

use std::time::Duration;

/// How long calls took.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// One more, in nanoseconds.
    pub fn add(&mut self, latency: Duration) {
        self.0.push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// All of several.
    #[must_use]
    pub fn merge<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        Self(all.into_iter().flat_map(|one| one.0.iter().copied()).collect())
    }

    /// The latency that `percent` of 100 stay below; zero if there are none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        Duration::from_nanos(sorted.get(index).copied().unwrap_or(0))
    }
}

/// The middle of some numbers; zero if there are none.
#[must_use]
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<_> = numbers.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

/// The middle of some durations.
#[must_use]
pub fn median_duration(durations: impl IntoIterator<Item = Duration>) -> Duration {
    Duration::from_secs_f64(median(durations.into_iter().map(|duration| duration.as_secs_f64())))
}

/// A duration with three digits, in the unit that suits it.
#[must_use]
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        s if s >= 1.0 => format!("{} s", digits(s)),
        s if s >= 1e-3 => format!("{} ms", digits(s * 1e3)),
        s => format!("{} µs", digits(s * 1e6)),
    }
}

/// A number with about three digits, and thousands apart.
#[must_use]
pub fn digits(number: f64) -> String {
    match number.abs() {
        n if n >= 100.0 => thousands(number.round()),
        n if n >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// How many, with thousands apart.
#[must_use]
pub fn count(number: usize) -> String {
    thousands(number as f64)
}

/// Bytes as MB (10^6) or kB.
#[must_use]
pub fn bytes(count: u64) -> String {
    let count = count as f64;
    if count >= 1e6 { format!("{} MB", digits(count / 1e6)) } else { format!("{} kB", digits(count / 1e3)) }
}

fn thousands(number: f64) -> String {
    let plain = format!("{number:.0}");
    let mut grouped = String::new();
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && digit.is_ascii_digit() && (plain.len() - index) % 3 == 0 && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_between_the_two() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn a_percentile_is_one_of_the_latencies() {
        let mut latencies = Latencies::default();
        (1..=100).for_each(|ms| latencies.add(Duration::from_millis(ms)));
        assert_eq!(latencies.percentile(50), Duration::from_millis(51));
        assert_eq!(latencies.percentile(99), Duration::from_millis(100));
        assert_eq!(latencies.percentile(100), Duration::from_millis(100));
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(time(Duration::from_micros(17_300)), "17.3 ms");
        assert_eq!(digits(1_234_567.0), "1,234,567");
        assert_eq!(digits(123.4), "123");
        assert_eq!(digits(0.5), "0.50");
        assert_eq!(bytes(12_300_000), "12.3 MB");
    }
}
