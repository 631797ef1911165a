//! Medians, and how far they can be trusted. Pure functions.

use ironcast_load::random::Random;

const RESAMPLES: usize = 2_000;
const SEED: u64 = 0x0ade_3870;

/// A median with the interval in which it lies with 95 % (percentile bootstrap).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Estimate {
    /// Of the samples.
    pub(crate) median: f64,
    /// Lower end.
    pub(crate) low: f64,
    /// Upper end.
    pub(crate) high: f64,
}

/// The middle of some samples; none without any.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = samples.iter().copied().filter(|one| one.is_finite()).collect();
    if sorted.is_empty() {
        return None;
    }
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    Some(match sorted.len() % 2 {
        1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    })
}

/// Median and interval; none without samples. Equal samples give equal results.
pub(crate) fn estimate(samples: &[f64]) -> Option<Estimate> {
    let samples: Vec<f64> = samples.iter().copied().filter(|one| one.is_finite()).collect();
    let middle = median(&samples)?;
    let mut random = Random::new(SEED);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            let resample: Vec<f64> = (0..samples.len())
                .map(|_| samples[random.below(samples.len() as u64) as usize])
                .collect();
            median(&resample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    let at = |share: f64| medians[((medians.len() - 1) as f64 * share).round() as usize];
    Some(Estimate { median: middle, low: at(0.025), high: at(0.975) })
}

/// `a / b`, pair by pair.
pub(crate) fn ratios(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / b).filter(|ratio| ratio.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_even_and_nothing() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[f64::NAN]), None);
    }

    #[test]
    fn an_interval_holds_its_median_and_repeats() {
        let samples = [1.0, 1.1, 0.9, 1.05, 0.95, 1.2, 1.0];
        let first = estimate(&samples).expect("samples");
        assert!(first.low <= first.median && first.median <= first.high);
        assert!(first.low >= 0.9 && first.high <= 1.2);
        assert_eq!(estimate(&samples), Some(first));
        let one = estimate(&[5.0]).expect("a sample");
        assert_eq!((one.low, one.high), (5.0, 5.0));
    }

    #[test]
    fn ratios_leave_out_what_cannot_be_divided() {
        assert_eq!(ratios(&[2.0, 1.0], &[1.0, 0.0]), [2.0]);
    }
}
