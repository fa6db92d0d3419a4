//! Two ways to summarise measurements.

/// The minimum: the cost without disturbances, if the windows are shorter than the time between two disturbances.
pub(crate) fn least(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}

/// The median. For an even number of values the mean of the middle two, for none NaN.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::{least, median};

    #[test]
    fn values_may_be_in_any_order() {
        assert_eq!((median([3.0, 1.0, 2.0]), median([4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
        assert_eq!(least([3.0, 1.0, 2.0]), 1.0);
        assert!(median([]).is_nan());
    }
}
