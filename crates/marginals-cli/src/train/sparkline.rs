//! Curves on a terminal, a line high.

/// A curve of at most `width` characters, from its lowest to its highest value.
pub fn sparkline(values: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let points: Vec<f64> = smoothed(values, width).into_iter().map(|point| point.1).collect();
    let lowest = points.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = points.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let span = (highest - lowest).max(f64::MIN_POSITIVE);
    let bar = |x: &f64| BARS[(((x - lowest) / span) * 7.0).round().clamp(0.0, 7.0) as usize];
    points.iter().map(bar).collect()
}

/// Means of as many runs of neighbours, at their middles.
pub fn smoothed(values: &[f64], points: usize) -> Vec<(f64, f64)> {
    let run = values.len().div_ceil(points).max(1);
    let middle = |index: usize, length: usize| (index * run) as f64 + length as f64 / 2.0;
    let means = values
        .chunks(run)
        .enumerate()
        .map(|(index, run)| (middle(index, run.len()), run.iter().sum::<f64>() / run.len() as f64));
    means.collect()
}
