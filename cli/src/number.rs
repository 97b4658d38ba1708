//! Numbers as people read them.

/// `1234567.8` as `1,234,568`.
pub fn grouped(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    let digits = format!("{:.0}", value.abs());
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if value <= -0.5 {
        out.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A count, grouped.
pub fn count(value: u64) -> String {
    grouped(value as f64)
}

/// A count with its noun: `1 page`, `1,234 pages`.
pub fn counted(value: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(value), if value == 1 { "" } else { "s" })
}

/// Three significant digits: `0.0123`, `1.23`, `12.3`, `1,234`.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "-".to_owned(),
        0.0 => "0".to_owned(),
        size if size < 0.1 => format!("{value:.3}"),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => grouped(value),
    }
}

/// Bytes with a binary unit: `512 B`, `1.50 MiB`, `4 KiB`.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = value as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let size = if size.fract() == 0.0 { format!("{size}") } else { short(size) };
    format!("{size} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        let cases = [(0.0, "0"), (999.4, "999"), (1000.0, "1,000"), (1234567.8, "1,234,568")];
        for (value, expected) in cases {
            assert_eq!(grouped(value), expected);
        }
        assert_eq!(grouped(-1234.0), "-1,234");
        assert_eq!(grouped(f64::NAN), "-");
    }

    #[test]
    fn three_digits_are_enough() {
        let cases =
            [(0.0, "0"), (0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (1234.0, "1,234")];
        for (value, expected) in cases {
            assert_eq!(short(value), expected);
        }
    }

    #[test]
    fn bytes_take_the_largest_unit_that_fits() {
        let cases = [(512, "512 B"), (1536, "1.50 KiB"), (3 << 20, "3 MiB"), (1 << 40, "1 TiB")];
        for (value, expected) in cases {
            assert_eq!(bytes(value), expected);
        }
    }
}
